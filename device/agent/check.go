package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/protocol"
)

const checksFile = "checks"

// beginTime is how long a terminal that was just set up may take until it can be checked.
const beginTime = 20 * time.Second

// Check runs acceptance checks; acceptance.Runner.Check says what it returns. A terminal that is not set up has none; one that was a
// moment ago is waited for.
func (a *Agent) Check(ctx context.Context, p acceptance.Proof, w acceptance.Wanted, progress func(acceptance.Progress)) ([]protocol.Check, error) {
	for began := time.Now(); ; {
		a.mu.Lock()
		check := a.check
		begins := a.parts.Checks != nil && a.home != nil && a.home.id.Grant() != nil
		a.mu.Unlock()
		if check != nil {
			if found, err := check(ctx, p, w, progress); !errors.Is(err, acceptance.ErrClosed) {
				return found, err
			}
		}
		if !begins || time.Since(began) > beginTime {
			return nil, protocol.WithCode(protocol.IdentityNone, errors.New("only a terminal that is set up can be checked"))
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockedPoll):
		}
	}
}

// newChecks makes the runner of checks; nil if the program has no means for them, or is in safe mode.
func (t *terminal) newChecks(store call.Store) (*acceptance.Runner, error) {
	if t.a.parts.Checks == nil || t.a.parts.Safe {
		return nil, nil
	}
	c := t.a.parts.Checks(t.id, t.clock.Now)
	c.Outbox, c.Store, c.Now, c.Log, c.Screen = t.outbox, store, t.clock.Now, t.a.log, t.a.parts.HasScreen
	c.Busy = func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.inCall
	}
	c.Shown = func(s acceptance.Status) { t.a.change(func(x *situation) { x.check = s }) }
	checks, err := acceptance.New(c)
	if err != nil {
		return nil, err
	}
	if err := checks.Recover(); err != nil {
		t.a.log.Error("openings of the last check are not closed in the ledger", "error", err)
	}
	return checks, nil
}

// runCheck is Agent.Check while the terminal runs. A device that does not close ends the terminal.
func (t *terminal) runCheck(ctx context.Context, p acceptance.Proof, w acceptance.Wanted, progress func(acceptance.Progress)) ([]protocol.Check, error) {
	t.yield()
	found, err := t.checker.Check(ctx, p, w, progress)
	if errors.Is(err, call.ErrDeviceStuck) {
		t.deviceStuck(err)
	}
	return found, err
}

// deviceStuck has the terminal end.
func (t *terminal) deviceStuck(err error) {
	select {
	case t.stuck <- err:
	default: // known
	}
}

// watchChecks returns the error by which the terminal has to end.
func (t *terminal) watchChecks(ctx context.Context) error {
	select {
	case err := <-t.stuck:
		return err
	case <-ctx.Done():
		return nil
	}
}

// shutChecks ends the check that runs; none begins any more.
func (t *terminal) shutChecks() {
	if t.checker != nil {
		t.checker.Shut()
	}
}

// closeChecks is shutChecks, and returns when camera and microphone are closed and the ledger says so; else call.ErrDeviceStuck.
func (t *terminal) closeChecks() error {
	if t.checker == nil {
		return nil
	}
	return t.checker.Close()
}

// policyOf is who is let in: while a check runs nobody but its test call.
func (t *terminal) policyOf() call.Policy {
	if t.checker == nil {
		return &t.policy
	}
	return t.checker.Policy(&t.policy)
}

// recorded tells of every call's record.
type recorded struct {
	call.Outbox
	tell func(*protocol.CallRecord)
}

// Append implements call.Outbox.
func (r recorded) Append(kind string, body []byte) error {
	if err := r.Outbox.Append(kind, body); err != nil {
		return err
	}
	if kind == protocol.EventCall {
		rec := new(protocol.CallRecord)
		if err := protocol.Decode(body, rec); err == nil { // it was encoded a moment ago
			r.tell(rec)
		}
	}
	return nil
}

// recorded tells the checks of a call's record. After a call that found no path, or only one by the relay, what the home's network lets out is looked at: the clinic can
// then say why. So it is after any call if it let too little out before.
func (t *terminal) recorded(rec *protocol.CallRecord) {
	if t.checker != nil {
		t.checker.Ended(rec)
	}
	held := func(c protocol.Condition) bool { return c.Code.Stage() == "egress" } // it may be over
	if rec.Outcome.Stage() == "ice" || rec.LocalPath == "relay" || slices.ContainsFunc(t.health.Health().Conditions, held) {
		t.prober.Hurry("egress")
	}
}

// hangUp is the person's no: to a call, and to a check.
func (t *terminal) hangUp() {
	if t.checker != nil {
		t.checker.Stop()
	}
	t.calls.HangUp()
}
