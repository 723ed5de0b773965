package call_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

// hostile is an invite that must not be proven, as somebody sends it who has everything but the clinician's touch, the clinic's authorisation key
// or the right.
type hostile struct {
	name string
	code protocol.Code
	// draft spoils what is signed; message, what was signed, after that. Either may be nil.
	draft   func(t *testing.T, c *calltest.Clinic, d *calltest.Draft)
	message func(t *testing.T, c *calltest.Clinic, m *protocol.CallIn)
	// believed changes what the terminal believes; nil: nothing.
	believed func(t *testing.T, c *calltest.Clinic, b *call.Believed)
}

func hostiles() []hostile {
	type (
		draft    = func(*testing.T, *calltest.Clinic, *calltest.Draft)
		message  = func(*testing.T, *calltest.Clinic, *protocol.CallIn)
		believed = func(*testing.T, *calltest.Clinic, *call.Believed)
	)
	use := func(f func(*passkeytest.Use)) draft {
		return func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { d.Use = f }
	}
	authorisation := func(f func(*protocol.Authorisation)) draft {
		return func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { f(d.Authorisation) }
	}
	invitation := func(f func(*protocol.Invitation)) draft {
		return func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { f(d.Invitation) }
	}
	invite := func(f func(*protocol.Invite)) message {
		return func(_ *testing.T, _ *calltest.Clinic, m *protocol.CallIn) { f(m.Invite) }
	}
	edit := func(t *testing.T, m *protocol.CallIn, f func(*protocol.Invitation)) { // after the touch
		t.Helper()
		inv := new(protocol.Invitation)
		if err := protocol.Decode(m.Invite.Invitation, inv); err != nil {
			t.Fatal(err)
		}
		f(inv)
		var err error
		if m.Invite.Invitation, err = protocol.Encode(inv); err != nil {
			t.Fatal(err)
		}
	}
	at := func(d time.Duration) protocol.Time { return protocol.At(time.Now().Add(d)) }
	return []hostile{
		{"authorisation signed by another clinic", protocol.AuthIssuer, func(t *testing.T, _ *calltest.Clinic, d *calltest.Draft) { d.Authority = calltest.NewKey(t) }, nil, nil},
		{"authorisation signed by the clinic's server", protocol.AuthIssuer, func(_ *testing.T, c *calltest.Clinic, d *calltest.Draft) { d.Authority = c.Service }, nil, nil},
		{"authorisation signed by the caller's page", protocol.AuthIssuer, func(_ *testing.T, c *calltest.Clinic, d *calltest.Draft) { d.Authority = c.Caller }, nil, nil},
		{"authorisation changed", protocol.AuthIssuer, nil, invite(func(i *protocol.Invite) { i.Authorisation[len(i.Authorisation)/2] ^= 1 }), nil},
		{"authorisation cut short", protocol.AuthIssuer, nil, invite(func(i *protocol.Invite) { i.Authorisation = i.Authorisation[:20] }), nil},
		{"another statement in the authorisation's place", protocol.AuthIssuer, nil, func(t *testing.T, c *calltest.Clinic, m *protocol.CallIn) {
			signed, err := protocol.Sign(c.Believed(t).Policy, c.Authority)
			if err != nil {
				t.Fatal(err)
			}
			m.Invite.Authorisation = signed
		}, nil},
		{"authorisation by a key that was replaced", protocol.AuthIssuer, nil, nil, func(t *testing.T, _ *calltest.Clinic, b *call.Believed) {
			b.Trust.Authorities = [][]byte{calltest.SPKI(t, calltest.NewKey(t))}
		}},
		{"authorisation ended this instant", protocol.AuthLapsed, authorisation(func(a *protocol.Authorisation) { a.To = at(0) }), nil, nil},
		{"authorisation ended long ago", protocol.AuthLapsed, authorisation(func(a *protocol.Authorisation) { a.From, a.To = at(-9*24*time.Hour), at(-24*time.Hour) }), nil, nil},
		{"authorisation to begin beyond the skew", protocol.AuthLapsed, authorisation(func(a *protocol.Authorisation) { a.From = at(call.Skew + 2*time.Millisecond) }), nil, nil},
		{"authorised for another home", protocol.AuthScope, authorisation(func(a *protocol.Authorisation) { a.Scope = protocol.Scope{Homes: []string{"home-18"}} }), nil, nil},
		{"authorised for another group of homes", protocol.AuthScope, authorisation(func(a *protocol.Authorisation) { a.Scope = protocol.Scope{Groups: []string{"south"}} }), nil, nil},
		{"authorised for a group that is called as the home", protocol.AuthScope, authorisation(func(a *protocol.Authorisation) { a.Scope = protocol.Scope{Groups: []string{calltest.Home}} }), nil, nil},
		{"touch for another authorisation", protocol.AuthUnproven, func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { d.Bound = protocol.HashOf("another") }, nil, nil},
		{"another authorisation of the same person put in", protocol.AuthUnproven, nil, func(t *testing.T, c *calltest.Clinic, m *protocol.CallIn) {
			m.Invite.Authorisation = c.Draft(t, time.Now()).Message(t).Invite.Authorisation
		}, nil},
		{"passkey that the authorisation does not name", protocol.AuthPasskey, func(t *testing.T, _ *calltest.Clinic, d *calltest.Draft) {
			d.Passkey = passkeytest.New(t, passkeytest.ES256)
		}, nil, nil},
		{"another passkey by this one's name", protocol.AuthPasskey, func(t *testing.T, c *calltest.Clinic, d *calltest.Draft) {
			d.Passkey = passkeytest.New(t, passkeytest.ES256)
			d.Passkey.ID = c.Passkey.ID
		}, nil, nil},
		{"touch for something else", protocol.AuthPasskey, func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { d.Challenge = protocol.HashOf("sign in") }, nil, nil},
		{"passkey's registration in place of a touch", protocol.AuthPasskey, use(func(u *passkeytest.Use) { u.Type = "webauthn.create" }), nil, nil},
		{"touch's signature changed", protocol.AuthPasskey, nil, invite(func(i *protocol.Invite) { i.Assertion.Signature[len(i.Assertion.Signature)-1] ^= 1 }), nil},
		{"errand changed after the touch", protocol.AuthPasskey, nil, func(t *testing.T, _ *calltest.Clinic, m *protocol.CallIn) {
			edit(t, m, func(i *protocol.Invitation) { i.Errand = "Open up" })
		}, nil},
		{"urgency added after the touch", protocol.AuthPasskey, nil, func(t *testing.T, _ *calltest.Clinic, m *protocol.CallIn) {
			edit(t, m, func(i *protocol.Invitation) { i.Urgent = true })
		}, nil},
		{"wish to be relayed only taken away after the touch", protocol.AuthPasskey, func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { d.Invitation.RelayOnly = true },
			func(t *testing.T, _ *calltest.Clinic, m *protocol.CallIn) {
				edit(t, m, func(i *protocol.Invitation) { i.RelayOnly = false })
			}, nil},
		{"caller's key for the call exchanged after the touch", protocol.AuthPasskey, nil, func(t *testing.T, _ *calltest.Clinic, m *protocol.CallIn) {
			edit(t, m, func(i *protocol.Invitation) { i.Key = calltest.SPKI(t, calltest.NewKey(t)) })
		}, nil},
		{"certificate and offer exchanged after the touch", protocol.AuthPasskey, nil, func(t *testing.T, _ *calltest.Clinic, m *protocol.CallIn) {
			m.Invite.Offer = calltest.Offer(protocol.Fingerprint{0xba, 0xd})
			edit(t, m, func(i *protocol.Invitation) {
				i.Caller, i.Offer = protocol.Fingerprint{0xba, 0xd}, protocol.HashOf(m.Invite.Offer)
			})
		}, nil},
		{"nonce and time of a used invitation renewed", protocol.AuthPasskey, nil, func(t *testing.T, _ *calltest.Clinic, m *protocol.CallIn) {
			edit(t, m, func(i *protocol.Invitation) { i.Nonce, i.Expires = protocol.NewNonce(), i.Expires+1 })
		}, nil},
		{"touch on another site", protocol.AuthOrigin, use(func(u *passkeytest.Use) { u.Origin = "https://clinic.example.org" }), nil, nil},
		{"touch on this site by plain http", protocol.AuthOrigin, use(func(u *passkeytest.Use) { u.Origin = "http://clinic.example" }), nil, nil},
		{"touch on a site below this one that is not the clinic's", protocol.AuthOrigin, use(func(u *passkeytest.Use) { u.Origin = "https://guest.clinic.example" }), nil, nil},
		{"passkey for another site", protocol.AuthOrigin, use(func(u *passkeytest.Use) { u.RPID = "clinic.example.org" }), nil, nil},
		{"touch inside another site's page", protocol.AuthOrigin, use(func(u *passkeytest.Use) { u.CrossOrigin = true }), nil, nil},
		{"touch below another site's page", protocol.AuthOrigin, use(func(u *passkeytest.Use) { u.TopOrigin = "https://clinic.example.org" }), nil, nil},
		{"touch without PIN, finger or face", protocol.AuthUnverified, use(func(u *passkeytest.Use) { u.Flags = 0x01 }), nil, nil},
		{"passkey used with nobody there", protocol.AuthUnverified, use(func(u *passkeytest.Use) { u.Flags = 0x04 }), nil, nil},
		{"somebody else on the roster", protocol.AuthRoster, invitation(func(i *protocol.Invitation) {
			i.Parties = append(i.Parties, protocol.Party{Name: "Per Dal", Role: "doctor", Organisation: "Home care"})
		}), nil, nil},
		{"the same person twice on the roster", protocol.AuthRoster, invitation(func(i *protocol.Invitation) { i.Parties = append(i.Parties, i.Parties[0]) }), nil, nil},
		{"caller by another name", protocol.AuthRoster, invitation(func(i *protocol.Invitation) { i.Parties[0].Name = "Per Dal" }), nil, nil},
		{"caller in another role", protocol.AuthRoster, invitation(func(i *protocol.Invitation) { i.Parties[0].Role = "doctor" }), nil, nil},
		{"caller of another organisation", protocol.AuthRoster, invitation(func(i *protocol.Invitation) { i.Parties[0].Organisation = "Police" }), nil, nil},
		{"passkey's proof taken away", protocol.AuthUnproven, nil, invite(func(i *protocol.Invite) { i.Assertion, i.Authorisation = nil, nil }), nil},
		{"vouched for by the clinic's server", protocol.AuthUnproven, nil, func(t *testing.T, c *calltest.Clinic, m *protocol.CallIn) {
			inv := new(protocol.Invitation)
			if err := protocol.Decode(m.Invite.Invitation, inv); err != nil {
				t.Fatal(err)
			}
			signed, err := protocol.Sign(inv, c.Service)
			if err != nil {
				t.Fatal(err)
			}
			m.Invite.Invitation, m.Invite.Assertion, m.Invite.Authorisation = signed, nil, nil
		}, nil},
		{"proof of another call", protocol.AuthUnproven, nil, func(_ *testing.T, _ *calltest.Clinic, m *protocol.CallIn) { m.Call = protocol.NewCallID() }, nil},
		{"for another terminal", protocol.AuthOtherTerminal, invitation(func(i *protocol.Invitation) { i.Terminal[31] ^= 1 }), nil, nil},
		{"expired beyond the skew", protocol.AuthExpired, invitation(func(i *protocol.Invitation) {
			i.Issued, i.Expires = at(-2*time.Minute), at(-call.Skew-2*time.Millisecond)
		}), nil, nil},
		{"from the future beyond the skew", protocol.AuthExpired, invitation(func(i *protocol.Invitation) {
			i.Issued, i.Expires = at(call.Skew+2*time.Millisecond), at(2*time.Minute)
		}), nil, nil},
		{"another offer", protocol.AuthFingerprint, func(_ *testing.T, _ *calltest.Clinic, d *calltest.Draft) { d.Offer += "a=x\r\n" }, nil, nil},
		{"another certificate in the offer", protocol.AuthFingerprint, invitation(func(i *protocol.Invitation) { i.Caller[0] ^= 1 }), nil, nil},
		{"a terminal without trust", protocol.AuthUnproven, nil, nil, func(_ *testing.T, _ *calltest.Clinic, b *call.Believed) { b.Trust = nil }},
		{"a terminal without policy", protocol.AnswerRefused, nil, nil, func(_ *testing.T, _ *calltest.Clinic, b *call.Believed) { b.Policy = nil }},
		{"a terminal that was moved to another home", protocol.AuthScope, nil, nil, func(_ *testing.T, _ *calltest.Clinic, b *call.Believed) { b.Policy.Home = "home-18" }},
		{"a terminal whose clinic has another site now", protocol.AuthOrigin, nil, nil, func(_ *testing.T, _ *calltest.Clinic, b *call.Believed) {
			b.Trust.RelyingParty = protocol.RelyingParty{ID: "new.example", Origins: []string{"https://new.example"}}
		}},
	}
}

