package agent

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
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
			f.see(string(code), func(s screen.Scene) bool {
				return s.Kind == screen.Ready && s.Offline && len(s.Faults) == 1 && s.Faults[0] == code
			})
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
