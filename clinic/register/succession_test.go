package register

import (
	"crypto/x509"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/protocol"
)

const day = 24 * time.Hour

func (c *clinic) succeed(t *testing.T, old, next *authority.Request) {
	t.Helper()
	certificate, err := c.Succeed(t.Context(), old.Hash, next, c.authority.IssueTerminal)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := c.authority.Terminal(certificate); err != nil || k != next.Hash {
		t.Fatalf("certificate of %v, %v", k, err)
	}
}

// at returns which key is the home's.
func (c *clinic) at(t *testing.T, label string) protocol.KeyHash {
	t.Helper()
	h, err := c.EnsureHome(t.Context(), "Kari", label)
	if err != nil {
		t.Fatal(err)
	}
	return h.Terminal
}

func (c *clinic) open(t *testing.T) (codes []protocol.Code) {
	t.Helper()
	alarms, err := c.Alarms(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alarms {
		codes = append(codes, a.Code)
	}
	return codes
}

func TestSucceed(t *testing.T) {
	c := open(t)
	old, next := newRequest(t), newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), old)
	c.succeed(t, old, next)
	c.succeed(t, old, next) // its reply was lost
	if _, err := c.Admit(t.Context(), old.Hash); err != nil || c.at(t, "a") != old.Hash {
		t.Errorf("the old key before the new one has connected: %v", err)
	}
	c.clock = c.clock.Add(SuccessionLife - time.Second)
	for range 2 {
		if terminal, err := c.Admit(t.Context(), next.Hash); err != nil || terminal.HomeLabel != "a" || string(terminal.SPKI) != string(next.SPKI) {
			t.Fatalf("the new key: %+v, %v", terminal, err)
		}
	}
	if c.at(t, "a") != next.Hash {
		t.Error("the home's terminal is not the new key")
	}
	if got := c.open(t); len(got) != 0 {
		t.Errorf("alarms %v", got)
	}
	for range 2 {
		if _, err := c.Admit(t.Context(), old.Hash); !errors.Is(err, ErrRevoked) || protocol.CodeOf(err) != protocol.LinkRefused {
			t.Errorf("the old key afterwards: %v", err)
		}
	}
	if got := c.open(t); !slices.Equal(got, []protocol.Code{protocol.IdentityClone}) {
		t.Errorf("alarms %v", got)
	}
	if _, err := c.Succeed(t.Context(), old.Hash, newRequest(t), c.authority.IssueTerminal); !errors.Is(err, ErrRevoked) {
		t.Errorf("the old key asks for another: %v", err)
	}
	stays, err := c.History(t.Context(), must(c.Admit(t.Context(), next.Hash)).Home)
	if err != nil || len(stays) != 2 || stays[0].Key != next.Hash || stays[1].Key != old.Hash || stays[0].SetUpBy != "Kari" ||
		stays[0].Issued != 1 || stays[1].Reason != reasonSucceeded || !stays[0].Ended.IsZero() || stays[1].Ended.IsZero() {
		t.Errorf("history %+v, %v", stays, err)
	}
	if k, ok, err := c.Successor(t.Context(), old.Hash); err != nil || !ok || k != next.Hash {
		t.Errorf("successor %v, %v, %v", k, ok, err)
	}
	if got, want := c.audited(t), []string{audit.HomeAdded, audit.VoucherIssued, audit.TerminalEnrolled, audit.KeyCertified, audit.KeyCertified, audit.KeyReplaced, audit.AlarmRaised}; !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
}

