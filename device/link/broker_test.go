package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/protocol"
)

// The tests here run against a real broker, embedded NATS with MQTT over mutual TLS, through a line that can be cut.

func TestRealBroker(t *testing.T) {
	c := connect(t, nil)
	first := c.hearPresence()
	if !first.Online || first.Software != "test" {
		t.Errorf("presence %+v", first)
	}
	if err := c.SetHealth(health(t, 7)); err != nil {
		t.Fatal(err)
	}
	var h protocol.Health
	if err := protocol.Decode(c.hear(protocol.OutHealth).payload, &h); err != nil || h.Uptime != 7 {
		t.Errorf("health %+v, %v", h, err)
	}
	if err := c.PublishCall(t.Context(), candidate()); err != nil {
		t.Error(err)
	}
	c.hear(protocol.OutCall)
	for i := range byte(50) {
		c.say(protocol.InCall, encoded(t, hangUp(i+1)))
	}
	for i := range byte(50) {
		if m := get(t, c.calls); m.Call[0] != i+1 {
			t.Fatalf("call message %d came as number %d", m.Call[0], i+1)
		}
	}
	c.say(protocol.InCommand, encoded(t, &protocol.Command{Version: 1, Kind: protocol.CommandReport}))
	if m := get(t, c.commands); m.Kind != protocol.CommandReport {
		t.Errorf("command %+v", m)
	}

	// A connection that breaks: the will clears presence, the link comes back by itself with another session and the last health.
	c.line.cut(false)
	var gone, again protocol.Presence
	for gone = c.hearPresence(); gone.Online; gone = c.hearPresence() {
		if gone.Session == first.Session { // said once more when a report was asked for
			continue
		}
		again = gone // the broker may take the new connection in before it publishes the will of the old one
	}
	if gone.Session != first.Session {
		t.Errorf("the will is of session %x, the connection was %x", gone.Session, first.Session)
	}
	for !again.Online {
		again = c.hearPresence()
	}
	if again.Session == first.Session {
		t.Error("the session did not change")
	}
	c.stop()
	var last protocol.Presence
	for last = c.hearPresence(); last.Online; last = c.hearPresence() {
	}
	if last.Session != again.Session {
		t.Errorf("goodbye is of session %x, the connection was %x", last.Session, again.Session)
	}
	if c.Up() {
		t.Error("up after the end")
	}
}

// TestBadMessages: what the clinic says wrongly is refused and counted, and the connection survives.
func TestBadMessages(t *testing.T) {
	c := connect(t, nil)
	c.hearPresence()
	bad := []struct {
		name, channel string
		payload       []byte
	}{
		{"empty", protocol.InCall, nil},
		{"noise", protocol.InCall, []byte("hello")},
		{"as large as may be", protocol.InCall, make([]byte, protocol.MaxMessage)},
		{"too large", protocol.InCall, make([]byte, protocol.MaxMessage+1)},
		{"far too large", protocol.InCall, make([]byte, 900<<10)},
		{"ack that is none", protocol.InAck, []byte{0xa0}},
		{"unknown command", protocol.InCommand, []byte{0xa2, 1, 1, 2, 0x64, 'b', 'o', 'o', 'm'}},
		{"unknown channel", "gossip", []byte{1}},
		{"command as a call", protocol.InCall, encoded(t, &protocol.Command{Version: 1, Kind: protocol.CommandReport})},
		{"ack that nobody has signed", protocol.InAck, []byte{0xa3, 1, 1, 2, 0x50, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 3, 1}},
		{"another version", protocol.InCommand, []byte{0xa2, 1, 2, 2, 0x66, 'r', 'e', 'p', 'o', 'r', 't'}},
	}
	for _, b := range bad {
		c.say(b.channel, b.payload)
	}
	c.say(protocol.InCall, encoded(t, hangUp(9)))
	if m := get(t, c.calls); m.Call[0] != 9 {
		t.Errorf("got %+v", m)
	}
	if n := c.Counters(); n.Malformed != uint64(len(bad)) || n.Connections != 1 || n.Overrun != 0 {
		t.Errorf("counted %+v, want %d malformed on one connection", n, len(bad))
	}
	if len(c.calls) != 0 || len(c.commands) != 0 {
		t.Errorf("%d calls and %d commands came through", len(c.calls), len(c.commands))
	}
}

