package calls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/audit"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signer is an authority.
type signer struct{ key *ecdsa.PrivateKey }

func (s signer) SignTestCall(i *protocol.Invitation) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, err
	}
	i.Key, i.Authorisation = spki, protocol.HashOf(spki)
	return protocol.Sign(i, s.key)
}
func (s signer) SignEnd(e *protocol.End) ([]byte, error) { return protocol.Sign(e, s.key) }

type servers struct{}

func (servers) TerminalServers(protocol.KeyHash) []protocol.ICEServer {
	return []protocol.ICEServer{{URLs: []string{"turn:clinic"}, Username: "u", Credential: "c"}}
}

type homes map[string]register.Home

func (h homes) Home(_ context.Context, id string) (register.Home, error) {
	if home, ok := h[id]; ok {
		return home, nil
	}
	return register.Home{}, fmt.Errorf("home: %w", register.ErrNotFound)
}

type journal struct {
	mu      sync.Mutex
	entries []audit.Entry
}

func (j *journal) AppendTx(_ context.Context, _ *sql.Tx, e audit.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	return nil
}

// link is a fleet with one terminal, which the test plays.
type link struct {
	messages chan fleet.CallMessage
	sent     chan *protocol.CallIn
	changes  chan protocol.KeyHash

	mu      sync.Mutex
	up      bool
	online  bool
	sendErr error
	hold    func(*protocol.CallIn) // before a message is sent; may be nil
}

func (l *link) Up() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.up }
func (l *link) State(k protocol.KeyHash) fleet.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fleet.State{Terminal: k, Online: l.online}
}

func (l *link) Send(_ context.Context, _ protocol.KeyHash, m *protocol.CallIn) error {
	l.mu.Lock()
	err, hold := l.sendErr, l.hold
	l.mu.Unlock()
	if hold != nil {
		hold(m)
	}
	if err != nil {
		return err
	}
	if _, err := protocol.Encode(m); err != nil {
		return err
	}
	l.sent <- m
	return nil
}
func (l *link) Messages() <-chan fleet.CallMessage       { return l.messages }
func (l *link) Watch() (<-chan protocol.KeyHash, func()) { return l.changes, func() {} }

func (l *link) set(change func()) {
	l.mu.Lock()
	change()
	l.mu.Unlock()
	l.changes <- protocol.KeyHash{}
}

const (
	person = "person-1"
	page   = "page-1"
	offer  = protocol.SDP("v=0\r\na=fingerprint:sha-256 " +
		"00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n")
	answerSDP = protocol.SDP("v=0\r\nanswer\r\n")
)

// world is a service with everything around it.
type world struct {
	*Service
	link     *link
	store    *store.Store
	journal  *journal
	signer   signer
	caller   *caller
	key      *ecdsa.PrivateKey // of the terminal
	terminal protocol.KeyHash
	spki     []byte
	stop     func()

	updates <-chan Update
	leave   func() // closes the page
}

// inWorld runs f in a bubble of its own time.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clinic.db")
	key, authorityKey := newKey(t), newKey(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, path, key, signer{authorityKey})
		defer w.store.Close()
		defer w.stop()
		f(t, w)
	})
}

