package agent

import (
	"time"

	"vindu/device/identity"
)

// callRest is how long no call has to have been asked for before the terminal replaces its key: that takes it away from its clinic for a moment.
const callRest = 10 * time.Minute

// technicianStays is how long after a press of the button a technician may work on the terminal, by that press: with another key the terminal would not be the one that was being
// set up.
const technicianStays = 15 * time.Minute

// rotation replaces the terminal's key when the clinic orders it and nothing stands against it.
func (t *terminal) rotation() *identity.Rotation {
	return &identity.Rotation{Keys: t.a.parts.Keys, Ready: t.mayTurn, Begin: t.beginTurn, Anew: t.a.beginAnew}
}

// mayTurn tells whether the terminal is idle: no call and no check for a while, no rehearsal, no technician, no order to take it out of use, and nothing to tell the clinic, since that
// would come from another terminal than the one that it is about.
func (t *terminal) mayTurn() bool {
	t.a.mu.Lock()
	technician := t.a.situation.pressing != nil || !t.a.pressed.IsZero() && time.Since(t.a.pressed) < technicianStays
	t.a.mu.Unlock()
	if technician || t.checker != nil && t.checker.Running() || t.rehearsal != nil && t.rehearsal.Running() || t.outbox.Status().Pending > 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.still()
}

// still is the part of mayTurn that t.mu guards.
func (t *terminal) still() bool {
	return !t.turning && !t.inCall && t.leaving == nil && time.Since(t.called) >= t.a.rest()
}

// beginTurn is mayTurn, and keeps calls away from then on.
func (t *terminal) beginTurn() bool {
	if !t.mayTurn() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turning = t.still()
	if t.turning {
		t.yield() // one that has just begun
	}
	return t.turning
}

// mayCall notes that a call is asked for, and returns false if there can be none because the terminal is about to begin anew.
func (t *terminal) mayCall() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.called = time.Now()
	return !t.turning
}

func (a *Agent) rest() time.Duration {
	if a.parts.CallRest > 0 {
		return a.parts.CallRest
	}
	return callRest
}

// beginAnew has the terminal that runs begin anew.
func (a *Agent) beginAnew() {
	a.mu.Lock()
	restart := a.restart
	a.mu.Unlock()
	if restart != nil {
		restart()
	}
}
