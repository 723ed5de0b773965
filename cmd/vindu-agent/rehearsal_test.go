package main

import (
	"maps"
	"slices"
	"testing"
	"time"

	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/protocol"
)

// eventsOf are the events of a kind that the terminal has told, the first first.
func eventsOf[T any](x *bench) (found []T) {
	x.t.Helper()
	list, err := x.c.fleet.Events(x.t.Context(), x.c.home.Terminal, 200)
	x.c.check(err)
	slices.Reverse(list)
	for _, e := range list {
		body, err := e.Event.Open()
		x.c.check(err)
		if b, ok := body.(T); ok {
			found = append(found, b)
		}
	}
	return found
}

// rehearse has the clinic ask for a rehearsal.
func (x *bench) rehearse() {
	x.t.Helper()
	x.c.check(x.c.fleet.Command(x.t.Context(), x.c.home.Terminal, protocol.CommandRehearse))
}

// TestRehearsal: the program that ships has the clinic's robot call it, without a relay and by the relay alone, and listens for its own chirp. Its camera stays closed, its microphone
// opens for the chirp alone, and its screen shows nothing of it.
func TestRehearsal(t *testing.T) {
	x := newBenchWithoutPage(t, func(*bench) {})
	x.terminal.mu.Lock()
	x.terminal.shown = nil
	x.terminal.mu.Unlock()
	x.rehearse()
	x.c.await("the second call of the robot", func() bool { return len(x.calls()) == 2 })
	if now := x.terminal.capture.taken(); now != [4]int64{} {
		t.Errorf("devices were used in a rehearsed call: %v", now)
	}
	var r *protocol.Rehearsal
	x.c.await("what was rehearsed in the terminal's health", func() bool {
		h := x.c.fleet.State(x.c.home.Terminal).Health
		if h != nil {
			r = h.Rehearsed
		}
		return r != nil
	})
	t.Logf("%+v", r.Parts)
	ready, at, cause := r.Verdict()
	if !ready || at == 0 || !r.Asked {
		t.Errorf("ready %v at %d, cause %s", ready, at, cause)
	}
	for _, name := range []string{"call.direct", "call.relayed"} {
		if p, _ := r.Part(name); p.State != protocol.CheckPassed || p.Took == 0 {
			t.Errorf("%+v", p)
		}
	}
	if p, ok := r.Part("microphone"); !ok || p.State == protocol.CheckSkipped {
		t.Errorf("the microphone: %+v", p)
	}
	x.c.await("the event, and both ends of the calls", func() bool {
		return len(eventsOf[*protocol.Rehearsal](x)) == 1 && len(eventsOf[*protocol.CallRecord](x)) == 2 && len(eventsOf[*protocol.EndReceipt](x)) == 2
	})
	for i, rec := range eventsOf[*protocol.CallRecord](x) {
		if relayed := i == 1; (rec.LocalPath == "relay") != relayed || rec.Camera != "synthetic" || rec.Sound != "synthetic" || rec.CameraOpen != 0 || rec.MicOpen != 0 {
			t.Errorf("call %d: %s to %s, %s, %s, %+v", i, rec.LocalPath, rec.RemotePath, rec.Camera, rec.Sound, rec)
		}
	}
	openings := eventsOf[*protocol.Opening](x)
	if len(openings) != 2 || !openings[0].Open || openings[1].Open {
		t.Errorf("%d openings and closings", len(openings))
	}
	for _, o := range openings {
		if o.Device != "microphone" || o.Reason != protocol.OpeningRehearsal {
			t.Errorf("%+v", o)
		}
	}
	if now := x.terminal.capture.taken(); now[0] != 0 || now[1] != 0 || now[2] != 1 || !x.terminal.capture.shut() {
		t.Errorf("camera opened %d times, microphone %d; all is closed: %v", now[0], now[2], x.terminal.capture.shut())
	}
	x.terminal.mu.Lock()
	shown := maps.Clone(x.terminal.shown)
	x.terminal.mu.Unlock()
	if delete(shown, screen.Ready); len(shown) != 0 {
		t.Errorf("the screen showed %v", shown)
	}
	if alarms := x.c.alarms(); len(alarms) != 0 {
		t.Errorf("alarms: %v", alarms)
	}
	// However often the clinic asks now, it has to wait.
	for range 1000 {
		x.rehearse()
	}
	x.c.check(x.c.fleet.Command(t.Context(), x.c.home.Terminal, protocol.CommandReport))
	was := x.c.fleet.State(x.c.home.Terminal).Health.At
	x.c.await("what the terminal says after that", func() bool { return x.c.fleet.State(x.c.home.Terminal).Health.At > was })
	if n := len(x.calls()); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// TestRehearsalGivesWay: a clinician's call in the middle of a rehearsal finds a terminal that is free, and none begins in a call.
func TestRehearsalGivesWay(t *testing.T) {
	x := newBench(t, func(c *agent.Config) { c.Call.Notice = 0 })
	x.rehearse()
	x.c.await("the robot's call", func() bool { return len(x.calls()) == 1 })
	var robots protocol.CallID
	for id := range x.calls() {
		robots = id
	}
	x.c.await("its picture's way", func() bool { return len(x.c.from(robots)) > 0 })
	before := time.Now()
	call := x.talk()
	t.Logf("talking %v after the ring", time.Since(before).Round(time.Millisecond))
	x.c.await("the end of the rehearsed call", func() bool {
		return slices.ContainsFunc(x.c.from(robots), func(m *protocol.CallOut) bool { return m.End != nil })
	})
	for _, m := range x.c.from(robots) {
		if m.End == nil {
			continue
		}
		end := new(protocol.End)
		_, err := protocol.Unverified(m.End.End, end)
		if x.c.check(err); end.Reason != protocol.AnswerBusy {
			t.Errorf("it ended by %s", end.Reason)
		}
	}
	for range 100 {
		x.rehearse()
	}
	x.hangUp(call)
	if n := len(x.calls()); n != 2 {
		t.Errorf("%d calls, want the robot's and the clinician's", n)
	}
	if r := x.c.fleet.State(x.c.home.Terminal).Health.Rehearsed; r != nil {
		t.Errorf("it tells what it did not find: %+v", r)
	}
}