// TestHostileInvites: each is refused by its own code and told to the clinic; nothing is shown, kept or opened, and nothing is spent: an honest call
// with the same passkey is answered afterwards.
func TestHostileInvites(t *testing.T) {
	if n := len(hostiles()); n < 40 {
		t.Fatalf("%d cases", n)
	}
	for _, test := range hostiles() {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				believed := x.clinic.Believed(t)
				if test.believed != nil {
					test.believed(t, x.clinic, &believed)
				}
				x.prover = prover(x.clinic, t, func() call.Believed { return believed })
				x.start()
				kept, _ := x.store.Load()
				d := x.clinic.Draft(t, time.Now())
				if test.draft != nil {
					test.draft(t, x.clinic, d)
				}
				m := d.Message(t)
				if test.message != nil {
					test.message(t, x.clinic, m)
				}
				x.deliver(m)
				x.wait(time.Minute)

				sent := x.sender.Sent()
				if len(sent) != 1 || sent[0].Kind != protocol.KindRefusal || sent[0].Refusal != test.code || sent[0].Call != m.Call {
					t.Errorf("sent %+v, want %s; log:\n%s", sent, test.code, x.log.String())
				}
				notices := calltest.Events[*protocol.Notice](x.outbox)
				if len(notices) != 1 || notices[0].Code != test.code || notices[0].Call != m.Call {
					t.Errorf("notices: %+v", notices)
				}
				if n, opened := len(x.media.Sessions()), x.media.Opened(); n != 0 || len(opened) != 0 {
					t.Errorf("%d sessions were prepared, %v opened", n, opened)
				}
				if last := x.view.Last(); last.Scene != call.SceneReady || len(last.Parties) != 0 {
					t.Errorf("%+v is shown", last)
				}
				if now, _ := x.store.Load(); !bytes.Equal(kept, now) {
					t.Error("something was kept of it")
				}
				if test.believed == nil {
					x.invite()
					equal(t, "answers to an honest call", x.answers(), []protocol.Decision{protocol.Ringing})
				}
				_ = x.end()
			})
		})
	}
}

