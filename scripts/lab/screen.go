package lab

import (
	"context"
	"time"

	"vindu/scripts/lab/control"
)

// WatchCaller looks at what the terminal scans out, thirty times a second, and returns when it looked and which of the
// caller's pictures was there; -1 if none was. That is content, not a counter: what is not in the picture does not count
// as painted. Screendumps as often would take a third of the guest's time.
func (g *Guest) WatchCaller(ctx context.Context, caller CallerOnScreen, total time.Duration) (at []time.Duration, frame []int, err error) {
	sights, err := g.Watch(ctx, control.Look{
		Card: "/dev/dri/card0",
		X:    (caller.Where.Min.X + caller.Where.Max.X) / 2, Top: caller.Where.Min.Y, Bottom: caller.Where.Max.Y,
		R: callerSquare.R, G: callerSquare.G, B: callerSquare.B, Tolerance: 40,
		Every: time.Second / 30, Total: total,
	})
	for _, sight := range sights {
		seen := -1
		if sight.Middle >= 0 {
			seen = caller.Frame(sight.Middle)
		}
		at, frame = append(at, sight.At), append(frame, seen)
	}
	return at, frame, err
}
