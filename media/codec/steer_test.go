package codec

import (
	"math"
	"testing"
)

// An encoder that is off by some percent, as libvpx is, and late, sends what it was asked to.
func TestSteer(t *testing.T) {
	for _, off := range []float64{-0.12, -0.05, 0, 0.05, 0.12} {
		for _, fps := range []int{30, 15, 8} {
			const target = 300_000
			var s steer
			sent, lag := 0.0, float64(target)
			for i := range fps * 10 {
				lag += (float64(s.rate(target)) - lag) / float64(fps) // a second behind
				bits := lag * (1 + off) / float64(fps)
				s.note(int(bits), videoClock/float64(fps))
				if i >= fps*5 {
					sent += bits
				}
			}
			if got := sent / 5 / target; math.Abs(got-1) > 0.02 {
				t.Errorf("off by %.2f at %d fps: %.3f of the target", off, fps, got)
			}
		}
	}
}

// A target that wanders is held as one that stands: what is off stays known.
func TestSteerWanders(t *testing.T) {
	const off, fps = -0.1, 30
	var s steer
	sent, wanted, lag := 0.0, 0.0, 300_000.0
	for i := range fps * 10 {
		target := 300_000 + 9_000*(i/6%3-1) // five times a second
		lag += (float64(s.rate(target)) - lag) / fps
		bits := lag * (1 + off) / fps
		s.note(int(bits), videoClock/float64(fps))
		if i >= fps*5 {
			sent, wanted = sent+bits, wanted+float64(target)/fps
		}
	}
	if got := sent / wanted; math.Abs(got-1) > 0.03 {
		t.Errorf("%.3f of the target", got)
	}
}

// A picture that stands still saves nothing up for when it moves, and a new target is taken at once.
func TestSteerForgets(t *testing.T) {
	var s steer
	for range 3000 {
		s.rate(300_000)
		s.note(0, 3000)
	}
	if got := s.rate(300_000); got > 345_000 {
		t.Errorf("asks for %d after a still picture", got)
	}
	if got := s.rate(100_000); got != 100_000 {
		t.Errorf("asks for %d of a new target", got)
	}
}
