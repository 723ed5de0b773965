package health

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vindu/device/network"
	"vindu/protocol"
)

// Figures are the numbers that the health message carries for the clinic to keep: signal, round trip, temperature, memory, what was written. A probe measures them, so that a driver
// that hangs holds no message up: what was measured last is told, and after staleFigures nothing.
type Figures struct {
	mu   sync.Mutex
	last protocol.Figures
	at   time.Time
	wear wear // the probe's alone
}

const staleFigures = 5 * time.Minute

// Now returns what was measured last; nil if that is too long ago.
func (f *Figures) Now() *protocol.Figures {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.IsZero() || time.Since(f.at) > staleFigures {
		return nil
	}
	last := f.last
	return &last
}

// Probe returns the probe "figures". It finds no condition, sends nothing, and reads what other probes read in the same minute. disk names what the
// kernel counts of the storage that the state is on (DiskCounts); "": it does not.
func (f *Figures) Probe(files fs.FS, interfaces Interfaces, trip func() Trip, disk string) Probe {
	return Probe{Name: "figures", Every: time.Minute, Run: func(ctx context.Context) ([]Finding, error) {
		var now protocol.Figures
		if list, err := interfaces(ctx); err == nil { // else the probe "wifi" tells it
			for _, i := range list {
				if i.Kind == network.WiFi && i.Signal < 0 && i.Signal >= -127 {
					now.Signal = uint64(-i.Signal)
				}
			}
		}
		if t := trip(); t.Up && t.Took > 0 && time.Since(t.From) <= silentTrip {
			now.Trip = uint64(max(t.Took.Round(time.Millisecond)/time.Millisecond, 1))
			now.Trip = min(now.Trip, 600_000)
		}
		if heat, ok := Temperature(files); ok && heat >= 1 && heat <= 250 {
			now.Heat = uint64(math.Round(heat))
		}
		info := text(files, "proc/meminfo")
		if total, available := kilobytes(info, "MemTotal:"), kilobytes(info, "MemAvailable:"); total > 0 && available >= 0 && available <= total {
			now.Memory = uint64(max(100-math.Round(100*float64(available)/float64(total)), 1))
		}
		now.Written = f.wear.look(files, disk)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.last, f.at = now, time.Now()
		return nil, nil
	}}
}

// Board is what the board's firmware calls it: the device tree's model, or what a PC says of itself. "" if nothing does.
func Board(files fs.FS) string {
	for _, name := range []string{"proc/device-tree/model", "sys/class/dmi/id/product_name"} {
		if s := bytes.TrimRight([]byte(text(files, name)), "\x00"); len(s) > 0 {
			return protocol.Printable(string(s))
		}
	}
	return ""
}

// Kernel is the running kernel's release; "" if it does not say.
func Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return protocol.Printable(unix.ByteSliceToString(u.Release[:]))
}
