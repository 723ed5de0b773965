package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"vindu/clinic/calls"
	"vindu/clinic/diagnosis"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// watchMedia notes what could let picture or sound out or in.
const watchMedia = `
window.noted = [];
for (const [of, name] of [[RTCPeerConnection, "setRemoteDescription"], [RTCRtpSender, "replaceTrack"], [RTCPeerConnection, "addIceCandidate"], [RTCPeerConnection, "addTrack"]]) {
	const was = of.prototype[name];
	of.prototype[name] = function (...a) { window.noted.push(name); return was.apply(this, a); };
}`

// What is not proven is not shown, and nothing is sent to it.
func TestUnproven(t *testing.T) {
	stranger := webtest.NewKey()
	tests := []struct {
		name   string
		answer func(c *clinic, f *terminal) error
		want   protocol.Code
	}{
		{"signed by another terminal", func(c *clinic, f *terminal) error {
			return f.call.Answer(f.call.Statement(protocol.Ringing, f.sdp, f.fingerprint), f.sdp, stranger)
		}, protocol.ProofAnswer},
		{"session description exchanged on the way", func(c *clinic, f *terminal) error {
			return f.call.Answer(f.call.Statement(protocol.Ringing, f.sdp, f.fingerprint), strings.Replace(f.sdp, "v=0", "v=0\r\ns=x", 1), c.key)
		}, protocol.ProofFingerprint},
		{"certificate exchanged on the way", func(c *clinic, f *terminal) error {
			return f.call.Answer(f.call.Statement(protocol.Ringing, f.sdp, protocol.Fingerprint{1}), f.sdp, c.key)
		}, protocol.ProofFingerprint},
		{"answer to another invitation", func(c *clinic, f *terminal) error {
			a := f.call.Statement(protocol.Ringing, f.sdp, f.fingerprint)
			a.Invitation[0] ^= 1
			return f.call.Answer(a, f.sdp, c.key)
		}, protocol.ProofAnswer},
		{"no statement at all", func(c *clinic, f *terminal) error {
			f.call.Send(calls.Update{Kind: calls.KindAnswer, State: calls.Ringing, SDP: protocol.SDP(f.sdp)})
			return nil
		}, protocol.ProofAnswer},
	}
	c := newClinic(t)
	b := c.open(watchMedia)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.button("Ring")
			f := newTerminal(t, c, c.placed())
			f.listen()
			f.check(test.answer(c, f))
			b.says("The call has ended: " + protocol.Explain(test.want).Sentence)
			b.judged(diagnosis.Diagnose(diagnosis.Evidence{Outcome: test.want}))
			if got := receive(t, c.calls.HungUp); got.Reason != test.want {
				t.Errorf("the clinic was told %s", got.Reason)
			}
			if got := receive(t, c.calls.Reported); got.Outcome != test.want {
				t.Errorf("the record says %s", got.Outcome)
			}
			if noted := eval[[]string](b, `window.noted`); len(noted) > 0 {
				t.Errorf("the page did %v", noted)
			}
			if eval[bool](b, `document.getElementById("verified").checkVisibility() || document.getElementById("far").srcObject !== null`) {
				t.Error("something is shown")
			}
			if f.pictures.Load()+f.sounds.Load() > 0 {
				t.Error("something was sent")
			}
		})
	}
}

// An "answered" that is not proven after a proven "ringing" ends the call before anything is shown.
func TestAnsweredUnproven(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	b.says("Ringing")
	f.check(f.call.Answer(f.call.Statement(protocol.Answered, f.sdp, f.fingerprint), "", webtest.NewKey()))
	b.says("The answer did not come from the terminal of this home")
}

