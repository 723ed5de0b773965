// Package progress knows whether the goroutines that a terminal consists of still get on, and says so to the system's supervisor.
//
// Each of them is a Root of a Board and reports that it is alive at least as often as it promised. As long as all keep that promise a Keeper feeds
// systemd's watchdog (sd_notify(3), WATCHDOG=1); when one does not, because it waits for a lock or a device that never answers, the Keeper stops,
// and a moment later asks systemd to act: systemd ends the process and starts it anew, and where systemd itself hangs the hardware's watchdog, which systemd feeds, resets the board.
// A Root that is late and then reports again is forgiven only if that was before the supervisor acted; the Keeper feeds again.
//
// Who takes a step that may last, and ends by itself, such as the opening of a connection, says how long before (Step).
//
// A report costs one lock and no system call. What is outside a Root, such as a kernel's call that a goroutine of its own waits for, is watched by whoever
// started it.
package progress

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Every is how often a Root should report, Within how late it may be before the terminal counts as hung, and Mercy how long it is left to get on then.
const (
	Every  = 3 * time.Second
	Within = 10 * time.Second
	Mercy  = 5 * time.Second
)

// Board is who has to report, and when each last did. Its methods may be called from any goroutine; a nil Board asks nobody.
type Board struct {
	mu    sync.Mutex
	roots []*Root
}

// Root is one goroutine that has to report. Its methods may be called from any goroutine; a nil Root reports to nobody.
type Root struct {
	board *Board
	name  string
	last  time.Time
	more  time.Duration // that the next report may take besides
}

// Root adds one that begins now. Whoever runs it calls Alive at least every Within, and End when it has ended as it should.
func (b *Board) Root(name string) *Root {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &Root{board: b, name: name, last: time.Now()}
	b.roots = append(b.roots, r)
	return r
}

// Alive reports.
func (r *Root) Alive() {
	if r == nil {
		return
	}
	hang(r.name)
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.last, r.more = time.Now(), 0
}

// Step reports, and lets the next report come later by bound than others: for a step that ends by itself within it, such as the opening of a connection.
func (r *Root) Step(bound time.Duration) {
	if r == nil {
		return
	}
	r.Alive()
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.more = bound
}

// Tick is when to report, for a loop that may have nothing else to do, until stop is called: Every, or more often. A nil Root never asks for it.
func (r *Root) Tick(every time.Duration) (tick <-chan time.Time, stop func()) {
	if r == nil {
		return nil, func() {}
	}
	t := time.NewTicker(min(every, Every))
	return t.C, t.Stop
}

// End takes r off the board.
func (r *Root) End() {
	if r == nil {
		return
	}
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.board.roots = slices.DeleteFunc(r.board.roots, func(x *Root) bool { return x == r })
}

// Late names those that have not reported for longer than Within, and what their step may take.
func (b *Board) Late() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var late []string
	for _, r := range b.roots {
		if time.Since(r.last) > Within+r.more {
			late = append(late, r.name)
		}
	}
	return late
}

// Recent tells whether there are Roots of this name and all of them have reported within a time, for who wants to know sooner than a watchdog. A nil Board says yes.
func (b *Board) Recent(name string, within time.Duration) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found := false
	for _, r := range b.roots {
		if r.name != name {
			continue
		}
		if time.Since(r.last) > within {
			return false
		}
		found = true
	}
	return found
}

// Keeper feeds the watchdog while nobody is late.
type Keeper struct {
	Board *Board
	// Feed tells the supervisor that all is well.
	Feed func() error
	// Ask has the supervisor act now instead of when it has not been fed for long enough (WATCHDOG=trigger): once, when somebody has been late for Mercy. nil: it is not asked.
	Ask func() error
	// Hung is told, once each time, who is late. nil: nobody.
	Hung func(late []string)
	Log  *slog.Logger
}

// Run feeds every Every until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	hung, asked := false, false
	var since time.Time
	for {
		late := k.Board.Late()
		switch {
		case len(late) == 0:
			hung, asked = false, false
			if err := k.Feed(); err != nil {
				k.Log.Warn("the supervisor could not be told", "error", err)
			}
		case !hung:
			hung, since = true, time.Now()
			k.Log.Error("a part of the terminal hangs; the watchdog is not fed until it reports", "late", late)
			if k.Hung != nil {
				k.Hung(late)
			}
		case !asked && k.Ask != nil && time.Since(since) >= Mercy:
			asked = true
			if err := k.Ask(); err != nil {
				k.Log.Warn("the supervisor could not be told", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
