package call_test

import (
	"testing"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// Each of the keys that were pinned may sign, so that a clinic can change its key; no other may.
func TestEveryPinnedKeyProves(t *testing.T) {
	one, two, other := calltest.NewClinic(t), calltest.NewClinic(t), calltest.NewClinic(t)
	prover, err := call.NewAuthorityProver(append(one.Authorities(t), two.Authorities(t)...))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*calltest.Clinic{"first": one, "second": two, "another": other} {
		m, want := c.Invite(t, time.Now())
		inv, code, err := prover.Invitation(m.Invite.Invitation, time.Now())
		hangUp := c.HangUp(t, m, protocol.EndCallerHungUp)
		end, endErr := prover.End(hangUp.HangUp.End, want)
		if c == other {
			if err == nil || code != protocol.AuthUnproven || inv != nil || endErr == nil || end != nil {
				t.Errorf("%s key: %v, %v", name, err, endErr)
			}
		} else if err != nil || inv.Call != want.Call || endErr != nil || end.Call != want.Call {
			t.Errorf("%s key: %v, %v", name, err, endErr)
		}
	}
	nobody, err := call.NewAuthorityProver(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := one.Invite(t, time.Now())
	if _, code, err := nobody.Invitation(m.Invite.Invitation, time.Now()); err == nil || code != protocol.AuthUnproven {
		t.Errorf("without keys: %s, %v", code, err)
	}
}
