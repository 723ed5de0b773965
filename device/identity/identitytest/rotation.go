package identitytest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"vindu/device/identity"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// successor is a clinic that has every terminal replace its key, and knows one terminal.
type successor struct {
	*Clinic
	t       *testing.T
	current protocol.KeyHash
	asked   map[protocol.KeyHash]bool // keys that may take its place
	late    bool                      // it forgets the next one that it is asked for
	old     []protocol.KeyHash        // which it has retired
}

func (c *successor) admit(g *identity.Grant) (protocol.KeyHash, error) {
	key := protocol.HashSPKI(g.Chain[0].RawSubjectPublicKeyInfo)
	switch {
	case key == c.current:
	case c.asked[key]:
		c.old, c.current, c.asked = append(c.old, c.current), key, map[protocol.KeyHash]bool{}
	default:
		for _, was := range c.old {
			if was == key {
				c.t.Error("a key is used that was replaced")
			}
		}
		return key, protocol.WithCode(protocol.LinkRefused, errors.New("not in the register"))
	}
	return key, nil
}

func (c *successor) Renew(_ context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	_, err := c.admit(g)
	return g.Chain, err
}

func (c *successor) Replace(_ context.Context, g *identity.Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	if _, err := c.admit(g); err != nil {
		return nil, err
	}
	hash, err := protocol.HashKey(next.Public())
	if err != nil {
		return nil, err
	}
	c.asked = map[protocol.KeyHash]bool{hash: !c.late}
	c.late = false
	return c.Issue(next.Public()), nil
}

func (c *successor) Time(context.Context, *identity.Grant) (time.Time, time.Duration, error) {
	return time.Now(), 0, nil
}

func (c *successor) Settings(_ context.Context, g *identity.Grant) (*protocol.Settings, time.Duration, error) {
	key, err := c.admit(g)
	if err != nil {
		return nil, 0, err
	}
	s := c.Clinic.Settings()
	s.KeyOrder, err = protocol.Sign(&protocol.KeyOrder{Version: protocol.Version, Terminal: key, At: protocol.At(time.Now())}, c.Authority)
	return s, 0, err
}

// stopper ends a terminal's life at the first trouble.
type stopper struct {
	slog.Handler
	stop func()
}

func (s stopper) Enabled(context.Context, slog.Level) bool { return true }
func (s stopper) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s stopper) WithGroup(string) slog.Handler            { return s }

func (s stopper) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		s.stop()
	}
	return nil
}

// live is a terminal's life from a start until it begins anew, has trouble, or has nothing to do any more because its key is another than before: then it returns true.
func (c *successor) live(t *testing.T, keys identity.Keys, disk *statetest.Disk, before protocol.KeyHash) (done bool, err error) {
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		return false, err
	}
	store, err := keys.Open(dir)
	if err != nil {
		return false, err
	}
	i, err := identity.Open(dir, store, time.Now)
	if err != nil {
		return false, err
	}
	digest := sha256.Sum256([]byte("a window"))
	signature, err := i.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
	if i.Grant() == nil || err != nil || !ecdsa.VerifyASN1(i.Certificate().PublicKey.(*ecdsa.PublicKey), digest[:], signature) || i.Condition() != "" {
		t.Fatalf("the terminal has no working identity: %v, condition %q", err, i.Condition())
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r := identity.NewRenewer(i, c, slog.New(stopper{stop: stop}))
	r.Rotation = &identity.Rotation{Keys: keys, Anew: stop, Begin: func() bool { return true }, Ready: func() bool {
		if i.Key() != before {
			done = true
			stop()
		}
		return !done
	}}
	return done, r.Run(ctx)
}

