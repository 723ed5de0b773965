package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/grants"
	"vindu/media/camera"
	"vindu/media/sound"
	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// fault is something that goes wrong with a call between a real page and the program that ships.
type fault struct {
	name string
	rule string // of package diagnosis, that has to speak
	run  func(x *bench)
	held protocol.Code // the condition that shows at the clinic, in the call or later, and is over once all is well; "": nobody looks
}

// TestFaults provokes faults between the page and the program that ship, and reads on the calls' records what the clinic says of them.
func TestFaults(t *testing.T) {
	all := faults()
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	list := faulttest.New(t, "terminal", "cmd/vindu-agent TestFaults", *update, names...)
	x := newBench(t)
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			x.as(t, func(x *bench) {
				x.idle()
				defer x.mend()
				began := time.Now()
				f.run(x)
				if f.held != "" {
					x.held(f.held, began, false) // before what is said is read: it becomes better by it
				}
				saw := faulttest.Fault{Fault: f.name, Condition: f.held, Rule: f.rule, Sentence: x.diagnosed(f.rule, began)}
				if f.held != "" {
					x.mend()
					x.held(f.held, began, true)
				}
				list.Saw(t, saw)
			})
		})
	}
}

// mend has everything be well again, and waits until the clinic has heard so.
func (x *bench) mend() {
	x.t.Helper()
	x.c.tap(taps{})
	x.terminal.capture.trouble.Store(nil)
	x.c.await("devices that are well", func() bool {
		s := x.c.fleet.State(x.c.home.Terminal)
		return s.Health == nil || !slices.ContainsFunc(s.Health.Conditions, func(c protocol.Condition) bool {
			return c.Code.Stage() == "capture" && c.Code != protocol.CaptureNoSpeaker
		})
	})
}

// held waits until the clinic has heard that a condition has begun since began; or that all such have ended.
func (x *bench) held(code protocol.Code, began time.Time, ended bool) {
	x.t.Helper()
	x.c.await(fmt.Sprintf("condition %s, ended %v", code, ended), func() bool {
		past, err := x.c.fleet.Conditions(x.t.Context(), x.c.home.Terminal, 50)
		x.c.check(err)
		past = slices.DeleteFunc(past, func(p fleet.Past) bool { return p.Code != code || p.Since.Before(began) })
		return len(past) > 0 && (!ended || !slices.ContainsFunc(past, func(p fleet.Past) bool { return p.Until.IsZero() }))
	})
}

// latest is what the clinic has of the person's latest call, or nil if that began before began.
func (x *bench) latest(began time.Time) *calls.Record {
	list, err := x.c.calls.Records(x.t.Context(), x.c.person.ID, 1)
	if err != nil || len(list) == 0 || list[0].Began.Before(began.Truncate(time.Millisecond)) {
		return nil
	}
	r, err := x.c.calls.Record(x.t.Context(), x.c.person.ID, list[0].Call)
	if err != nil {
		return nil
	}
	return &r
}

// diagnosed waits until rule speaks of the latest call, and returns its sentence.
func (x *bench) diagnosed(rule string, began time.Time) string {
	x.t.Helper()
	var r calls.Record
	if !eventually(func() bool {
		latest := x.latest(began)
		if latest == nil {
			return false
		}
		r = *latest
		return r.Diagnosis.Rule == rule
	}) {
		x.t.Fatalf("rule %q speaks of the call, want %q: %s\noutcome %s, terminal %+v\ncaller %+v", r.Diagnosis.Rule, rule, r.Diagnosis.Sentence(), r.Outcome, r.TerminalHalf, r.CallerHalf)
	}
	x.t.Logf("%s after %s", r.Diagnosis.Sentence(), time.Since(began).Round(100*time.Millisecond))
	if r.CallerHalf != nil && r.TerminalHalf != nil {
		x.t.Logf("pairs of the page %+v, of the terminal %+v", r.CallerHalf.Pairs, r.TerminalHalf.Pairs)
	}
	return r.Diagnosis.Sentence()
}

// relayOnly has the page ring by the relay alone from now on; it asks anew for the relay's password.
func (x *bench) relayOnly() {
	x.t.Helper()
	x.page.reload()
	evaluate[bool](x.page, `(document.querySelector("details.options").open = true, document.getElementById("relay-only").click(), true)`)
}

// inCall has a call run for a while, and hangs up.
func (x *bench) inCall(d time.Duration) {
	x.t.Helper()
	x.page.ring()
	x.page.phase("talking")
	x.goesOn(d)
	x.page.hangUp()
	x.page.phase("ended")
}

// goesOn lets d pass, by the page's clock.
func (x *bench) goesOn(d time.Duration) {
	x.t.Helper()
	x.page.until(fmt.Sprintf(`(window.since ??= performance.now(), performance.now() - window.since > %d && (delete window.since, true))`, d.Milliseconds()))
}

// ails has a call run with devices that are not well.
func ails(t trouble) func(x *bench) {
	return func(x *bench) {
		x.terminal.capture.trouble.Store(&t)
		x.inCall(6 * time.Second)
	}
}

// fails rings, and waits until the call has failed.
func (x *bench) fails() {
	x.t.Helper()
	x.page.ring()
	x.page.phase("ended")
}

