package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// telling is a clinic that only tells the time.
type telling struct {
	nobody
	ahead time.Duration
	down  atomic.Bool
	asked atomic.Int64
}

func (c *telling) Time(context.Context, *identity.Grant) (time.Time, time.Duration, error) {
	c.asked.Add(1)
	time.Sleep(time.Second) // allowed: of the bubble
	if c.down.Load() {
		return time.Time{}, 0, protocol.WithCode(protocol.LinkUnreachable, errors.New("no route"))
	}
	return time.Now().Add(c.ahead), 0, nil
}

// TestTimekeeper: nothing is asked of the clinic before the time is proven, however many want to; after that a clinic that
// does not answer does no harm; and a certificate that does not fit the time is a reason to ask.
func TestTimekeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := state.OpenOn(statetest.New(), "/state")
		if err != nil {
			t.Fatal(err)
		}
		own := clock.New(dir, time.Now().AddDate(26, 0, 0), slog.New(slog.DiscardHandler))
		clinic := &telling{ahead: 27 * 365 * 24 * time.Hour}
		k := newTimekeeper(own, clinic, func() *identity.Grant { return new(identity.Grant) }, slog.New(slog.DiscardHandler))

		clinic.down.Store(true)
		if err := k.prepare(t.Context(), ""); protocol.CodeOf(err) != protocol.LinkUnreachable || own.Proven() {
			t.Errorf("with the clinic away: %v", err)
		}
		clinic.down.Store(false)
		clinic.asked.Store(0)
		done := make(chan error, 2)
		go func() { done <- k.prepare(t.Context(), protocol.LinkUnreachable) }()
		go func() { done <- k.learn(t.Context()) }()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if clinic.asked.Load() != 1 || !own.Proven() || own.Now().Sub(time.Now()) != clinic.ahead {
			t.Errorf("asked %d times, now %v", clinic.asked.Load(), own.Now())
		}
		time.Sleep(time.Hour) // allowed: of the bubble
		if err := k.prepare(t.Context(), protocol.LinkUnreachable); err != nil || clinic.asked.Load() != 1 {
			t.Errorf("asked %d times, %v", clinic.asked.Load(), err)
		}
		if err := k.prepare(t.Context(), protocol.TimeOff); err != nil || clinic.asked.Load() != 2 {
			t.Errorf("asked %d times, %v", clinic.asked.Load(), err)
		}
		clinic.down.Store(true)
		time.Sleep(time.Hour) // allowed: of the bubble
		if err := k.learn(t.Context()); err != nil || clinic.asked.Load() != 3 {
			t.Errorf("asked %d times, %v", clinic.asked.Load(), err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		<-k.asking
		if err := k.learn(ended); err == nil {
			t.Error("waited for its turn without end")
		}
	})
}
