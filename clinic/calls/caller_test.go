package calls

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

var site = protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}}

// caller is a person's page: her passkey, and the key of her calls. Her authorisation is the same for all whom a test calls persons.
type caller struct {
	passkey *passkeytest.Authenticator
	key     *ecdsa.PrivateKey
	spki    []byte

	mu     sync.Mutex
	signed []byte
	a      *protocol.Authorisation
	scope  []string // homes
	err    error
	asked  func(times int) // before an authorisation is told; nil: nothing happens then
	times  int
}

func newCaller(t testing.TB) *caller {
	t.Helper()
	c := &caller{passkey: passkeytest.New(t, passkeytest.ES256), key: newKey(t), scope: []string{"17", "18", "1"}}
	var err error
	if c.spki, err = x509.MarshalPKIXPublicKey(c.key.Public()); err != nil {
		t.Fatal(err)
	}
	c.authorise(t, func(*protocol.Authorisation) {})
	return c
}

// authorise gives her an authorisation that begins now; change spoils it.
func (c *caller) authorise(t testing.TB, change func(*protocol.Authorisation)) {
	t.Helper()
	now := time.Now()
	a := &protocol.Authorisation{
		Version: protocol.Version, ID: protocol.NewNonce(), Person: person, Party: protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Clinic"},
		Employment: "employed", Group: "home care", Credentials: []protocol.Credential{c.passkey.Credential(t)}, Scope: protocol.Scope{Groups: []string{"all"}},
		From: protocol.At(now), To: protocol.At(now.Add(protocol.MaxAuthorisationLife)),
	}
	change(a)
	signed, err := protocol.Sign(a, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.a, c.signed = a, signed
}

func (c *caller) Current(context.Context, string) ([]byte, *protocol.Authorisation, error) {
	c.mu.Lock()
	c.times++
	asked, times := c.asked, c.times
	c.mu.Unlock()
	if asked != nil {
		asked(times)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signed, c.a, c.err
}

func (c *caller) Covers(_ context.Context, _ *protocol.Authorisation, home string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.scope {
		if h == home {
			return true, nil
		}
	}
	return false, nil
}

// wish is what goes into a request before it is proven.
type wish struct {
	home, page string
	offer      protocol.SDP
	invitation func(*protocol.Invitation)
	use        func(*passkeytest.Use)
}

// request is what an honest page sends; each of change may make it another's.
func (c *caller) request(t testing.TB, terminal protocol.KeyHash, change ...func(*wish)) (Request, protocol.CallID) {
	t.Helper()
	w := wish{home: "17", page: page, offer: offer, invitation: func(*protocol.Invitation) {}, use: func(*passkeytest.Use) {}}
	for _, f := range change {
		f(&w)
	}
	var print protocol.Fingerprint
	if _, text, ok := strings.Cut(string(w.offer), "sha-256 "); ok && len(text) >= 95 {
		if b, err := hex.DecodeString(strings.ReplaceAll(text[:95], ":", "")); err == nil {
			copy(print[:], b)
		}
	}
	now := protocol.At(time.Now())
	inv := &protocol.Invitation{
		Version: protocol.Version, Call: protocol.NewCallID(), Terminal: terminal, Caller: print, Offer: protocol.HashOf(w.offer),
		Parties: []protocol.Party{c.a.Party}, Errand: "the wound", Issued: now, Expires: now + 90_000, Nonce: protocol.NewNonce(), Key: c.spki, Authorisation: protocol.HashOf(c.signed),
	}
	if inv.Terminal == (protocol.KeyHash{}) {
		inv.Terminal = protocol.KeyHash{1}
	}
	if inv.Caller == (protocol.Fingerprint{}) {
		inv.Caller = protocol.Fingerprint{1}
	}
	w.invitation(inv)
	raw, err := protocol.Encode(inv)
	if err != nil {
		t.Fatal(err)
	}
	return Request{
		Person: Person{person, protocol.Party{Name: "whoever signed in"}}, Page: w.page, Home: w.home, Offer: w.offer,
		Proof: Proof{Invitation: raw, Assertion: c.passkey.Assert(t, site, protocol.HashOf(raw), w.use)},
	}, inv.Call
}

// end is her own end of a call.
func (c *caller) end(t *testing.T, s Started, reason protocol.Code, change func(*protocol.End)) []byte {
	t.Helper()
	e := &protocol.End{
		Version: protocol.Version, Call: s.Call, Terminal: s.Terminal, Invitation: protocol.HashOf(s.Invitation), By: protocol.SideCaller, Reason: reason, At: protocol.At(time.Now()),
	}
	if change != nil {
		change(e)
	}
	signed, err := protocol.Sign(e, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (w *world) request(t testing.TB, change ...func(*wish)) Request {
	t.Helper()
	r, _ := w.caller.request(t, w.terminal, change...)
	return r
}

// TestUnprovenCalls: what a terminal would refuse does not get as far, and its caller learns why; each attempt is on the record (R18).
func TestUnprovenCalls(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		stranger := newCaller(t)
		for name, c := range map[string]struct {
			code    protocol.Code
			change  func(*wish)
			arrange func(*Request)
		}{
			"a home that is not in her scope": {protocol.AuthNone, nil, func(*Request) { w.caller.scope = nil }},
			"no authorisation": {protocol.AuthNone, nil, func(*Request) {
				w.caller.err = protocol.WithCode(protocol.AuthNone, errors.New("nothing is granted"))
			}},
			"an authorisation that is over": {protocol.AuthNone, nil, func(r *Request) {
				w.caller.authorise(t, func(a *protocol.Authorisation) { a.From, a.To = 1, 2 })
				*r = w.request(t)
			}},
			"an authorisation that has not begun": {protocol.AuthNone, nil, func(r *Request) {
				w.caller.authorise(t, func(a *protocol.Authorisation) { a.From += 1000; a.To += 1000 - 2000 })
				*r = w.request(t)
			}},
			"the authorisation before": {protocol.AuthLapsed, nil, func(*Request) { w.caller.authorise(t, func(*protocol.Authorisation) {}) }},
			"somebody else's name": {protocol.AuthRoster, func(x *wish) {
				x.invitation = func(i *protocol.Invitation) { i.Parties[0].Name = "Dr. Bo Dahl" }
			}, nil},
			"somebody besides her": {protocol.AuthRoster, func(x *wish) {
				x.invitation = func(i *protocol.Invitation) {
					i.Parties = append(i.Parties, protocol.Party{Name: "Eve", Role: "relative", Organisation: "none"})
				}
			}, nil},
			"another's passkey": {protocol.AuthPasskey, nil, func(r *Request) {
				r.Proof.Assertion = stranger.passkey.Assert(t, site, protocol.HashOf(r.Proof.Invitation))
			}},
			"another's signature": {protocol.AuthPasskey, nil, func(r *Request) {
				r.Proof.Assertion = stranger.passkey.Assert(t, site, protocol.HashOf(r.Proof.Invitation))
				r.Proof.Assertion.Credential = w.caller.passkey.ID
			}},
			"a touch for another call": {protocol.AuthPasskey, nil, func(r *Request) {
				r.Proof.Assertion = w.request(t).Proof.Assertion
			}},
			"another site":         {protocol.AuthOrigin, func(x *wish) { x.use = func(u *passkeytest.Use) { u.Origin = "https://evil.example" } }, nil},
			"no user verification": {protocol.AuthUnverified, func(x *wish) { x.use = func(u *passkeytest.Use) { u.Flags = 1 } }, nil},
			"an old invitation": {protocol.BrowserSlow, func(x *wish) {
				x.invitation = func(i *protocol.Invitation) { i.Issued -= 100_000; i.Expires -= 100_000 }
			}, nil},
			"an invitation of tomorrow": {protocol.BrowserClock, func(x *wish) {
				x.invitation = func(i *protocol.Invitation) { i.Issued += 86_400_000; i.Expires += 86_400_000 }
			}, nil},
		} {
			w.caller.scope, w.caller.err = []string{"17"}, nil
			w.caller.authorise(t, func(*protocol.Authorisation) {})
			var changes []func(*wish)
			if c.change != nil {
				changes = append(changes, c.change)
			}
			r := w.request(t, changes...)
			if c.arrange != nil {
				c.arrange(&r)
			}
			_, err := w.Start(context.Background(), r)
			f, ok := errors.AsType[*Failure](err)
			if !ok || f.Code != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
				continue
			}
			w.recorded(t, f.Call, c.code)
		}
		w.untold(t)
		w.caller.scope, w.caller.err = []string{"17"}, nil
		w.caller.authorise(t, func(*protocol.Authorisation) {})
		r := w.request(t)
		if _, err := w.Start(context.Background(), r); err != nil {
			t.Error(err)
		}
		<-w.link.sent
		if _, err := w.Start(context.Background(), r); !errors.Is(err, ErrBadRequest) {
			t.Errorf("the same proof again: %v", err)
		}
		r.Proof = Proof{}
		if _, err := w.Start(context.Background(), r); !errors.Is(err, ErrBadRequest) {
			t.Errorf("no proof at all: %v", err)
		}
		w.untold(t)
	})
}

// TestCallerEnd: the caller's own end goes to the terminal and stays on the record; one that is not hers does not, and the clinic ends the call.
func TestCallerEnd(t *testing.T) {
	for name, c := range map[string]struct {
		good bool
		sign func(*testing.T, *world, Started) []byte
	}{
		"her own": {true, func(t *testing.T, w *world, s Started) []byte {
			return w.caller.end(t, s, protocol.EndCallerHungUp, nil)
		}},
		"none": {false, func(*testing.T, *world, Started) []byte { return nil }},
		"by another key": {false, func(t *testing.T, w *world, s Started) []byte {
			return newCaller(t).end(t, s, protocol.EndCallerHungUp, nil)
		}},
		"for another reason": {false, func(t *testing.T, w *world, s Started) []byte { return w.caller.end(t, s, protocol.EndPageClosed, nil) }},
		"of another call": {false, func(t *testing.T, w *world, s Started) []byte {
			return w.caller.end(t, s, protocol.EndCallerHungUp, func(e *protocol.End) { e.Call = protocol.NewCallID() })
		}},
		"in the clinic's name": {false, func(t *testing.T, w *world, s Started) []byte {
			return w.caller.end(t, s, protocol.EndCallerHungUp, func(e *protocol.End) { e.By = protocol.SideClinic })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := w.talk(t)
				signed := c.sign(t, w, s)
				if err := w.HangUp(context.Background(), person, s.Call, protocol.EndCallerHungUp, signed); err != nil {
					t.Fatal(err)
				}
				if c.good {
					if m := <-w.link.sent; m.Kind != protocol.KindHangUp || string(m.HangUp.End) != string(signed) {
						t.Errorf("the terminal was told %+v", m)
					}
				} else {
					w.told(t, s, protocol.EndCallerHungUp)
				}
				w.end(t, s, protocol.EndCallerHungUp)
				w.ended(t, s.Call, protocol.EndCallerHungUp)
				if rec := w.recorded(t, s.Call, protocol.EndCallerHungUp); (rec.CallerEnd != nil) != c.good {
					t.Errorf("on the record: %d bytes", len(rec.CallerEnd))
				}
			})
		})
	}
}

