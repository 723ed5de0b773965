package main

import (
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"go.bug.st/serial"
	"go.bug.st/serial/enumerator"
)

// baud is the speed of a UART; a USB gadget and a pty have none.
const baud = 115200

// port is a serial port of this laptop.
type port struct {
	Path string `json:"path"`
	USB  bool   `json:"usb"`
	What string `json:"what,omitempty"` // what the device calls itself
}

// serialPorts lists them, those at USB first: that is where a cable is.
func serialPorts() ([]port, error) {
	found, err := enumerator.GetDetailedPortsList()
	if err != nil {
		return nil, portUnusable.because(err)
	}
	var ports []port
	for _, p := range found {
		if p.Name != "" && !(runtime.GOOS == "darwin" && strings.HasPrefix(p.Name, "/dev/tty.")) { // its twin is /dev/cu.…
			ports = append(ports, port{p.Name, p.IsUSB, strings.TrimSpace(p.Manufacturer + " " + p.Product)})
		}
	}
	slices.SortStableFunc(ports, func(a, b port) int {
		switch {
		case a.USB == b.USB:
			return strings.Compare(a.Path, b.Path)
		case a.USB:
			return -1
		}
		return 1
	})
	return ports, nil
}

// openSerial opens a port. The error is a failure that says what to do.
func openSerial(path string) (io.ReadWriteCloser, error) {
	p, err := serial.Open(path, &serial.Mode{BaudRate: baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit})
	if err == nil {
		return p, nil
	}
	var known *serial.PortError
	if errors.As(err, &known) {
		switch known.Code() {
		case serial.PortBusy:
			return nil, portBusy.of(path).because(err)
		case serial.PortNotFound:
			return nil, portMissing.of(path).because(err)
		case serial.PermissionDenied:
			return nil, portForbidden.of(path).because(err)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, portMissing.of(path).because(err)
	case errors.Is(err, fs.ErrPermission):
		return nil, portForbidden.of(path).because(err)
	}
	return nil, portUnusable.of(path).because(err)
}

type portsCmd struct{}

// Run lists the ports.
func (portsCmd) Run(c *call) error {
	found, err := c.app.ports()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return noPort.because(nil)
	}
	c.app.result.Ports = found
	for _, p := range found {
		c.app.print("%s\t%s\n", p.Path, p.What)
	}
	return nil
}
