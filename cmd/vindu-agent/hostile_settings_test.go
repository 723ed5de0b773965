package main

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/device/screen"
	"vindu/protocol"
)

const (
	nothingChanges   = "nothing: the one before holds"
	nothingForgotten = "nothing: the terminal keeps it, and tells it again"
)

// settings is a case in which the terminal fetches settings that the clinic has not made.
func settings(change func(x *bench, s *protocol.Settings)) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		check, before := x.untouched(), x.notices(h.code, protocol.CallID{})
		x.c.tap(taps{settings: func(s *protocol.Settings) { change(x, s) }})
		x.restart()
		x.told(h.code, protocol.CallID{}, before)
		check()
	}
}

func againstSettings() []hostility {
	// next is the policy of the terminal, one serial number on.
	next := func(x *bench, signed []byte) *protocol.Policy {
		key, err := protocol.ParseKey(x.c.offline.Authorities()[0])
		x.c.check(err)
		p := new(protocol.Policy)
		x.c.check(protocol.Verify(signed, key, p))
		p.Serial++
		return p
	}
	nextTrust := func(x *bench) *protocol.Trust {
		_, held := x.c.offline.Trust()
		t := *held
		t.Serial++
		t.Authorities = [][]byte{spki(x.key)}
		return &t
	}
	return []hostility{
		{has: server, does: "brings the policy before the last one", refuses: theTerminal, code: protocol.AuthPolicy, says: nothingChanges, run: settings(func(x *bench, s *protocol.Settings) { s.Policy = x.c.oldPolicy })},
		{has: server, does: "signs a policy by a key of his own", refuses: theTerminal, code: protocol.AuthPolicy, says: nothingChanges, run: settings(func(x *bench, s *protocol.Settings) {
			signed, err := protocol.Sign(next(x, s.Policy), x.key)
			x.c.check(err)
			s.Policy = signed
		})},
		{has: server, does: "brings the policy of another home's terminal", refuses: theTerminal, code: protocol.AuthPolicy, says: nothingChanges, run: settings(func(x *bench, s *protocol.Settings) {
			p := next(x, s.Policy)
			p.Terminal[0] ^= 1
			signed, err := x.c.offline.SignPolicy(p)
			x.c.check(err)
			s.Policy = signed
		})},
		{has: server, does: "names his own authorisation key and signs a trust by it", refuses: theTerminal, code: protocol.AuthTrust, says: nothingChanges, run: settings(func(x *bench, s *protocol.Settings) {
			signed, err := protocol.Sign(nextTrust(x), x.key)
			x.c.check(err)
			s.Trust, s.Authorities = signed, [][]byte{spki(x.key)}
		})},
		{has: server, does: "brings the trust before the last one", refuses: theTerminal, code: protocol.AuthTrust, says: nothingChanges, run: settings(func(x *bench, s *protocol.Settings) { s.Trust = x.c.old })},
		{has: server, does: "orders the terminal to destroy itself, by a key of his own", refuses: theTerminal, code: protocol.AuthOrder, says: nothingChanges, run: func(x *bench, h hostility) {
			x.t.Helper()
			check, before := x.untouched(), x.notices(h.code, protocol.CallID{})
			now := time.Now()
			signed, err := protocol.Sign(&protocol.Decommission{
				Version: protocol.Version, Terminal: x.c.home.Terminal, Nonce: protocol.NewNonce(), Issued: protocol.At(now), Expires: protocol.At(now.Add(time.Hour)),
			}, x.key)
			x.c.check(err)
			x.c.check(x.c.fleet.Order(x.t.Context(), x.c.home.Terminal, signed))
			x.told(h.code, protocol.CallID{}, before)
			check()
		}},
		{has: theBroker, does: "swallows what the terminal tells, and acknowledges it himself", refuses: theTerminal, code: protocol.AuthAck, says: nothingForgotten, run: (*bench).swallowed},
		{has: server, does: "answers the terminal's connection by TLS 1.2 with the server's own certificate", refuses: theTerminal, code: protocol.LinkUnreachable, says: "that the home is offline", run: (*bench).oldTLS},
	}
}

