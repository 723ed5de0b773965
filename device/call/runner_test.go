package call_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// terminal is a runner with everything around it, inside a synctest bubble.
type terminal struct {
	t      *testing.T
	clinic *calltest.Clinic
	media  *calltest.Media
	outbox *calltest.Outbox
	sender *calltest.Sender
	store  *calltest.Store
	view   *calltest.View
	policy calltest.Policy
	log    bytes.Buffer

	run  *call.Runner
	stop context.CancelFunc
	err  chan error
}

func newTerminal(t *testing.T) *terminal {
	return &terminal{
		t: t, clinic: calltest.NewClinic(t), media: &calltest.Media{}, outbox: &calltest.Outbox{}, sender: &calltest.Sender{},
		store: &calltest.Store{}, view: &calltest.View{},
		policy: calltest.Policy{Decision: protocol.Ringing, Ring: 5 * time.Second, SeeFirst: 2 * time.Second, MaxDuration: time.Hour},
	}
}

func (x *terminal) start() {
	x.t.Helper()
	prover, err := call.NewAuthorityProver(x.clinic.Authorities(x.t))
	if err != nil {
		x.t.Fatal(err)
	}
	x.run, err = call.New(call.Config{
		Self: x.clinic.Self, Signer: x.clinic.Terminal, Software: "test", Prover: prover, Policy: x.policy, Media: x.media,
		Sender: x.sender, Outbox: x.outbox, View: x.view, Store: x.store, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&x.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop, x.err = stop, make(chan error, 1)
	go func() { x.err <- x.run.Run(ctx) }()
	synctest.Wait()
}

// end stops the runner and returns Run's error.
func (x *terminal) end() error {
	x.stop()
	return <-x.err
}

func (x *terminal) deliver(m *protocol.CallIn) {
	x.t.Helper()
	if !x.run.Deliver(m) {
		x.t.Fatal("message was dropped")
	}
	synctest.Wait()
}

// invite delivers a proven invitation and returns it with its session.
func (x *terminal) invite() (*protocol.CallIn, *calltest.Session) {
	x.t.Helper()
	m, _ := x.clinic.Invite(x.t, time.Now())
	x.deliver(m)
	return m, x.session()
}

func (x *terminal) session() *calltest.Session {
	x.t.Helper()
	sessions := x.media.Sessions()
	if len(sessions) == 0 {
		x.t.Fatalf("no session was prepared; log:\n%s", x.log.String())
	}
	return sessions[len(sessions)-1]
}

func (x *terminal) say(s *calltest.Session, kind call.MediaEventKind) {
	s.Say(call.MediaEvent{Kind: kind})
	synctest.Wait()
}

// talk brings a call all the way.
func (x *terminal) talk() (*protocol.CallIn, *calltest.Session) {
	x.t.Helper()
	m, s := x.invite()
	x.say(s, call.MediaConnected)
	x.say(s, call.MediaSeen)
	x.wait(5 * time.Second)
	if !s.IsOpen(call.Camera) || !s.IsOpen(call.Microphone) {
		x.t.Fatalf("camera and microphone are not open after the answer; log:\n%s", x.log.String())
	}
	return m, s
}

func (x *terminal) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// answers returns the decisions sent so far, each verified.
func (x *terminal) answers() []protocol.Decision {
	x.t.Helper()
	var found []protocol.Decision
	for _, m := range x.sender.Sent() {
		if m.Kind != protocol.KindAnswer {
			continue
		}
		a := new(protocol.Answer)
		if err := protocol.Verify(m.Answer.Answer, &x.clinic.Terminal.PublicKey, a); err != nil {
			x.t.Fatal(err)
		}
		if a.Decision == protocol.Ringing && a.Answer != protocol.Hash(sha256.Sum256([]byte(m.Answer.SDP))) {
			x.t.Fatal("the answer names another session description than the one it came with")
		}
		found = append(found, a.Decision)
	}
	return found
}

// ends returns the ends in the outbox, each verified.
func (x *terminal) ends() []*protocol.End {
	x.t.Helper()
	var found []*protocol.End
	for _, r := range calltest.Events[*protocol.EndReceipt](x.outbox) {
		e := new(protocol.End)
		if err := protocol.Verify(r.End, &x.clinic.Terminal.PublicKey, e); err != nil {
			x.t.Fatal(err)
		}
		found = append(found, e)
	}
	return found
}

func (x *terminal) kinds() []string {
	var found []string
	for _, m := range x.sender.Sent() {
		found = append(found, m.Kind)
	}
	return found
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestCallFromRingToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		began := time.Now()
		m, s := x.invite()

		ringing := x.view.Last()
		if ringing.Scene != call.SceneRinging || ringing.Parties[0].Name != "Anne Berg" || ringing.Errand != "Morning medicine" {
			t.Errorf("while it rings this is shown: %+v", ringing)
		}
		if want := began.Add(5 * time.Second); !ringing.AnswersAt.Equal(want) {
			t.Errorf("answers at %v, want %v", ringing.AnswersAt, want)
		}
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing})
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5*time.Second - time.Nanosecond)
		if s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
			t.Fatal("open while it rings")
		}
		x.wait(time.Nanosecond)
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing, protocol.Answered})
		if !s.IsOpen(call.Camera) || !s.IsOpen(call.Microphone) {
			t.Fatal("not open after the answer")
		}
		if scene := x.view.Last().Scene; scene != call.SceneInCall {
			t.Errorf("in the call %v is shown", scene)
		}
		x.wait(time.Minute)

		hold := make(chan struct{})
		s.HoldClose = hold
		x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
		if scene := x.view.Last().Scene; scene != call.SceneInCall {
			t.Errorf("before the devices are closed %v is shown", scene)
		}
		x.wait(time.Second)
		close(hold)
		synctest.Wait()
		if s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
			t.Fatal("open after the end")
		}
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.EndCallerHungUp {
			t.Errorf("after the end this is shown: %+v", last)
		}

		ends := x.ends()
		if len(ends) != 1 {
			t.Fatalf("%d ends", len(ends))
		}
		closedAt := protocol.At(began.Add(66 * time.Second))
		if e := ends[0]; e.Reason != protocol.EndCallerHungUp || e.Duration != 60_000 || e.CameraClosed != closedAt || e.MicrophoneClosed != closedAt ||
			e.Invitation != protocol.HashOf(m.Invite.Invitation) {
			t.Errorf("end: %+v, closed should be %d", e, closedAt)
		}
		equal(t, "messages", x.kinds(), []string{protocol.KindAnswer, protocol.KindAnswer, protocol.KindEnd})

		records := calltest.Events[*protocol.CallRecord](x.outbox)
		if len(records) != 1 {
			t.Fatalf("%d records", len(records))
		}
		r := records[0]
		opened := protocol.At(began.Add(5 * time.Second))
		if r.Call != m.Call || r.Outcome != protocol.EndCallerHungUp || r.Duration != 60_000 || r.CameraOpen != opened || r.MicOpen != opened ||
			r.CameraClosed != closedAt || r.MicClosed != closedAt || r.Crypto.SRTP == "" || r.Camera != "synthetic" || r.LocalPath != "host" {
			t.Errorf("record: %+v", r)
		}
		var stages []string
		for _, s := range r.Stages {
			stages = append(stages, s.Stage)
		}
		equal(t, "stages", stages, []string{"proven", "prepared", "ringing", "connected", "seen", "answered", "talking", "closed"})

		var ledger []string
		for _, o := range calltest.Events[*protocol.Opening](x.outbox) {
			verb := "close "
			if o.Open {
				verb = "open "
			}
			ledger = append(ledger, verb+o.Device)
		}
		equal(t, "ledger", ledger, []string{"open camera", "open microphone", "close camera", "close microphone"})

		x.wait(call.EndedShown)
		if scene := x.view.Last().Scene; scene != call.SceneReady {
			t.Errorf("in the end %v is shown", scene)
		}
		if err := x.end(); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"Anne Berg", "medicine", "a=fingerprint", s.Key().String()} {
			if strings.Contains(x.log.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
}

func TestAnswerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.policy = calltest.Policy{Decision: protocol.Ringing}
		x.start()
		_, s := x.invite()
		if s.IsOpen(call.Camera) {
			t.Fatal("camera open before the path is proven")
		}
		x.say(s, call.MediaConnected)
		if !s.IsOpen(call.Camera) {
			t.Fatal("camera not open although the ring is 0 and the path is up")
		}
		if err := x.end(); err != nil {
			t.Fatal(err)
		}
		if s.IsOpen(call.Camera) {
			t.Fatal("camera open after Run")
		}
	})
}

func TestSeeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.invite()
		x.say(s, call.MediaConnected)
		x.wait(5 * time.Second)
		if s.IsOpen(call.Camera) {
			t.Fatal("camera open before the caller was seen")
		}
		x.wait(2 * time.Second)
		if !s.IsOpen(call.Camera) {
			t.Fatal("a caller without a picture is waited for without end")
		}
		_ = x.end()
	})
}

func TestRefused(t *testing.T) {
	stranger := calltest.NewClinic(t)
	for _, test := range []struct {
		name string
		code protocol.Code
		make func(x *terminal) *protocol.CallIn
	}{
		{"signed by another clinic", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := stranger.Invite(t, time.Now(), func(i *protocol.Invitation) { i.Terminal = x.clinic.Self })
			return m
		}},
		{"not signed at all", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now())
			m.Invite.Invitation = []byte{1, 2, 3}
			return m
		}},
		{"another kind of statement", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now())
			m.Invite.Invitation = x.clinic.HangUp(t, m, protocol.EndCallerHungUp).HangUp.End
			return m
		}},
		{"another call's proof", protocol.AuthUnproven, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now())
			m.Call = protocol.NewCallID()
			return m
		}},
		{"another terminal", protocol.AuthOtherTerminal, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now(), func(i *protocol.Invitation) { i.Terminal[31] ^= 1 })
			return m
		}},
		{"expired beyond the skew", protocol.AuthExpired, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now().Add(-2*time.Minute-2*time.Millisecond))
			return m
		}},
		{"from the future beyond the skew", protocol.AuthExpired, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now().Add(time.Minute+2*time.Millisecond))
			return m
		}},
		{"another offer", protocol.AuthFingerprint, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now())
			m.Invite.Offer += "a=x\r\n"
			return m
		}},
		{"another certificate in the offer", protocol.AuthFingerprint, func(x *terminal) *protocol.CallIn {
			m, _ := x.clinic.Invite(t, time.Now(), func(i *protocol.Invitation) { i.Caller[0] ^= 1 })
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
		if last := sent[len(sent)-2]; last.Refusal != protocol.AuthUnproven || last.Call != forged.Call {
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

func TestNoRecordNoOpening(t *testing.T) {
	for name, full := range map[string]func(x *terminal){
		"outbox full": func(x *terminal) { x.outbox.Break(calltest.ErrFull) },
		"store full":  func(x *terminal) { x.store.Break(calltest.ErrFull) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				_, s := x.invite()
				x.say(s, call.MediaConnected)
				x.say(s, call.MediaSeen)
				full(x)
				x.wait(5 * time.Second)
				if s.IsOpen(call.Camera) {
					t.Error("the camera is open and nothing says so")
				}
				if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.StorageFull {
					t.Errorf("shown: %+v", last)
				}
				_ = x.end()
			})
		})
	}
}

func TestStoreFullRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		x.store.Break(calltest.ErrFull)
		m, _ := x.clinic.Invite(t, time.Now())
		x.deliver(m)
		if sent := x.sender.Sent(); len(sent) != 1 || sent[0].Refusal != protocol.StorageFull {
			t.Errorf("sent %+v", sent)
		}
		_ = x.end()
	})
}

// A session that opens a device of its own accord, or twice, is told no and leaves no trace in the ledger.
func TestLedgerIsALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.invite()
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the camera could be opened while it rings")
		}
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the camera could be opened twice")
		}
		s.CloseDevice(call.Camera) // it was unplugged
		if err := s.OpenDevice(call.Camera); err != nil {
			t.Errorf("the camera could not be opened again in the call: %v", err)
		}
		x.run.HangUp()
		synctest.Wait()
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the camera could be opened after the end")
		}
		if n := len(calltest.Events[*protocol.Opening](x.outbox)); n != 6 {
			t.Errorf("%d entries in the ledger, want 6", n)
		}
		_ = x.end()
	})
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

func TestMessagesWaitForTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		x.sender.Break(errors.New("no connection"))
		_, s := x.invite()
		s.Say(call.MediaEvent{Kind: call.MediaCandidate, Candidate: protocol.Candidate{Line: "candidate:1", Mid: "0"}})
		x.wait(3 * time.Second)
		x.sender.Break(nil)
		x.wait(time.Second)
		equal(t, "messages", x.kinds(), []string{protocol.KindAnswer, protocol.KindCandidate})
		if strings.Contains(x.log.String(), "candidate:1") {
			t.Error("the log holds a candidate")
		}
		_ = x.end()
	})
}

func TestOldMessagesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		x.sender.Break(errors.New("no connection"))
		x.invite()
		x.wait(time.Minute)
		x.sender.Break(nil)
		x.wait(time.Second)
		if kinds := x.kinds(); len(kinds) != 0 {
			t.Errorf("sent a minute too late: %v", kinds)
		}
		if ends := x.ends(); len(ends) != 1 {
			t.Errorf("the outbox has %d ends", len(ends))
		}
		_ = x.end()
	})
}

func TestEarlyCandidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.media.Hold = make(chan struct{})
		x.start()
		m, _ := x.clinic.Invite(t, time.Now())
		x.deliver(m)
		candidate := &protocol.CallIn{Version: protocol.Version, Call: m.Call, Kind: protocol.KindCandidate, Candidate: &protocol.Candidate{Line: "candidate:1"}}
		x.deliver(candidate)
		stray := *candidate
		stray.Call = protocol.NewCallID()
		x.deliver(&stray)
		close(x.media.Hold)
		synctest.Wait()
		x.deliver(candidate)
		if n := len(x.session().Candidates()); n != 2 {
			t.Errorf("%d candidates reached the session, want 2", n)
		}
		_ = x.end()
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

func TestConditionsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.invite()
		s.Say(call.MediaEvent{Kind: call.MediaCondition, Code: protocol.CaptureTestPicture, On: true})
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		s.Say(call.MediaEvent{Kind: call.MediaCondition, Code: protocol.CaptureCameraGone, On: true})
		s.Say(call.MediaEvent{Kind: call.MediaCondition, Code: protocol.CaptureCameraGone, On: true})
		synctest.Wait()
		equal(t, "conditions", x.view.Last().Conditions, []protocol.Code{protocol.CaptureTestPicture, protocol.CaptureCameraGone})
		s.Say(call.MediaEvent{Kind: call.MediaCondition, Code: protocol.CaptureCameraGone})
		synctest.Wait()
		equal(t, "conditions", x.view.Last().Conditions, []protocol.Code{protocol.CaptureTestPicture})
		x.run.HangUp()
		synctest.Wait()
		equal(t, "conditions", x.view.Last().Conditions, nil)
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

func TestDeliverNeverBlocks(t *testing.T) {
	x := newTerminal(t)
	prover, err := call.NewAuthorityProver(nil)
	if err != nil {
		t.Fatal(err)
	}
	run, err := call.New(call.Config{
		Self: x.clinic.Self, Signer: x.clinic.Terminal, Prover: prover, Policy: x.policy, Media: x.media, Sender: x.sender,
		Outbox: x.outbox, View: x.view, Store: x.store, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := x.clinic.Invite(t, time.Now())
	dropped := 0
	for range 100 {
		if !run.Deliver(m) {
			dropped++
		}
	}
	if dropped != 36 {
		t.Errorf("%d of 100 messages were dropped, want 36", dropped)
	}
}

// Each of the keys that were pinned may sign, so that a clinic can change its key; no other may.
func TestEveryPinnedKeyProves(t *testing.T) {
	one, two, other := calltest.NewClinic(t), calltest.NewClinic(t), calltest.NewClinic(t)
	prover, err := call.NewAuthorityProver(append(one.Authorities(t), two.Authorities(t)...))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*calltest.Clinic{"first": one, "second": two, "another": other} {
		m, want := c.Invite(t, time.Now())
		inv, code, err := prover.Invitation(m.Invite.Invitation, time.Now())
		hangUp := c.HangUp(t, m, protocol.EndCallerHungUp)
		end, endErr := prover.End(hangUp.HangUp.End, want)
		if c == other {
			if err == nil || code != protocol.AuthUnproven || inv != nil || endErr == nil || end != nil {
				t.Errorf("%s key: %v, %v", name, err, endErr)
			}
		} else if err != nil || inv.Call != want.Call || endErr != nil || end.Call != want.Call {
			t.Errorf("%s key: %v, %v", name, err, endErr)
		}
	}
	nobody, err := call.NewAuthorityProver(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := one.Invite(t, time.Now())
	if _, code, err := nobody.Invitation(m.Invite.Invitation, time.Now()); err == nil || code != protocol.AuthUnproven {
		t.Errorf("without keys: %s, %v", code, err)
	}
}

// Who says no while an opening is being written down is not seen: the device is not opened any more.
func TestNoWhileTheOpeningIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		var told atomic.Bool
		x.outbox.Before = func(kind string) {
			if kind == protocol.EventOpening && !told.Swap(true) {
				x.run.HangUp()
				<-time.After(100 * time.Millisecond) // the disk is slow
			}
		}
		var leave error
		x.media.NewSession = func(s *calltest.Session) {
			s.Opened = func(_ call.Device, err error) { leave = errors.Join(leave, err) }
		}
		x.start()
		_, s := x.invite()
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(6 * time.Second)
		if leave == nil {
			t.Error("the ledger gave leave to open although the person had said no")
		}
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.EndPatientHungUp {
			t.Errorf("shown: %+v", last)
		}
		if err := x.end(); err != nil {
			t.Error(err)
		}
	})
}
