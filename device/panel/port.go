package panel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"go.bug.st/serial"

	"vindu/device/panel/wire"
)

// ErrPort is wrapped by CheckPort.
var ErrPort = errors.New("no name of a serial port")

var usbPath = regexp.MustCompile(`^usb:\d+-\d+(\.\d+)*$`)

// CheckPort tells whether a port can be named so: a path such as /dev/ttyACM0, or where something is plugged in, such as usb:1-1.3, whatever it is called then.
func CheckPort(name string) error {
	if filepath.IsAbs(name) || usbPath.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%w: %q has to be a path such as /dev/ttyACM0, or a USB port such as usb:1-1.3", ErrPort, name)
}

// Port returns what opens this port, for New.
func Port(name string) func(context.Context) (io.ReadWriteCloser, error) {
	return func(context.Context) (io.ReadWriteCloser, error) {
		at, err := resolve(os.DirFS("/"), name)
		if err != nil {
			return nil, err
		}
		port, err := serial.Open(at, &serial.Mode{BaudRate: wire.Baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit})
		if err != nil {
			return nil, fmt.Errorf("open the panel's line %s: %w", at, err)
		}
		return port, nil
	}
}

// resolve returns the path of a port.
func resolve(system fs.FS, name string) (string, error) {
	plug, ok := strings.CutPrefix(name, "usb:")
	if !ok {
		return name, CheckPort(name)
	}
	if err := CheckPort(name); err != nil {
		return "", err
	}
	// CDC-ACM hangs its tty below an interface, the chips that are serial ports below a port of one.
	for _, pattern := range []string{"tty/tty*", "tty*/tty/tty*"} {
		found, err := fs.Glob(system, "sys/bus/usb/devices/"+plug+":*/"+pattern)
		if err != nil {
			return "", fmt.Errorf("look for the panel: %w", err)
		}
		if len(found) > 0 {
			return "/dev/" + path.Base(found[0]), nil
		}
	}
	return "", fmt.Errorf("nothing with a serial port is plugged in at %s: %w", name, fs.ErrNotExist)
}
