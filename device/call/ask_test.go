package call_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

var asking = calltest.Policy{Decision: protocol.Ringing, Ring: 30 * time.Second, MaxDuration: time.Hour, Ask: true}

// TestAsk: a call that asks is answered by who takes it, and by nobody else.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.policy = asking
		x.start()
		began := time.Now()
		m, s := x.invite()
		if last := x.view.Last(); !last.Ask || !last.AnswersAt.IsZero() || !last.TakeBy.Equal(began.Add(30*time.Second)) {
			t.Errorf("while it asks %+v is shown", last)
		}
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.run.Take(protocol.NewCallID()) // of a call that was
		x.wait(29 * time.Second)
		if opened := x.media.Opened(); len(opened) != 0 {
			t.Fatalf("%v opened before anybody took it", opened)
		}
		x.run.Take(m.Call)
		synctest.Wait()
		if last := x.view.Last(); last.Scene != call.SceneInCall || last.Ask || !s.IsOpen(call.Camera) {
			t.Errorf("after it was taken %+v is shown", last)
		}
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Answered})
		x.run.Take(m.Call) // again does nothing
		x.wait(time.Minute)
		if !s.IsOpen(call.Camera) {
			t.Error("the call is over")
		}
		_ = x.end()
	})
}

func TestNobodyTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.policy = asking
		x.start()
		m, s := x.invite()
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(30 * time.Second)
		x.run.Take(m.Call) // too late
		x.wait(time.Minute)
		if opened := x.media.Opened(); len(opened) != 0 {
			t.Errorf("%v opened", opened)
		}
		if ends := x.ends(); len(ends) != 1 || ends[0].Reason != protocol.AnswerNobody || ends[0].CameraClosed != 0 {
			t.Errorf("ends: %+v", ends)
		}
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing})
		_ = x.end()
	})
}

// TestTakeWhatDoesNotAsk: a key by which calls are taken does not shorten a ring, and who presses both keys says no.
func TestTakeWhatDoesNotAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.invite()
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.run.Take(m.Call)
		x.wait(4 * time.Second)
		if s.IsOpen(call.Camera) {
			t.Error("the ring was cut short")
		}
		_ = x.end()

		x.policy = asking
		x.start()
		m, s = x.invite()
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.run.Take(m.Call)
		x.run.HangUp()
		synctest.Wait()
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.AnswerDeclined || s.IsOpen(call.Camera) || len(x.media.Opened()) != 0 {
			t.Errorf("%+v is shown, %v opened", last, x.media.Opened())
		}
		_ = x.end()
	})
}

// TestLapses: a call ends with the authorisation by which it was made, in whichever phase, with a link or without, by the clock or since it was proven.
func TestLapses(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration // from the invitation
		do    func(x *terminal, s *calltest.Session, jump func(time.Duration))
		open  bool // shortly before
		ends  time.Duration
	}{
		{"in a call", time.Minute, func(x *terminal, _ *calltest.Session, _ func(time.Duration)) { x.wait(5 * time.Second) }, true, time.Minute},
		{"while it rings", 3 * time.Second, nil, false, 3 * time.Second},
		{"the clock is put forward", time.Hour, func(x *terminal, _ *calltest.Session, jump func(time.Duration)) {
			x.wait(10 * time.Second)
			jump(time.Hour)
		}, true, 12 * time.Second},
		{"the clock is put back", time.Minute, func(x *terminal, _ *calltest.Session, jump func(time.Duration)) {
			x.wait(10 * time.Second)
			jump(-time.Hour)
		}, true, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				var ahead atomic.Int64
				x.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				x.start()
				began := time.Now()
				d := x.clinic.Draft(t, began)
				d.Authorisation.To = protocol.At(began.Add(test.after))
				x.deliver(d.Message(t))
				s := x.session()
				x.say(s, call.MediaConnected)
				x.say(s, call.MediaSeen)
				if test.do != nil {
					test.do(x, s, func(by time.Duration) { ahead.Store(int64(by)) })
				}
				x.wait(time.Until(began.Add(test.ends - time.Millisecond)))
				if s.IsOpen(call.Camera) != test.open || x.view.Last().Scene == call.SceneEnded {
					t.Errorf("shortly before: open %v, %+v is shown", s.IsOpen(call.Camera), x.view.Last())
				}
				x.wait(time.Millisecond)
				if last := x.view.Last(); s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) || last.Scene != call.SceneEnded || last.Reason != protocol.EndLapsed {
					t.Errorf("afterwards: %+v is shown", last)
				}
				if ends := x.ends(); len(ends) != 1 || ends[0].Reason != protocol.EndLapsed {
					t.Errorf("ends: %+v", ends)
				}
				_ = x.end()
			})
		})
	}
}

// TestCodeAndUrgency: from when it is known, in the ring and in the call, the screen has the code that the caller has; and what policy says of the call.
func TestCodeAndUrgency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.policy.Urgent, x.policy.Volume = true, 70
		x.media.Hold = make(chan struct{})
		x.start()
		m, _ := x.clinic.Invite(t, time.Now())
		x.deliver(m)
		if last := x.view.Last(); last.Scene != call.SceneRinging || last.Code != "" || !last.Urgent {
			t.Errorf("before the session is there %+v is shown", last)
		}
		close(x.media.Hold)
		synctest.Wait()
		want := protocol.CallCode(protocol.HashOf(m.Invite.Invitation), calltest.Key)
		ringing := x.view.Last()
		if ringing.Code != want || !ringing.Urgent || ringing.AnswersAt.IsZero() || len(ringing.Parties) != 1 {
			t.Errorf("while it rings %+v is shown, want the code %s", ringing, want)
		}
		s := x.session()
		if s.Offer.Volume != 70 || len(s.Offer.Parties) != 1 || s.Offer.Parties[0] != calltest.Clinician {
			t.Errorf("offer: %+v", s.Offer)
		}
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		if last := x.view.Last(); last.Scene != call.SceneInCall || last.Code != want || !last.Urgent {
			t.Errorf("in the call %+v is shown", last)
		}
		x.run.HangUp()
		synctest.Wait()
		if last := x.view.Last(); last.Code != "" {
			t.Errorf("afterwards %+v is shown", last)
		}
		_ = x.end()
	})
}
