package calls

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/broker/brokertest"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

// clinic is all of it, over mutual TLS: broker, fleet, calls, store.
type clinic struct {
	*Service
	fleet  *fleet.Fleet
	broker *brokertest.Broker
	homes  homes
	signer signer
	caller *caller
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	b := brokertest.Start(t, quiet)
	s, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "clinic.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	records, err := openRecords(context.Background(), s, &journal{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(context.Background(), fleet.Config{
		Address: func() string { return b.Addr().String() }, ServerName: brokertest.ServerName, Roots: b.Authority.Pool(),
		Certificate: func() (*tls.Certificate, error) { return &b.Clinic.Certificate, nil },
		Store:       s, Audit: &journal{}, Sinks: []fleet.Sink{records}, SignAck: b.Authority.SignAck,
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	c := &clinic{fleet: f, broker: b, homes: homes{}, signer: signer{newKey(t)}}
	c.caller = newCaller(t)
	c.Service = New(Config{
		Records: records, Link: f, Register: c.homes, Authority: c.signer, Authorisations: c.caller, RelyingParty: site, Relay: servers{}, Log: quiet,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, run := range []func(context.Context) error{f.Run, c.Run} {
		group.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); group.Wait() })
	return c
}

// device is a terminal that does as the invitation asks.
type device struct {
	*brokertest.Identity
	t        *testing.T
	client   mqtt.Client
	conn     net.Conn
	lost     chan struct{}
	messages chan *protocol.CallIn
	acks     chan *protocol.Ack
}

