package main

import (
	"crypto/ecdsa"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"vindu/clinic/calls"
	"vindu/device/screen"
	"vindu/protocol"
)

const (
	nobodyCalls = "nothing: nobody has called"
	goesOn      = "nothing: the call goes on"
	itEnds      = "nothing: the call has ended"
)

// sent is a case in which nobody calls, and the attacker sends the terminal an invite that he has.
func sent(prepare func(x *bench) *protocol.CallIn) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		m := prepare(x)
		check, before := x.untouched(), x.notices(h.code, m.Call)
		x.c.send(m)
		x.told(h.code, m.Call, before)
		check()
	}
}

// during is a case in the middle of an honest call, which goes on. attack returns the call that the terminal tells of.
func during(attack func(x *bench, call protocol.CallID) (about protocol.CallID)) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		before := x.terminal.capture.taken()
		call := x.talk()
		about := attack(x, call)
		x.told(h.code, about, 0)
		if phase, shown := evaluate[string](x.page, `document.getElementById("call").dataset.phase`), x.terminal.shows(); phase != "talking" || shown.Kind != screen.InCall {
			x.t.Errorf("the page is %s, the terminal shows %v", phase, shown.Kind)
		}
		if page, terminal := x.page.code(), x.terminal.shows().CallCode; page == "" || page != terminal {
			x.t.Errorf("the page shows the code %q, the terminal %q", page, terminal)
		}
		x.hangUp(call)
		if now := x.terminal.capture.taken(); now[0] != before[0]+1 || now[2] != before[2]+1 {
			x.t.Errorf("camera opened %d times, microphone %d", now[0]-before[0], now[2]-before[2])
		}
	}
}

// ends is a hang-up that is not what it says.
func ends(sign func(x *bench, e *protocol.End) []byte) func(*bench, hostility) {
	return during(func(x *bench, call protocol.CallID) protocol.CallID {
		e := &protocol.End{
			Version: protocol.Version, Call: call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(x.c.recorded(call).Invite.Invitation), By: protocol.SideCaller,
			Reason: protocol.EndCallerHungUp, At: protocol.At(time.Now()),
		}
		x.c.send(&protocol.CallIn{Version: protocol.Version, Call: call, Kind: protocol.KindHangUp, HangUp: &protocol.HangUp{End: sign(x, e)}})
		return call
	})
}

// moves is an offer for another path that the caller has not made. The call stays on the one that it has.
func moves(sign func(x *bench, r *protocol.Restart) []byte) func(*bench, hostility) {
	return during(func(x *bench, call protocol.CallID) protocol.CallID {
		offer := x.ownOffer()
		r := &protocol.Restart{
			Version: protocol.Version, Call: call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(x.c.recorded(call).Invite.Invitation), By: protocol.SideCaller,
			N: 1, SDP: protocol.HashOf(offer), At: protocol.At(time.Now()),
		}
		x.c.send(&protocol.CallIn{Version: protocol.Version, Call: call, Kind: protocol.KindRestart, Restart: &protocol.CallRestart{Restart: sign(x, r), SDP: offer}})
		x.c.await("the terminal's notice", func() bool { return x.notices(protocol.AuthUnproven, call) > 0 })
		for _, m := range x.c.from(call) {
			if m.Kind == protocol.KindRestart {
				x.t.Error("the terminal has answered")
			}
		}
		return call
	})
}

