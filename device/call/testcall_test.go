package call_test

import (
	"testing"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// TestTestProver: without a passkey nobody calls but the clinic's robot, by a key of the server that the terminal believes, in the very call that it waits for.
func TestTestProver(t *testing.T) {
	one, two, other := calltest.NewClinic(t), calltest.NewClinic(t), calltest.NewClinic(t)
	waiting := true
	prover := &call.TestProver{
		Keys: func() [][]byte { return [][]byte{calltest.SPKI(t, one.Service), calltest.SPKI(t, two.Service)} },
		Expected: func(id protocol.CallID) bool {
			return waiting && (one.Expects(id) || two.Expects(id) || other.Expects(id))
		},
	}
	for name, c := range map[string]*calltest.Clinic{"first": one, "second": two, "another": other} {
		m, want := c.TestCall(t, time.Now())
		proof, code, err := prover.Invite(m.Invite, time.Now())
		hangUp := c.HangUp(t, m, protocol.EndCallerHungUp)
		end, endErr := prover.End(hangUp.HangUp.End, proof)
		if c == other {
			if err == nil || code != protocol.AuthUnproven || proof != nil || endErr == nil || end != nil {
				t.Errorf("%s key: %v, %v", name, err, endErr)
			}
		} else if err != nil || proof.Invitation.Call != want.Call || proof.Authorisation != nil || endErr != nil || end.Call != want.Call {
			t.Errorf("%s key: %v, %v", name, err, endErr)
		}
	}
	m, _ := one.TestCall(t, time.Now())
	for name, keys := range map[string][][]byte{"without keys": nil, "with a key that is none": {{1, 2, 3}}, "by the authorisation key": one.Authorities(t)} {
		nobody := &call.TestProver{Keys: func() [][]byte { return keys }, Expected: one.Expects}
		if _, code, err := nobody.Invite(m.Invite, time.Now()); err == nil || code != protocol.AuthUnproven {
			t.Errorf("%s: %s, %v", name, code, err)
		}
	}
	waiting = false
	if proof, code, err := prover.Invite(m.Invite, time.Now()); err == nil || code != protocol.AuthUnproven || proof != nil {
		t.Errorf("a call that nobody waits for: %s, %v", code, err)
	}
}