func (c *clinic) device(t *testing.T, home string) *device {
	t.Helper()
	d := &device{
		Identity: c.broker.Terminal(t), t: t, lost: make(chan struct{}),
		messages: make(chan *protocol.CallIn, 16), acks: make(chan *protocol.Ack, 16),
	}
	c.homes[home] = register.Home{ID: home, Label: "Home " + home, Terminal: d.Hash, SPKI: d.SPKI}
	gone, err := protocol.Encode(&protocol.Presence{Version: 1, Session: protocol.Nonce{1}, Software: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	o := c.broker.Options(d.Identity).SetBinaryWill(protocol.OutTopic(d.Hash, protocol.OutPresence), gone, 0, true)
	dial := o.CustomOpenConnectionFn
	o.SetCustomOpenConnectionFn(func(u *url.URL, co mqtt.ClientOptions) (net.Conn, error) {
		var err error
		d.conn, err = dial(u, co)
		return d.conn, err
	})
	o.SetConnectionLostHandler(func(mqtt.Client, error) { close(d.lost) })
	d.client = brokertest.MustConnect(t, o)
	brokertest.Wait(t, d.client.Subscribe(protocol.InFilter(d.Hash), 0, func(_ mqtt.Client, m mqtt.Message) {
		in := new(protocol.CallIn)
		if protocol.Decode(m.Payload(), in) == nil {
			d.messages <- in
		} else if ack, err := protocol.VerifyAck(m.Payload(), [][]byte{c.broker.Authority.Service()}, d.Hash); err == nil {
			d.acks <- ack
		}
	}))
	here, err := protocol.Encode(&protocol.Presence{Version: 1, Online: true, Session: protocol.Nonce{1}, Since: 5, Software: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	changes, cancel := c.fleet.Watch()
	defer cancel()
	d.publish(protocol.OutPresence, here)
	for deadline := time.After(brokertest.Patience); !c.fleet.State(d.Hash).Online || !c.fleet.Up(); {
		select {
		case <-changes:
		case <-time.After(100 * time.Millisecond): // the fleet may have connected later than the terminal
			d.publish(protocol.OutPresence, here)
		case <-deadline:
			t.Fatal("the terminal is not seen, or the fleet not connected")
		}
	}
	return d
}

func (d *device) publish(channel string, payload []byte) {
	d.t.Helper()
	brokertest.Wait(d.t, d.client.Publish(protocol.OutTopic(d.Hash, channel), 0, channel == protocol.OutPresence, payload))
}

func (d *device) say(m *protocol.CallOut) {
	d.t.Helper()
	m.Version = protocol.Version
	b, err := protocol.Encode(m)
	if err != nil {
		d.t.Fatal(err)
	}
	d.publish(protocol.OutCall, b)
}

func (d *device) hear(kind string) *protocol.CallIn {
	d.t.Helper()
	select {
	case m := <-d.messages:
		if m.Kind != kind {
			d.t.Fatalf("heard %s, want %s", m.Kind, kind)
		}
		return m
	case <-time.After(brokertest.Patience):
		d.t.Fatalf("no %s came", kind)
		return nil
	}
}

func (d *device) answer(in *protocol.CallIn, decision protocol.Decision) {
	d.t.Helper()
	out := &protocol.CallAnswer{}
	if decision == protocol.Ringing {
		out.SDP = answerSDP
	}
	var err error
	out.Answer, err = protocol.Sign(&protocol.Answer{
		Version: protocol.Version, Call: in.Call, Terminal: d.Hash, Invitation: protocol.HashOf(in.Invite.Invitation),
		Key: protocol.Fingerprint{9}, Answer: protocol.HashOf(answerSDP), Decision: decision, Software: "1.0", At: protocol.At(time.Now()),
	}, d.Key)
	if err != nil {
		d.t.Fatal(err)
	}
	d.say(&protocol.CallOut{Call: in.Call, Kind: protocol.KindAnswer, Answer: out})
}

// report sends an event and waits for its acknowledgement.
func (d *device) report(seq uint64, kind string, body []byte, err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := protocol.Encode(&protocol.Event{Version: 1, Epoch: protocol.Nonce{1}, Seq: seq, At: 5, Kind: kind, Body: body})
	if err != nil {
		d.t.Fatal(err)
	}
	d.publish(protocol.OutEvent, b)
	select {
	case a := <-d.acks:
		if a.Seq != seq {
			d.t.Errorf("acknowledged %d, want %d", a.Seq, seq)
		}
	case <-time.After(brokertest.Patience):
		d.t.Fatal("not acknowledged")
	}
}

func next(t *testing.T, updates <-chan Update, kind Kind, state State) Update {
	t.Helper()
	select {
	case u := <-updates:
		if u.Kind != kind || u.State != state {
			t.Fatalf("update %s in %s (%s), want %s in %s", u.Kind, u.State, u.Code, kind, state)
		}
		return u
	case <-time.After(brokertest.Patience):
		t.Fatalf("no update, want %s in %s", kind, state)
		return Update{}
	}
}

// ring brings a call to where both talk.
func (c *clinic) ring(t *testing.T, d *device, home string) (Started, <-chan Update, []byte) {
	t.Helper()
	updates, cancel := c.Subscribe(person, home, 0)
	t.Cleanup(cancel)
	r, _ := c.caller.request(t, d.Hash, func(w *wish) { w.home, w.page = home, home })
	s, err := c.Start(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	in := d.hear(protocol.KindInvite)
	d.answer(in, protocol.Ringing)
	if u := next(t, updates, KindAnswer, Ringing); u.SDP != answerSDP {
		t.Errorf("update %+v", u)
	}
	d.answer(in, protocol.Answered)
	next(t, updates, KindAnswer, Talking)
	return s, updates, in.Invite.Invitation
}

// A call through everything there is on the clinic's side, and what remains of it.
func TestWholeCall(t *testing.T) {
	c := newClinic(t)
	d := c.device(t, "17")
	s, updates, invitation := c.ring(t, d, "17")
	ctx := context.Background()
	if err := c.Candidates(ctx, person, s.Call, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	d.hear(protocol.KindCandidates)
	if err := c.HangUp(ctx, person, s.Call, protocol.EndCallerHungUp, nil); err != nil {
		t.Fatal(err)
	}
	var told protocol.End
	if err := protocol.Verify(d.hear(protocol.KindHangUp).HangUp.End, &c.signer.key.PublicKey, &told); err != nil || told.Reason != protocol.EndCallerHungUp {
		t.Errorf("told %+v, %v", told, err)
	}
	signed, err := protocol.Sign(&protocol.End{
		Version: 1, Call: s.Call, Terminal: d.Hash, Invitation: protocol.HashOf(invitation), By: protocol.SideTerminal,
		Reason: protocol.EndCallerHungUp, CameraClosed: 7, MicrophoneClosed: 7, At: protocol.At(time.Now()),
	}, d.Key)
	if err != nil {
		t.Fatal(err)
	}
	d.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: signed}})
	if u := next(t, updates, KindEnd, Ended); u.Code != protocol.EndCallerHungUp || string(u.End) != string(signed) {
		t.Errorf("update %+v", u)
	}
	body, err := protocol.Encode(&protocol.EndReceipt{Version: 1, Call: s.Call, End: signed})
	d.report(1, protocol.EventEnd, body, err)
	body, err = protocol.Encode(&protocol.CallRecord{
		Version: 1, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.EndCallerHungUp, Camera: "v4l2", Sound: "alsa",
	})
	d.report(2, protocol.EventCall, body, err)
	rec, err := c.Record(ctx, person, s.Call)
	if err != nil || rec.TerminalHalf == nil || rec.TerminalHalf.Camera != "v4l2" || string(rec.TerminalEnd) != string(signed) || rec.Outcome != protocol.EndCallerHungUp {
		t.Errorf("record %+v, %v", rec, err)
	}
}

// A terminal is killed in a call: the page learns it within ten seconds, with the reason.
func TestTerminalKilled(t *testing.T) {
	c := newClinic(t)
	d := c.device(t, "17")
	_, updates, _ := c.ring(t, d, "17")
	limit := time.After(10 * time.Second) // the promise
	if err := d.conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case u := <-updates:
		if u.Kind != KindEnd || u.Code != protocol.SignalLostTerminal {
			t.Errorf("update %+v", u)
		}
	case <-limit:
		t.Error("the page knows nothing after 10 s")
	}
	<-d.lost
}

// A terminal that is revoked in a call is out of it, and of the clinic, at once.
func TestRevokedInCall(t *testing.T) {
	c := newClinic(t)
	d := c.device(t, "17")
	_, updates, _ := c.ring(t, d, "17")
	c.Revoke(d.Hash)
	c.broker.Revoke(d.Hash)
	d.hear(protocol.KindHangUp) // before it was cut off
	if u := next(t, updates, KindEnd, Ended); u.Code != protocol.EndCutOff {
		t.Errorf("update %+v", u)
	}
	select {
	case <-d.lost:
	case <-time.After(5 * time.Second): // the promise
		t.Error("still connected after 5 s")
	}
}
