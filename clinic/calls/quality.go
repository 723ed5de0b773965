package calls

import (
	"slices"

	"vindu/protocol"
)

// Spread is how often a figure was at most each of Bounds, and above all of them.
type Spread struct {
	Bounds []float64
	Counts []uint64 // one more than Bounds; not added up
	Sum    float64
}

func (s *Spread) add(v float64) {
	if s.Counts == nil {
		s.Counts = make([]uint64, len(s.Bounds)+1)
	}
	i := slices.IndexFunc(s.Bounds, func(b float64) bool { return v <= b })
	if i < 0 {
		i = len(s.Bounds)
	}
	s.Counts[i]++
	s.Sum += v
}

// Heard sums up what one side of the calls has told of their quality since the server began.
type Heard struct {
	Talked, Frozen, Concealed float64 // s, in all; of the received picture and sound
	Grade                     Spread  // mean opinion score; bounds where G.109 changes its word for the quality
	RTT                       Spread  // s
	ERLE                      Spread  // dB
	CPU                       Spread  // processors
	Heat                      Spread  // °C
}

// note adds a half of a call that was talked in.
func (h *Heard) note(half *protocol.CallRecord) {
	if h.Grade.Bounds == nil {
		h.Grade.Bounds, h.RTT.Bounds = []float64{2.58, 3.1, 3.6, 4.03, 4.34}, []float64{0.05, 0.1, 0.2, 0.4, 0.8}
		h.ERLE.Bounds, h.CPU.Bounds, h.Heat.Bounds = []float64{10, 20, 30, 40}, []float64{0.25, 0.5, 1, 2, 4}, []float64{50, 60, 70, 80, 90}
	}
	q := half.Quality
	// No call is a year long; what an end says must not spoil the sums.
	const most = 365 * 24 * 3600 * 1000
	seconds := func(ms uint64) float64 { return float64(min(ms, most)) / 1000 }
	h.Talked, h.Frozen, h.Concealed = h.Talked+seconds(half.Duration), h.Frozen+seconds(q.Frozen), h.Concealed+seconds(q.Concealed)
	for _, f := range []struct {
		of *Spread
		v  uint64
		by float64
	}{{&h.Grade, q.Grade, 100}, {&h.RTT, min(q.RTT, most), 1000}, {&h.ERLE, q.ERLE, 1}, {&h.CPU, q.CPU, 1000}, {&h.Heat, q.Heat, 1}} {
		if f.v > 0 { // 0 is not known
			f.of.add(float64(f.v) / f.by)
		}
	}
}

// heard counts a half that was kept.
func (r *Records) heard(half *protocol.CallRecord) {
	if half.Duration == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.quality == nil {
		r.quality = map[protocol.Side]*Heard{}
	}
	if r.quality[half.By] == nil {
		r.quality[half.By] = new(Heard)
	}
	r.quality[half.By].note(half)
}

// Quality returns what terminals and callers' pages have told of the calls' quality since the server began.
func (r *Records) Quality() map[protocol.Side]Heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[protocol.Side]Heard{}
	for side, h := range r.quality {
		c := *h
		for _, s := range []*Spread{&c.Grade, &c.RTT, &c.ERLE, &c.CPU, &c.Heat} {
			s.Counts = slices.Clone(s.Counts)
		}
		all[side] = c
	}
	return all
}
