package health

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/progress"
	"vindu/protocol"
)

// TestHung: a driver or a TPM that never answers delays what is found by looking, and no message; and it is no reason to begin the terminal anew. A message that is never taken is.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		hangs, taken := make(chan struct{}, 1), make(chan struct{}, 1) // locks at which a goroutine is seen to wait
		var published []*protocol.Health
		looks, board := 0, new(progress.Board)
		m := New(Config{
			Devices: func() Devices {
				hangs <- struct{}{}
				defer func() { <-hangs }()
				mu.Lock()
				defer mu.Unlock()
				looks++
				return Devices{Camera: protocol.DeviceState{Kind: "test"}}
			},
			Counters: func() Counters { return Counters{} }, Checks: func() []protocol.Code { return nil },
			Publish: func(h *protocol.Health) error {
				taken <- struct{}{}
				defer func() { <-taken }()
				mu.Lock()
				defer mu.Unlock()
				published = append(published, h)
				return nil
			},
			Now: time.Now, Log: slog.New(slog.DiscardHandler), Root: board.Root("health"),
		})
		messages := func() (n, asked int, last *protocol.Health) {
			mu.Lock()
			defer mu.Unlock()
			n, asked = len(published), looks
			if n > 0 {
				last = published[n-1]
			}
			published, looks = nil, 0
			return n, asked, last
		}
		hangs <- struct{}{}
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		<-time.After(firstLook + time.Second)
		if n, _, last := messages(); n != 1 || last.Camera.Kind != "none" {
			t.Errorf("%d messages before the first look has an answer, %+v", n, last)
		}
		m.Set("link", protocol.TimeOff)
		<-time.After(10 * time.Minute)
		if n, _, last := messages(); n < 10 || len(last.Conditions) != 1 {
			t.Errorf("%d messages in ten minutes in which a driver hangs, %+v", n, last)
		}
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late: %v", late)
		}
		<-hangs
		<-time.After(time.Second)
		if n, asked, last := messages(); n != 1 || asked != 1 || last.Camera.Kind != "test" {
			t.Errorf("when it has an answer: %d messages, %d looks, %+v", n, asked, last)
		}
		<-time.After(time.Hour)
		if n, asked, _ := messages(); n < 60 || asked < int(time.Hour/InventoryEvery)-1 {
			t.Errorf("an hour later %d messages, %d looks", n, asked)
		}
		taken <- struct{}{}
		<-time.After(PublishEvery + progress.Within + progress.Every)
		if late := board.Late(); !slices.Equal(late, []string{"health"}) {
			t.Errorf("late with a message that hangs: %v", late)
		}
		<-taken
		<-time.After(progress.Every)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late when it gets on: %v", late)
		}
		stop()
		group.Wait()
	})
}
