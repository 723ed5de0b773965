package inspect

import (
	"math"
	"math/bits"
	"math/cmplx"
	"time"
)

// The chirp: a linear sweep that small loudspeakers play and that is soon over.
const (
	rate          = 48000
	chirpSamples  = rate * 4 / 10
	chirpFrom     = 500.0  // Hz
	chirpTo       = 5000.0 // Hz
	chirpLoudness = 0.25   // of full scale: -12 dBFS at its peak
	chirpFade     = rate / 50
)

// clear is the clarity from which the chirp was heard. Sound without one (noise, hum, speech, clicks: TestFindChirp) gives at most 5.
const clear = 8.0

// The peak's surroundings, which say nothing about the noise: the sweep's own side lobes before it, a room's echoes after it.
const (
	lobes  = rate / 100
	echoes = rate / 4
)

// margin is what sound has to have beyond the chirp and its surroundings, so that there is something to compare with.
const margin = rate / 10

// Chirp returns the sweep that FindChirp finds: 0.4 s from 500 Hz to 5 kHz at -12 dBFS, faded in and out.
func Chirp() []int16 {
	chirp := make([]int16, chirpSamples)
	for i := range chirp {
		t := float64(i) / rate
		const length = float64(chirpSamples) / rate
		phase := 2 * math.Pi * (chirpFrom*t + (chirpTo-chirpFrom)*t*t/(2*length))
		fade := min(float64(i), float64(chirpSamples-1-i)) / chirpFade
		chirp[i] = int16(chirpLoudness * math.MaxInt16 * min(fade, 1) * math.Sin(phase))
	}
	return chirp
}

// Echo is what FindChirp found.
type Echo struct {
	Heard bool
	// Delay is from the first sample to the chirp's first, to the sample's precision.
	Delay time.Duration
	// Clarity is how far the matched filter's peak stands out of what it gives elsewhere, as a ratio of amplitudes.
	Clarity float64
	// Likeness is the correlation with the chirp, from 0 to 1, of the sound at Delay.
	Likeness float64
}

// FindChirp looks for a Chirp in sound, which has to be at least 0.8 s long and to hold all of it. The chirp may be 15 dB quieter than white
// noise around it.
func FindChirp(heard []int16) Echo {
	chirp := Chirp()
	if len(heard) < len(chirp)+lobes+echoes+margin {
		return Echo{}
	}
	size := 1 << bits.Len(uint(len(heard)+len(chirp)-1))
	a, b := make([]complex128, size), make([]complex128, size)
	for i, s := range heard {
		a[i] = complex(float64(s), 0)
	}
	energy := 0.0
	for i, s := range chirp {
		b[i] = complex(float64(s), 0)
		energy += float64(s) * float64(s)
	}
	transform(a, false)
	transform(b, false)
	for i := range a {
		// Only positive frequencies: what comes back is analytic, and its size the envelope.
		if i == 0 || i >= size/2 {
			a[i] = 0
			continue
		}
		a[i] *= 2 * cmplx.Conj(b[i])
	}
	transform(a, true)
	places := len(heard) - len(chirp) + 1
	envelope := make([]float64, places)
	best := 0
	for i := range envelope {
		envelope[i] = cmplx.Abs(a[i]) / float64(size)
		if envelope[i] > envelope[best] {
			best = i
		}
	}
	window := 0.0
	for _, s := range heard[best : best+len(chirp)] {
		window += float64(s) * float64(s)
	}
	if window == 0 {
		return Echo{}
	}
	e := Echo{
		Delay:    time.Duration(best) * time.Second / rate,
		Likeness: envelope[best] / math.Sqrt(energy*window),
		Clarity:  math.Inf(1),
	}
	if around := elsewhere(envelope, best); around > 0 {
		e.Clarity = envelope[best] / around
	}
	e.Heard = e.Clarity >= clear
	return e
}

// elsewhere is the root mean square of what is neither about the peak at best nor its echoes.
func elsewhere(envelope []float64, best int) float64 {
	before, after := max(best-lobes, 0), min(best+echoes, len(envelope))
	var squares, n float64
	for _, part := range [][]float64{envelope[:before], envelope[after:]} {
		for _, v := range part {
			squares += v * v
			n++
		}
	}
	return math.Sqrt(squares / n)
}

// transform is the discrete Fourier transform of len(x), a power of two, in place; the inverse is not divided by the length (Cooley and
// Tukey, 1965, radix 2).
func transform(x []complex128, inverse bool) {
	n := len(x)
	shift := bits.UintSize - bits.Len(uint(n-1))
	if n == 1 {
		return
	}
	for i := range x {
		if j := int(bits.Reverse(uint(i)) >> shift); i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	sign := -2 * math.Pi
	if inverse {
		sign = -sign
	}
	turns := make([]complex128, n/2)
	for i := range turns {
		turns[i] = cmplx.Rect(1, sign*float64(i)/float64(n))
	}
	for half := 1; half < n; half *= 2 {
		step := n / (2 * half)
		for start := 0; start < n; start += 2 * half {
			for k := range half {
				even, odd := x[start+k], x[start+k+half]*turns[k*step]
				x[start+k], x[start+k+half] = even+odd, even-odd
			}
		}
	}
}
