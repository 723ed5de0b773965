package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"vindu/clinic/grants"
	"vindu/clinic/web/webtest"
	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/media/camera"
	"vindu/media/sound"
	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// onlooker is who has a hand on the terminal's panel and another on the caller's computer.
type onlooker struct {
	*handsOn
	authenticator webauthn.AuthenticatorID
	touched       uint32 // what the passkey's counter stands at, at the most
}

// peoplesFault is something that goes wrong at the ends of a call, or in the rights to it.
type peoplesFault struct {
	name string
	rule string        // of package diagnosis, that has to speak
	held protocol.Code // the condition that shows at the clinic in the call, and is over after it
	run  func(x *onlooker)
}

// TestFaultsOfPeople provokes what people, their computers, their rights and somebody in the middle do to calls between the page and the program that ship.
func TestFaultsOfPeople(t *testing.T) {
	t.Parallel()
	all := peoplesFaults()
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	list := faulttest.New(t, "people", "cmd/vindu-agent TestFaultsOfPeople", *update, names...)
	x := &onlooker{touched: 1}
	x.handsOn = newHandsOn(t, func(b *bench) {
		b.terminal.cfg.Call.Notice = 0
		b.c.check(b.c.grants.SetPolicy(t.Context(), "test", b.c.home.ID, grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeAsk, After: 10}}}))
	})
	x.installs((*onlooker).counting)
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			x.as(t, func(*bench) {
				x.idle()
				x.panel()
				defer x.c.tap(taps{})
				began := time.Now()
				f.run(x)
				list.Saw(t, faulttest.Fault{Fault: f.name, Condition: f.held, Rule: f.rule, Sentence: x.diagnosed(f.rule, began)})
			})
		})
	}
}

// panel waits until the panel is there, and nobody has just said no.
func (x *onlooker) panel() {
	x.t.Helper()
	x.c.await("a panel in a session", func() bool {
		s := x.heard.last.Load()
		return s != nil && s.Session != 0 && s.Open && !s.Denied && !s.NoHeld
	})
}

// counting gives the tab the person's passkey, which counts on from where it stands.
func (x *onlooker) counting(ctx context.Context) (webauthn.AuthenticatorID, error) {
	x.touched += 1000
	return x.c.passkey.InstallCounting(ctx, x.touched)
}

// installs puts another authenticator in place of the page's.
func (x *onlooker) installs(install func(*onlooker, context.Context) (webauthn.AuthenticatorID, error)) {
	x.t.Helper()
	_, err := chromedp.Call(x.page.ctx, webauthn.Disable, struct{}{})
	x.c.check(err)
	x.authenticator, err = install(x, x.page.ctx)
	x.c.check(err)
}

// nobodyTouches has nobody touch the passkey from now on.
func (x *onlooker) nobodyTouches() {
	x.t.Helper()
	_, err := chromedp.Call(x.page.ctx, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: x.authenticator, Enabled: false})
	x.c.check(err)
}

// other has a browser of another kind ring, and be told. It stays open until the clinic has what its page has to say.
func (x *onlooker) other(flags ...chromedp.ExecAllocatorOption) {
	x.t.Helper()
	began := time.Now()
	was := x.page
	defer func() {
		x.page = was
		x.installs((*onlooker).counting) // the other has counted further
	}()
	x.t.Run("another browser", func(t *testing.T) {
		x.page = newClinicianPage(t, x.c, flags...)
		x.installs((*onlooker).counting)
		x.page.ring()
		x.page.phase("ended")
		x.c.await("the page's half of the record", func() bool {
			r := x.latest(began)
			return r != nil && r.CallerHalf != nil
		})
	})
}

// runs has a call run.
func (x *onlooker) runs() {
	x.t.Helper()
	x.page.ring()
	x.page.phase("talking")
}

// over waits for the end of the call.
func (x *onlooker) over() {
	x.t.Helper()
	x.page.phase("ended")
	x.idle()
}

// anew has the terminal begin again with another configuration.
func (x *onlooker) anew(change func(*agent.Config)) {
	x.t.Helper()
	x.terminal.end()
	change(&x.terminal.cfg)
	x.terminal.start()
	x.online()
}

