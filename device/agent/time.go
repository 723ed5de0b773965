package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/protocol"
)

// timely is for how long nobody asks for the time again.
const timely = 10 * time.Second

// timekeeper keeps the clock by what the clinic proves. Its methods may be called from any goroutine.
type timekeeper struct {
	clock  *clock.Clock
	clinic identity.Clinic
	grant  func() *identity.Grant
	log    *slog.Logger

	asking chan struct{} // holds a token while nobody asks
	asked  time.Time     // when it was last learnt, by the monotonic clock; who has the token may touch it
}

func newTimekeeper(c *clock.Clock, clinic identity.Clinic, grant func() *identity.Grant, log *slog.Logger) *timekeeper {
	k := &timekeeper{clock: c, clinic: clinic, grant: grant, log: log, asking: make(chan struct{}, 1)}
	k.asking <- struct{}{}
	return k
}

// prepare is for link.Config. Until a time is proven nothing else is asked of the clinic, since no certificate can be judged; and one that does not fit
// the time is a reason to ask for it again.
func (k *timekeeper) prepare(ctx context.Context, cause protocol.Code) error {
	if k.clock.Proven() && cause != protocol.TimeOff {
		return nil
	}
	return k.learn(ctx)
}

// learn asks the clinic for the time, unless that has just been done. That it fails does no harm once a time was proven.
func (k *timekeeper) learn(ctx context.Context) error {
	select {
	case <-k.asking:
		defer func() { k.asking <- struct{}{} }()
	case <-ctx.Done():
		return protocol.WithCode(protocol.LinkUnreachable, context.Cause(ctx))
	}
	if !k.asked.IsZero() && time.Since(k.asked) < timely {
		return nil
	}
	g := k.grant()
	if g == nil {
		return protocol.WithCode(protocol.IdentityNone, errors.New("the terminal is not enrolled"))
	}
	at, took, err := k.clinic.Time(ctx, g)
	if err == nil {
		err = k.clock.Prove(at, took)
	}
	switch {
	case err == nil:
		k.asked = time.Now()
	case k.clock.Proven():
		k.log.Warn("the clinic's time was not learnt, or cannot be kept", "error", err, "code", protocol.CodeOf(err))
	case errors.Is(err, clock.ErrImplausible):
		return protocol.WithCode(protocol.TimeOff, err)
	default:
		return err
	}
	return nil
}
