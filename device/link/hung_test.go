package link_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vindu/device/link"
	"vindu/device/progress"
	"vindu/protocol"
)

// TestHung: a link whose clinic is away for an hour, or does not answer, gets on; one that waits for something that never comes is late, and the terminal begins anew.
func TestHung(t *testing.T) {
	board := new(progress.Board)
	late := func(t *testing.T, want ...string) {
		t.Helper()
		if got := board.Late(); !slices.Equal(got, want) {
			t.Errorf("late: %v, want %v", got, want)
		}
	}
	var opening, reading chan struct{} // what it waits for: mutexes that a bubble understands
	bubble(t, func(c *link.Config, h *link.Handlers, r *rig) {
		c.Root = board.Root("link")
		opening, reading = make(chan struct{}, 1), make(chan struct{}, 1)
		c.Prepare = func(context.Context, protocol.Code) error {
			opening <- struct{}{}
			<-opening
			return nil
		}
		c.Refused = func(error) {
			reading <- struct{}{}
			<-reading
		}
	}, func(t *testing.T, r *rig) {
		for range 60 {
			pass(time.Minute)
			late(t)
		}
		for _, trouble := range []*atomic.Bool{&r.broker.refuse, &r.broker.stuck} {
			trouble.Store(true)
			r.broker.drop()
			for range 60 * 20 {
				pass(3 * time.Second)
				late(t)
			}
			if r.Up() {
				t.Fatal("up without a clinic")
			}
			trouble.Store(false)
			pass(3 * time.Minute)
			if !r.Up() {
				t.Fatal("down with a clinic")
			}
		}
		reading <- struct{}{}
		r.broker.say(t, r.terminal.Key(), protocol.InAck, &protocol.Command{Version: 1, Kind: protocol.CommandHeard, Beat: 1}) // no acknowledgement of the clinic's
		pass(progress.Within + progress.Every)
		late(t, "link")
		<-reading
		pass(progress.Every)
		late(t)

		opening <- struct{}{}
		r.Reconnect()
		pass(20*time.Second + progress.Within) // as long as an attempt may take, and then some
		late(t)
		pass(progress.Every)
		late(t, "link")
		<-opening
		pass(progress.Every)
		late(t)
	})
	late(t)
}
