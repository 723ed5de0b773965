package call_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// inConference runs f in a call that others may join.
func inConference(t *testing.T, f func(t *testing.T, x *terminal, m *protocol.CallIn, s *calltest.Session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.media.Conference = true
		x.start()
		m, s := x.talk()
		f(t, x, m, s)
		_ = x.end()
	})
}

func names(parties []protocol.Party) (list []string) {
	for _, p := range parties {
		list = append(list, p.Name)
	}
	return list
}

// TestJoinAndLeave: who joins is shown and heard to come before picture and sound go to them, and shown until none does; and the call is the caller's.
func TestJoinAndLeave(t *testing.T) {
	inConference(t, func(t *testing.T, x *terminal, m *protocol.CallIn, s *calltest.Session) {
		bo, kari := calltest.NewGuest(t, "Bo Dahl"), calltest.NewGuest(t, "Kari Nord")
		roster := func(chimes int, want ...string) {
			t.Helper()
			equal(t, "shown", names(x.view.Last().Parties), want)
			equal(t, "receiving", names(s.Receiving()), want)
			if x.view.Last().Scene != call.SceneInCall || s.Chimes() != chimes {
				t.Errorf("%v is shown, %d chimes, want %d", x.view.Last().Scene, s.Chimes(), chimes)
			}
		}
		first := x.clinic.Join(t, time.Now(), m.Call, bo).Message(t)
		x.deliver(first)
		roster(1, "Anne Berg", "Bo Dahl")
		x.deliver(first)
		roster(1, "Anne Berg", "Bo Dahl")
		short := x.clinic.Join(t, time.Now(), m.Call, kari)
		short.Authorisation.To = protocol.At(time.Now().Add(10 * time.Second))
		x.deliver(short.Message(t))
		roster(2, "Anne Berg", "Bo Dahl", "Kari Nord")

		leave := &protocol.End{
			Version: protocol.Version, Call: m.Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(first.Invite.Invitation), By: protocol.SideCaller,
			Reason: protocol.EndCallerHungUp, At: 1,
		}
		x.deliver(x.clinic.HangUpBy(t, m, leave, kari.Key))
		roster(2, "Anne Berg", "Bo Dahl", "Kari Nord")
		x.deliver(x.clinic.HangUpBy(t, m, leave, bo.Key))
		roster(3, "Anne Berg", "Kari Nord")
		x.wait(15 * time.Second) // her authorisation is over
		roster(4, "Anne Berg")
		x.deliver(first) // who has left joins by another invitation
		roster(4, "Anne Berg")
		x.deliver(x.clinic.Join(t, time.Now(), m.Call, bo).Message(t))
		roster(5, "Anne Berg", "Bo Dahl")
		x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
		if len(s.Receiving()) != 0 || x.view.Last().Scene != call.SceneEnded {
			t.Errorf("after the caller's end: %v receive, %v is shown", names(s.Receiving()), x.view.Last().Scene)
		}
	})
}

