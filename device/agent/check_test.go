package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/device/identity"
	"vindu/device/outbox"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
)

// bench is what is checked: a camera, and no way to the clinic.
type bench struct {
	until chan struct{} // the camera is looked at until it is closed, or the check ends
	stuck bool          // the camera stays open
}

func (b *bench) Look(ctx context.Context, l call.Ledger) (acceptance.Sight, error) {
	if err := l.Opening(call.Camera); err != nil {
		return acceptance.Sight{}, err
	}
	if b.stuck {
		return acceptance.Sight{}, nil
	}
	defer l.Closed(call.Camera)
	select {
	case <-b.until:
	case <-ctx.Done():
	}
	return acceptance.Sight{Brightness: 0.5, Sharpness: 100, Motion: 1}, ctx.Err()
}

func (b *bench) Listen(context.Context, call.Ledger) (acceptance.Hearing, error) {
	return acceptance.Hearing{Synthetic: true}, nil
}
func (b *bench) Screen() (string, protocol.Code) { return "memory", "" }
func (b *bench) Panel() (string, protocol.Code)  { return "", protocol.PanelMissing }
func (b *bench) Path(context.Context) (acceptance.Path, error) {
	return acceptance.Path{}, errors.New("no way")
}

func (b *bench) Echo(context.Context, string) (acceptance.Echoes, error) {
	return acceptance.Echoes{}, errors.New("no way")
}
func (b *bench) Allocate(context.Context, string, string, protocol.Secret) error {
	return errors.New("no way")
}

func (b *bench) Relay(context.Context) ([]protocol.ICEServer, error) {
	return nil, errors.New("no way")
}

func (b *bench) TestCall(context.Context, protocol.CallID) (*protocol.TestCall, error) {
	return nil, errors.New("no way")
}

func (b *bench) Time(context.Context) (time.Time, time.Duration, error) {
	return time.Time{}, 0, errors.New("no way")
}

type pressed struct{ at time.Time }

func (pressed) Technician() protocol.Party {
	return protocol.Party{Name: "Bo Dahl", Role: "technician", Organisation: "Kommunen"}
}
func (pressed) Mandate() protocol.Nonce      { return protocol.Nonce{7} }
func (p pressed) Pressed() (time.Time, bool) { return p.at, true }

// checked is a terminal that runs, is set up and can be checked.
func checked(t *testing.T, b *bench) *fixture {
	t.Helper()
	f := newFixture(t)
	f.parts.Checks = func(*identity.Identity, func() time.Time) acceptance.Config {
		return acceptance.Config{Devices: b, Network: b, Clinic: b}
	}
	f.enrol()
	f.start()
	f.see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	return f
}

func TestCheckBeforeSetUp(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.see("its code", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp })
	if _, err := f.Check(t.Context(), pressed{time.Now()}, nil, nil); protocol.CodeOf(err) != protocol.IdentityNone {
		t.Errorf("%v", err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

type result struct {
	checks []protocol.Check
	err    error
}

// check begins a check and waits until its camera is seen to be on.
func (f *fixture) check() <-chan result {
	f.t.Helper()
	done := make(chan result, 1)
	go func() {
		checks, err := f.Check(f.t.Context(), pressed{time.Now()}, nil, nil)
		done <- result{checks, err}
	}()
	f.see("that the camera is on", func(s screen.Scene) bool {
		return s.Kind == screen.Checking && s.Camera && !s.Microphone && s.Parties[0].Name == "Bo Dahl"
	})
	return done
}

func TestCheck(t *testing.T) {
	b := &bench{until: make(chan struct{})}
	f := checked(t, b)
	done := f.check()
	close(b.until)
	f.see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	r := <-done
	if r.err != nil || len(r.checks) != len(acceptance.Names()) || r.checks[2].State != protocol.CheckPassed {
		t.Errorf("%v, %+v", r.err, r.checks)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	// The ledger has it, for the clinic.
	dir, err := state.Open(f.cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	box, err := outbox.Open(dir, outbox.DefaultLimit, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if n := box.Status().Pending; n != 2 {
		t.Errorf("%d events wait for the clinic, want an opening and a closing", n)
	}
}

// TestCheckSaidNo: the button that ends a call ends a check.
func TestCheckSaidNo(t *testing.T) {
	f := checked(t, &bench{until: make(chan struct{})})
	done := f.check()
	f.HangUp()
	if r := <-done; protocol.CodeOf(r.err) != protocol.AnswerDeclined {
		t.Errorf("%v", r.err)
	}
	f.see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// TestCheckStuck: a camera that a check cannot close ends the program.
func TestCheckStuck(t *testing.T) {
	f := checked(t, &bench{stuck: true})
	if r := <-f.check(); !errors.Is(r.err, call.ErrDeviceStuck) {
		t.Errorf("%v", r.err)
	}
	if err := <-f.done; !errors.Is(err, call.ErrDeviceStuck) {
		t.Errorf("the agent ended with %v", err)
	}
}
