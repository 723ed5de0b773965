package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"vindu/device/agent"
	"vindu/media/camera/v4l2"
	"vindu/media/codec"
	"vindu/media/codec/cost"
	"vindu/media/codec/m2m"
	"vindu/protocol"
)

// costFile is where a terminal keeps what coding pictures costs on its board.
const costFile = "coders.json"

// measureAfter is how long after a start, or after a call, costs are measured, if they are not known: not in the moment in which other things
// have to be done.
const measureAfter = 3 * time.Second

// lookFor is how long encoders in hardware are looked for: a driver that hangs holds no start up.
const lookFor = 2 * time.Second

// hardware finds the board's encoders of H.264. It opens no camera.
func hardware(safe bool, log *slog.Logger) []codec.Coder {
	if safe {
		return nil
	}
	found := make(chan []codec.Coder, 1)
	go func() { found <- m2m.Coders(v4l2.System{}, m2m.Find()) }() // it is left if a driver hangs
	select {
	case coders := <-found:
		return coders
	case <-time.After(lookFor):
		log.Warn("looking for an encoder in hardware takes too long; there is none")
		return nil
	}
}

// coders is what codes pictures on this board, cheapest first.
type coders struct {
	book *cost.Book // nil: nothing has to be measured
	log  *slog.Logger

	mu    sync.Mutex
	order []codec.Coder
	costs []cost.Cost
	calls int
	quiet chan struct{}      // told when the last call ended
	stop  context.CancelFunc // ends a measurement that runs
}

// newCoders takes the order from what was measured before, or as it is until run has measured.
func newCoders(cfg agent.Config, all []codec.Coder, log *slog.Logger) *coders {
	c := &coders{log: log, order: all, quiet: make(chan struct{}, 1)}
	switch cfg.Picture.Codec {
	case "vp8":
		c.order = nil
		for _, coder := range all {
			if coder.Kind == codec.VP8 {
				c.order = append(c.order, coder)
			}
		}
	case "h264":
		c.order = nil
		for _, kind := range []codec.Kind{codec.H264, codec.VP8} {
			for _, coder := range all {
				if coder.Kind == kind {
					c.order = append(c.order, coder)
				}
			}
		}
	default:
		c.book = cost.Open(filepath.Join(cfg.State, costFile), all)
		if costs, ok := c.book.Known(); ok {
			c.use(costs, "known from before")
			c.book = nil
		}
	}
	return c
}

// now is the order, for a call that begins.
func (c *coders) now() []codec.Coder {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order
}

// told is what the terminal tells its clinic of its coders.
func (c *coders) told() []protocol.CoderCost {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []protocol.CoderCost
	for _, coder := range c.order {
		i := slices.IndexFunc(c.costs, func(k cost.Cost) bool { return k.Coder == coder.Name })
		if i >= 0 && len(list) < 8 {
			k := c.costs[i]
			list = append(list, protocol.CoderCost{Name: protocol.Printable(k.Coder), Encode: micros(k.Encode), Decode: micros(k.Decode)})
		}
	}
	return list
}

// micros bounds what a measurement on a board that was busy may come to.
func micros(d time.Duration) uint64 { return uint64(min(max(d, 0), time.Minute).Microseconds()) }

// begin and end are told of calls: nothing is measured in one.
func (c *coders) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.stop != nil {
		c.stop()
	}
}

func (c *coders) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls--; c.calls == 0 {
		select {
		case c.quiet <- struct{}{}:
		default:
		}
	}
}

// run measures what is not known yet, once no call has been for a while.
func (c *coders) run(ctx context.Context) error {
	if c.book == nil {
		<-ctx.Done()
		return nil
	}
	for !c.measure(ctx) {
		select {
		case <-ctx.Done():
			return nil
		case <-c.quiet:
		}
	}
	giveBack()
	<-ctx.Done()
	return nil
}

// measure reports whether it came to an end.
func (c *coders) measure(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(measureAfter):
	}
	own, stop := context.WithCancel(ctx)
	defer stop()
	c.mu.Lock()
	if c.calls > 0 {
		c.mu.Unlock()
		return false
	}
	c.stop = stop
	all := c.order
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.stop = nil
		c.mu.Unlock()
	}()
	var costs []cost.Cost
	for _, coder := range all {
		got, err := cost.Measure(own, coder)
		switch {
		case own.Err() != nil:
			return false
		case err != nil:
			c.log.Warn("a coder does not work", "coder", coder.Name, "error", err)
		default:
			costs = append(costs, got)
		}
	}
	c.use(costs, "measured")
	if err := c.book.Keep(costs); err != nil && !errors.Is(err, context.Canceled) {
		c.log.Warn("what coding costs is measured again at the next start", "error", err)
	}
	return true
}

// use puts the coders in order.
func (c *coders) use(costs []cost.Cost, how string) {
	c.mu.Lock()
	c.order, c.costs = cost.Order(c.order, costs), costs
	var names []string
	for _, coder := range c.order {
		names = append(names, coder.Name)
	}
	c.mu.Unlock()
	var fields []any
	for _, k := range costs {
		fields = append(fields, slog.Group(k.Coder, "encode_us", k.Encode.Microseconds(), "decode_us", k.Decode.Microseconds()))
	}
	c.log.Info("coders of the picture", append([]any{"order", strings.Join(names, " "), "how", how}, fields...)...)
}
