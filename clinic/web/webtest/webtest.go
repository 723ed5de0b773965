// Package webtest has stand-ins for the parts of the clinic that package web talks to, so that its pages can be tried
// in a browser without a broker or a terminal. A test plays the terminal: it takes each Call that a page has
// placed and answers it, truthfully signed or not.
package webtest

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Register has homes and persons in memory.
type Register struct {
	mu        sync.Mutex
	homes     []register.Home
	persons   map[string]register.Person
	announced map[string]register.Announcement
}

// NewRegister returns an empty register.
func NewRegister() *Register {
	return &Register{persons: map[string]register.Person{}, announced: map[string]register.Announcement{}}
}

// AddPerson adds a clinician and returns the ID.
func (r *Register) AddPerson(p protocol.Party) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := fmt.Sprintf("%d", 100+len(r.persons))
	r.persons[id] = register.Person{ID: id, Party: p, Duty: register.Clinician}
	return id
}

// AddHome adds a home, with the terminal that has this key; nil for a home without a terminal.
func (r *Register) AddHome(label string, key *ecdsa.PrivateKey) register.Home {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := register.Home{ID: fmt.Sprintf("%d", 500+len(r.homes)), Label: label}
	if key != nil {
		h.SPKI, h.Terminal = Public(key)
		h.Enrolled = time.Now()
	}
	r.homes = append(r.homes, h)
	return h
}

// Exchange gives a home another terminal.
func (r *Register) Exchange(home string, key *ecdsa.PrivateKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.homes {
		if r.homes[i].ID == home {
			r.homes[i].SPKI, r.homes[i].Terminal = Public(key)
		}
	}
}

// Homes implements web.Register.
func (r *Register) Homes(context.Context) ([]register.Home, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.homes), nil
}

// Home implements web.Register.
func (r *Register) Home(_ context.Context, id string) (register.Home, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.homes {
		if h.ID == id {
			return h, nil
		}
	}
	return register.Home{}, register.ErrNotFound
}

// Person implements web.Register.
func (r *Register) Person(_ context.Context, id string) (register.Person, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.persons[id]
	if !ok {
		return p, register.ErrNotFound
	}
	return p, nil
}

// Announce implements web.Announcements.
func (r *Register) Announce(_ context.Context, home, person string, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.announced, home)
	if !at.IsZero() {
		r.announced[home] = register.Announcement{Person: person, Party: r.persons[person].Party, At: at}
	}
	return nil
}

// Announced implements web.Announcements.
func (r *Register) Announced(context.Context) (map[string]register.Announcement, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.announced), nil
}

// Fleet has states that a test sets.
type Fleet struct {
	mu       sync.Mutex
	states   map[protocol.KeyHash]fleet.State
	watchers map[chan protocol.KeyHash]bool
}

// NewFleet returns a fleet of which nothing is known.
func NewFleet() *Fleet {
	return &Fleet{states: map[protocol.KeyHash]fleet.State{}, watchers: map[chan protocol.KeyHash]bool{}}
}

// Set changes a terminal's state.
func (f *Fleet) Set(s fleet.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[s.Terminal] = s
	for w := range f.watchers {
		select {
		case w <- s.Terminal:
		default:
		}
	}
}

// State implements web.Fleet.
func (f *Fleet) State(k protocol.KeyHash) fleet.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.states[k]
	s.Terminal = k
	return s
}

// Watch implements web.Fleet.
func (f *Fleet) Watch() (<-chan protocol.KeyHash, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan protocol.KeyHash, 1)
	f.watchers[c] = true
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, c)
	}
}

// Audit keeps entries in memory.
type Audit struct {
	mu      sync.Mutex
	entries []audit.Entry
}

// AppendTx implements web.Auditor.
func (a *Audit) AppendTx(_ context.Context, _ *sql.Tx, e audit.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(a.entries, e)
	return nil
}

// What returns what happened, in order.
func (a *Audit) What() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	what := make([]string, 0, len(a.entries))
	for _, e := range a.entries {
		what = append(what, e.What)
	}
	return what
}

// NewKey returns a key as a terminal has one.
func NewKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // no source of randomness
	}
	return k
}

// Public returns the DER SubjectPublicKeyInfo of key and its hash.
func Public(key *ecdsa.PrivateKey) ([]byte, protocol.KeyHash) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err) // P-256 can be encoded
	}
	return spki, protocol.HashSPKI(spki)
}

// latest sorts records, the latest first.
func latest(a, b calls.Record) int { return -cmp.Compare(a.Began.UnixNano(), b.Began.UnixNano()) }
