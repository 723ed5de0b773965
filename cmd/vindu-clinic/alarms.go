package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"vindu/protocol"
)

const alarmQueue = 64

// alarms writes what the fleet notices about identities to the register, where operators see it. The fleet tells of a terminal
// at most once in minutes; what does not fit into the queue is noticed again.
type alarms struct {
	queue chan alarm
	raise func(ctx context.Context, code protocol.Code, terminal protocol.KeyHash, detail string) error // register.Raise
	log   *slog.Logger
}

type alarm struct {
	terminal protocol.KeyHash
	why      string
}

func newAlarms(raise func(context.Context, protocol.Code, protocol.KeyHash, string) error, log *slog.Logger) *alarms {
	return &alarms{make(chan alarm, alarmQueue), raise, log}
}

// twice does not block.
func (a *alarms) twice(terminal protocol.KeyHash, why string) {
	select {
	case a.queue <- alarm{terminal, why}:
	default:
	}
}

func (a *alarms) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-a.queue:
			a.log.Error("two connections with one terminal's identity: one of the two is a copy; see the operator's page", "terminal", t.terminal, "why", t.why, "code", protocol.IdentityTwice)
			if err := insist(ctx, func() error { return a.raise(ctx, protocol.IdentityTwice, t.terminal, t.why) }, func(err error) {
				a.log.Error("alarm not in the register; trying again", "terminal", t.terminal, "error", err)
			}); err != nil {
				a.log.Error("alarm not in the register", "terminal", t.terminal, "error", err)
			}
		}
	}
}

const (
	insistFirst = time.Second
	insistMost  = time.Minute
)

// insist calls f until it succeeds, and failed after each time that it has not. It returns f's error only when ctx ends.
func insist(ctx context.Context, f func() error, failed func(error)) error {
	for wait := insistFirst; ; wait = min(2*wait, insistMost) {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		failed(err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}