// TestProofKept: the record holds what proves the call.
func TestProofKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.request(t, func(x *wish) {
			x.invitation = func(i *protocol.Invitation) { i.Urgent, i.RelayOnly = true, true }
		})
		s, err := w.Start(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := w.Record(context.Background(), person, s.Call)
		if err != nil || !rec.Urgent || !rec.RelayOnly || rec.Errand != "the wound" || rec.Person.Party.Name != "Anne Berg" {
			t.Fatalf("%+v, %v", rec, err)
		}
		proof := new(protocol.CallProof)
		if err := protocol.Decode(rec.Proof, proof); err != nil {
			t.Fatal(err)
		}
		if _, err := proof.Assertion.Verify(w.caller.passkey.Credential(t), site, protocol.HashOf(proof.Invitation)); err != nil {
			t.Error(err)
		}
		if string(proof.Authorisation) != string(w.caller.signed) {
			t.Error("another authorisation")
		}
	})
}

// TestRevokePerson: who loses the right to call loses the calls, at once (R29), and both ends are told why.
func TestRevokePerson(t *testing.T) {
	for name, x := range map[string]struct {
		says protocol.Code
		err  error
		want protocol.Code
		late bool // when the authorisation is over
	}{
		"withdrawn":                 {protocol.EndWithdrawn, nil, protocol.EndWithdrawn, false},
		"the passkey was removed":   {protocol.EndPasskeyRemoved, nil, protocol.EndPasskeyRemoved, false},
		"nobody can say":            {"", errors.New("disk"), protocol.EndWithdrawn, false},
		"the authorisation is over": {protocol.EndWithdrawn, nil, protocol.EndLapsed, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if x.late {
					w.caller.authorise(t, func(a *protocol.Authorisation) { a.To = protocol.At(time.Now().Add(time.Minute)) })
				}
				s := w.talk(t)
				may := func(reason protocol.Code, err error) func(string, []byte) (protocol.Code, error) {
					return func(home string, passkey []byte) (protocol.Code, error) {
						if home != "17" || string(passkey) != string(w.caller.passkey.ID) {
							t.Errorf("asked about home %q and passkey %x", home, passkey)
						}
						return reason, err
					}
				}
				w.RevokePerson("another", may(protocol.EndWithdrawn, nil))
				w.RevokePerson(person, may("", nil))
				w.untold(t)
				if x.late {
					pass(time.Minute)
				}
				w.RevokePerson(person, may(x.says, x.err))
				w.told(t, s, x.want)
				w.end(t, s, x.want)
				w.ended(t, s.Call, x.want)
			})
		})
	}
}