func newWorld(t *testing.T, path string, key *ecdsa.PrivateKey, a signer) *world {
	t.Helper()
	w := &world{
		link: &link{
			messages: make(chan fleet.CallMessage, 16), sent: make(chan *protocol.CallIn, 256), changes: make(chan protocol.KeyHash, 64),
			up: true, online: true,
		},
		journal: &journal{}, signer: a, key: key,
	}
	var err error
	if w.spki, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	w.terminal = protocol.HashSPKI(w.spki)
	if w.store, err = store.Open(context.Background(), path, quiet); err != nil {
		t.Fatal(err)
	}
	records, err := openRecords(context.Background(), w.store, w.journal, quiet)
	if err != nil {
		t.Fatal(err)
	}
	w.caller = newCaller(t)
	w.Service = New(Config{
		Records: records, Link: w.link, Register: homes{
			"17": {ID: "17", Label: "Home 17", Terminal: w.terminal, SPKI: w.spki}, "18": {ID: "18", Label: "Home 18"},
		}, Authority: a, Authorisations: w.caller, RelyingParty: site, Relay: servers{}, Log: quiet,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.updates, w.leave = w.Subscribe(person, page, 0)
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// pass lets time pass in the bubble.
func pass(d time.Duration) {
	time.Sleep(d) // allowed: time in a bubble of synctest is the test's own
}

func (w *world) start(t *testing.T) Started {
	t.Helper()
	started, err := w.Start(context.Background(), w.request(t))
	if err != nil {
		t.Fatal(err)
	}
	m := <-w.link.sent
	if m.Kind != protocol.KindInvite || m.Call != started.Call || m.Invite.Offer != offer || string(m.Invite.Invitation) != string(started.Invitation) {
		t.Fatalf("sent %+v", m)
	}
	return started
}

func (w *world) say(m *protocol.CallOut) {
	m.Version = protocol.Version
	w.link.messages <- fleet.CallMessage{Terminal: w.terminal, Message: m}
	synctest.Wait()
}

// answer is what an honest terminal says; change makes it another's.
func (w *world) answer(t *testing.T, s Started, d protocol.Decision, change func(*protocol.Answer, *protocol.CallAnswer)) {
	t.Helper()
	a := &protocol.Answer{
		Version: protocol.Version, Call: s.Call, Terminal: w.terminal, Invitation: protocol.HashOf(s.Invitation),
		Decision: d, Software: "1.0", At: protocol.At(time.Now()),
	}
	out := &protocol.CallAnswer{}
	if d == protocol.Ringing || d == protocol.Answered {
		a.Key, a.Answer = protocol.Fingerprint{9}, protocol.HashOf(answerSDP)
	}
	if d == protocol.Ringing {
		out.SDP = answerSDP
	}
	if change != nil {
		change(a, out)
	}
	var err error
	if out.Answer, err = protocol.Sign(a, w.key); err != nil {
		t.Fatal(err)
	}
	w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindAnswer, Answer: out})
}

func (w *world) signedEnd(t *testing.T, s Started, reason protocol.Code, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	b, err := protocol.Sign(&protocol.End{
		Version: protocol.Version, Call: s.Call, Terminal: w.terminal, Invitation: protocol.HashOf(s.Invitation), By: protocol.SideTerminal,
		Reason: reason, CameraClosed: 7, MicrophoneClosed: 7, At: protocol.At(time.Now()),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) end(t *testing.T, s Started, reason protocol.Code) {
	t.Helper()
	w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: w.signedEnd(t, s, reason, w.key)}})
}

func (w *world) talk(t *testing.T) Started {
	t.Helper()
	s := w.start(t)
	w.answer(t, s, protocol.Ringing, nil)
	w.expect(t, KindAnswer, Ringing)
	w.answer(t, s, protocol.Answered, nil)
	w.expect(t, KindAnswer, Talking)
	return s
}

func (w *world) expect(t *testing.T, kind Kind, state State) Update {
	t.Helper()
	synctest.Wait()
	select {
	case u := <-w.updates:
		if u.Kind != kind || u.State != state {
			t.Fatalf("update %s in %s (%s), want %s in %s", u.Kind, u.State, u.Code, kind, state)
		}
		return u
	default:
		t.Fatalf("no update, want %s in %s", kind, state)
		return Update{}
	}
}

func (w *world) silent(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case u := <-w.updates:
		t.Fatalf("update %s in %s (%s), want none", u.Kind, u.State, u.Code)
	default:
	}
}

// ended expects the end of a call, to its page and on the record, with this code.
func (w *world) ended(t *testing.T, call protocol.CallID, code protocol.Code) Update {
	t.Helper()
	u := w.expect(t, KindEnd, Ended)
	if u.Code != code || u.Call != call {
		t.Fatalf("ended with %s, want %s", u.Code, code)
	}
	w.recorded(t, call, code)
	return u
}