// authorised has the person's authorisation be over soon.
func (x *onlooker) authorised(long time.Duration) {
	x.t.Helper()
	_, a, err := x.c.grants.Current(x.t.Context(), x.c.person.ID)
	x.c.check(err)
	short := *a
	short.To = protocol.At(time.Now().Add(long))
	signed, err := x.c.offline.SignAuthorisation(&short)
	x.c.check(err)
	x.c.tap(taps{authorisation: func([]byte, *protocol.Authorisation) ([]byte, *protocol.Authorisation) { return signed, &short }})
	x.page.reload()
}

// rightsEnded does what the clinic's server does when a person may do less than before.
func (x *onlooker) rightsEnded() {
	x.c.calls.RevokePerson(x.c.person.ID, func(home string, passkey []byte) (protocol.Code, error) {
		permits, err := x.c.grants.Permits(x.t.Context(), x.c.person.ID, home)
		if err != nil {
			return "", err
		}
		if !permits {
			return protocol.EndWithdrawn, nil
		}
		_, a, err := x.c.grants.Current(x.t.Context(), x.c.person.ID)
		if err != nil {
			return "", err
		}
		if _, known := a.Credential(passkey); !known {
			return protocol.EndPasskeyRemoved, nil
		}
		return "", nil
	})
}

// played plays a case of somebody in the middle.
func played(does string) func(x *onlooker) {
	return func(x *onlooker) {
		x.t.Helper()
		i := slices.IndexFunc(hostilities(), func(h hostility) bool { return h.does == does })
		if i < 0 {
			x.t.Fatalf("nobody in the middle %s", does)
		}
		x.page.forget()
		h := hostilities()[i]
		h.run(x.bench, h)
	}
}

// lost has the page be without the clinic until it has said so.
func (x *onlooker) lost(meanwhile func()) {
	x.t.Helper()
	x.c.away.Store(true)
	x.c.pages.CloseClientConnections()
	meanwhile()
	x.c.away.Store(false)
}

// sick is a call with devices that are not well, from its beginning or, if before is told, from its middle.
func sick(name, rule string, code protocol.Code, before, then trouble) peoplesFault {
	shows := func(x *onlooker) bool {
		s := x.c.fleet.State(x.c.home.Terminal)
		if s.Health == nil {
			return false
		}
		var codes []protocol.Code
		for _, c := range s.Health.Conditions {
			codes = append(codes, c.Code)
		}
		return slices.Contains(protocol.Showing(codes), code)
	}
	return peoplesFault{name: name, rule: rule, held: code, run: func(x *onlooker) {
		x.terminal.capture.trouble.Store(&before)
		x.runs()
		x.terminal.capture.trouble.Store(&then)
		x.c.await("the condition at the clinic", func() bool { return shows(x) })
		x.goesOn(5500 * time.Millisecond)
		x.page.hangUp()
		x.over()
		x.terminal.capture.trouble.Store(nil)
		x.c.await("the end of the condition at the clinic", func() bool { return !shows(x) })
	}}
}

