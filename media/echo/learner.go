package echo

import "math"

const (
	// Mean squares of samples.
	audible = 100 * 100 // −50 dBFS: the far end speaks
	floor   = 1.0       // so that silence has a logarithm

	// The echo of a frame can be heard for so many frames after it: a USB loudspeaker's delay and the room's.
	tail = 30
	// The room is known when so many frames of the far end's speech have passed and its echo is this much weaker,
	knownAfter = 50
	knownAt    = 15.0 // dB
	// or after so many whatever is heard, since both may be speaking, or there may be no echo.
	knownAnyway = 150

	// What is heard meanwhile is attenuated to this, within a frame, and comes back over five.
	quiet   = 0.0316 // −30 dB
	comeUp  = (1 - quiet) / (5 * FrameSamples)
	smooth  = 0.01 // per frame of the ERLE: a second
	hurried = 0.05 // the same while the room is not known yet
)

// learner judges, from powers alone, how well the room is known, and attenuates what is heard until it is.
type learner struct {
	learning  bool
	spoken    int // frames in which the far end spoke
	reverbs   int // frames for which its echo may still be heard
	in, out   float64
	gain      float32
	wantsGain float32
}

func newLearner() learner { return learner{learning: true, gain: 1, wantsGain: 1} }

// again begins anew: the echo is elsewhere.
func (l *learner) again() { l.learning, l.spoken, l.in, l.out = true, 0, 0, 0 }

func power(frame []int16) float64 {
	sum := 0.0
	for _, v := range frame {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(frame))
}

// hear takes the mean squares of a frame of the far end, and of what was captured meanwhile before and after cancelling.
func (l *learner) hear(far, before, after float64) {
	l.reverbs--
	if far > audible {
		l.spoken++
		l.reverbs = tail
	}
	if l.reverbs <= 0 {
		l.wantsGain = 1
		return
	}
	alpha := smooth
	if l.learning {
		alpha = hurried
	}
	l.in += alpha * (before - l.in)
	l.out += alpha * (after - l.out)
	if l.learning && (l.spoken > knownAnyway || l.spoken > knownAfter && l.erle() > knownAt) {
		l.learning = false
	}
	l.wantsGain = 1
	if l.learning {
		l.wantsGain = quiet
	}
}

// erle is in dB.
func (l *learner) erle() float64 {
	return max(10*math.Log10((l.in+floor)/(l.out+floor)), 0)
}

// attenuate goes down within the frame, and up slowly.
func (l *learner) attenuate(frame []int16) {
	if l.gain == 1 && l.wantsGain == 1 {
		return
	}
	step := float32(comeUp)
	if l.wantsGain < l.gain {
		step = (l.wantsGain - l.gain) / FrameSamples
	}
	for i := range frame {
		if l.gain += step; step > 0 {
			l.gain = min(l.gain, l.wantsGain)
		} else {
			l.gain = max(l.gain, l.wantsGain)
		}
		frame[i] = int16(float32(frame[i]) * l.gain)
	}
}