func prover(c *calltest.Clinic, t *testing.T, believed func() call.Believed) call.Prover {
	return &call.EitherProver{
		Passkey: &call.PasskeyProver{Believed: believed, TimeKnown: func() bool { return true }},
		Test:    &call.TestProver{Keys: func() [][]byte { return [][]byte{calltest.SPKI(t, c.Service)} }, Expected: c.Expects},
	}
}

// TestNoTimeNoProof: a terminal that does not know the time cannot say what is over, and proves nothing.
func TestNoTimeNoProof(t *testing.T) {
	c := calltest.NewClinic(t)
	believed := c.Believed(t)
	m, _ := c.Invite(t, time.Now())
	for name, known := range map[string]func() bool{"not known": func() bool { return false }, "nobody to ask": nil} {
		p := &call.PasskeyProver{Believed: func() call.Believed { return believed }, TimeKnown: known}
		if proof, code, err := p.Invite(m.Invite, time.Now()); proof != nil || code != protocol.TimeUnknown || err == nil {
			t.Errorf("%s: %s, %v", name, code, err)
		}
	}
}

// TestHonestInvites: every kind of passkey, in every origin, and authorisations at the edges of what they allow.
func TestHonestInvites(t *testing.T) {
	for _, test := range []struct {
		name  string
		draft func(c *calltest.Clinic, d *calltest.Draft)
	}{
		{"ES256", nil},
		{"EdDSA", func(_ *calltest.Clinic, d *calltest.Draft) { d.Passkey = passkeytest.New(t, passkeytest.EdDSA) }},
		{"RS256", func(_ *calltest.Clinic, d *calltest.Draft) { d.Passkey = passkeytest.New(t, passkeytest.RS256) }},
		{"a passkey that does not count", func(_ *calltest.Clinic, d *calltest.Draft) { d.Passkey.Counter = 0 }},
		{"the other origin", func(_ *calltest.Clinic, d *calltest.Draft) {
			d.Use = func(u *passkeytest.Use) { u.Origin = calltest.RelyingParty.Origins[1] }
		}},
		{"by a group of homes", func(_ *calltest.Clinic, d *calltest.Draft) {
			d.Authorisation.Scope = protocol.Scope{Groups: []string{calltest.Group}}
		}},
		{"the clocks differ by the skew", func(_ *calltest.Clinic, d *calltest.Draft) {
			d.Authorisation.From = protocol.At(time.Now().Add(call.Skew))
		}},
		{"an instant before its end", func(_ *calltest.Clinic, d *calltest.Draft) {
			d.Authorisation.To = protocol.At(time.Now().Add(time.Millisecond))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				d := x.clinic.Draft(t, time.Now())
				if test.draft != nil {
					test.draft(x.clinic, d)
				}
				d.Authorisation.Credentials = []protocol.Credential{passkeytest.New(t, passkeytest.ES256).Credential(t), d.Passkey.Credential(t)}
				x.deliver(d.Message(t))
				equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing})
				_ = x.end()
			})
		})
	}
}

