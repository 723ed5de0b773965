package fleet

import (
	"time"

	"vindu/protocol"
)

const (
	// aliveAgain is the time within which a start that comes back proves two processes, and startError how exactly a start is known.
	aliveAgain = 5 * time.Minute
	startError = 2 * time.Second
	// manyTakeovers connections that push each other out within takeoverTime are more than a bad line makes: a terminal notices the loss
	// of its connection after its keep-alive at the earliest, and waits longer each time.
	manyTakeovers = 6
	takeoverTime  = 3 * time.Minute
	// twinsAgain is how often the same terminal is told of.
	twinsAgain = 10 * time.Minute
)

// twins finds out that two devices are connected with one identity: a copy was made. The broker lets the newer connection push the
// older one out, so the two are seen in turn, and each comes back. One device that restarts never has a start again that it had
// before; two in turn do:
//
//	connection 1, started at 8:00 → connection 2, started at 9:30 → connection 3, started at 8:00
//
// Where copies started in the same instant, or tell something else, the number of connections that are pushed out gives them away. Presence tells of those
// that say something, the broker, if it is the embedded one, of all. A copy that keeps quiet and comes seldom is found by its certificate
// (register.Shown).
type twins struct {
	said     takeovers  // by presence
	replaced takeovers  // by the broker
	seen     []sighting // the latest two that differ in start, oldest first
	told     time.Time
}

// takeovers are the latest manyTakeovers, oldest first.
type takeovers []time.Time

type sighting struct {
	session protocol.Nonce
	start   time.Time
	heard   time.Time
}

// add notes that a connection was replaced by another without its end having been noticed; it reports whether they are too many.
func (t *takeovers) add(now time.Time) bool {
	*t = append(*t, now)
	if len(*t) > manyTakeovers {
		*t = (*t)[1:]
	}
	return len(*t) == manyTakeovers && now.Sub((*t)[0]) <= takeoverTime
}

// started notes when what is on the other end of a connection says that it was started; it reports whether that proves two of them.
func (w *twins) started(session protocol.Nonce, h *protocol.Health, now time.Time) bool {
	s := sighting{session, h.At.Time().Add(-time.Duration(h.Uptime) * time.Second), now}
	if n := len(w.seen); n > 0 && s.same(w.seen[n-1]) {
		w.seen[n-1] = s
		return false
	}
	back := len(w.seen) == 2 && s.same(w.seen[0]) && now.Sub(w.seen[0].heard) <= aliveAgain &&
		s.session != w.seen[0].session && s.session != w.seen[1].session && w.seen[0].session != w.seen[1].session
	w.seen = append(w.seen, s)
	if len(w.seen) > 2 {
		w.seen = w.seen[1:]
	}
	return back && w.due(now)
}

func (s sighting) same(o sighting) bool { return s.start.Sub(o.start).Abs() <= startError }

func (w *twins) due(now time.Time) bool {
	if !w.told.IsZero() && now.Sub(w.told) < twinsAgain {
		return false
	}
	w.told = now
	return true
}
