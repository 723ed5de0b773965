package call_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

func TestCallFromRingToEnd(t *testing.T) {
	t.Run("proven by passkey", func(t *testing.T) { testCallFromRingToEnd(t, (*calltest.Clinic).Invite) })
	t.Run("a test call", func(t *testing.T) { testCallFromRingToEnd(t, (*calltest.Clinic).TestCall) })
}

func testCallFromRingToEnd(t *testing.T, invite func(*calltest.Clinic, testing.TB, time.Time, ...func(*protocol.Invitation)) (*protocol.CallIn, *protocol.Invitation)) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		began := time.Now()
		m, _ := invite(x.clinic, t, began)
		x.deliver(m)
		s := x.session()

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

// TestAnswerAtOnce: without a ring, as in trials, the path and the caller's picture are waited for all the same.
func TestAnswerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.policy = calltest.Policy{Decision: protocol.Ringing, SeeFirst: 2 * time.Second}
		x.start()
		_, s := x.invite()
		if s.IsOpen(call.Camera) {
			t.Fatal("camera open before the path is proven")
		}
		x.say(s, call.MediaConnected)
		if s.IsOpen(call.Camera) {
			t.Fatal("camera open before the caller was seen")
		}
		x.say(s, call.MediaSeen)
		if !s.IsOpen(call.Camera) {
			t.Fatal("camera not open although the ring is 0, the path is up and the caller was seen")
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
		x.deliver(x.clinic.Candidates(t, m, 1))
		stray := x.clinic.Candidates(t, m, 2)
		stray.Call = protocol.NewCallID()
		x.deliver(stray)
		close(x.media.Hold)
		synctest.Wait()
		x.deliver(x.clinic.Candidates(t, m, 2))
		if n := len(x.session().Candidates()); n != 2 {
			t.Errorf("%d candidates reached the session, want 2", n)
		}
		_ = x.end()
	})
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

func TestDeliverNeverBlocks(t *testing.T) {
	x := newTerminal(t)
	run, err := call.New(call.Config{
		Self: x.clinic.Self, Signer: x.clinic.Terminal, Prover: x.clinic.Prover(t), Policy: x.policy, Media: x.media, Sender: x.sender,
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
