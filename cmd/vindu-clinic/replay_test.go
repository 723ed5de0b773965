package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/device/acceptance"
	"vindu/device/call/calltest"
	"vindu/device/identity"
	"vindu/protocol"
)

// messages is how many recorded ones are sent again, at least.
const messages = 10_000

// TestReplay records all that two homes' terminals and their pages say to the clinic and are told by it, of every kind that the protocol has; and sends ten
// thousand of it again, to terminals by somebody who has the broker and to the clinic by terminals themselves and by others. None of it is accepted.
func TestReplay(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	if err := c.grants.SetPolicy(t.Context(), "test", "", grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}}); err != nil {
		t.Fatal(err)
	}
	x := &replay{T: t, s: s, c: c}
	x.record()
	seen := kinds{}
	for _, r := range slices.Concat(x.all, x.kept.kept) {
		seen.see(t, r)
	}
	seen.cover(t)
	if t.Failed() {
		return
	}
	t.Logf("%d messages were recorded, %d of pages", len(x.all), len(x.kept.kept))
	x.resend()
	if x.sent < messages {
		t.Errorf("%d messages were sent again", x.sent)
	}
}

// replay is one clinic with its homes and what was recorded there.
type replay struct {
	*testing.T
	s        *serving
	c        *clinic
	one      *home // that is called
	other    *home // that never is
	gone     *home // that replaced its key, and is taken out of use
	page     *caller
	kept     *keeper
	stranger *caller // who may call the other home
	all      []recorded
	sent     int
}

