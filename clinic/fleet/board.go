package fleet

import (
	"reflect"
	"sync"
	"time"

	"vindu/protocol"
)

// board holds what is known of every terminal. It is safe for concurrent use; it starts nothing and asks nobody for the time.
//
// Online wants more than that something is heard, of a terminal that takes part in it: that a message made the round trip (trips).
//
//	unseen ──presence online, or anything heard──► online ──will of its session, or said so──► offline
//	  │                                              │ ▲                                        │ ▲
//	  └──────────retained presence──► offline        │ └──────── anything heard ────────────────┘ │
//	                                                 └──────── silent for Silence ────────────────┘
type board struct {
	mu        sync.Mutex
	terminals map[protocol.KeyHash]*entry
	watchers  map[chan protocol.KeyHash]struct{}
	cost      uint64                         // events that the bounds of terminals' outboxes have cost since the board was made
	twice     func(protocol.KeyHash, string) // is told of two connections with one identity, and why; must not block
}

type entry struct {
	State
	session protocol.Nonce // of the connection that is open, zero if not known
	dirty   bool           // differs from what is stored, in more than that it was heard since
	saved   time.Time      // Heard when it was last taken to be stored
	audited time.Time      // when a refused message was last written to the audit log
	twins   twins
	trips   trips
}

func newBoard() *board {
	return &board{terminals: make(map[protocol.KeyHash]*entry), watchers: make(map[chan protocol.KeyHash]struct{}),
		twice: func(protocol.KeyHash, string) {}}
}

// entry returns that of key. b.mu is held.
func (b *board) entry(key protocol.KeyHash) *entry {
	e := b.terminals[key]
	if e == nil {
		e = &entry{State: State{Terminal: key}}
		b.terminals[key] = e
	}
	return e
}

// set changes whether a terminal is online. b.mu is held.
func (b *board) set(e *entry, online bool, since time.Time) {
	if e.Online == online && !e.Since.IsZero() {
		return
	}
	e.Online, e.Since, e.dirty = online, since, true
	b.notify(e.Terminal)
}

// heard notes that something came from the terminal now.
func (b *board) heard(key protocol.KeyHash, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hear(b.entry(key), now)
}

func (b *board) hear(e *entry, now time.Time) {
	e.Heard = now
	if e.due().After(now) {
		b.set(e, true, now)
	}
}

// presence takes a presence message. ask is true if the terminal seems to be there but was not heard: it should be asked to report.
func (b *board) presence(key protocol.KeyHash, p *protocol.Presence, retained bool, now time.Time) (ask bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(key)
	if p.Software != "" && e.Software != p.Software {
		e.Software, e.dirty = p.Software, true
		b.notify(key)
	}
	switch {
	case p.Online && !retained:
		if e.Online && e.session != p.Session && e.session != (protocol.Nonce{}) {
			e.Online = false // it was away in between, unnoticed
			if e.twins.said.add(now) && e.twins.due(now) {
				b.twice(key, pushed)
			}
		}
		if e.session != p.Session || p.Beat < e.trips.answered {
			e.trips, e.RoundTrip = trips{}, time.Time{}
		}
		e.session = p.Session
		if e.trips.said(p) {
			e.RoundTrip = now
		}
		b.hear(e, now)
	case p.Online: // retained: so it was when the broker last heard of it
		if !e.Online {
			e.session = p.Session
		}
		return now.Sub(e.Heard) >= Silence/2
	case e.Online && e.session != (protocol.Nonce{}) && e.session != p.Session:
		// A late will: that connection is gone, but a newer one is there.
	default:
		e.session = protocol.Nonce{}
		b.set(e, false, now)
	}
	return false
}

// answer returns how a presence is to be answered; nil if it asks for no answer.
func (b *board) answer(key protocol.KeyHash, p *protocol.Presence) *protocol.Command {
	if p.Beat == 0 || !p.Online {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(key)
	if e.session != p.Session {
		return nil
	}
	if e.trips.first == 0 {
		e.trips.first = p.Beat
	}
	e.trips.answered = max(e.trips.answered, p.Beat)
	return &protocol.Command{Version: protocol.Version, Kind: protocol.CommandHeard, Beat: p.Beat, Confirm: e.RoundTrip.IsZero()}
}

// reported notes what came from a terminal by another way than the broker: it is alive, but cannot be called. Its requests come one after the other, so that the last is
// the newest whatever its clock says, which may have been put right meanwhile.
func (b *board) reported(key protocol.KeyHash, h *protocol.Health, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(key)
	e.Heard = now
	if h == nil {
		return
	}
	changed := e.Health == nil || !sameToPeople(e.Health, h)
	b.count(e, h)
	e.Health, e.Software = h, h.Software
	if changed {
		e.dirty = true
		b.notify(key)
	}
}

// count adds what a terminal has dropped since the message before. Of one that was never heard of, when it dropped what it has dropped is not known; one that tells of fewer has begun anew. b.mu is held.
func (b *board) count(e *entry, h *protocol.Health) {
	if e.Health != nil && h.Dropped > e.Health.Dropped {
		b.cost += h.Dropped - e.Health.Dropped
	}
}

// dropped returns how many events the bounds of terminals' outboxes have cost since the board was made.
func (b *board) dropped() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cost
}

