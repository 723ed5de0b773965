package agent

import (
	"crypto/x509"
	"log/slog"
	"testing"
	"time"

	"vindu/device/call/calltest"
	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/state"
	"vindu/protocol"
)

// TestProof: a terminal proves calls by passkey, and decides about them, by the trust and the policy that it has at the time, and by neither before they came.
func TestProof(t *testing.T) {
	f := newFixture(t)
	dir, err := state.Open(f.cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(dir, keys, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	clinic := calltest.NewClinic(t)
	root, leaves := authority(t)
	settings := protocol.Settings{Version: protocol.Version, Organisation: "Home care", Home: "Home 1", At: protocol.At(time.Now()), Authorities: clinic.Authorities(t)}
	err = id.Keep(identity.Grant{
		Address: "localhost:1", ServerName: "terminals.test", Chain: []*x509.Certificate{leaves(id.Signer().Public(), id.Key())}, Root: root, Settings: &settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.parts.Answer = func() bool { return true }
	a, err := New(f.cfg, f.parts, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	clocks := clock.New(dir, clock.Built(), slog.New(slog.DiscardHandler))
	x := &terminal{a: a, id: id, clock: clocks}
	prover, policy := x.prover(), x.ownPolicy()

	expect := func(what string, code protocol.Code, want protocol.Decision) {
		t.Helper()
		m, _ := clinic.Invite(t, time.Now())
		proof, got, err := prover.Invite(m.Invite, time.Now())
		if got != code || (err == nil) != (code == "") {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if err != nil {
			return
		}
		if d := policy.Decide(proof, time.Now()); d.Decision != want {
			t.Errorf("%s: %+v", what, d)
		}
	}
	take := func(trust *protocol.Trust, rule protocol.Rule, serial uint64) {
		t.Helper()
		p := clinic.Believed(t).Policy
		p.Serial, p.Terminal, p.Rules = serial, id.Key(), []protocol.Rule{rule}
		s := settings
		if serial == 0 {
			s.Policy = nil
		} else if s.Policy, err = protocol.Sign(p, clinic.Authority); err != nil {
			t.Fatal(err)
		}
		if trust != nil {
			if s.Trust, err = protocol.Sign(trust, clinic.Authority); err != nil {
				t.Fatal(err)
			}
		}
		if refused, err := id.KeepSettings(&s); err != nil || len(refused) != 0 {
			t.Fatal(refused, err)
		}
	}
	expect("before the time is known", protocol.TimeUnknown, "")
	if err := clocks.Prove(time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	expect("before there is a trust", protocol.AuthUnproven, "")
	take(nil, protocol.Rule{Group: "nurses", Mode: protocol.ModeRing, After: 5}, 1)
	expect("with a policy, but without a trust", protocol.AuthUnproven, "")
	take(clinic.Believed(t).Trust, protocol.Rule{Group: "nurses", Mode: protocol.ModeRing, After: 5}, 2)
	expect("with both", "", protocol.Ringing)
	m, _ := clinic.Invite(t, time.Now())
	proof, _, err := prover.Invite(m.Invite, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if d := policy.Decide(proof, time.Now()); d.Ring != 5*time.Second { // by a configuration that says nothing
		t.Errorf("rings for %v, the clinic's policy says 5 s", d.Ring)
	}
	take(nil, protocol.Rule{Group: "nurses", Mode: protocol.ModeRing}, 3)
	if d := policy.Decide(proof, time.Now()); d.Ring != 5*time.Second || d.SeeFirst != 2*time.Second {
		t.Errorf("by a rule that answers at once it rings for %v, and the caller is seen first for %v", d.Ring, d.SeeFirst)
	}
	take(nil, protocol.Rule{Group: "nurses", Mode: protocol.ModeAsk, After: 5}, 4)
	expect("when it asks", "", protocol.Ringing)
	take(nil, protocol.Rule{Group: "doctors", Mode: protocol.ModeRing}, 5)
	expect("when the group is not named any more", "", protocol.Refused)
	next := clinic.Believed(t).Trust
	next.Serial, next.Authorities = 2, [][]byte{calltest.SPKI(t, calltest.NewKey(t))}
	take(next, protocol.Rule{}, 0)
	expect("when another authorisation key has followed", protocol.AuthIssuer, "")
	unasked, _ := clinic.TestCall(t, time.Now())
	if _, code, err := prover.Invite(unasked.Invite, time.Now()); code != protocol.AuthUnproven || err == nil {
		t.Errorf("a test call that no check has asked for: %q, %v", code, err)
	}
}
