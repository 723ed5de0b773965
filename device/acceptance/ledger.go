package acceptance

import (
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"vindu/device/call"
	"vindu/protocol"
)

// openings is what the store remembers: devices that may be open.
type openings struct {
	Version uint          `cbor:"1,keyasint"`
	Open    []call.Device `cbor:"2,keyasint"`
	Mandate []byte        `cbor:"3,keyasint"`
}

// Recover closes, in the ledger, what a power cut closed in truth. It is called once, before any Check.
func (r *Runner) Recover() error {
	b, err := r.c.Store.Load()
	if err != nil || len(b) == 0 {
		return err
	}
	var was openings
	if err := cbor.Unmarshal(b, &was); err != nil || was.Version != 1 || len(was.Open) > 2 {
		// What was open is in the clinic's half of the ledger: an opening without an end.
		return errors.Join(fmt.Errorf("openings of the last check are not readable and were put aside: %w", errors.Join(protocol.ErrMalformed, err)), r.c.Store.Save(nil))
	}
	for _, d := range was.Open {
		if err := r.write(d, false, was.Mandate); err != nil {
			return fmt.Errorf("close %s in the ledger: %w", d, err)
		}
	}
	return r.c.Store.Save(nil)
}

func (r *Runner) write(d call.Device, open bool, mandate []byte) error {
	body, err := protocol.Encode(&protocol.Opening{
		Version: protocol.Version, Device: string(d), Open: open, At: protocol.At(r.c.Now()), Reason: protocol.OpeningCheck, Mandate: mandate,
	})
	if err != nil {
		return err
	}
	return r.c.Outbox.Append(protocol.EventOpening, body)
}

// ledger writes one step's openings down before they happen, and is the lock before them.
type ledger struct {
	run *run

	mu      sync.Mutex
	allowed bool
	open    []call.Device
}

// Opening implements call.Ledger.
func (l *ledger) Opening(d call.Device) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch err := l.run.r.proven(l.run.proof); {
	case d != call.Camera && d != call.Microphone:
		return fmt.Errorf("open %s: not a device of the ledger", d)
	case err != nil:
		return fmt.Errorf("open %s: %w", d, err)
	case !l.allowed:
		return fmt.Errorf("open %s: the check has ended", d)
	}
	for _, o := range l.open {
		if o == d {
			return fmt.Errorf("open %s: it is open already", d)
		}
	}
	l.open = append(l.open, d)
	mandate := l.run.proof.Mandate()
	if err := errors.Join(l.remember(mandate[:]), l.run.r.write(d, true, mandate[:])); err != nil {
		l.closed(d)
		l.run.c.Log.Error("device not opened: the opening cannot be recorded", "device", string(d), "error", err)
		return protocol.WithCode(protocol.StorageFull, fmt.Errorf("open %s: not recorded: %w", d, err))
	}
	l.show(d, true)
	return nil
}

// Closed implements call.Ledger.
func (l *ledger) Closed(d call.Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed(d)
}

// closed is Closed; l.mu is held.
func (l *ledger) closed(d call.Device) {
	was := len(l.open)
	for i, o := range l.open {
		if o == d {
			l.open = append(l.open[:i:i], l.open[i+1:]...)
			break
		}
	}
	if len(l.open) == was {
		return
	}
	mandate := l.run.proof.Mandate()
	if err := errors.Join(l.run.r.write(d, false, mandate[:]), l.remember(mandate[:])); err != nil {
		l.run.c.Log.Error("closing not recorded", "device", string(d), "error", err)
	}
	l.show(d, false)
}

// remember stores what is open. l.mu is held.
func (l *ledger) remember(mandate []byte) error {
	if len(l.open) == 0 {
		return l.run.c.Store.Save(nil)
	}
	b, err := cbor.Marshal(openings{Version: 1, Open: l.open, Mandate: mandate})
	if err != nil {
		return err
	}
	return l.run.c.Store.Save(b)
}

func (l *ledger) show(d call.Device, open bool) {
	l.run.r.show(func(s *Status) {
		if d == call.Camera {
			s.Camera = open
		} else {
			s.Microphone = open
		}
	})
}

// finish allows no more openings and returns what is still open.
func (l *ledger) finish() []call.Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allowed = false
	return append([]call.Device(nil), l.open...)
}
