package setup

import (
	"errors"
	"slices"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// An order that was withdrawn is not sent any more; another can be given. What comes of one that was sent before counts.
func TestWithdrawOrder(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	key, terminal := c.terminal(t, "a")
	f := &terminals{states: map[protocol.KeyHash]fleet.State{}}
	now := time.Now()
	c.now = func() time.Time { return now }
	if _, err := c.WithdrawOrder(ctx, "Ola", terminal); !errors.Is(err, ErrNoOrder) {
		t.Errorf("without an order: %v", err)
	}
	first, err := c.Decommission(ctx, "Ola", terminal, "returned")
	if err != nil {
		t.Fatal(err)
	}
	if o, err := c.WithdrawOrder(ctx, "Kari", terminal); err != nil || o.State != OrderWithdrawn || o.Withdrew != "Kari" || o.Withdrawn.IsZero() || !o.Sent.IsZero() {
		t.Fatalf("%+v, %v", o, err)
	}
	f.online(terminal)
	now = now.Add(time.Second)
	if err := c.deliver(ctx, f); err != nil || len(f.take()) != 0 {
		t.Errorf("sent: %v", err)
	}
	if _, err := c.WithdrawOrder(ctx, "Kari", terminal); !errors.Is(err, ErrNoOrder) {
		t.Errorf("again: %v", err)
	}
	second, err := c.Decommission(ctx, "Ola", terminal, "returned after all")
	if err != nil || string(second.Signed) == string(first.Signed) {
		t.Fatalf("another order: %v", err)
	}
	if err := c.deliver(ctx, f); err != nil || len(f.take()) != 1 {
		t.Errorf("the other is not sent: %v", err)
	}
	if o, err := c.WithdrawOrder(ctx, "Kari", terminal); err != nil || o.Sent.IsZero() {
		t.Errorf("%+v, %v", o, err)
	}
	now = now.Add(time.Hour)
	if err := c.deliver(ctx, f); err != nil || len(f.take()) != 0 {
		t.Errorf("sent again: %v", err)
	}
	receipt, err := protocol.Sign(&protocol.Decommissioned{Version: 1, Terminal: terminal, Order: protocol.HashOf(second.Signed), KeyGrade: "file", At: protocol.At(now)}, key)
	if err != nil {
		t.Fatal(err)
	}
	c.receive(t, terminal, &protocol.ReceiptEvent{Version: 1, Receipt: receipt})
	if o, err := c.Orders(ctx, terminal); err != nil || o[0].State != OrderDone || o[1].State != OrderWithdrawn {
		t.Errorf("%+v, %v", o, err)
	}
	if n := c.audited(t, audit.DecommissionWithdrawn); n != 2 {
		t.Errorf("audited %d times", n)
	}
}

// An order that is withdrawn while it is about to be sent is not sent.
func TestWithdrawnWhileSending(t *testing.T) {
	c := open(t)
	_, terminal := c.terminal(t, "a")
	f := &terminals{states: map[protocol.KeyHash]fleet.State{}}
	f.online(terminal)
	if _, err := c.Decommission(t.Context(), "Ola", terminal, "returned"); err != nil {
		t.Fatal(err)
	}
	f.asked = func() {
		if o, err := c.WithdrawOrder(t.Context(), "Kari", terminal); err != nil || !o.Sent.IsZero() {
			t.Errorf("%+v, %v", o, err)
		}
	}
	if err := c.deliver(t.Context(), f); err != nil || len(f.take()) != 0 {
		t.Errorf("sent all the same, %v", err)
	}
	if o, err := c.Orders(t.Context(), terminal); err != nil || o[0].State != OrderWithdrawn || !o[0].Sent.IsZero() {
		t.Errorf("%+v, %v", o, err)
	}
}

// An order that nobody carried out in its time says that, not that its terminal was cut off.
func TestExpiredOrder(t *testing.T) {
	c := open(t)
	_, terminal := c.terminal(t, "a")
	if _, err := c.Decommission(t.Context(), "Ola", terminal, "returned"); err != nil {
		t.Fatal(err)
	}
	c.now = func() time.Time { return time.Now().Add(orderLife) }
	if o, err := c.Orders(t.Context(), terminal); err != nil || o[0].State != OrderExpired {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := c.WithdrawOrder(t.Context(), "Kari", terminal); !errors.Is(err, ErrNoOrder) {
		t.Errorf("withdrawn: %v", err)
	}
}

// Terminals are told of a withdrawn mandate until it is over, with a margin for clocks that are behind.
func TestWithdrawMandate(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	now := time.Now().Truncate(time.Millisecond)
	c.now = func() time.Time { return now }
	person := protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Solvik clinic"}
	laptop, other := spki(t, newKey(t)), spki(t, newKey(t))
	issue := func(key []byte, life time.Duration) Mandate {
		t.Helper()
		_, m, err := c.IssueMandate(ctx, "Kari", person, key, life)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	lost := []Mandate{issue(laptop, time.Hour), issue(laptop, 48*time.Hour)}
	kept, one := issue(other, time.Hour), issue(other, 2*time.Hour)
	if list, err := c.WithdrawMandates(ctx, "Ola", laptop); err != nil || len(list) != 2 || list[0].Withdrew != "Ola" {
		t.Fatalf("%+v, %v", list, err)
	}
	if m, err := c.WithdrawMandate(ctx, "Ola", one.ID); err != nil || m.ID != one.ID || m.Withdrawn.IsZero() {
		t.Fatalf("%+v, %v", m, err)
	}
	for name, err := range map[string]error{
		"again":           second(c.WithdrawMandate(ctx, "Ola", one.ID)),
		"no such":         second(c.WithdrawMandate(ctx, "Ola", protocol.NewNonce())),
		"of a lost again": second(c.WithdrawMandate(ctx, "Ola", lost[0].ID)),
	} {
		if !errors.Is(err, ErrNoMandate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	told := func() map[protocol.Nonce]bool {
		t.Helper()
		list, err := c.Withdrawn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m := map[protocol.Nonce]bool{}
		for _, id := range list {
			m[id] = true
		}
		return m
	}
	if got := told(); len(got) != 3 || !got[lost[0].ID] || !got[lost[1].ID] || !got[one.ID] || got[kept.ID] {
		t.Errorf("terminals are told of %v", got)
	}
	if list, err := c.Mandates(ctx, 1); err != nil || len(list) != 2 || list[0].ID != kept.ID {
		t.Errorf("the valid one first: %+v, %v", list, err)
	}
	now = now.Add(time.Hour + withdrawnLonger)
	if got := told(); len(got) != 2 || got[lost[0].ID] {
		t.Errorf("after the first one's end: %v", got)
	}
	if n := c.audited(t, audit.MandateWithdrawn); n != 3 {
		t.Errorf("audited %d times", n)
	}

	// There are no more than terminals can be told of.
	now = now.Add(30 * 24 * time.Hour)
	many := make([]Mandate, protocol.MaxWithdrawn+1)
	for i := range many {
		many[i] = issue(laptop, time.Hour)
	}
	if _, err := c.WithdrawMandates(ctx, "Ola", laptop); !errors.Is(err, ErrManyWithdrawn) {
		t.Errorf("too many: %v", err)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("withdrawn all the same: %d", len(got))
	}
	if !slices.ContainsFunc(many, func(m Mandate) bool { _, err := c.WithdrawMandate(ctx, "Ola", m.ID); return err == nil }) {
		t.Error("none can be withdrawn")
	}
}

func second[T any](_ T, err error) error { return err }

// A hand-over by an authorisation that had been withdrawn is kept, and said to be one.
func TestHandOverAfterWithdrawal(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	key, terminal := c.terminal(t, "a")
	laptop := newKey(t)
	person := protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Solvik clinic"}
	text, m, err := c.IssueMandate(ctx, "Kari", person, spki(t, laptop), 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	mandate, _, err := protocol.ParseMandate(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WithdrawMandate(ctx, "Ola", m.ID); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		at   time.Time
		flaw bool
	}{"before": {time.Now(), false}, "after": {time.Now().Add(handOverSkew + time.Minute), true}} {
		h := &protocol.HandOver{Version: 1, ID: protocol.NewNonce(), Terminal: terminal, Organisation: "Solvik clinic", Home: "a", Technician: person, Software: "x", KeyGrade: "file", At: protocol.At(tc.at)}
		for _, name := range protocol.CheckNames() {
			h.Checks = append(h.Checks, protocol.Check{Name: name, State: protocol.CheckPassed})
		}
		byTerminal, err := protocol.Sign(h, key)
		if err != nil {
			t.Fatal(err)
		}
		byLaptop, err := protocol.Sign(h, laptop)
		if err != nil {
			t.Fatal(err)
		}
		c.receive(t, terminal, &protocol.HandOverEvent{Version: 1, Terminal: byTerminal, Technician: byLaptop, Authorisation: mandate})
		list, err := c.HandOvers(ctx, terminal, 1)
		if err != nil || len(list) != 1 || (list[0].Flaw != "") != tc.flaw {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
}

// What one person issues, and takes back at once, leaves room for taking back what others have.
func TestMandatesOfOnePerson(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	now := time.Now().Truncate(time.Millisecond)
	c.now = func() time.Time { return now }
	hostile, other := register.Person{ID: "100000001"}, register.Person{ID: "100000002"}
	issue := func(who string) (Mandate, error) {
		_, m, err := c.IssueMandate(ctx, who, protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Solvik clinic"}, spki(t, newKey(t)), time.Hour)
		return m, err
	}
	for range maxMandates {
		m, err := issue(hostile.Who())
		if err == nil {
			_, err = c.WithdrawMandate(ctx, hostile.Who(), m.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := issue(hostile.Who()); !errors.Is(err, ErrManyMandates) {
		t.Errorf("one more: %v", err)
	}
	for _, who := range []string{other.Who(), "root"} {
		if m, err := issue(who); err != nil || second(c.WithdrawMandate(ctx, "Ola", m.ID)) != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
	now = now.Add(time.Hour + withdrawnLonger)
	if _, err := issue(hostile.Who()); err != nil {
		t.Errorf("when they are over: %v", err)
	}
}