// TestOverrun: a handler that does not keep up costs messages, which are counted, and nothing else.
func TestOverrun(t *testing.T) {
	release := make(chan struct{})
	var handled atomic.Int64
	c := connect(t, func(_ *link.Config, h *link.Handlers) {
		h.Call = func(*protocol.CallIn) {
			<-release
			handled.Add(1)
		}
	})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	c.hearPresence()
	const said = 500
	for i := range said {
		c.say(protocol.InCall, encoded(t, hangUp(byte(i%200)+1)))
	}
	c.say(protocol.InCommand, encoded(t, &protocol.Command{Version: 1, Kind: protocol.CommandReport}))
	get(t, c.commands)
	if n := c.Counters(); n.Overrun < said-100 || n.Overrun > said-64 || n.Connections != 1 || n.Malformed != 0 {
		t.Errorf("counted %+v", n)
	}
	if err := c.PublishCall(t.Context(), candidate()); err != nil {
		t.Error(err)
	}
	for range said { // let go of all that were not dropped
		select {
		case release <- struct{}{}:
		case <-time.After(10 * time.Millisecond):
		}
		if uint64(handled.Load())+c.Counters().Overrun == said {
			return
		}
	}
	t.Errorf("%d handled, %+v", handled.Load(), c.Counters())
}

// TestNothingLostNothingDoubled sends events over a line that is cut at random, to a clinic that loses
// acknowledgements and hears some messages twice. In the end it has committed each event once, in order.
func TestNothingLostNothingDoubled(t *testing.T) {
	c := connect(t, func(cfg *link.Config, _ *link.Handlers) { cfg.Resend = 20 * time.Millisecond })
	const events = 60
	random := rand.New(rand.NewPCG(1, 2))
	type id struct {
		epoch protocol.Nonce
		seq   uint64
	}
	committed := map[id]protocol.Time{}
	var order []protocol.Time
	var again int
	go func() {
		for i := range events {
			b, err := protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.AuthReplayed, At: protocol.Time(i + 1)})
			if err != nil {
				t.Error(err)
			}
			if err := c.outbox.Append(protocol.EventNotice, b); err != nil {
				t.Error(err)
			}
		}
	}()
	for c.outbox.Status().Pending > 0 || len(order) < events {
		var e protocol.Event
		if err := protocol.Decode(c.hear(protocol.OutEvent).payload, &e); err != nil {
			t.Fatal(err)
		}
		body, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		at := body.(*protocol.Notice).At
		if had, seen := committed[id{e.Epoch, e.Seq}]; seen {
			again++
			if had != at {
				t.Fatalf("event %d changed", e.Seq)
			}
		} else {
			committed[id{e.Epoch, e.Seq}] = at
			order = append(order, at)
		}
		switch random.IntN(6) {
		case 0: // the acknowledgement is lost
			continue
		case 1:
			c.line.cut(false)
			continue
		case 2: // it comes twice
			c.say(protocol.InAck, c.ack(e.Epoch, e.Seq))
		}
		c.say(protocol.InAck, c.ack(e.Epoch, e.Seq))
		if e.Seq == events {
			for give := time.After(soon); c.outbox.Status().Pending > 0; {
				select {
				case m := <-c.heard: // sent again because the acknowledgement was lost with the connection
					if m.channel == protocol.OutEvent {
						c.say(protocol.InAck, c.ack(e.Epoch, e.Seq))
					}
				case <-time.After(10 * time.Millisecond):
				case <-give:
					t.Fatal("the last event stays in the outbox")
				}
			}
		}
	}
	for i, at := range order {
		if at != protocol.Time(i+1) {
			t.Fatalf("event %d was committed as number %d", at, i+1)
		}
	}
	if n := c.Counters(); len(committed) != events || again == 0 || n.Connections < 3 {
		t.Errorf("%d events, %d came again, %+v", len(committed), again, n)
	}
	t.Logf("%d came again, %d connections", again, c.Counters().Connections)
}

