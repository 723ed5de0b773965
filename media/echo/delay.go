package echo

/*
#cgo CFLAGS: -O3
#cgo noescape ve_lms
#cgo nocallback ve_lms
#include "lms.h"
*/
import "C"

import "math"

const (
	// The delay is looked for at 4 kHz, where a voice has most of its power, up to 300 ms.
	decimation = 12
	slowFrame  = FrameSamples / decimation
	slowRate   = 4000
	slowTaps   = 1200 // a multiple of 4

	// The canceller's filter is 48 ms long; the echo's strongest part is put here, so that what comes before it and most of what
	// follows is inside. It stays where it is until it is this far from there.
	place   = 8 * slowRate / 1000
	slack   = 14 * slowRate / 1000
	maxLate = slowTaps * decimation

	stepSize = 0.5
	// A delay counts as found when so many judgements in a row, one for each judgeEvery frames in which the far end speaks, agree
	// within 2 ms, the filter explains a part of what is heard, and its peak is far above the rest.
	judgeEvery = 10
	agreeing   = 3
	agreement  = 2 * slowRate / 1000
	explained  = 0.8  // of the power is left, at most
	prominent  = 12.0 // times the mean
)

// finder finds how much later than far its echo comes, by a normalised LMS filter (Haykin, Adaptive Filter Theory, §6) at a low rate: its
// largest coefficient is the echo's place. That is how WebRTC's third canceller finds it, too.
type finder struct {
	farLow, nearLow lowPass
	far             [slowTaps + slowFrame]float32 // oldest first
	near            [slowFrame]float32
	h               [slowTaps]float32 // h[0] goes with the oldest sample
	energy          float64           // of the newest slowTaps samples of far
	heard, left     float64           // power of near, and of what the filter does not explain
	frames          int               // in which the far end spoke
	candidate       int
	agreed          int
}

// find takes a frame of each and returns the echo's delay in samples of 48 kHz and true when it was found anew or again.
func (f *finder) find(near, far []int16) (int, bool) {
	copy(f.far[:], f.far[slowFrame:])
	f.farLow.slow(f.far[slowTaps:], far)
	f.nearLow.slow(f.near[:], near)
	// Summed anew each time: sums that are carried on drift.
	f.energy = 0
	for _, v := range f.far[:slowTaps] {
		f.energy += float64(v) * float64(v)
	}
	const quietest = slowTaps * 20 * 20
	if f.energy < quietest {
		return 0, false
	}
	C.ve_lms((*C.float)(&f.h[0]), slowTaps, (*C.float)(&f.far[0]), (*C.float)(&f.near[0]), slowFrame, stepSize, quietest/10,
		(*C.double)(&f.energy), (*C.double)(&f.heard), (*C.double)(&f.left))
	if f.frames++; f.frames%judgeEvery != 0 {
		return 0, false
	}
	return f.judge()
}

func (f *finder) judge() (int, bool) {
	peak, at, sum := float32(0), 0, float32(0)
	for i, v := range f.h {
		v *= v
		sum += v
		if v > peak {
			peak, at = v, slowTaps-1-i
		}
	}
	if f.left > explained*f.heard || float64(peak) < prominent*float64(sum)/slowTaps {
		f.agreed = 0
		return 0, false
	}
	if math.Abs(float64(at-f.candidate)) > agreement {
		f.candidate, f.agreed = at, 0
	}
	if f.agreed++; f.agreed < agreeing {
		return 0, false
	}
	return at * decimation, true
}

// lowPass is a Butterworth filter of the second order at 1.5 kHz, and takes one sample of twelve. What it lets through of higher ones is the
// same mirror image on both sides.
type lowPass struct{ x1, x2, y1, y2 float32 }

func (l *lowPass) slow(out []float32, in []int16) {
	const (
		b0 = 0.00844269
		a1 = -1.72377617
		a2 = 0.75754694
	)
	for i, s := range in {
		x := float32(s)
		y := b0*(x+2*l.x1+l.x2) - a1*l.y1 - a2*l.y2
		l.x2, l.x1, l.y2, l.y1 = l.x1, x, l.y1, y
		if i%decimation == decimation-1 {
			out[i/decimation] = y
		}
	}
}

// delayLine hands far out later.
type delayLine struct {
	ring [maxLate + 2*FrameSamples]int16
	at   int
	late int
}

// shift takes a frame and puts what came late samples earlier into out.
func (d *delayLine) shift(out, in []int16) {
	for i, v := range in {
		d.ring[d.at] = v
		from := d.at - d.late
		if from < 0 {
			from += len(d.ring)
		}
		out[i] = d.ring[from]
		if d.at++; d.at == len(d.ring) {
			d.at = 0
		}
	}
}

// follow moves the line so that an echo that comes late samples after far is in its place, and says whether it had to.
func (d *delayLine) follow(late int) bool {
	want := max(late-place*decimation, 0)
	if diff := want - d.late; diff < slack*decimation && diff > -slack*decimation {
		return false
	}
	d.late = want
	return true
}
