package jitter

import (
	"math"
	"testing"
)

// Sound of one pitch is shortened and stretched by whole periods, and nothing jumps.
func TestStretch(t *testing.T) {
	for name, sound := range map[string]func(i int) float64{
		"110 Hz": func(i int) float64 { return 8000 * math.Sin(2*math.Pi*110*float64(i)/48000) },
		"220 Hz": func(i int) float64 { return 8000 * math.Sin(2*math.Pi*220*float64(i)/48000) },
		"vowel": func(i int) float64 {
			return 4000*math.Sin(2*math.Pi*130*float64(i)/48000) + 3000*math.Sin(2*math.Pi*1040*float64(i)/48000+1)
		},
		"silence":    func(int) float64 { return 0 },
		"loud pulse": func(i int) float64 { return 32000 * math.Pow(math.Sin(math.Pi*150*float64(i)/48000), 8) },
	} {
		t.Run(name, func(t *testing.T) {
			pcm := make([]int16, 4000)
			most := func(pcm []int16) (m float64) {
				for i := range pcm[1:] {
					m = max(m, math.Abs(float64(pcm[i+1])-float64(pcm[i])))
				}
				return m
			}
			fill := func() {
				for i := range pcm {
					pcm[i] = int16(sound(i))
				}
			}
			fill()
			steps := most(pcm)*1.1 + 20
			const n = 1440
			less := shorten(pcm[:n], false)
			if less < shortestPeriod || less > longestPeriod {
				t.Fatalf("shortened by %d", less)
			}
			for i := range pcm[:n-less] { // a whole number of periods is missing
				if d := math.Abs(float64(pcm[i]) - sound(i)); i < 10 && d > 40 {
					t.Errorf("sample %d is off by %.0f", i, d)
				}
			}
			if m := most(pcm[:n-less]); m > steps {
				t.Errorf("a step of %.0f after shortening, %.0f before", m, steps)
			}
			fill()
			more := stretch(pcm, n)
			if more < shortestPeriod || more > longestPeriod {
				t.Fatalf("stretched by %d", more)
			}
			if m := most(pcm[:n+more]); m > steps {
				t.Errorf("a step of %.0f after stretching, %.0f before", m, steps)
			}
			if got, want := pcm[n+more-1], int16(sound(n-1)); got != want {
				t.Errorf("ends with %d, want %d", got, want)
			}
		})
	}
}

func TestWhatDoesNotRepeatIsLeft(t *testing.T) {
	pcm := make([]int16, 2000)
	seed := uint32(1)
	for i := range pcm {
		seed = seed*1664525 + 1013904223
		pcm[i] = int16(seed>>16) / 2
	}
	if n := shorten(pcm[:1440], true); n != 0 {
		t.Errorf("noise was shortened by %d", n)
	}
	if n := stretch(pcm, 1440); n != 0 {
		t.Errorf("noise was stretched by %d", n)
	}
	for _, n := range []int{0, 1, 100, 239} {
		clear(pcm)
		if shorten(pcm[:n], true) != 0 || stretch(pcm, n) != 0 {
			t.Errorf("%d samples are too few", n)
		}
	}
	if n := stretch(pcm[:1440], 1440); n != 0 {
		t.Error("stretched without room")
	}
}
