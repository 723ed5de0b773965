package calls

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

// fifty persons, each of whom may call one home, and fifty homes with a terminal each.
const fifty = 50

type crowd struct {
	*Service
	link    *manyLink
	people  map[string]*caller
	homes   homes
	keys    map[string]*ecdsa.PrivateKey // of the homes' terminals
	updates map[string]<-chan Update
}

// manyLink is a fleet all of whose terminals are there.
type manyLink struct {
	mu   sync.Mutex
	sent map[protocol.KeyHash][]*protocol.CallIn
}

func (*manyLink) Up() bool                                 { return true }
func (*manyLink) State(k protocol.KeyHash) fleet.State     { return fleet.State{Terminal: k, Online: true} }
func (*manyLink) Messages() <-chan fleet.CallMessage       { return nil }
func (*manyLink) Watch() (<-chan protocol.KeyHash, func()) { return nil, func() {} }
func (l *manyLink) Send(_ context.Context, k protocol.KeyHash, m *protocol.CallIn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[k] = append(l.sent[k], m)
	return nil
}

func (c *crowd) Current(_ context.Context, person string) ([]byte, *protocol.Authorisation, error) {
	p := c.people[person]
	if p == nil {
		return nil, nil, protocol.WithCode(protocol.AuthNone, errors.New("nothing is granted"))
	}
	return p.signed, p.a, nil
}

func (c *crowd) Covers(_ context.Context, a *protocol.Authorisation, home string) (bool, error) {
	return a.Scope.Contains(home, nil), nil
}

func name(kind string, i int) string { return fmt.Sprintf("%s-%02d", kind, i) }

