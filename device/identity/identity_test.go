package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const address = "clinic.example:443"

func openDir(t *testing.T, disk *statetest.Disk) *state.Dir {
	t.Helper()
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, disk *statetest.Disk) *identity.Identity {
	t.Helper()
	dir := openDir(t, disk)
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	i, err := identity.Open(dir, keys, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestKeep(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	disk := statetest.New()
	i := load(t, disk)
	if i.Grant() != nil || i.Condition() != protocol.IdentityNone || i.TLS() != nil || i.Certificate() != nil || i.Root() != nil || i.Settings() != nil {
		t.Error("a new terminal is enrolled")
	}
	if err := i.KeepChain(clinic.Issue(i.Signer().Public())); protocol.CodeOf(err) != protocol.IdentityNone {
		t.Errorf("renewed without enrolment: %v", err)
	}
	changed := i.Changed()
	g := clinic.Grant(address, i.Signer().Public())
	if err := i.Keep(g); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("the change was not told")
	}
	for name, i := range map[string]*identity.Identity{"at once": i, "after a restart": load(t, disk.After(statetest.Everything))} {
		if !i.Certificate().Equal(g.Chain[0]) || !i.Root().Equal(g.Root) || i.Grant().Address != address || i.Grant().ServerName != identitytest.ServerName ||
			i.Settings().Home != "Home 17" || len(i.Grant().Chain) != 2 || i.Condition() != "" {
			t.Errorf("%s: got %+v", name, i.Grant())
		}
		if hash, err := protocol.HashKey(i.Signer().Public()); err != nil || hash != i.Key() || i.Grade() != identity.GradeFile {
			t.Errorf("%s: key %v, %v, grade %s", name, i.Key(), err, i.Grade())
		}
	}
}

func TestKeepRefuses(t *testing.T) {
	clinic, foreign := identitytest.New(t, time.Now), identitytest.New(t, time.Now)
	disk := statetest.New()
	i := load(t, disk)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	before := i.Grant()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	grant := func(change func(*identity.Grant)) func() error {
		g := clinic.Grant(address, i.Signer().Public())
		change(&g)
		return func() error { return i.Keep(g) }
	}
	for _, c := range []struct {
		name string
		keep func() error
		want protocol.Code
	}{
		{"another key", grant(func(g *identity.Grant) { g.Chain = clinic.Issue(other.Public()) }), protocol.IdentityOtherClinic},
		{"another root", grant(func(g *identity.Grant) { g.Root = foreign.Root }), protocol.IdentityOtherClinic},
		{"issuing certificate is missing", grant(func(g *identity.Grant) { g.Chain = g.Chain[:1] }), protocol.IdentityOtherClinic},
		{"no certificate", grant(func(g *identity.Grant) { g.Chain = nil }), protocol.IdentityDamaged},
		{"no address", grant(func(g *identity.Grant) { g.Address = "" }), protocol.IdentityDamaged},
		{"no authorisation key", grant(withAuthorities()), protocol.IdentityDamaged},
		{"an authorisation key that is none", grant(withAuthorities(clinic.Settings().Authorities[0], []byte{0})), protocol.IdentityDamaged},
		{"an authorisation key on another curve", grant(withAuthorities(spki(t, elliptic.P384()))), protocol.IdentityDamaged},
		{"renewal of another clinic", func() error { return i.KeepChain(foreign.Issue(i.Signer().Public())) }, protocol.IdentityOtherClinic},
		{"renewal for another key", func() error { return i.KeepChain(clinic.Issue(other.Public())) }, protocol.IdentityOtherClinic},
		{"other authorisation keys", func() error {
			_, err := i.KeepSettings(foreign.Settings())
			return err
		}, protocol.IdentityOtherClinic},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.keep()
			if protocol.CodeOf(err) != c.want || c.want == protocol.IdentityOtherClinic && !errors.Is(err, identity.ErrForeign) {
				t.Errorf("got %v with code %q, want %q", err, protocol.CodeOf(err), c.want)
			}
			if i.Grant() != before {
				t.Error("the identity changed")
			}
		})
	}
}

func withAuthorities(keys ...[]byte) func(*identity.Grant) {
	return func(g *identity.Grant) {
		s := *g.Settings
		s.Authorities, g.Settings = keys, &s
	}
}

