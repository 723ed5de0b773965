package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"vindu/device/identity"
	"vindu/device/outbox"
	"vindu/protocol"
)

const (
	courierAfter = 5 * time.Minute // without the broker, or without an acknowledgement through it
	courierLooks = 5               // at the broker, in that time
	courierEvery = 5 * time.Minute // how things are is told so often, even if nothing happened
	courierMost  = 30 * time.Minute
	courierTime  = 30 * time.Second // for one report
)

// reporter is a clinic that takes reports by HTTPS.
type reporter interface {
	Report(ctx context.Context, g *identity.Grant, r *protocol.Report) ([][]byte, error)
}

// courier takes health and events to the clinic by HTTPS, on the same port, once the broker has been out of reach for so long, or the oldest event has gone
// unacknowledged for as long although the broker is there: somebody may hold it back. The outbox keeps what is not acknowledged, and the clinic recognises what
// it gets twice; so nothing depends on which way it goes.
type courier struct {
	after  time.Duration // 0: courierAfter
	up     func() bool
	grant  func() *identity.Grant
	health func() *protocol.Health
	outbox interface {
		Next(after uint64) (uint64, []byte, error)
		Ack(protocol.Ack) (uint64, error)
	}
	to      reporter
	self    func() protocol.KeyHash
	service func() [][]byte // keys by which the clinic's server signs acknowledgements
	refused func(error)     // is told of each acknowledgement that is not the clinic's, or cannot be
	said    func(message string, attributes ...any)
}

// run works until ctx ends.
func (c *courier) run(ctx context.Context) error {
	after := cmp.Or(c.after, courierAfter)
	look := after / courierLooks
	reached := time.Now()
	wait, due := courierEvery, time.Time{}
	oldest, since := uint64(0), reached // the event that waits, and when that was first seen
	for {
		timer := time.NewTimer(look*3/4 + rand.N(look/4))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		now := time.Now()
		if seq, _, err := c.outbox.Next(0); err != nil || seq == 0 || seq != oldest {
			oldest, since = seq, now
		}
		held := now.Sub(since) >= after
		if c.up() && !held {
			reached, wait, due = now, courierEvery, time.Time{}
			continue
		}
		if !held && now.Sub(reached) < after || now.Before(due) {
			continue
		}
		err := c.deliver(ctx, held)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			wait = min(2*wait, courierMost)
			c.said("what waits was not told by https either", "error", err, "code", protocol.CodeOf(err))
		} else {
			wait = courierEvery
		}
		due = now.Add(wait*3/4 + rand.N(wait/4))
	}
}

// deliver tells how things are and all that waits, as long as the clinic takes something of it and, unless it is held back there, the broker is out of reach.
func (c *courier) deliver(ctx context.Context, held bool) error {
	health := c.health()
	for {
		r := &protocol.Report{Version: protocol.Version, Health: health, Events: []protocol.Event{}}
		health = nil // once is enough
		size := 0
		for after := uint64(0); len(r.Events) < protocol.MaxReportEvents; {
			seq, message, err := c.outbox.Next(after)
			if err != nil {
				return err
			}
			if message == nil || len(r.Events) > 0 && size+len(message) > protocol.MaxReportBytes {
				break
			}
			var e protocol.Event
			if err := protocol.Decode(message, &e); err != nil {
				return fmt.Errorf("event %d of the outbox: %w", seq, err)
			}
			r.Events, after, size = append(r.Events, e), seq, size+len(message)
		}
		if r.Health == nil && len(r.Events) == 0 || c.up() && !held {
			return nil
		}
		inner, cancel := context.WithTimeout(ctx, courierTime)
		acks, err := c.to.Report(inner, c.grant(), r)
		cancel()
		if err != nil {
			return err
		}
		removed := uint64(0)
		for _, signed := range acks {
			n, err := c.acknowledge(signed)
			if err != nil {
				return err
			}
			removed += n
		}
		if removed == 0 {
			return nil // the clinic waits for something; it is told again
		}
	}
}

// acknowledge has the outbox forget what the clinic has, and tells how many events that were.
func (c *courier) acknowledge(signed []byte) (uint64, error) {
	a, err := protocol.VerifyAck(signed, c.service(), c.self())
	if err != nil {
		c.refused(err)
		return 0, err
	}
	n, err := c.outbox.Ack(*a)
	if errors.Is(err, outbox.ErrNeverSent) {
		c.refused(err)
	}
	return n, err
}
