package agent

import (
	"slices"
	"testing"
	"time"

	"vindu/device/acceptance"
	"vindu/device/identity"
	"vindu/device/progress"
	"vindu/device/screen"
	"vindu/protocol"
)

// TestSafe: a terminal in safe mode says so, refuses calls and checks, and does neither when it begins as a whole again. Its parts report that they get on.
func TestSafe(t *testing.T) {
	for _, safe := range []bool{true, false} {
		f := newFixture(t)
		f.enrol()
		f.parts.Safe, f.parts.Progress = safe, new(progress.Board)
		f.start()
		f.see("what is wrong", func(s screen.Scene) bool {
			return s.Kind == screen.Ready && slices.Contains(s.Faults, protocol.PowerSafe) == safe
		})
		if f.Agent.policy.Safe != safe {
			t.Errorf("safe %v: calls are decided by %+v", safe, f.Agent.policy)
		}
		if late := f.parts.Progress.Late(); len(late) > 0 {
			t.Errorf("late: %v", late)
		}
		if err := f.end(); err != nil {
			t.Error(err)
		}
	}
}

// TestSafeChecks: whatever can be checked, not in safe mode.
func TestSafeChecks(t *testing.T) {
	parts := Parts{Safe: true, Checks: func(*identity.Identity, func() time.Time) acceptance.Config {
		t.Error("checks are prepared in safe mode")
		return acceptance.Config{}
	}}
	x := &terminal{a: &Agent{parts: parts}}
	if checker, err := x.newChecks(nil); checker != nil || err != nil {
		t.Errorf("%v, %v", checker, err)
	}
}
