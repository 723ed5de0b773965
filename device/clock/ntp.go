package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/beevik/ntp"
)

const (
	ntpEvery   = time.Hour
	ntpRetry   = 30 * time.Second // after a start or a failure, growing to ntpEvery
	ntpTimeout = 5 * time.Second
)

// ErrBounds is wrapped by Refine when a time server tells another time than the clinic has proven.
var ErrBounds = errors.New("outside the bounds of the proven time")

// Refine takes note of what a time server told, which may be wrong by uncertainty. It counts only within the bounds of what the clinic has
// proven: half the round trip of that proof, what the server may be wrong by, and a second for clocks that drift; so no time server can
// move the clock by more than those. The error wraps ErrBounds.
func (c *Clock) Refine(at time.Time, uncertainty time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.proven() {
		return fmt.Errorf("no time was proven yet: %w", ErrBounds)
	}
	bound := min(c.roundTrip/2+uncertainty+time.Second, Tolerance)
	by := at.Sub(c.toldAt(now))
	if by.Abs() > bound {
		return fmt.Errorf("it differs by %v, at most %v: %w", by.Round(time.Millisecond), bound.Round(time.Millisecond), ErrBounds)
	}
	c.refined = by
	return nil
}

// NTP refines a clock by time servers (RFC 5905).
type NTP struct {
	Clock   *Clock
	Servers []string // host or host:port, asked in turn until one answers
	Log     *slog.Logger
}

// Run asks every hour, until ctx ends, and returns nil. Until a time is proven, and without servers, it asks nobody.
func (n *NTP) Run(ctx context.Context) error {
	if len(n.Servers) == 0 {
		<-ctx.Done()
		return nil
	}
	wait := ntpRetry
	for {
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if wait = min(2*wait, ntpEvery); !n.Clock.Proven() {
			wait = ntpRetry
			continue
		}
		if err := n.ask(ctx); err != nil && ctx.Err() == nil {
			n.Log.Info("no time server refines the clock", "error", err, "retry_in", wait)
			continue
		}
		wait = ntpEvery
	}
}

func (n *NTP) ask(ctx context.Context) error {
	var errs []error
	for _, server := range n.Servers {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		answer, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: ntpTimeout, GetSystemTime: n.Clock.Now})
		if err == nil {
			err = answer.Validate()
		}
		if err == nil {
			err = n.Clock.Refine(n.Clock.Now().Add(answer.ClockOffset), answer.RootDistance)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("time server %s: %w", server, err))
	}
	return errors.Join(errs...)
}