func spki(t *testing.T, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRenewedChainAndSettings(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	disk := statetest.New()
	i := load(t, disk)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	chain := clinic.Issue(i.Signer().Public())
	if err := i.KeepChain(chain); err != nil {
		t.Fatal(err)
	}
	s := clinic.Settings()
	s.Home = "Home 18"
	if _, err := i.KeepSettings(s); err != nil {
		t.Fatal(err)
	}
	steps := disk.Steps()
	s = clinic.Settings()
	s.Home, s.At = "Home 18", s.At+1
	if _, err := i.KeepSettings(s); err != nil || disk.Steps() != steps {
		t.Errorf("settings with only another time: %v, %d steps", err, disk.Steps()-steps)
	}
	for _, coming := range []*protocol.Coming{{Name: "Anne", Role: "nurse", At: 1}, {Name: "Anne", Role: "nurse", At: 2}} {
		s = clinic.Settings()
		s.Home, s.Coming = "Home 18", coming
		if _, err := i.KeepSettings(s); err != nil {
			t.Fatal(err)
		}
		if got := load(t, disk.After(statetest.Everything)).Settings().Coming; got == nil || *got != *coming {
			t.Errorf("announced after a restart: %v, want %v", got, coming)
		}
	}
	for _, window := range []*protocol.Window{{From: 120, To: 240}, {From: 120, To: 241}} {
		s = clinic.Settings()
		s.Home, s.Rehearse = "Home 18", window
		if _, err := i.KeepSettings(s); err != nil {
			t.Fatal(err)
		}
		if got := load(t, disk.After(statetest.Everything)).Settings().Rehearse; got == nil || *got != *window {
			t.Errorf("window after a restart: %v, want %v", got, window)
		}
	}
	s = clinic.Settings()
	s.Home, s.Withdrawn = "Home 18", []protocol.Nonce{{7}}
	if _, err := i.KeepSettings(s); err != nil {
		t.Fatal(err)
	}
	again := load(t, disk.After(statetest.Everything))
	if !slices.Equal(again.Settings().Withdrawn, s.Withdrawn) {
		t.Errorf("withdrawn after a restart: %v", again.Settings().Withdrawn)
	}
	if again.Settings().Coming != nil {
		t.Errorf("still announced: %v", again.Settings().Coming)
	}
	if !again.Certificate().Equal(chain[0]) || again.Settings().Home != "Home 18" || !again.Root().Equal(clinic.Root) {
		t.Errorf("after a restart: %v %v", again.Certificate().SerialNumber, again.Settings())
	}
}

// clinicWithVouchers is an enrolment as the clinic does it: one voucher, one key, as often as it is asked.
type clinicWithVouchers struct {
	*identitytest.Clinic
	used protocol.KeyHash
}

func (c *clinicWithVouchers) enrol(pub crypto.PublicKey) (identity.Grant, error) {
	hash, err := protocol.HashKey(pub)
	if err != nil {
		return identity.Grant{}, err
	}
	if (c.used != protocol.KeyHash{}) && c.used != hash {
		return identity.Grant{}, protocol.WithCode(protocol.IdentityVoucherUsed, errors.New("voucher was used"))
	}
	c.used = hash
	return c.Grant(address, pub), nil
}

// TestEnrolmentPowerCut cuts the power before each step of setting a terminal up, in each way that the disk may be
// found afterwards: running it again succeeds with the one voucher, and what was said to be kept is.
func TestEnrolmentPowerCut(t *testing.T) {
	setUp := func(disk *statetest.Disk, clinic *clinicWithVouchers) (*identity.Identity, error) {
		dir, err := state.OpenOn(disk, "/state")
		if err != nil {
			return nil, err
		}
		keys, err := identity.FileKeystore(dir)
		if err != nil {
			return nil, err
		}
		i, err := identity.Open(dir, keys, time.Now)
		if err != nil || i.Grant() != nil {
			return i, err
		}
		g, err := clinic.enrol(i.Signer().Public())
		if err != nil {
			return i, err
		}
		return i, i.Keep(g)
	}
	for _, loss := range statetest.Losses {
		t.Run(fmt.Sprintf("%s lost", loss), func(t *testing.T) {
			authority := identitytest.New(t, time.Now)
			for cut, done := 0, false; !done; cut++ {
				clinic := &clinicWithVouchers{Clinic: authority}
				disk := statetest.New()
				disk.CutBefore(cut)
				first, err := setUp(disk, clinic)
				done = err == nil
				if !done && !errors.Is(err, statetest.ErrPower) {
					t.Fatalf("cut before step %d: %v", cut, err)
				}
				found := disk.After(loss)
				if done {
					if i := load(t, found); !i.Certificate().Equal(first.Certificate()) {
						t.Errorf("the finished set-up is not there after step %d", cut)
					}
				}
				second, err := setUp(found, clinic)
				if err != nil {
					t.Errorf("cut before step %d: again: %v", cut, err)
				} else if first != nil && first.Key() != second.Key() {
					t.Errorf("cut before step %d: the identity changed", cut)
				}
			}
		})
	}
}

// TestRenewalPowerCut: the old certificate or the new one, never none.
func TestRenewalPowerCut(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	for _, loss := range statetest.Losses {
		for cut, done := 0, false; !done; cut++ {
			disk := statetest.New()
			i := load(t, disk)
			if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
				t.Fatal(err)
			}
			older, newer := i.Certificate(), clinic.Issue(i.Signer().Public())
			disk.CutBefore(disk.Steps() + cut)
			err := i.KeepChain(newer)
			done = err == nil
			found := load(t, disk.After(loss))
			isOld, isNew := found.Certificate().Equal(older), found.Certificate().Equal(newer[0])
			if done && !isNew || !isOld && !isNew {
				t.Errorf("%s lost, cut before step %d: neither certificate", loss, cut)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	disk := statetest.New()
	i := load(t, disk)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	sound, err := openDir(t, disk).Read("identity/clinic.pem", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	key, err := openDir(t, disk).Read("identity/key.pem", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	rsaLike := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	other := load(t, statetest.New())
	otherGrant := clinic.Grant(address, other.Signer().Public())
	_ = other.Keep(otherGrant)
	for _, c := range []struct {
		name    string
		file    string
		content []byte
		opens   bool // with the key, but not enrolled
		want    error
	}{
		{"no key in the file", "key.pem", nil, false, identity.ErrDamaged},
		{"key cut short", "key.pem", key[:len(key)/2], false, identity.ErrDamaged},
		{"something after the key", "key.pem", append(bytes.Clone(key), key...), false, identity.ErrDamaged},
		{"not a key", "key.pem", rsaLike, false, identity.ErrDamaged},
		{"key too long", "key.pem", make([]byte, 1<<20), false, state.ErrTooLarge},
		{"empty grant", "clinic.pem", nil, true, identity.ErrDamaged},
		{"grant cut short", "clinic.pem", sound[:len(sound)/2], true, identity.ErrDamaged},
		{"grant without certificates", "clinic.pem", sound[:bytes.Index(sound, []byte("-----BEGIN CERT"))], true, identity.ErrDamaged},
		{"garbage after the grant", "clinic.pem", append(bytes.Clone(sound), 'x'), true, identity.ErrDamaged},
		{"grant too long", "clinic.pem", make([]byte, 1<<20), true, state.ErrTooLarge},
		{"another terminal's key", "key.pem", newKeyFile(t), true, identity.ErrForeign},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := disk.After(statetest.Everything)
			found.Corrupt("/state/identity/"+c.file, c.content)
			dir := openDir(t, found)
			keys, err := identity.FileKeystore(dir)
			if !c.opens {
				if !errors.Is(err, c.want) || (protocol.CodeOf(err) != protocol.IdentityDamaged) != errors.Is(err, state.ErrTooLarge) || !strings.Contains(err.Error(), "/state/identity/key.pem") {
					t.Fatalf("got %v", err)
				}
				if after, err := dir.Read("identity/key.pem", 1<<20); err != nil || !bytes.Equal(after, c.content) {
					t.Errorf("the damaged file was changed: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			i, err := identity.Open(dir, keys, time.Now)
			if !errors.Is(err, c.want) || i == nil || i.Grant() != nil || i.Condition() != protocol.IdentityNone {
				t.Fatalf("got %v, %v", i, err)
			}
			if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
				t.Errorf("cannot be set up anew: %v", err)
			}
		})
	}
}

func newKeyFile(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestUnreadable(t *testing.T) {
	disk := statetest.New()
	load(t, disk)
	disk.Fail("read", syscall.EIO)
	if _, err := identity.FileKeystore(openDir(t, disk)); protocol.CodeOf(err) != protocol.StorageUnreadable {
		t.Errorf("got %v: an unreadable key must not lead to a new one", err)
	}
	disk = statetest.New()
	disk.Fail("write", syscall.ENOSPC)
	if _, err := identity.FileKeystore(openDir(t, disk)); protocol.CodeOf(err) != protocol.StorageFull {
		t.Errorf("got %v", err)
	}
}

func TestExpired(t *testing.T) {
	now := time.Now()
	clinic := identitytest.New(t, func() time.Time { return now.Add(-identitytest.Life - time.Hour) })
	i := load(t, statetest.New())
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	if i.Condition() != protocol.IdentityExpired {
		t.Errorf("condition %q", i.Condition())
	}
	if i.TLS() == nil {
		t.Error("an expired certificate cannot be shown, so it cannot renew")
	}
}
