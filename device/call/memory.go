package call

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"vindu/protocol"
)

// maxNonces bounds how many invitations are remembered: at most this many calls within the life of an invitation.
const maxNonces = 512

// remembered is for how long beyond its time an invitation is remembered where there is room: the terminal's clock may be set ahead and
// back again by who owns the network, and what was forgotten in between would be new.
const remembered = 24 * time.Hour

var (
	errReplayed = errors.New("the invitation was used before")
	errTooMany  = errors.New("too many invitations within two minutes")
)

// memory is what has to survive a restart: which invitations were used, and which call runs. It is one document, so that
// accepting an invitation costs one write.
type memory struct {
	store Store

	mu  sync.Mutex
	doc memoryDoc
}

type memoryDoc struct {
	Version uint           `cbor:"1,keyasint"`
	Used    []usedNonce    `cbor:"2,keyasint"`
	Running *runningMarker `cbor:"3,keyasint,omitempty"`
	// Before: invitations issued earlier may have been used, what was known of them is lost. Kept, since the next start knows as little.
	Before protocol.Time `cbor:"4,keyasint,omitempty"`
}

type usedNonce struct {
	Nonce protocol.Nonce `cbor:"1,keyasint"`
	Until protocol.Time  `cbor:"2,keyasint"`
}

// runningMarker is what can be said about a call if the process does not live to say it.
type runningMarker struct {
	Call       protocol.CallID `cbor:"1,keyasint"`
	Invitation protocol.Hash   `cbor:"2,keyasint"`
	Began      protocol.Time   `cbor:"3,keyasint"`
	Open       []Device        `cbor:"4,keyasint"` // may be open
	Reason     protocol.Code   `cbor:"5,keyasint"` // why the process died, as far as it knew
	Opened     protocol.Time   `cbor:"6,keyasint"` // when the first was opened
}

// loadMemory reads the document. A damaged or unreadable one is reported and replaced: then invitations issued before now are
// refused, because nobody knows any more which were used.
func loadMemory(store Store, now time.Time) (*memory, error) {
	m := &memory{store: store, doc: memoryDoc{Version: 1}}
	b, err := store.Load()
	if err == nil && b == nil {
		return m, nil
	}
	if err == nil {
		err = decodeMemory(b, &m.doc)
	}
	if err != nil {
		m.doc = memoryDoc{Version: 1, Before: protocol.At(now.Add(Skew))} // as far ahead as a caller's clock may be
		return m, fmt.Errorf("memory of calls: %w", err)
	}
	return m, nil
}

func decodeMemory(b []byte, doc *memoryDoc) error {
	var d memoryDoc
	if err := cbor.Unmarshal(b, &d); err != nil {
		return err
	}
	if d.Version != 1 || len(d.Used) > maxNonces {
		return errors.New("not a document of version 1")
	}
	*doc = d
	return nil
}

// use notes a proven invitation on disk, or says why it must not be used. If it becomes the running call, began is not zero.
func (m *memory) use(inv *protocol.Invitation, hash protocol.Hash, began, now time.Time) (protocol.Code, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now.Add(-remembered))
	if len(m.doc.Used) >= maxNonces {
		m.forget(now.Add(-Skew))
	}
	if inv.Issued < m.doc.Before {
		return protocol.AuthReplayed, fmt.Errorf("issued before the memory of calls was lost: %w", errReplayed)
	}
	if slices.ContainsFunc(m.doc.Used, func(u usedNonce) bool { return u.Nonce == inv.Nonce }) {
		return protocol.AuthReplayed, errReplayed
	}
	if len(m.doc.Used) >= maxNonces {
		return protocol.AnswerRefused, errTooMany
	}
	m.doc.Used = append(m.doc.Used, usedNonce{inv.Nonce, inv.Expires})
	if !began.IsZero() {
		m.doc.Running = &runningMarker{Call: inv.Call, Invitation: hash, Began: protocol.At(began), Reason: protocol.PowerRestarted}
	}
	if err := m.save(); err != nil {
		return protocol.StorageFull, err
	}
	return "", nil
}

// forget drops what ended before until. m.mu is held.
func (m *memory) forget(until time.Time) {
	m.doc.Used = slices.DeleteFunc(m.doc.Used, func(u usedNonce) bool { return u.Until.Time().Before(until) })
}

// opening notes on disk that a device is about to be opened.
func (m *memory) opening(d Device, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.doc.Running
	if r == nil || slices.Contains(r.Open, d) {
		return nil
	}
	r.Open = append(r.Open, d)
	if r.Opened == 0 {
		r.Opened = protocol.At(now)
	}
	return m.save()
}

// stuck notes why the process is about to end itself.
func (m *memory) stuck(reason protocol.Code) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.doc.Running == nil {
		return nil
	}
	m.doc.Running.Reason = reason
	return m.save()
}

// running returns the marker of the call that runs, or ran when the process died.
func (m *memory) running() *runningMarker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doc.Running
}

// finished notes that no call runs.
func (m *memory) finished() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.doc.Running == nil {
		return nil
	}
	m.doc.Running = nil
	return m.save()
}

func (m *memory) save() error {
	b, err := cbor.Marshal(m.doc)
	if err != nil {
		return fmt.Errorf("memory of calls: %w", err)
	}
	if err := m.store.Save(b); err != nil {
		return fmt.Errorf("memory of calls: %w", err)
	}
	return nil
}
