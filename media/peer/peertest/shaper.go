package peertest

import (
	"math/rand/v2"
	"time"
)

// packetHead is what IPv4 and UDP add to each packet on a real line, bytes.
const packetHead = 28

// Fate is what a Shaper does with a packet.
type Fate int

// The fates.
const (
	Passes Fate = iota + 1
	Lost        // by the air
	NoRoom      // the queue before the bottleneck was full
)

// Shaper decides what a bad line does to packets: first loss, then the queue before a bottleneck, then delay. It keeps no clock: times
// are what it is told, so that a simulated call and a real one go over the same line. The same seed gives the same line.
type Shaper struct {
	way  Way
	rand *rand.Rand
	n    int
	free time.Duration // when the bottleneck has sent all that waits
	last time.Duration // when the packet before arrives, for lines that keep the order
	bad  bool          // in a burst of losses
}

// NewShaper makes one that does what w says.
func NewShaper(w Way) *Shaper {
	if w.Queue == 0 {
		w.Queue = 32_000
	}
	return &Shaper{way: w, rand: rand.New(rand.NewPCG(w.Seed, 0x76696e6475))}
}

// Admit takes a packet with size bytes of UDP payload at the time now, which never goes back. It says what becomes of it, when it
// arrives if it Passes, and how long it waited for the bottleneck.
func (s *Shaper) Admit(now time.Duration, size int) (fate Fate, arrives, waited time.Duration) {
	s.n++
	if s.way.Lose != nil && s.way.Lose(s.n) || s.lost() {
		return Lost, 0, 0
	}
	out := now
	if rate := s.way.rate(now); rate > 0 {
		s.free = max(s.free, now)
		waited = s.free - now
		if waited.Seconds()*float64(rate)/8 > float64(s.way.Queue) {
			return NoRoom, 0, waited
		}
		s.free += time.Duration(float64((size+packetHead)*8) / float64(rate) * float64(time.Second))
		out = s.free
	}
	arrives = out + s.way.Delay
	if s.way.Jitter > 0 {
		arrives += time.Duration((2*s.rand.Float64() - 1) * float64(s.way.Jitter))
	}
	if !s.way.Reorder {
		arrives = max(arrives, s.last)
	}
	arrives = max(arrives, now)
	s.last = max(s.last, arrives)
	return Passes, arrives, waited
}

// lost draws for one packet.
func (s *Shaper) lost() bool {
	if s.way.Loss <= 0 {
		return false
	}
	if !s.way.Bursts {
		return s.rand.Float64() < s.way.Loss
	}
	// Gilbert's model: a burst goes on with four in five, and begins as often as makes Loss the share of all.
	const goesOn = 0.8
	if s.bad {
		s.bad = s.rand.Float64() < goesOn
	} else {
		s.bad = s.rand.Float64() < s.way.Loss*(1-goesOn)/(1-s.way.Loss)
	}
	return s.bad
}

func (w Way) rate(now time.Duration) int {
	if w.RateAt != nil {
		return w.RateAt(now)
	}
	return w.Rate
}
