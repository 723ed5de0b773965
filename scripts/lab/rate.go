package lab

import (
	"fmt"
	"image"
	"slices"
	"time"
)

// Rate is how often something happened, per second.
type Rate struct {
	Mean  float64 // over all of the time
	Worst float64 // in the worst window, of which one begins each second

	Events int // in all of the time
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
	rate := Rate{Events: count(0, total)}
	rate.Mean = float64(rate.Events) / total.Seconds()
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

// barFrames are the frames of the bars among those that were watched.
type barFrames struct {
	at    []time.Duration // of the good ones
	phase []int           // and where their bars were
	small int             // good ones that are smaller than the first size
	bad   int
	err   error // what was wrong with the first bad one
}

// Bars looks at each frame: the good ones are of one of these sizes and have the bars that they should have.
func (w Watched) Bars(sizes ...image.Point) (frames barFrames) {
	for _, frame := range w.Frames {
		bars, err := ReadBars(frame.Row)
		size := image.Pt(frame.Width, frame.Height)
		if !slices.Contains(sizes, size) {
			err = fmt.Errorf("the picture is %v, not one of %v", size, sizes)
		}
		if err != nil {
			if frames.bad++; frames.err == nil {
				frames.err = fmt.Errorf("after %s: %w", frame.At, err)
			}
			continue
		}
		if size != sizes[0] {
			frames.small++
		}
		frames.at, frames.phase = append(frames.at, frame.At), append(frames.phase, bars.Phase)
	}
	return frames
}

// distinct counts different values.
func distinct(values []int) int {
	values = slices.Clone(values)
	slices.Sort(values)
	return len(slices.Compact(values))
}