func (w *world) recorded(t *testing.T, call protocol.CallID, code protocol.Code) Record {
	t.Helper()
	synctest.Wait()
	rec, err := w.Record(context.Background(), person, call)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Outcome != code || rec.EndedAt.IsZero() || rec.Sentence == "" || rec.Failure.Code != code {
		t.Fatalf("record %+v, want outcome %s", rec, code)
	}
	return rec
}

// told expects a signed hang-up to the terminal.
func (w *world) told(t *testing.T, s Started, reason protocol.Code) {
	t.Helper()
	synctest.Wait()
	select {
	case m := <-w.link.sent:
		if m.Kind != protocol.KindHangUp {
			t.Fatalf("sent %s", m.Kind)
		}
		var end protocol.End
		if err := protocol.Verify(m.HangUp.End, &w.signer.key.PublicKey, &end); err != nil {
			t.Fatal(err)
		}
		if end.Reason != reason || end.Call != s.Call || end.By != protocol.SideClinic || end.Invitation != protocol.HashOf(s.Invitation) || end.Terminal != w.terminal {
			t.Fatalf("told %+v, want %s", end, reason)
		}
	default:
		t.Fatalf("the terminal was not told")
	}
}

func (w *world) untold(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if len(w.link.sent) != 0 {
		t.Fatalf("sent %+v", <-w.link.sent)
	}
}

func TestCall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.start(t)
		var inv protocol.Invitation
		if err := protocol.Decode(s.Invitation, &inv); err != nil {
			t.Fatal(err)
		}
		if inv.Terminal != w.terminal || inv.Offer != protocol.HashOf(offer) || inv.Caller[31] != 0x1f || inv.Caller[10] != 0x0a || inv.Parties[0].Name != "Anne Berg" || inv.Errand != "the wound" {
			t.Errorf("invitation %+v", inv)
		}
		pass(time.Second)
		w.answer(t, s, protocol.Ringing, nil)
		if u := w.expect(t, KindAnswer, Ringing); u.SDP != answerSDP || len(u.Answer) == 0 {
			t.Errorf("update %+v", u)
		}
		if err := w.Candidates(context.Background(), person, s.Call, []byte("signed")); err != nil {
			t.Fatal(err)
		}
		if m := <-w.link.sent; m.Kind != protocol.KindCandidates || string(m.Candidates) != "signed" {
			t.Errorf("sent %+v", m)
		}
		w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindCandidate, Candidate: &protocol.Candidate{Line: "candidate:2", Mid: "0"}})
		if u := w.expect(t, KindCandidate, Ringing); u.Candidate.Line != "candidate:2" {
			t.Errorf("update %+v", u)
		}
		pass(3 * time.Second)
		w.answer(t, s, protocol.Answered, nil)
		w.expect(t, KindAnswer, Talking)
		pass(time.Minute)
		w.silent(t)
		if err := w.HangUp(context.Background(), person, s.Call, protocol.EndCallerHungUp, nil); err != nil {
			t.Fatal(err)
		}
		w.told(t, s, protocol.EndCallerHungUp)
		w.silent(t) // until the terminal has proven that it closed its camera
		w.end(t, s, protocol.EndCallerHungUp)
		if u := w.ended(t, s.Call, protocol.EndCallerHungUp); len(u.End) == 0 {
			t.Error("the terminal's end did not reach the page")
		}
		if err := w.HangUp(context.Background(), person, s.Call, protocol.EndCallerHungUp, nil); err != nil {
			t.Errorf("hang up again: %v", err)
		}
		w.untold(t)
		w.silent(t)

		rec := w.recorded(t, s.Call, protocol.EndCallerHungUp)
		if rec.RangAt.Sub(rec.Began) < time.Second || rec.TalkingAt.Sub(rec.RangAt) < 3*time.Second || rec.EndedAt.Sub(rec.TalkingAt) < time.Minute ||
			rec.TerminalEnd == nil || rec.HomeLabel != "Home 17" || rec.Terminal != w.terminal || rec.Errand != "the wound" {
			t.Errorf("record %+v", rec)
		}
		half := &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideCaller, Began: 5, Outcome: protocol.EndCallerHungUp, Camera: "browser"}
		for range 2 {
			if err := w.Report(context.Background(), person, s.Call, half); err != nil {
				t.Fatal(err)
			}
			half.Camera = "later"
		}
		w.report(t, &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.EndCallerHungUp, Camera: "v4l2"})
		rec = w.recorded(t, s.Call, protocol.EndCallerHungUp)
		if rec.CallerHalf == nil || rec.CallerHalf.Camera != "browser" || rec.TerminalHalf == nil || rec.TerminalHalf.Camera != "v4l2" {
			t.Errorf("halves %+v, %+v", rec.CallerHalf, rec.TerminalHalf)
		}
		list, err := w.Records(context.Background(), person, 10)
		if err != nil || len(list) != 1 {
			t.Errorf("records %v, %v", list, err)
		}
		w.journal.mu.Lock()
		defer w.journal.mu.Unlock()
		if len(w.journal.entries) != 2 || w.journal.entries[0].What != audit.CallPlaced || w.journal.entries[1].What != audit.CallEnded ||
			w.journal.entries[1].Detail["outcome"] != string(protocol.EndCallerHungUp) {
			t.Errorf("audit %+v", w.journal.entries)
		}
	})
}

