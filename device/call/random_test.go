package call_test

import (
	"crypto/ecdsa"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// world is a terminal, and what an onlooker knows who sees every message, every press and every device.
type world struct {
	*terminal
	hostile  []hostile
	proven   map[protocol.CallID]promise
	latest   *protocol.CallIn
	talked   bool
	guests   []*calltest.Guest
	joins    map[protocol.CallID][]join // that were asked for honestly
	joined   bool                       // somebody has joined
	said     uint32                     // the number of what callers have said last of their curtains
	drawn    map[protocol.CallID]bool   // whose caller's is, as far as an honest clinic has passed it on
	behind   bool                       // something was closed for a curtain
	restarts uint64
}

// curtains has the latest call's caller speak of the own curtain, signed by whatever key; honest, if it is the caller's.
func (w *world) curtains(drawn bool, number uint32, key *ecdsa.PrivateKey, change ...func(*protocol.Curtain)) {
	if !w.runs() || number == 0 {
		return
	}
	w.deliver(w.draws(w.latest, number, drawn, key, change...))
}

func (w *world) honestCurtain(drawn bool) {
	if w.runs() {
		w.drawn[w.latest.Call] = drawn
		w.said++
	}
	w.curtains(drawn, w.said, w.clinic.Caller)
}

// join is an honest invitation to a call that runs.
type join struct {
	guest *calltest.Guest
	sent  *protocol.CallIn
	until time.Time
}

// asks has a guest ask to join the latest call.
func (w *world) asks(n int, life time.Duration, spoil func(*calltest.Draft)) {
	if !w.runs() {
		return // to a call that does not run nobody joins: it would be another's call of that name
	}
	now, g := time.Now(), w.guests[n]
	d := w.clinic.Join(w.t, now, w.latest.Call, g)
	d.Authorisation.To = protocol.At(now.Add(life))
	if spoil != nil {
		spoil(d)
	}
	m := d.Message(w.t)
	if spoil == nil {
		w.joins[m.Call] = append(w.joins[m.Call], join{g, m, d.Authorisation.To.Time()})
	}
	w.deliver(m)
}

// runs tells whether the latest call does.
func (w *world) runs() bool {
	last := w.view.Last()
	return w.latest != nil && last.Call == w.latest.Call && (last.Scene == call.SceneRinging || last.Scene == call.SceneInCall)
}

// goes has the one who asked to join last prove to leave.
func (w *world) goes(by func(join) *protocol.CallIn) {
	if !w.runs() || len(w.joins[w.latest.Call]) == 0 {
		return
	}
	all := w.joins[w.latest.Call]
	w.deliver(by(all[len(all)-1]))
}

// promise is what is known of an honest invite.
type promise struct {
	parties []protocol.Party
	policy  calltest.Policy
	until   time.Time // of the authorisation; zero if there is none
	taken   bool      // somebody took it while it rang
}

var policies = []calltest.Policy{
	{Decision: protocol.Ringing, Ring: 5 * time.Second, SeeFirst: 2 * time.Second, MaxDuration: time.Minute},
	{Decision: protocol.Ringing, Ring: 8 * time.Second, MaxDuration: time.Hour, Ask: true},
	{Decision: protocol.Ringing}, {Decision: protocol.Quiet}, {Decision: protocol.Refused},
}

// steps are what may happen. Each returns at rest.
var steps = []struct {
	name string
	do   func(w *world)
}{
	{"honest", func(w *world) { w.honest(7 * 24 * time.Hour) }},
	{"honest, authorised for a while", func(w *world) { w.honest(8 * time.Second) }},
	{"vouched", func(w *world) {
		m, inv := w.clinic.TestCall(w.t, time.Now())
		w.promise(m, promise{parties: inv.Parties, policy: w.policy})
	}},
	{"hostile", func(w *world) {
		test := w.hostile[0]
		w.hostile = append(w.hostile[1:], test)
		if test.believed != nil {
			return
		}
		d := w.clinic.Draft(w.t, time.Now())
		if test.draft != nil {
			test.draft(w.t, w.clinic, d)
		}
		m := d.Message(w.t)
		if test.message != nil {
			test.message(w.t, w.clinic, m)
		}
		w.deliver(m)
	}},
	{"replay", func(w *world) {
		if w.latest != nil {
			w.deliver(w.latest)
		}
	}},
	{"one joins", func(w *world) { w.asks(0, 24*time.Hour, nil) }},
	{"another joins", func(w *world) { w.asks(1, 24*time.Hour, nil) }},
	{"another joins, authorised for a while", func(w *world) { w.asks(2, 8*time.Second, nil) }},
	{"somebody joins who may not", func(w *world) {
		w.asks(0, time.Hour, func(d *calltest.Draft) { d.Authorisation.Scope = protocol.Scope{Homes: []string{"home-18"}} })
	}},
	{"somebody joins whom the clinic does not know", func(w *world) { w.asks(1, time.Hour, func(d *calltest.Draft) { d.Authority = w.clinic.Service }) }},
	{"somebody joins by the caller's certificate", func(w *world) {
		w.asks(2, time.Hour, func(d *calltest.Draft) {
			d.Offer = calltest.Offer(calltest.Caller)
			d.Invitation.Caller, d.Invitation.Offer = calltest.Caller, protocol.HashOf(d.Offer)
		})
	}},
	{"who joined joins again", func(w *world) { w.goes(func(j join) *protocol.CallIn { return j.sent }) }},
	{"who joined leaves", func(w *world) {
		w.goes(func(j join) *protocol.CallIn { return w.leave(j, j.guest.Key) })
	}},
	{"somebody has another leave", func(w *world) {
		w.goes(func(j join) *protocol.CallIn { return w.leave(j, w.clinic.Caller) })
	}},
	{"connected", func(w *world) { w.media1(call.MediaConnected) }},
	{"connected and seen", func(w *world) { w.media1(call.MediaConnected); w.media1(call.MediaSeen) }},
	{"another path", func(w *world) {
		if w.runs() {
			w.restarts++
			w.deliver(w.clinic.Restart(w.t, w.latest, 1+w.restarts%protocol.MaxRestarts))
		}
	}},
	{"somebody looks for another path", func(w *world) {
		if w.runs() {
			w.deliver(w.clinic.Restart(w.t, w.latest, 7, func(r *protocol.Restart) { r.Terminal[3] ^= 1 }))
		}
	}},
	{"disconnected", func(w *world) { w.media1(call.MediaDisconnected) }},
	{"taken", func(w *world) {
		last := w.view.Last()
		w.run.Take(last.Call)
		if p, ok := w.proven[last.Call]; ok && last.Scene == call.SceneRinging && last.Ask {
			p.taken = true
			w.proven[last.Call] = p
		}
		synctest.Wait()
	}},
	{"no", func(w *world) { w.run.HangUp(); synctest.Wait() }},
	{"caller hangs up", func(w *world) {
		if w.latest != nil {
			w.deliver(w.clinic.HangUp(w.t, w.latest, protocol.EndCallerHungUp))
		}
	}},
	{"clinic ends", func(w *world) {
		if w.latest != nil {
			w.deliver(w.clinic.HangUp(w.t, w.latest, protocol.AuthRevoked, func(e *protocol.End) { e.By = protocol.SideClinic }))
		}
	}},
	{"the caller draws", func(w *world) { w.honestCurtain(true) }},
	{"the caller opens", func(w *world) { w.honestCurtain(false) }},
	{"the patient presses", func(w *world) { w.run.Curtain(); synctest.Wait() }},
	{"an old curtain", func(w *world) { w.curtains(false, w.said, w.clinic.Caller) }},
	{"somebody opens a curtain", func(w *world) { w.curtains(false, w.said+1, w.clinic.Service) }},
	{"somebody who joined opens it", func(w *world) { w.curtains(false, w.said+1, w.guests[0].Key) }},
	{"the caller opens the patient's", func(w *world) {
		w.curtains(false, w.said+1, w.clinic.Caller, func(c *protocol.Curtain) { c.By = protocol.SideTerminal })
	}},
	{"link down", func(w *world) { w.run.LinkUp(false); synctest.Wait() }},
	{"link up", func(w *world) { w.run.LinkUp(true); synctest.Wait() }},
	{"a second", func(w *world) { w.wait(time.Second) }},
	{"five seconds", func(w *world) { w.wait(5 * time.Second) }},
	{"twenty seconds", func(w *world) { w.wait(20 * time.Second) }},
	{"another policy", func(w *world) {
		w.policy = policies[(slices.Index(policies, w.policy)+1)%len(policies)]
	}},
}

// leave is the end of one who joined, signed by whatever key.
func (w *world) leave(j join, key *ecdsa.PrivateKey) *protocol.CallIn {
	return w.clinic.HangUpBy(w.t, j.sent, &protocol.End{
		Version: protocol.Version, Call: j.sent.Call, Terminal: w.clinic.Self, Invitation: protocol.HashOf(j.sent.Invite.Invitation), By: protocol.SideCaller,
		Reason: protocol.EndCallerHungUp, At: 1,
	}, key)
}

func (w *world) honest(life time.Duration) {
	now := time.Now()
	d := w.clinic.Draft(w.t, now)
	d.Authorisation.To = protocol.At(now.Add(life))
	m := d.Message(w.t)
	w.promise(m, promise{parties: d.Invitation.Parties, policy: w.policy, until: d.Authorisation.To.Time()})
}

func (w *world) promise(m *protocol.CallIn, p promise) {
	w.proven[m.Call], w.latest = p, m
	w.deliver(m)
}

func (w *world) media1(kind call.MediaEventKind) {
	if sessions := w.media.Sessions(); len(sessions) > 0 {
		w.say(sessions[len(sessions)-1], kind)
	}
}

// Decide implements call.Policy by the policy of the moment.
func (w *world) Decide(p *call.Proof, now time.Time) call.Decision { return w.policy.Decide(p, now) }

// broken says which promise does not hold now.
func (w *world) broken() string {
	status := w.view.Last()
	var receiving []protocol.Party // who gets picture or sound of the terminal
	for _, s := range w.media.Sessions() {
		p, proven := w.proven[s.Offer.Call]
		if !proven {
			return "a session of a call that nobody proved"
		}
		if !s.IsOpen(call.Camera) && !s.IsOpen(call.Microphone) {
			continue
		}
		if status.Drawn != 0 || status.Closed || w.drawn[s.Offer.Call] {
			return "open behind a curtain"
		}
		receiving = append(receiving, s.Receiving()...)
		for _, party := range s.Receiving()[len(p.parties):] {
			asked := slices.ContainsFunc(w.joins[s.Offer.Call], func(j join) bool { return j.guest.Party == party && time.Now().Before(j.until) })
			if !asked {
				return fmt.Sprintf("%s receives, who has not proven to join, or may not any more", party.Name)
			}
			w.joined = true
		}
		switch {
		case p.policy.Decision != protocol.Ringing:
			return "open although policy refused"
		case p.policy.Ask && !p.taken:
			return "open although nobody took the call"
		case !p.until.IsZero() && !time.Now().Before(p.until):
			return "open although the authorisation is over"
		case s.Offer.Call != status.Call || s.Offer.Remote != calltest.Caller:
			return "open for another call than the one that is shown"
		case !slices.Contains(w.answered(), s.Offer.Call):
			return "open without an answer"
		case !slices.Equal(p.parties, s.Offer.Parties):
			return "open for others than those who have proven to call"
		}
	}
	switch {
	case len(receiving) > 0 && status.Scene != call.SceneInCall:
		return fmt.Sprintf("something is open while %v is shown", status.Scene)
	case len(receiving) > 0 && !sameParties(receiving, status.Parties):
		return fmt.Sprintf("shown are %v, picture and sound go to %v", status.Parties, receiving)
	}
	w.talked = w.talked || len(receiving) > 0
	w.behind = w.behind || status.Closed
	return ""
}

// sameParties compares two rosters, in which the caller is the first and the others are in any order.
func sameParties(a, b []protocol.Party) bool {
	if len(a) != len(b) || a[0] != b[0] {
		return false
	}
	for _, p := range a {
		if !slices.Contains(b, p) {
			return false
		}
	}
	return true
}

// answered are the calls for which a signed "answered" was sent.
func (w *world) answered() []protocol.CallID {
	var found []protocol.CallID
	for _, m := range w.sender.Sent() {
		if m.Kind != protocol.KindAnswer {
			continue
		}
		a := new(protocol.Answer)
		if protocol.Verify(m.Answer.Answer, &w.clinic.Terminal.PublicKey, a) == nil && a.Decision == protocol.Answered {
			found = append(found, a.Call)
		}
	}
	return found
}

// TestRandomCalls plays random sequences of calls, honest and hostile, past an onlooker at the devices: nothing is captured without a proven invitation, an
// answer and an open policy; after the end nothing is open; and those who are shown are those who receive.
func TestRandomCalls(t *testing.T) {
	clinic := calltest.NewClinic(t)
	guests := []*calltest.Guest{calltest.NewGuest(t, "Bo Dahl"), calltest.NewGuest(t, "Kari Nord"), calltest.NewGuest(t, "Ola Vik")}
	talked, joined, behind := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		which := rapid.SliceOfN(rapid.IntRange(0, len(steps)-1), 5, 25).Draw(rt, "steps")
		begin := rapid.IntRange(0, 6).Draw(rt, "begin")
		from := rapid.IntRange(0, len(hostiles())-1).Draw(rt, "from")
		broken := ""
		synctest.Test(t, func(t *testing.T) {
			w := &world{terminal: newTerminal(t), hostile: slices.Concat(hostiles()[from:], hostiles()[:from]), proven: map[protocol.CallID]promise{}, guests: guests, joins: map[protocol.CallID][]join{}, drawn: map[protocol.CallID]bool{}}
			w.media.Conference = true
			w.clinic = clinic
			w.decide = w
			w.start()
			if begin > 0 { // most begin with a call that comes far
				w.policy = policies[begin%2]
				w.honest(time.Minute)
				w.media1(call.MediaConnected)
				w.media1(call.MediaSeen)
				if begin > 2 && begin%2 == 0 { // and some of them with somebody who joins
					w.wait(8 * time.Second)
					w.asks(begin%3, 24*time.Hour, nil)
				}
				if begin == 2 { // and some with a curtain
					w.wait(8 * time.Second)
					w.honestCurtain(true)
				}
			}
			for _, i := range which {
				steps[i].do(w)
				if broken = w.broken(); broken != "" {
					broken = fmt.Sprintf("after %q: %s", steps[i].name, broken)
					break
				}
			}
			if w.talked {
				talked++
			}
			if w.joined {
				joined++
			}
			if w.behind {
				behind++
			}
			_ = w.end()
			for _, s := range w.media.Sessions() {
				if broken == "" && (s.IsOpen(call.Camera) || s.IsOpen(call.Microphone)) {
					broken = "something is open after the end"
				}
			}
		})
		if broken != "" {
			rt.Fatal(broken)
		}
	})
	if talked < 10 || joined < 3 || behind < 3 {
		t.Errorf("%d sequences came to a call, %d to somebody who joined, %d behind a curtain: the test is too weak", talked, joined, behind)
	}
}