// TestCopiedPasskey: who has copied a passkey is found out as soon as both are used, also after a restart, and also by a call that came to a busy
// terminal.
func TestCopiedPasskey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		at := func(counter uint32) *protocol.CallIn {
			x.clinic.Passkey.Counter = counter
			m, _ := x.clinic.Invite(t, time.Now())
			return m
		}
		refused := func(m *protocol.CallIn) {
			t.Helper()
			x.deliver(m)
			sent := x.sender.Sent()
			if last := sent[len(sent)-1]; last.Refusal != protocol.AuthCounter || last.Call != m.Call {
				t.Errorf("sent %+v", last)
			}
		}
		m := at(7)
		x.deliver(m)
		copied := at(7)
		refused(copied) // while the first rings
		x.deliver(at(9))
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Busy})
		x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
		refused(at(8))
		refused(at(0))
		_ = x.end()
		x.start()
		refused(at(9))
		refused(copied)
		x.deliver(at(10))
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Busy, protocol.Ringing})
		if opened := x.media.Opened(); len(opened) != 0 {
			t.Errorf("%v opened", opened)
		}
		_ = x.end()
	})
}

// TestCounterAndNonceAreOneWrite: what is kept of an invitation, and that its call runs, costs one write.
func TestCounterAndNonceAreOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		saves := x.store.Saves()
		x.invite()
		if n := x.store.Saves() - saves; n != 1 {
			t.Errorf("%d writes before it rings, want 1", n)
		}
		_ = x.end()
	})
}