// swallowed is a broker that passes nothing of what the terminal tells on, and acknowledges it by all that he has: his own key, and what the clinic's server has
// signed for others and before.
func (x *bench) swallowed(h hostility) {
	x.t.Helper()
	check, before, kept := x.untouched(), x.notices(h.code, protocol.CallID{}), x.notices(protocol.AuthReplayed, x.spent.Call)
	terminal := x.c.home.Terminal
	own, err := x.c.offline.Client().Certificate()
	x.c.check(err)
	name, err := protocol.HashKey(own.PrivateKey.(crypto.Signer).Public())
	x.c.check(err)
	events := make(chan *protocol.Event, 64)
	options := mqtt.NewClientOptions().AddBroker("tls://" + x.c.broker.Addr().String()).SetClientID(name.Name()).SetAutoReconnect(false).SetTLSConfig(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: x.c.offline.Pool(), ServerName: terminalsName, Certificates: []tls.Certificate{*own},
	})
	client := mqtt.NewClient(options)
	done := func(token mqtt.Token) {
		x.t.Helper()
		if !token.WaitTimeout(time.Minute) || token.Error() != nil {
			x.t.Fatal("the attacker's connection: ", token.Error())
		}
	}
	done(client.Connect())
	defer client.Disconnect(250)
	done(client.Subscribe(protocol.AllOut, 0, func(_ mqtt.Client, m mqtt.Message) {
		e := new(protocol.Event)
		if m.Topic() == protocol.OutTopic(terminal, protocol.OutEvent) && protocol.Decode(m.Payload(), e) == nil {
			select {
			case events <- e:
			default:
			}
		}
	}))
	x.c.tap(taps{swallow: true})
	defer x.c.tap(taps{})
	x.c.send(copyOf(x.spent))
	var e *protocol.Event
	select {
	case e = <-events:
	case <-time.After(time.Minute):
		x.t.Fatal("the terminal tells nothing")
	}
	for _, ack := range []*protocol.Ack{
		{Version: protocol.Version, Terminal: terminal, Epoch: e.Epoch, Seq: e.Seq},
		{Version: protocol.Version, Terminal: terminal, Epoch: e.Epoch, Seq: e.Seq + 1000},
	} {
		signed, err := protocol.Sign(ack, x.key)
		x.c.check(err)
		plain, err := protocol.Encode(ack)
		x.c.check(err)
		done(client.Publish(protocol.InTopic(terminal, protocol.InAck), 0, false, signed))
		done(client.Publish(protocol.InTopic(terminal, protocol.InAck), 0, false, plain))
	}
	foreign := protocol.Ack{Version: protocol.Version, Terminal: protocol.KeyHash{1}, Epoch: e.Epoch, Seq: e.Seq}
	signed, err := x.c.offline.SignAck(&foreign)
	x.c.check(err)
	done(client.Publish(protocol.InTopic(terminal, protocol.InAck), 0, false, signed))
	// It comes again, though nobody at the clinic has it: nothing was forgotten.
	for again := (*protocol.Event)(nil); again == nil || again.Seq != e.Seq; {
		select {
		case again = <-events:
		case <-time.After(time.Minute):
			x.t.Fatal("what was acknowledged by somebody else was forgotten")
		}
	}
	if n := x.notices(protocol.AuthReplayed, x.spent.Call); n != kept {
		x.t.Error("it was not swallowed: the case shows nothing")
	}
	x.c.tap(taps{})
	x.c.await("what was swallowed", func() bool { return x.notices(protocol.AuthReplayed, x.spent.Call) > kept })
	x.told(h.code, protocol.CallID{}, before)
	check()
}

// oldTLS is a door that knows no better, or pretends to. There is nobody to tell until it is gone.
func (x *bench) oldTLS(h hostility) {
	x.t.Helper()
	check := x.untouched()
	x.c.cables.answerOld(true)
	select {
	case err := <-x.c.cables.wrong:
		if err == nil {
			x.t.Error("the terminal speaks TLS 1.2")
		}
	case <-time.After(time.Minute):
		x.t.Fatal("the terminal does not come back: the case shows nothing")
	}
	x.c.await("a terminal that says why", func() bool {
		s := x.terminal.shows()
		return s.Kind == screen.Ready && s.Offline && slices.Contains(s.Faults, h.code)
	})
	x.page.until(fmt.Sprintf(`document.querySelector("[data-home='%s']").dataset.state === "offline"`, x.c.home.ID))
	x.c.cables.answerOld(false)
	x.online()
	check()
}