func inCalls() []hostility {
	return []hostility{
		{has: recorder, does: "sends the invite of a call once more that is over", refuses: theTerminal, code: protocol.AuthReplayed, says: nobodyCalls, run: sent(func(x *bench) *protocol.CallIn { return copyOf(x.spent) })},
		{has: recorder, does: "sends it once more after the terminal has restarted", refuses: theTerminal, code: protocol.AuthReplayed, says: nobodyCalls, run: sent(func(x *bench) *protocol.CallIn {
			x.restart()
			return copyOf(x.spent)
		})},
		{has: recorder, does: "holds one call back, lets the next through, and brings the first afterwards", refuses: theTerminal, code: protocol.AuthCounter, says: nobodyCalls, run: sent(func(x *bench) *protocol.CallIn {
			x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn { return nil }})
			held := x.placed()
			x.page.hangUp()
			x.page.phase("ended")
			x.c.tap(taps{})
			x.honest()
			x.page.reload()
			return copyOf(x.c.recorded(held))
		})},
		{has: theBroker, does: "sends another offer in the middle of a call", refuses: theTerminal, code: protocol.AuthFingerprint, says: goesOn, run: during(func(x *bench, call protocol.CallID) protocol.CallID {
			m := copyOf(x.c.recorded(call))
			m.Invite.Offer = otherPrint(m.Invite.Offer)
			x.c.send(m)
			return call
		})},
		{has: recorder, does: "sends the running call's own invite once more", refuses: theTerminal, code: protocol.AuthReplayed, says: goesOn, run: during(func(x *bench, call protocol.CallID) protocol.CallID {
			x.c.send(copyOf(x.c.recorded(call)))
			return call
		})},
		{has: theBroker, does: "offers the terminal another path in the middle of a call, to himself, by a key of his own", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: moves(func(x *bench, r *protocol.Restart) []byte {
			signed, err := protocol.Sign(r, x.key)
			x.c.check(err)
			return signed
		})},
		{has: server, does: "offers it by the server's key, and by the caller's candidates", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: moves(func(x *bench, r *protocol.Restart) []byte {
			x.c.send(&protocol.CallIn{Version: protocol.Version, Call: r.Call, Kind: protocol.KindRestart, Restart: &protocol.CallRestart{Restart: x.c.paths[r.Call].Candidates, SDP: x.ownOffer()}})
			end, err := x.c.offline.SignEnd(&protocol.End{Version: protocol.Version, Call: r.Call, Terminal: r.Terminal, Invitation: r.Invitation, By: protocol.SideClinic, Reason: protocol.EndCallerHungUp, At: r.At})
			x.c.check(err)
			return end
		})},
		{has: otherKey, does: "calls in the middle of a call, authorised by its key", refuses: theTerminal, code: protocol.AuthIssuer, says: goesOn, run: during(func(x *bench, call protocol.CallID) protocol.CallID {
			m := x.forge(x.c.recorded(call), func(d *draft) {
				d.inv.Call, d.inv.Nonce = protocol.NewCallID(), protocol.NewNonce()
				signed, err := protocol.Sign(d.auth, x.key)
				x.c.check(err)
				d.signed = signed
			})
			m.Call = protocol.NewCallID()
			x.c.send(m)
			return m.Call
		})},
		{has: theBroker, does: "ends a call in the caller's name by a key of his own", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: ends(func(x *bench, e *protocol.End) []byte {
			signed, err := protocol.Sign(e, x.key)
			x.c.check(err)
			return signed
		})},
		{has: recorder, does: "ends it by the caller's signed end of an earlier call", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: ends(func(x *bench, _ *protocol.End) []byte { return x.spentBye })},
		{has: server, does: "ends it by the server's key with an end that is about another call", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: ends(func(x *bench, e *protocol.End) []byte {
			e.By, e.Call = protocol.SideClinic, protocol.NewCallID()
			signed, err := x.c.offline.SignEnd(e)
			x.c.check(err)
			return signed
		})},
		{has: theBroker, does: "draws the caller's curtain by a key of his own", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: during(func(x *bench, call protocol.CallID) protocol.CallID {
			x.c.send(x.curtain(call, true, 1, x.key))
			return call
		})},
		{has: recorder, does: "opens the caller's curtain by what the caller has signed when it was opened before", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: (*bench).opensAgain},
		{has: theBroker, does: "opens the caller's curtain by a key of his own", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: func(x *bench, h hostility) {
			x.opens(h, func(call protocol.CallID) *protocol.CallIn { return x.curtain(call, false, 1000, x.key) })
		}},
		{has: webProcess, does: "tells the page by a key of his own that camera and microphone in the home are closed", refuses: thePage, says: goesOn, run: (*bench).saysClosed},
	}
}

// restart starts the terminal's program anew.
func (x *bench) restart() {
	x.t.Helper()
	x.terminal.end()
	x.terminal.start()
	x.online()
}

