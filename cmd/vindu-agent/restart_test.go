package main

import (
	"math"
	"slices"
	"strings"
	"time"

	"vindu/device/screen"
	"vindu/protocol"
)

const (
	interrupted = `document.getElementById("weak").textContent.includes("interrupted")`
	relayOnly   = `document.querySelector("details.options").open = true, document.getElementById("relay-only").click(), true`
)

// frames is how many pictures of the home the page has shown.
func (x *bench) frames() int {
	return evaluate[int](x.page, `document.getElementById("far").getVideoPlaybackQuality().totalVideoFrames`)
}

// anotherPath is a call whose path goes away, and that without an enemy. The page looks for another, and the call goes on: nobody is rung for, nothing is opened
// anew, both ends show the same digits as before. Where there is none, the call ends, and both ends say why.
func (x *bench) anotherPath() {
	x.t.Helper()
	t := x.t
	x.idle()
	x.page.forget()
	evaluate[bool](x.page, relayOnly)
	defer evaluate[bool](x.page, relayOnly)
	defer func() { x.c.relay.cut.Store(x.c.relay.allocated.Load()) }()
	call := x.talk()
	x.page.until(`document.getElementById("far").videoWidth > 0`)
	digits, taken, invites := x.page.code(), x.terminal.capture.taken(), len(x.calls())
	const times = 2
	for n := range times {
		began := time.Now()
		x.c.relay.cut.Store(x.c.relay.allocated.Load())
		x.page.until(interrupted)
		noticed := time.Since(began)
		before := x.frames()
		x.page.until("!" + interrupted)
		back := time.Since(began)
		x.c.await("pictures by the other path", func() bool { return x.frames() > before+5 })
		x.c.await("a screen that says nothing of the line any more", func() bool { return !slices.Contains(x.terminal.shows().Faults, protocol.ICELost) })
		t.Logf("path %d: noticed after %s, another found after %s", n+1, noticed.Round(10*time.Millisecond), back.Round(10*time.Millisecond))
		shown := x.terminal.shows()
		if phase := evaluate[string](x.page, `document.getElementById("call").dataset.phase`); phase != "talking" || shown.Kind != screen.InCall {
			t.Errorf("the page is %s, the terminal shows %v", phase, shown.Kind)
		}
		if page := x.page.code(); page != digits || shown.CallCode != digits {
			t.Errorf("the page shows the code %q, the terminal %q, before %q", page, shown.CallCode, digits)
		}
	}
	now := x.terminal.capture.taken()
	if now[0] != taken[0] || now[2] != taken[2] || now[1] <= taken[1] || now[3] <= taken[3] || len(x.calls()) != invites {
		t.Errorf("camera and microphone %v, before %v; %d calls, before %d", now, taken, len(x.calls()), invites)
	}
	rang := 0
	for _, m := range x.c.from(call) {
		if m.Kind == protocol.KindAnswer {
			rang++
		}
	}
	if rang != 2 {
		t.Errorf("the terminal has answered %d times", rang)
	}
	x.hangUp(call)
	r, err := x.c.calls.Record(t.Context(), x.c.person.ID, call)
	x.c.check(err)
	if half := x.c.callerHalf(call); !hasStage(half, "restart") || half.Outcome != protocol.EndCallerHungUp {
		t.Errorf("the page's half: %s, %v", half.Outcome, half.Stages)
	}
	x.c.await("the terminal's half", func() bool {
		r, err = x.c.calls.Record(t.Context(), x.c.person.ID, call)
		return err == nil && r.TerminalHalf != nil
	})
	if !hasStage(r.TerminalHalf, "restart") {
		t.Errorf("the terminal's half: %v", r.TerminalHalf.Stages)
	}

	// The other end says nothing at all any more.
	x.page.forget()
	x.talk()
	x.page.until(`document.getElementById("far").videoWidth > 0`)
	dead := time.Now()
	x.c.tap(taps{
		toTerminal:   func(*protocol.CallIn) []*protocol.CallIn { return nil },
		fromTerminal: func(*protocol.CallOut) []*protocol.CallOut { return nil },
	})
	x.c.relay.cut.Store(math.MaxInt64)
	x.page.phase("ended")
	t.Logf("nothing comes: over on the page after %s", time.Since(dead).Round(10*time.Millisecond))
	x.c.await("closed devices", x.terminal.capture.shut)
	t.Logf("nothing comes: over at the terminal after %s", time.Since(dead).Round(10*time.Millisecond))
	if says := x.page.status(); !strings.Contains(says, strings.TrimSuffix(protocol.Explain(protocol.ICELost).Sentence, ".")) {
		t.Errorf("the page says %q", says)
	}
	x.c.tap(taps{})
	x.idle()
	x.c.relay.cut.Store(x.c.relay.allocated.Load())

	// No other path is found.
	x.page.forget()
	call = x.talk()
	x.page.until(`document.getElementById("far").videoWidth > 0`)
	began := time.Now()
	x.c.relay.cut.Store(math.MaxInt64)
	x.page.until(interrupted)
	x.page.phase("ended")
	x.c.await("closed devices", x.terminal.capture.shut)
	t.Logf("no path: over after %s", time.Since(began).Round(10*time.Millisecond))
	if says := x.page.status(); !strings.Contains(says, strings.TrimSuffix(protocol.Explain(protocol.ICELost).Sentence, ".")) {
		t.Errorf("the page says %q", says)
	}
	x.c.await("the record with the cause", func() bool {
		r, err = x.c.calls.Record(t.Context(), x.c.person.ID, call)
		return err == nil && r.Outcome == protocol.ICELost && r.TerminalEnd != nil
	})
}

func hasStage(half *protocol.CallRecord, stage string) bool {
	return slices.ContainsFunc(half.Stages, func(s protocol.StageTime) bool { return s.Stage == stage })
}
