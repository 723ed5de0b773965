package simulator

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// writeTime is how long a frame may take to go into a line that nobody reads; then it is dropped.
const writeTime = 20 * time.Millisecond

// PTY is the panel's end of a pseudo-terminal. The other end stays open here too, so that terminals can come and go.
type PTY struct {
	master, slave *os.File
}

// OpenPTY makes a pseudo-terminal for bytes as they are.
func OpenPTY() (*PTY, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a pseudo-terminal: %w", err)
	}
	p := &PTY{master: os.NewFile(uintptr(fd), "/dev/ptmx")}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		p.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = raw(int(p.slave.Fd()))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up a pseudo-terminal: %w", err), p.Close())
	}
	return p, nil
}

// Path is the other end.
func (p *PTY) Path() string { return p.slave.Name() }

// Read implements io.Reader.
func (p *PTY) Read(b []byte) (int, error) { return p.master.Read(b) }

// Write implements io.Writer. What nobody takes is dropped.
func (p *PTY) Write(b []byte) (int, error) {
	if err := p.master.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return p.master.Write(b)
}

// Close closes both ends.
func (p *PTY) Close() error {
	err := p.master.Close()
	if p.slave != nil {
		err = errors.Join(err, p.slave.Close())
	}
	return err
}

// raw is cfmakeraw(3).
func raw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