// relayed plays a case through the hostile relay alone, which changes packets. It returns how many it has changed.
func relayed(change func(p []byte) int) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		evaluate[bool](x.page, relayOnly)
		defer evaluate[bool](x.page, relayOnly)
		check := x.untouched()
		changed := make(chan int, 64)
		x.c.tap(taps{packet: func(p []byte) []byte {
			if n := change(p); n > 0 {
				select {
				case changed <- n:
				default:
				}
			}
			return p
		}})
		call := x.placed()
		x.page.phase("ended")
		// The page sees that the handshake fails, and may hear from the terminal why before that.
		if says := x.page.status(); !strings.Contains(says, strings.TrimSuffix(h.sentence(), ".")) && !strings.Contains(says, strings.TrimSuffix(protocol.Explain(h.code).Sentence, ".")) {
			x.t.Errorf("the page says %q", says)
		}
		if len(changed) == 0 {
			x.t.Error("nothing was changed on the way: the case shows nothing")
		}
		if h.refuses == theTerminal {
			x.told(h.code, call, 0)
			x.c.await("the record with the terminal's cause", func() bool {
				r, err := x.c.calls.Record(x.t.Context(), x.c.person.ID, call)
				return err == nil && r.Outcome == h.code
			})
		} else if half := x.c.callerHalf(call); half.Outcome != h.code {
			x.t.Errorf("the page's half says %s", half.Outcome)
		}
		check()
	}
}

func onTheLine() []hostility {
	hello := func(kind byte, weaken func([]byte) int) func([]byte) int {
		return func(p []byte) int {
			if !isHello(p, kind) {
				return 0
			}
			return weaken(p)
		}
	}
	return []hostility{
		{has: theBroker, does: "connects to the terminal in the caller's place, with his own certificate", refuses: theTerminal, code: protocol.AuthFingerprint, run: (*bench).asCaller},
		{has: theBroker, does: "gives the terminal a relay of his own to use", refuses: theTerminal, code: protocol.AuthRelay, says: goesOn, run: (*bench).ownRelay},
		{has: recorder, does: "gives the terminal candidates of his own, and the caller's of an earlier call", refuses: theTerminal, code: protocol.AuthUnproven, says: goesOn, run: (*bench).ownPath},
		{has: relays, does: "has the caller offer no SRTP profile but AES_CM", refuses: theTerminal, code: protocol.DTLSWeak, says: protocol.Explain(protocol.DTLSFailed).Sentence, run: relayed(hello(clientHello, weakenSRTP))},
		{has: relays, does: "has the caller offer no suite of DTLS but one with CBC", refuses: theTerminal, code: protocol.DTLSWeak, says: protocol.Explain(protocol.DTLSFailed).Sentence, run: relayed(hello(clientHello, weakenSuites))},
		{has: relays, does: "has the terminal seem to choose AES_CM", refuses: thePage, code: protocol.DTLSFailed, run: relayed(hello(serverHello, weakenSRTP))},
		{has: theBroker, does: "connects to the page in the terminal's place, with his own certificate", refuses: thePage, code: protocol.DTLSFailed, run: (*bench).asTerminal},
	}
}

// ownRelay is a relay of the attacker's, which would learn where the home is.
func (x *bench) ownRelay(h hostility) {
	x.t.Helper()
	his, err := net.ListenPacket("udp4", "127.0.0.1:0")
	x.c.check(err)
	asked := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		if _, _, err := his.ReadFrom(make([]byte, 1500)); err == nil {
			asked <- struct{}{}
		}
	})
	x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
		if m.Kind == protocol.KindInvite {
			m = copyOf(m)
			m.Invite.ICE = []protocol.ICEServer{{URLs: []string{"turn:" + his.LocalAddr().String() + "?transport=udp"}, Username: "user", Credential: "secret"}}
		}
		return []*protocol.CallIn{m}
	}})
	call := x.talk()
	x.told(h.code, call, 0)
	x.hangUp(call)
	x.c.check(his.Close())
	listening.Wait()
	if len(asked) != 0 {
		x.t.Error("the terminal has asked the relay")
	}
}

