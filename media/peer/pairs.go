package peer

import (
	"slices"
	"time"
)

const (
	pairsKept  = 32
	pairsLeast = 8               // fewer say nothing
	pairsFor   = 4 * time.Second // older ones neither
	pairSize   = 600             // bytes: small packets tell little
)

// pairs tells how fast a line is by packets that left together: they arrive as far apart as the line takes for the second of them (packet pairs;
// Keshav, "A Control-Theoretic Approach to Flow Control", 1991). Nearly every picture has a pair, so that it is known before a queue
// has grown, and when the line changes. One pair may be torn apart by a busy processor or joined by a radio; the median of many is neither.
type pairs struct {
	rates [pairsKept]float64
	at    [pairsKept]time.Duration
	n     int
	last  sample
	known bool // last is the packet before
	buf   [pairsKept]float64
}

// note takes a packet; they come in the order of sending.
func (p *pairs) note(s sample) {
	before, known := p.last, p.known
	p.last, p.known = s, !s.lost
	if s.lost || !known || s.size < pairSize {
		return
	}
	left, came := s.sent-before.sent, s.arrived-before.arrived
	if came <= 0 || left < 0 || 2*left > came {
		return
	}
	p.rates[p.n%pairsKept], p.at[p.n%pairsKept] = float64(s.size*8)/came.Seconds(), s.sent
	p.n++
}

// rate is the median of those that left since pairsFor before now, bit/s; 0 if they are too few.
func (p *pairs) rate(now time.Duration) float64 {
	of := p.buf[:0]
	for i := range min(p.n, pairsKept) {
		if now-p.at[i] <= pairsFor {
			of = append(of, p.rates[i])
		}
	}
	if len(of) < pairsLeast {
		return 0
	}
	slices.Sort(of)
	return of[len(of)/2]
}