// TestTakeOverAtOnce: a terminal whose new key makes its first connections at once, to the broker and for its settings, is refused on none of them, which it would take for
// the end of its new key.
func TestTakeOverAtOnce(t *testing.T) {
	c := open(t)
	old := newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), old)
	for range 5 {
		next := newRequest(t)
		c.succeed(t, old, next)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if got, err := c.Admit(t.Context(), next.Hash); err != nil || got.HomeLabel != "a" {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		group.Wait()
		if got, err := c.takeOver(t.Context(), next.Hash); err != nil || got.Key != next.Hash { // as one that was not in the register when it looked
			t.Errorf("another that is just behind: %+v, %v", got, err)
		}
		old = next
	}
	if got := c.open(t); len(got) != 0 {
		t.Errorf("alarms %v", got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSuccessionRefused(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, c *clinic, old, next *authority.Request){
		"too late": func(t *testing.T, c *clinic, old, next *authority.Request) {
			c.succeed(t, old, next)
			c.clock = c.clock.Add(SuccessionLife)
			if _, err := c.Admit(t.Context(), next.Hash); !errors.Is(err, ErrNotFound) || protocol.CodeOf(err) != protocol.LinkRefused {
				t.Errorf("the new key: %v", err)
			}
			if _, err := c.Admit(t.Context(), old.Hash); err != nil {
				t.Errorf("the old key: %v", err)
			}
			c.succeed(t, old, next) // it begins again
			if _, err := c.Admit(t.Context(), next.Hash); err != nil {
				t.Errorf("the new key, asked for again: %v", err)
			}
		},
		"revoked in between": func(t *testing.T, c *clinic, old, next *authority.Request) {
			c.succeed(t, old, next)
			if err := c.Revoke(t.Context(), "Kari", old.Hash, "stolen"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Admit(t.Context(), next.Hash); !errors.Is(err, ErrRevoked) {
				t.Errorf("the new key: %v", err)
			}
			if got := c.open(t); len(got) != 0 {
				t.Errorf("alarms %v", got)
			}
		},
		"a key that is a terminal's": func(t *testing.T, c *clinic, old, _ *authority.Request) {
			other := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "b"), other)
			for _, taken := range []*authority.Request{other, old} {
				if _, err := c.Succeed(t.Context(), old.Hash, taken, c.authority.IssueTerminal); protocol.CodeOf(err) != protocol.IdentityClone {
					t.Errorf("got %v", err)
				}
			}
			if got := c.open(t); len(got) != 2 {
				t.Errorf("alarms %v", got)
			}
		},
		"the next key of another terminal": func(t *testing.T, c *clinic, old, next *authority.Request) {
			other := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "b"), other)
			c.succeed(t, other, next)
			if _, err := c.Succeed(t.Context(), old.Hash, next, c.authority.IssueTerminal); protocol.CodeOf(err) != protocol.IdentityClone {
				t.Errorf("got %v", err)
			}
			if c.Admit(t.Context(), next.Hash); c.at(t, "b") != next.Hash || c.at(t, "a") != old.Hash {
				t.Error("the key went to another home")
			}
		},
		"enrolled for another home before it has connected": func(t *testing.T, c *clinic, old, next *authority.Request) {
			c.succeed(t, old, next)
			mustEnrol(t, c, c.voucher(t, "b"), next)
			if c.at(t, "b") != next.Hash || c.at(t, "a") != (protocol.KeyHash{}) {
				t.Error("the terminal is in two homes, or in none")
			}
			if _, err := c.Admit(t.Context(), old.Hash); !errors.Is(err, ErrRevoked) {
				t.Errorf("the old key: %v", err)
			}
			if got := c.open(t); !slices.Equal(got, []protocol.Code{protocol.IdentityClone}) {
				t.Errorf("alarms %v", got)
			}
		},
		"enrolled for the same home before it has connected": func(t *testing.T, c *clinic, old, next *authority.Request) {
			c.succeed(t, old, next)
			mustEnrol(t, c, c.voucher(t, "a"), next)
			if k, ok, err := c.Successor(t.Context(), old.Hash); c.at(t, "a") != next.Hash || k != next.Hash || !ok || err != nil {
				t.Errorf("successor %v, %v", k, err)
			}
		},
		"enrolled when it is too late for it": func(t *testing.T, c *clinic, old, next *authority.Request) {
			c.succeed(t, old, next)
			c.succeed(t, old, newRequest(t))
			mustEnrol(t, c, c.voucher(t, "b"), next)
			if _, err := c.Admit(t.Context(), old.Hash); err != nil || c.at(t, "a") != old.Hash {
				t.Errorf("another took the old key's place: %v", err)
			}
		},
		"two at once": func(t *testing.T, c *clinic, old, next *authority.Request) {
			second := newRequest(t)
			c.succeed(t, old, next)
			c.succeed(t, old, second)
			if _, err := c.Admit(t.Context(), next.Hash); !errors.Is(err, ErrNotFound) {
				t.Errorf("the first: %v", err)
			}
			if _, err := c.Admit(t.Context(), second.Hash); err != nil {
				t.Errorf("the second: %v", err)
			}
			if got := c.open(t); !slices.Equal(got, []protocol.Code{protocol.IdentityTwice}) {
				t.Errorf("alarms %v", got)
			}
		},
		"too many": func(t *testing.T, c *clinic, old, next *authority.Request) {
			for range maxSuccessions {
				c.succeed(t, old, newRequest(t))
			}
			if _, err := c.Succeed(t.Context(), old.Hash, next, c.authority.IssueTerminal); protocol.CodeOf(err) != protocol.LinkTooMany {
				t.Errorf("got %v", err)
			}
		},
		"too often": func(t *testing.T, c *clinic, old, next *authority.Request) {
			for range maxPerDay {
				c.succeed(t, old, next)
			}
			before := len(c.audited(t))
			if _, err := c.Succeed(t.Context(), old.Hash, next, c.authority.IssueTerminal); protocol.CodeOf(err) != protocol.LinkTooMany || len(c.audited(t)) != before {
				t.Errorf("got %v, and %d more entries in the audit log", err, len(c.audited(t))-before)
			}
			if c.clock = c.clock.Add(day); c.at(t, "a") != old.Hash {
				t.Error("the old key went")
			}
			c.succeed(t, old, next)
		},
		"not in the register": func(t *testing.T, c *clinic, _, next *authority.Request) {
			if _, err := c.Succeed(t.Context(), newRequest(t).Hash, next, c.authority.IssueTerminal); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			old := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "a"), old)
			f(t, c, old, newRequest(t))
		})
	}
}

