package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"vindu/provisioning/session"
)

// serveSerial serves a technician's laptop at a port until ctx ends.
func serveSerial(port string, host session.Host, log *slog.Logger) func(context.Context) error {
	server := session.NewServer(host, log.With("port", port))
	return func(ctx context.Context) error {
		return server.Run(ctx, func(context.Context) (io.ReadWriteCloser, error) { return openSerial(port) })
	}
}

// openSerial opens a serial port for bytes as they are: 115200 bit/s, 8N1, no flow control. The file is polled: reads and writes that wait
// end when it is closed, whatever the other end does.
func openSerial(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the serial port: %w", err)
	}
	c, err := f.SyscallConn()
	if err == nil {
		err2 := c.Control(func(fd uintptr) { err = raw(int(fd)) })
		if err == nil {
			err = err2
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("set up the serial port %s: %w", path, err)
	}
	return f, nil
}

// raw is cfmakeraw(3) with a speed, and with what was said to nobody thrown away.
func raw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON | unix.IXOFF
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB | unix.CSTOPB | unix.CRTSCTS | unix.CBAUD
	t.Cflag |= unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Ispeed, t.Ospeed = unix.B115200, unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH)
}
