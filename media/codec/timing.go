package codec

import "fmt"

// timing learns the frame rate from the time stamps of pictures, and keeps the clock that a rate control sees.
type timing struct {
	tick    float64 // smoothed frame interval, in 90 kHz units
	last    int64   // pts of the last picture
	clock   int64   // time as the rate control sees it, without the pauses
	started bool
}

// step takes the next picture's time stamp and returns the time since the one before as the rate control sees it.
func (t *timing) step(pts int64) (ticks float64, err error) {
	ticks = t.tick
	if t.started {
		step := pts - t.last
		if step <= 0 {
			return 0, fmt.Errorf("time stamp %d after %d does not increase", pts, t.last)
		}
		// A pause (ringing, camera away) says nothing about the frame rate. A rate control would take it for one very long frame
		// and spend the bits of all of it on the next.
		if step < pause {
			t.tick += (float64(step) - t.tick) / 16
			t.clock += step
			ticks = float64(step)
		} else {
			t.clock += int64(t.tick)
		}
	}
	t.last, t.started = pts, true
	return ticks, nil
}