// pushed is why two devices are taken to have one identity.
const pushed = "connections push each other out"

// replaced notes that the broker let a terminal in while a connection of it was open.
func (b *board) replaced(key protocol.KeyHash, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := &b.entry(key).twins; w.replaced.add(now) && w.due(now) {
		b.twice(key, pushed)
	}
}

// health takes a health message.
func (b *board) health(key protocol.KeyHash, h *protocol.Health, retained bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(key)
	if retained && e.Health != nil && h.At <= e.Health.At {
		return
	}
	changed := e.Health == nil || !sameToPeople(e.Health, h)
	b.count(e, h)
	e.Health, e.Software = h, h.Software
	if !retained {
		b.hear(e, now)
		if e.twins.started(e.session, h, now) {
			b.twice(key, "two that started at different times are connected in turn")
		}
	}
	if changed {
		e.dirty = true
		b.notify(key)
	}
}

// sameToPeople reports whether two reports differ in nothing but clocks and counters.
func sameToPeople(x, y *protocol.Health) bool {
	a, b := *x, *y
	for _, h := range []*protocol.Health{&a, &b} {
		h.At, h.Uptime, h.Pending, h.Malformed, h.Figures = 0, 0, 0, 0, nil
	}
	return reflect.DeepEqual(a, b)
}

// refused counts a message that was refused. audit is true if this one should be written to the audit log.
func (b *board) refused(key protocol.KeyHash, now time.Time) (count uint64, audit bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(key)
	e.Malformed++
	if now.Sub(e.audited) < auditInterval {
		return e.Malformed, false
	}
	e.audited = now
	return e.Malformed, true
}

// silence takes terminals that were not heard for Silence to be offline.
func (b *board) silence(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.terminals {
		if due := e.due(); e.Online && !due.After(now) {
			b.set(e, false, due)
		}
	}
}

// state returns what is known; of a terminal that was never seen, that it is offline.
func (b *board) state(key protocol.KeyHash, now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.terminals[key]
	if e == nil {
		return State{Terminal: key}
	}
	return e.at(now)
}

func (e *entry) at(now time.Time) State {
	s := e.State
	if due := e.due(); s.Online && !due.After(now) {
		s.Online, s.Since = false, due
	}
	return s
}

func (b *board) states(now time.Time) map[protocol.KeyHash]State {
	b.mu.Lock()
	defer b.mu.Unlock()
	states := make(map[protocol.KeyHash]State, len(b.terminals))
	for key, e := range b.terminals {
		states[key] = e.at(now)
	}
	return states
}

// takeDirty returns what differs from the store, and takes it as stored. That terminals were heard is stored once in heardInterval.
func (b *board) takeDirty() []State {
	b.mu.Lock()
	defer b.mu.Unlock()
	var dirty []State
	for _, e := range b.terminals {
		if e.dirty || e.Heard.Sub(e.saved) >= heardInterval {
			e.dirty, e.saved = false, e.Heard
			dirty = append(dirty, e.State)
		}
	}
	return dirty
}

// redirty undoes takeDirty for states that could not be stored.
func (b *board) redirty(states []State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range states {
		b.entry(s.Terminal).dirty = true
	}
}

// load puts stored states on the board; none of them is online before it is heard. One that was offline has been since the same time, so that what operators have said of that holds through
// a restart of the clinic's; one that was not has been since it was last heard, as far as is known.
func (b *board) load(states []State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range states {
		s.Online, s.RoundTrip = false, time.Time{}
		if s.Since.IsZero() {
			s.Since = s.Heard
		}
		b.terminals[s.Terminal] = &entry{State: s, saved: s.Heard}
	}
}

func (b *board) watch() (<-chan protocol.KeyHash, func()) {
	c := make(chan protocol.KeyHash, watchQueue)
	b.mu.Lock()
	b.watchers[c] = struct{}{}
	b.mu.Unlock()
	return c, func() {
		b.mu.Lock()
		delete(b.watchers, c)
		b.mu.Unlock()
	}
}

// changed tells the watchers of something that concerns no terminal in particular.
func (b *board) changed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notify(protocol.KeyHash{})
}

func (b *board) notify(key protocol.KeyHash) {
	for c := range b.watchers {
		select {
		case c <- key:
		default: // it has much to look at already
		}
	}
}