// TestRestored: a register that was restored from a backup from before a terminal replaced its key, and destroyed it, knows the terminal by its certificate.
func TestRestored(t *testing.T) {
	c, old, next, last := open(t), newRequest(t), newRequest(t), newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), old)
	replaced := func(old, next *authority.Request) *x509.Certificate {
		t.Helper()
		certificate, err := c.Succeed(t.Context(), old.Hash, next, c.authority.IssueTerminal)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	first := replaced(old, next)
	overtaken := replaced(old, last)
	again := replaced(old, next)
	if _, err := c.AdmitBy(t.Context(), last.Hash, overtaken); !errors.Is(err, ErrNotFound) {
		t.Errorf("where it was refused and meant, its certificate lets it in: %v", err)
	}
	must(c.AdmitBy(t.Context(), next.Hash, again))
	renewed := must(c.Renew(t.Context(), next, c.authority.IssueTerminal))
	plain, err := c.authority.IssueTerminal(next)
	if err != nil {
		t.Fatal(err)
	}
	// The authority is not restored with it: it is the same.
	restored := func(t *testing.T) *clinic {
		r := open(t)
		r.authority = c.authority
		return r
	}
	for name, f := range map[string]func(*testing.T, *clinic) (certificate *x509.Certificate, in bool){
		"as it was":       func(t *testing.T, r *clinic) (*x509.Certificate, bool) { return again, true },
		"by one before":   func(t *testing.T, r *clinic) (*x509.Certificate, bool) { return first, true },
		"renewed":         func(t *testing.T, r *clinic) (*x509.Certificate, bool) { return renewed, true },
		"that names none": func(t *testing.T, r *clinic) (*x509.Certificate, bool) { return plain, false },
		"expired": func(t *testing.T, r *clinic) (*x509.Certificate, bool) {
			r.clock = again.NotAfter.Add(time.Second)
			return again, false
		},
		"of one that was revoked": func(t *testing.T, r *clinic) (*x509.Certificate, bool) {
			if err := r.Revoke(t.Context(), "Kari", old.Hash, "stolen"); err != nil {
				t.Fatal(err)
			}
			return again, false
		},
		"of one that has another successor": func(t *testing.T, r *clinic) (*x509.Certificate, bool) {
			r.succeed(t, old, last)
			must(r.Admit(t.Context(), last.Hash))
			return again, false
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := restored(t)
			mustEnrol(t, r, r.voucher(t, "a"), old)
			certificate, in := f(t, r)
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					if got, err := r.AdmitBy(t.Context(), next.Hash, certificate); (err == nil) != in || in && got.HomeLabel != "a" || !in && protocol.CodeOf(err) != protocol.LinkRefused {
						t.Errorf("%+v, %v", got, err)
					}
				})
			}
			group.Wait()
			if (r.at(t, "a") == next.Hash) != in {
				t.Errorf("in the home is %v", r.at(t, "a"))
			}
			if _, err := r.Admit(t.Context(), old.Hash); in && !errors.Is(err, ErrRevoked) {
				t.Errorf("the old key: %v", err)
			}
		})
	}
	t.Run("in which neither is known", func(t *testing.T) {
		if _, err := restored(t).AdmitBy(t.Context(), next.Hash, again); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

// Where the alarm for a second new key cannot be stored, nothing else is either: asked again, the terminal raises it.
func TestSecondKeyIsToldOf(t *testing.T) {
	c := open(t)
	old, first, second := newRequest(t), newRequest(t), newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), old)
	c.succeed(t, old, first)
	rename := func(from, to string) {
		t.Helper()
		if err := c.store.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec("ALTER TABLE " + from + " RENAME TO " + to); return err }); err != nil {
			t.Fatal(err)
		}
	}
	rename("alarms", "away")
	if _, err := c.Succeed(t.Context(), old.Hash, second, c.authority.IssueTerminal); err == nil {
		t.Error("certified, and nobody is told")
	}
	rename("away", "alarms")
	c.succeed(t, old, second)
	if got := c.open(t); !slices.Equal(got, []protocol.Code{protocol.IdentityTwice}) {
		t.Errorf("alarms %v", got)
	}
}