// record has every kind of message sent.
func (x *replay) record() {
	t := x.T
	x.one, x.other, x.gone = newHome(t, x.s, x.c, "Home 17"), newHome(t, x.s, x.c, "Home 18"), newHome(t, x.s, x.c, "Home 19")
	// All replace their keys, as soon as they start.
	x.s.orderKeys(t)
	for _, h := range []*home{x.one, x.other, x.gone} {
		before := x.keyOf(h)
		h.start()
		until(t, "another key of "+h.label, func() bool { now := x.keyOf(h); return now != before && x.heardFrom(h, now) })
	}
	key := x.keyOf(x.one)
	terminal, err := x.c.register.ByTerminal(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	x.page = signIn(t, x.s, x.c, terminal.Home)
	x.kept = &keeper{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
	x.page.Client = &http.Client{Jar: x.page.Jar, Transport: x.kept}
	t.Cleanup(x.kept.RoundTripper.(*http.Transport).CloseIdleConnections)
	x.stranger = signInAs(t, x.s, x.c, x.homeOf(x.other.label), "Ola Vik")
	x.one.call(x.page, terminal.Home, key)

	// The home is told of the next one: its settings have that from here on.
	person, err := x.c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Fjordbyen kommune"}, register.Clinician)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.c.register.Announce(t.Context(), terminal.Home, person.ID, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}

	// A call by the robot, that the terminal has asked for.
	checks, err := x.one.agent.Check(t.Context(), technician{protocol.NewNonce()}, acceptance.Wanted{Names: []string{"call.robot"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(checks) != 1 || checks[0].Code == protocol.AuthUnproven {
		t.Fatal(checks)
	}
	// What it refuses: an invitation to another terminal.
	x.attack(func(thief mqtt.Client) {
		for _, r := range x.one.tap.recordings() {
			if m := new(protocol.CallIn); strings.HasSuffix(r.topic, "/in/call") && protocol.Decode(r.payload, m) == nil && m.Invite != nil {
				x.publish(thief, r.topic, r.payload)
			}
		}
		for _, kind := range []string{protocol.CommandReport, protocol.CommandRenew, protocol.CommandSettings, protocol.CommandRehearse} {
			b, err := protocol.Encode(&protocol.Command{Version: protocol.Version, Kind: kind})
			if err != nil {
				t.Fatal(err)
			}
			x.publish(thief, protocol.InTopic(key, protocol.InCommand), b)
		}
		until(t, "refused", func() bool { return x.heard(x.one, "CallOut refusal") && x.heard(x.one, "Event notice") })
	})
	x.handOver(key)
	x.reports(key)

	// One is taken out of use.
	must(t, "decommission", "-dir", x.s.dir, "-home", "Home 19", "-reason", "the loan is over")
	x.gone.see("that it is to be returned", goesBack)
	until(t, "destroyed", func() bool {
		home, err := x.c.register.Home(t.Context(), x.homeOf(x.gone.label))
		return err == nil && home.Terminal == protocol.KeyHash{} && len(keeps(t, x.gone.folder)) == 0
	})
	x.gone.stop()

	// Another policy and another trust come, so that those from before are old.
	must(t, "roll-over", "-dir", x.s.dir)
	must(t, "policy", "set", "-dir", x.s.dir, "-home", "Home 17", write(t, "volume = 20\n"))
	x.one.stop()
	x.one.with(func(id *identity.Identity) {
		trust, policy := id.Trust().Serial, id.Policy().Serial
		eventually(t, "followed", func() bool { follow(t, id); return id.Trust().Serial > trust && id.Policy().Serial > policy })
	})
	x.one.start()
	until(t, "all told", func() bool {
		return x.heard(x.one, "Event call") && x.heard(x.one, "Event end") && x.heard(x.one, "Event opening")
	})
	x.settled(x.keyOf(x.one))
	x.settled(x.keyOf(x.other))
	for _, h := range []*home{x.one, x.other, x.gone} {
		x.all = append(x.all, h.tap.enough()...)
	}
}

func (x *replay) homeOf(label string) string {
	homes, err := x.c.register.Homes(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	i := slices.IndexFunc(homes, func(h register.Home) bool { return h.Label == label })
	return homes[i].ID
}

func (x *replay) heard(h *home, kind string) bool {
	k := kinds{}
	for _, r := range h.tap.recordings() {
		k.see(x.T, r)
	}
	return k[kind] > 0
}

// heardFrom tells whether a terminal has said by a key that it is there.
func (x *replay) heardFrom(h *home, key protocol.KeyHash) bool {
	return slices.ContainsFunc(h.tap.recordings(), func(r recorded) bool { return r.topic == protocol.OutTopic(key, protocol.OutHealth) })
}

// handOver has the first terminal's record of its hand-over sent, as after a technician's session.
func (x *replay) handOver(key protocol.KeyHash) {
	t := x.T
	laptop := calltest.NewKey(t)
	text, _, err := x.c.setup.IssueMandate(t.Context(), "test", technician{}.Technician(), calltest.SPKI(t, laptop), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	mandate, _, err := protocol.ParseMandate(text)
	if err != nil {
		t.Fatal(err)
	}
	h := &protocol.HandOver{
		Version: protocol.Version, ID: protocol.NewNonce(), Terminal: key, Organisation: "Fjordbyen kommune", Home: "Home 17", Technician: technician{}.Technician(),
		Software: "test", KeyGrade: identity.GradeFile, At: protocol.At(time.Now()),
	}
	for _, name := range protocol.CheckNames() {
		h.Checks = append(h.Checks, protocol.Check{Name: name, State: protocol.CheckPassed})
	}
	e := &protocol.HandOverEvent{Version: protocol.Version, Authorisation: mandate}
	e.Terminal, err = protocol.Sign(h, x.one.keys.all[key])
	if err == nil {
		e.Technician, err = protocol.Sign(h, laptop)
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := protocol.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	event, err := protocol.Encode(&protocol.Event{
		Version: protocol.Version, Epoch: protocol.NewNonce(), Seq: 1, At: protocol.At(time.Now()), Kind: protocol.EventHandOver, Body: body,
	})
	if err != nil {
		t.Fatal(err)
	}
	x.one.stop()
	x.as(x.one, key, func(c mqtt.Client) {
		topic := protocol.OutTopic(key, protocol.OutEvent)
		x.publish(c, topic, event)
		x.one.tap.keep(recorded{topic: topic, payload: event})
		until(t, "handed over", func() bool {
			list, err := x.c.setup.HandOvers(t.Context(), key, 10)
			return err == nil && len(list) == 1 && list[0].Flaw == ""
		})
	})
	x.one.start()
}

// reports has the first terminal tell of something that is wrong with it, over MQTT and by https, as when it does not reach the broker.
func (x *replay) reports(key protocol.KeyHash) {
	t := x.T
	now := protocol.At(time.Now())
	body, err := protocol.Encode(&protocol.ConditionChange{Version: protocol.Version, Code: protocol.HeatHot, Since: now, Figure: "81 °C"})
	if err != nil {
		t.Fatal(err)
	}
	event := protocol.Event{Version: protocol.Version, Epoch: protocol.NewNonce(), Seq: 1, At: now, Kind: protocol.EventCondition, Body: body}
	published, err := protocol.Encode(&event)
	if err != nil {
		t.Fatal(err)
	}
	// A call for which no path was found has what no call of this test has.
	relayed := protocol.PathEnd{Kind: "relay", Network: "v4.public", Transport: "tls"}
	body, err = protocol.Encode(&protocol.CallRecord{
		Version: protocol.Version, Call: protocol.NewCallID(), By: protocol.SideTerminal, Began: now, Outcome: protocol.ICEFailed,
		Pairs: []protocol.Pair{{Local: relayed, Remote: relayed, State: "failed"}}, Gather: []protocol.GatherError{{Way: "tls", Code: 701}},
		Series: &protocol.Series{Every: 1, RTT: []uint64{1}, Loss: []uint64{1}, Jitter: []uint64{1}, Out: []uint64{1}, In: []uint64{1}, Frames: []uint64{1},
			Frozen: []uint64{1}, Concealed: []uint64{1}, Grade: []uint64{441}, ERLE: []uint64{1}, CPU: []uint64{1}, Heat: []uint64{1}},
		Quality: protocol.Quality{RTT: 1, Jitter: 1, PacketsLost: 1, PacketsReceived: 1, FramesSent: 1, FramesDecoded: 1, Freezes: 1, Concealed: 1, BytesSent: 1, BytesReceived: 1,
			Frozen: 1, Grade: 441, Worst: 430, ERLE: 1, CPU: 1, Heat: 1, CodecOut: "VP8", CodecIn: "VP8"},
	})
	if err != nil {
		t.Fatal(err)
	}
	unfound, err := protocol.Encode(&protocol.Event{Version: protocol.Version, Epoch: event.Epoch, Seq: 2, At: now, Kind: protocol.EventCall, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	body, err = protocol.Encode(&protocol.Rehearsal{Version: protocol.Version, At: now, Parts: []protocol.RehearsalPart{
		{Name: "call.direct", At: now, State: protocol.CheckFailed, Code: protocol.ICEFailed}, {Name: "call.relayed", At: now, State: protocol.CheckPassed, Took: 1, Loss: 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rehearsed, err := protocol.Encode(&protocol.Event{Version: protocol.Version, Epoch: event.Epoch, Seq: 3, At: now, Kind: protocol.EventRehearsal, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	event.Seq = 4
	reported, err := protocol.Encode(&protocol.Report{Version: protocol.Version, Events: []protocol.Event{event}})
	if err != nil {
		t.Fatal(err)
	}
	x.one.stop()
	x.as(x.one, key, func(c mqtt.Client) {
		topic := protocol.OutTopic(key, protocol.OutEvent)
		for _, payload := range [][]byte{published, unfound, rehearsed} {
			x.publish(c, topic, payload)
			x.one.tap.keep(recorded{topic: topic, payload: payload})
		}
	})
	x.one.with(func(id *identity.Identity) {
		own := tls.Certificate{PrivateKey: id.Signer()}
		for _, c := range id.Grant().Chain {
			own.Certificate = append(own.Certificate, c.Raw)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: x.c.authority.Pool(), ServerName: x.c.config.Terminals.Name, Certificates: []tls.Certificate{own},
		}}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Post("https://"+x.one.tap.Addr().String()+protocol.PathReport, "", bytes.NewReader(reported))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("report: %s", response.Status)
		}
	})
	x.one.start()
}

// attack is somebody who has the broker: a client with the right of the clinic's own.
func (x *replay) attack(f func(mqtt.Client)) {
	x.Helper()
	own, err := x.c.authority.Client().Certificate()
	if err != nil {
		x.Fatal(err)
	}
	x.connect(*own, nil, f)
}

// as is whoever holds a terminal's key and certificate.
func (x *replay) as(h *home, key protocol.KeyHash, f func(mqtt.Client)) {
	x.Helper()
	var own tls.Certificate
	h.with(func(id *identity.Identity) {
		own = tls.Certificate{PrivateKey: id.Signer()}
		for _, c := range id.Grant().Chain {
			own.Certificate = append(own.Certificate, c.Raw)
		}
	})
	x.connect(own, nil, f)
}

func (x *replay) connect(own tls.Certificate, subscribe map[string]mqtt.MessageHandler, f func(mqtt.Client)) {
	x.Helper()
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		x.Fatal(err)
	}
	o := mqtt.NewClientOptions().AddBroker("tls://" + x.s.front()).SetClientID(protocol.HashSPKI(leaf.RawSubjectPublicKeyInfo).Name()).SetAutoReconnect(false).
		SetConnectTimeout(20 * time.Second).SetTLSConfig(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: x.c.authority.Pool(), ServerName: x.c.config.Terminals.Name, Certificates: []tls.Certificate{own},
		NextProtos: []string{protocol.ALPNMQTT},
	})
	client := mqtt.NewClient(o)
	if token := client.Connect(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		x.Fatalf("connect: %v", token.Error())
	}
	defer client.Disconnect(100)
	for filter, handler := range subscribe {
		if token := client.Subscribe(filter, 0, handler); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
			x.Fatalf("subscribe: %v", token.Error())
		}
	}
	f(client)
}

func (x *replay) publish(c mqtt.Client, topic string, payload []byte) {
	x.Helper()
	if token := c.Publish(topic, 0, false, payload); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		x.Fatalf("publish on %s: %v", topic, token.Error())
	}
}
