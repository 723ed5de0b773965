package register

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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clinic struct {
	*Register
	authority *authority.Authority
	log       *audit.Log
	clock     time.Time
}

func open(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	if err := authority.Create(filepath.Join(dir, "authority"), "Vestfold kommune"); err != nil {
		t.Fatal(err)
	}
	a, err := authority.Load(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := audit.New(t.Context(), s, a.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(t.Context(), s, l)
	if err != nil {
		t.Fatal(err)
	}
	c := &clinic{Register: r, authority: a, log: l, clock: time.Now()}
	r.now = func() time.Time { return c.clock }
	return c
}

// voucher issues one, good for an hour, for the home with this label.
func (c *clinic) voucher(t *testing.T, label string) Voucher {
	t.Helper()
	h, err := c.EnsureHome(t.Context(), "Kari", label)
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.IssueVoucher(t.Context(), "Kari", h.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (c *clinic) enrol(ctx context.Context, v Voucher, r *authority.Request) (*x509.Certificate, error) {
	return c.Enrol(ctx, v.ID, v.Secret, r, c.authority.IssueTerminal)
}

func (c *clinic) audited(t *testing.T) (what []string) {
	t.Helper()
	entries, err := c.log.Entries(t.Context(), -1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		what = append(what, e.What)
	}
	return what
}

func newRequest(t testing.TB) *authority.Request {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		t.Fatal(err)
	}
	r, err := authority.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEnrol(t *testing.T) {
	c := open(t)
	v := c.voucher(t, "Home 17, Storgata")
	r := newRequest(t)
	certificate, err := c.enrol(t.Context(), v, r)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := c.authority.Terminal(certificate); err != nil || k != r.Hash {
		t.Errorf("certificate of %v, %v", k, err)
	}
	terminal, err := c.Admit(t.Context(), r.Hash)
	if err != nil || terminal.HomeLabel != "Home 17, Storgata" || string(terminal.SPKI) != string(r.SPKI) || terminal.Enrolled.IsZero() {
		t.Errorf("terminal = %+v, %v", terminal, err)
	}
	homes, err := c.Homes(t.Context())
	if err != nil || len(homes) != 1 || homes[0].Terminal != r.Hash || homes[0].ID != terminal.Home {
		t.Errorf("homes = %+v, %v", homes, err)
	}
	if got, want := c.audited(t), []string{audit.HomeAdded, audit.VoucherIssued, audit.TerminalEnrolled}; !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
	var secrets int
	if err := c.store.Read().QueryRow("SELECT count(*) FROM vouchers WHERE hash = ? OR instr(hash, ?)", v.Secret, v.Secret).Scan(&secrets); err != nil || secrets != 0 {
		t.Errorf("the secret is in the database: %v", err)
	}
}

func TestEnrolRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		code    protocol.Code
		audited bool
		present func(t *testing.T, c *clinic) (Voucher, *authority.Request)
	}{
		"unknown voucher": {protocol.IdentityVoucher, false, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			return Voucher{ID: protocol.NewNonce(), Secret: make([]byte, 32)}, newRequest(t)
		}},
		"wrong secret": {protocol.IdentityVoucher, false, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			v := c.voucher(t, "a")
			v.Secret[31] ^= 1
			return v, newRequest(t)
		}},
		"no secret": {protocol.IdentityVoucher, false, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			v := c.voucher(t, "a")
			v.Secret = nil
			return v, newRequest(t)
		}},
		"expired": {protocol.IdentityVoucherOld, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			v := c.voucher(t, "a")
			c.clock = v.Expires
			return v, newRequest(t)
		}},
		"used by another key": {protocol.IdentityVoucherUsed, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			v := c.voucher(t, "a")
			mustEnrol(t, c, v, newRequest(t))
			return v, newRequest(t)
		}},
		"used by another key and expired": {protocol.IdentityVoucherUsed, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			v := c.voucher(t, "a")
			mustEnrol(t, c, v, newRequest(t))
			c.clock = v.Expires
			return v, newRequest(t)
		}},
		"key of another home": {protocol.IdentityClone, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			r := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "a"), r)
			return c.voucher(t, "b"), r
		}},
		"key of the same home": {protocol.IdentityClone, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			r := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "a"), r)
			return c.voucher(t, "a"), r
		}},
		"key that was replaced": {protocol.IdentityClone, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			r := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "a"), r)
			mustEnrol(t, c, c.voucher(t, "a"), newRequest(t))
			return c.voucher(t, "a"), r
		}},
		"older than the one that was used for the home": {protocol.IdentityVoucherOld, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			lost := c.voucher(t, "a")
			c.clock = c.clock.Add(time.Minute)
			mustEnrol(t, c, c.voucher(t, "a"), newRequest(t))
			return lost, newRequest(t)
		}},
		"again after it was revoked": {protocol.LinkRefused, true, func(t *testing.T, c *clinic) (Voucher, *authority.Request) {
			r, v := newRequest(t), c.voucher(t, "a")
			mustEnrol(t, c, v, r)
			if err := c.Revoke(t.Context(), "Kari", r.Hash, "stolen"); err != nil {
				t.Fatal(err)
			}
			return v, r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			v, r := tc.present(t, c)
			before := c.audited(t)
			certificate, err := c.enrol(t.Context(), v, r)
			if certificate != nil || protocol.CodeOf(err) != tc.code {
				t.Errorf("certificate %v, error %v with code %s, want %s", certificate != nil, err, protocol.CodeOf(err), tc.code)
			}
			added := c.audited(t)[len(before):]
			var want []string
			if tc.code == protocol.IdentityClone {
				want = append(want, audit.AlarmRaised)
			}
			if tc.audited {
				want = append(want, audit.EnrolmentRefused)
			}
			if !slices.Equal(added, want) {
				t.Errorf("audited %v, want %v", added, want)
			}
		})
	}
}

