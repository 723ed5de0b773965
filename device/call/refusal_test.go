package call_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

func TestTestCallRefused(t *testing.T) {
	stranger := calltest.NewClinic(t)
	for _, test := range []struct {
		name string
		code protocol.Code
		make func(x *terminal) *protocol.CallIn
	}{
		{"signed by another clinic", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := stranger.TestCall(t, time.Now(), func(i *protocol.Invitation) { i.Terminal = x.clinic.Self })
			return m
		}},
		{"not signed at all", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now())
			m.Invite.Invitation = []byte{1, 2, 3}
			return m
		}},
		{"another kind of statement", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now())
			m.Invite.Invitation = x.clinic.HangUp(t, m, protocol.EndCallerHungUp).HangUp.End
			return m
		}},
		{"another call's proof", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now())
			m.Call = protocol.NewCallID()
			return m
		}},
		{"another terminal", protocol.AuthOtherTerminal, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now(), func(i *protocol.Invitation) { i.Terminal[31] ^= 1 })
			return m
		}},
		{"expired beyond the skew", protocol.AuthExpired, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now().Add(-2*time.Minute-2*time.Millisecond))
			return m
		}},
		{"from the future beyond the skew", protocol.AuthExpired, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now().Add(time.Minute+2*time.Millisecond))
			return m
		}},
		{"another offer", protocol.AuthFingerprint, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now())
			m.Invite.Offer += "a=x\r\n"
			return m
		}},
		{"another certificate in the offer", protocol.AuthFingerprint, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.TestCall(t, time.Now(), func(i *protocol.Invitation) { i.Caller[0] ^= 1 })
			return m
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m := test.make(x)
				x.deliver(m)
				sent := x.sender.Sent()
				if len(sent) != 1 || sent[0].Kind != protocol.KindRefusal || sent[0].Refusal != test.code || sent[0].Call != m.Call {
					t.Errorf("sent %+v", sent)
				}
				notices := calltest.Events[*protocol.Notice](x.outbox)
				if len(notices) != 1 || notices[0].Code != test.code || notices[0].Call != m.Call {
					t.Errorf("notices: %+v", notices)
				}
				if len(x.media.Sessions()) != 0 {
					t.Error("a session was prepared")
				}
				if scene := x.view.Last().Scene; scene != call.SceneReady {
					t.Errorf("%v is shown", scene)
				}
				_ = x.end()
			})
		})
	}
}

func TestWithinSkew(t *testing.T) {
	for name, off := range map[string]time.Duration{"clock behind": time.Minute, "clock ahead": -2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, _ := x.clinic.Invite(t, time.Now().Add(off))
				x.deliver(m)
				equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing})
				_ = x.end()
			})
		})
	}
}

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, _ := x.invite()
		x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
		x.deliver(m)
		if sent := x.sender.Sent(); sent[len(sent)-1].Refusal != protocol.AuthReplayed {
			t.Errorf("the same invitation again: %+v", sent[len(sent)-1])
		}
		_ = x.end()
		x.start() // a new process with the same store
		x.deliver(m)
		if sent := x.sender.Sent(); sent[len(sent)-1].Refusal != protocol.AuthReplayed {
			t.Errorf("the same invitation after a restart: %+v", sent[len(sent)-1])
		}
		_ = x.end()
		if n := len(x.media.Sessions()); n != 1 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestReplayAfterMemoryWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, _ := x.invite()
		_ = x.end()
		if err := x.store.Save([]byte("damaged")); err != nil {
			t.Fatal(err)
		}
		x.start()
		x.deliver(m)
		if sent := x.sender.Sent(); sent[len(sent)-1].Refusal != protocol.AuthReplayed {
			t.Errorf("an invitation from before the damage: %+v", sent[len(sent)-1])
		}
		x.wait(call.Skew + time.Millisecond)
		before := len(x.answers())
		x.invite()
		if got := x.answers()[before:]; !slices.Equal(got, []protocol.Decision{protocol.Ringing}) {
			t.Errorf("a new invitation after the damage: %v", got)
		}
		_ = x.end()
	})
}

func TestPolicyRefuses(t *testing.T) {
	for decision, outcome := range map[protocol.Decision]protocol.Code{
		protocol.Quiet: protocol.AnswerQuiet, protocol.Refused: protocol.AnswerRefused, protocol.Shutter: protocol.AnswerShutter,
	} {
		t.Run(string(decision), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.policy = calltest.Policy{Decision: decision}
				x.start()
				m, _ := x.clinic.Invite(t, time.Now())
				x.deliver(m)
				equal(t, "answers", x.answers(), []protocol.Decision{decision})
				if records := calltest.Events[*protocol.CallRecord](x.outbox); len(records) != 1 || records[0].Outcome != outcome {
					t.Errorf("records: %+v", records)
				}
				if scene := x.view.Last().Scene; scene != call.SceneReady || len(x.media.Sessions()) != 0 {
					t.Errorf("%v is shown", scene)
				}
				_ = x.end()
				x.start()
				if n := len(calltest.Events[*protocol.CallRecord](x.outbox)); n != 1 {
					t.Errorf("%d records after a restart: a declined call was taken for an interrupted one", n)
				}
				_ = x.end()
			})
		})
	}
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.talk()
		second, _ := x.clinic.Invite(t, time.Now())
		x.deliver(second)
		forged, _ := calltest.NewClinic(t).Invite(t, time.Now())
		x.deliver(forged)
		x.deliver(second)
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Answered, protocol.Busy})
		sent := x.sender.Sent()
		if last := sent[len(sent)-2]; last.Refusal != protocol.AuthIssuer || last.Call != forged.Call {
			t.Errorf("a forged second invitation: %+v", last)
		}
		if last := sent[len(sent)-1]; last.Refusal != protocol.AuthReplayed || last.Call != second.Call {
			t.Errorf("a replayed second invitation: %+v", last)
		}
		if !s.IsOpen(call.Camera) || len(x.media.Sessions()) != 1 {
			t.Error("the running call was disturbed")
		}
		if records := calltest.Events[*protocol.CallRecord](x.outbox); len(records) != 1 || records[0].Outcome != protocol.AnswerBusy {
			t.Errorf("records: %+v", records)
		}
		_ = x.end()
	})
}

func TestFloodOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		stranger := calltest.NewClinic(t)
		for range 50 {
			m, _ := stranger.Invite(t, time.Now())
			x.deliver(m)
		}
		if n := len(calltest.Events[*protocol.Notice](x.outbox)); n != 10 {
			t.Errorf("%d notices in one minute, want 10", n)
		}
		if n := strings.Count(x.log.String(), "level=WARN msg=\"invitation refused\""); n != 10 {
			t.Errorf("%d lines in the log, want 10", n)
		}
		x.wait(time.Minute)
		m, _ := stranger.Invite(t, time.Now())
		x.deliver(m)
		notices := calltest.Events[*protocol.Notice](x.outbox)
		if last := notices[len(notices)-1]; !strings.Contains(last.Detail, "40 more") {
			t.Errorf("the next minute's notice says %q", last.Detail)
		}
		_ = x.end()
	})
}

// TestManyRefusalsHideNone: who sends a great many invites of one kind does not keep the clinic from hearing of another, and does not fill the outbox.
func TestManyRefusalsHideNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		send := func(spoil func(*calltest.Draft)) {
			d := x.clinic.Draft(t, time.Now())
			spoil(d)
			x.deliver(d.Message(t))
		}
		for range 40 {
			send(func(d *calltest.Draft) { d.Authority = calltest.NewKey(t) })
		}
		send(func(d *calltest.Draft) { d.Invitation.Terminal[0] ^= 1 })
		count := map[protocol.Code]int{}
		for _, n := range calltest.Events[*protocol.Notice](x.outbox) {
			count[n.Code]++
		}
		if count[protocol.AuthOtherTerminal] != 1 || count[protocol.AuthIssuer] != 10 || len(count) != 2 {
			t.Errorf("told of %v", count)
		}
		x.wait(time.Minute)
		send(func(d *calltest.Draft) { d.Authority = calltest.NewKey(t) })
		notices := calltest.Events[*protocol.Notice](x.outbox)
		if last := notices[len(notices)-1]; last.Detail != "invitation; 30 more were not reported one by one" {
			t.Errorf("the next one says %q", last.Detail)
		}
		_ = x.end()
	})
}

// TestSecondInvitation: whatever is sent under the name of the call that runs, its offer stays what it was, the call goes on, and the clinic is told.
func TestSecondInvitation(t *testing.T) {
	for _, test := range []struct {
		name  string
		code  protocol.Code
		spoil func(x *terminal, m *protocol.CallIn)
	}{
		{"the same", protocol.AuthReplayed, func(*terminal, *protocol.CallIn) {}},
		{"another offer", protocol.AuthFingerprint, func(_ *terminal, m *protocol.CallIn) { m.Invite.Offer += "a=x\r\n" }},
		{"touched anew", protocol.AuthReplayed, func(x *terminal, m *protocol.CallIn) {
			d := x.clinic.Draft(t, time.Now())
			d.Invitation.Call = m.Call
			*m = *d.Message(t)
		}},
		{"without a proof", protocol.AuthUnproven, func(_ *terminal, m *protocol.CallIn) { m.Invite.Assertion, m.Invite.Authorisation = nil, nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, _ := x.talk()
				again := *m
				invite := *m.Invite
				again.Invite = &invite
				test.spoil(x, &again)
				sent, saves := len(x.sender.Sent()), x.store.Saves()
				x.deliver(&again)
				notices := calltest.Events[*protocol.Notice](x.outbox)
				if len(notices) != 1 || notices[0].Code != test.code || notices[0].Call != m.Call || notices[0].Detail != "second invitation" {
					t.Errorf("notices: %+v", notices)
				}
				if n := len(x.sender.Sent()); n != sent || x.store.Saves() != saves || len(x.media.Sessions()) != 1 || x.view.Last().Scene != call.SceneInCall {
					t.Errorf("%d messages more, %v", n-sent, x.view.Last())
				}
				_ = x.end()
			})
		})
	}
}

// TestConnectionOfSomebodyElse: a far end that is not the proven one, or not encrypted as it has to be, ends the call, and the clinic is told; what an honest line
// does is no alarm.
func TestConnectionOfSomebodyElse(t *testing.T) {
	for code, told := range map[protocol.Code]int{protocol.AuthFingerprint: 1, protocol.DTLSWeak: 1, protocol.DTLSFailed: 0, protocol.ICEFailed: 0} {
		t.Run(string(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, s := x.invite()
				s.Say(call.MediaEvent{Kind: call.MediaFailed, Code: code})
				synctest.Wait()
				notices := calltest.Events[*protocol.Notice](x.outbox)
				if len(notices) != told || told > 0 && (notices[0].Code != code || notices[0].Call != m.Call) {
					t.Errorf("notices: %+v", notices)
				}
				if ends := x.ends(); len(ends) != 1 || ends[0].Reason != code || ends[0].CameraClosed != 0 {
					t.Errorf("ends: %+v", ends)
				}
				_ = x.end()
			})
		})
	}
}
