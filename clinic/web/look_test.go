package web

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"vindu/clinic/calls"
	"vindu/clinic/diagnosis"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// contrast measures every visible text against what is behind it (WCAG 2.2, 1.4.6), every control's edge (1.4.11) and its size (2.5.8).
const contrast = `(() => {
	const rgb = (c) => (c.match(/[\d.]+/g) ?? []).map(Number);
	const lum = (c) => { const [r, g, b] = rgb(c).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if ((rgb(c)[3] ?? 1) > 0.99) return c; } return "rgb(255, 255, 255)" };
	const bad = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.textContent.trim() || !e.checkVisibility() || e.closest("script,template,noscript,.visually-hidden")) continue;
		const front = lum(getComputedStyle(e).color), back = lum(behind(e));
		const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
		const least = e.closest("button:disabled") ? 4.5 : 7; // style.css promises more than WCAG asks for
		if (ratio < least) bad.push(ratio.toFixed(1) + ": " + walk.currentNode.textContent.trim().slice(0, 40));
	}
	const against = (a, b) => (Math.max(lum(a), lum(b)) + 0.05) / (Math.min(lum(a), lum(b)) + 0.05);
	for (const e of document.querySelectorAll("button:not(:disabled), input:not([type=checkbox]):not([type=hidden]), select, textarea")) {
		if (!e.checkVisibility()) continue;
		const s = getComputedStyle(e), around = behind(e.parentElement);
		const edge = Math.max(against(s.borderTopColor, around), against(s.backgroundColor, around)); // 1.4.11
		if (edge < 3) bad.push("an edge of " + edge.toFixed(2) + ": " + (e.id || e.textContent.trim()));
	}
	for (const e of document.querySelectorAll("button, input, summary")) {
		const r = e.getBoundingClientRect();
		if (e.checkVisibility() && r.width > 0 && r.height < 24 && !e.closest("label")) bad.push("too small: " + e.textContent.trim());
		if (e.tagName === "BUTTON" && e.checkVisibility() && !e.textContent.trim()) bad.push("a button without a name");
	}
	if (document.documentElement.scrollWidth > innerWidth) bad.push("wider than the window: " + document.documentElement.scrollWidth);
	if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	if (new Set(ids).size !== ids.length) bad.push("an id twice");
	for (const e of document.querySelectorAll("[aria-labelledby],[aria-describedby]"))
		for (const id of ((e.getAttribute("aria-labelledby") ?? "") + " " + (e.getAttribute("aria-describedby") ?? "")).trim().split(" "))
			if (!document.getElementById(id)) bad.push("refers to nothing: " + id);
	return bad;
})()`

func (b *tab) look(what string) {
	b.t.Helper()
	for _, width := range []int64{390, 1440} {
		b.do(chromedp.EmulateViewport(width, 900))
		if bad := eval[[]string](b, contrast); len(bad) > 0 {
			b.t.Errorf("%s at %d px:\n%s", what, width, strings.Join(bad, "\n"))
		}
	}
	b.shot(what)
}

