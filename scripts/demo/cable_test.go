package main

import (
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCable: what goes in at one end comes out at the other as it was, also when a program has closed its end and another one opens it.
func TestCable(t *testing.T) {
	c, err := newCable()
	if err != nil {
		t.Fatal(err)
	}
	var carrying sync.WaitGroup
	carrying.Go(c.run)
	defer carrying.Wait()
	defer c.close()
	end := func(path string) *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	terminal := end(c.terminal)
	defer terminal.Close()
	message := "\x00\x03\x04\x11\x13\r\n\x7f\xff." // what a line that is not raw would keep or change
	for range 2 {
		laptop := end(c.laptop)
		for _, way := range [][2]*os.File{{laptop, terminal}, {terminal, laptop}} {
			if _, err := io.WriteString(way[0], message); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(message))
			if _, err := io.ReadFull(way[1], got); err != nil || string(got) != message {
				t.Errorf("%q arrived as %q, %v", message, got, err)
			}
		}
		laptop.Close()
	}
}
