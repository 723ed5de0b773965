package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

// TestRefusedAcks: the clinic is told that somebody acknowledges in its name, once in an hour whichever way he does it, and all of them are counted.
func TestRefusedAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, err := New(f.cfg, f.parts, quietLog)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := state.Open(f.cfg.State)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		box, err := outbox.Open(dir, outbox.DefaultLimit, time.Now, quietLog)
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		x := &terminal{a: a, outbox: box, clock: clock.New(dir, clock.Built(), quietLog), renewer: new(identity.Renewer)}
		for hour := range uint64(3) {
			for range 100 {
				x.refusedAck(errors.New("forged"))
				x.refusedByCourier(errors.New("forged"))
			}
			if n := box.Status().Pending; n != hour+1 {
				t.Errorf("%d notices in hour %d", n, hour)
			}
			time.Sleep(ackNoticeEvery) // allowed: of the bubble
		}
		if n := x.acks.byCourier(); n != 300 {
			t.Errorf("%d counted", n)
		}
		_, message, err := box.Next(0)
		var e protocol.Event
		if err == nil {
			err = protocol.Decode(message, &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if body, err := e.Open(); err != nil || body.(*protocol.Notice).Code != protocol.AuthAck {
			t.Errorf("%+v, %v", body, err)
		}
	})
}
