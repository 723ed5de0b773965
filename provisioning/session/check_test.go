package session_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

// TestPressGetsOld: a press is good for a while, by a clock that nobody can set; then the same session asks for another one. What the press has begun may be
// asked after meanwhile.
func TestPressGetsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.host.TimeKnown = false
		var jump atomic.Int64
		b.host.Clock = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		b.mandate(-time.Hour, 30*24*time.Hour)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
			b.host.Lock()
			b.host.TimeKnown = true // the terminal learns the time after three weeks in a drawer
			b.host.Unlock()
			jump.Store(int64(21 * 24 * time.Hour))
			if _, err := c.Check(ctx, session.CheckOptions{}, nil); err != nil {
				t.Errorf("after the clock was set: %v", err)
			}
			if ago, ok := b.host.Proofs[0].Pressed(); !ok || ago > time.Minute {
				t.Errorf("the press was %v ago", ago)
			}
			for range 4 { // so that the session is not forgotten
				<-time.After(session.PressTime / 4)
				if _, err := c.Info(ctx); err != nil {
					return err
				}
			}
			if _, err := c.StartCheck(ctx, session.CheckOptions{}); protocol.CodeOf(err) != protocol.AuthButton {
				t.Errorf("a check by an old press: %v", err)
			}
			if err := c.SetLanguage(ctx, "en"); protocol.CodeOf(err) != protocol.AuthButton {
				t.Errorf("a language by an old press: %v", err)
			}
			if _, err := c.CheckStatus(ctx); err != nil {
				t.Errorf("how the check went: %v", err)
			}
			if i, err := c.Info(ctx); err != nil || i.Authorised {
				t.Errorf("info: %+v, %v", i, err)
			}
			prompts := b.host.Prompts
			if err := c.Authorise(ctx, nil); err != nil || b.host.Prompts != prompts+1 {
				t.Errorf("another press: %v, %d prompts", err, b.host.Prompts)
			}
			_, err := c.Check(ctx, session.CheckOptions{}, nil)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestBusyIsNotUnpressed: why nobody could press is told as it is.
func TestBusyIsNotUnpressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			for _, code := range []protocol.Code{protocol.AnswerBusy, protocol.ScreenNone, protocol.AuthButton} {
				b.host.Lock()
				b.host.Press = func(context.Context) error {
					if code == protocol.AuthButton {
						return errors.New("no code")
					}
					return protocol.WithCode(code, errors.New("why"))
				}
				b.host.Unlock()
				if err := c.Authorise(ctx, nil); protocol.CodeOf(err) != code {
					t.Errorf("%s: %v", code, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// begun has a check begin that goes on for a long time, and does f.
func (b *bench) begun(f func(ctx context.Context, c *session.Client, run uint64) error) error {
	b.host.Lock()
	b.host.CheckTime = time.Hour
	b.host.Unlock()
	return b.open(func(ctx context.Context, c *session.Client) error {
		if err := c.Authorise(ctx, nil); err != nil {
			return err
		}
		run, err := c.StartCheck(ctx, session.CheckOptions{Seen: true})
		if err != nil {
			return err
		}
		return f(ctx, c, run)
	})
}

// TestCheckStops: the technician stops a check, and so does that nobody is there to see what it finds.
func TestCheckStops(t *testing.T) {
	bad := func(s *session.CheckStatus, err error) bool {
		return err != nil || s.State != session.JobFailed || s.Code != protocol.CheckStopped || s.Cause == ""
	}
	for _, c := range []struct {
		name string
		stop func(b *bench, ctx context.Context, c *session.Client) error
		same bool // the session goes on
	}{
		{"by the technician", func(_ *bench, ctx context.Context, c *session.Client) error { return c.StopCheck(ctx) }, true},
		{"by the technician, twice", func(_ *bench, ctx context.Context, c *session.Client) error {
			return errors.Join(c.StopCheck(ctx), c.StopCheck(ctx))
		}, true},
		{"nobody asks after it", func(*bench, context.Context, *session.Client) error {
			<-time.After(session.AskedTime + time.Second)
			return nil
		}, true},
		{"another session", func(_ *bench, ctx context.Context, c *session.Client) error { return c.Open(ctx) }, false},
		{"the port is gone", func(b *bench, ctx context.Context, c *session.Client) error {
			b.terminal.Close()
			if _, err := c.Info(ctx); !errors.Is(err, session.ErrLost) {
				return err
			}
			return c.Open(ctx)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.setUp()
				b.presses(time.Second)
				b.serve()
				err := b.begun(func(ctx context.Context, client *session.Client, run uint64) error {
					for range 10 { // it goes on as long as it is asked after
						<-time.After(session.AskedTime / 2)
						if s, err := client.CheckStatus(ctx); err != nil || s.State != session.JobRunning {
							return errors.Join(err, errors.New("the check does not go on"))
						}
					}
					if err := c.stop(b, ctx, client); err != nil {
						return err
					}
					synctest.Wait()
					if !c.same {
						if err := client.Authorise(ctx, nil); err != nil {
							return err
						}
					}
					if s, err := client.CheckStatus(ctx); bad(s, err) {
						t.Errorf("%+v, %v", s, err)
					}
					b.host.Lock()
					b.host.CheckTime = 0
					b.host.Unlock()
					again, err := client.StartCheck(ctx, session.CheckOptions{})
					if err != nil || again == run {
						t.Errorf("another one: run %d after %d, %v", again, run, err)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestCheckOfAnother: a check that another session began is over before one of this session begins: the proof of its technician is not lent.
func TestCheckOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.host.SlowStop = 5 * time.Second
		b.serve()
		err := b.begun(func(ctx context.Context, c *session.Client, run uint64) error {
			if err := errors.Join(c.Open(ctx), c.Authorise(ctx, nil)); err != nil {
				return err
			}
			again, err := c.StartCheck(ctx, session.CheckOptions{})
			if err != nil || again == run {
				t.Errorf("run %d after %d, %v", again, run, err)
			}
			synctest.Wait() // it has begun
			return c.StopCheck(ctx)
		})
		synctest.Wait()
		b.host.Lock()
		defer b.host.Unlock()
		if err != nil || len(b.host.Proofs) != 2 || b.host.Proofs[0] == b.host.Proofs[1] {
			t.Errorf("%v; %d proofs", err, len(b.host.Proofs))
		}
	})
}

// TestForgetsWhatItWas: a terminal that was taken out of use and begins anew tells nobody what was found in its former home, nor does one that moved.
func TestForgetsWhatItWas(t *testing.T) {
	for name, change := range map[string]func(ctx context.Context, b *bench, c *session.Client) error{
		"begins anew": func(ctx context.Context, b *bench, c *session.Client) error {
			b.host.Lock()
			b.host.State, b.host.Key = session.Factory, sessiontest.Key()
			b.host.Unlock()
			_, err := c.Greet(ctx)
			return errors.Join(err, c.Open(ctx))
		},
		"moved over its own network": func(ctx context.Context, _ *bench, c *session.Client) error { return c.Enrol(ctx, voucher()) },
		"moved through the laptop":   func(ctx context.Context, _ *bench, c *session.Client) error { return c.Install(ctx, &session.Grant{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.setUp()
				b.presses(time.Second)
				b.serve()
				err := b.open(func(ctx context.Context, c *session.Client) error {
					if err := c.Authorise(ctx, nil); err != nil {
						return err
					}
					if checks, err := c.Check(ctx, session.CheckOptions{}, nil); err != nil || len(checks) == 0 {
						return errors.Join(err, errors.New("nothing was found"))
					}
					if err := change(ctx, b, c); err != nil {
						return err
					}
					s, err := c.CheckStatus(ctx)
					if s.State != session.JobNone || len(s.Done) > 0 {
						t.Errorf("it tells %+v", s)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestPressedUnasked: a terminal that is set up waits for a press in every session; what says otherwise is not one.
func TestPressedUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.serve()
		err := b.with(func(ctx context.Context, c *session.Client) error {
			b.setUp()
			if _, err := c.Greet(ctx); err != nil {
				return err
			}
			b.host.Lock()
			b.host.State = session.Factory // it greets as one that is set up, and does as one that is not
			b.host.Unlock()
			if err := c.Open(ctx); err != nil {
				return err
			}
			if err := c.Authorise(ctx, nil); !errors.Is(err, session.ErrUnproven) {
				t.Errorf("authorised: %v", err)
			}
			if _, err := c.AskPress(ctx); !errors.Is(err, session.ErrUnproven) {
				t.Errorf("asked: %v", err)
			}
			return nil
		})
		if err != nil || slices.Contains(b.did(), "Enrol") {
			t.Error(err)
		}
	})
}
