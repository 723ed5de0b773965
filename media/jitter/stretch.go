package jitter

import "math"

const (
	// Periods of voices: 15 ms is 67 Hz, 2.5 ms is 400 Hz.
	longestPeriod  = 720
	shortestPeriod = 120
	// How alike two periods have to be for one to stand for both, and how alike if it has to be.
	alike, somewhatAlike = 0.9, 0.5
	// Below this mean square (−60 dBFS) everything is alike.
	silent = 33 * 33
	// The search is at every fourth sample first.
	coarse = 4
)

// period finds after how many samples pcm repeats itself, within half its length, and how well: 1 is exactly. Silence repeats itself.
func period(pcm []int16) (int, float64) {
	window := min(len(pcm)/2, longestPeriod)
	if window < shortestPeriod {
		return 0, 0
	}
	sum := 0.0
	for _, v := range pcm[:2*window] {
		sum += float64(v) * float64(v)
	}
	if sum < silent*float64(2*window) {
		return window, 1
	}
	best, at := -1.0, 0
	for lag := shortestPeriod; lag <= window; lag += coarse {
		if l := likeness(pcm, lag, window, coarse); l > best {
			best, at = l, lag
		}
	}
	middle := at
	best = -1
	for lag := max(middle-coarse, shortestPeriod); lag <= min(middle+coarse, window); lag++ {
		if l := likeness(pcm, lag, window, 1); l > best {
			best, at = l, lag
		}
	}
	return at, best
}

func likeness(pcm []int16, lag, window, step int) float64 {
	var ab, aa, bb float64
	for i := 0; i < window; i += step {
		a, b := float64(pcm[i]), float64(pcm[i+lag])
		ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
	}
	return ab / math.Sqrt(aa*bb+1)
}

// shorten leaves a period of pcm's beginning out, if it repeats itself, and returns how many samples it is shorter. must asks for it though it
// repeats itself badly.
func shorten(pcm []int16, must bool) int {
	lag, like := period(pcm)
	if lag == 0 || like < alike && !(must && like > somewhatAlike) {
		return 0
	}
	fade(pcm[:lag], pcm[:lag], pcm[lag:2*lag])
	copy(pcm[lag:], pcm[2*lag:])
	return lag
}

// stretch says a period of the first n samples of pcm twice, if it repeats itself and there is room, and returns how many samples there are
// more.
func stretch(pcm []int16, n int) int {
	lag, like := period(pcm[:n])
	if lag == 0 || like < alike || n+lag > len(pcm) {
		return 0
	}
	copy(pcm[2*lag:n+lag], pcm[lag:n])
	// What followed the first period becomes the first one again, by the end of it.
	fade(pcm[lag:2*lag], pcm[2*lag:3*lag], pcm[:lag])
	return lag
}

// fade goes from a to b within out, all of one length. out may be a.
func fade(out, a, b []int16) {
	for i := range out {
		w := i * 256 / len(out)
		out[i] = int16((int(a[i])*(256-w) + int(b[i])*w) >> 8)
	}
}
