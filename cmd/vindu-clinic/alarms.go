package main

import (
	"context"
	"log/slog"

	"vindu/clinic/register"
	"vindu/protocol"
)

const alarmQueue = 64

// alarms writes what the fleet notices about identities to the register, where operators see it. The fleet tells of a terminal
// at most once in minutes; what does not fit into the queue is noticed again.
type alarms struct {
	queue    chan alarm
	register *register.Register
	log      *slog.Logger
}

type alarm struct {
	terminal protocol.KeyHash
	why      string
}

func newAlarms(r *register.Register, log *slog.Logger) *alarms {
	return &alarms{make(chan alarm, alarmQueue), r, log}
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
			if err := a.register.Raise(ctx, protocol.IdentityTwice, t.terminal, t.why); err != nil && ctx.Err() == nil {
				a.log.Error("alarm not in the register", "terminal", t.terminal, "error", err)
			}
		}
	}
}