// FuzzInvite: whatever is made of an honest invite, nothing else than what the passkey and the clinic have signed is proven.
func FuzzInvite(f *testing.F) {
	c := calltest.NewClinic(f)
	believed := c.Believed(f)
	p := &call.PasskeyProver{Believed: func() call.Believed { return believed }, TimeKnown: func() bool { return true }}
	now := time.Now()
	m, _ := c.Invite(f, now)
	seed, err := protocol.Encode(m)
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := p.Invite(m.Invite, now); err != nil {
		f.Fatal(err)
	}
	// From where each byte of the seed is changed, so that the corpus, whose keys are others, finds its way too.
	f.Add(uint16(0), []byte{})
	f.Add(uint16(len(seed)/2), []byte{1})
	f.Add(uint16(len(seed)-1), []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, from uint16, with []byte) {
		b := bytes.Clone(seed)
		for i, x := range with {
			b[(int(from)+i)%len(b)] ^= x
		}
		in := new(protocol.CallIn)
		if protocol.Decode(b, in) != nil || in.Invite == nil {
			return
		}
		proof, code, err := p.Invite(in.Invite, now)
		if (err == nil) != (code == "") || (err == nil) != (proof != nil) {
			t.Fatalf("%v, %q, %v", proof, code, err)
		}
		if err == nil && (!bytes.Equal(in.Invite.Invitation, m.Invite.Invitation) || !bytes.Equal(in.Invite.Authorisation, m.Invite.Authorisation)) {
			t.Fatal("something else than what was signed is proven")
		}
	})
}
