package sound

import "math"

// The curve of volumes: straight in decibels, since that is how loudness is heard. UnityVolume leaves sound as it came; the loudest is 9 dB above it, 20 % is 15 dB below.
const (
	UnityVolume      = 70  // percent
	decibelsEach     = 0.3 // percent
	limitAt          = 0.7 // of full scale (-3 dB): the limiter holds peaks there
	releaseEachFrame = 1.023
)

// Volume plays louder or softer than what came, and never clips: where louder would, a limiter takes the gain back for as long as the loud part lasts, by 20 dB
// in a second when it is over. What is left above its ceiling (the first milliseconds of a peak) is bent (tanh), not cut. It neither delays nor
// allocates. The zero Volume changes nothing. For one goroutine.
type Volume struct {
	gain float64 // wanted; 0: leave as it is
	now  float64 // of the sample before
}

// NewVolume returns the volume of a percentage from 1 to 100; 0 leaves sound as it is. Less and more count as the nearest of these.
func NewVolume(percent int) Volume {
	if percent == 0 {
		return Volume{}
	}
	gain := math.Pow(10, Decibels(percent)/20)
	return Volume{gain, gain}
}

// Decibels is how much louder a percentage is than what came.
func Decibels(percent int) float64 {
	return decibelsEach * float64(min(max(percent, 1), 100)-UnityVolume)
}

// Apply changes a frame in place.
func (v *Volume) Apply(frame []int16) {
	if v.gain == 0 || v.gain == 1 || len(frame) == 0 {
		return
	}
	if v.gain < 1 { // cannot clip
		for i, s := range frame {
			frame[i] = int16(math.Round(float64(s) * v.gain))
		}
		return
	}
	peak := 0.0
	for _, s := range frame {
		peak = max(peak, math.Abs(float64(s)))
	}
	to := min(v.gain, v.now*releaseEachFrame)
	if peak /= fullScale; peak*to > limitAt {
		to = limitAt / peak
	}
	step := (to - v.now) / float64(len(frame))
	for i, s := range frame {
		v.now += step
		frame[i] = int16(math.Round(soft(float64(s)/fullScale*v.now) * fullScale))
	}
	v.now = to
}

const fullScale = math.MaxInt16

// soft is the identity up to limitAt, and from there approaches full scale, with no edge where they meet.
func soft(x float64) float64 {
	over := math.Abs(x) - limitAt
	if over <= 0 {
		return x
	}
	return math.Copysign(limitAt+(1-limitAt)*math.Tanh(over/(1-limitAt)), x)
}
