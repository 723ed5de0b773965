package sound

import (
	"math"
	"testing"
)

// Ten minutes of clocks that differ, and drivers that know their position to 5 ms only.
func TestFollower(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ppm      float64
		coarse   float64 // samples
		oneClock bool
		off      float64 // samples, after a minute
	}{
		{"one clock", 0, 240, true, 240},
		{"two clocks, exact", 200, 1, false, 1},
		{"two clocks, coarse", 200, 240, false, 60},
		{"two clocks, coarse, the other way", -200, 240, false, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := follower{oneClock: tt.oneClock}
			seed := uint32(9)
			truth, most, last, step := 1000.0, 0.0, 0.0, 0.0
			for i := range 60_000 {
				seed = seed*1664525 + 1013904223
				truth += tt.ppm * 1e-6 * FrameSamples
				got := f.next(truth+tt.coarse*(float64(seed)/(1<<31)-1), i%7 != 3)
				if i > 6000 {
					most = max(most, math.Abs(got-truth))
					step = max(step, math.Abs(got-last))
				}
				last = got
			}
			t.Logf("at most %.2f samples off, steps of %.3f", most, step)
			if most > tt.off {
				t.Errorf("%.1f samples off, want %.0f", most, tt.off)
			}
			if step > 2 {
				t.Errorf("a step of %.2f samples", step)
			}
		})
	}
}

// Sound that was lost on one side moves the distance at once, and not each time that a measurement is wrong.
func TestFollowerAfterALoss(t *testing.T) {
	f := follower{oneClock: true}
	for range 100 {
		f.next(500, true)
	}
	for range lostFrames {
		if got := f.next(3000, true); got != 500 {
			t.Fatalf("followed a single error to %.0f", got)
		}
	}
	for range lostFrames + settleFrames + 2 {
		f.next(3000, true)
	}
	if got := f.next(3000, true); got != 3000 {
		t.Errorf("is at %.0f, want 3000", got)
	}
}