func TestDeclined(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	for _, d := range []protocol.Decision{protocol.Declined, protocol.Busy, protocol.Quiet, protocol.Shutter, protocol.Refused} {
		b.button("Ring")
		call := c.placed()
		if err := call.Answer(call.Statement(d, "", protocol.Fingerprint{}), "", c.key); err != nil {
			t.Fatal(err)
		}
		b.says("The call has ended: " + protocol.Explain(d.Outcome()).Sentence)
		if got := receive(t, c.calls.Reported); got.Outcome != d.Outcome() {
			t.Errorf("%s: the record says %s", d, got.Outcome)
		}
		// The signed end comes behind the answer: nobody was seen or heard.
		b.until(`document.getElementById("receipt").hidden`)
		if d != protocol.Declined {
			continue
		}
		end, err := protocol.Sign(&protocol.End{
			Version: protocol.Version, Call: call.ID, Terminal: call.Terminal, Invitation: protocol.HashOf(call.Invitation), By: protocol.SideTerminal,
			Reason: protocol.AnswerDeclined, At: protocol.At(time.Now()),
		}, c.key)
		if err != nil {
			t.Fatal(err)
		}
		call.Send(calls.Update{Kind: calls.KindEnd, State: calls.Ended, Code: protocol.AnswerDeclined})
		call.Send(calls.Update{Kind: calls.KindEnd, State: calls.Ended, Code: protocol.AnswerDeclined, End: end})
		b.until(`document.getElementById("receipt").checkVisibility() && document.getElementById("receipt").textContent === "Camera and microphone in the home were never open, signed by the terminal."`)
		b.says("The call has ended: The person at the terminal said no for now.")
		if kind := eval[string](b, `document.getElementById("call").dataset.outcome`); kind != "good" {
			t.Errorf("a no is shown as %s", kind) // it is the person's right, and nothing that somebody has to mend
		}
		b.shot("declined")
	}
}

// The terminal ends the call, and proves when its camera and microphone were closed.
func TestEndedAtTerminal(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call with")
	b.button("Mute my microphone")
	b.until(`[...document.querySelectorAll("button")].some(b => b.textContent === "Unmute my microphone")`)
	b.until(`document.getElementById("self-caption").textContent === "You · microphone muted"`)
	b.until(`document.getElementById("self").srcObject.getAudioTracks().every(t => !t.enabled)`)
	b.button("Turn my camera off")
	b.until(`document.getElementById("self").srcObject.getVideoTracks().every(t => !t.enabled)`)
	b.until(`document.getElementById("self-caption").textContent === "You · camera off · microphone muted"`)
	b.shot("camera-off")
	b.button("Turn my camera on")
	b.until(`document.getElementById("self").srcObject.getVideoTracks().every(t => t.enabled)`)
	eval[*struct{}](b, `window.own = document.getElementById("self").srcObject, null`)
	f.check(f.call.End(protocol.EndPatientHungUp, c.key))
	b.says("The call has ended: The call was ended at the terminal.")
	b.until(`document.getElementById("receipt").textContent.includes("signed by the terminal")`)
	b.until(`window.own.getTracks().every(t => t.readyState === "ended")`)
	b.shot("ended")
}

func TestNotStarted(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	c.calls.Refuse(&calls.Failure{Code: protocol.SignalOffline})
	b.button("Ring")
	b.says("The call has ended: The terminal is not connected to the clinic.")
	b.judged(diagnosis.Diagnose(diagnosis.Evidence{Outcome: protocol.SignalOffline}))
	b.until(`document.querySelector("#recent-calls .sentence")?.textContent === "The terminal is not connected to the clinic."`)
	b.shot("offline")
	c.calls.Refuse(nil)
	b.button("Ring")
	c.placed()
	b.says("Calling")
	b.until(`document.getElementById("verdict").hidden`)
	b.forgive("409 (Conflict)")
}

