package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// keysAway are keys that cannot be opened for a while.
type keysAway struct {
	identity.FileKeys
	tries *atomic.Int32
	codes []protocol.Code
}

func (k keysAway) Open(dir *state.Dir) (identity.Keystore, error) {
	if n := int(k.tries.Add(1)); n <= len(k.codes) {
		return nil, protocol.WithCode(k.codes[n-1], errors.New("no key now"))
	}
	return k.FileKeys.Open(dir)
}

// TestKeyAway: a terminal whose key is away says so, looks for it again and holds the folder for nobody meanwhile.
func TestKeyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		keys := keysAway{tries: new(atomic.Int32), codes: []protocol.Code{protocol.IdentityTPMGone, protocol.IdentityTPMGone, protocol.IdentityTPMCleared}}
		f.parts.Keys = keys
		f.start()
		for _, code := range []protocol.Code{protocol.IdentityTPMGone, protocol.IdentityTPMCleared} {
			f.see(string(code), func(s screen.Scene) bool { // what may come back is no reason to ask for anything
				lost := code == protocol.IdentityTPMCleared
				return (s.Kind == screen.Lost) == lost && (s.Kind == screen.Ready && s.Offline) == !lost && len(s.Faults) == 1 && s.Faults[0] == code
			})
			if got, away := f.Away(); got != code || !away {
				t.Errorf("away: %q %v", got, away)
			}
			dir, err := state.Open(f.cfg.State)
			if err != nil {
				t.Fatalf("the folder is held: %v", err)
			}
			dir.Close()
		}
		f.see("that it is not set up", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp && s.Code != "" })
		if err := f.end(); err != nil {
			t.Error(err)
		}
		if _, away := f.Away(); away {
			t.Error("it is still away")
		}
		if n := keys.tries.Load(); n != 4 {
			t.Errorf("tried %d times", n)
		}
	})
}

func TestKeyBroken(t *testing.T) {
	f := newFixture(t)
	f.parts.Keys = keysAway{tries: new(atomic.Int32), codes: []protocol.Code{protocol.StorageUnreadable}}
	f.start()
	if err := <-f.done; protocol.CodeOf(err) != protocol.StorageUnreadable {
		t.Errorf("got %v", err)
	}
}

// keyLost is a key that is lost until it is given up.
type keyLost struct {
	identity.FileKeys
	given *atomic.Bool
}

func (k keyLost) Open(dir *state.Dir) (identity.Keystore, error) {
	if !k.given.Load() {
		return nil, protocol.WithCode(protocol.IdentityTPMCleared, errors.New("lost"))
	}
	return k.FileKeys.Open(dir)
}

func (k keyLost) Destroy(dir *state.Dir) error {
	k.given.Store(true)
	return k.FileKeys.Destroy(dir)
}

// TestStartAnew: only a key that is lost can be given up, and only once.
func TestStartAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		keys := keyLost{given: new(atomic.Bool)}
		f.parts.Keys = keys
		f.start()
		f.see("that the key is lost", func(s screen.Scene) bool { return len(s.Faults) == 1 && s.Faults[0] == protocol.IdentityTPMCleared })
		if synctest.Wait(); keys.given.Load() {
			t.Error("the key was given up by itself")
		}
		f.StartAnew()
		f.StartAnew()
		first := f.see("that it is not set up", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp && s.Code != "" })
		keys.given.Store(false)
		f.StartAnew()
		if synctest.Wait(); keys.given.Load() || first.Code == "" {
			t.Error("a key that is there was given up")
		}
		if err := f.end(); err != nil {
			t.Error(err)
		}
	})
}

// damage makes the terminal of f one that cannot be what it was.
var damage = map[string]func(f *fixture, path func(string) string) error{
	"the key": func(_ *fixture, path func(string) string) error {
		return os.WriteFile(path("identity/key.pem"), []byte("x"), 0o600)
	},
	"the key is gone": func(_ *fixture, path func(string) string) error { return os.Remove(path("identity/key.pem")) },
	"the enrolment": func(_ *fixture, path func(string) string) error {
		return os.WriteFile(path("identity/clinic.pem"), []byte("x"), 0o600)
	},
	"the enrolment is another's": func(f *fixture, path func(string) string) error {
		other := newFixture(f.t)
		other.enrol()
		b, err := os.ReadFile(filepath.Join(other.cfg.State, "identity/clinic.pem"))
		if err != nil {
			return err
		}
		return os.WriteFile(path("identity/clinic.pem"), b, 0o600)
	},
}

