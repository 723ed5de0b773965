package agent

import (
	"context"
	"errors"
	"time"

	"vindu/device/call"
	"vindu/device/rehearsal"
	"vindu/protocol"
)

const rehearsalFile = "rehearsal"

// newRehearsal makes what rehearses; nil if the program has no means for it, or is in safe mode.
func (t *terminal) newRehearsal() (*rehearsal.Runner, error) {
	if t.checker == nil || t.a.parts.Rehearsal == nil {
		return nil, nil
	}
	return rehearsal.New(rehearsal.Config{
		Self: t.id.Key(), Signer: t.id.Signer(), Software: t.a.parts.Software, Keys: t.service, Relays: t.relays, Media: t.a.parts.Rehearsal(t.id),
		Sender: t.link, Outbox: t.outbox, Clinic: t.a.parts.Checks(t.id, t.clock.Now).Clinic, Listen: t.checker.Rehearse, Store: fileStore{t.dir, rehearsalFile},
		Window: func() *protocol.Window {
			if s := t.id.Settings(); s != nil {
				return s.Rehearse
			}
			return nil
		},
		Now: t.a.time, Known: t.clock.Proven, Quiet: t.policy.Rests, Covered: t.a.parts.Covered, Free: t.mayRehearse, Told: t.rehearsed, Log: t.a.log,
	})
}

// mayRehearse returns why there can be no rehearsal now, or "".
func (t *terminal) mayRehearse() protocol.Code {
	t.a.mu.Lock()
	technician := t.a.situation.pressing != nil
	t.a.mu.Unlock()
	t.mu.Lock()
	inCall, leaves := t.inCall, t.turning || t.leaving != nil
	t.mu.Unlock()
	switch {
	case inCall:
		return protocol.AnswerBusy
	case technician, leaves, t.checker.Running():
		return protocol.LinkTerminalBusy
	case !t.link.Up():
		return protocol.LinkUnreachable
	case !t.clock.Proven():
		return protocol.TimeUnknown
	}
	return ""
}

// rehearsed takes what a rehearsal found.
func (t *terminal) rehearsed(r *protocol.Rehearsal) {
	t.health.Set("rehearsal", r.Conditions()...)
	t.health.Report()
}

// lastRehearsal is for the health message.
func (t *terminal) lastRehearsal() *protocol.Rehearsal {
	if t.rehearsal == nil {
		return nil
	}
	return t.rehearsal.Last()
}

// yield ends a rehearsal, because something comes first.
func (t *terminal) yield() {
	if t.rehearsal != nil {
		t.rehearsal.Yield()
	}
}

// rehearse rehearses until ctx ends.
func (t *terminal) rehearse(ctx context.Context) error {
	if t.rehearsal == nil {
		return nil
	}
	return t.rehearsal.Run(ctx)
}

// askedToRehearse is the clinic's wish.
func (t *terminal) askedToRehearse() {
	if t.rehearsal == nil {
		return
	}
	if code := t.rehearsal.Ask(); code != "" {
		t.a.log.Info("the clinic asks for a rehearsal that cannot be now", "code", code)
	}
}

// closing is how long a call waits for a rehearsal's microphone: longer than it may take to close.
const closing = 5 * time.Second

// first makes the media of calls wait until a rehearsal's microphone is closed.
type first struct {
	call.Media
	t *terminal
}

// Prepare implements call.Media.
func (f first) Prepare(ctx context.Context, offer call.Offer) (call.Session, error) {
	waits, stop := context.WithTimeout(ctx, closing)
	defer stop()
	err := f.t.checker.Yield(waits)
	if errors.Is(err, call.ErrDeviceStuck) {
		f.t.deviceStuck(err)
	}
	if err != nil {
		return nil, &call.MediaError{Code: protocol.CaptureSoundBusy, Err: err}
	}
	return f.Media.Prepare(ctx, offer)
}

// media is that of calls.
func (t *terminal) media() call.Media {
	m := t.a.parts.Media(t.id)
	if t.checker == nil {
		return m
	}
	return first{m, t}
}
