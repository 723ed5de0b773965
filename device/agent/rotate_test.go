package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/clock"
	"vindu/device/health"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

// TestTurnRests: the terminal replaces its key beside nothing else, and lets nothing begin once it does.
func TestTurnRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			stands func(x *terminal)
			rests  time.Duration // how long afterwards it may not; 0: as long as it stands
		}{
			"its start":           {func(*terminal) {}, callRest},
			"a call is asked for": {func(x *terminal) { x.mayCall() }, callRest},
			"a call runs":         {func(x *terminal) { x.Show(call.Status{Scene: call.SceneInCall}) }, 0},
			"it rings":            {func(x *terminal) { x.Show(call.Status{Scene: call.SceneRinging}) }, 0},
			"a call has just ended": {func(x *terminal) {
				x.Show(call.Status{Scene: call.SceneInCall})
				x.Show(call.Status{Scene: call.SceneReady})
			}, callRest},
			"a technician is there": {func(x *terminal) { x.a.situation.pressing = new(protocol.Party) }, 0},
			"a technician was let in": {func(x *terminal) {
				if err := x.a.AwaitPress(t.Context(), protocol.Party{}, func(context.Context) error { return nil }); err != nil {
					t.Error(err)
				}
			}, technicianStays},
			"it is taken out of use":  {func(x *terminal) { x.leaving = []byte{1} }, 0},
			"it has something to say": {func(x *terminal) { x.notice(protocol.AuthOrder) }, 0},
			"it does so already":      {func(x *terminal) { x.beginTurn() }, 0},
		} {
			f := newFixture(t)
			a, err := New(f.cfg, f.parts, quietLog)
			if err != nil {
				t.Fatal(err)
			}
			dir, err := state.Open(f.cfg.State)
			if err != nil {
				t.Fatal(err)
			}
			box, err := outbox.Open(dir, outbox.DefaultLimit, time.Now, quietLog)
			if err != nil {
				t.Fatal(err)
			}
			x := &terminal{a: a, outbox: box, clock: clock.New(dir, clock.Built(), quietLog), health: health.New(health.Config{Now: time.Now, Log: quietLog}), called: time.Now()}
			if name != "its start" {
				time.Sleep(callRest) // allowed: of the bubble
				if !x.mayTurn() {
					t.Errorf("%s: not even before", name)
				}
			}
			c.stands(x)
			if x.mayTurn() || x.beginTurn() {
				t.Errorf("%s: it turns", name)
			}
			time.Sleep(max(callRest, c.rests)) // allowed: of the bubble
			if can := x.beginTurn(); can != (c.rests > 0) {
				t.Errorf("%s: it turns later: %v", name, can)
			}
			if x.mayCall() != (c.rests == 0 && name != "it does so already") {
				t.Errorf("%s: a call can begin while it turns, or cannot while it does not", name)
			}
			if err := box.Close(); err != nil {
				t.Error(err)
			}
			dir.Close()
		}
	})
}

// TestOrderOrTurn: a terminal that goes over to another key does not begin to carry out an order that is for the one before, and one that carries an order out keeps its key.
func TestOrderOrTurn(t *testing.T) {
	for name, first := range map[string]bool{"the turn first": true, "the order first": false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			a, err := New(f.cfg, f.parts, quietLog)
			if err != nil {
				t.Fatal(err)
			}
			f.enrol()
			h, err := openHome(f.cfg.State, a.parts.Keys, quietLog)
			if err != nil {
				t.Fatal(err)
			}
			box, err := outbox.Open(h.dir, outbox.DefaultLimit, time.Now, quietLog)
			if err != nil {
				t.Fatal(err)
			}
			x := &terminal{a: a, id: h.id, outbox: box, dir: h.dir, orders: make(chan []byte, 1)}
			if first && !x.beginTurn() {
				t.Fatalf("%s: it does not turn", name)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := false
			over := make(chan error)
			go func() { over <- x.waitForOrder(ctx, func() { ended = true }) }()
			x.orders <- []byte("the order")
			synctest.Wait()
			word, _, err := phase(h.dir)
			if turns := x.beginTurn(); turns || err != nil || ended == first || (word == ordered) == first {
				t.Errorf("%s: mark %q, %v; calls ended: %v; turns: %v", name, word, err, ended, turns)
			}
			if (x.left() == nil) != first {
				t.Errorf("%s: it carries out %q", name, x.left())
			}
			stop()
			if err := errors.Join(<-over, box.Close(), h.close()); err != nil {
				t.Error(err)
			}
		})
	}
}

var quietLog = slog.New(slog.DiscardHandler)