func peoplesFaults() []peoplesFault {
	const permitted = "use-fake-ui-for-media-stream"
	broken := func(function string) string {
		return fmt.Sprintf(`RTCPeerConnection.prototype.%s = () => Promise.reject(new Error("broken")), true`, function)
	}
	return []peoplesFault{
		{"nobody takes a call that has to be taken", "nobody", "", func(x *onlooker) {
			x.asks()
			x.over()
		}},
		{"the person presses no", "declined", "", func(x *onlooker) {
			x.page.ring()
			x.c.await("a call that rings", func() bool { return x.terminal.shows().Kind == screen.Ringing })
			x.no()
			x.over()
		}},
		{"the caller hangs up while it rings", "hung-up-ringing", "", func(x *onlooker) {
			x.page.ring()
			x.page.phase("ringing")
			x.page.hangUp()
			x.over()
		}},
		{"two ring the same home", "busy", "", (*onlooker).both},
		{"the person ends the call", "hung-up-home", "", func(x *onlooker) {
			x.page.ring()
			x.c.await("a call that rings", func() bool { return x.terminal.shows().Kind == screen.Ringing })
			x.answer()
			x.page.phase("talking")
			x.no()
			x.over()
		}},
		{"a call reaches its longest duration", "longest", "", func(x *onlooker) {
			x.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}})
			x.anew(func(c *agent.Config) { c.Call.Longest = agent.Duration(3 * time.Second) })
			x.page.ring()
			x.over()
			x.anew(func(c *agent.Config) { c.Call.Longest = agent.Duration(time.Hour) })
		}},
		{"the authorisation ends in the call", "right-ended", "", func(x *onlooker) {
			x.authorised(8 * time.Second)
			x.page.ring()
			x.over()
			x.c.tap(taps{})
			x.page.reload()
		}},
		{"the passkey is removed in the call", "passkey-removed", "", func(x *onlooker) {
			x.runs()
			x.c.passkeys.set(webtest.NewPasskey("localhost").Credential())
			x.c.grants.Changed(x.c.person.ID)
			x.c.await("an authorisation without the passkey", func() bool {
				x.rightsEnded()
				return evaluate[string](x.page, `document.getElementById("call").dataset.phase`) == "ended"
			})
			x.over()
			x.c.passkeys.set(x.c.passkey.Credential())
			x.c.grants.Changed(x.c.person.ID)
			x.c.await("an authorisation with the passkey", func() bool {
				_, a, err := x.c.grants.Current(x.t.Context(), x.c.person.ID)
				if err != nil {
					return false
				}
				_, known := a.Credential(x.c.passkey.ID)
				return known
			})
			x.page.reload()
		}},
		{"the right to call is withdrawn in the call", "right-withdrawn", "", func(x *onlooker) {
			x.runs()
			_, err := x.c.grants.Withdraw(x.t.Context(), "test", x.c.person.ID, "test")
			x.c.check(err)
			x.rightsEnded()
			x.over()
			_, err = x.c.grants.Give(x.t.Context(), "test", grants.Grant{
				Person: x.c.person.ID, Employment: "employed", Callers: "staff", Scope: protocol.Scope{Homes: []string{x.c.home.ID}}, From: time.Now(), To: time.Now().Add(48 * time.Hour), Reason: "test",
			})
			x.c.check(err)
			x.c.await("an authorisation", func() bool { _, _, err := x.c.grants.Current(x.t.Context(), x.c.person.ID); return err == nil })
			x.page.reload()
		}},
		{"a person rings whose authorisation is over", "not-authorised", "", func(x *onlooker) {
			x.authorised(time.Second)
			x.goesOn(1500 * time.Millisecond)
			x.page.ring()
			x.page.phase("ended")
			x.c.tap(taps{})
			x.page.reload()
		}},
		{"the passkey's dialogue is cancelled", "page-cancelled", "", func(x *onlooker) {
			x.installs(func(x *onlooker, ctx context.Context) (webauthn.AuthenticatorID, error) {
				return x.c.passkey.Install(ctx, false)
			})
			x.page.ring()
			x.page.phase("ended")
			x.installs((*onlooker).counting)
		}},
		{"the caller gives up while the passkey is asked for", "page-given-up", "", func(x *onlooker) {
			x.nobodyTouches()
			x.page.ring()
			x.page.phase("confirming")
			x.page.hangUp()
			x.page.phase("ended")
		}},
		{"the page is closed while the passkey is asked for", "page-closed-early", "", func(x *onlooker) {
			x.page.ring()
			x.page.phase("confirming")
			x.page.reload()
			x.installs((*onlooker).counting)
		}},
		{"a browser without passkeys", "page-no-passkey", "", func(x *onlooker) {
			evaluate[bool](x.page, `delete window.PublicKeyCredential`)
			x.page.ring()
			x.page.phase("ended")
			x.page.reload()
		}},
		{"the browser is not allowed to use camera and microphone", "page-permission", "", func(x *onlooker) { x.other(chromedp.Flag(permitted, "deny")) }},
		{"the computer's clock is an hour fast", "hung-up", "", func(x *onlooker) {
			evaluate[bool](x.page, `Date.now = ((now) => () => now() + 3600e3)(Date.now), true`)
			x.inCall(time.Second)
			x.idle()
			x.page.reload()
		}},
		{"a browser that makes no offer", "page-failed-early", "", func(x *onlooker) {
			evaluate[bool](x.page, broken("createOffer")+`, document.getElementById("relay-only").dispatchEvent(new Event("change")), true`) // what was prepared is made anew
			x.page.ring()
			x.page.phase("ended")
			x.page.reload()
		}},
		{"a browser that does not take the answer", "page-failed", "", func(x *onlooker) {
			evaluate[bool](x.page, broken("setRemoteDescription"))
			x.page.ring()
			x.over()
			x.page.reload()
		}},
		{"the caller's session is ended in the call", "page-closed", "", func(x *onlooker) {
			x.runs()
			x.c.check(x.c.sessions.End(x.t.Context(), "test", x.c.person.ID))
			x.over()
			x.page.signIn()
		}},
		{"the page loses the clinic in the call", "clinic-lost-caller", "", func(x *onlooker) {
			x.runs()
			x.lost(func() { x.over() })
		}},
		sick("the camera offers no format that can be used", "ended-camera-format", protocol.CaptureCameraFormat, trouble{openCamera: camera.ErrUnsupported}, trouble{openCamera: camera.ErrUnsupported}),
		sick("the camera stops delivering in the call", "ended-camera-stuck", protocol.CaptureCameraStuck, trouble{}, trouble{openCamera: camera.ErrTimeout, readCamera: camera.ErrTimeout}),
		sick("the sound device is pulled out in the call", "ended-sound-gone", protocol.CaptureSoundGone, trouble{}, trouble{openSound: sound.ErrGone, readSound: sound.ErrGone}),
		{"all that the terminal says comes too late", "no-reply-later", "", func(x *onlooker) {
			x.c.tap(taps{fromTerminal: func(*protocol.CallOut) []*protocol.CallOut { return nil }})
			x.page.ring()
			x.over()
		}},
		{"a good call, which is recorded on the way", "hung-up", "", func(x *onlooker) { x.honest() }},
		{"a copy of the passkey, which counts from where it was copied", "passkey-alarm", "", func(x *onlooker) {
			x.installs(func(x *onlooker, ctx context.Context) (webauthn.AuthenticatorID, error) {
				return x.c.passkey.Install(ctx, true)
			})
			x.page.ring()
			x.over()
			x.installs((*onlooker).counting)
		}},
		{"a call is repeated that was recorded", "passkey-alarm", "", played("has a second call signed with the nonce of a first")},
		{"a call that was proven by another person's passkey", "passkey-alarm", "", played("proves this person's call by it")},
		{"a passkey is used without PIN, finger or face", "user-not-verified", "", played("uses the passkey without PIN, finger or face")},
		{"a call is held back beyond its time", "refused-late", "", played("holds a call back beyond its time")},
		{"an authorisation that is over", "lapsed", "", played("presents an authorisation that is over")},
		{"an authorisation for another home", "rights", "", played("presents one for another home")},
		{"the terminal's session description is exchanged on the way", "proof-fingerprint", "", played("writes his fingerprint into the terminal's session description")},
		{"an end is made to offer weak encryption", "weak", "", played("has the caller offer no SRTP profile but AES_CM")},
		{"an end seems to choose weak encryption", "encryption-time", "", played("has the terminal seem to choose AES_CM")},
		{"the home's terminal is cut off in the call", "cut-off", "", func(x *onlooker) {
			x.runs()
			x.c.check(x.c.register.Revoke(x.t.Context(), "test", x.c.home.Terminal, "test"))
			x.c.calls.Revoke(x.c.home.Terminal)
			x.c.broker.Kick(x.c.home.Terminal)
			x.over()
		}},
	}
}

// both has two pages ring one home.
func (x *onlooker) both() {
	x.t.Helper()
	x.page.ring()
	x.page.phase("ringing")
	first := x.page
	ctx, stop := chromedp.NewContext(first.ctx)
	defer stop()
	x.page = &clinicianPage{first.t, ctx, x.c}
	x.c.check(chromedp.Do(ctx))
	_, err := x.counting(ctx)
	x.c.check(err)
	x.page.reload()
	began := time.Now()
	x.page.ring()
	x.page.phase("ended")
	said := x.diagnosed("busy", began)
	x.t.Log(said)
	x.c.check(chromedp.Cancel(ctx))
	x.page = first
	x.page.hangUp()
	x.over()
	x.installs((*onlooker).counting)
}
