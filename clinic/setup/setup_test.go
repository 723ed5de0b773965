package setup

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ fleet.Sink = (*Service)(nil)
	_ Fleet      = (*fleet.Fleet)(nil)
)

type clinic struct {
	*Service
	log  *audit.Log
	seq  uint64
	base protocol.Nonce
}

func open(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	if err := authority.Create(filepath.Join(dir, "authority"), "Solvik clinic"); err != nil {
		t.Fatal(err)
	}
	a, err := authority.Load(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := audit.New(t.Context(), s, a.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := register.New(t.Context(), s, l)
	if err != nil {
		t.Fatal(err)
	}
	service, err := New(t.Context(), Config{Store: s, Audit: l, Register: r, Authority: a, Address: "clinic.example:443", ServerName: "terminals.vindu.invalid", Organisation: "Solvik clinic", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return &clinic{Service: service, log: l, base: protocol.NewNonce()}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func spki(t *testing.T, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// terminal enrols one by a voucher of the service.
func (c *clinic) terminal(t *testing.T, label string) (*ecdsa.PrivateKey, protocol.KeyHash) {
	t.Helper()
	issued, err := c.Voucher(t.Context(), "Kari", label, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	v, err := protocol.ParseVoucher(string(issued.Text))
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		t.Fatal(err)
	}
	request, err := authority.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Register.Enrol(t.Context(), v.ID, v.Secret, request, c.Authority.IssueTerminal); err != nil {
		t.Fatal(err)
	}
	return k, request.Hash
}

// receive stores an event as the fleet does.
func (c *clinic) receive(t *testing.T, terminal protocol.KeyHash, body any) {
	t.Helper()
	f, err := fleet.New(t.Context(), fleet.Config{Store: c.Config.Store, Audit: c.Audit, Sinks: []fleet.Sink{c.Service}, SignAck: c.Authority.SignAck}, c.Log)
	if err != nil {
		t.Fatal(err)
	}
	e := &protocol.Event{Version: protocol.Version, Epoch: c.base, At: protocol.At(time.Now())}
	switch m := body.(type) {
	case *protocol.HandOverEvent:
		e.Kind = protocol.EventHandOver
		e.Body, err = protocol.Encode(m)
	case *protocol.ReceiptEvent:
		e.Kind = protocol.EventReceipt
		e.Body, err = protocol.Encode(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.seq++
	e.Seq = c.seq
	acks, err := f.Commit(t.Context(), terminal, e)
	if err != nil || len(acks) != 1 {
		t.Fatalf("not acknowledged: %v, %v", acks, err)
	}
	if a, err := protocol.VerifyAck(acks[0], [][]byte{c.Authority.Service()}, terminal); err != nil || a.Seq != c.seq {
		t.Fatalf("acknowledged %+v, %v", a, err)
	}
}

func (c *clinic) audited(t *testing.T, what string) (n int) {
	t.Helper()
	entries, err := c.log.Entries(t.Context(), -1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.What == what {
			n++
		}
	}
	return n
}

var kari = protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Solvik clinic"}

func TestMandate(t *testing.T) {
	c := open(t)
	laptop := spki(t, newKey(t))
	text, m, err := c.IssueMandate(t.Context(), "100", kari, laptop, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	signed, claimed, err := protocol.ParseMandate(text)
	if err != nil {
		t.Fatal(err)
	}
	if verified, err := c.Authority.VerifyMandate(signed); err != nil || verified.ID != claimed.ID || string(verified.Key) != string(laptop) || verified.Person != kari {
		t.Errorf("%+v, %v", verified, err)
	}
	list, err := c.Mandates(t.Context(), 10)
	if err != nil || !slices.Equal(list, []Mandate{m}) || m.By != "100" || m.Laptop != protocol.HashSPKI(laptop) {
		t.Errorf("list %+v of %+v, %v", list, m, err)
	}
	if _, err := open(t).Authority.VerifyMandate(signed); !errors.Is(err, protocol.ErrSignature) {
		t.Errorf("at another clinic: %v", err)
	}
	for name, life := range map[string]time.Duration{"nothing": 0, "the past": -time.Hour, "too long": protocol.MaxMandateLife} {
		if _, _, err := c.IssueMandate(t.Context(), "100", kari, laptop, life); !errors.Is(err, ErrLife) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := c.audited(t, audit.MandateIssued); n != 1 {
		t.Errorf("%d audited", n)
	}
}

func TestHandOver(t *testing.T) {
	c := open(t)
	key, terminal := c.terminal(t, "Home 17, Storgata")
	laptop := newKey(t)
	text, _, err := c.IssueMandate(t.Context(), "100", kari, spki(t, laptop), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	mandate, _, err := protocol.ParseMandate(text)
	if err != nil {
		t.Fatal(err)
	}
	record := func(change func(*protocol.HandOver)) *protocol.HandOver {
		h := &protocol.HandOver{
			Version: 1, ID: protocol.NewNonce(), Terminal: terminal, Organisation: "Solvik clinic", Home: "Home 17, Storgata", Technician: kari,
			Software: "vindu-agent 0.1.0", KeyGrade: "hardware", At: protocol.At(time.Now()),
		}
		for _, name := range protocol.CheckNames() {
			h.Checks = append(h.Checks, protocol.Check{Name: name, State: protocol.CheckPassed, Figure: "118"})
		}
		if change != nil {
			change(h)
		}
		return h
	}
	sign := func(h *protocol.HandOver, k *ecdsa.PrivateKey) []byte {
		b, err := protocol.Sign(h, k)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	both := func(h *protocol.HandOver) *protocol.HandOverEvent {
		return &protocol.HandOverEvent{Version: 1, Terminal: sign(h, key), Technician: sign(h, laptop), Authorisation: mandate}
	}
	good := record(nil)
	otherText, _, err := open(t).IssueMandate(t.Context(), "100", kari, spki(t, laptop), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := protocol.ParseMandate(otherText)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		event *protocol.HandOverEvent
		shown bool // what the terminal has signed can be shown
	}{
		{"another terminal's key", &protocol.HandOverEvent{Version: 1, Terminal: sign(good, newKey(t)), Technician: sign(good, laptop), Authorisation: mandate}, false},
		{"another laptop", &protocol.HandOverEvent{Version: 1, Terminal: sign(good, key), Technician: sign(good, newKey(t)), Authorisation: mandate}, true},
		{"another clinic's authorisation", &protocol.HandOverEvent{Version: 1, Terminal: sign(good, key), Technician: sign(good, laptop), Authorisation: foreign}, true},
		{"different words", &protocol.HandOverEvent{Version: 1, Terminal: sign(good, key), Technician: sign(record(nil), laptop), Authorisation: mandate}, true},
		{"about another terminal", both(record(func(h *protocol.HandOver) { h.Terminal[0]++ })), true},
		{"another technician", both(record(func(h *protocol.HandOver) { h.Technician.Name = "Ola" })), true},
		{"after the authorisation", both(record(func(h *protocol.HandOver) { h.At = protocol.At(time.Now().Add(2 * time.Hour)) })), true},
		{"a check was left out", both(record(func(h *protocol.HandOver) { h.Checks = slices.Delete(h.Checks, 2, 3) })), true},
		{"before the authorisation", both(record(func(h *protocol.HandOver) { h.At = protocol.At(time.Now().Add(-2 * time.Hour)) })), true},
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	c.receive(t, terminal, both(good))
	for _, tc := range cases {
		now = now.Add(refusedEvery)
		c.receive(t, terminal, tc.event)
	}
	for range 3 { // what comes again, as another event, is the same; the good one even if it is signed anew
		c.receive(t, terminal, both(good))
		c.receive(t, terminal, cases[1].event)
		now = now.Add(refusedEvery)
	}
	list, err := c.HandOvers(t.Context(), terminal, 100)
	if err != nil || len(list) != 1+len(cases) {
		t.Fatalf("%d records, %v", len(list), err)
	}
	slices.Reverse(list)
	if got := list[0]; got.Flaw != "" || got.Record == nil || got.Record.ID != good.ID || len(got.Record.Checks) != len(protocol.CheckNames()) {
		t.Errorf("good: %+v", got)
	}
	for i, tc := range cases {
		if got := list[i+1]; got.Flaw == "" || (got.Record != nil) != tc.shown {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
	if n := c.audited(t, audit.TerminalHandedOver); n != 1 {
		t.Errorf("%d hand-overs audited", n)
	}
	if n := c.audited(t, audit.StatementRefused); n != len(cases) {
		t.Errorf("%d refusals audited, want %d", n, len(cases))
	}
}

// A terminal cannot fill the audit log, nor the records, by statements that prove nothing.
func TestFlawedAreBounded(t *testing.T) {
	c := open(t)
	key, terminal := c.terminal(t, "Home 17, Storgata")
	now := time.Now()
	c.now = func() time.Time { return now }
	for i := range maxFlawed + 5 {
		signed, err := protocol.Sign(&protocol.Decommissioned{Version: 1, Terminal: terminal, Order: protocol.Hash{byte(i), 1}, KeyGrade: "file", At: protocol.At(now)}, key)
		if err != nil {
			t.Fatal(err)
		}
		c.receive(t, terminal, &protocol.ReceiptEvent{Version: 1, Receipt: signed})
		c.receive(t, terminal, &protocol.HandOverEvent{Version: 1, Terminal: signed, Technician: signed, Authorisation: signed})
		now = now.Add(refusedEvery / 10)
	}
	if list, err := c.HandOvers(t.Context(), terminal, 1000); err != nil || len(list) != maxFlawed {
		t.Errorf("%d records, %v", len(list), err)
	}
	if n := c.audited(t, audit.StatementRefused); n != (maxFlawed+5+9)/10 {
		t.Errorf("%d refusals audited", n)
	}
}

// Records are read without a second reader for each: a few people who look at a home's page must not keep all readers.
func TestManyLook(t *testing.T) {
	c := open(t)
	key, terminal := c.terminal(t, "Home 17, Storgata")
	for range 3 {
		signed, err := protocol.Sign(&protocol.HandOver{Version: 1, ID: protocol.NewNonce(), Terminal: terminal, Organisation: "Solvik clinic", Home: "Home 17, Storgata", Technician: kari, Software: "x", KeyGrade: "file", At: 1}, key)
		if err != nil {
			t.Fatal(err)
		}
		c.receive(t, terminal, &protocol.HandOverEvent{Version: 1, Terminal: signed, Technician: signed, Authorisation: signed})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 8 {
				if list, err := c.HandOvers(ctx, terminal, 10); err != nil || len(list) != 3 {
					t.Errorf("%d records, %v", len(list), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A record that cannot be read does not hide the others.
func TestUnreadableRecord(t *testing.T) {
	c := open(t)
	_, terminal := c.terminal(t, "Home 17, Storgata")
	if err := c.Config.Store.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO setup_hand_overs (terminal, received, event, flaw) VALUES (?, 1, x'00', '')", terminal[:])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if list, err := c.HandOvers(t.Context(), terminal, 10); err != nil || len(list) != 1 || list[0].Flaw == "" || list[0].Record != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

// terminals is a fleet of which a test says who is there.
type terminals struct {
	mu     sync.Mutex
	states map[protocol.KeyHash]fleet.State
	sent   [][]byte
	asked  func() // when its state is asked for; nil: nothing
}

func (f *terminals) State(k protocol.KeyHash) fleet.State {
	if f.asked != nil {
		f.asked()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.states[k]
}

func (f *terminals) Order(_ context.Context, _ protocol.KeyHash, signed []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, signed)
	return nil
}

func (f *terminals) Watch() (<-chan protocol.KeyHash, func()) {
	return make(chan protocol.KeyHash), func() {}
}

func (f *terminals) online(k protocol.KeyHash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[k] = fleet.State{Terminal: k, Online: true, Since: time.Now()}
}

func (f *terminals) take() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.sent = nil }()
	return f.sent
}

// An order waits for its terminal, is sent again until the receipt is here, and only then is the terminal cut off.
func TestDecommission(t *testing.T) {
	c := open(t)
	key, terminal := c.terminal(t, "Home 17, Storgata")
	_, other := c.terminal(t, "Home 18, Kirkeveien")
	ctx := t.Context()
	order, err := c.Decommission(ctx, "Ola", terminal, "returned")
	if err != nil {
		t.Fatal(err)
	}
	if order.State != OrderWaiting || !order.Sent.IsZero() || order.By != "Ola" || order.Reason != "returned" {
		t.Errorf("order %+v", order)
	}
	if again, err := c.Decommission(ctx, "Ola", terminal, "again"); err != nil || string(again.Signed) != string(order.Signed) {
		t.Errorf("a second order: %v", err)
	}
	f := &terminals{states: map[protocol.KeyHash]fleet.State{}}
	step := func() {
		t.Helper()
		if err := c.deliver(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	step()
	if len(f.take()) != 0 {
		t.Error("sent to a terminal that is away")
	}
	f.online(terminal)
	f.online(other)
	now = time.Now().Add(time.Second)
	for range 3 {
		step()
	}
	if sent := f.take(); len(sent) != 1 || string(sent[0]) != string(order.Signed) {
		t.Errorf("sent %d times on one connection", len(sent))
	}
	now = now.Add(sendAgain)
	step()
	if len(f.take()) != 1 {
		t.Error("not sent again")
	}

	now = now.Add(settledIn)
	for range 60 {
		step()
		now = now.Add(sendAgain)
	}
	if n := len(f.take()); n != 1 {
		t.Errorf("sent %d times in ten minutes to one that does not want to", n)
	}
	f.mu.Lock()
	f.states[terminal] = fleet.State{Terminal: terminal, Online: true, Since: now}
	f.mu.Unlock()
	now = now.Add(time.Second)
	step()
	if len(f.take()) != 1 {
		t.Error("not sent on a new connection")
	}

	receipt := func(k *ecdsa.PrivateKey, change func(*protocol.Decommissioned)) *protocol.ReceiptEvent {
		d := &protocol.Decommissioned{Version: 1, Terminal: terminal, Order: protocol.HashOf(order.Signed), KeyGrade: "hardware", At: protocol.At(now)}
		if change != nil {
			change(d)
		}
		b, err := protocol.Sign(d, k)
		if err != nil {
			t.Fatal(err)
		}
		return &protocol.ReceiptEvent{Version: 1, Receipt: b}
	}
	for name, e := range map[string]*protocol.ReceiptEvent{ // not within a minute: it would be written down once
		"another key":     receipt(newKey(t), nil),
		"no such order":   receipt(key, func(d *protocol.Decommissioned) { d.Order[0]++ }),
		"another's order": receipt(key, func(d *protocol.Decommissioned) { d.Terminal = other }),
	} {
		now = now.Add(refusedEvery)
		c.receive(t, terminal, e)
		if o, err := c.Orders(ctx, terminal); err != nil || o[0].State != OrderWaiting {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	c.receive(t, terminal, receipt(key, nil))
	c.receive(t, terminal, receipt(key, nil))
	o, err := c.Orders(ctx, terminal)
	if err != nil || len(o) != 1 || o[0].State != OrderDone || o[0].Grade != "hardware" || o[0].Receipt == nil {
		t.Fatalf("orders %+v, %v", o, err)
	}
	step()
	if _, err := c.Register.Admit(ctx, terminal); err != nil {
		t.Errorf("cut off before its receipt can be acknowledged: %v", err)
	}
	now = now.Add(grace)
	step()
	if _, err := c.Register.Admit(ctx, terminal); !errors.Is(err, register.ErrRevoked) {
		t.Errorf("not revoked: %v", err)
	}
	if len(f.take()) != 0 {
		t.Error("sent after the receipt")
	}
	if _, err := c.Register.Admit(ctx, other); err != nil {
		t.Errorf("the other terminal: %v", err)
	}
	for what, want := range map[string]int{audit.DecommissionOrder: 1, audit.Decommissioned: 1, audit.StatementRefused: 3, audit.TerminalRevoked: 1} {
		if n := c.audited(t, what); n != want {
			t.Errorf("%s audited %d times, want %d", what, n, want)
		}
	}
	if _, err := c.Decommission(ctx, "Ola", terminal, "again"); !errors.Is(err, ErrRevoked) {
		t.Errorf("order for a revoked terminal: %v", err)
	}
	if _, err := c.Decommission(ctx, "Ola", protocol.KeyHash{1}, "x"); !errors.Is(err, register.ErrNotFound) {
		t.Errorf("order for an unknown terminal: %v", err)
	}
	if _, err := c.Decommission(ctx, "Ola", other, "two\nlines"); !errors.Is(err, ErrReason) {
		t.Errorf("bad reason: %v", err)
	}
}

// What can no longer reach its terminal says so.
func TestVoidOrder(t *testing.T) {
	c := open(t)
	_, terminal := c.terminal(t, "a")
	if _, err := c.Decommission(t.Context(), "Ola", terminal, "returned"); err != nil {
		t.Fatal(err)
	}
	if err := c.Register.Revoke(t.Context(), "Ola", terminal, "stolen"); err != nil {
		t.Fatal(err)
	}
	o, err := c.Orders(t.Context(), terminal)
	if err != nil || o[0].State != OrderVoid {
		t.Errorf("%+v, %v", o, err)
	}
	f := &terminals{states: map[protocol.KeyHash]fleet.State{}}
	f.online(terminal)
	if err := c.deliver(t.Context(), f); err != nil || len(f.take()) != 0 {
		t.Errorf("sent to a revoked terminal: %v", err)
	}
}

// Deliver ends with its context.
func TestDeliver(t *testing.T) {
	c := open(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Deliver(ctx, &terminals{}) }()
		<-time.After(3 * orderPoll)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The ledger is told until when an authorisation holds: not beyond its withdrawal.
func TestTechnician(t *testing.T) {
	c := open(t)
	_, m, err := c.IssueMandate(t.Context(), "100", kari, spki(t, newKey(t)), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id protocol.Nonce) (name string, until time.Time, known bool) {
		t.Helper()
		if err := c.Config.Store.Write(t.Context(), func(tx *sql.Tx) (err error) {
			name, until, known, err = c.Technician(t.Context(), tx, id[:])
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return name, until, known
	}
	if name, until, known := ask(m.ID); !known || name != kari.Name || !until.Equal(m.To) {
		t.Errorf("%q until %v, %v", name, until, known)
	}
	if _, err := c.WithdrawMandate(t.Context(), "100", m.ID); err != nil {
		t.Fatal(err)
	}
	if _, until, known := ask(m.ID); !known || time.Until(until) > time.Minute {
		t.Errorf("withdrawn: until %v, %v", until, known)
	}
	if _, _, known := ask(protocol.NewNonce()); known {
		t.Error("one that was never issued")
	}
}
