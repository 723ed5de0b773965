package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats-server/v2/server"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/protocol"
)

// soon bounds what has to happen without anybody's help. It is not what is measured, only when a test gives up.
const soon = 30 * time.Second

// startBroker starts NATS and returns its address.
func startBroker(t *testing.T, config *tls.Config, auth server.Authentication) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		ServerName: "test", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		CustomClientAuthentication: auth,
		MQTT:                       server.MQTTOpts{Host: "127.0.0.1", Port: -1, TLSConfig: config, TLSTimeout: 10, AuthTimeout: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(soon) {
		t.Fatal("the broker does not start")
	}
	v, err := s.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(v.MQTT.Port))
}

// line is the network between terminal and broker.
type line struct {
	to string

	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

// dial connects through the line.
func (l *line) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.New("the line is down")
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.to)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

// cut breaks every connection as a lost network does: without a word.
func (l *line) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for _, c := range l.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, so that neither end is told politely
		}
		c.Close()
	}
	l.conns = nil
}

// message is what the clinic heard.
type message struct {
	channel  string
	payload  []byte
	retained bool
}

// station is the clinic as a client of the broker.
type station struct {
	t        *testing.T
	client   mqtt.Client
	terminal protocol.KeyHash
	heard    chan message
}

func connectStation(t *testing.T, address string, clinic *identitytest.Clinic, terminal protocol.KeyHash) *station {
	t.Helper()
	s := &station{t: t, terminal: terminal, heard: make(chan message, 1000)}
	options := mqtt.NewClientOptions().AddBroker("tls://" + address).SetClientID("clinic").SetAutoReconnect(false).
		SetTLSConfig(clinic.Enrolled(address).TLS(protocol.ALPNMQTT))
	s.client = mqtt.NewClient(options)
	s.done(s.client.Connect())
	s.done(s.client.Subscribe(protocol.AllOut, 0, func(_ mqtt.Client, m mqtt.Message) {
		_, channel, err := protocol.ParseOutTopic(m.Topic())
		if err != nil {
			t.Errorf("heard on %s: %v", m.Topic(), err)
			return
		}
		s.heard <- message{channel, m.Payload(), m.Retained()}
	}))
	t.Cleanup(func() { s.client.Disconnect(250) })
	return s
}

func (s *station) done(token mqtt.Token) {
	s.t.Helper()
	if !token.WaitTimeout(soon) || token.Error() != nil {
		s.t.Fatal("clinic:", token.Error())
	}
}

func (s *station) say(channel string, payload []byte) {
	s.t.Helper()
	s.done(s.client.Publish(protocol.InTopic(s.terminal, channel), 0, false, payload))
}

// hear returns the next message on a channel and forgets those before it on others.
func (s *station) hear(channel string) message {
	s.t.Helper()
	deadline := time.After(soon)
	for {
		select {
		case m := <-s.heard:
			if m.channel == channel {
				return m
			}
		case <-deadline:
			s.t.Fatalf("nothing heard on %s", channel)
		}
	}
}

func (s *station) hearPresence() protocol.Presence {
	s.t.Helper()
	var p protocol.Presence
	if err := protocol.Decode(s.hear(protocol.OutPresence).payload, &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// connected is a link to a real broker.
type connected struct {
	*link.Link
	clinic *identitytest.Clinic
	*station
	line     *line
	terminal *identity.Identity
	outbox   *outbox.Outbox
	calls    chan *protocol.CallIn
	commands chan *protocol.Command
	stop     func()
}

func connect(t *testing.T, change func(*link.Config, *link.Handlers)) *connected {
	t.Helper()
	clinic := identitytest.New(t, time.Now)
	broker := startBroker(t, clinic.Server(protocol.ALPNMQTT), nil)
	c := &connected{clinic: clinic, terminal: clinic.Enrolled(broker), outbox: openOutbox(t), line: &line{to: broker},
		calls: make(chan *protocol.CallIn, 100), commands: make(chan *protocol.Command, 100)}
	c.station = connectStation(t, broker, clinic, c.terminal.Key())
	cfg := link.Config{Address: broker, TLS: func() *tls.Config { return c.terminal.TLS(protocol.ALPNMQTT) }, Terminal: c.terminal.Key(),
		Software: "test", Now: time.Now, Outbox: c.outbox, Service: clinic.Services, Dial: c.line.dial, BackoffLo: 10 * time.Millisecond, BackoffHi: 50 * time.Millisecond}
	handlers := link.Handlers{Call: func(m *protocol.CallIn) { c.calls <- m }, Command: func(m *protocol.Command) { c.commands <- m }}
	if change != nil {
		change(&cfg, &handlers)
	}
	c.Link = link.New(cfg, handlers, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(c.stop)
	return c
}

// ack is an honest acknowledgement.
func (c *connected) ack(epoch protocol.Nonce, seq uint64) []byte {
	return c.clinic.Ack(c.terminal.Key(), epoch, seq)
}

func hangUp(call byte) *protocol.CallIn {
	return &protocol.CallIn{Version: 1, Call: protocol.CallID{call}, Kind: protocol.KindHangUp, HangUp: &protocol.HangUp{End: []byte{1}}}
}

func encoded[M interface {
	*protocol.CallIn | *protocol.Command | *protocol.Notice
}](t *testing.T, m M) []byte {
	t.Helper()
	var b []byte
	var err error
	switch m := any(m).(type) {
	case *protocol.CallIn:
		b, err = protocol.Encode(m)
	case *protocol.Command:
		b, err = protocol.Encode(m)
	case *protocol.Notice:
		b, err = protocol.Encode(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get[M any](t *testing.T, from <-chan M) M {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(soon):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
