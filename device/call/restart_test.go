package call_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// restarted returns the terminal's answers to offers for another path, each verified.
func (x *terminal) restarted(invite *protocol.CallIn) (numbers []uint64) {
	x.t.Helper()
	for _, m := range x.sender.Sent() {
		if m.Kind != protocol.KindRestart {
			continue
		}
		last := uint64(0)
		if len(numbers) > 0 {
			last = numbers[len(numbers)-1]
		}
		a, err := protocol.VerifyRestart(m.Restart.Restart, &x.clinic.Terminal.PublicKey, protocol.SideTerminal, invite.Call, x.clinic.Self,
			protocol.HashOf(invite.Invite.Invitation), m.Restart.SDP, last)
		if err != nil {
			x.t.Fatal(err)
		}
		if want := protocol.SDP(fmt.Sprintf("answer to offer %d", a.N)); m.Restart.SDP != want {
			x.t.Errorf("answered %q, want %q", m.Restart.SDP, want)
		}
		numbers = append(numbers, a.N)
	}
	return numbers
}

// as it was: the same call, nobody rung for, both devices open all the time.
func (x *terminal) asItWas(what string, m *protocol.CallIn, s *calltest.Session) {
	x.t.Helper()
	last := x.view.Last()
	if last.Scene != call.SceneInCall || last.Call != m.Call || !s.IsOpen(call.Camera) || !s.IsOpen(call.Microphone) || len(x.media.Sessions()) != 1 {
		x.t.Errorf("%s: %+v, camera %v, microphone %v, %d sessions", what, last, s.IsOpen(call.Camera), s.IsOpen(call.Microphone), len(x.media.Sessions()))
	}
	equal(x.t, what+": answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Answered})
	if n := len(calltest.Events[*protocol.Opening](x.outbox)); n != 2 {
		x.t.Errorf("%s: %d openings and closings", what, n)
	}
}

// TestRestart: a path that is lost is found again by another, in the same call: nobody is rung for, nothing is opened or closed, both ends show the same digits.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		doubts := 0
		x.doubt = func() { doubts++ }
		x.start()
		m, s := x.talk()
		code := x.view.Last().Code
		x.say(s, call.MediaDisconnected)
		if doubts != 1 {
			t.Errorf("the way to the clinic was doubted %d times", doubts)
		}
		x.wait(call.PathLimit - time.Millisecond)
		x.deliver(x.clinic.Restart(t, m, 1))
		x.wait(call.MoveLimit - time.Millisecond)
		x.asItWas("just before the time is over", m, s)
		if c := x.view.Last().Conditions; len(c) != 1 || c[0] != protocol.ICELost {
			t.Errorf("the screen says %v", c)
		}
		x.say(s, call.MediaConnected)
		x.wait(time.Minute)
		x.asItWas("found", m, s)
		if last := x.view.Last(); len(last.Conditions) != 0 || last.Code != code {
			t.Errorf("the screen says %v, digits %q, before %q", last.Conditions, last.Code, code)
		}
		// The next time it is the caller who notices.
		x.deliver(x.clinic.Restart(t, m, 2))
		x.say(s, call.MediaConnected)
		x.wait(time.Minute)
		x.asItWas("found again", m, s)
		equal(t, "offers", s.Restarts(), []protocol.SDP{"offer 1", "offer 2"})
		equal(t, "answered", x.restarted(m), []uint64{1, 2})
		_ = x.end()
	})
}

// TestRestartInVain: however often the caller looks for another path, a call without one ends.
func TestRestartInVain(t *testing.T) {
	for _, c := range []struct {
		name   string
		offers int
		after  time.Duration
	}{{"nobody looks", 0, call.PathLimit}, {"looked for once", 1, time.Second + call.MoveLimit}, {"looked for again and again", 30, time.Second + call.MoveLimit}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, s := x.talk()
				x.say(s, call.MediaDisconnected)
				began := time.Now()
				for n := range c.offers {
					x.wait(time.Second)
					if time.Since(began) < c.after {
						x.deliver(x.clinic.Restart(t, m, uint64(n+1)))
					}
				}
				if c.offers < 30 {
					x.wait(c.after - time.Since(began) - time.Millisecond)
					x.asItWas("just before", m, s)
					x.wait(time.Millisecond)
				}
				if last := x.view.Last(); last.Scene == call.SceneInCall || s.IsOpen(call.Camera) {
					t.Errorf("after %s: %+v", time.Since(began), last)
				}
				if ends := x.ends(); len(ends) != 1 || ends[0].Reason != protocol.ICELost || ends[0].At.Time().Sub(began).Abs() > c.after+time.Millisecond {
					t.Errorf("ended %+v", ends)
				}
				_ = x.end()
			})
		})
	}
}

