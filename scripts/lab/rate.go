package lab

import (
	"fmt"
	"slices"
	"time"
)

// Rate is how often something happened, per second.
type Rate struct {
	Mean  float64 // over all of the time
	Worst float64 // in the worst window, of which one begins each second
}

func (r Rate) String() string { return fmt.Sprintf("%.1f/s, at worst %.1f/s", r.Mean, r.Worst) }

// RateOf counts events that happened at the times given, within total.
func RateOf(events []time.Duration, total, window time.Duration) Rate {
	count := func(from, to time.Duration) (n int) {
		for _, at := range events {
			if at >= from && at < to {
				n++
			}
		}
		return n
	}
	rate := Rate{Mean: float64(count(0, total)) / total.Seconds()}
	rate.Worst = rate.Mean
	for from := time.Duration(0); from+window <= total; from += time.Second {
		rate.Worst = min(rate.Worst, float64(count(from, from+window))/window.Seconds())
	}
	return rate
}

// Moving are the times at which a position differed from the one before.
func Moving(at []time.Duration, position []int) []time.Duration {
	var moved []time.Duration
	for i := 1; i < len(position); i++ {
		if position[i] != position[i-1] {
			moved = append(moved, at[i])
		}
	}
	return moved
}

// BarFrames looks at each frame's bars: when it was shown, and where they were. It is an error if a frame has not the
// bars that it should have, or not this size.
func (w Watched) BarFrames(width, height int) (at []time.Duration, phase []int, err error) {
	for _, frame := range w.Frames {
		if frame.Width != width || frame.Height != height {
			return nil, nil, fmt.Errorf("after %s the picture is %d×%d, not %d×%d", frame.At, frame.Width, frame.Height, width, height)
		}
		bars, err := ReadBars(frame.Row)
		if err != nil {
			return nil, nil, fmt.Errorf("after %s: %w", frame.At, err)
		}
		at, phase = append(at, frame.At), append(phase, bars.Phase)
	}
	return at, phase, nil
}

// distinct counts different values.
func distinct(values []int) int {
	values = slices.Clone(values)
	slices.Sort(values)
	return len(slices.Compact(values))
}
