package main

import (
	"context"
	"log/slog"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/broker"
	"vindu/protocol"
)

const (
	refusalQueue = 64
	// refusalEvery bounds the audit log: one entry for each key in this time. A terminal that is refused tries again and again.
	refusalEvery = 10 * time.Minute
	refusalKeys  = 4096
)

// refusals writes connections that the broker did not let in to the audit log (R18). What does not fit into the queue is
// only in the broker's own log.
type refusals struct {
	queue chan broker.Refusal
	write func(context.Context, audit.Entry) error // audit.Log.Append
	log   *slog.Logger
}

func newRefusals(write func(context.Context, audit.Entry) error, log *slog.Logger) *refusals {
	return &refusals{make(chan broker.Refusal, refusalQueue), write, log}
}

// add does not block.
func (r *refusals) add(refusal broker.Refusal) {
	select {
	case r.queue <- refusal:
	default:
	}
}

func (r *refusals) run(ctx context.Context) error {
	told := map[protocol.KeyHash]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case refusal := <-r.queue:
			now := time.Now()
			if now.Sub(told[refusal.Key]) < refusalEvery {
				continue
			}
			e := audit.Entry{At: protocol.At(now), Who: refusal.Key.Name(), What: audit.ConnectionRefused, Subject: refusal.Key.Name(), Detail: map[string]string{
				"serial": refusal.Serial, "why": protocol.Printable(refusal.Err.Error()),
			}}
			if err := insist(ctx, func() error { return r.write(ctx, e) }, func(err error) {
				r.log.Error("refused connection not in the audit log; trying again", "terminal", refusal.Key, "error", err)
			}); err != nil {
				r.log.Error("refused connection not in the audit log", "terminal", refusal.Key, "error", err)
				continue
			}
			if len(told) >= refusalKeys {
				clear(told)
			}
			told[refusal.Key] = now
		}
	}
}
