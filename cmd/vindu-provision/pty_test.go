package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// pty returns the terminal's end of a serial cable and the name of the port at the laptop's end. A pseudo-terminal has no speed and no
// modem lines; all else of a port it has, and the program opens it by its own openSerial.
func pty(t *testing.T) (master *os.File, port string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(int(master.Fd()), true); err != nil { // Fd made it blocking
		t.Fatal(err)
	}
	port = fmt.Sprintf("/dev/pts/%d", number)
	// Somebody holds it open, or the terminal's end would be told of each time that it is closed, which a serial line does not tell.
	held, err := os.OpenFile(port, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return master, port
}

// loose is a port whose cable is pulled at the n-th write: nothing of that write arrives, and it is gone.
type loose struct {
	io.ReadWriteCloser
	mu     sync.Mutex
	writes *int
	at     int
}

func (l *loose) Write(b []byte) (int, error) {
	l.mu.Lock()
	*l.writes++
	pulled := *l.writes == l.at
	l.mu.Unlock()
	if pulled {
		l.Close()
		return 0, io.ErrClosedPipe
	}
	return l.ReadWriteCloser.Write(b)
}
