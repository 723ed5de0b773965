package panel

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestResolve(t *testing.T) {
	system := fstest.MapFS{
		"sys/bus/usb/devices/1-1.3:1.0/tty/ttyACM0/dev":         {},
		"sys/bus/usb/devices/1-1.4:1.0/ttyUSB2/tty/ttyUSB2/dev": {},
		"sys/bus/usb/devices/1-1.30:1.0/tty/ttyACM7/dev":        {},
		"sys/bus/usb/devices/2-1:1.0/video4linux/video0/dev":    {},
	}
	for _, test := range []struct {
		name, port, want string
		err              error
	}{
		{"a path", "/dev/ttyS1", "/dev/ttyS1", nil},
		{"a microcontroller", "usb:1-1.3", "/dev/ttyACM0", nil},
		{"a serial chip", "usb:1-1.4", "/dev/ttyUSB2", nil},
		{"nothing", "usb:1-1.5", "", fs.ErrNotExist},
		{"something else", "usb:2-1", "", fs.ErrNotExist},
		{"a pattern", "usb:*", "", ErrPort},
		{"a way out", "usb:1-1/../x", "", ErrPort},
		{"no path", "ttyACM0", "", ErrPort},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := resolve(system, test.port)
			if !errors.Is(err, test.err) || (test.err == nil && got != test.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
