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

// maxPasskeys bounds of how many passkeys the counter is remembered; beyond, the one that was used longest ago is forgotten.
const maxPasskeys = 256

// remembered is for how long beyond its time an invitation is remembered where there is room: the terminal's clock may be set ahead and
// back again by who owns the network, and what was forgotten in between would be new.
const remembered = 24 * time.Hour

var (
	errReplayed = errors.New("the invitation was used before")
	errTooMany  = errors.New("too many invitations within two minutes")
	errCopied   = errors.New("the passkey's counter is not above the last one: there may be two of it")
)

// memory is what has to survive a restart: which invitations were used, how far passkeys have counted, and which call runs. It is one document, so
// that accepting an invitation costs one write.
type memory struct {
	store Store
	began time.Time // with monotonic reading

	mu  sync.Mutex
	doc memoryDoc
}

// memoryVersion is of documents that are written; those of version 1 are read.
const memoryVersion = 2

type memoryDoc struct {
	Version uint           `cbor:"1,keyasint"`
	Used    []usedNonce    `cbor:"2,keyasint"`
	Running *runningMarker `cbor:"3,keyasint,omitempty"`
	// Before: invitations issued earlier may have been used, what was known of them is lost. Kept, since the next start knows as little.
	Before protocol.Time `cbor:"4,keyasint,omitempty"`
	// Lost: what was known is lost, and no proven time has told yet what Before is.
	Lost bool `cbor:"6,keyasint,omitempty"`
	// Told: the home whose people were told what this is, before their first call.
	Told *toldHome `cbor:"7,keyasint,omitempty"`
	// Passkeys that count, each with the counter of its last use (WebAuthn §6.1.1), in the order of their last use. Version 1 had none.
	Passkeys []passkeyCounter `cbor:"5,keyasint,omitempty"`
}

// toldHome is a home that was told; a terminal that goes to another has that one told, too.
type toldHome struct {
	Home string `cbor:"1,keyasint"`
}

type passkeyCounter struct {
	Passkey protocol.Hash `cbor:"1,keyasint"` // of its public key
	Counter uint32        `cbor:"2,keyasint"`
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
// refused, because nobody knows any more which were used. When now was, is known once a time is proven: a terminal without a clock battery is behind until then.
func loadMemory(store Store) (*memory, error) {
	m := &memory{store: store, began: time.Now(), doc: memoryDoc{Version: memoryVersion}}
	b, err := store.Load()
	if err == nil && b == nil {
		return m, nil
	}
	if err == nil {
		err = decodeMemory(b, &m.doc)
	}
	if err != nil {
		m.doc = memoryDoc{Version: memoryVersion, Lost: true}
		return m, fmt.Errorf("memory of calls: %w", err)
	}
	return m, nil
}

func decodeMemory(b []byte, doc *memoryDoc) error {
	var d memoryDoc
	if err := cbor.Unmarshal(b, &d); err != nil {
		return err
	}
	if d.Version < 1 || d.Version > memoryVersion || len(d.Used) > maxNonces || len(d.Passkeys) > maxPasskeys {
		return fmt.Errorf("not a document of version 1 to %d", memoryVersion)
	}
	d.Version = memoryVersion
	*doc = d
	return nil
}

// use notes a proven invitation on disk, or says why it must not be used. If it becomes the running call, began is not zero.
func (m *memory) use(p *Proof, began, now time.Time) (protocol.Code, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	inv := p.Invitation
	m.forget(now.Add(-remembered))
	if len(m.doc.Used) >= maxNonces {
		m.forget(now.Add(-Skew))
	}
	before := m.doc.Before
	if m.doc.Lost {
		before = protocol.At(now.Add(Skew - time.Since(m.began))) // as far ahead as a caller's clock may be
		if p.Authorisation != nil {                               // was judged by a proven time
			m.doc.Before, m.doc.Lost = before, false
		}
	}
	if inv.Issued < before {
		return protocol.AuthReplayed, fmt.Errorf("issued before the memory of calls was lost: %w", errReplayed)
	}
	if slices.ContainsFunc(m.doc.Used, func(u usedNonce) bool { return u.Nonce == inv.Nonce }) {
		return protocol.AuthReplayed, errReplayed
	}
	if len(m.doc.Used) >= maxNonces {
		return protocol.AnswerRefused, errTooMany
	}
	if !m.count(p) {
		return protocol.AuthCounter, errCopied
	}
	m.doc.Used = append(m.doc.Used, usedNonce{inv.Nonce, inv.Expires})
	if !began.IsZero() {
		m.doc.Running = &runningMarker{Call: inv.Call, Invitation: p.Hash, Began: protocol.At(began), Reason: protocol.PowerRestarted}
	}
	if err := m.save(); err != nil {
		return protocol.StorageCode(err), err
	}
	return "", nil
}

// count notes how far a passkey has counted; false if that proves that there may be two of it (WebAuthn §7.2, step 22): it has to be further than here and
// than the clinic's authorisation says, so that a memory that was lost does not let a copy in. Passkeys that are kept in a cloud do not count: they always say 0. m.mu is held.
func (m *memory) count(p *Proof) bool {
	i := slices.IndexFunc(m.doc.Passkeys, func(c passkeyCounter) bool { return c.Passkey == p.Passkey })
	last := p.Counted
	if i >= 0 {
		last = max(last, m.doc.Passkeys[i].Counter)
	}
	if p.Counter == 0 && last == 0 {
		return true
	}
	if p.Counter <= last {
		return false
	}
	if i >= 0 {
		m.doc.Passkeys = slices.Delete(m.doc.Passkeys, i, i+1)
	}
	if n := len(m.doc.Passkeys) - maxPasskeys + 1; n > 0 {
		m.doc.Passkeys = slices.Delete(m.doc.Passkeys, 0, n)
	}
	m.doc.Passkeys = append(m.doc.Passkeys, passkeyCounter{p.Passkey, p.Counter})
	return true
}

// forget drops what ended before until. m.mu is held.
func (m *memory) forget(until time.Time) {
	m.doc.Used = slices.DeleteFunc(m.doc.Used, func(u usedNonce) bool { return u.Until.Time().Before(until) })
}

// wasTold says whether the people in this home know what this is.
func (m *memory) wasTold(home string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doc.Told != nil && m.doc.Told.Home == home
}

// told notes that they do.
func (m *memory) told(home string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doc.Told = &toldHome{home}
	return m.save()
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
