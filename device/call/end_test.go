package call_test

import (
	"crypto/ecdsa"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		reason protocol.Code
		after  time.Duration
		do     func(x *terminal, m *protocol.CallIn, s *calltest.Session)
	}{
		{"caller hangs up", protocol.EndCallerHungUp, 0, func(x *terminal, m *protocol.CallIn, _ *calltest.Session) {
			x.deliver(x.clinic.HangUp(x.t, m, protocol.EndCallerHungUp))
		}},
		{"caller's page closed", protocol.EndPageClosed, 0, func(x *terminal, m *protocol.CallIn, _ *calltest.Session) {
			x.deliver(x.clinic.HangUp(x.t, m, protocol.EndPageClosed))
		}},
		{"the clinic ends it", protocol.AuthRevoked, 0, func(x *terminal, m *protocol.CallIn, _ *calltest.Session) {
			x.deliver(x.clinic.HangUp(x.t, m, protocol.AuthRevoked, func(e *protocol.End) { e.By = protocol.SideClinic }))
		}},
		{"patient hangs up", protocol.EndPatientHungUp, 0, func(x *terminal, _ *protocol.CallIn, _ *calltest.Session) { x.run.HangUp() }},
		{"path lost", protocol.ICELost, call.PathLimit, func(x *terminal, _ *protocol.CallIn, s *calltest.Session) {
			x.say(s, call.MediaDisconnected)
		}},
		{"link lost", protocol.SignalLostClinic, call.LinkLimit, func(x *terminal, _ *protocol.CallIn, _ *calltest.Session) { x.run.LinkUp(false) }},
		{"too long", protocol.EndMaxDuration, time.Hour, func(*terminal, *protocol.CallIn, *calltest.Session) {}},
		{"media failed", protocol.DTLSFailed, 0, func(_ *terminal, _ *protocol.CallIn, s *calltest.Session) {
			s.Say(call.MediaEvent{Kind: call.MediaFailed, Code: protocol.DTLSFailed})
		}},
		{"terminal stops", protocol.EndTerminalStopped, 0, func(x *terminal, _ *protocol.CallIn, _ *calltest.Session) { x.stop() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, s := x.talk()
				test.do(x, m, s)
				if test.after > 0 {
					x.wait(test.after - time.Millisecond)
					if !s.IsOpen(call.Camera) {
						t.Error("ended too early")
					}
				}
				x.wait(time.Millisecond)
				if s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
					t.Error("something is open")
				}
				if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != test.reason {
					t.Errorf("shown: %+v", last)
				}
				if ends := x.ends(); len(ends) != 1 || ends[0].Reason != test.reason {
					t.Errorf("ends: %+v", ends)
				}
				if records := calltest.Events[*protocol.CallRecord](x.outbox); len(records) != 1 || records[0].Outcome != test.reason {
					t.Errorf("records: %+v", records)
				}
				if err := x.end(); err != nil {
					t.Error(err)
				}
				if sent := x.sender.Sent(); sent[len(sent)-1].Kind != protocol.KindEnd {
					t.Errorf("the last message is %s", sent[len(sent)-1].Kind)
				}
			})
		})
	}
}

func TestLostAndFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.talk()
		for range 3 {
			x.say(s, call.MediaDisconnected)
			x.run.LinkUp(false)
			x.wait(call.LinkLimit - time.Millisecond)
			x.say(s, call.MediaConnected)
			x.run.LinkUp(true)
			x.wait(call.PathLimit)
		}
		if !s.IsOpen(call.Camera) {
			t.Error("a call ended although path and link came back in time")
		}
		_ = x.end()
	})
}

func TestNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.invite()
		x.run.HangUp()
		synctest.Wait()
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Declined})
		if ends := x.ends(); len(ends) != 1 || ends[0].Reason != protocol.AnswerDeclined || ends[0].CameraClosed != 0 {
			t.Errorf("ends: %+v", ends)
		}
		x.wait(time.Minute)
		if s.IsOpen(call.Camera) || len(calltest.Events[*protocol.Opening](x.outbox)) != 0 {
			t.Error("something was opened")
		}
		_ = x.end()
	})
}

func TestNoWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.media.NewSession = func(s *calltest.Session) { s.HoldOpen = make(chan struct{}) }
		x.start()
		_, s := x.invite()
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		if !s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
			t.Fatal("the test is wrong: Open should be half way")
		}
		x.run.HangUp()
		synctest.Wait()
		if s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
			t.Error("something is open")
		}
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.EndPatientHungUp {
			t.Errorf("shown: %+v", last)
		}
		_ = x.end()
	})
}

func TestNoWhilePreparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.media.Hold = make(chan struct{})
		x.start()
		m, _ := x.clinic.Invite(t, time.Now())
		x.deliver(m)
		x.run.HangUp()
		synctest.Wait()
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.AnswerDeclined {
			t.Errorf("shown: %+v", last)
		}
		_ = x.end()
	})
}

func TestHangUpThatProvesNothing(t *testing.T) {
	stranger := calltest.NewClinic(t)
	for _, test := range []struct {
		name string
		make func(x *terminal, m *protocol.CallIn) *protocol.CallIn
	}{
		{"signed by another clinic", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return stranger.HangUp(t, m, protocol.EndCallerHungUp, func(e *protocol.End) { e.Terminal = x.clinic.Self })
		}},
		{"of another invitation", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.HangUp(t, m, protocol.EndCallerHungUp, func(e *protocol.End) { e.Invitation[0] ^= 1 })
		}},
		{"of another call", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.HangUp(t, m, protocol.EndCallerHungUp, func(e *protocol.End) { e.Call = protocol.NewCallID() })
		}},
		{"of a terminal", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.HangUp(t, m, protocol.EndCallerHungUp, func(e *protocol.End) { e.By = protocol.SideTerminal })
		}},
		{"the caller's, by the clinic's server", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return hangUpBy(x, m, protocol.SideCaller, x.clinic.Service)
		}},
		{"the caller's, by the authorisation key", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return hangUpBy(x, m, protocol.SideCaller, x.clinic.Authority)
		}},
		{"the clinic's, by the caller", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return hangUpBy(x, m, protocol.SideClinic, x.clinic.Caller)
		}},
		{"the clinic's, by the authorisation key", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return hangUpBy(x, m, protocol.SideClinic, x.clinic.Authority)
		}},
		{"the clinic's, of another clinic", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return hangUpBy(x, m, protocol.SideClinic, stranger.Service)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, s := x.talk()
				x.deliver(test.make(x, m))
				if !s.IsOpen(call.Camera) {
					t.Error("the call ended")
				}
				if notices := calltest.Events[*protocol.Notice](x.outbox); len(notices) != 1 || notices[0].Code != protocol.AuthUnproven {
					t.Errorf("notices: %+v", notices)
				}
				_ = x.end()
			})
		})
	}
}

func hangUpBy(x *terminal, m *protocol.CallIn, side protocol.Side, key *ecdsa.PrivateKey) *protocol.CallIn {
	return x.clinic.HangUpBy(x.t, m, &protocol.End{
		Version: protocol.Version, Call: m.Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(m.Invite.Invitation), By: side, Reason: protocol.EndCallerHungUp, At: 1,
	}, key)
}

// TestClinicEndsTestCall: a test call is ended by the clinic's own end.
func TestClinicEndsTestCall(t *testing.T) {
	for _, side := range []protocol.Side{protocol.SideClinic} {
		t.Run(string(side), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, _ := x.clinic.TestCall(t, time.Now())
				x.deliver(m)
				x.deliver(hangUpBy(x, m, side, x.clinic.Terminal))
				if scene := x.view.Last().Scene; scene != call.SceneRinging {
					t.Errorf("after an end by a stranger %v is shown", scene)
				}
				x.deliver(x.clinic.HangUp(t, m, protocol.EndPageClosed, func(e *protocol.End) { e.By = side }))
				if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.EndPageClosed {
					t.Errorf("%+v is shown", last)
				}
				_ = x.end()
			})
		})
	}
}