func TestKeyDue(t *testing.T) {
	c := open(t)
	began := c.clock
	const life = 100 * day
	var terminals []Terminal
	for _, label := range []string{"a", "b", "c", "d", "e", "f"} {
		r := newRequest(t)
		mustEnrol(t, c, c.voucher(t, label), r)
		terminals = append(terminals, must(c.Admit(t.Context(), r.Hash)))
	}
	due := func(after, life time.Duration) (n int) {
		t.Helper()
		c.clock = began.Add(after)
		for _, terminal := range terminals {
			if must(c.KeyDue(t.Context(), terminal, life)) {
				n++
			}
		}
		return n
	}
	if young, old, ageless := due(life-day, life), due(life+life/lifeSpread+day, life), due(100*life, 0); young != 0 || old != len(terminals) || ageless != 0 {
		t.Errorf("due by age: %d, then %d; without an age %d", young, old, ageless)
	}
	if half := due(life+life/lifeSpread/2, life); half == 0 && due(life+life/lifeSpread*3/4, life) == 0 {
		t.Error("none is due before the end of the spread") // one in 4^6
	}
	c.clock = began.Add(-time.Hour)
	if _, err := c.OrderKeys(t.Context(), "Kari", began); err == nil {
		t.Error("ordered for a time that has still to come")
	}
	c.clock = began.Add(day)
	if n, err := c.OrderKeys(t.Context(), "Kari", began.Add(-time.Hour)); err != nil || n != 0 || due(10*day, 0) != 0 {
		t.Errorf("older keys than there are: %d, %v", n, err)
	}
	c.clock = began.Add(day)
	if n, err := c.OrderKeys(t.Context(), "Kari", c.clock); err != nil || n != len(terminals) {
		t.Errorf("ordered: %d, %v", n, err)
	}
	if soon, later := due(day, 0), due(day+orderSpread, 0); soon == len(terminals) || later != len(terminals) {
		t.Errorf("due by order: %d at once, %d a day later", soon, later)
	}
	if got := c.audited(t); got[len(got)-1] != audit.KeysOrdered {
		t.Errorf("audited %v", got)
	}
}