func newCrowd(t *testing.T, path string) (c *crowd, stop func()) {
	t.Helper()
	c = &crowd{
		link: &manyLink{sent: map[protocol.KeyHash][]*protocol.CallIn{}}, people: map[string]*caller{}, homes: homes{},
		keys: map[string]*ecdsa.PrivateKey{}, updates: map[string]<-chan Update{},
	}
	for i := range fifty {
		p := newCaller(t)
		p.authorise(t, func(a *protocol.Authorisation) {
			a.Person, a.Party.Name, a.Scope = name("person", i), name("Person", i), protocol.Scope{Homes: []string{name("home", i)}}
		})
		c.people[name("person", i)] = p
		key := newKey(t)
		spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		c.keys[name("home", i)] = key
		c.homes[name("home", i)] = register.Home{ID: name("home", i), Label: name("Home", i), Terminal: protocol.HashSPKI(spki), SPKI: spki}
	}
	db, err := store.Open(context.Background(), path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	records, err := openRecords(context.Background(), db, &journal{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	c.Service = New(Config{
		Records: records, Link: c.link, Register: c.homes, Authority: signer{newKey(t)}, Authorisations: c, RelyingParty: site, Relay: servers{}, Log: quiet,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for i := range fifty {
		c.updates[name("person", i)], _ = c.Subscribe(name("person", i), page, 0)
	}
	return c, func() {
		cancel()
		if err := errors.Join(<-done, db.Close()); err != nil {
			t.Error(err)
		}
	}
}

// request is what the page of person i sends to call home j, proven by her own passkey unless change says otherwise.
func (c *crowd) request(t *testing.T, i, j int, change ...func(*wish)) Request {
	t.Helper()
	r, _ := c.people[name("person", i)].request(t, c.homes[name("home", j)].Terminal, append(change, func(w *wish) { w.home = name("home", j) })...)
	r.Person.ID = name("person", i)
	return r
}

// silent fails the test if any page was told anything.
func (c *crowd) silent(t *testing.T, after string) {
	t.Helper()
	synctest.Wait()
	for person, updates := range c.updates {
		select {
		case u := <-updates:
			t.Fatalf("%s: %s was told %s in %s (%s)", after, person, u.Kind, u.State, u.Code)
		default:
		}
	}
}

// TestFiftyByFifty holds the right of each of fifty persons against each of fifty homes, and what each home's terminal says and signs against the call of each
// other. Only what belongs together passes; everything else has its own code, and changes nothing.
func TestFiftyByFifty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	synctest.Test(t, func(t *testing.T) {
		c, stop := newCrowd(t, path)
		defer stop()
		c.mayCall(t)
		calls := c.ring(t)
		c.othersTerminals(t, calls)
		c.othersPersons(t, calls)
		for i, s := range calls { // after all of that, each call goes on with its own terminal
			c.receive(c.says(t, i, i, s, protocol.Answered))
			synctest.Wait()
			if u := <-c.updates[name("person", i)]; u.State != Talking || u.Call != s.Call {
				t.Errorf("call %d: %s in %s (%s)", i, u.Kind, u.State, u.Code)
			}
		}
		c.silent(t, "at the end")
	})
}

// mayCall: each person against each home, by passkey and authorisation of each.
func (c *crowd) mayCall(t *testing.T) {
	refused := func(what string, i, j int, r Request, want protocol.Code) {
		t.Helper()
		_, err := c.prove(context.Background(), r, c.homes[r.Home], time.Now())
		f, ok := errors.AsType[*Failure](err)
		if want == "" && err != nil || want != "" && (!ok || f.Code != want) {
			t.Fatalf("%s, %d × %d: %v, want %q", what, i, j, err, want)
		}
	}
	own := make([]Request, fifty)
	for i := range fifty {
		own[i] = c.request(t, i, i)
	}
	for i := range fifty {
		for j := range fifty {
			code := func(other protocol.Code) protocol.Code {
				if i == j {
					return ""
				}
				return other
			}
			them := c.people[name("person", j)]
			refused("home", i, j, c.request(t, i, j), code(protocol.AuthNone))

			r := own[j]
			r.Person.ID = name("person", i) // what another has proven
			refused("another's proof", i, j, r, code(protocol.AuthNone))

			r = own[i]
			r.Proof.Assertion = them.passkey.Assert(t, site, protocol.HashOf(r.Proof.Invitation))
			refused("passkey", i, j, r, code(protocol.AuthPasskey))
			renamed := *r.Proof.Assertion
			renamed.Credential = c.people[name("person", i)].passkey.ID
			r.Proof.Assertion = &renamed
			refused("passkey by another's name", i, j, r, code(protocol.AuthPasskey))

			if j != i && j != (i+1)%fifty && j != (i+fifty/2)%fifty {
				continue // signing costs; by these three each authorisation and each name is tried by others
			}
			refused("authorisation", i, j, c.request(t, i, i, func(w *wish) {
				w.invitation = func(inv *protocol.Invitation) { inv.Authorisation = protocol.HashOf(them.signed) }
			}), code(protocol.AuthLapsed))
			refused("roster", i, j, c.request(t, i, i, func(w *wish) {
				w.invitation = func(inv *protocol.Invitation) { inv.Parties = []protocol.Party{them.a.Party} }
			}), code(protocol.AuthRoster))
		}
	}
	// All the way, and on the record, for each with the next home.
	for i := range fifty {
		_, err := c.Start(context.Background(), c.request(t, i, (i+1)%fifty))
		f, ok := errors.AsType[*Failure](err)
		if !ok || f.Code != protocol.AuthNone {
			t.Fatalf("person %d calls the next home: %v", i, err)
		}
		if rec, err := c.Record(context.Background(), name("person", i), f.Call); err != nil || rec.Outcome != protocol.AuthNone {
			t.Errorf("person %d, on the record: %+v, %v", i, rec.Outcome, err)
		}
	}
	if len(c.link.sent) != 0 {
		t.Fatalf("%d terminals were told something", len(c.link.sent))
	}
	c.silent(t, "after calls that nobody may make")
}

// ring has each person call the home that is hers.
func (c *crowd) ring(t *testing.T) []Started {
	calls := make([]Started, fifty)
	for i := range fifty {
		var err error
		if calls[i], err = c.Start(context.Background(), c.request(t, i, i)); err != nil {
			t.Fatalf("person %d calls home %d: %v", i, i, err)
		}
		c.receive(c.says(t, i, i, calls[i], protocol.Ringing))
		synctest.Wait()
		if u := <-c.updates[name("person", i)]; u.State != Ringing || u.Call != calls[i].Call {
			t.Fatalf("call %d: %s in %s (%s)", i, u.Kind, u.State, u.Code)
		}
	}
	for id, h := range c.homes {
		if sent := c.link.sent[h.Terminal]; len(sent) != 1 || sent[0].Kind != protocol.KindInvite {
			t.Fatalf("home %s was told %d things", id, len(sent))
		}
	}
	c.silent(t, "ringing")
	return calls
}

// says is what terminal by says about the call of terminal of, signed by its own key.
func (c *crowd) says(t *testing.T, by, of int, s Started, d protocol.Decision) fleet.CallMessage {
	t.Helper()
	self := c.homes[name("home", by)].Terminal
	a := &protocol.Answer{
		Version: protocol.Version, Call: s.Call, Terminal: c.homes[name("home", of)].Terminal, Invitation: protocol.HashOf(s.Invitation), Decision: d, Software: "1.0",
		At: protocol.At(time.Now()), Key: protocol.Fingerprint{9}, Answer: protocol.HashOf(answerSDP),
	}
	signed, err := protocol.Sign(a, c.keys[name("home", by)])
	if err != nil {
		t.Fatal(err)
	}
	out := &protocol.CallAnswer{Answer: signed}
	if d == protocol.Ringing {
		out.SDP = answerSDP
	}
	return fleet.CallMessage{Terminal: self, Message: &protocol.CallOut{Version: protocol.Version, Call: s.Call, Kind: protocol.KindAnswer, Answer: out}}
}

func (c *crowd) ends(t *testing.T, by, of int, s Started) []byte {
	t.Helper()
	b, err := protocol.Sign(&protocol.End{
		Version: protocol.Version, Call: s.Call, Terminal: c.homes[name("home", of)].Terminal, Invitation: protocol.HashOf(s.Invitation), By: protocol.SideTerminal,
		Reason: protocol.EndPatientHungUp, At: protocol.At(time.Now()),
	}, c.keys[name("home", by)])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// othersTerminals: each terminal about the call of each other, by its own topics; and, as somebody may who owns the broker, by the other's.
func (c *crowd) othersTerminals(t *testing.T, calls []Started) {
	for of, s := range calls {
		own := c.says(t, of, of, s, protocol.Answered)
		ownEnd := c.ends(t, of, of, s)
		for by := range fifty {
			if by == of {
				continue
			}
			from := c.homes[name("home", by)].Terminal
			say := func(m *protocol.CallOut) {
				m.Version, m.Call = protocol.Version, s.Call
				c.receive(fleet.CallMessage{Terminal: from, Message: m})
			}
			signed, end := c.says(t, by, of, s, protocol.Answered), c.ends(t, by, of, s)
			c.receive(signed)
			say(&protocol.CallOut{Kind: protocol.KindAnswer, Answer: own.Message.Answer}) // the other's own, overheard
			say(&protocol.CallOut{Kind: protocol.KindCandidate, Candidate: &protocol.Candidate{Line: "candidate:1", Mid: "0"}})
			say(&protocol.CallOut{Kind: protocol.KindRefusal, Refusal: protocol.AuthUnproven})
			say(&protocol.CallOut{Kind: protocol.KindEnd, End: &protocol.CallEnd{End: end}})
			say(&protocol.CallOut{Kind: protocol.KindEnd, End: &protocol.CallEnd{End: ownEnd}})
			c.reported(from, nil, &protocol.EndReceipt{Version: protocol.Version, Call: s.Call, End: ownEnd})
			c.reported(from, &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.EndPatientHungUp}, nil)
			// By the other's topics its signature alone is left, and does not hold.
			if _, err := c.calls[s.Call].prove(signed.Message.Answer); !errors.Is(err, protocol.ErrSignature) {
				t.Fatalf("answer of %d to the call of %d: %v", by, of, err)
			}
			if _, err := verifyEnd(end, c.homes[name("home", of)].SPKI, s.Call, c.homes[name("home", of)].Terminal); !errors.Is(err, protocol.ErrSignature) {
				t.Fatalf("end by %d of the call of %d: %v", by, of, err)
			}
			c.receive(fleet.CallMessage{Terminal: s.Terminal, Message: &protocol.CallOut{Version: protocol.Version, Call: s.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: end}}})
		}
		if _, err := c.calls[s.Call].prove(own.Message.Answer); err != nil {
			t.Fatalf("its own answer: %v", err)
		}
	}
	c.silent(t, "after what other terminals said")
}

// othersPersons: each person about the call of each other.
func (c *crowd) othersPersons(t *testing.T, calls []Started) {
	ctx := context.Background()
	for of, s := range calls {
		for by := range fifty {
			them := c.people[name("person", by)]
			end := them.end(t, s, protocol.EndCallerHungUp, nil)
			if err := c.calls[s.Call].proveEnd(end, protocol.EndCallerHungUp); (err == nil) != (by == of) {
				t.Fatalf("end by %d of the call of %d: %v", by, of, err)
			}
			if by == of {
				continue
			}
			person := name("person", by)
			_, recordErr := c.Record(ctx, person, s.Call)
			for what, err := range map[string]error{
				"hang-up":   c.HangUp(ctx, person, s.Call, protocol.EndCallerHungUp, end),
				"candidate": c.Candidates(ctx, person, s.Call, []byte("signed")),
				"restart":   c.Restart(ctx, person, s.Call, &protocol.CallRestart{Restart: []byte("signed"), SDP: "v=0"}),
				"record":    recordErr,
				"report": c.Report(ctx, person, s.Call, &protocol.CallRecord{
					Version: protocol.Version, Call: s.Call, By: protocol.SideCaller, Began: 5, Outcome: protocol.EndCallerHungUp,
				}),
			} {
				if !errors.Is(err, ErrNotFound) {
					t.Fatalf("%s by %d of the call of %d: %v", what, by, of, err)
				}
			}
		}
	}
	for id, h := range c.homes {
		if sent := c.link.sent[h.Terminal]; len(sent) != 1 {
			t.Errorf("home %s was told %d things", id, len(sent))
		}
	}
	c.silent(t, "after what other persons asked for")
}