func mustEnrol(t *testing.T, c *clinic, v Voucher, r *authority.Request) *x509.Certificate {
	t.Helper()
	certificate, err := c.enrol(t.Context(), v, r)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestEnrolAgain: a reply that was lost on the way costs nothing, also when the voucher has expired meanwhile.
func TestEnrolAgain(t *testing.T) {
	c := open(t)
	v, r := c.voucher(t, "a"), newRequest(t)
	first := mustEnrol(t, c, v, r)
	c.clock = v.Expires.Add(usedLife - time.Second)
	second := mustEnrol(t, c, v, r)
	if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Error("the same certificate twice")
	}
	if got := c.audited(t); got[len(got)-1] != audit.TerminalRenewed {
		t.Errorf("the second certificate is not on the record: %v", got)
	}
	if _, err := c.Admit(t.Context(), r.Hash); err != nil {
		t.Error(err)
	}
	// A certificate that cannot be made leaves the voucher as it was.
	v, r = c.voucher(t, "b"), newRequest(t)
	fails := func(*authority.Request) (*x509.Certificate, error) { return nil, errors.New("no entropy") }
	if _, err := c.Enrol(t.Context(), v.ID, v.Secret, r, fails); err == nil {
		t.Error("no error")
	}
	mustEnrol(t, c, v, newRequest(t))
}

