package health

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	*Monitor
	mu        sync.Mutex
	published []*protocol.Health
	devices   Devices
	checks    []protocol.Code
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{}
	f.Monitor = New(Config{
		Software: "test", KeyGrade: "file", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Devices:  func() Devices { f.mu.Lock(); defer f.mu.Unlock(); return f.devices },
		Checks:   func() []protocol.Code { f.mu.Lock(); defer f.mu.Unlock(); return f.checks },
		Counters: func() Counters { return Counters{Pending: 3} },
		Publish: func(h *protocol.Health) error {
			if _, err := protocol.Encode(h); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.published = append(f.published, h)
			return nil
		},
	})
	return f
}

func (f *fixture) all() []*protocol.Health {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.published)
}

func codes(h *protocol.Health) string {
	var s []string
	for _, c := range h.Conditions {
		s = append(s, string(c.Code))
	}
	return strings.Join(s, " ")
}

func TestPublishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		// What is found at the start is told at the start, and the pokes it makes are told once more at most.
		<-time.After(time.Second)
		before := len(f.all())
		if before == 0 || before > 2 {
			t.Fatalf("published %d times at the start", before)
		}

		f.Set("call", protocol.CaptureCameraGone)
		f.Set("link", protocol.LinkUnreachable)
		f.SetInCall(true)
		<-time.After(time.Second)
		all := f.all()
		if len(all) != before+1 {
			t.Fatalf("published %d times for three changes at once", len(all)-before)
		}
		last := all[len(all)-1]
		if got := codes(last); got != "capture.camera_gone" || !last.InCall || last.Pending != 3 {
			t.Errorf("published %q, %+v", got, last)
		}
		// A lost link is told when it has not come back after a while.
		<-time.After(protocol.Explain(protocol.LinkUnreachable).Visible)
		all = f.all()
		if got := codes(all[len(all)-1]); got != "link.clinic_unreachable capture.camera_gone" || len(all) != before+2 {
			t.Errorf("published %q after %d times", got, len(all)-before)
		}

		// Two finders of one condition: it holds until both have let go, and keeps its beginning.
		f.Set("other", protocol.CaptureCameraGone)
		f.Set("call")
		<-time.After(time.Minute)
		all = f.all()
		last = all[len(all)-1]
		if got := codes(last); got != "link.clinic_unreachable capture.camera_gone" {
			t.Errorf("after one finder let go: %q", got)
		}
		if since := last.Conditions[1].Since.Time(); time.Since(since) < time.Minute {
			t.Errorf("the condition began anew at %v", since)
		}
		f.Set("other")
		f.Set("link")
		f.mu.Lock()
		f.devices.Camera = protocol.DeviceState{Kind: "v4l2", Name: "Cam\x00era\u200b\n\xff" + strings.Repeat("ø", 200)}
		f.checks = []protocol.Code{protocol.TimeOff}
		f.mu.Unlock()
		<-time.After(InventoryEvery + time.Second)
		all = f.all()
		last = all[len(all)-1]
		if got := codes(last); got != "time.clock_off" || last.Camera.Kind != "v4l2" || !strings.HasPrefix(last.Camera.Name, "Cameraø") {
			t.Errorf("published %q, camera %+v", got, last.Camera)
		}

		before = len(all)
		<-time.After(time.Hour)
		if n := len(f.all()) - before; n != 60 {
			t.Errorf("published %d times in a quiet hour", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWatch(t *testing.T) {
	f := newFixture(t)
	var seen [][]protocol.Code
	f.Watch(func(c []protocol.Code) { seen = append(seen, c) })
	f.Set("a", protocol.StorageFull)
	f.Set("a", protocol.StorageFull)
	f.Set("b", protocol.StorageFull)
	f.Set("a")
	f.Set("b")
	if len(seen) != 3 || len(seen[0]) != 0 || len(seen[1]) != 1 || len(seen[2]) != 0 {
		t.Errorf("told %v", seen)
	}
}
