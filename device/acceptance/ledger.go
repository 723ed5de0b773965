package acceptance

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"vindu/device/call"
	"vindu/protocol"
)

// openings is what the store remembers: devices that may be open.
type openings struct {
	Version uint          `cbor:"1,keyasint"`
	Open    []call.Device `cbor:"2,keyasint"`
	Mandate []byte        `cbor:"3,keyasint"` // empty: of a rehearsal
}

// Recover closes, in the ledger, what a power cut closed in truth. It is called once, before any Check; what it cannot close is
// closed before the next opening.
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
	r.books.Lock()
	defer r.books.Unlock()
	r.owed = was
	return r.settle(nil)
}

// settle closes in the ledger what is closed in truth, and remembers what is open. r.books is held.
func (r *Runner) settle(open []call.Device) error {
	for len(r.owed.Open) > 0 {
		d := r.owed.Open[0]
		if err := r.write(d, false, r.owed.Mandate); err != nil {
			return fmt.Errorf("close %s in the ledger: %w", d, err)
		}
		r.owed.Open = r.owed.Open[1:]
	}
	return r.remember(open, r.owed.Mandate)
}

// remember stores what is open, or owed to the ledger; both are of one mandate, since what is owed is settled before anything opens. r.books is held.
func (r *Runner) remember(open []call.Device, mandate []byte) error {
	all := append(slices.Clone(r.owed.Open), open...)
	if len(all) == 0 {
		return r.c.Store.Save(nil)
	}
	b, err := cbor.Marshal(openings{Version: 1, Open: all, Mandate: mandate})
	if err != nil {
		return err
	}
	return r.c.Store.Save(b)
}

func (r *Runner) write(d call.Device, open bool, mandate []byte) error {
	o := &protocol.Opening{Version: protocol.Version, Device: string(d), Open: open, At: protocol.At(r.c.Now()), Reason: protocol.OpeningCheck, Mandate: mandate}
	if len(mandate) == 0 {
		o.Reason = protocol.OpeningRehearsal
	}
	body, err := protocol.Encode(o)
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
	switch err := errors.Join(l.run.unproven, l.run.r.seen()); {
	case d != call.Camera && d != call.Microphone:
		return fmt.Errorf("open %s: not a device of the ledger", d)
	case l.run.rehearses && d != call.Microphone:
		return fmt.Errorf("open %s: not in a rehearsal", d)
	case err != nil:
		return fmt.Errorf("open %s: %w", d, err)
	case !l.allowed:
		return fmt.Errorf("open %s: the check has ended", d)
	case slices.Contains(l.open, d):
		return fmt.Errorf("open %s: it is open already", d)
	}
	if err := l.record(d); err != nil {
		l.run.c.Log.Error("device not opened: the opening cannot be recorded", "device", string(d), "error", err)
		return protocol.WithCode(protocol.StorageCode(err), fmt.Errorf("open %s: not recorded: %w", d, err))
	}
	l.show(d, true)
	return nil
}

// record writes down that d opens, once all is written down that was not yet. l.mu is held.
func (l *ledger) record(d call.Device) error {
	r, mandate := l.run.r, []byte(nil)
	if !l.run.rehearses {
		id := l.run.proof.Mandate()
		mandate = id[:]
	}
	r.books.Lock()
	defer r.books.Unlock()
	if len(r.owed.Open) > 0 {
		if err := r.settle(l.open); err != nil {
			return err
		}
	}
	r.owed.Mandate = mandate
	open := append(slices.Clone(l.open), d)
	if err := r.remember(open, mandate); err != nil {
		return err
	}
	if err := r.write(d, true, mandate); err != nil {
		return errors.Join(err, r.remember(l.open, mandate)) // it did not open
	}
	l.open = open
	return nil
}

// Closed implements call.Ledger.
func (l *ledger) Closed(d call.Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.open, d)
	if i < 0 {
		return
	}
	l.open = slices.Delete(slices.Clone(l.open), i, i+1)
	r := l.run.r
	r.books.Lock()
	r.owed.Open = append(r.owed.Open, d)
	err := r.settle(l.open)
	r.books.Unlock()
	if err != nil {
		l.run.c.Log.Error("closing not recorded yet", "device", string(d), "error", err)
	}
	l.show(d, false)
}

func (l *ledger) show(d call.Device, open bool) {
	if l.run.rehearses {
		return
	}
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
