package acceptance

import (
	"context"
	"errors"
	"fmt"

	"vindu/device/call"
	"vindu/protocol"
)

var errGivesWay = protocol.WithCode(protocol.AnswerBusy, errors.New("a call or a technician's check comes first"))

// Rehearse plays a chirp on the terminal's loudspeaker and listens for it, and returns the findings "microphone.level" and "loudspeaker.chirp". Nobody presses a button for it, so it
// may do less than Check: no camera opens, by the ledger; the screen says nothing of it, which has to be there all the same. Who begins it has seen to it that the home's quiet hours and a
// closed shutter are respected.
//
// A check that begins ends it, and so do Yield, Stop and Shut. An error has the code of what ended it or kept it from beginning, or wraps call.ErrDeviceStuck: the process must
// exit then.
func (r *Runner) Rehearse(ctx context.Context) (_ []protocol.Check, err error) {
	if err := r.seen(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.mu.Lock()
	switch {
	case r.closed:
		r.mu.Unlock()
		return nil, protocol.WithCode(protocol.LinkTerminalBusy, ErrClosed)
	case r.stop != nil || r.rehearsal != nil:
		r.mu.Unlock()
		return nil, protocol.WithCode(protocol.LinkTerminalBusy, ErrRunning)
	}
	over := make(chan struct{})
	r.rehearsal, r.over = stop, over
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.rehearsal = nil
		if errors.Is(err, call.ErrDeviceStuck) {
			r.stuck, r.closed = err, true
		}
		r.mu.Unlock()
		close(over)
	}()
	// From here on a call that is let in ends it (Yield); one that was may be about to be seen.
	if r.c.Busy() {
		return nil, errGivesWay
	}
	x := &run{r: r, c: r.c, rehearses: true}
	for _, s := range steps {
		if s.names[0] != "microphone.level" {
			continue
		}
		found, err := x.step(ctx, s)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("rehearse: %w", context.Cause(ctx))
		}
		return found, nil
	}
	return nil, ErrUnknown
}

// Yield ends a rehearsal, because a call comes, and returns when its microphone is closed and the ledger says so. An error wraps call.ErrDeviceStuck, or is ctx's.
func (r *Runner) Yield(ctx context.Context) error {
	r.mu.Lock()
	stop, over := r.rehearsal, r.over
	r.mu.Unlock()
	if stop != nil {
		stop(errGivesWay)
		select {
		case <-over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stuck
}