// TestForgedAcks: the outbox forgets nothing unless the clinic's server has signed that it has it, for this terminal; and whoever says so in its name is noticed.
func TestForgedAcks(t *testing.T) {
	refused := make(chan error, 100)
	var turned atomic.Bool // the clinic's server to another key, and the terminal's trust with it
	var now atomic.Pointer[identitytest.Clinic]
	c := connect(t, func(cfg *link.Config, _ *link.Handlers) {
		known := cfg.Service
		cfg.Service = func() [][]byte {
			if turned.Load() {
				return now.Load().Services()
			}
			return known()
		}
		cfg.Refused = func(err error) { refused <- err }
	})
	c.hearPresence()
	for at := range protocol.Time(2) {
		if err := c.outbox.Append(protocol.EventNotice, encoded(t, &protocol.Notice{Version: 1, Code: protocol.PowerRestarted, At: at + 1})); err != nil {
			t.Fatal(err)
		}
	}
	var e protocol.Event
	if err := protocol.Decode(c.hear(protocol.OutEvent).payload, &e); err != nil {
		t.Fatal(err)
	}
	thief := *c.clinic
	thief.Service = c.clinic.Authority
	own, foreign := c.terminal.Key(), c.clinic.Enrolled("x").Key()
	unsigned, err := protocol.Encode(&protocol.Ack{Version: 1, Terminal: own, Epoch: e.Epoch, Seq: e.Seq})
	if err != nil {
		t.Fatal(err)
	}
	clock, err := protocol.Sign(&protocol.Clock{Version: 1, Nonce: e.Epoch, At: protocol.Time(e.Seq)}, c.clinic.Service)
	if err != nil {
		t.Fatal(err)
	}
	good := c.ack(e.Epoch, e.Seq)
	spoilt := slices.Clone(good)
	spoilt[len(spoilt)-1] ^= 1
	forged := []struct {
		name string
		ack  []byte
		as   error
	}{
		{"not signed", unsigned, protocol.ErrMalformed},
		{"signed by another key, even if that is the authorisation key", thief.Ack(own, e.Epoch, e.Seq), protocol.ErrSignature},
		{"signature spoilt", spoilt, protocol.ErrSignature},
		{"another statement of the server's", clock, protocol.ErrKind},
		{"another terminal's", c.clinic.Ack(foreign, e.Epoch, e.Seq), nil},
		{"of what was never sent", c.ack(e.Epoch, e.Seq+50), outbox.ErrNeverSent},
		{"of all there could ever be", c.ack(e.Epoch, math.MaxUint64), outbox.ErrNeverSent},
		{"empty", nil, protocol.ErrMalformed},
	}
	for _, f := range forged {
		c.say(protocol.InAck, f.ack)
		if err := get(t, refused); protocol.CodeOf(err) != protocol.AuthAck || f.as != nil && !errors.Is(err, f.as) {
			t.Errorf("%s: %v", f.name, err)
		}
		if n := c.outbox.Status().Pending; n != 2 {
			t.Fatalf("%s: %d events are left", f.name, n)
		}
	}
	// Of what waits in the outbox, and of another epoch, an acknowledgement means nothing.
	c.say(protocol.InAck, c.ack(e.Epoch, e.Seq+1))
	c.say(protocol.InAck, c.ack(protocol.Nonce{9}, 1))
	c.say(protocol.InAck, unsigned)
	if err := get(t, refused); !errors.Is(err, protocol.ErrMalformed) { // those before it are taken
		t.Error(err)
	}
	// The trust follows: what the old key signs counts no more.
	next := *c.clinic
	next.Service = c.clinic.NewAuthority().Authority
	now.Store(&next)
	turned.Store(true)
	c.say(protocol.InAck, good)
	if err := get(t, refused); !errors.Is(err, protocol.ErrSignature) {
		t.Errorf("by an old key: %v", err)
	}
	if n := c.outbox.Status().Pending; n != 2 {
		t.Fatalf("%d events are left", n)
	}
	if n := c.Counters(); n.Malformed != uint64(len(forged)+2) || n.Connections != 1 {
		t.Errorf("counted %+v", n)
	}
	c.say(protocol.InAck, next.Ack(own, e.Epoch, e.Seq))
	for e.Seq == 1 { // it may have come again meanwhile
		e = protocol.Event{}
		if err := protocol.Decode(c.hear(protocol.OutEvent).payload, &e); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.outbox.Status().Pending; e.Seq != 2 || n != 1 || len(refused) != 0 {
		t.Errorf("event %d came next, %d are left, %d refused", e.Seq, n, len(refused))
	}
}

// deny refuses every client, as a broker does that knows the certificate is revoked.
type deny struct{ asked atomic.Int64 }

func (d *deny) Check(server.ClientAuthentication) bool { d.asked.Add(1); return false }

// TestCauses: why the clinic cannot be reached is said by its code.
func TestCauses(t *testing.T) {
	clinic, foreign := identitytest.New(t, time.Now), identitytest.New(t, time.Now)
	broker := startBroker(t, clinic.Server(protocol.ALPNMQTT), nil)
	denying := startBroker(t, clinic.Server(protocol.ALPNMQTT), new(deny))
	elsewhere := startBroker(t, foreign.Server(protocol.ALPNMQTT), nil)
	inTwoMonths := func() time.Time { return time.Now().AddDate(0, 2, 0) }
	later := startBroker(t, clinic.At(inTwoMonths).Server(protocol.ALPNMQTT), nil)
	noALPN := startBroker(t, clinic.Server(), nil)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := mute.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()
	defer mute.Close()
	own := clinic.Enrolled(broker)
	year := 365 * 24 * time.Hour
	for _, c := range []struct {
		name    string
		address string
		tls     func() *tls.Config
		want    protocol.Code
	}{
		{"nothing listens", closed.Addr().String(), func() *tls.Config { return own.TLS("mqtt") }, protocol.LinkUnreachable},
		{"something else listens", mute.Addr().String(), func() *tls.Config { return own.TLS("mqtt") }, protocol.LinkUnreachable},
		{"no MQTT there", noALPN, func() *tls.Config { return own.TLS("mqtt") }, protocol.LinkUnreachable},
		{"another clinic's server", elsewhere, func() *tls.Config { return own.TLS("mqtt") }, protocol.IdentityPin},
		{"another clinic's certificate", broker, func() *tls.Config { return clientOf(foreign.Enrolled(broker), own) }, protocol.IdentityOtherClinic},
		{"expired certificate", later, func() *tls.Config {
			config := own.TLS("mqtt")
			config.Time = inTwoMonths
			return config
		}, protocol.IdentityExpired},
		{"clock in the past", broker, func() *tls.Config {
			config := own.TLS("mqtt")
			config.Time = func() time.Time { return time.Now().Add(-20 * year) }
			return config
		}, protocol.TimeOff},
		{"revoked", denying, func() *tls.Config { return own.TLS("mqtt") }, protocol.LinkRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			states := make(chan link.State, 100)
			l := link.New(link.Config{Address: c.address, TLS: c.tls, Terminal: own.Key(), Software: "test", Now: time.Now, Outbox: openOutbox(t), Service: clinic.Services},
				link.Handlers{State: func(s link.State) { states <- s }}, quiet)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- l.Run(ctx) }()
			if s := get(t, states); s.Up || s.Cause != c.want || s.Err == nil {
				t.Errorf("got %+v, want %q", s, c.want)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// clientOf trusts what own trusts and shows the other's certificate.
func clientOf(other, own *identity.Identity) *tls.Config {
	config := other.TLS("mqtt")
	config.RootCAs = own.TLS().RootCAs
	return config
}