// enrolled sets a terminal up on a disk, by a clinic that orders its key to be replaced.
func enrolled(t *testing.T, keys identity.Keys, disk *statetest.Disk) (*successor, *state.Dir, *identity.Identity) {
	t.Helper()
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		t.Fatal(err)
	}
	store, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	i, err := identity.Open(dir, store, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	clinic := &successor{Clinic: New(t, time.Now), t: t, current: i.Key()}
	if err := i.Keep(clinic.Grant("clinic.example:443", store.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	return clinic, dir, i
}

// testRotation is the part of the contract that is about replacing the key. In short mode, for a TPM of an emulated terminal, power is cut before
// every seventh step only, others for each kind of loss.
func testRotation(t *testing.T, fresh func(t *testing.T) identity.Keys) {
	for name, late := range map[string]bool{"in time": false, "too late for the clinic": true} {
		t.Run("replaces its key, with a power cut at any step, "+name, func(t *testing.T) {
			keys, disk := fresh(t), statetest.New()
			clinic, _, _ := enrolled(t, keys, disk)
			every := 1
			if testing.Short() {
				every = 7
			}
			for first, loss := range statetest.Losses {
				for cut, whole := first%every, false; !whole; cut += every {
					before := clinic.current
					clinic.late = late
					disk = disk.After(statetest.Nothing)
					disk.CutBefore(cut)
					for lives, done, powerless := 0, false, false; !done; lives++ {
						var err error
						done, err = clinic.live(t, keys, disk, before)
						if err != nil && !errors.Is(err, statetest.ErrPower) || lives > 20 {
							t.Fatalf("%s lost, cut before step %d, life %d: %v", loss, cut, lives, err)
						}
						if !powerless && disk.Steps() >= cut {
							powerless, done = true, false
							disk = disk.After(loss)
						}
						whole = done && !powerless
					}
					dir, err := state.OpenOn(disk.After(statetest.Everything), "/state")
					if err != nil {
						t.Fatal(err)
					}
					beside, err := keys.Beside(dir)
					if err != nil || beside != nil || dir.Has("identity/before.pem") {
						t.Fatalf("%s lost, cut before step %d: something of the rotation is left: %v, %v", loss, cut, beside, err)
					}
					if clinic.current == before {
						t.Fatalf("%s lost, cut before step %d: the key is the same", loss, cut)
					}
				}
			}
		})
	}

	t.Run("destroys the key before also when a person enrols the new one before it has proven itself", func(t *testing.T) {
		for name, another := range map[string]bool{"at the same clinic": false, "at another": true} {
			keys, disk := fresh(t), statetest.New()
			clinic, dir, i := enrolled(t, keys, disk)
			before := i.Key()
			next, err := keys.Next(dir)
			if err == nil {
				err = i.Turn(next.Signer().Public(), clinic.Issue(next.Signer().Public()))
			}
			if err != nil {
				t.Fatal(err)
			}
			store, err := keys.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if i, err = identity.Open(dir, store, time.Now); err != nil || !i.Unproven() {
				t.Fatalf("it is not between two keys: %v", err)
			}
			if another {
				clinic = &successor{Clinic: New(t, time.Now), t: t}
			}
			clinic.current = i.Key()
			for range 2 {
				if err := i.Keep(clinic.Grant("clinic.example:443", store.Signer().Public())); err != nil {
					t.Fatal(err)
				}
			}
			if i.Unproven() {
				t.Errorf("%s: it would turn back from what a person has enrolled", name)
			}
			for done := false; !done; {
				if done, err = clinic.live(t, keys, disk, before); err != nil {
					t.Fatal(err)
				}
			}
			if beside, err := keys.Beside(dir); err != nil || beside != nil || dir.Has("identity/before.pem") {
				t.Errorf("%s: something of the rotation is left: %v, %v", name, beside, err)
			}
		}
	})

	t.Run("turns back to no key of another clinic", func(t *testing.T) {
		keys, disk := fresh(t), statetest.New()
		clinic, dir, i := enrolled(t, keys, disk)
		next, err := keys.Next(dir)
		if err == nil {
			err = i.Turn(next.Signer().Public(), clinic.Issue(next.Signer().Public()))
		}
		before, readErr := dir.Read("identity/before.pem", 1<<20)
		store, openErr := keys.Open(dir)
		if err := errors.Join(err, readErr, openErr); err != nil {
			t.Fatal(err)
		}
		if i, err = identity.Open(dir, store, time.Now); err != nil {
			t.Fatal(err)
		}
		clinic = &successor{Clinic: New(t, time.Now), t: t}
		err = i.Keep(clinic.Grant("clinic.example:443", store.Signer().Public()))
		if err := errors.Join(err, dir.Write("identity/before.pem", before)); err != nil { // as a power cut leaves it, before the end of Keep
			t.Fatal(err)
		}
		if _, err := clinic.live(t, keys, disk, i.Key()); err != nil { // this clinic knows none of the two
			t.Fatal(err)
		}
		if store, err = keys.Open(dir); err != nil || !store.Signer().Public().(*ecdsa.PublicKey).Equal(next.Signer().Public()) {
			t.Errorf("it went back to the key of the clinic before: %v", err)
		}
	})

	t.Run("replaces nothing without the clinic's order for this key", func(t *testing.T) {
		keys := fresh(t)
		clinic, dir, i := enrolled(t, keys, statetest.New())
		for name, order := range map[string]struct {
			by  crypto.Signer
			key protocol.KeyHash
		}{"another clinic's": {newKey(t), i.Key()}, "for another key": {clinic.Authority, protocol.KeyHash{1}}} {
			signed, err := protocol.Sign(&protocol.KeyOrder{Version: protocol.Version, Terminal: order.key, At: 1}, order.by)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			r := identity.NewRenewer(i, ordering{clinic, signed}, slog.New(stopper{stop: stop}))
			r.Rotation = &identity.Rotation{Keys: keys, Anew: func() { t.Errorf("%s: it was obeyed", name) }, Ready: func() bool { return true }, Begin: func() bool { return true }}
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
			stop()
			if beside, err := keys.Beside(dir); err != nil || beside != nil {
				t.Errorf("%s: another key was made: %v", name, err)
			}
		}
	})
}

// ordering gives another order.
type ordering struct {
	*successor
	order []byte
}

func (o ordering) Settings(ctx context.Context, g *identity.Grant) (*protocol.Settings, time.Duration, error) {
	s := o.Clinic.Settings()
	s.KeyOrder = o.order
	return s, 0, nil
}
