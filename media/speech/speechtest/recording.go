package speechtest

import (
	"math"
	"math/bits"
	"math/cmplx"
)

// Shortened is by how much sound is made shorter to be compared: from 48 kHz to 6.
const Shortened = 8

// Recording is sound to find phrases in: 48 kHz, one channel.
type Recording struct {
	samples []float64
	power   []float64 // of all samples before
	hush    float64   // a frequency that does not count; 0: none
}

// NewRecording makes one of samples. A tone at hush, in Hz, is left out of all comparisons; 0: none.
func NewRecording(samples []int16, hush float64) *Recording {
	short := shorten(samples, hush)
	r := &Recording{short, make([]float64, len(short)+1), hush}
	for i, v := range short {
		r.power[i+1] = r.power[i] + v*v
	}
	return r
}

// Find returns where, from one sample to before another, a phrase begins, and how like it what is there is: 1 is the same, whatever its loudness. What is softer than the
// phrase by more than 30 dB does not count.
func (r *Recording) Find(phrase []int16, from, to int) (at int, likeness float64) {
	short := shorten(phrase, r.hush)
	first := from / Shortened
	last := min(to/Shortened, len(r.samples)-len(short))
	if first >= last {
		return from, 0
	}
	part := r.samples[first : last+len(short)]
	n := 1 << bits.Len(uint(len(part)+len(short)))
	bins, own, power := make([]complex128, n), make([]complex128, n), 0.0
	for i, v := range part {
		bins[i] = complex(v, 0)
	}
	for i, v := range short {
		own[i] = complex(v, 0)
		power += v * v
	}
	transform(bins, false)
	transform(own, false)
	for i := range bins {
		bins[i] *= cmplx.Conj(own[i])
	}
	transform(bins, true)
	for i := range last - first {
		there := r.power[first+i+len(short)] - r.power[first+i]
		if there < power/1000 {
			continue
		}
		if l := real(bins[i]) / math.Sqrt(power*there); l > likeness {
			at, likeness = (first+i)*Shortened, l
		}
	}
	return at, likeness
}

// Loudness is the root mean square between two samples, of full scale, without the tone that does not count.
func (r *Recording) Loudness(from, to int) float64 {
	from, to = max(from/Shortened, 0), min(to/Shortened, len(r.samples))
	if to <= from {
		return 0
	}
	return math.Sqrt((r.power[to]-r.power[from])/float64(to-from)) / math.MaxInt16
}

// shorten is sound at 6 kHz, without a tone.
func shorten(samples []int16, hush float64) []float64 {
	out := make([]float64, len(samples)/Shortened)
	for i := range out {
		for _, v := range samples[i*Shortened : (i+1)*Shortened] {
			out[i] += float64(v) / Shortened
		}
	}
	if hush == 0 {
		return out
	}
	// A notch: zeros on the unit circle, poles just within it.
	const rate, near = 48000 / Shortened, 0.97
	c := 2 * math.Cos(2*math.Pi*hush/rate)
	var x1, x2, y1, y2 float64
	for i, x := range out {
		y := x - c*x1 + x2 + near*c*y1 - near*near*y2
		x1, x2, y1, y2 = x, x1, y, y1
		out[i] = y
	}
	return out
}

// transform is the discrete Fourier transform of a power of two, in place.
func transform(x []complex128, inverse bool) {
	n := len(x)
	for i, j := 1, 0; i < n; i++ {
		bit := n >> 1
		for ; j&bit != 0; bit >>= 1 {
			j ^= bit
		}
		j ^= bit
		if i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	for size := 2; size <= n; size <<= 1 {
		angle := -2 * math.Pi / float64(size)
		if inverse {
			angle = -angle
		}
		turn := cmplx.Rect(1, angle)
		for from := 0; from < n; from += size {
			w := complex(1, 0)
			for k := range size / 2 {
				a, b := x[from+k], x[from+k+size/2]*w
				x[from+k], x[from+k+size/2] = a+b, a-b
				w *= turn
			}
		}
	}
	if inverse {
		for i := range x {
			x[i] /= complex(float64(n), 0)
		}
	}
}