// TestHostileRestarts: nobody but the caller has a call look for another path, and nobody has it do so twice by one offer; what is refused is told once, and the call
// stays on the path that it has.
func TestHostileRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.talk()
		right := func(n uint64, change func(*protocol.Restart)) *protocol.CallIn {
			return x.clinic.Restart(t, m, n, change)
		}
		by := func(offer protocol.SDP, key int) *protocol.CallIn {
			r := &protocol.Restart{
				Version: 1, Call: m.Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(m.Invite.Invitation), By: protocol.SideCaller, N: 20, SDP: protocol.HashOf(offer), At: 1,
			}
			if key == 0 {
				return x.clinic.RestartBy(t, m, r, offer, x.clinic.Service)
			}
			return x.clinic.RestartBy(t, m, r, offer, x.clinic.Terminal)
		}
		first := x.clinic.Restart(t, m, 5)
		x.deliver(first)
		astray := x.clinic.Restart(t, m, 30)
		astray.Call[0] ^= 1
		x.deliver(astray) // is about a call that does not run: nothing is said of that
		if n := len(calltest.Events[*protocol.Notice](x.outbox)); n != 0 {
			t.Errorf("%d notices", n)
		}
		x.say(s, call.MediaConnected)
		swapped := x.clinic.Restart(t, m, 21)
		swapped.Restart.SDP = "offer of somebody else's"
		for _, try := range []struct {
			name string
			m    *protocol.CallIn
		}{
			{"the same again", first},
			{"an older one", x.clinic.Restart(t, m, 4)},
			{"by the clinic's server", by("x", 0)},
			{"by the terminal's own key", by("x", 1)},
			{"of the terminal's side", right(20, func(r *protocol.Restart) { r.By = protocol.SideTerminal })},
			{"of another call", right(20, func(r *protocol.Restart) { r.Call[0] ^= 1 })},
			{"for another terminal", right(20, func(r *protocol.Restart) { r.Terminal[0] ^= 1 })},
			{"of another invitation", right(20, func(r *protocol.Restart) { r.Invitation[0] ^= 1 })},
			{"with another offer", swapped},
			{"candidates in its place", &protocol.CallIn{Version: 1, Call: m.Call, Kind: protocol.KindRestart, Restart: &protocol.CallRestart{Restart: x.clinic.Candidates(t, m, 9).Candidates, SDP: "x"}}},
			{"not signed", &protocol.CallIn{Version: 1, Call: m.Call, Kind: protocol.KindRestart, Restart: &protocol.CallRestart{Restart: []byte{0xa0}, SDP: "x"}}},
		} {
			x.deliver(try.m)
			x.wait(time.Second)
			x.asItWas(try.name, m, s)
			equal(t, try.name, s.Restarts(), []protocol.SDP{"offer 5"})
		}
		notices := calltest.Events[*protocol.Notice](x.outbox)
		if len(notices) != 1 || notices[0].Code != protocol.AuthUnproven || notices[0].Call != m.Call || notices[0].Detail != "restart" {
			t.Errorf("notices %+v", notices)
		}
		x.deliver(x.clinic.Restart(t, m, 6))
		equal(t, "the caller's next", s.Restarts(), []protocol.SDP{"offer 5", "offer 6"})
		_ = x.end()
	})
	// What the session refuses changes nothing, but for a certificate of somebody else.
	for _, c := range []struct {
		name string
		err  error
		ends protocol.Code
	}{{"other media", errors.New("x"), ""}, {"another certificate", &call.MediaError{Code: protocol.AuthFingerprint, Err: errors.New("x")}, protocol.AuthFingerprint}} {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.start()
			m, s := x.talk()
			s.RestartErr = c.err
			x.deliver(x.clinic.Restart(t, m, 1))
			x.wait(time.Minute)
			if c.ends == "" {
				x.asItWas(c.name, m, s)
			} else if ends := x.ends(); len(ends) != 1 || ends[0].Reason != c.ends || s.IsOpen(call.Camera) {
				t.Errorf("%s: ended %+v", c.name, ends)
			}
			equal(t, c.name, x.restarted(m), nil)
			_ = x.end()
		})
	}
}

// TestRestartOutOfPlace: before there was a path, and when the call is over, nobody looks for another; while one offer is answered no other is taken, and candidates
// wait for the answer.
func TestRestartOutOfPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.invite()
		x.deliver(x.clinic.Restart(t, m, 1))
		if len(s.Restarts()) != 0 {
			t.Error("before there was a path another one is looked for")
		}
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		s.HoldRestart = make(chan struct{})
		x.deliver(x.clinic.Restart(t, m, 2))
		x.deliver(x.clinic.Candidates(t, m, 1))
		x.deliver(x.clinic.Restart(t, m, 3))
		if len(s.Candidates()) != 0 {
			t.Error("candidates overtook the offer that they belong to")
		}
		close(s.HoldRestart)
		synctest.Wait()
		equal(t, "offers", s.Restarts(), []protocol.SDP{"offer 2"})
		if len(s.Candidates()) != 1 {
			t.Errorf("candidates %v", s.Candidates())
		}
		x.say(s, call.MediaConnected)
		x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
		x.deliver(x.clinic.Restart(t, m, 4))
		x.wait(time.Minute)
		x.deliver(x.clinic.Restart(t, m, 5))
		equal(t, "offers", s.Restarts(), []protocol.SDP{"offer 2"})
		_ = x.end()
	})
}

// TestRestartsAreBounded: a caller who looks for paths without end gets no more than there are numbers.
func TestRestartsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.talk()
		for n := range uint64(protocol.MaxRestarts) {
			x.deliver(x.clinic.Restart(t, m, n+1))
			for i := range uint64(4) { // each has candidates of its own
				x.deliver(x.clinic.Candidates(t, m, 4*n+i+1))
			}
			x.say(s, call.MediaConnected)
		}
		if n := len(s.Candidates()); n != 4*protocol.MaxRestarts {
			t.Errorf("%d candidates were taken", n)
		}
		x.asItWas("at last", m, s)
		if n := len(s.Restarts()); n != protocol.MaxRestarts {
			t.Errorf("%d offers were taken", n)
		}
		_ = x.end()
	})
}