// report brings something as the terminal's outbox does.
func (w *world) report(t *testing.T, body any) {
	t.Helper()
	w.reportFrom(t, w.terminal, body)
}

func (w *world) reportFrom(t *testing.T, terminal protocol.KeyHash, body any) {
	t.Helper()
	event := &protocol.Event{Version: protocol.Version, Epoch: protocol.Nonce{1}, Seq: 1, At: 5}
	var err error
	switch b := body.(type) {
	case *protocol.CallRecord:
		event.Kind = protocol.EventCall
		event.Body, err = protocol.Encode(b)
	case *protocol.EndReceipt:
		event.Kind = protocol.EventEnd
		event.Body, err = protocol.Encode(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = w.store.Write(context.Background(), func(tx *sql.Tx) error {
		return w.records.Store(context.Background(), tx, terminal, event, body)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.records.Committed(terminal, event, body)
	synctest.Wait()
}

func (w *world) lastSeq() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq
}

// A page that breaks off comes back to what it missed; one that does not read is cut off.
func TestSubscriptions(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.start(t)
		w.answer(t, s, protocol.Ringing, nil)
		seen := w.expect(t, KindAnswer, Ringing).Seq
		w.leave()
		w.leave() // twice does no harm
		if _, open := <-w.updates; open {
			t.Error("open after its end")
		}
		w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindCandidate, Candidate: &protocol.Candidate{Line: "candidate:2", Mid: "0"}})
		w.answer(t, s, protocol.Answered, nil)
		w.updates, w.leave = w.Subscribe(person, page, seen)
		w.expect(t, KindCandidate, Ringing)
		seen = w.expect(t, KindAnswer, Talking).Seq
		other, leaveOther := w.Subscribe("person-2", page, 0)
		second, leaveSecond := w.Subscribe(person, "page-2", 0)
		w.end(t, s, protocol.EndPatientHungUp)
		w.ended(t, s.Call, protocol.EndPatientHungUp)
		if len(other) != 0 || len(second) != 0 {
			t.Error("others hear of the call")
		}
		leaveOther()
		leaveSecond()
		w.leave()
		pass(replay - time.Second)
		w.updates, w.leave = w.Subscribe(person, page, seen)
		w.ended(t, s.Call, protocol.EndPatientHungUp)
		w.leave()
		pass(2 * time.Second)
		w.updates, w.leave = w.Subscribe(person, page, 0)
		w.silent(t)

		// One that does not read is cut off, and the call goes on as if its page had gone.
		w.mu.Lock()
		for range updateQueue + 1 {
			for sub := range w.subs {
				w.deliver(sub, Update{})
			}
		}
		w.mu.Unlock()
		for range updateQueue {
			<-w.updates
		}
		if _, open := <-w.updates; open {
			t.Error("open although it did not read")
		}
		w.leave()
	})
}