func TestStuckDevice(t *testing.T) {
	for name, spoil := range map[string]func(*calltest.Session){
		"close does not return":    func(s *calltest.Session) { s.HoldClose = make(chan struct{}) },
		"close forgets the camera": func(s *calltest.Session) { s.Forget = true },
		"open does not return":     func(s *calltest.Session) { s.HoldOpen, s.Deaf = make(chan struct{}), true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.media.NewSession = spoil
				x.start()
				_, session := x.invite()
				x.say(session, call.MediaConnected)
				x.say(session, call.MediaSeen)
				x.wait(5 * time.Second)
				x.run.HangUp()
				err := <-x.err
				if !errors.Is(err, call.ErrDeviceStuck) {
					t.Fatalf("Run returned %v", err)
				}
				if scene := x.view.Last().Scene; scene != call.SceneInCall {
					t.Errorf("%v is shown although the camera may be open", scene)
				}
				if len(x.ends()) != 0 {
					t.Error("an end was signed although the camera may be open")
				}
				for _, hold := range []chan struct{}{session.HoldClose, session.HoldOpen} {
					if hold != nil {
						close(hold)
					}
				}
				synctest.Wait()

				x.media = &calltest.Media{} // the supervisor starts the program again
				x.start()
				if ends := x.ends(); len(ends) != 1 || ends[0].Reason != protocol.CaptureCameraStuck || ends[0].CameraClosed == 0 {
					t.Errorf("ends after the restart: %+v", ends)
				}
				_ = x.end()
			})
		})
	}
}

func TestInterruptedCallIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		began := time.Now()
		m, _ := x.talk()
		doc, err := x.store.Load() // what is on the disk when the power fails
		if err != nil {
			t.Fatal(err)
		}
		_ = x.end()

		y := newTerminal(t)
		y.clinic = x.clinic
		if err := y.store.Save(doc); err != nil {
			t.Fatal(err)
		}
		y.start()
		restarted := protocol.At(time.Now())
		ends := y.ends()
		if len(ends) != 1 || ends[0].Reason != protocol.PowerRestarted || ends[0].Call != m.Call || ends[0].CameraClosed != restarted {
			t.Errorf("ends: %+v", ends)
		}
		records := calltest.Events[*protocol.CallRecord](y.outbox)
		if len(records) != 1 || records[0].Outcome != protocol.PowerRestarted || records[0].Began != protocol.At(began) || records[0].MicClosed != restarted {
			t.Errorf("records: %+v", records)
		}
		if o := calltest.Events[*protocol.Opening](y.outbox); len(o) != 2 || o[0].Open || o[1].Open {
			t.Errorf("ledger: %+v", o)
		}
		_ = y.end()
		y.start()
		if n := len(y.ends()); n != 1 {
			t.Errorf("%d ends after another restart", n)
		}
		_ = y.end()
	})
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		reason protocol.Code
		spoil  func(x *terminal)
	}{
		{"prepare fails", protocol.MediaFailed, func(x *terminal) { x.media.PrepareErr = errors.New("no codec") }},
		{"prepare fails with a code", protocol.DTLSFailed, func(x *terminal) {
			x.media.PrepareErr = &call.MediaError{Code: protocol.DTLSFailed, Err: errors.New("no certificate")}
		}},
		{"open fails", protocol.MediaFailed, func(x *terminal) {
			x.media.NewSession = func(s *calltest.Session) { s.OpenErr = errors.New("nothing to hear by") }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				test.spoil(x)
				x.start()
				m, _ := x.clinic.Invite(t, time.Now())
				x.deliver(m)
				for _, s := range x.media.Sessions() {
					x.say(s, call.MediaConnected)
					x.say(s, call.MediaSeen)
				}
				x.wait(5 * time.Second)
				if records := calltest.Events[*protocol.CallRecord](x.outbox); len(records) != 1 || records[0].Outcome != test.reason {
					t.Errorf("records: %+v", records)
				}
				if ends := x.ends(); len(ends) != 1 || ends[0].Reason != test.reason {
					t.Errorf("ends: %+v", ends)
				}
				_ = x.end()
			})
		})
	}
}