// TestRightEndsMeanwhile: what was withdrawn after a call was proven, and told before it was known to those who end calls, ends it unsent: it is told once.
func TestRightEndsMeanwhile(t *testing.T) {
	none := protocol.WithCode(protocol.AuthNone, errors.New("withdrawn"))
	disk := errors.New("disk")
	for name, x := range map[string]struct {
		change func(*testing.T, *caller)
		code   protocol.Code // of the record
		cause  error
	}{
		"the right was withdrawn":   {func(_ *testing.T, c *caller) { c.err = none }, protocol.AuthNone, none},
		"the home has left a group": {func(_ *testing.T, c *caller) { c.scope = nil }, protocol.AuthNone, nil},
		"the passkey was removed": {func(t *testing.T, c *caller) {
			c.a.Credentials = []protocol.Credential{newCaller(t).passkey.Credential(t)}
		}, protocol.AuthPasskey, nil},
		"nobody can say":             {func(_ *testing.T, c *caller) { c.err = disk }, protocol.SignalLostClinic, disk},
		"another authorisation came": {func(_ *testing.T, c *caller) { c.signed = []byte("renewed") }, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				r, id := w.caller.request(t, w.terminal)
				w.caller.asked = func(times int) {
					if times == 2 {
						w.RevokePerson("another", nil)
						w.caller.mu.Lock()
						defer w.caller.mu.Unlock()
						x.change(t, w.caller)
					}
				}
				_, err := w.Start(context.Background(), r)
				if x.code == "" {
					if m := <-w.link.sent; err != nil || m.Kind != protocol.KindInvite {
						t.Errorf("%v, %s", err, m.Kind)
					}
					return
				}
				if failed, ok := errors.AsType[*Failure](err); ok != (x.cause != disk) || ok && failed.Code != x.code || x.cause != nil && !errors.Is(err, x.cause) {
					t.Errorf("%v", err)
				}
				w.untold(t)
				w.ended(t, id, x.code)
			})
		})
	}
}