// The pages can be read, at phone and at desk width, in all of their states.
func TestLook(t *testing.T) {
	c := newClinic(t)
	now := time.Now()
	add := func(label string, change func(*protocol.Health, *bool)) {
		h := c.register.AddHome(label, webtest.NewKey())
		s := online(h.Terminal)
		change(s.Health, &s.Online)
		c.fleet.Set(s)
	}
	add("Home 18, Kirkeveien", func(h *protocol.Health, _ *bool) {
		h.Camera.Kind, h.Microphone.Kind, h.Screen.Kind = "synthetic", "synthetic", "memory"
		h.Rehearsed = (*protocol.Rehearsal)(nil).With(protocol.At(now), false, protocol.RehearsalPart{Name: "call.relayed", At: protocol.At(now), State: protocol.CheckPassed, Took: 300})
	})
	add("Home 21, Havnegata", func(h *protocol.Health, _ *bool) {
		h.Camera.Kind = "none"
		h.Conditions = []protocol.Condition{{Code: protocol.TimeOff}}
	})
	add("Home 22, Fjellveien", func(h *protocol.Health, _ *bool) { h.InCall = true })
	add("Home 23, Elvegata", func(h *protocol.Health, _ *bool) { h.Quiet = true })
	add("Home 24, Parkveien", func(h *protocol.Health, _ *bool) { h.Covered = true })
	add("Home 34, Solbakken sykehjem, avdeling for rehabilitering", func(_ *protocol.Health, online *bool) { *online = false })
	c.register.AddHome("Home 40, Myrvegen", nil)
	good := c.proven(now.Add(-time.Hour), func(*protocol.Invitation, *protocol.End, *protocol.Crypto) {})
	c.calls.AddRecord(good)
	bad := good
	bad.Call, bad.Began, bad.Outcome, bad.Sentence = protocol.NewCallID(), now.Add(-26*time.Hour), protocol.SignalOffline, protocol.Explain(protocol.SignalOffline).Sentence
	bad.RangAt, bad.TalkingAt, bad.TerminalEnd, bad.CallerEnd, bad.TerminalHalf, bad.CallerHalf, bad.HomeLabel = time.Time{}, time.Time{}, nil, nil, nil, nil, "Home 34, Solbakken sykehjem, avdeling for rehabilitering"
	c.calls.AddRecord(bad)
	alarm := bad
	alarm.Call, alarm.Outcome, alarm.Sentence, alarm.HomeLabel = protocol.NewCallID(), protocol.ProofAnswer, protocol.Explain(protocol.ProofAnswer).Sentence, c.home.Label
	c.calls.AddRecord(alarm)

	host, relay := protocol.PathEnd{Kind: "host", Network: "v4.private", Transport: "udp"}, protocol.PathEnd{Kind: "relay", Network: "v4.public", Transport: "tls"}
	lost := bad
	lost.Call, lost.Outcome, lost.Sentence, lost.RangAt = protocol.NewCallID(), protocol.ICEFailed, protocol.Explain(protocol.ICEFailed).Sentence, lost.Began
	lost.CallerHalf = &protocol.CallRecord{
		Version: protocol.Version, By: protocol.SideCaller, Began: protocol.At(lost.Began), Outcome: protocol.ICEFailed, Gather: []protocol.GatherError{{Way: "udp", Code: 701}},
		Pairs:  []protocol.Pair{{Local: host, Remote: host, State: "failed", Asked: 12}, {Local: host, Remote: relay, State: "failed", Asked: 9, Heard: 2}},
		Series: &protocol.Series{Every: 1, RTT: []uint64{30, 820}, Loss: []uint64{0, 431}, Jitter: []uint64{3, 90}, Out: []uint64{900, 80}, In: []uint64{1200, 60}, Frames: []uint64{25, 2}},
	}
	whole := good
	whole.Call = protocol.NewCallID()
	half := *good.TerminalHalf
	half.Quality.Grade, half.Quality.Worst, half.Quality.Frozen, half.Quality.ERLE, half.Quality.CPU, half.Quality.Heat, half.Quality.CodecOut, half.Quality.CodecIn = 428, 391, 1400, 38, 412, 71, "VP8", "VP8"
	var sampler protocol.Sampler
	for i := range uint64(300) {
		sampler.Add(protocol.Sample{RTT: 30 + i%17, Loss: i % 40, Jitter: i % 9, Out: 900 - i, In: 800 + i, Frames: 30 - i%3, Concealed: i % 5, Grade: 430 - i%50, ERLE: 30 + i%9, CPU: 400 + i%60, Heat: 50 + i/15})
	}
	half.Series = sampler.Series()
	whole.TerminalHalf = &half
	c.calls.AddRecord(whole)
	c.calls.AddRecord(lost)

	b := newTab(t)
	c.confirms(b)
	navigate(b, c.server.URL)
	b.look("sign-in")
	navigate(b, c.link())
	b.until(`document.body.dataset.ready === "yes"`)
	b.until(`document.querySelectorAll("#recent-calls li").length === 5`)
	b.look("homes")
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	b.says("Calling")
	b.look("calling")
	f.ring()
	b.says("Ringing")
	b.look("ringing")
	f.answer()
	b.says("In call with")
	b.until(`document.getElementById("far").videoWidth > 0`)
	b.look("in-call")
	if animated := eval[int](b, `document.getAnimations().length`); animated != 0 {
		t.Errorf("%d animations in a call", animated)
	}
	f.check(f.call.End(protocol.EndPatientHungUp, c.key))
	b.says("The call has ended")
	b.until(`document.getElementById("receipt").textContent`)
	b.look("call-ended")
	c.calls.Hold(protocol.EgressUDP)
	c.calls.Refuse(&calls.Failure{Code: protocol.ICEFailed})
	b.forgive("409 (Conflict)")
	b.button("Ring")
	b.judged(diagnosis.Diagnose(diagnosis.Evidence{Outcome: protocol.ICEFailed, Held: []protocol.Code{protocol.EgressUDP}}))
	b.look("call-judged")
	navigate(b, c.server.URL+"/calls/"+good.Call.String())
	b.look("record")
	eval[*struct{}](b, `(document.querySelectorAll("details").forEach((d) => d.open = true), null)`)
	b.look("record, open")
	navigate(b, c.server.URL+"/calls/"+bad.Call.String())
	b.look("record-offline")
	navigate(b, c.server.URL+"/calls/"+lost.Call.String())
	eval[*struct{}](b, `(document.querySelectorAll("details").forEach((d) => d.open = true), null)`)
	b.look("record-no-path")
	navigate(b, c.server.URL+"/calls/"+whole.Call.String())
	eval[*struct{}](b, `(document.querySelectorAll(".charts").forEach((d) => d.open = true), null)`)
	b.look("record-figures")
	navigate(b, c.server.URL+"/nowhere")
	b.look("not-found")
	b.forgive("404 (Not Found)")
}

// Whoever asks for less motion gets none.
func TestReducedMotion(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	motion := func(value string) int {
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: value}}}); err != nil {
			t.Fatal(err)
		}
		return eval[int](b, `document.getAnimations().filter(a => a.effect.getComputedTiming().iterations === Infinity).length`)
	}
	b.button("Ring")
	c.placed()
	b.says("Calling")
	if n := motion("no-preference"); n == 0 {
		t.Error("nothing moves while it rings: has this test lost its object?")
	}
	if n := motion("reduce"); n != 0 {
		t.Errorf("%d things move", n)
	}
}
