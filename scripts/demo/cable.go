package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// cable is a serial cable without hardware: two pseudo-terminals, and what goes in at one end comes out at the other.
type cable struct {
	laptop, terminal string // paths of its ends, as a program opens a port
	masters, held    [2]*os.File
}

func newCable() (c *cable, err error) {
	c = new(cable)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a serial cable: %w", err), c.close())
		}
	}()
	for i, end := range []*string{&c.laptop, &c.terminal} {
		fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return c, err
		}
		c.masters[i] = os.NewFile(uintptr(fd), "/dev/ptmx")
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return c, err
		}
		number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		if err != nil {
			return c, err
		}
		*end = fmt.Sprintf("/dev/pts/%d", number)
		// Held open, or its master would read nothing but errors while no program has it open; and raw, or it would echo.
		held, err := unix.Open(*end, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return c, err
		}
		c.held[i] = os.NewFile(uintptr(held), *end)
		mode, err := unix.IoctlGetTermios(held, unix.TCGETS)
		if err != nil {
			return c, err
		}
		mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
		if err := unix.IoctlSetTermios(held, unix.TCSETS, mode); err != nil {
			return c, err
		}
	}
	return c, nil
}

// run carries until close.
func (c *cable) run() {
	var both sync.WaitGroup
	for i, from := range c.masters {
		both.Go(func() { _, _ = io.Copy(c.masters[1-i], from) }) // it ends with close, as it should
	}
	both.Wait()
}

func (c *cable) close() error {
	var errs []error
	for _, f := range append(c.masters[:], c.held[:]...) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