// TestStoppedDuringInvitation: whoever ends a call while its invitation is on its way, the terminal hears of the end after it: else it would ring for a call that is over.
func TestStoppedDuringInvitation(t *testing.T) {
	for name, x := range map[string]struct {
		stop func(*world)
		code protocol.Code
	}{
		"the right is withdrawn": {func(w *world) {
			w.RevokePerson(person, func(string, []byte) (protocol.Code, error) { return protocol.EndWithdrawn, nil })
		}, protocol.EndWithdrawn},
		"the terminal is revoked": {func(w *world) { w.Revoke(w.terminal) }, protocol.EndCutOff},
		"it takes too long":       {func(*world) { pass(replyTimeout + tick) }, protocol.SignalNoReply},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				reached, release := make(chan struct{}), make(chan struct{})
				w.link.set(func() {
					w.link.hold = func(m *protocol.CallIn) {
						if m.Kind == protocol.KindInvite {
							close(reached)
							<-release
						}
					}
				})
				r, id := w.caller.request(t, w.terminal)
				started := make(chan Started, 1)
				go func() {
					s, err := w.Start(context.Background(), r)
					if err != nil {
						t.Error(err)
					}
					started <- s
				}()
				<-reached
				x.stop(w)
				w.untold(t)
				close(release)
				s := <-started
				if m := <-w.link.sent; m.Kind != protocol.KindInvite {
					t.Fatalf("first the terminal got %s", m.Kind)
				}
				w.told(t, s, x.code)
				w.recorded(t, id, x.code)
			})
		})
	}
}

