package call

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"vindu/protocol"
)

var errMayNotOpen = errors.New("no answered call runs")

// ledger writes down one call's openings before they happen. It is also the last lock: outside an answered call it allows
// none, and a session that forgets a device is found out. Sessions call it from any goroutine.
type ledger struct {
	r    *Runner
	call protocol.CallID

	mu      sync.Mutex
	allowed bool
	times   map[Device]*deviceTimes
}

type deviceTimes struct {
	open        bool
	first, last time.Time // opened first, closed last
}

func (l *ledger) allow(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allowed = yes
}

// Opening implements Ledger.
func (l *ledger) Opening(d Device) error {
	now := l.r.c.Now()
	if err := l.take(d, now); err != nil {
		return fmt.Errorf("open %s: %w", d, err)
	}
	var marked, written error
	var both sync.WaitGroup // two files: their writes may overlap
	both.Go(func() { marked = l.r.memory.opening(d, now) })
	written = l.r.opening(d, true, l.call, now)
	both.Wait()
	if err := errors.Join(written, marked); err != nil {
		l.Closed(d)
		l.r.c.Log.Error("device not opened: the opening cannot be recorded", "device", string(d), "call", l.call, "error", err)
		return &MediaError{protocol.StorageCode(err), fmt.Errorf("open %s: not recorded: %w", d, err)}
	}
	l.mu.Lock()
	still := l.allowed
	l.mu.Unlock()
	if !still { // the call ended while this was written
		l.Closed(d)
		return fmt.Errorf("open %s: %w", d, errMayNotOpen)
	}
	return nil
}

func (l *ledger) take(d Device, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.times[d]
	switch {
	case t == nil:
		return errors.New("not a device of the ledger")
	case !l.allowed:
		return errMayNotOpen
	case t.open:
		return ErrOpen
	}
	t.open = true
	if t.first.IsZero() {
		t.first = now
	}
	return nil
}

// Closed implements Ledger.
func (l *ledger) Closed(d Device) {
	now := l.r.c.Now()
	l.mu.Lock()
	t := l.times[d]
	was := t != nil && t.open
	if was {
		t.open, t.last = false, now
	}
	l.mu.Unlock()
	if !was {
		return
	}
	if err := l.r.opening(d, false, l.call, now); err != nil {
		l.r.c.Log.Error("closing not recorded", "device", string(d), "call", l.call, "error", err)
	}
}

// open returns an error that names the devices which are still open.
func (l *ledger) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for _, d := range []Device{Camera, Microphone} {
		if l.times[d].open {
			err = errors.Join(err, fmt.Errorf("%s is open", d))
		}
	}
	return err
}

// span returns when a device was opened first and closed last; zeros if it never was open.
func (l *ledger) span(d Device) (opened, closed protocol.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return protocol.At(l.times[d].first), protocol.At(l.times[d].last)
}

// opening writes one entry of the ledger to the outbox.
func (r *Runner) opening(d Device, open bool, call protocol.CallID, at time.Time) error {
	body, err := protocol.Encode(&protocol.Opening{
		Version: protocol.Version, Device: string(d), Open: open, Call: call, At: protocol.At(at),
	})
	if err != nil {
		return err
	}
	return r.c.Outbox.Append(protocol.EventOpening, body)
}