// TestUsedVoucher: who finds a voucher that was used learns nothing by it for long, and nothing when the terminal is elsewhere.
func TestUsedVoucher(t *testing.T) {
	for name, tc := range map[string]struct {
		then func(t *testing.T, c *clinic, v Voucher, r *authority.Request)
		good bool
	}{
		"soon": {func(*testing.T, *clinic, Voucher, *authority.Request) {}, true},
		"a day on": {func(_ *testing.T, c *clinic, v Voucher, _ *authority.Request) {
			c.clock = v.Expires.Add(usedLife - time.Second)
		}, true},
		"a week on": {func(_ *testing.T, c *clinic, v Voucher, _ *authority.Request) { c.clock = v.Expires.Add(usedLife) }, false},
		"the terminal has moved": {func(t *testing.T, c *clinic, _ Voucher, r *authority.Request) {
			c.clock = c.clock.Add(time.Minute)
			next := c.voucher(t, "b")
			if _, err := c.Move(t.Context(), next.ID, next.Secret, r, c.authority.IssueTerminal); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ByVoucher(t.Context(), next.ID, next.Secret); err != nil {
				t.Errorf("its latest voucher: %v", err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			v, r := c.voucher(t, "a"), newRequest(t)
			mustEnrol(t, c, v, r)
			tc.then(t, c, v, r)
			_, err := c.ByVoucher(t.Context(), v.ID, v.Secret)
			_, again := c.enrol(t.Context(), v, r)
			alarms, alarmsErr := c.Alarms(t.Context(), 0)
			if alarmsErr != nil {
				t.Fatal(alarmsErr)
			}
			if tc.good && (err != nil || again != nil || len(alarms) != 0) {
				t.Errorf("%v, %v, %+v", err, again, alarms)
			}
			if !tc.good && (protocol.CodeOf(err) != protocol.IdentityVoucherUsed || protocol.CodeOf(again) != protocol.IdentityVoucherUsed || len(alarms) != 1) {
				t.Errorf("%v, %v, %+v", err, again, alarms)
			}
		})
	}
}

// TestCloneAlarm: a key that is in the register and comes with a voucher alone raises an alarm whatever is wrong with the voucher, and whoever hangs up.
func TestCloneAlarm(t *testing.T) {
	for name, tc := range map[string]struct {
		voucher func(t *testing.T, c *clinic) Voucher
		want    protocol.Code
	}{
		"good":    {func(t *testing.T, c *clinic) Voucher { return c.voucher(t, "b") }, protocol.IdentityClone},
		"expired": {func(t *testing.T, c *clinic) Voucher { v := c.voucher(t, "b"); c.clock = v.Expires; return v }, protocol.IdentityVoucherOld},
		"withdrawn": {func(t *testing.T, c *clinic) Voucher {
			v := c.voucher(t, "b")
			if err := c.Withdraw(t.Context(), "Kari", v.ID); err != nil {
				t.Fatal(err)
			}
			return v
		}, protocol.IdentityVoucherOld},
		"used": {func(t *testing.T, c *clinic) Voucher {
			v := c.voucher(t, "b")
			mustEnrol(t, c, v, newRequest(t))
			return v
		}, protocol.IdentityVoucherUsed},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			known := newRequest(t)
			mustEnrol(t, c, c.voucher(t, "a"), known)
			v := tc.voucher(t, c)
			if _, err := c.enrol(t.Context(), v, known); protocol.CodeOf(err) != tc.want {
				t.Errorf("%v", err)
			}
			alarms, err := c.Alarms(t.Context(), 0)
			if err != nil || len(alarms) != 1 || alarms[0].Code != protocol.IdentityClone || alarms[0].Terminal != known.Hash {
				t.Errorf("%+v, %v", alarms, err)
			}
		})
	}
	c := open(t)
	known := newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), known)
	v := c.voucher(t, "b")
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	if err := c.noteRefusal(ctx, v.ID, voucher{home: "x", clone: true}, known.Hash, protocol.IdentityClone); err != nil {
		t.Error(err)
	}
	if alarms, err := c.Alarms(t.Context(), 0); err != nil || len(alarms) != 1 {
		t.Errorf("after it hung up: %+v, %v", alarms, err)
	}
}

// TestRenewalsAreBounded: certificates and audit entries are never forgotten, so one key cannot make as many as it likes.
func TestRenewalsAreBounded(t *testing.T) {
	c := open(t)
	v, r := c.voucher(t, "a"), newRequest(t)
	mustEnrol(t, c, v, r)
	for range maxPerDay - 1 {
		c.clock = c.clock.Add(time.Minute)
		if _, err := c.Renew(t.Context(), r, c.authority.IssueTerminal); err != nil {
			t.Fatal(err)
		}
	}
	before := len(c.audited(t))
	if _, err := c.Renew(t.Context(), r, c.authority.IssueTerminal); protocol.CodeOf(err) != protocol.LinkTooMany {
		t.Errorf("renewed: %v", err)
	}
	if _, err := c.enrol(t.Context(), v, r); protocol.CodeOf(err) != protocol.LinkTooMany {
		t.Errorf("let in again: %v", err)
	}
	if got := len(c.audited(t)); got != before {
		t.Errorf("%d entries more", got-before)
	}
	mustEnrol(t, c, c.voucher(t, "b"), newRequest(t)) // another key
	c.clock = c.clock.Add(24 * time.Hour)
	if _, err := c.Renew(t.Context(), r, c.authority.IssueTerminal); err != nil {
		t.Errorf("a day later: %v", err)
	}
}

