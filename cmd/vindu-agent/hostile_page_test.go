package main

import (
	"crypto"
	"fmt"
	"strings"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/register"
	"vindu/protocol"
)

// told is a case in which the page is told something else than the terminal has said, and believes none of it.
func pages(change func(x *bench, u calls.Update) calls.Update) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		check := x.untouched()
		x.c.tap(taps{toPage: func(u calls.Update) []calls.Update {
			if u.Kind == calls.KindAnswer {
				u = change(x, u)
			}
			return []calls.Update{u}
		}})
		call := x.placed()
		x.page.says(h.sentence())
		x.doubted(h.code, call)
		check()
	}
}

// doubted waits for the page's half of the record with this outcome, and for the alarm that follows.
func (x *bench) doubted(code protocol.Code, call protocol.CallID) {
	x.t.Helper()
	if half := x.c.callerHalf(call); half.Outcome != code {
		x.t.Errorf("the page's half says %s", half.Outcome)
	}
	x.c.await("alarm of "+string(code), func() bool { return x.c.hasAlarm(code) })
}

// resign is a ringing answer that somebody else signs, or that says something else.
func resign(change func(x *bench, a *protocol.Answer) (crypto.Signer, protocol.SDP)) func(*bench, hostility) {
	return pages(func(x *bench, u calls.Update) calls.Update {
		a := x.c.answerOf(u.Answer)
		key, sdp := change(x, a)
		signed, err := protocol.Sign(a, key)
		x.c.check(err)
		u.Answer = signed
		if sdp != "" {
			u.SDP = sdp
		}
		return u
	})
}

// receipts is a case in which the page gets something else than the terminal's signed end.
func receipts(end func(x *bench, e *protocol.End) []byte) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		before := x.terminal.capture.taken()
		call := x.talk()
		x.c.tap(taps{toPage: func(u calls.Update) []calls.Update {
			if u.Kind == calls.KindEnd && u.End != nil {
				key, err := protocol.ParseKey(x.c.home.SPKI)
				x.c.check(err)
				e := new(protocol.End)
				x.c.check(protocol.Verify(u.End, key, e))
				u.End = end(x, e)
			}
			return []calls.Update{u}
		}})
		alarms := len(x.c.alarmsOf(h.code, call))
		x.hangUp(call)
		x.page.until(`document.getElementById("receipt").textContent.includes(` + quoted(h.sentence()) + `)`)
		x.c.await("alarm of "+string(h.code), func() bool { return len(x.c.alarmsOf(h.code, call)) > alarms })
		if now := x.terminal.capture.taken(); now[0] != before[0]+1 {
			x.t.Errorf("the camera was opened %d times", now[0]-before[0])
		}
	}
}

func quoted(s string) string { return "\"" + strings.ReplaceAll(s, "\"", "\\\"") + "\"" }

// alarmsOf are the open alarms of a code that name a call.
func (c *clinicServer) alarmsOf(code protocol.Code, call protocol.CallID) (found []string) {
	for _, a := range c.alarms() {
		if strings.HasPrefix(a, string(code)+" ") && strings.Contains(a, call.String()) {
			found = append(found, a)
		}
	}
	return found
}

func againstPage() []hostility {
	return []hostility{
		{has: webProcess, does: "answers by another terminal", refuses: thePage, code: protocol.ProofAnswer, run: resign(func(x *bench, a *protocol.Answer) (crypto.Signer, protocol.SDP) {
			a.Terminal = protocol.HashSPKI(spki(x.key))
			return x.key, ""
		})},
		{has: webProcess, does: "signs the terminal's answer by a key of his own", refuses: thePage, code: protocol.ProofAnswer, run: resign(func(x *bench, a *protocol.Answer) (crypto.Signer, protocol.SDP) {
			return x.key, ""
		})},
		{has: webProcess, does: "says \"declined\" in the terminal's name", refuses: thePage, code: protocol.ProofAnswer, run: resign(func(x *bench, a *protocol.Answer) (crypto.Signer, protocol.SDP) {
			a.Decision, a.Key, a.Answer = protocol.Declined, protocol.Fingerprint{}, protocol.Hash{}
			return x.key, ""
		})},
		{has: webProcess, does: "writes his fingerprint into the terminal's session description", refuses: thePage, code: protocol.ProofFingerprint, run: pages(func(_ *bench, u calls.Update) calls.Update {
			u.SDP = otherPrint(u.SDP)
			return u
		})},
		{has: webProcess, does: "puts a session description of his own beside the terminal's answer", refuses: thePage, code: protocol.ProofFingerprint, run: pages(func(x *bench, u calls.Update) calls.Update {
			u.SDP = x.ownOffer()
			return u
		})},
		{has: webProcess, does: "brings the terminal's answer of an earlier call", refuses: thePage, code: protocol.ProofAnswer, run: pages(func(x *bench, u calls.Update) calls.Update {
			u.Answer, u.SDP = x.spentSaid.Answer, x.spentSaid.SDP
			return u
		})},
		{has: webProcess, does: "has the terminal answer another offer than the page's", refuses: thePage, code: protocol.ProofAnswer, run: pages(func(x *bench, u calls.Update) calls.Update {
			u.Answer = x.spentSaid.Answer // to the offer of that call; the session description is this one's
			return u
		})},
		{has: webProcess, does: "says that the terminal answers, without its signature", refuses: thePage, code: protocol.ProofAnswer, run: pages(func(_ *bench, u calls.Update) calls.Update {
			u.Answer = nil
			return u
		})},
		{has: webProcess, does: "spoils the signature of the terminal's answer", refuses: thePage, code: protocol.ProofAnswer, run: pages(func(_ *bench, u calls.Update) calls.Update {
			u.Answer = append([]byte(nil), u.Answer...)
			u.Answer[len(u.Answer)-1] ^= 1
			return u
		})},
		{has: webProcess, does: "shows another terminal in the home once the person has chosen, and answers by it", refuses: thePage, code: protocol.ProofAnswer, run: (*bench).swapped},
		{has: webProcess, does: "says that the home has answered and is connected, and passes nothing of the terminal on", refuses: thePage, code: protocol.SignalNoReply, run: (*bench).premature},
		{has: webProcess, does: "answers in the terminal's name, in a call, that another path leads to him", refuses: thePage, says: goesOn, run: (*bench).misled},
		{has: webProcess, does: "signs the terminal's end by a key of his own", refuses: thePage, code: protocol.ProofEnd, run: receipts(func(x *bench, e *protocol.End) []byte {
			signed, err := protocol.Sign(e, x.key)
			x.c.check(err)
			return signed
		})},
		{has: webProcess, does: "writes other times of closing into the terminal's end", refuses: thePage, code: protocol.ProofEnd, run: receipts(func(x *bench, e *protocol.End) []byte {
			signed, err := protocol.Sign(e, x.key)
			x.c.check(err)
			e.CameraClosed -= 60_000
			return x.transplant(signed, e)
		})},
		{has: webProcess, does: "brings the terminal's end of an earlier call", refuses: thePage, code: protocol.ProofEnd, run: receipts(func(x *bench, _ *protocol.End) []byte { return x.spentEnd })},
	}
}