// judged waits until the page shows what the clinic says of a call that failed, and what to do now.
func (b *tab) judged(d diagnosis.Diagnosis) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.getElementById("verdict").checkVisibility() && document.getElementById("verdict").textContent === %q && document.getElementById("next").textContent === %q`, d.Sentence(), d.Now))
}

// What this computer lacks is said, before the call and during it, and what it has is used.
func TestOwnDevices(t *testing.T) {
	lacking := func(kinds ...string) string {
		return `const lacks = ` + fmt.Sprintf("%q", strings.Join(kinds, " ")) + `.split(" ");
		const devices = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices), open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
		navigator.mediaDevices.enumerateDevices = async () => (await devices()).filter(d => !lacks.includes(d.kind));
		navigator.mediaDevices.getUserMedia = async (c) => {
			if ((c.audio && lacks.includes("audioinput")) || (c.video && lacks.includes("videoinput"))) throw new DOMException("none", "NotFoundError");
			return open(c);
		};`
	}
	tests := []struct {
		name, before, hint string
		picture, sound     bool
	}{
		{"no camera", lacking("videoinput"), "no camera", false, true},
		{"no microphone", lacking("audioinput"), "no microphone", true, false},
		{"neither", lacking("videoinput", "audioinput"), "no camera or microphone", false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open(test.before)
			b.until(fmt.Sprintf(`document.getElementById("own").textContent.includes(%q)`, test.hint))
			b.button("Ring")
			f := newTerminal(t, c, c.placed())
			f.ring()
			f.answer()
			b.says("In call with")
			b.until(fmt.Sprintf(`document.getElementById("hint").textContent.includes(%q)`, test.hint))
			b.until(`document.getElementById("far").videoWidth === 640`)
			if test.picture {
				receive(t, f.seen)
			}
			if test.sound {
				receive(t, f.heard)
			}
			b.shot(strings.ReplaceAll(test.name, " ", "-"))
			b.until(fmt.Sprintf(`document.getElementById("camera").disabled === %v && document.getElementById("mute").disabled === %v`, !test.picture, !test.sound))
			b.button("Hang up")
			half := receive(t, c.calls.Reported)
			if (half.Camera == "browser") != test.picture || (half.Sound == "browser") != test.sound {
				t.Errorf("the record says camera %s, sound %s", half.Camera, half.Sound)
			}
		})
	}
}

// Whoever says no to the browser's question makes no call.
func TestPermissionDenied(t *testing.T) {
	const refuse = `navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("no", "NotAllowedError") };`
	states := func(state string) string {
		return `navigator.permissions.query = async () => ({state: "` + state + `"});`
	}
	t.Run("asked first", func(t *testing.T) {
		c := newClinic(t)
		b := c.open(refuse + states("prompt"))
		b.button("Ring")
		b.says("The call has ended: The browser was not allowed to use camera and microphone.")
		b.until(`document.getElementById("next").textContent.includes("Allow it beside the address")`)
		if len(c.calls.Placed) != 0 {
			t.Error("the home was rung before the browser had asked")
		}
		b.until(`document.querySelector("#recent-calls .sentence")?.textContent === "The browser was not allowed to use camera and microphone."`)
		list, err := c.calls.Records(t.Context(), c.person, 9)
		if err != nil || len(list) != 1 || !list[0].NeverLeft || list[0].CallerHalf.Outcome != protocol.BrowserDenied || list[0].Home != c.home.ID {
			t.Errorf("on record is %+v, %v", list, err)
		}
		if eval[bool](b, `document.getElementById("verdict").checkVisibility()`) {
			t.Error("what the page has said is said twice")
		}
	})
	t.Run("withdrawn", func(t *testing.T) {
		c := newClinic(t)
		b := c.open(`navigator.mediaDevices.getUserMedia = () => new Promise((_, no) => window.refuse = () => no(new DOMException("no", "NotAllowedError")));` + states("granted"))
		b.button("Ring")
		c.placed()
		eval[*struct{}](b, `refuse(), null`)
		b.says("The browser was not allowed")
		if got := receive(t, c.calls.HungUp); got.Reason != protocol.BrowserDenied {
			t.Errorf("hung up with %s", got.Reason)
		}
	})
	t.Run("known before", func(t *testing.T) {
		c := newClinic(t)
		b := c.open(refuse + states("denied"))
		b.until(`document.getElementById("own").textContent.includes("may not use camera and microphone")`)
		b.shot("denied")
	})
}

// All of a call by the keyboard; the focus is never lost.
func TestKeyboard(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	focused := func() string {
		return eval[string](b, `document.activeElement.id || document.activeElement.textContent.trim()`)
	}
	tabTo := func(want string) {
		t.Helper()
		for range 15 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if focused() == want {
				if outline := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); outline != "solid" {
					t.Errorf("the focus on %s is not visible", want)
				}
				return
			}
		}
		t.Fatalf("the Tab key does not reach %s, it is at %s", want, focused())
	}
	tabTo("Skip to the content")
	tabTo("Sign out")
	tabTo("Ring")
	b.do(chromedp.KeyEvent(kb.Enter))
	f := newTerminal(t, c, c.placed())
	b.says("Calling")
	if focused() != "call-title" {
		t.Errorf("after Ring the focus is at %s", focused())
	}
	f.ring()
	f.answer()
	b.says("In call")
	tabTo("mute")
	b.do(chromedp.KeyEvent(" "))
	b.until(`document.getElementById("mute").textContent === "Unmute my microphone"`)
	tabTo("camera")
	tabTo("hang-up")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.says("The call has ended")
	if focused() != "Ring" {
		t.Errorf("after Hang up the focus is at %s", focused())
	}
}

// The page is closed, reloaded or left: the call ends, and both the reason and the record still get out.
func TestLeaving(t *testing.T) {
	ways := map[string]func(b *tab, c *clinic){
		"reload": func(b *tab, c *clinic) { b.do(chromedp.Reload()) },
		"close": func(b *tab, c *clinic) {
			if _, err := chromedp.Call(b.ctx, page.Navigate, page.NavigateParams{URL: "data:text/html,<link rel=icon href='data:,'>"}); err != nil { // about:blank would ask for an icon
				b.t.Fatal(err)
			}
		},
	}
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open()
			b.button("Ring")
			f := newTerminal(t, c, c.placed())
			f.ring()
			f.answer()
			b.says("In call")
			leave(b, c)
			if got := receive(t, c.calls.HungUp); got.Reason != protocol.EndPageClosed || got.Call != f.call.ID {
				t.Errorf("hung up %+v", got)
			}
			if half := receive(t, c.calls.Reported); half.Outcome != protocol.EndPageClosed || half.Duration == 0 {
				t.Errorf("record %+v", half)
			}
			if name == "close" {
				b.do(chromedp.NavigateBack())
			}
			b.until(`document.body?.dataset.ready === "yes"`)
			b.says("No call is running")
			b.until(`document.querySelector("#recent-calls .sentence")?.textContent.includes("page was closed")`)
			b.button("Ring")
			c.placed()
			b.says("Calling")
		})
	}
}

// The stream of events breaks off in the middle of a call: the call goes on, and what happened meanwhile is caught up with.
func TestStreamBreaks(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	b.says("Calling")
	c.server.CloseClientConnections()
	receive(t, c.calls.Closed)
	f.ring()
	b.says("Ringing")
	c.server.CloseClientConnections()
	f.answer()
	b.says("In call with")
	b.until(`document.getElementById("banner").hidden`)
	b.forgive("ERR_", "net::")
}

// The clinic is gone for longer than it would wait for the page: the call ends and says why. The page's clock is put
// forward so that nobody has to wait.
func TestClinicLost(t *testing.T) {
	c := newClinic(t)
	b := c.open(`{ const now = performance.now.bind(performance); let skew = 0; performance.now = () => now() + skew; window.later = (ms) => { skew += ms } }`)
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call with")
	c.down.Store(true)
	c.server.CloseClientConnections()
	b.forgive("ERR_", "net::", "502")
	b.until(`document.getElementById("banner").textContent.includes("connection to the clinic is interrupted")`)
	b.says("In call with") // not yet
	eval[*struct{}](b, `later(7000), null`)
	b.says("The call has ended: The connection to the clinic's server was lost during the call.")
	c.down.Store(false)
	b.until(`document.getElementById("banner").hidden`)
	if half := receive(t, c.calls.Reported); half.Outcome != protocol.SignalLostClinic {
		t.Errorf("the record says %s", half.Outcome)
	}
}

// Two tabs of one person do not disturb each other, and both list what happened.
func TestTwoTabs(t *testing.T) {
	c := newClinic(t)
	second := c.register.AddHome("Home 18, Kirkeveien", webtest.NewKey())
	a := c.open()
	b := a.beside()
	c.confirms(b)
	navigate(b, c.server.URL)
	b.until(`document.body.dataset.ready === "yes"`)
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	b.says("Ringing")
	a.says("No call is running")
	a.until(`document.querySelector("#recent-calls .sentence")?.textContent === "The call is running."`)
	eval[*struct{}](a, fmt.Sprintf(`document.querySelector("[data-home='%s'] button").click(), null`, second.ID))
	other := c.placed()
	a.says("Calling Home 18")
	f.answer()
	b.says("In call with Home 17")
	a.says("Calling Home 18")
	other.Send(calls.Update{Kind: calls.KindEnd, State: calls.Ended, Code: protocol.SignalNoReply})
	a.says("The terminal did not reply")
	b.says("In call with Home 17")
}

// Hanging up before the clinic has even been asked keeps the call from beginning.
func TestHangUpEarly(t *testing.T) {
	c := newClinic(t)
	b := c.open(`{ const was = window.fetch; window.fetch = async (path, o) => { if (path === "/api/calls") await new Promise(r => window.release = r); return was(path, o) } }`)
	b.button("Ring")
	b.says("Calling")
	b.button("Hang up")
	b.says("The call has ended: You hung up.")
	if got := receive(t, c.calls.HungUp); got.Reason != protocol.EndCallerHungUp {
		t.Errorf("hung up %+v", got)
	}
	b.until(`window.release`)
	b.forgive("409 (Conflict)")
	eval[*struct{}](b, `release(), null`)
	b.until(`document.querySelector("#recent-calls .sentence")?.textContent === "You hung up."`)
	if len(c.calls.Placed) != 0 {
		t.Error("the home was rung for nobody")
	}
}

// The clinic has begun the call, but its reply is lost: the page ends the call all the same, and again if that is lost too.
func TestReplyLost(t *testing.T) {
	for name, x := range map[string]struct{ lose, says string }{
		"connection broken": {`{ const was = window.fetch; let hangUps = 0; window.fetch = async (path, o) => {
			if (path.endsWith("/hang-up") && ++hangUps < 3) throw new TypeError("lost");
			const r = await was(path, o); if (path === "/api/calls") throw new TypeError("lost"); return r } }`, "The clinic did not answer this page. If the home rings, it stops by itself."},
		"a proxy gives up": {`{ const was = window.fetch; window.fetch = async (path, o) => { const r = await was(path, o); return path === "/api/calls" ? new Response("", {status: 504}) : r } }`, "The call has ended"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open(x.lose)
			b.button("Ring")
			call := c.placed()
			b.says(x.says)
			if got := receive(t, c.calls.HungUp); got.Call != call.ID {
				t.Errorf("hung up %v, not the call that had begun, %v", got, call.ID)
			}
			b.until(`[...document.querySelectorAll("button.ring")].every(b => !b.disabled)`)
		})
	}
}

// What is special about a home is said once: beside the home, and during its call in the call's panel.
func TestNotesOnce(t *testing.T) {
	c := newClinic(t)
	s := online(c.home.Terminal)
	s.Health.Camera.Kind, s.Health.Microphone.Kind = "synthetic", "synthetic"
	c.fleet.Set(s)
	b := c.open()
	said := func(when, where string) {
		t.Helper()
		b.until(`[...document.querySelectorAll("li")].some(e => e.textContent === "The home sends a moving test picture: it has no camera." && e.checkVisibility())`)
		if got := eval[[]string](b, `[...document.querySelectorAll(".notes li")].filter(e => e.textContent.includes("test picture") && e.checkVisibility()).map(e => e.closest("section").className)`); len(got) != 1 || !strings.Contains(got[0], where) {
			t.Errorf("%s it is said in %q", when, got)
		}
	}
	said("before the call", "homes")
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	b.says("Ringing")
	said("while it rings", "call")
	f.answer()
	b.says("In call with")
	s.Health.InCall = true
	c.fleet.Set(s)
	b.until(`document.querySelector("[data-home] .chip").textContent === "In a call"`)
	said("in the call", "call")
	b.shot("notes")
	b.button("Hang up")
	b.says("You hung up.")
	said("after the call", "homes")
}

// The state in words and Hang up are in the window all through a call, at the page's upper end and where the page has scrolled to.
func TestHangUpInView(t *testing.T) {
	c := newClinic(t)
	c.register.AddHome("Home 18, Kirkeveien", webtest.NewKey())
	long := c.register.AddHome("Home 34, Solbakken sykehjem, avdeling for rehabilitering, rom 12", c.key)
	s := online(long.Terminal)
	s.Health.Camera.Kind, s.Health.Microphone.Kind, s.Health.Screen.Kind, s.Health.Speaker.Kind = "synthetic", "synthetic", "memory", "none"
	s.Health.Conditions = []protocol.Condition{{Code: protocol.TimeOff}, {Code: protocol.StorageDamaged}}
	c.fleet.Set(s)
	b := c.open(`navigator.permissions.query = async () => ({state: "prompt"});
		const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
		navigator.mediaDevices.getUserMedia = async (c) => { await new Promise(r => window.allow = r); return open(c) }`)
	sizes := []struct{ width, height int64 }{{390, 844}, {1440, 900}}
	inView := func(phase string) {
		t.Helper()
		b.until(fmt.Sprintf(`document.getElementById("call").dataset.phase === %q`, phase))
		for _, size := range sizes {
			b.do(chromedp.EmulateViewport(size.width, size.height))
			eval[*struct{}](b, `document.getElementById("call").scrollIntoView({block: "start"}), null`)
			for _, where := range []string{"at the call", "at the page's upper end"} {
				if where != "at the call" {
					eval[*struct{}](b, `scrollTo(0, 0), null`)
				}
				if out := eval[[]string](b, `["status", "hang-up", "mute", "camera"].filter(id => {
					const e = document.getElementById(id), r = e.getBoundingClientRect();
					const on = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
					return r.top < 0 || r.bottom > innerHeight || r.left < 0 || r.right > innerWidth || !on || !(e === on || e.contains(on));
				})`); len(out) > 0 {
					t.Errorf("%s, %d×%d, %s: not in the window: %v", phase, size.width, size.height, where, out)
				}
			}
			// Where the page scrolls to by itself, the bar covers nothing of the picture.
			eval[*struct{}](b, `document.getElementById("call").scrollIntoView({block: "start"}), null`)
			if hidden := eval[float64](b, `document.querySelector(".stage").getBoundingClientRect().bottom - document.querySelector(".call-bar").getBoundingClientRect().top`); hidden > 1 {
				t.Errorf("%s, %d×%d: the bar covers %.0f px of the picture", phase, size.width, size.height, hidden)
			}
		}
		b.shot("in-view-" + phase)
	}
	eval[*struct{}](b, fmt.Sprintf(`document.querySelector("[data-home='%s'] button").click(), null`, long.ID))
	inView("asking")
	eval[*struct{}](b, `allow(), null`)
	f := newTerminal(t, c, c.placed())
	inView("calling")
	f.ring()
	inView("ringing")
	f.answer()
	b.until(`!document.getElementById("placeholder").checkVisibility()`)
	inView("talking")
	b.button("Hang up")
	b.says("You hung up.")
}

// A home's state changes before one's eyes; when its terminal is exchanged the page is made anew, because it proves answers by the
// terminal that it knows.
func TestHomesLive(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.until(`document.querySelector("[data-home] .chip").textContent === "Ready"`)
	s := online(c.home.Terminal)
	s.Health.Camera.Kind, s.Health.Microphone.Kind, s.Health.Screen.Kind = "synthetic", "synthetic", "memory"
	s.Health.Conditions = []protocol.Condition{{Code: protocol.CaptureTestPicture}, {Code: protocol.TimeOff}}
	c.fleet.Set(s)
	b.until(`document.querySelector("[data-home] .chip").textContent === "Online, needs attention"`)
	b.until(`document.querySelector("[data-home] .notes").textContent.includes("moving test picture: it has no camera")`)
	b.button("Ring")
	c.placed()
	b.until(`document.getElementById("call-notes").textContent.includes("moving test picture")`)
	b.shot("test-picture")
	b.button("Hang up")
	b.says("ended")
	s.Online, s.Heard = false, time.Now()
	c.fleet.Set(s)
	b.until(`document.querySelector("[data-home] .chip").textContent === "Offline"`)
	navigate(b, c.server.URL)
	b.until(`document.body.dataset.ready === "yes"`)
	code := eval[string](b, `document.querySelector("[data-home]").dataset.code`)
	c.register.Exchange(c.home.ID, webtest.NewKey())
	c.fleet.Set(s)
	b.until(fmt.Sprintf(`document.body?.dataset.ready === "yes" && document.querySelector("[data-home]").dataset.code !== %q`, code))
}

// Relay only is asked of the browser and of the terminal.
func TestRelayOnly(t *testing.T) {
	c := newClinic(t)
	b := c.open(`{ const was = window.RTCPeerConnection; window.made = []; window.RTCPeerConnection = class extends was { constructor(c) { super(c); window.made.push(c.iceTransportPolicy) } } }`)
	eval[*struct{}](b, `document.querySelector("summary").click(), document.getElementById("relay-only").click(), null`)
	b.until(`window.made.at(-1) === "relay"`)
	b.button("Ring")
	if call := c.placed(); !call.Proven.RelayOnly {
		t.Error("the terminal is not told")
	}
	b.shot("relay")
}
