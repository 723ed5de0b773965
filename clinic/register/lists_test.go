package register

import (
	"errors"
	"testing"
	"time"

	"vindu/protocol"
)

// All vouchers that can be used are listed, before the latest of the others; why one was refused is known.
func TestOpenVouchersFirst(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	old := c.voucher(t, "Home 1")
	for range 5 {
		c.clock = c.clock.Add(time.Second)
		v := c.voucher(t, "Home 2")
		if err := c.Withdraw(ctx, "Kari", v.ID); err != nil {
			t.Fatal(err)
		}
	}
	request := newRequest(t)
	if _, err := c.enrol(ctx, old, request); err != nil {
		t.Fatal(err)
	}
	if _, err := c.enrol(ctx, old, newRequest(t)); protocol.CodeOf(err) != protocol.IdentityVoucherUsed {
		t.Fatal(err)
	}
	open := []Voucher{c.voucher(t, "Home 3"), c.voucher(t, "Home 4"), c.voucher(t, "Home 5")}
	c.clock = c.clock.Add(time.Minute)
	for range 3 {
		if err := c.Withdraw(ctx, "Kari", c.voucher(t, "Home 2").ID); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Vouchers(ctx, "", 2)
	if err != nil || len(list) != len(open)+2 {
		t.Fatalf("%d vouchers, %v", len(list), err)
	}
	for i, v := range list {
		if (v.State == VoucherOpen) != (i < len(open)) {
			t.Errorf("place %d: %s", i, v.State)
		}
	}
	all, err := c.Vouchers(ctx, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		want := protocol.Code("")
		if v.ID == old.ID {
			want = protocol.IdentityVoucherUsed
		}
		if v.RefusedFor != want {
			t.Errorf("%s was refused for %q", v.Name(), v.RefusedFor)
		}
	}
}

// A terminal that went to another home and came back was moved to that other home, not to its own.
func TestMovedBack(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	request := newRequest(t)
	if _, err := c.enrol(ctx, c.voucher(t, "Home 1"), request); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"Home 2", "Home 1"} {
		c.clock = c.clock.Add(time.Hour)
		v := c.voucher(t, label)
		if _, err := c.Move(ctx, v.ID, v.Secret, request, c.authority.IssueTerminal); err != nil {
			t.Fatal(err)
		}
	}
	home, err := c.EnsureHome(ctx, "Kari", "Home 1")
	if err != nil {
		t.Fatal(err)
	}
	stays, err := c.History(ctx, home.ID)
	if err != nil || len(stays) != 2 || stays[0].MovedTo != "" || !stays[0].Ended.IsZero() || stays[1].MovedTo != "Home 2" || stays[1].Ended.IsZero() {
		t.Errorf("%+v, %v", stays, err)
	}
}

// A voucher for a new home and that home come to be together, or not at all.
func TestVoucherWithItsHome(t *testing.T) {
	c := open(t)
	if _, _, err := c.IssueVoucherFor(t.Context(), "Kari", "Home 1", MaxVoucherLife+1); err == nil {
		t.Error("a voucher for ever")
	}
	if _, _, err := c.IssueVoucherFor(t.Context(), "Kari", " Home 1", time.Hour); !errors.Is(err, ErrText) {
		t.Errorf("a label that cannot be used: %v", err)
	}
	if homes, err := c.Homes(t.Context()); err != nil || len(homes) != 0 {
		t.Errorf("%d homes, %v", len(homes), err)
	}
	h, v, err := c.IssueVoucherFor(t.Context(), "Kari", "Home 1", time.Hour)
	if err != nil || h.Label != "Home 1" || h.ID == "" || len(v.Secret) == 0 {
		t.Errorf("%+v, %v", h, err)
	}
}
