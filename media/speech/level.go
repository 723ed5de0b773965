package speech

import (
	"fmt"
	"math"

	"vindu/media/sound"
)

const (
	// Loudness is how loud the loud parts of what is said are: the power of frames of 20 ms, of full scale.
	loudness = 0.1 // −20 dBFS, which is how loud a caller comes who is levelled well
	// peak is what no sample is above.
	peak = 0.5 // −6 dBFS

	frameOf = sound.Rate / 50
	// A frame counts as loud if it is not more than this softer than the loudest, and as silence if it is softer than silent.
	loudBelow = 0.05  // −26 dB
	silent    = 0.002 // −54 dBFS, after levelling
	// Silence around is cut to margin; fade is how fast sound begins and ends.
	margin = sound.Rate / 50
	fade   = sound.Rate / 100

	taps = 32 // of the filter at a phase
)

// resample brings samples to 48 kHz, by a windowed sinc for each phase.
func resample(in []int16, rate int) []int16 {
	if rate == sound.Rate {
		return in
	}
	g := gcd(rate, sound.Rate)
	up, down := sound.Rate/g, rate/g // out[n] is at in[n·down/up]
	table := make([][taps]float32, up)
	for phase := range table {
		sum := float32(0)
		for k := range table[phase] {
			x := float64(k-taps/2+1) - float64(phase)/float64(up)
			c := 1.0
			if x != 0 {
				c = math.Sin(math.Pi*x) / (math.Pi * x)
			}
			w := 0.5 + 0.5*math.Cos(2*math.Pi*x/taps)
			table[phase][k] = float32(c * w)
			sum += table[phase][k]
		}
		for k := range table[phase] {
			table[phase][k] /= sum
		}
	}
	out := make([]int16, int(int64(len(in))*int64(up)/int64(down)))
	for n := range out {
		at := int64(n) * int64(down)
		first, row := int(at/int64(up))-taps/2+1, &table[at%int64(up)]
		sum := float32(0)
		for k, c := range row {
			if i := first + k; i >= 0 && i < len(in) {
				sum += c * float32(in[i])
			}
		}
		out[n] = int16(max(math.MinInt16, min(math.MaxInt16, sum)))
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// finish brings what is said to one loudness, cuts the silence around it, and has it begin and end softly.
func finish(samples []int16) ([]int16, error) {
	var power []float64
	loudest, top := 0.0, 0.0
	for at := 0; at < len(samples); at += frameOf {
		sum := 0.0
		for _, v := range samples[at:min(at+frameOf, len(samples))] {
			x := float64(v) / math.MaxInt16
			sum += x * x
			top = max(top, math.Abs(x))
		}
		power = append(power, sum/frameOf)
		loudest = max(loudest, sum/frameOf)
	}
	sum, n := 0.0, 0
	for _, p := range power {
		if p >= loudest*loudBelow*loudBelow && p > 0 {
			sum, n = sum+p, n+1
		}
	}
	if n == 0 || top < 0.001 {
		return nil, fmt.Errorf("%w: silence", ErrAnswer)
	}
	gain := min(loudness/math.Sqrt(sum/float64(n)), peak/top)
	from, to := len(samples), 0
	for i, v := range samples {
		x := float64(v) * gain
		samples[i] = int16(math.Round(x))
		if math.Abs(x) > silent*math.MaxInt16 {
			from, to = min(from, i), i+1
		}
	}
	if from >= to {
		return nil, fmt.Errorf("%w: silence", ErrAnswer)
	}
	samples = samples[max(from-margin, 0):min(to+margin, len(samples))]
	for i := range min(fade, len(samples)/2) {
		part := float64(i) / fade
		samples[i] = int16(float64(samples[i]) * part)
		last := len(samples) - 1 - i
		samples[last] = int16(float64(samples[last]) * part)
	}
	return samples, nil
}