// ownPath is a place of the attacker's in the home's network, or anywhere, that the terminal is to ask for a path.
func (x *bench) ownPath(h hostility) {
	x.t.Helper()
	his, err := net.ListenPacket("udp4", "127.0.0.1:0")
	x.c.check(err)
	asked := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		if _, _, err := his.ReadFrom(make([]byte, 1500)); err == nil {
			asked <- struct{}{}
		}
	})
	_, port, err := net.SplitHostPort(his.LocalAddr().String())
	x.c.check(err)
	x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
		list := []*protocol.CallIn{m}
		if m.Kind != protocol.KindInvite {
			return list
		}
		s := &protocol.Candidates{
			Version: protocol.Version, Call: m.Call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(m.Invite.Invitation), Number: 1,
			List: []protocol.Candidate{{Line: protocol.CandidateLine("candidate:7 1 udp 2130706431 127.0.0.1 " + port + " typ host"), Mid: "0"}},
		}
		signed, err := protocol.Sign(s, x.key)
		x.c.check(err)
		plain, err := protocol.Encode(s)
		x.c.check(err)
		for _, b := range [][]byte{signed, plain, x.spentPath} {
			list = append(list, &protocol.CallIn{Version: protocol.Version, Call: m.Call, Kind: protocol.KindCandidates, Candidates: b})
		}
		return list
	}})
	call := x.talk()
	x.told(h.code, call, 0)
	x.hangUp(call)
	if n := x.notices(h.code, call); n != 1 {
		x.t.Errorf("the terminal has told of it %d times", n)
	}
	x.c.check(his.Close())
	listening.Wait()
	if len(asked) != 0 {
		x.t.Error("the terminal has looked for a path there")
	}
}

// asCaller is an impostor who has learnt the caller's ICE credentials.
func (x *bench) asCaller(h hostility) {
	x.t.Helper()
	check := x.untouched()
	x.c.tap(taps{
		toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
			if m.Kind == protocol.KindCandidates {
				return nil
			}
			return []*protocol.CallIn{m}
		},
		toPage: func(u calls.Update) []calls.Update {
			if u.Kind == calls.KindAnswer || u.Kind == calls.KindCandidate {
				return nil
			}
			return []calls.Update{u}
		},
	})
	call := x.placed()
	answer := x.c.awaitRinging(call)
	// His candidates the terminal would not take; he knows its own, and asks it.
	who := newImpostor(x.t, string(x.c.recorded(call).Invite.Offer), string(answer.SDP), true, func(protocol.Candidate) {})
	known := 0
	x.c.await("a path to the terminal", func() bool {
		list := x.c.from(call)
		for _, m := range list[known:] {
			if m.Kind == protocol.KindCandidate && m.Candidate.Line != "" {
				x.c.check(who.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: string(m.Candidate.Line), SDPMid: &m.Candidate.Mid, SDPMLineIndex: &m.Candidate.MLine}))
			}
		}
		known = len(list)
		return x.notices(h.code, call) > 0
	})
	x.told(h.code, call, 0)
	x.page.says(h.sentence())
	check()
	who.left(x)
}

// asTerminal is an impostor who has learnt the terminal's ICE credentials, when the terminal has been told by the server's key that the call is over.
func (x *bench) asTerminal(h hostility) {
	x.t.Helper()
	check := x.untouched()
	x.c.tap(taps{toPage: func(calls.Update) []calls.Update { return nil }})
	call := x.placed()
	answer := x.c.awaitRinging(call)
	offer := x.c.recorded(call).Invite
	e := &protocol.End{
		Version: protocol.Version, Call: call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(offer.Invitation), By: protocol.SideClinic, Reason: protocol.EndPageClosed, At: protocol.At(time.Now()),
	}
	signed, err := x.c.offline.SignEnd(e)
	x.c.check(err)
	x.c.send(&protocol.CallIn{Version: protocol.Version, Call: call, Kind: protocol.KindHangUp, HangUp: &protocol.HangUp{End: signed}})
	x.c.await("the terminal's end", func() bool { return x.terminal.shows().Kind == screen.Ended })
	x.c.tellPages(calls.Update{Call: call, Kind: calls.KindAnswer, State: calls.Ringing, Answer: answer.Answer, SDP: answer.SDP})
	who := newImpostor(x.t, string(answer.SDP), string(offer.Offer), false, func(c protocol.Candidate) {
		x.c.tellPages(calls.Update{Call: call, Kind: calls.KindCandidate, State: calls.Ringing, Candidate: &c})
	})
	who.awaitPath()
	x.page.says(h.sentence())
	if half := x.c.callerHalf(call); half.Outcome != h.code {
		x.t.Errorf("the page's half says %s", half.Outcome)
	}
	check()
	who.left(x)
}

