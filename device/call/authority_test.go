package call_test

import (
	"testing"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// Each of the keys that were pinned may vouch, so that a clinic can change its key; no other may.
func TestEveryPinnedKeyProves(t *testing.T) {
	one, two, other := calltest.NewClinic(t), calltest.NewClinic(t), calltest.NewClinic(t)
	prover := &call.AuthorityProver{Authorities: func() [][]byte { return append(one.Authorities(t), two.Authorities(t)...) }}
	for name, c := range map[string]*calltest.Clinic{"first": one, "second": two, "another": other} {
		m, want := c.Vouched(t, time.Now())
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
	m, _ := one.Vouched(t, time.Now())
	for name, keys := range map[string][][]byte{"without keys": nil, "with a key that is none": {{1, 2, 3}}} {
		nobody := &call.AuthorityProver{Authorities: func() [][]byte { return keys }}
		if _, code, err := nobody.Invite(m.Invite, time.Now()); err == nil || code != protocol.AuthUnproven {
			t.Errorf("%s: %s, %v", name, code, err)
		}
	}
}