// TestLapse: a terminal ends a call by itself whose authorisation is over; one that does not is told to.
func TestLapse(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.caller.authorise(t, func(a *protocol.Authorisation) { a.To = protocol.At(time.Now().Add(time.Minute)) })
		s := w.talk(t)
		pass(time.Minute + lapseGrace - tick)
		w.silent(t)
		pass(2 * tick)
		w.told(t, s, protocol.EndLapsed)
		w.end(t, s, protocol.EndLapsed)
		w.ended(t, s.Call, protocol.EndLapsed)
	})
}

// TestTestCall: the robot's call is signed by the server, and by nobody else.
func TestTestCall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := protocol.NewCallID()
		robot := Person{"robot/1", protocol.Party{Name: "Test call", Role: "robot", Organisation: "Clinic"}}
		s, err := w.Start(context.Background(), Request{Person: robot, Page: "p", Home: "17", Offer: offer, Test: id})
		if err != nil || s.Call != id {
			t.Fatal(s.Call, err)
		}
		m := <-w.link.sent
		inv := new(protocol.Invitation)
		if err := protocol.Verify(m.Invite.Invitation, &w.signer.key.PublicKey, inv); err != nil || inv.Call != id || inv.Terminal != w.terminal || m.Invite.Assertion != nil {
			t.Errorf("%+v, %v", inv, err)
		}
	})
}

// TestRehearsal: the paths of a rehearsal are in the invitation that the server signs, and in what it offers; whoever rings while one ends is not kept waiting.
func TestRehearsal(t *testing.T) {
	for _, c := range []struct {
		path           string
		relayOnly, ice bool
	}{{"", false, true}, {protocol.DirectPath, false, false}, {protocol.RelayedPath, true, true}} {
		t.Run(c.path, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				robot := Person{"robot/1", protocol.Party{Name: "Test call", Role: "robot", Organisation: "Clinic"}}
				s, err := w.Start(t.Context(), Request{Person: robot, Page: "p", Home: "17", Offer: offer, Test: protocol.NewCallID(), Path: c.path})
				if err != nil {
					t.Fatal(err)
				}
				m := <-w.link.sent
				inv := new(protocol.Invitation)
				if err := protocol.Verify(m.Invite.Invitation, &w.signer.key.PublicKey, inv); err != nil || inv.RelayOnly != c.relayOnly || len(m.Invite.ICE) > 0 != c.ice {
					t.Errorf("%+v, %d servers, %v", inv, len(m.Invite.ICE), err)
				}
				w.answer(t, s, protocol.Ringing, nil)
				if err := w.HangUp(t.Context(), robot.ID, s.Call, protocol.EndCallerHungUp, nil); err != nil {
					t.Fatal(err)
				}
				waits, stop := context.WithTimeout(t.Context(), time.Millisecond) // of the bubble: the terminal has not ended it
				defer stop()
				if err := w.afterLast(waits, w.terminal); (err == nil) != (c.path != "") {
					t.Errorf("who rings next: %v", err)
				}
			})
		})
	}
}