// The server dies with calls running: each has a record that says so, and the terminal's half still finds its place.
func TestServerDies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	key, a := newKey(t), signer{newKey(t)}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, path, key, a)
		s := w.talk(t)
		// Nothing of the end reaches the store.
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
		w.stop()

		again := newWorld(t, path, key, a)
		defer again.store.Close()
		defer again.stop()
		again.recorded(t, s.Call, protocol.SignalLostClinic)
		again.ended(t, s.Call, protocol.SignalLostClinic) // the page, as soon as it is back
		// The terminal, which may not even know yet that the server was away, is told until it says that it knows.
		pass(2 * tick)
		again.told(t, s, protocol.SignalLostClinic)
		pass(remindEvery + tick)
		again.told(t, s, protocol.SignalLostClinic)
		again.report(t, &protocol.EndReceipt{Version: protocol.Version, Call: s.Call, End: w.signedEnd(t, s, protocol.SignalLostClinic, key)})
		again.report(t, &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.SignalLostClinic})
		rec := again.recorded(t, s.Call, protocol.SignalLostClinic)
		if rec.TerminalEnd == nil || rec.TerminalHalf == nil {
			t.Errorf("record %+v", rec)
		}
		for len(again.link.sent) > 0 {
			<-again.link.sent
		}
		pass(3 * remindEvery)
		again.untold(t)
	})
}

func TestJoin(t *testing.T) {
	half := func(c protocol.Code) *protocol.CallRecord {
		if c == "" {
			return nil
		}
		return &protocol.CallRecord{Outcome: c}
	}
	for name, c := range map[string]struct{ clinic, terminal, caller, want protocol.Code }{
		"all agree":                          {protocol.EndCallerHungUp, protocol.EndCallerHungUp, protocol.EndCallerHungUp, protocol.EndCallerHungUp},
		"no halves":                          {protocol.SignalNoReply, "", "", protocol.SignalNoReply},
		"the terminal knows better":          {protocol.SignalLostTerminal, protocol.PowerRestarted, "", protocol.PowerRestarted},
		"the page knows better":              {protocol.SignalLostTerminal, "", protocol.ICELost, protocol.ICELost},
		"all lost contact":                   {protocol.SignalLostTerminal, protocol.SignalLostClinic, protocol.SignalLostTerminal, protocol.SignalLostTerminal},
		"proof is never hidden":              {protocol.EndCallerHungUp, protocol.EndCallerHungUp, protocol.ProofFingerprint, protocol.ProofFingerprint},
		"nor is an unproven invitation":      {protocol.SignalNoReply, protocol.AuthFingerprint, protocol.EndPageClosed, protocol.AuthFingerprint},
		"nor that it was not sealed":         {protocol.DTLSFailed, protocol.DTLSWeak, protocol.DTLSFailed, protocol.DTLSWeak},
		"a page that missed the clinic":      {protocol.EndPageClosed, protocol.EndPageClosed, protocol.SignalLostClinic, protocol.SignalLostClinic},
		"the clinic, where it knows":         {protocol.EndPageClosed, protocol.ICELost, protocol.EndCallerHungUp, protocol.EndPageClosed},
		"unknown gives way to what is known": {protocol.Unknown, protocol.MediaFailed, "", protocol.MediaFailed},
	} {
		if got := join(c.clinic, half(c.terminal), half(c.caller)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func FuzzOffered(f *testing.F) {
	f.Add(string(offer))
	f.Add("a=fingerprint:sha-256 \r\n")
	f.Add("a=fingerprint:SHA-256 " + strings.TrimSuffix(strings.Repeat("ff:", 32), ":"))
	f.Fuzz(func(t *testing.T, s string) {
		print, err := offered(protocol.SDP(s))
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Fatal(err)
			}
			return
		}
		if !strings.Contains(strings.ToUpper(s), print.String()) {
			t.Fatalf("%s is not in the offer", print)
		}
	})
}
