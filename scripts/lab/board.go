package lab

import (
	"context"
	"errors"
	"strings"
	"time"

	"vindu/device/identity/tpm/tpmtest"
)

// setUpDevices starts the TPM and returns QEMU's arguments for the devices by which a terminal is set up.
func (g *Guest) setUpDevices() []string {
	if g.TPM == nil {
		g.TPM = tpmtest.Start(g.t)
	}
	return []string{
		// The guest's kernel has no driver for QEMU's TPM: labguest brings this port to its proxy driver.
		"-chardev", "socket,id=tpm,path=" + g.TPM.Path + ",reconnect=1", "-device", "virtserialport,chardev=tpm,name=tpm",
		"-chardev", "pty,id=serial", "-device", "pci-serial,chardev=serial",
		"-device", "virtio-keyboard-pci",
	}
}

// Serial returns the path of the terminal device at the other end of the guest's /dev/ttyS0: the plug for a technician's
// laptop. While nobody has it open the cable is out, and what the guest sends is lost.
func (g *Guest) Serial(ctx context.Context) (string, error) {
	var devices []struct{ Label, Filename string }
	if err := g.qmp.do(ctx, "query-chardev", nil, &devices); err != nil {
		return "", err
	}
	for _, d := range devices {
		if path, ok := strings.CutPrefix(d.Filename, "pty:"); ok && d.Label == "serial" {
			return path, nil
		}
	}
	return "", errors.New("the guest has no serial port: set Options.SetUp")
}

// Press presses a key of the guest's keyboard and lets it go: "ret", "spc" or another of QEMU's key names.
func (g *Guest) Press(ctx context.Context, key string) error {
	return g.Hold(ctx, key, 100*time.Millisecond)
}

// Hold is Press, and lets the key go after a time; it does not wait for that.
func (g *Guest) Hold(ctx context.Context, key string, d time.Duration) error {
	g.Log("key %q pressed for %s", key, d)
	return g.qmp.do(ctx, "send-key", map[string]any{"keys": []any{map[string]any{"type": "qcode", "data": key}}, "hold-time": d.Milliseconds()}, nil)
}
