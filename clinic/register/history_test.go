package register

import (
	"errors"
	"slices"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// A terminal moves by a voucher and the certificate that it has; the home's former terminal is replaced, both histories keep both.
func TestMove(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	one, two := newRequest(t), newRequest(t)
	first, second := c.voucher(t, "a"), c.voucher(t, "b")
	if _, err := c.enrol(ctx, first, one); err != nil {
		t.Fatal(err)
	}
	if _, err := c.enrol(ctx, second, two); err != nil {
		t.Fatal(err)
	}
	c.clock = c.clock.Add(time.Hour / 2)
	v := c.voucher(t, "b")
	for range 2 { // the reply to the first was lost
		if _, err := c.Move(ctx, v.ID, v.Secret, one, c.authority.IssueTerminal); err != nil {
			t.Fatal(err)
		}
	}
	homes, err := c.Homes(ctx)
	if err != nil || homes[0].Terminal != (protocol.KeyHash{}) || homes[1].Terminal != one.Hash {
		t.Fatalf("homes %+v, %v", homes, err)
	}
	a, err := c.History(ctx, homes[0].ID)
	if err != nil || len(a) != 1 || a[0].Key != one.Hash || a[0].MovedTo != "b" || !a[0].Ended.Equal(time.UnixMilli(c.clock.UnixMilli())) || a[0].SetUpBy != "Kari" {
		t.Errorf("history of a: %+v, %v", a, err)
	}
	b, err := c.History(ctx, homes[1].ID)
	if err != nil || len(b) != 2 || b[0].Key != one.Hash || !b[0].Ended.IsZero() || b[0].MovedTo != "" || b[0].Issued != 3 || len(b[0].Certificates) != 3 ||
		b[1].Key != two.Hash || b[1].Reason != "replaced by another terminal" || b[1].Ended.IsZero() {
		t.Errorf("history of b: %+v, %v", b, err)
	}
	if what := c.audited(t); !slices.Contains(what, audit.TerminalMoved) || !slices.Contains(what, audit.TerminalReplaced) {
		t.Errorf("audited %v", what)
	}
	v = c.voucher(t, "a")
	if _, err := c.Move(ctx, v.ID, v.Secret, two, c.authority.IssueTerminal); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked terminal moves: %v", err)
	}
	if alarms, err := c.Alarms(ctx, 10); err != nil || len(alarms) != 0 {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
}

// A key that was seen before raises one alarm, however often it comes; settled, the next is a new one.
func TestAlarm(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	r := newRequest(t)
	if _, err := c.enrol(ctx, c.voucher(t, "a"), r); err != nil {
		t.Fatal(err)
	}
	again := c.voucher(t, "b")
	for range 2 * maxNoted {
		if _, err := c.enrol(ctx, again, r); protocol.CodeOf(err) != protocol.IdentityClone {
			t.Fatal(err)
		}
	}
	open, err := c.Alarms(ctx, 10)
	if err != nil || len(open) != 1 {
		t.Fatalf("%d alarms, %v", len(open), err)
	}
	a := open[0]
	if a.Code != protocol.IdentityClone || a.Terminal != r.Hash || a.HomeLabel != "a" || a.Count != 2*maxNoted || a.SettledBy != "" {
		t.Errorf("alarm %+v", a)
	}
	if err := c.Settle(ctx, "Ola", a.N, "a copied card"); err != nil {
		t.Fatal(err)
	}
	if err := c.Settle(ctx, "Ola", a.N, "again"); !errors.Is(err, ErrNotFound) {
		t.Errorf("settled twice: %v", err)
	}
	stranger := newRequest(t).Hash
	for _, key := range []protocol.KeyHash{r.Hash, stranger} {
		if err := c.Raise(ctx, protocol.IdentityTwice, key, "two start\ntimes"); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Alarms(ctx, 10)
	if err != nil || len(list) != 3 || list[2].SettledBy != "Ola" || list[2].Note != "a copied card" {
		t.Errorf("alarms %+v, %v", list, err)
	}
	raised := 0
	for _, what := range c.audited(t) {
		if what == audit.AlarmRaised {
			raised++
		}
	}
	if raised != 3 {
		t.Errorf("%d alarms audited, want 3", raised)
	}
}

func TestVouchers(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	overtaken := c.voucher(t, "a")
	c.clock = c.clock.Add(time.Second)
	used := c.voucher(t, "a")
	c.clock = c.clock.Add(time.Second)
	withdrawn, fresh := c.voucher(t, "b"), c.voucher(t, "c")
	r := newRequest(t)
	if _, err := c.enrol(ctx, used, r); err != nil {
		t.Fatal(err)
	}
	if err := c.Withdraw(ctx, "Kari", withdrawn.ID); err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]protocol.Nonce{"used": used.ID, "withdrawn": withdrawn.ID, "unknown": {1}} {
		if err := c.Withdraw(ctx, "Kari", id); !errors.Is(err, ErrNotFound) {
			t.Errorf("withdraw one that is %s: %v", name, err)
		}
	}
	if _, err := c.enrol(ctx, withdrawn, newRequest(t)); protocol.CodeOf(err) != protocol.IdentityVoucherOld {
		t.Errorf("withdrawn: %v", err)
	}
	states := func() map[protocol.Nonce]string {
		t.Helper()
		list, err := c.Vouchers(ctx, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		m := map[protocol.Nonce]string{}
		for _, v := range list {
			m[v.ID] = v.State
			if v.State == VoucherUsed && v.Terminal != r.Hash {
				t.Errorf("used by %v", v.Terminal)
			}
		}
		return m
	}
	got := states()
	for name, tc := range map[string]struct {
		v    Voucher
		want string
	}{
		"overtaken": {overtaken, VoucherOvertaken}, "used": {used, VoucherUsed}, "withdrawn": {withdrawn, VoucherWithdrawn}, "open": {fresh, VoucherOpen},
	} {
		if got[tc.v.ID] != tc.want {
			t.Errorf("%s: %s", name, got[tc.v.ID])
		}
	}
	c.clock = c.clock.Add(time.Hour)
	if got := states()[fresh.ID]; got != VoucherExpired {
		t.Errorf("after its time: %s", got)
	}
	if list, err := c.Vouchers(ctx, "nowhere", 100); err != nil || len(list) != 0 {
		t.Errorf("of no home: %d, %v", len(list), err)
	}
}

// The clinic's clock was a month ahead, and was put right: no voucher that was worthless is good again, and a new one is good.
func TestVouchersOfAClockThatGoesBack(t *testing.T) {
	c := open(t)
	now := c.clock
	c.clock = now.Add(30 * day)
	withdrawn, found, used := c.voucher(t, "a"), c.voucher(t, "b"), c.voucher(t, "c")
	if err := c.Withdraw(t.Context(), "Kari", withdrawn.ID); err != nil {
		t.Fatal(err)
	}
	mustEnrol(t, c, used, newRequest(t))
	c.clock = now
	mustEnrol(t, c, c.voucher(t, "b"), newRequest(t))
	for name, v := range map[string]Voucher{"withdrawn": withdrawn, "before one that was used": found} {
		if _, err := c.enrol(t.Context(), v, newRequest(t)); protocol.CodeOf(err) != protocol.IdentityVoucherOld {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustEnrol(t, c, c.voucher(t, "c"), newRequest(t))
}
