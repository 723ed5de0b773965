package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	slow  time.Duration // that it takes to close the camera
	open  atomic.Int32  // cameras
}

func (b *bench) Look(ctx context.Context, l call.Ledger) (acceptance.Sight, error) {
	if err := l.Opening(call.Camera); err != nil {
		return acceptance.Sight{}, err
	}
	if b.stuck {
		return acceptance.Sight{}, nil
	}
	b.open.Add(1)
	defer func() {
		<-time.After(b.slow)
		b.open.Add(-1)
		l.Closed(call.Camera)
	}()
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

func (b *bench) TestCall(context.Context, protocol.CallID, string) (*protocol.TestCall, error) {
	return nil, errors.New("no way")
}

func (b *bench) Time(context.Context) (time.Time, time.Duration, error) {
	return time.Time{}, 0, errors.New("no way")
}

type pressed struct{}

func (pressed) Technician() protocol.Party {
	return protocol.Party{Name: "Bo Dahl", Role: "technician", Organisation: "Kommunen"}
}
func (pressed) Mandate() protocol.Nonce        { return protocol.Nonce{7} }
func (pressed) Pressed() (time.Duration, bool) { return 0, true }

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
	if _, err := f.Check(t.Context(), pressed{}, acceptance.Wanted{}, nil); protocol.CodeOf(err) != protocol.IdentityNone {
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
		checks, err := f.Check(f.t.Context(), pressed{}, acceptance.Wanted{}, nil)
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

// ledger takes the openings out of the outbox of a terminal that has ended.
func (f *fixture) ledger() (openings []string) {
	f.t.Helper()
	dir, err := state.Open(f.cfg.State)
	if err != nil {
		f.t.Fatal(err)
	}
	defer dir.Close()
	box, err := outbox.Open(dir, outbox.DefaultLimit, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		f.t.Fatal(err)
	}
	defer box.Close()
	for after := uint64(0); ; {
		seq, message, err := box.Next(after)
		if err != nil {
			f.t.Fatal(err)
		}
		if message == nil {
			return openings
		}
		after = seq
		e := new(protocol.Event)
		if err := protocol.Decode(message, e); err != nil {
			f.t.Fatal(err)
		}
		body, err := e.Open()
		if o, is := body.(*protocol.Opening); is && err == nil {
			openings = append(openings, o.Device+map[bool]string{true: " opens", false: " closed"}[o.Open])
		}
	}
}

// TestCheckWhenTheTerminalEnds: whatever ends a terminal in the middle of a check with its camera open, the camera is closed and the ledger has its end
// before anything else goes on; what is asked for next finds a terminal that can be checked.
func TestCheckWhenTheTerminalEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(f *fixture, b *bench) // with the camera open; the terminal has ended or begun anew when it returns
		want []string
	}{
		{"SIGTERM", func(f *fixture, b *bench) {
			if err := f.end(); err != nil {
				f.t.Error(err)
			}
			if n := b.open.Load(); n != 0 {
				f.t.Error("the terminal ended with its camera open")
			}
		}, []string{"camera opens", "camera closed"}},
		{"certificate installed for the same home", keepDuringCheck("Home 1", true), []string{"camera opens", "camera closed", "camera opens", "camera closed"}},
		{"moved to another home", keepDuringCheck("Home 2", true), []string{"camera opens", "camera closed", "camera opens", "camera closed"}},
		// What the former clinic was to be told goes with it.
		{"moved to another clinic", keepDuringCheck("Home 3", false), []string{"camera opens", "camera closed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bench{until: make(chan struct{}), slow: 2 * time.Second}
				f := checked(t, b)
				done := f.check()
				c.end(f, b)
				if r := <-done; protocol.CodeOf(r.err) != protocol.LinkTerminalBusy {
					t.Errorf("the check: %v", r.err)
				}
				if got := f.ledger(); !slices.Equal(got, c.want) {
					t.Errorf("in the ledger: %v", got)
				}
			})
		})
	}
}

// keepDuringCheck stores an enrolment while the camera is open, and asks for another check at once, as the tool does.
func keepDuringCheck(home string, same bool) func(*fixture, *bench) {
	return func(f *fixture, b *bench) {
		self, _ := f.Self()
		grant := grantFor(f.t, self, home)
		if same { // the same clinic
			grant.Root, grant.Chain = f.root, []*x509.Certificate{f.leaves(self.Identity.Signer().Public(), self.Identity.Key())}
		}
		if err := f.Keep(f.t.Context(), grant); err != nil {
			f.t.Error(err)
		}
		next := make(chan result, 1)
		go func() {
			checks, err := f.Check(f.t.Context(), pressed{}, acceptance.Wanted{Names: []string{"camera.motion"}}, nil)
			next <- result{checks, err}
		}()
		f.see("that the check goes on until the camera is closed, and is over then", func(s screen.Scene) bool {
			if s.Kind != screen.Checking && b.open.Load() > 0 {
				f.t.Errorf("the camera is open and the screen shows %d", s.Kind)
			}
			return s.Kind == screen.Starting
		})
		if b.open.Load() > 0 {
			f.t.Error("the terminal begins anew with its camera open")
		}
		f.see("the second check", func(s screen.Scene) bool { return s.Kind == screen.Checking && s.Camera })
		close(b.until)
		if r := <-next; r.err != nil || len(r.checks) != 1 || r.checks[0].State != protocol.CheckPassed {
			f.t.Errorf("the second check: %v, %+v", r.err, r.checks)
		}
		if err := f.end(); err != nil {
			f.t.Error(err)
		}
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