// misled is a page that is given another path which its terminal has not signed.
func (x *bench) misled(hostility) {
	x.t.Helper()
	call := x.talk()
	answer := x.c.awaitRinging(call)
	r := &protocol.Restart{
		Version: protocol.Version, Call: call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(x.c.recorded(call).Invite.Invitation), By: protocol.SideTerminal,
		N: 1, SDP: protocol.HashOf(answer.SDP), At: protocol.At(time.Now()),
	}
	signed, err := protocol.Sign(r, x.key)
	x.c.check(err)
	x.c.tellPages(calls.Update{Call: call, Kind: calls.KindRestart, State: calls.Talking, Restart: signed, SDP: answer.SDP})
	x.page.until(`document.body.dataset.refused === "` + call.String() + `"`)
	x.hangUp(call)
	if half := x.c.callerHalf(call); half.Outcome != protocol.EndCallerHungUp || !hasStage(half, "restart_refused") || hasStage(half, "restart") {
		x.t.Errorf("the page's half says %s, %v", half.Outcome, half.Stages)
	}
}

// transplant is a statement under another one's signature.
func (x *bench) transplant(signed []byte, e *protocol.End) []byte {
	other, err := protocol.Sign(e, x.key)
	x.c.check(err)
	return append(other[:len(other)-64:len(other)-64], signed[len(signed)-64:]...)
}

// swapped is a server that gives the home another terminal as soon as somebody calls it.
func (x *bench) swapped(h hostility) {
	x.t.Helper()
	check := x.untouched()
	silent := func(calls.Update) []calls.Update { return nil }
	x.c.tap(taps{toPage: silent})
	call := x.placed()
	x.c.tap(taps{ // not before: the other terminal is offline, and nobody can choose it
		home:   func(h *register.Home) { h.SPKI, h.Terminal = spki(x.key), protocol.HashSPKI(spki(x.key)) },
		toPage: silent,
	})
	answer := x.c.awaitRinging(call)
	a := x.c.answerOf(answer.Answer)
	a.Terminal = protocol.HashSPKI(spki(x.key))
	signed, err := protocol.Sign(a, x.key)
	x.c.check(err)
	x.page.until(fmt.Sprintf(`document.querySelector("[data-home='%s']").dataset.state === "offline"`, x.c.home.ID)) // as the server says of the other terminal
	x.c.tap(taps{})
	x.c.tellPages(calls.Update{Call: call, Kind: calls.KindAnswer, State: calls.Ringing, Answer: signed, SDP: answer.SDP})
	x.page.says(h.sentence())
	x.doubted(h.code, call)
	check()
	x.page.until(fmt.Sprintf(`document.querySelector("[data-home='%s']").dataset.state === "attention"`, x.c.home.ID)) // for want of a loudspeaker
}

// premature is a server that says what it likes of a call and has nothing to show for it.
func (x *bench) premature(h hostility) {
	x.t.Helper()
	check := x.untouched()
	x.c.tap(taps{
		fromTerminal: func(*protocol.CallOut) []*protocol.CallOut { return nil },
	})
	call := x.placed()
	for _, s := range []calls.State{calls.Ringing, calls.Talking} {
		x.c.tellPages(calls.Update{Call: call, Kind: calls.KindState, State: s})
		x.c.tellPages(calls.Update{Call: call, Kind: "connected", State: s})
	}
	x.page.says(h.sentence())
	if half := x.c.callerHalf(call); half.Outcome != h.code {
		x.t.Errorf("the page's half says %s", half.Outcome)
	}
	for _, s := range x.c.callerHalf(call).Stages {
		if s.Stage == "ringing" || s.Stage == "answered" || s.Stage == "connected" {
			x.t.Errorf("the page has believed that the call was %s", s.Stage)
		}
	}
	check()
}
