package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/protocol"
)

// How the robot's call is answered.
const (
	ring    = time.Second
	longest = time.Minute
)

const recordLimit = 5 * time.Second // for the terminal's own record, after the robot has ended the call

var errDevice = errors.New("no device opens in a rehearsed call")

// line is one rehearsed call: a call.Runner of its own, beside the one that takes calls. It lets in the one call that it waits for, shows nothing, rings no bell, and remembers
// nothing. Its outbox takes no opening, so that its ledger allows none.
type line struct {
	r      *Runner
	id     protocol.CallID
	calls  *call.Runner
	record chan *protocol.CallRecord // bounded by one
}

func (r *Runner) newLine() (*line, error) {
	l := &line{r: r, id: protocol.NewCallID(), record: make(chan *protocol.CallRecord, 1)}
	var err error
	l.calls, err = call.New(call.Config{
		Self: r.c.Self, Signer: r.c.Signer, Software: r.c.Software, Relays: r.c.Relays, Media: r.c.Media, Sender: r.c.Sender, Now: r.c.Now, Log: r.c.Log,
		Prover: &call.TestProver{Keys: r.c.Keys, Expected: func(id protocol.CallID) bool { return id == l.id }},
		Policy: l, Outbox: l, View: l, Store: l,
	})
	return l, err
}

// Decide implements call.Policy.
func (*line) Decide(*call.Proof, time.Time) call.Decision {
	return call.Decision{Decision: protocol.Ringing, Ring: ring, SeeFirst: ring, MaxDuration: longest}
}

// Append implements call.Outbox.
func (l *line) Append(kind string, body []byte) error {
	if kind == protocol.EventOpening {
		return errDevice
	}
	if kind == protocol.EventCall {
		rec := new(protocol.CallRecord)
		if err := protocol.Decode(body, rec); err == nil && rec.Call == l.id {
			select {
			case l.record <- rec:
			default: // it was told already
			}
		}
	}
	return l.r.c.Outbox.Append(kind, body)
}

// Show implements call.View.
func (*line) Show(call.Status) {}

// Load implements call.Store.
func (*line) Load() ([]byte, error) { return nil, nil }

// Save implements call.Store.
func (*line) Save([]byte) error { return nil }

// call has the robot call by a path, and returns how that went. The error is ctx's cause, or says that the call's connection does not end.
func (r *Runner) call(ctx context.Context, name, path string) (protocol.RehearsalPart, error) {
	part := protocol.RehearsalPart{Name: name}
	l, err := r.newLine()
	if err != nil {
		return part, err
	}
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	// Whoever ends the rehearsal has the call say why it ends.
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	ended := make(chan error, 1)
	r.use(l)
	go func() { ended <- l.calls.Run(running) }()
	far, err := acceptance.Follow(ctx, r.c.Clinic, l.id, path)
	var near *protocol.CallRecord
	if err == nil && far.Outcome == protocol.EndCallerHungUp { // the robot hangs up when it has had enough
		timer := time.NewTimer(recordLimit)
		defer timer.Stop()
		select {
		case near = <-l.record:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	stop(context.Cause(ctx))
	hangs := <-ended
	r.use(nil)
	if hangs != nil {
		return part, fmt.Errorf("rehearsed call %s: its connection does not end: %w", l.id, hangs)
	}
	if ctx.Err() != nil {
		return part, context.Cause(ctx)
	}
	part.At, part.State = protocol.At(r.c.Now()), protocol.CheckFailed
	switch {
	case err != nil:
		r.c.Log.Warn("no rehearsed call", "call", l.id, "path", path, "error", err)
		if part.Code = protocol.CodeOf(err); part.Code == protocol.Unknown {
			part.Code = protocol.MediaRobot
		}
	case far.Outcome != protocol.EndCallerHungUp:
		part.Code = far.Outcome
	case near == nil, !acceptance.Worked(far, near):
		part.Code = protocol.MediaRobot
	case path == protocol.RelayedPath && near.LocalPath != "relay":
		part.Code = protocol.ICENoRelayed // what worked was another path than the one that was rehearsed
	default:
		part.State = protocol.CheckPassed
	}
	if near != nil {
		part.Took, part.Loss = took(near), loss(near.Quality)
	}
	return part, nil
}

// took is how long it took from the ring until there was a path.
func took(near *protocol.CallRecord) uint32 {
	for _, s := range near.Stages {
		if s.Stage == "connected" {
			return uint32(min(s.After, 60_000))
		}
	}
	return 0
}

func loss(q protocol.Quality) uint16 {
	return uint16(min(1000*q.PacketsLost/max(q.PacketsLost+q.PacketsReceived, 1), 1000))
}