// TestReadersAreHeld: where all of the database's readers are held, to look for revoked terminals fails rather than to wait for ever.
func TestReadersAreHeld(t *testing.T) {
	c := open(t)
	ctx, release := context.WithCancel(t.Context())
	defer release()
	for range 4 {
		conn, err := c.store.Read().Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	var last int64
	if err := c.revokedSince(t.Context(), &last, func(protocol.KeyHash) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestRefusalsAreBounded: who has a used voucher cannot fill the audit log.
func TestRefusalsAreBounded(t *testing.T) {
	c := open(t)
	v := c.voucher(t, "a")
	mustEnrol(t, c, v, newRequest(t))
	before := len(c.audited(t))
	other := newRequest(t)
	for range maxNoted + 5 {
		if _, err := c.enrol(t.Context(), v, other); protocol.CodeOf(err) != protocol.IdentityVoucherUsed {
			t.Fatal(err)
		}
	}
	if got := len(c.audited(t)) - before; got != maxNoted {
		t.Errorf("%d audit entries, want %d", got, maxNoted)
	}
}

// TestStrangersDoNotWrite: who has no voucher is refused without a turn at the database's one writer.
func TestStrangersDoNotWrite(t *testing.T) {
	c := open(t)
	v := c.voucher(t, "a")
	v.Secret[0] ^= 1
	err := c.store.Write(t.Context(), func(*sql.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.enrol(ctx, v, newRequest(t))
		return err
	})
	if protocol.CodeOf(err) != protocol.IdentityVoucher {
		t.Errorf("while another writes: %v", err)
	}
}

func TestRacers(t *testing.T) {
	c := open(t)
	v := c.voucher(t, "a")
	var won, used atomic.Int64
	var winner atomic.Pointer[authority.Request]
	var wg sync.WaitGroup
	for range 50 {
		r := newRequest(t)
		wg.Go(func() {
			_, err := c.enrol(context.Background(), v, r)
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(r)
			case protocol.CodeOf(err) == protocol.IdentityVoucherUsed:
				used.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || used.Load() != 49 {
		t.Fatalf("%d won and %d were refused, want 1 and 49", won.Load(), used.Load())
	}
	if homes, err := c.Homes(t.Context()); err != nil || homes[0].Terminal != winner.Load().Hash {
		t.Errorf("the home's terminal is not the winner: %v", err)
	}
	if _, err := c.log.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestReplace(t *testing.T) {
	c := open(t)
	old, young := newRequest(t), newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), old)
	mustEnrol(t, c, c.voucher(t, "a"), young)
	if _, err := c.Admit(t.Context(), old.Hash); !errors.Is(err, ErrRevoked) || protocol.CodeOf(err) != protocol.LinkRefused {
		t.Errorf("the one before: %v", err)
	}
	if homes, err := c.Homes(t.Context()); err != nil || len(homes) != 1 || homes[0].Terminal != young.Hash {
		t.Errorf("homes = %+v, %v", homes, err)
	}
	if _, err := c.Renew(t.Context(), old, c.authority.IssueTerminal); !errors.Is(err, ErrRevoked) {
		t.Errorf("renewed: %v", err)
	}
	if _, err := c.Renew(t.Context(), young, c.authority.IssueTerminal); err != nil {
		t.Error(err)
	}
	if got := c.audited(t); !slices.Contains(got, audit.TerminalReplaced) || got[len(got)-1] != audit.TerminalRenewed {
		t.Errorf("audited %v", got)
	}
}

func TestWatchRevoked(t *testing.T) {
	c := open(t)
	a, b := newRequest(t), newRequest(t)
	mustEnrol(t, c, c.voucher(t, "a"), a)
	mustEnrol(t, c, c.voucher(t, "b"), b)
	if err := c.Revoke(t.Context(), "Kari", a.Hash, "stolen"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan protocol.KeyHash)
	done := make(chan error, 1)
	go func() { done <- c.WatchRevoked(ctx, func(k protocol.KeyHash) { seen <- k }) }()
	if k := <-seen; k != a.Hash {
		t.Errorf("first %v", k)
	}
	for range 2 { // the second time nothing happens
		if err := c.Revoke(t.Context(), "Kari", b.Hash, "stolen"); err != nil {
			t.Fatal(err)
		}
	}
	if k := <-seen; k != b.Hash {
		t.Errorf("second %v", k)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(c.audited(t)); n != 8 {
		t.Errorf("%d audit entries, want 8: %v", n, c.audited(t))
	}
}

func TestNotFound(t *testing.T) {
	c := open(t)
	key := protocol.KeyHash{1}
	_, errAdmit := c.Admit(t.Context(), key)
	_, errHome := c.Home(t.Context(), "1")
	_, errPerson := c.Person(t.Context(), "1")
	_, errVoucher := c.IssueVoucher(t.Context(), "Kari", "1", time.Hour)
	_, errRenew := c.Renew(t.Context(), newRequest(t), c.authority.IssueTerminal)
	for name, err := range map[string]error{"admit": errAdmit, "home": errHome, "person": errPerson, "voucher": errVoucher, "renew": errRenew,
		"revoke": c.Revoke(t.Context(), "Kari", key, "stolen")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPersons(t *testing.T) {
	c := open(t)
	anne := protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Vestfold kommune"}
	first, err := c.EnsurePerson(t.Context(), "Kari", anne, Clinician)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.EnsurePerson(t.Context(), "Kari", anne, Clinician)
	if err != nil || again != first || first.ID == "" {
		t.Errorf("again %+v, first %+v, %v", again, first, err)
	}
	if got, err := c.Person(t.Context(), first.ID); err != nil || got != first {
		t.Errorf("person = %+v, %v", got, err)
	}
	doctor := anne
	doctor.Role = "physician"
	if other, err := c.EnsurePerson(t.Context(), "Kari", doctor, Clinician); err != nil || other.ID == first.ID {
		t.Errorf("another role: %+v, %v", other, err)
	}
	if got, want := c.audited(t), []string{audit.PersonAdded, audit.PersonAdded}; !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
}

func TestTexts(t *testing.T) {
	c := open(t)
	for _, label := range []string{"", " ", " a", "a\n", "a\x00b", "a\u202eb", "a\u200bb", "\xff", strings.Repeat("å", 129)} {
		if _, err := c.EnsureHome(t.Context(), "Kari", label); !errors.Is(err, ErrText) {
			t.Errorf("label %q: %v", label, err)
		}
		if _, err := c.EnsurePerson(t.Context(), "Kari", protocol.Party{Name: label, Role: "nurse", Organisation: "x"}, Clinician); !errors.Is(err, ErrText) {
			t.Errorf("name %q: %v", label, err)
		}
	}
	for _, label := range []string{"Home 17, Storgata", "Leilighet 4 – 2. etg.", "Gáivuotna/Kåfjord"} {
		first, err := c.EnsureHome(t.Context(), "Kari", label)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.EnsureHome(t.Context(), "Kari", label)
		if err != nil || again.ID != first.ID || len(first.ID) != 9 {
			t.Errorf("again %+v, first %+v, %v", again, first, err)
		}
		for _, life := range []time.Duration{0, -1, MaxVoucherLife + 1} {
			if _, err := c.IssueVoucher(t.Context(), "Kari", first.ID, life); err == nil {
				t.Errorf("a voucher for %v", life)
			}
		}
	}
	if got, want := c.audited(t), []string{audit.HomeAdded, audit.HomeAdded, audit.HomeAdded}; !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
}