// left looks at what has reached an impostor.
func (i *impostor) left(x *bench) {
	x.t.Helper()
	if n := i.packets.Load(); n != 0 || i.secure.Load() {
		x.t.Errorf("%d packets have reached the impostor (connected: %v)", n, i.secure.Load())
	}
	if err := i.pc.Close(); err != nil {
		x.t.Error(err)
	}
}

// curtain is what a caller says of the own, signed by whatever key.
func (x *bench) curtain(call protocol.CallID, drawn bool, number uint32, key *ecdsa.PrivateKey) *protocol.CallIn {
	x.t.Helper()
	signed, err := protocol.Sign(&protocol.Curtain{
		Version: protocol.Version, Call: call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(x.c.recorded(call).Invite.Invitation), By: protocol.SideCaller, Drawn: drawn, Number: number,
		At: protocol.At(time.Now()),
	}, key)
	x.c.check(err)
	return &protocol.CallIn{Version: protocol.Version, Call: call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: signed}}
}

func (x *bench) pressCurtain() {
	x.t.Helper()
	evaluate[bool](x.page, `document.getElementById("curtain").click(), true`)
}

func (x *bench) closed() {
	x.t.Helper()
	x.c.await("closed devices", x.terminal.capture.shut)
	x.page.until(`document.getElementById("placeholder").textContent.includes("closed since")`)
}

// opens is a case in which the caller's curtain is drawn, and stays so.
func (x *bench) opens(h hostility, sent func(protocol.CallID) *protocol.CallIn) {
	x.t.Helper()
	call := x.talk()
	x.pressCurtain()
	x.closed()
	x.stays(h, call, sent(call))
}

func (x *bench) stays(h hostility, call protocol.CallID, m *protocol.CallIn) {
	x.t.Helper()
	before := x.terminal.capture.taken()
	x.c.send(m)
	x.told(h.code, call, 0)
	<-time.After(4 * time.Second) // an open curtain opens camera and microphone after three
	if now := x.terminal.capture.taken(); now != before || x.terminal.shows().Curtain != screen.DrawnByCaller {
		x.t.Errorf("behind the curtain: %v, then %v; the screen shows %+v", before, now, x.terminal.shows())
	}
	x.hangUp(call)
}

func (x *bench) opensAgain(h hostility) {
	x.t.Helper()
	var opened atomic.Pointer[protocol.CallIn]
	drawn := true
	x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
		if m.Kind == protocol.KindCurtain && !drawn {
			opened.Store(m)
		}
		return []*protocol.CallIn{m}
	}})
	call := x.talk()
	x.pressCurtain()
	x.closed()
	drawn = false
	x.pressCurtain()
	x.c.await("open devices", func() bool { return !x.terminal.capture.shut() })
	x.page.until(`document.getElementById("far").srcObject !== null`)
	x.c.tap(taps{})
	x.pressCurtain()
	x.closed()
	x.stays(h, call, opened.Load())
}

// saysClosed has the page hear that the home is closed, which it is not.
func (x *bench) saysClosed(hostility) {
	x.t.Helper()
	call := x.talk()
	x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
		if m.Kind == protocol.KindCurtain {
			return nil
		}
		return []*protocol.CallIn{m}
	}})
	x.pressCurtain()
	now := protocol.At(time.Now())
	signed, err := protocol.Sign(&protocol.Curtain{
		Version: protocol.Version, Call: call, Terminal: x.c.home.Terminal, Invitation: protocol.HashOf(x.c.recorded(call).Invite.Invitation), By: protocol.SideTerminal, Number: 1000,
		CameraClosed: now, MicrophoneClosed: now, At: now,
	}, x.key)
	x.c.check(err)
	x.c.tellPages(calls.Update{Seq: 1, Call: call, Kind: calls.KindCurtain, State: calls.Talking, Curtain: signed})
	x.page.until(`document.getElementById("placeholder").textContent.includes("has not said yet")`)
	<-time.After(time.Second)
	if evaluate[bool](x.page, `document.getElementById("placeholder").textContent.includes("closed since")`) {
		x.t.Error("the page says what the terminal has not")
	}
	x.hangUp(call)
}
