package call_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// fifty homes of one clinic, each with a terminal and with one person who may call it.
const fifty = 50

// TestFiftyByFifty holds what each person proves against each terminal: invitations to the own home, and those of who may call every home, sent to another than they
// name; invitations to another's home; and ends of another's call. Only the diagonal rings and, at last, opens; every other one is refused with its code.
func TestFiftyByFifty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := make([]*terminal, fifty)
		shared := calltest.NewClinic(t)
		for i := range town {
			x := newTerminal(t)
			x.clinic.Authority, x.clinic.Service = shared.Authority, shared.Service
			believed := x.clinic.Believed(t)
			believed.Policy.Home = home(i)
			x.prover = prover(x.clinic, t, func() call.Believed { return believed })
			x.start()
			town[i] = x
		}
		invite := func(by, to int, scope protocol.Scope) *protocol.CallIn {
			d := town[by].clinic.Draft(t, time.Now())
			d.Authorisation.Scope, d.Invitation.Terminal = scope, town[to].clinic.Self
			return d.Message(t)
		}
		refused := func(what string, i, j int, m *protocol.CallIn, want protocol.Code) {
			t.Helper()
			sent := town[j].sender.Sent()
			if last := sent[len(sent)-1]; last.Kind != protocol.KindRefusal || last.Refusal != want || last.Call != m.Call {
				t.Fatalf("%s, %d × %d: %+v, want %s", what, i, j, last, want)
			}
		}
		// What each proves for its own home, at each other's terminal.
		for i := range town {
			own := invite(i, i, protocol.Scope{Homes: []string{home(i)}})
			wide := invite(i, i, protocol.Scope{Groups: []string{calltest.Group}})
			for j, x := range town {
				if i == j {
					continue
				}
				x.deliver(own)
				refused("for another home", i, j, own, protocol.AuthScope)
				x.deliver(wide)
				refused("for another terminal", i, j, wide, protocol.AuthOtherTerminal)
			}
		}
		// What each writes to others' terminals, without the right to them: to three each, since signing costs.
		for i := range town {
			for _, n := range []int{1, fifty / 2, fifty - 1} {
				j := (i + n) % fifty
				x := town[j]
				m := invite(i, j, protocol.Scope{Homes: []string{home(i)}})
				x.deliver(m)
				refused("without the right", i, j, m, protocol.AuthScope)
			}
		}
		for i, x := range town {
			if n := len(x.media.Sessions()); n != 0 || x.store.Saves() != 0 || x.view.Last().Scene != call.SceneReady {
				t.Fatalf("terminal %d: %d sessions, %d things kept, %s is shown", i, n, x.store.Saves(), x.view.Last().Scene)
			}
		}

		calls := make([]*protocol.CallIn, fifty)
		for i, x := range town {
			calls[i] = invite(i, i, protocol.Scope{Homes: []string{home(i)}})
			x.deliver(calls[i])
			x.say(x.session(), call.MediaConnected)
			x.say(x.session(), call.MediaSeen)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		talking := func(what string) {
			t.Helper()
			for i, x := range town {
				if s := x.session(); len(x.media.Sessions()) != 1 || !s.IsOpen(call.Camera) || s.Offer.Call != calls[i].Call || x.view.Last().Scene != call.SceneInCall {
					t.Fatalf("%s: terminal %d has %d sessions, its camera is open: %v, %s is shown", what, i, len(x.media.Sessions()), s.IsOpen(call.Camera), x.view.Last().Scene)
				}
			}
		}
		talking("answered")
		// Each person's end of each other's call: about its own call, and forged to be about the other's.
		for i := range town {
			own := town[i].clinic.HangUp(t, calls[i], protocol.EndCallerHungUp)
			for j, x := range town {
				if i == j {
					continue
				}
				x.deliver(own)
				renamed := *own
				renamed.Call = calls[j].Call
				x.deliver(&renamed)
				x.deliver(x.clinic.HangUpBy(t, calls[j], &protocol.End{
					Version: protocol.Version, Call: calls[j].Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(calls[j].Invite.Invitation),
					By: protocol.SideCaller, Reason: protocol.EndCallerHungUp, At: 1,
				}, town[i].clinic.Caller))
			}
		}
		talking("after others' ends")
		for i, x := range town {
			x.deliver(x.clinic.HangUp(t, calls[i], protocol.EndCallerHungUp))
			if s := x.session(); s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) || x.view.Last().Scene != call.SceneEnded {
				t.Errorf("terminal %d after its own caller's end: %s is shown", i, x.view.Last().Scene)
			}
		}
		for _, x := range town {
			_ = x.end()
		}
	})
}

func home(i int) string { return fmt.Sprintf("home-%02d", i) }
