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

// TestHung: a monitor reports that it gets on, and does not while a driver that it asks for devices never answers.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver, board := make(chan struct{}, 1), new(progress.Board)
		m := New(Config{
			Devices:  func() Devices { driver <- struct{}{}; <-driver; return Devices{} },
			Counters: func() Counters { return Counters{} }, Checks: func() []protocol.Code { return nil },
			Publish: func(*protocol.Health) error { return nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler), Root: board.Root("health"),
		})
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		<-time.After(time.Hour)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late: %v", late)
		}
		driver <- struct{}{}
		<-time.After(InventoryEvery + progress.Within + progress.Every)
		if late := board.Late(); !slices.Equal(late, []string{"health"}) {
			t.Errorf("late with a driver that hangs: %v", late)
		}
		<-driver
		<-time.After(progress.Every)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late when it gets on: %v", late)
		}
		stop()
		group.Wait()
	})
}
