package acceptance_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/protocol"
)

// rehearsing is a bench that rehearses.
func rehearsing(t *testing.T) *bench {
	b := newBench(t)
	b.rehearses = true
	return b
}

// TestRehearse: nobody presses anything, the microphone alone opens, and the screen does not say that something runs.
func TestRehearse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rehearsing(t)
		found, err := b.runner.Rehearse(t.Context())
		if err != nil || len(found) != 2 || findings(found) != "" {
			t.Errorf("%+v, %v", found, err)
		}
		if want := []string{"ledger: microphone opens", "microphone open", "microphone closed", "ledger: microphone closed"}; !reflect.DeepEqual(b.log, want) {
			t.Errorf("%v", b.log)
		}
		if len(b.shown) != 0 || len(b.store) != 0 {
			t.Errorf("shown %+v, kept %x", b.shown, b.store)
		}
	})
}

func TestRehearsalFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rehearsing(t)
		b.hearing.RMS, b.hearing.Heard = -90, false
		found, err := b.runner.Rehearse(t.Context())
		if got := findings(found); err != nil || got != "microphone.level failed capture.silent; loudspeaker.chirp failed capture.loudspeaker_unheard" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// looker is a bench whose Listen opens the camera.
type looker struct{ *bench }

func (l looker) Listen(ctx context.Context, ledger call.Ledger) (acceptance.Hearing, error) {
	return l.hearing, l.use(ctx, ledger, call.Camera)
}

// TestRehearsalOpensNoCamera: not even where a device asks for it.
func TestRehearsalOpensNoCamera(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rehearsing(t)
		r, err := acceptance.New(acceptance.Config{Devices: looker{b}, Network: b, Clinic: b, Outbox: b, Store: store{b}, Busy: func() bool { return false }, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		found, err := r.Rehearse(t.Context())
		if err != nil || found[0].State != protocol.CheckFailed || len(b.log) != 0 {
			t.Errorf("%+v, %v, %v", found, err, b.log)
		}
	})
}

func TestRehearsalWithheld(t *testing.T) {
	for _, c := range []struct {
		name  string
		bench func(*bench)
		code  protocol.Code
	}{
		{"a call runs", func(b *bench) { b.busy = true }, protocol.AnswerBusy},
		{"nobody can see the screen", func(b *bench) { b.dark = 1 }, protocol.ScreenNone},
		{"the terminal ends", func(b *bench) { b.runner.Shut() }, protocol.LinkTerminalBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := rehearsing(t)
				c.bench(b)
				if _, err := b.runner.Rehearse(t.Context()); protocol.CodeOf(err) != c.code || len(b.log) != 0 {
					t.Errorf("%v, %v", err, b.log)
				}
			})
		})
	}
}

// TestRehearsalEnds: what comes first ends it, and finds the microphone closed and on the ledger.
func TestRehearsalEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*testing.T, *bench)
		code protocol.Code
	}{
		{"a call", func(t *testing.T, b *bench) {
			if err := b.runner.Yield(t.Context()); err != nil {
				t.Error(err)
			}
		}, protocol.AnswerBusy},
		{"a person's no", func(_ *testing.T, b *bench) { b.runner.Stop(); synctest.Wait() }, protocol.AnswerDeclined},
		{"the terminal's end", func(t *testing.T, b *bench) {
			if err := b.runner.Close(); err != nil {
				t.Error(err)
			}
		}, protocol.LinkTerminalBusy},
		{"a technician", func(t *testing.T, b *bench) {
			if found, err := b.check("panel"); err != nil || len(found) != 1 {
				t.Errorf("%+v, %v", found, err)
			}
		}, protocol.AnswerBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := rehearsing(t)
				b.watches = true
				done := make(chan error, 1)
				go func() {
					_, err := b.runner.Rehearse(t.Context())
					done <- err
				}()
				synctest.Wait()
				if b.runner.Running() {
					t.Error("a rehearsal counts as a technician's check")
				}
				began := time.Now()
				c.end(t, b)
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v", took)
				}
				if want := "ledger: microphone closed"; b.log[len(b.log)-1] != want {
					t.Errorf("%v", b.log)
				}
				if err := <-done; protocol.CodeOf(err) != c.code {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestRehearsalStuck: a microphone that does not close ends the process.
func TestRehearsalStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rehearsing(t)
		b.leaves = true
		if _, err := b.runner.Rehearse(t.Context()); !errors.Is(err, call.ErrDeviceStuck) {
			t.Errorf("%v", err)
		}
		if err := b.runner.Yield(t.Context()); !errors.Is(err, call.ErrDeviceStuck) {
			t.Errorf("a call that comes is told %v", err)
		}
		if _, err := b.runner.Rehearse(t.Context()); protocol.CodeOf(err) != protocol.LinkTerminalBusy {
			t.Errorf("and the next begins: %v", err)
		}
	})
}
