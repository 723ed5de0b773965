package main

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"vindu/clinic/grants"
	"vindu/device/agent"
	"vindu/device/panel/simulator"
	line "vindu/device/panel/wire"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// overheard is what runs in a panel, and the last status that it said.
type overheard struct {
	simulator.Logic
	in   line.Decoder
	last atomic.Pointer[line.Status]
}

// Step implements simulator.Logic.
func (o *overheard) Step(now uint32, in simulator.Inputs, received []byte) (simulator.Outputs, []byte) {
	out, sent := o.Logic.Step(now, in, received)
	for _, b := range sent {
		if s, ok := o.in.Feed(b).(line.Status); ok {
			o.last.Store(&s)
		}
	}
	return out, sent
}

// handsOn is a bench whose terminal has a panel, with hands on it.
type handsOn struct {
	*bench
	sim   *simulator.Simulator
	cable *simulator.Cable
	heard *overheard
}

// press presses and lets go.
func (h *handsOn) press(set func(*simulator.Inputs, bool), held func(*line.Status) bool) {
	h.t.Helper()
	for _, on := range []bool{true, false} {
		h.sim.Change(func(in *simulator.Inputs) { set(in, on) })
		h.c.await("a button that has settled", func() bool { return held(h.heard.last.Load()) == on })
	}
}

func (h *handsOn) no() {
	h.t.Helper()
	h.press(func(in *simulator.Inputs, on bool) { in.No = on }, func(s *line.Status) bool { return s.NoHeld })
}

func (h *handsOn) answer() {
	h.t.Helper()
	h.press(func(in *simulator.Inputs, on bool) { in.Answer = on }, func(s *line.Status) bool { return s.Held })
}

// shutter closes and opens it.
func (h *handsOn) shutter(open bool) {
	h.t.Helper()
	h.sim.Change(func(in *simulator.Inputs) { in.Open = open })
	h.c.await("a shutter that has settled", func() bool { return h.heard.last.Load().Open == open })
}

// seen waits for pictures of a camera that has power, and for sound.
func (h *handsOn) seen() {
	h.t.Helper()
	was := h.terminal.capture.taken()
	h.c.await("pictures and sound", func() bool {
		now := h.terminal.capture.taken()
		return now[1] > was[1]+1 && now[3] > was[3]+1 && h.sim.Outputs().Camera
	})
}

// dark waits until the camera is closed and has no power, and tells how long that took; the call goes on by voice.
func (h *handsOn) dark(why string, since time.Time) {
	h.t.Helper()
	camera := &h.terminal.capture.camera
	h.c.await("a camera that is closed", func() bool { return camera.opened.Load() == camera.closed.Load() })
	closed := time.Since(since)
	h.c.await("a camera without power", func() bool { return !h.sim.Outputs().Camera })
	h.t.Logf("%s: closed after %v, without power after %v at the latest", why, closed.Round(time.Millisecond), time.Since(since).Round(time.Millisecond))
	was := h.terminal.capture.microphone.read.Load()
	h.c.await("a voice that goes on", func() bool { return h.terminal.capture.microphone.read.Load() > was+10 })
	if camera.opened.Load() != camera.closed.Load() || h.sim.Outputs().Camera {
		h.t.Errorf("%s: the camera is open again", why)
	}
	h.page.phase("talking")
}

// voice has a call without picture: the camera is not even opened.
func (h *handsOn) voice() {
	h.t.Helper()
	was := h.terminal.capture.taken()
	call := h.placed()
	h.page.phase("talking")
	h.c.await("sound", func() bool { return h.terminal.capture.microphone.read.Load() > was[3]+10 })
	if now := h.terminal.capture.taken(); now[0] != was[0] || h.sim.Outputs().Camera {
		h.t.Error("the camera was opened")
	}
	h.hangUp(call)
}

// rings has a call ring, and returns how to see that it does so no longer, with nothing opened.
func (h *handsOn) rings() (over func()) {
	h.t.Helper()
	h.page.forget()
	untouched := h.untouched()
	h.placed()
	h.c.await("a call that rings", func() bool { return h.terminal.shows().Kind == screen.Ringing })
	return func() {
		h.t.Helper()
		h.page.phase("ended")
		h.idle()
		untouched()
		if h.sim.Outputs().Camera {
			h.t.Error("the camera has power")
		}
	}
}

