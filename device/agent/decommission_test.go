package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/identity"
	"vindu/device/outbox"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

func orderOf(t *testing.T, key *ecdsa.PrivateKey, self protocol.KeyHash, issued time.Time) []byte {
	t.Helper()
	signed, err := protocol.Sign(&protocol.Decommission{
		Version: protocol.Version, Terminal: self, Nonce: protocol.NewNonce(), Issued: protocol.At(issued), Expires: protocol.At(issued.Add(time.Hour)),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func authorityKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, spki
}

func TestVerifyOrder(t *testing.T) {
	clinic, pinned := authorityKey(t)
	second, alsoPinned := authorityKey(t)
	foreign, _ := authorityKey(t)
	self, now := protocol.KeyHash{1}, time.Now()
	mandate, err := protocol.Sign(&protocol.Clock{Version: 1, Nonce: protocol.Nonce{1}, At: 1}, clinic)
	if err != nil {
		t.Fatal(err)
	}
	good := orderOf(t, clinic, self, now)
	for _, c := range []struct {
		name  string
		order []byte
		good  bool
	}{
		{"good", good, true},
		{"by the second key", orderOf(t, second, self, now), true},
		{"the clinic's clock is half a minute ahead", orderOf(t, clinic, self, now.Add(30*time.Second)), true},
		{"of another clinic", orderOf(t, foreign, self, now), false},
		{"for another terminal", orderOf(t, clinic, protocol.KeyHash{2}, now), false},
		{"expired", orderOf(t, clinic, self, now.Add(-2*time.Hour)), false},
		{"of tomorrow", orderOf(t, clinic, self, now.Add(24*time.Hour)), false},
		{"another statement", mandate, false},
		{"altered", append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1), false},
		{"nothing", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := verifyOrder(c.order, [][]byte{pinned, alsoPinned}, self, now)
			if (err == nil) != c.good || err != nil && protocol.CodeOf(err) != protocol.AuthOrder {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestOrderBeforeTheTimeIsKnown: an order that is in time by a clock that nobody has proven may be an old one that somebody kept.
func TestOrderBeforeTheTimeIsKnown(t *testing.T) {
	f := newFixture(t)
	f.enrol()
	h, err := openHome(f.cfg.State, identity.FileKeys{}, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	clinic, pinned := authorityKey(t)
	g := *h.id.Grant()
	settings := *g.Settings
	settings.Authorities, g.Settings = [][]byte{pinned}, &settings
	if err := h.id.Keep(g); err != nil {
		t.Fatal(err)
	}
	box, err := outbox.Open(h.dir, outbox.DefaultLimit, time.Now, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(f.cfg, f.parts, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{a: a, id: h.id, clock: h.clock, outbox: box, orders: make(chan []byte, 1)}
	order := orderOf(t, clinic, h.id.Key(), time.Now())
	if x.order(order); len(x.orders) != 0 || box.Status().Pending != 1 {
		t.Errorf("obeyed: %v; told to the clinic: %d", len(x.orders) > 0, box.Status().Pending)
	}
	if err := h.clock.Prove(time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	if x.order(order); len(x.orders) != 1 {
		t.Error("refused, although the time is known")
	}
	if err := errors.Join(box.Close(), h.close()); err != nil {
		t.Error(err)
	}
}

// present tells which files of the state folder are there.
func (f *fixture) present() (names []string) {
	f.t.Helper()
	err := filepath.WalkDir(f.cfg.State, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != "lock" {
			names = append(names, e.Name())
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return names
}

func (f *fixture) mark(content []byte) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.cfg.State, returnFile), content, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// TestDestroysAtBoot: what a power cut has left of a terminal that is taken out of use is destroyed at the next start; the screen asks to return it, also
// after another start, until it is set up anew.
func TestDestroysAtBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.enrol()
		tries := 0
		f.parts.Forget = func() error {
			if tries++; tries == 1 {
				return errors.New("the network's file is busy")
			}
			return nil
		}
		for _, name := range []string{callsFile, checksFile, "outbox.db", "outbox.db.damaged-20260101T000000"} {
			if err := os.WriteFile(filepath.Join(f.cfg.State, name), []byte("a secret"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.mark([]byte(destroying))
		for range 2 {
			f.start()
			f.see("that it is to be returned", func(s screen.Scene) bool { return s.Kind == screen.Returned })
			time.Sleep(time.Minute) // allowed: of the bubble
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			if got := f.present(); !slices.Equal(got, []string{returnFile}) || tries != 2 {
				t.Errorf("left: %v, %d tries", got, tries)
			}
		}
		f.start()
		time.Sleep(time.Minute) // allowed: of the bubble
		f.StartAnew()
		f.see("that it can be set up", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp })
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		f.mark([]byte(returned)) // or set up without that
		f.enrol()
		f.start()
		f.see("that it is a terminal again", func(s screen.Scene) bool { return s.Kind == screen.Ready })
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(f.present(), returnFile) {
			t.Error("the mark is still there")
		}
	})
}

// TestOrderedAtBoot: a terminal that lost its power before its receipt was acknowledged gives it again, lets no call in, and destroys its key when its
// patience is over, or at once when the receipt is acknowledged.
func TestOrderedAtBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.parts.Shown = func(s screen.Scene) { // nobody looks for most of the day
			select {
			case f.scenes <- s:
			default:
			}
		}
		f.enrol()
		f.mark(append([]byte(ordered), orderOf(t, func() *ecdsa.PrivateKey { k, _ := authorityKey(t); return k }(), protocol.KeyHash{1}, time.Now())...))
		f.start()
		f.see("that it is to be returned", func(s screen.Scene) bool { return s.Kind == screen.Returned })
		time.Sleep(receiptPatience - time.Minute) // allowed: of the bubble
		if !slices.Contains(f.present(), "key.pem") {
			t.Error("the key was destroyed before the receipt was acknowledged")
		}
		// A second power cut, or stop, changes nothing.
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		f.start()
		time.Sleep(receiptPatience + time.Minute) // allowed: of the bubble
		if got := f.present(); !slices.Equal(got, []string{returnFile}) {
			t.Errorf("left: %v", got)
		}
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDestroyCutOff: a power cut at any instant of the destruction leaves either the terminal as it was, or a mark by which it is finished; or, where it is only given
// up, nothing at all.
func TestDestroyCutOff(t *testing.T) {
	t.Run("taken out of use", func(t *testing.T) { destroyCutOff(t, destroy, false) })
	t.Run("given up", func(t *testing.T) { destroyCutOff(t, GiveUp, true) })
}

func destroyCutOff(t *testing.T, way func(*state.Dir, identity.Keys, func() error) error, mayVanish bool) {
	open := func(disk *statetest.Disk) *state.Dir {
		dir, err := state.OpenOn(disk, "/state")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	keys := identity.FileKeys{}
	marked, whole := 0, false
	for cut := 1; !whole; cut++ {
		disk := statetest.New()
		dir := open(disk)
		if _, err := keys.Open(dir); err != nil {
			t.Fatal(err)
		}
		if err := dir.Write(callsFile, []byte("calls")); err != nil {
			t.Fatal(err)
		}
		disk.CutBefore(disk.Steps() + cut)
		whole = way(dir, keys, nil) == nil
		for _, loss := range statetest.Losses {
			dir := open(disk.After(loss))
			word, _, err := phase(dir)
			if err != nil {
				t.Fatalf("cut %d, %v: %v", cut, loss, err)
			}
			if word == "" {
				if has := dir.Has("identity/key.pem"); has != dir.Has(callsFile) || !has && !mayVanish {
					t.Errorf("cut %d, %v: something is gone, and there is no mark", cut, loss)
				}
				continue
			}
			marked++
			if word == returned && (dir.Has("identity/key.pem") || dir.Has(callsFile)) {
				t.Errorf("cut %d, %v: the mark says that all is destroyed", cut, loss)
			}
			if err := FinishReturn(dir, keys, nil); err != nil {
				t.Fatalf("cut %d, %v: %v", cut, loss, err)
			}
			if dir.Has("identity/key.pem") || dir.Has(callsFile) || dir.Has(returnFile) {
				t.Errorf("cut %d, %v: not finished", cut, loss)
			}
		}
	}
	if marked < 10 {
		t.Errorf("only %d instants were looked at", marked)
	}
}

func FuzzPhase(f *testing.F) {
	for _, s := range []string{"", ordered, ordered + "\x01", destroying, returned, "returne", destroying + "x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir, err := state.OpenOn(statetest.New(), "/state")
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.Write(returnFile, content); err != nil {
			t.Fatal(err)
		}
		word, order, err := phase(dir)
		if err == nil && !bytes.Equal(append([]byte(word), order...), content) {
			t.Errorf("%q is read as %q and %q", content, word, order)
		}
	})
}