// TestJoinRefused: who has not proven to join as a caller has to, or whom policy does not let in unasked, is not let in.
func TestJoinRefused(t *testing.T) {
	bo := calltest.NewGuest(t, "Bo Dahl")
	for _, test := range []struct {
		name  string
		code  protocol.Code // of the notice; empty: none
		draft func(*testing.T, *terminal, *calltest.Draft)
	}{
		{"for another home", protocol.AuthScope, func(_ *testing.T, _ *terminal, d *calltest.Draft) {
			d.Authorisation.Scope = protocol.Scope{Homes: []string{"home-18"}}
		}},
		{"authorised by another", protocol.AuthIssuer, func(t *testing.T, _ *terminal, d *calltest.Draft) { d.Authority = calltest.NewKey(t) }},
		{"by another's passkey", protocol.AuthPasskey, func(_ *testing.T, x *terminal, d *calltest.Draft) { d.Passkey = x.clinic.Passkey }},
		{"by another's name", protocol.AuthRoster, func(_ *testing.T, _ *terminal, d *calltest.Draft) { d.Invitation.Parties[0].Name = "Dr. Who" }},
		{"with somebody else", protocol.AuthRoster, func(_ *testing.T, _ *terminal, d *calltest.Draft) {
			d.Invitation.Parties = append(d.Invitation.Parties, calltest.Clinician)
		}},
		{"to another call", protocol.AuthUnproven, func(_ *testing.T, _ *terminal, d *calltest.Draft) { d.Invitation.Call = protocol.NewCallID() }},
		{"by the caller's certificate", protocol.AuthFingerprint, func(_ *testing.T, _ *terminal, d *calltest.Draft) {
			d.Offer = calltest.Offer(calltest.Caller)
			d.Invitation.Caller, d.Invitation.Offer = calltest.Caller, protocol.HashOf(d.Offer)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inConference(t, func(t *testing.T, x *terminal, m *protocol.CallIn, s *calltest.Session) {
				d := x.clinic.Join(t, time.Now(), m.Call, bo)
				test.draft(t, x, d)
				sent := d.Message(t)
				sent.Call = m.Call
				x.deliver(sent)
				equal(t, "receiving", names(s.Receiving()), []string{"Anne Berg"})
				equal(t, "shown", names(x.view.Last().Parties), []string{"Anne Berg"})
				notices := calltest.Events[*protocol.Notice](x.outbox)
				if len(notices) != 1 || notices[0].Code != test.code || s.Chimes() != 0 {
					t.Errorf("%d chimes, notices %+v, want %s", s.Chimes(), notices, test.code)
				}
			})
		})
	}
	t.Run("more than there is room for", func(t *testing.T) {
		inConference(t, func(t *testing.T, x *terminal, m *protocol.CallIn, s *calltest.Session) {
			for _, name := range []string{"A", "B", "C", "D"} {
				x.deliver(x.clinic.Join(t, time.Now(), m.Call, calltest.NewGuest(t, name)).Message(t))
			}
			equal(t, "receiving", names(s.Receiving()), []string{"Anne Berg", "A", "B", "C"})
			equal(t, "shown", names(x.view.Last().Parties), []string{"Anne Berg", "A", "B", "C"})
		})
	})
	t.Run("while it rings, and in a session for two", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.start()
			m, s := x.invite()
			x.deliver(x.clinic.Join(t, time.Now(), m.Call, bo).Message(t))
			x.say(s, call.MediaConnected)
			x.say(s, call.MediaSeen)
			x.wait(5 * time.Second)
			x.deliver(x.clinic.Join(t, time.Now(), m.Call, bo).Message(t))
			equal(t, "shown", names(x.view.Last().Parties), []string{"Anne Berg"})
			_ = x.end()
		})
	})
}

// TestJoinFails: who cannot be let in leaves the screen again; and where it is not certain that nothing goes to one who leaves, the call ends for all.
func TestJoinFails(t *testing.T) {
	bo := calltest.NewGuest(t, "Bo Dahl")
	inConference(t, func(t *testing.T, x *terminal, m *protocol.CallIn, s *calltest.Session) {
		s.JoinErr = errors.New("no path")
		x.deliver(x.clinic.Join(t, time.Now(), m.Call, bo).Message(t))
		equal(t, "shown", names(x.view.Last().Parties), []string{"Anne Berg"})
		if s.Chimes() != 2 {
			t.Errorf("%d chimes", s.Chimes())
		}
		s.JoinErr, s.LeaveErr = nil, errors.New("it does not close")
		first := x.clinic.Join(t, time.Now(), m.Call, bo).Message(t)
		x.deliver(first)
		x.deliver(x.clinic.HangUpBy(t, m, &protocol.End{
			Version: protocol.Version, Call: m.Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(first.Invite.Invitation), By: protocol.SideCaller,
			Reason: protocol.EndCallerHungUp, At: 1,
		}, bo.Key))
		if len(s.Receiving()) != 0 || s.IsOpen(call.Camera) || x.view.Last().Scene != call.SceneEnded || x.view.Last().Reason != protocol.MediaFailed {
			t.Errorf("%v receive, %v is shown", names(s.Receiving()), x.view.Last())
		}
	})
}

// TestLeaveHangs: somebody whose authorisation is over keeps neither picture nor sound because a session does not come to an end with them.
func TestLeaveHangs(t *testing.T) {
	inConference(t, func(t *testing.T, x *terminal, m *protocol.CallIn, s *calltest.Session) {
		s.HoldLeave = make(chan struct{})
		defer close(s.HoldLeave)
		short := x.clinic.Join(t, time.Now(), m.Call, calltest.NewGuest(t, "Bo Dahl"))
		short.Authorisation.To = protocol.At(time.Now().Add(10 * time.Second))
		x.deliver(short.Message(t))
		equal(t, "receiving", names(s.Receiving()), []string{"Anne Berg", "Bo Dahl"})
		x.wait(16 * time.Second)
		if len(s.Receiving()) != 0 || s.IsOpen(call.Camera) || x.view.Last().Scene != call.SceneEnded || x.view.Last().Reason != protocol.MediaFailed {
			t.Errorf("%v receive, %v is shown", names(s.Receiving()), x.view.Last())
		}
	})
}