// asks has a call ring that somebody has to take.
func (h *handsOn) asks() protocol.CallID {
	h.t.Helper()
	for range 50 {
		call := h.placed()
		h.c.await("a call that rings", func() bool { return h.terminal.shows().Kind == screen.Ringing })
		if h.terminal.shows().Ask {
			return call
		}
		h.page.hangUp() // the new policy is still on its way
		h.page.phase("ended")
		h.idle()
	}
	h.t.Fatal("no call asks")
	return protocol.CallID{}
}

// newHandsOn has a bench whose terminal has a panel: a simulator at a pseudo-terminal. The terminal is changed before it begins.
func newHandsOn(t *testing.T, change func(*bench)) *handsOn {
	t.Helper()
	pty, err := simulator.OpenPTY()
	if err != nil {
		t.Fatal(err)
	}
	h := &handsOn{cable: &simulator.Cable{Line: pty}, heard: &overheard{Logic: new(simulator.Panel)}}
	h.sim = simulator.New(h.heard, nil)
	ctx, stop := context.WithCancel(t.Context())
	simulated := make(chan error, 1)
	go func() { simulated <- h.sim.Run(ctx, h.cable) }()
	t.Cleanup(func() {
		stop()
		if err := <-simulated; err != nil {
			t.Error(err)
		}
	})
	h.bench = newBenchOf(t, func(x *bench) {
		x.terminal.cfg.Panel, x.terminal.cfg.Call.Notice = agent.Panel{Port: pty.Path(), Lost: "voice"}, 0
		change(x)
	})
	return h
}

