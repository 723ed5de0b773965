package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"vindu/device/network"
	"vindu/protocol"
)

// TestFigures: what the kernel and the link say comes out as it is told, what nobody says is left out, and what is old is not told.
func TestFigures(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	memory := file("MemTotal: 1000000 kB\nMemFree: 10000 kB\nMemAvailable: 590000 kB\n")
	heat := file("52600\n")
	wifi := func(signal int) Interfaces {
		return func(context.Context) ([]network.Interface, error) {
			return []network.Interface{{Name: "eth0", Kind: "ethernet", Signal: -20}, {Name: "wlan0", Kind: network.WiFi, Signal: signal}}, nil
		}
	}
	for name, test := range map[string]struct {
		files fstest.MapFS
		ways  Interfaces
		trip  Trip
		want  protocol.Figures
	}{
		"all":                     {fstest.MapFS{"proc/meminfo": memory, "sys/class/thermal/thermal_zone0/temp": heat}, wifi(-61), Trip{Up: true, Took: 34_400 * time.Microsecond}, protocol.Figures{Signal: 61, Trip: 34, Heat: 53, Memory: 41}},
		"nothing":                 {fstest.MapFS{}, noInterfaces(), Trip{}, protocol.Figures{}},
		"interfaces that fail":    {fstest.MapFS{"proc/meminfo": memory}, func(context.Context) ([]network.Interface, error) { return nil, errors.New("gone") }, Trip{}, protocol.Figures{Memory: 41}},
		"a link that is down":     {fstest.MapFS{}, noInterfaces(), Trip{Took: time.Second}, protocol.Figures{}},
		"a trip that was a blink": {fstest.MapFS{}, noInterfaces(), Trip{Up: true, Took: time.Microsecond}, protocol.Figures{Trip: 1}},
		"a trip of an hour":       {fstest.MapFS{}, noInterfaces(), Trip{Up: true, Took: time.Hour}, protocol.Figures{Trip: 600_000}},
		"a signal that is none":   {fstest.MapFS{}, wifi(0), Trip{}, protocol.Figures{}},
		"a driver's nonsense":     {fstest.MapFS{"proc/meminfo": file("MemTotal: 1 kB\nMemAvailable: 5 kB\n"), "sys/class/thermal/thermal_zone0/temp": file("900000")}, wifi(-300), Trip{}, protocol.Figures{}},
		"a disk":                  {fstest.MapFS{"sys/dev/block/254:0/stat": file(" 9 0 72 4 55 12 5001 8 0 0 12\n")}, noInterfaces(), Trip{}, protocol.Figures{Written: 1}},
		"a disk of another kind":  {fstest.MapFS{"sys/dev/block/254:0/stat": file("1 2 3\n")}, noInterfaces(), Trip{}, protocol.Figures{}},
		"a board in the cold":     {fstest.MapFS{"sys/class/thermal/thermal_zone0/temp": file("-4000")}, noInterfaces(), Trip{}, protocol.Figures{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := new(Figures)
			if f.Now() != nil {
				t.Errorf("%s: told before it was measured", name)
			}
			test.trip.From = time.Now()
			if found, err := f.Probe(test.files, test.ways, func() Trip { return test.trip }, "sys/dev/block/254:0/stat").Run(t.Context()); len(found) != 0 || err != nil {
				t.Errorf("%s: %v, %v", name, found, err)
			}
			got := f.Now()
			if got == nil || *got != test.want {
				t.Errorf("%s: %+v, want %+v", name, got, test.want)
			}
			if _, err := protocol.Encode(&protocol.Health{Version: protocol.Version, At: 1, Software: "x", Figures: got, Conditions: []protocol.Condition{},
				Camera: protocol.DeviceState{Kind: "none"}, Microphone: protocol.DeviceState{Kind: "none"}, Speaker: protocol.DeviceState{Kind: "none"}, Screen: protocol.DeviceState{Kind: "none"}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			<-time.After(staleFigures + time.Second)
			if f.Now() != nil {
				t.Errorf("%s: what is old is told", name)
			}
		})
	}
}

// TestWear: what was written is that of the last day, or of what is known of it; a disk that counts anew is another one.
func TestWear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wear
		var sectors uint64 = 10_000
		files := fstest.MapFS{}
		look := func(want uint64) {
			t.Helper()
			files["stat"] = &fstest.MapFile{Data: fmt.Appendf(nil, "1 0 8 4 55 12 %d 8 0 0 12", sectors)}
			if got := w.look(files, "stat"); got != want {
				t.Errorf("%d KiB, want %d", got, want)
			}
		}
		look(1)
		for hour := range 72 {
			for range 60 {
				<-time.After(time.Minute)
				sectors += 2 // a KiB a minute
				files["stat"] = &fstest.MapFile{Data: fmt.Appendf(nil, "1 0 8 4 55 12 %d 8 0 0 12", sectors)}
				w.look(files, "stat")
			}
			look(uint64(min(hour+1, 24) * 60))
		}
		if len(w.readings) > 26 {
			t.Errorf("%d readings are kept", len(w.readings))
		}
		<-time.After(30 * 24 * time.Hour) // switched off, say
		look(1)
		sectors = 500
		look(1)
		sectors += 20
		look(10)
		delete(files, "stat")
		if got := w.look(files, "stat"); got != 0 {
			t.Errorf("a disk that is gone: %d", got)
		}
	})
	if name := DiskCounts(t.TempDir()); name != "" {
		if _, err := os.Stat("/" + name); err != nil {
			t.Error(err)
		}
	}
	if name := DiskCounts("/proc"); name != "" {
		t.Errorf("what is no disk counts in %s", name)
	}
}

// TestAbout: the board and its kernel by their own names, without what C leaves behind them.
func TestAbout(t *testing.T) {
	for name, test := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"device tree": {fstest.MapFS{"proc/device-tree/model": {Data: []byte("Raspberry Pi 4 Model B Rev 1.5\x00")}}, "Raspberry Pi 4 Model B Rev 1.5"},
		"a PC":        {fstest.MapFS{"sys/class/dmi/id/product_name": {Data: []byte("NUC7i3\n")}}, "NUC7i3"},
		"nothing":     {fstest.MapFS{}, ""},
	} {
		if got := Board(test.files); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	if Kernel() == "" {
		t.Error("the kernel has no release")
	}
}

// TestStandingIsToldSoon: that quiet hours have begun, or the shutter was closed, goes with the next look and does not wait for the next message.
func TestStandingIsToldSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		quiet, covered := false, false
		f.c.Standing = func() (bool, bool) { f.mu.Lock(); defer f.mu.Unlock(); return quiet, covered }
		f.c.Figures = func() *protocol.Figures { return &protocol.Figures{Heat: 40} }
		f.c.About = func() *protocol.About { return &protocol.About{Board: "board"} }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		first := f.all()
		if len(first) != 1 || first[0].Quiet || first[0].Covered || first[0].Figures.Heat != 40 || first[0].About.Board != "board" {
			t.Fatalf("first %+v", first)
		}
		f.mu.Lock()
		quiet, covered = true, true
		f.mu.Unlock()
		<-time.After(InventoryEvery + time.Second)
		if all := f.all(); len(all) < 2 || !all[len(all)-1].Quiet || !all[len(all)-1].Covered {
			t.Errorf("a look later: %d messages", len(all))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
