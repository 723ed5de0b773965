package agent

import (
	"context"
	"slices"
	"testing"
	"time"

	"vindu/device/progress"
)

// TestHung: whoever holds the agent's lock for ever is late, and is forgiven when it lets go. In no bubble, whose clock does not go on while somebody waits for a lock.
func TestHung(t *testing.T) {
	t.Parallel()
	board := new(progress.Board)
	a := &Agent{parts: Parts{Progress: board}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.reportLock(ctx) }()
	await := func(want ...string) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for limit := time.After(3 * progress.Within); !slices.Equal(board.Late(), want); {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("late: %v, want %v", board.Late(), want)
			}
		}
	}
	a.mu.Lock()
	await("lock")
	a.mu.Unlock()
	await()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