// TestPanelInCalls is every button of a panel in every state, on the program that ships, called by a real page: the panel's simulator is at a pseudo-terminal.
func TestPanelInCalls(t *testing.T) {
	const (
		cableOut = "the panel's cable pulled in a call, where calls end without it"
		shut     = "the shutter is closed, where that refuses calls"
	)
	list := faulttest.New(t, "panel", "cmd/vindu-agent TestPanelInCalls", *update, cableOut, shut)
	h := newHandsOn(t, func(*bench) {})
	panelHere := func() {
		h.c.await("a panel in a session", func() bool { s := h.heard.last.Load(); return s != nil && s.Session != 0 && s.Open })
	}

	inCall := func(do func()) func() {
		return func() {
			call := h.talk()
			do()
			h.seen()
			h.hangUp(call)
		}
	}
	play := func(state string, rows []row) {
		for _, r := range rows {
			t.Run(state+", "+r.name, func(t *testing.T) {
				h.as(t, func(*bench) {
					h.idle()
					panelHere()
					r.do()
					h.c.await("a camera without power", func() bool { return !h.sim.Outputs().Camera })
				})
			})
		}
	}
	play("ready", []row{
		{"no", h.no},
		{"answer", h.answer},
		{"shutter, and a call", func() { h.shutter(false); h.voice(); h.shutter(true) }},
		{"the call after these", inCall(func() {})},
	})
	play("in a call", []row{
		{"answer", inCall(h.answer)},
		{"knob", inCall(func() { h.sim.Change(func(in *simulator.Inputs) { in.Volume = 10 }) })},
		{"shutter", inCall(func() {
			since := time.Now()
			h.shutter(false)
			h.dark("shutter", since)
			h.shutter(true)
		})},
		{"cable", inCall(func() {
			since := time.Now()
			h.cable.Pull(true)
			h.dark("cable", since)
			h.cable.Pull(false)
		})},
		{"no", func() {
			h.talk()
			since := time.Now()
			h.sim.Change(func(in *simulator.Inputs) { in.No = true })
			h.c.await("a camera without power", func() bool { return !h.sim.Outputs().Camera })
			power := time.Since(since)
			h.c.await("closed devices", h.terminal.capture.shut)
			t.Logf("no: without power after %v, all closed after %v", power.Round(time.Millisecond), time.Since(since).Round(time.Millisecond))
			h.sim.Change(func(in *simulator.Inputs) { in.No = false })
			h.page.phase("ended")
			h.idle()
			h.c.await("a no that is over", func() bool { s := h.heard.last.Load(); return !s.Denied && !s.NoHeld })
		}},
		{"the call after no", inCall(func() {})},
		{"behind a curtain: answer, shutter, no", func() {
			h.talk()
			h.page.until(pageSees)
			h.pressCurtain()
			h.c.await("a curtain", func() bool { return h.terminal.shows().Curtain == screen.DrawnByCaller && h.terminal.capture.shut() })
			taken := h.terminal.capture.taken()
			h.answer()
			h.shutter(false)
			h.shutter(true)
			if h.terminal.shows().Curtain != screen.DrawnByCaller || h.terminal.capture.taken() != taken || h.sim.Outputs().Camera {
				t.Error("something opened behind the curtain")
			}
			h.no()
			h.page.phase("ended")
			h.c.await("the end", func() bool { return h.terminal.shows().Kind == screen.Ended })
			h.answer() // it is over
			h.no()
			if h.terminal.capture.taken() != taken {
				t.Error("something was opened after the end")
			}
			h.idle()
		}},
	})

	h.terminal.end()
	h.terminal.cfg.Call.Ring, h.terminal.cfg.Panel.Lost, h.terminal.cfg.Panel.Covered = agent.Duration(time.Minute), "end", "refuse"
	h.terminal.start()
	h.online()
	play("ringing", []row{
		{"answer, and no", func() {
			over := h.rings()
			h.answer() // the call takes itself in a minute, and nobody earlier
			if h.terminal.shows().Kind != screen.Ringing {
				t.Error("it does not ring any more")
			}
			h.no()
			over()
		}},
		{"no", func() { over := h.rings(); h.no(); over() }},
		{"shutter, where a closed one lets nobody in", func() { over := h.rings(); h.shutter(false); over(); h.shutter(true) }},
		{"a call, and the shutter is closed", func() {
			h.shutter(false)
			untouched := h.untouched()
			h.page.forget()
			call := h.placed()
			h.page.phase("ended")
			h.idle()
			untouched()
			h.c.await("the record", func() bool {
				r, err := h.c.calls.Record(t.Context(), h.c.person.ID, call)
				if err != nil || r.TerminalHalf == nil || r.CallerHalf == nil || r.Outcome != protocol.AnswerShutter {
					return false
				}
				list.Saw(t, faulttest.Fault{Fault: shut, Rule: r.Diagnosis.Rule, Sentence: r.Diagnosis.Sentence()})
				return true
			})
			h.shutter(true)
		}},
		{"cable, and no when it is back", func() {
			over := h.rings()
			h.cable.Pull(true)
			h.no()
			h.cable.Pull(false)
			over()
		}},
	})
	h.c.check(h.c.grants.SetPolicy(t.Context(), "test", h.c.home.ID, grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeAsk, After: 60}}}))
	play("asked", []row{
		{"answer takes it", func() {
			call := h.asks()
			h.answer()
			h.page.phase("talking")
			h.seen()
			h.hangUp(call)
		}},
		{"answer, and then the cable: it is over", func() {
			call := h.asks()
			h.answer()
			h.page.phase("talking")
			h.seen()
			since, session := time.Now(), h.heard.last.Load().Session
			h.cable.Pull(true)
			h.page.phase("ended")
			h.c.await("closed devices", h.terminal.capture.shut)
			h.c.await("a camera without power", func() bool { return !h.sim.Outputs().Camera })
			t.Logf("cable, where the call ends with it: all closed and ended after %v", time.Since(since).Round(time.Millisecond))
			h.cable.Pull(false)
			h.idle()
			h.c.await("another session", func() bool { return h.heard.last.Load().Session != session }) // without a key to take it by, no call would ring
			h.c.await("the record", func() bool {
				r, err := h.c.calls.Record(t.Context(), h.c.person.ID, call)
				if err != nil || r.TerminalHalf == nil || r.CallerHalf == nil || r.Outcome != protocol.PanelMissing {
					return false
				}
				list.Saw(t, faulttest.Fault{Fault: cableOut, Rule: r.Diagnosis.Rule, Sentence: r.Diagnosis.Sentence()})
				return true
			})
		}},
		{"no", func() {
			h.asks()
			before := h.terminal.capture.taken()
			h.no()
			h.page.phase("ended")
			h.idle()
			if h.terminal.capture.taken() != before {
				t.Error("something was opened")
			}
		}},
	})
	h.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}, Quiet: &[]grants.Quiet{{From: "00:00", To: "12:00"}, {From: "12:00", To: "00:00"}}})
	play("quiet hours", []row{
		{"no, answer, shutter, and a call that does not ring", func() {
			untouched := h.untouched()
			h.no()
			h.answer()
			h.shutter(false)
			h.shutter(true)
			h.page.forget()
			h.placed()
			h.page.phase("ended")
			h.idle()
			untouched()
		}},
	})
	if n := len(h.c.alarms()); n != 0 {
		t.Errorf("%v", h.c.alarms())
	}
}

// row is something that hands do, and what comes of it.
type row struct {
	name string
	do   func()
}
