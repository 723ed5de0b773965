package link

import (
	"fmt"
	"math/rand/v2"
	"time"

	"vindu/protocol"
)

// Trip is how the way through the broker to the clinic and back stands.
type Trip struct {
	Up   bool
	From time.Time     // when the last message came back, or the link came up if none did
	Took time.Duration // for it; 0 if none did
}

// Trip returns the last round trip. That the link is up says only that the broker is there.
func (l *Link) Trip() Trip {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.trip
	t.Up = l.current != nil
	return t
}

// saying is what presence counts in a session.
type saying struct {
	presence protocol.Presence
	at       time.Time // when it was last said
	news     bool      // it is to be said now
}

// firstBeat is by chance, so that an answer to an earlier session is not taken for one to this.
func firstBeat() uint64 { return 1 + uint64(rand.Uint32()) }

// say says presence, with a number that the clinic answers.
func (r *running) say(retained bool) error {
	r.saying.news = false
	r.saying.presence.Beat++
	message, err := protocol.Encode(&r.saying.presence)
	if err != nil {
		return fmt.Errorf("encode presence: %w", err)
	}
	r.saying.at = time.Now()
	return r.publish(protocol.OutPresence, retained, message)
}

// heard takes the clinic's answer to a presence. An answer by way of a broker that holds messages back is none to the latest.
func (r *running) heard(m *protocol.Command) {
	p := &r.saying.presence
	if m.Beat > p.Beat || m.Beat <= p.Heard {
		return
	}
	p.Heard = m.Beat
	r.saying.news = m.Confirm
	if m.Beat != p.Beat {
		return
	}
	now := time.Now()
	r.mu.Lock()
	r.trip.From, r.trip.Took = now, now.Sub(r.saying.at)
	r.mu.Unlock()
}