// TestDamaged: a terminal whose key or enrolment is damaged goes on, says so, does nothing by itself, and is as from the factory once somebody gives it up: at its
// button, or over the cable.
func TestDamaged(t *testing.T) {
	for name, damage := range damage {
		for _, way := range []string{"by its button", "over the cable"} {
			t.Run(name+" "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFixture(t)
					f.enrol()
					forgot := 0
					f.parts.Forget = func() error { forgot++; return nil }
					path := func(name string) string { return filepath.Join(f.cfg.State, name) }
					for _, left := range []string{callsFile, checksFile, languageFile, clock.FileName, "outbox.db"} {
						if err := os.WriteFile(path(left), []byte("a secret"), 0o600); err != nil {
							t.Fatal(err)
						}
					}
					if err := damage(f, path); err != nil {
						t.Fatal(err)
					}
					f.start()
					f.see("that it has to be set up again", func(s screen.Scene) bool { return s.Kind == screen.Lost && s.Code == "" && len(s.Faults) == 1 })
					time.Sleep(10 * keyPoll) // allowed: of the bubble
					if _, known := f.Self(); known || forgot > 0 {
						t.Errorf("it knows itself: %v, forgot %d times", known, forgot)
					}
					if n := strings.Count(f.log.String(), "cannot be used"); n != 1 {
						t.Errorf("it said so %d times", n)
					}
					if way == "by its button" {
						f.StartAnew()
					} else if err := f.AwaitHold(t.Context(), "ABCD", func(ctx context.Context) error {
						f.see("the code to compare", func(s screen.Scene) bool { return s.Kind == screen.Lost && s.Code == "ABCD" })
						return f.Reset(ctx)
					}); err != nil {
						t.Error(err)
					}
					f.see("that it can be set up", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp && s.Code != "" })
					if err := f.end(); err != nil {
						t.Error(err)
					}
					if left := f.present(); !slices.Equal(left, []string{"key.pem"}) || forgot != 1 {
						t.Errorf("left %v, forgot %d times", left, forgot)
					}
				})
			})
		}
	}
}

// TestReset: a terminal that is set up gives itself up when it is told to; one from the factory stays, and one that is taken out of use has other things to do.
func TestReset(t *testing.T) {
	f := newFixture(t)
	f.start()
	before := f.see("its code", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp && s.Code != "" }).Code
	if err := f.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	f.enrol()
	f.see("that it is set up", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	if err := f.SetLanguage(t.Context(), "nn"); err != nil {
		t.Error(err)
	}
	if self, ok := f.Self(); !ok || self.Identity.Key().Code() != before {
		t.Error("a terminal from the factory was given up")
	}
	if err := f.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := f.see("its new code", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp && s.Code != "" }).Code; after == before {
		t.Error("the key is the same")
	}
	if self, ok := f.Self(); !ok || self.Language != f.cfg.Language {
		t.Errorf("it speaks %s", self.Language)
	}
	if err := f.end(); err != nil {
		t.Error(err)
	}
	if left := f.present(); !slices.Equal(left, []string{"key.pem"}) {
		t.Errorf("left %v", left)
	}
	f.mark([]byte(returned))
	f.start()
	f.see("that it is to be returned", func(s screen.Scene) bool { return s.Kind == screen.Returned })
	dir, err := state.OpenOn(statetest.New(), "/state")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.Write(returnFile, []byte(destroying)), markAnew(dir)); protocol.CodeOf(err) != protocol.IdentityReturned {
		t.Errorf("one that destroys itself: %v", err)
	}
	if err := f.end(); err != nil {
		t.Error(err)
	}
}

// keysClearable are keys in a chip that is cleared while the terminal runs.
type keysClearable struct {
	identity.FileKeys
	cleared *atomic.Bool
}

type clearable struct {
	identity.Keystore
	cleared *atomic.Bool
}

func (k keysClearable) Open(dir *state.Dir) (identity.Keystore, error) {
	if k.cleared.Load() {
		return nil, protocol.WithCode(protocol.IdentityTPMCleared, errors.New("cleared"))
	}
	in, err := k.FileKeys.Open(dir)
	return clearable{in, k.cleared}, err
}

func (k clearable) Condition() protocol.Code {
	if k.cleared.Load() {
		return protocol.IdentityTPMCleared
	}
	return ""
}

// TestClearedWhileRunning: what is to be done about a lost key can be done without a restart by hand.
func TestClearedWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.enrol()
		keys := keysClearable{cleared: new(atomic.Bool)}
		f.parts.Keys = keys
		f.start()
		f.see("that it is a terminal", func(s screen.Scene) bool { return s.Kind == screen.Ready })
		keys.cleared.Store(true)
		f.see("that it has to be set up again", func(s screen.Scene) bool { return s.Kind == screen.Lost })
		if err := f.end(); err != nil {
			t.Error(err)
		}
	})
}