func faults() []fault {
	dropped := func([]byte) []byte { return nil }
	return []fault{
		{"a good call", "hung-up", func(x *bench) { x.inCall(2 * time.Second) }, ""},
		{"no camera", "ended-no-picture", ails(trouble{noCamera: true, openCamera: camera.ErrNotFound}), ""},
		{"camera busy", "ended-camera-busy", ails(trouble{openCamera: camera.ErrBusy}), protocol.CaptureCameraBusy},
		{"no microphone", "ended-no-sound", ails(trouble{noMicrophone: true}), ""},
		{"sound busy", "ended-sound-busy", ails(trouble{openSound: sound.ErrBusy}), protocol.CaptureSoundBusy},
		{"camera unplugged in the call", "ended-camera-gone", func(x *bench) {
			x.page.ring()
			x.page.phase("talking")
			x.page.until(`document.getElementById("far").videoWidth > 0`)
			x.terminal.capture.trouble.Store(&trouble{noCamera: true, openCamera: camera.ErrNotFound, readCamera: camera.ErrGone})
			x.goesOn(6 * time.Second)
			x.page.hangUp()
			x.page.phase("ended")
		}, protocol.CaptureCameraGone},
		{"no invite arrives", "no-reply", func(x *bench) {
			x.c.tap(taps{toTerminal: func(*protocol.CallIn) []*protocol.CallIn { return nil }})
			x.fails()
		}, ""},
		{"given up before it rings", "hung-up-calling", func(x *bench) {
			x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
				if m.Kind == protocol.KindInvite {
					return nil
				}
				return []*protocol.CallIn{m}
			}})
			x.placed()
			x.page.hangUp()
		}, ""},
		{"something else answers", "proof-answer", func(x *bench) {
			x.c.tap(taps{toPage: func(u calls.Update) []calls.Update {
				if u.Kind == calls.KindAnswer {
					u.Answer = slices.Clone(u.Answer)
					u.Answer[len(u.Answer)-1] ^= 1
				}
				return []calls.Update{u}
			}})
			x.fails()
		}, ""},
		{"the home's policy refuses", "policy", func(x *bench) {
			x.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRefuse}}})
			x.fails()
		}, ""},
		{"quiet hours", "quiet", func(x *bench) {
			x.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}, Quiet: &[]grants.Quiet{{From: "00:00", To: "12:00"}, {From: "12:00", To: "00:00"}}})
			x.fails()
		}, ""},
		{"the policy asks, and nobody can answer", "no-key", func(x *bench) {
			x.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeAsk, After: 10}}, Quiet: &[]grants.Quiet{}})
			x.fails()
			x.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}})
		}, ""},
		{"the relay's password is wrong for the page", "path-relay-password", func(x *bench) {
			x.c.relay.misleadsPage.Store(true)
			x.relayOnly()
			x.fails()
			x.c.relay.misleadsPage.Store(false)
			x.relayOnly()
		}, ""},
		{"the relay's password is wrong for the terminal", "path-relay-none", func(x *bench) {
			x.c.relay.misleadsHome.Store(true)
			x.fails()
			x.c.relay.misleadsHome.Store(false)
		}, ""},
		{"the relay passes nothing on", "path-relay-between", func(x *bench) {
			x.c.tap(taps{packet: dropped})
			x.fails()
		}, ""},
		{"a third is lost both ways", "ended-lossy-both", func(x *bench) {
			x.c.tap(taps{packet: func(p []byte) []byte {
				if len(p) > 100 && rand.IntN(3) == 0 {
					return nil
				}
				return p
			}})
			x.inCall(10 * time.Second)
		}, ""},
		{"the path is cut in the call", "lost-path-suddenly", func(x *bench) {
			x.page.ring()
			x.page.phase("talking")
			x.goesOn(6 * time.Second)
			x.c.tap(taps{packet: dropped})
			x.page.phase("ended")
		}, ""},
		{"the page is closed in the call", "page-closed", func(x *bench) {
			x.page.ring()
			x.page.phase("talking")
			x.page.reload()
		}, ""},
		{"the terminal is stopped in the call", "stopped", func(x *bench) {
			x.page.ring()
			x.page.phase("talking")
			x.terminal.end()
			x.page.phase("ended")
		}, ""},
		{"the terminal is switched off", "offline", func(x *bench) {
			x.c.await("a terminal that is away", func() bool { return !x.c.fleet.State(x.c.home.Terminal).Online })
			x.fails()
		}, ""},
		{"the broker is away", "broker", func(x *bench) {
			x.terminal.start()
			x.online()
			x.c.stopBroker()
			x.fails()
		}, ""},
	}
}

// policy has the home's policy be another one, and returns when the terminal has it.
func (x *bench) policy(s grants.Settings) {
	x.t.Helper()
	signed := func() []byte {
		b, err := x.c.grants.Policy(x.t.Context(), x.c.home.Terminal)
		x.c.check(err)
		return b
	}
	before := signed()
	x.c.check(x.c.grants.SetPolicy(x.t.Context(), "test", x.c.home.ID, s))
	x.c.await("the new policy", func() bool { return !bytes.Equal(signed(), before) })
	after, fetched := signed(), atomic.Int32{}
	x.c.tap(taps{settings: func(s *protocol.Settings) {
		if bytes.Equal(s.Policy, after) {
			fetched.Add(1)
		}
	}})
	for n := range int32(2) { // when the terminal asks again, it has taken what it was told before
		x.c.check(x.c.fleet.Command(x.t.Context(), x.c.home.Terminal, protocol.CommandSettings))
		x.c.await("a terminal that has fetched its policy", func() bool { return fetched.Load() > n })
	}
	x.c.tap(taps{})
}
