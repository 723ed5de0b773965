package acceptance

import (
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

// How the test call is answered: soon, and also in quiet hours, since a person at the terminal asked for it.
const (
	testRing    = 2 * time.Second
	testLongest = time.Minute
)

// Policy lets inner decide about calls while no check runs. While one does, nobody is let in but the robot that the check waits for.
func (r *Runner) Policy(inner call.Policy) call.Policy { return policy{r, inner} }

type policy struct {
	r     *Runner
	inner call.Policy
}

// Decide implements call.Policy.
func (p policy) Decide(proof *call.Proof, now time.Time) call.Decision {
	p.r.mu.Lock()
	running, expected := p.r.stop != nil, p.r.expected
	p.r.mu.Unlock()
	d := p.inner.Decide(proof, now)
	switch {
	case !running:
		return d
	case expected == (protocol.CallID{}) || proof.Invitation.Call != expected:
		return call.Decision{Decision: protocol.Busy}
	case d.Decision == protocol.Quiet || d.Decision == protocol.Ringing:
		return call.Decision{Decision: protocol.Ringing, Ring: testRing, SeeFirst: testRing, MaxDuration: testLongest}
	}
	return d
}

// expect has the robot's call let in.
func (r *Runner) expect(id protocol.CallID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected = id
	select {
	case <-r.record:
	default:
	}
}

// Expects reports whether a check waits for this call of the clinic's robot.
func (r *Runner) Expects(id protocol.CallID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop != nil && id != (protocol.CallID{}) && id == r.expected
}

// Ended is told the terminal's half of every call's record. It does not block.
func (r *Runner) Ended(rec *protocol.CallRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.expected == (protocol.CallID{}) || rec.Call != r.expected {
		return
	}
	select {
	case r.record <- rec:
	default: // it was told already
	}
}
