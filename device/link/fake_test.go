package link_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"go.uber.org/goleak"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

const address = "clinic.example:443"

// fakeBroker speaks just enough MQTT to misbehave. It lives in a synctest bubble, where hours pass at once; what is
// proven against it is also proven against a real broker, as far as one can be made to misbehave.
type fakeBroker struct {
	config *tls.Config
	grant  byte // return code of subscriptions
	accept byte // return code of connections

	refuse atomic.Bool // connections are refused
	stuck  atomic.Bool // connections are accepted, and nothing is said on them
	silent atomic.Bool // everything is read, nothing answered
	frozen atomic.Bool // nothing is read or answered any more
	paused chan struct{}

	mu        sync.Mutex
	conns     []net.Conn
	newest    *tls.Conn
	published []*packets.PublishPacket
	connects  []*packets.ConnectPacket
	at        []time.Time // of attempts to connect
	pings     int
	running   sync.WaitGroup
}

// dial is the link's way to the broker.
func (b *fakeBroker) dial(context.Context) (net.Conn, error) {
	b.mu.Lock()
	b.at = append(b.at, time.Now())
	b.mu.Unlock()
	if b.refuse.Load() {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	b.mu.Lock()
	b.conns = append(b.conns, far)
	b.mu.Unlock()
	if !b.stuck.Load() {
		b.running.Go(func() { b.serve(far) })
	}
	return near, nil
}

func (b *fakeBroker) serve(raw net.Conn) {
	defer raw.Close()
	conn := tls.Server(raw, b.config)
	b.mu.Lock()
	b.newest = conn
	b.mu.Unlock()
	in := bufio.NewReader(conn)
	for {
		packet, err := packets.ReadPacket(in)
		if err != nil {
			return
		}
		var answer packets.ControlPacket
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			b.mu.Lock()
			b.connects = append(b.connects, p)
			b.mu.Unlock()
			ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			ack.ReturnCode = b.accept
			answer = ack
		case *packets.SubscribePacket:
			ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			ack.MessageID, ack.ReturnCodes = p.MessageID, []byte{b.grant}
			answer = ack
		case *packets.PingreqPacket:
			b.mu.Lock()
			b.pings++
			b.mu.Unlock()
			answer = packets.NewControlPacket(packets.Pingresp)
		case *packets.PublishPacket:
			b.mu.Lock()
			b.published = append(b.published, p)
			b.mu.Unlock()
		case *packets.DisconnectPacket:
			return
		}
		if b.frozen.Load() {
			<-b.paused
			return
		}
		if answer != nil && !b.silent.Load() {
			if err := answer.Write(conn); err != nil {
				return
			}
		}
	}
}

// of returns what was published on a channel.
func (b *fakeBroker) of(terminal protocol.KeyHash, channel string) (list []*packets.PublishPacket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.published {
		if p.TopicName == protocol.OutTopic(terminal, channel) {
			list = append(list, p)
		}
	}
	return list
}

// say sends a message of the clinic's over the newest connection.
func (b *fakeBroker) say(t *testing.T, terminal protocol.KeyHash, channel string, m *protocol.Command) {
	t.Helper()
	payload := encoded(t, m)
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = protocol.InTopic(terminal, channel), payload
	b.mu.Lock()
	to := b.newest
	b.mu.Unlock()
	if err := p.Write(to); err != nil {
		t.Fatal(err)
	}
}

func (b *fakeBroker) attempts() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time(nil), b.at...)
}

// drop closes all connections.
func (b *fakeBroker) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

// rig is a link with what is around it.
type rig struct {
	*link.Link
	t        *testing.T
	broker   *fakeBroker
	terminal *identity.Identity
	clinic   *identitytest.Clinic
	outbox   *outbox.Outbox

	mu     sync.Mutex
	states []link.State
}

func (r *rig) told() []link.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]link.State(nil), r.states...)
}

func openOutbox(t *testing.T) *outbox.Outbox {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := outbox.Open(dir, 256<<10, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(o.Close(), dir.Close()); err != nil {
			t.Error(err)
		}
	})
	return o
}

// bubble runs f beside a running link, in a synctest bubble.
func bubble(t *testing.T, change func(*link.Config, *link.Handlers, *rig), f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		clinic := identitytest.New(t, time.Now)
		r := &rig{t: t, clinic: clinic, terminal: clinic.Enrolled(address), outbox: openOutbox(t),
			broker: &fakeBroker{config: clinic.Server(protocol.ALPNMQTT), paused: make(chan struct{})}}
		cfg := link.Config{Address: address, TLS: func() *tls.Config { return r.terminal.TLS(protocol.ALPNMQTT) }, Terminal: r.terminal.Key(),
			Software: "test", Now: time.Now, Outbox: r.outbox, Service: clinic.Services, Dial: r.broker.dial}
		handlers := link.Handlers{State: func(s link.State) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.states = append(r.states, s)
		}}
		if change != nil {
			change(&cfg, &handlers, r)
		}
		r.Link = link.New(cfg, handlers, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		f(t, r)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		close(r.broker.paused)
		r.broker.drop()
		r.broker.running.Wait()
	})
}

func pass(d time.Duration) {
	time.Sleep(d) // allowed: of the bubble
	synctest.Wait()
}
