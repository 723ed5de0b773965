package fleet

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"vindu/clinic/audit"
	"vindu/clinic/broker/brokertest"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// journal is an audit log that tests read.
type journal struct {
	mu      sync.Mutex
	entries []audit.Entry
}

func (j *journal) AppendTx(_ context.Context, _ *sql.Tx, e audit.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	return nil
}

// tally is a sink that counts; fail makes Store fail for events with that number.
type tally struct {
	mu        sync.Mutex
	stored    map[string]int
	committed map[string]int
	fail      func(*protocol.Event) error
}

func newTally() *tally { return &tally{stored: make(map[string]int), committed: make(map[string]int)} }

func name(k protocol.KeyHash, e *protocol.Event) string {
	return fmt.Sprintf("%s %x %d", k.Name(), e.Epoch[:2], e.Seq)
}

func (s *tally) Store(ctx context.Context, tx *sql.Tx, k protocol.KeyHash, e *protocol.Event, body any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(e); err != nil {
			return err
		}
	}
	switch body.(type) {
	case *protocol.Notice, *protocol.ConditionChange:
	default:
		return fmt.Errorf("body %T", body)
	}
	s.stored[name(k, e)]++
	return nil
}

func (s *tally) Committed(k protocol.KeyHash, e *protocol.Event, _ any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed[name(k, e)]++
}

type fixture struct {
	*Fleet
	broker  *brokertest.Broker
	store   *store.Store
	path    string
	journal *journal
	sink    *tally
	stop    func()
}

func openStore(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// start runs a fleet on a broker; dialer may change how it is reached.
func startFleet(t *testing.T, b *brokertest.Broker, s *store.Store, address func() string) *fixture {
	t.Helper()
	x := &fixture{broker: b, store: s, journal: &journal{}, sink: newTally()}
	if address == nil {
		address = func() string { return b.Addr().String() }
	}
	f, err := New(context.Background(), Config{
		Address: address, ServerName: brokertest.ServerName, Roots: b.Authority.Pool(),
		Certificate: func() (*tls.Certificate, error) { return &b.Clinic.Certificate, nil },
		Store:       s, Audit: x.journal, Sinks: []Sink{x.sink}, SignAck: b.Authority.SignAck,
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	x.Fleet = f
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("fleet: %v", err)
		}
	})
	t.Cleanup(x.stop)
	x.until(t, "connected", f.Up)
	return x
}

func newFixture(t *testing.T) *fixture {
	return startFleet(t, brokertest.Start(t, quiet), openStore(t, filepath.Join(t.TempDir(), "clinic.db")), nil)
}

// until waits for a condition that a change of the board may bring about.
func (x *fixture) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	changes, cancel := x.Watch()
	defer cancel()
	deadline := time.After(brokertest.Patience)
	for !holds() {
		select {
		case <-changes:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("not %s", what)
		}
	}
}

// device is a terminal as the broker sees one.
type device struct {
	*brokertest.Identity
	client  mqtt.Client
	conn    net.Conn
	in      chan mqtt.Message
	service []byte // the clinic's service key
	lost    chan struct{}
}

func (x *fixture) device(t *testing.T, id *brokertest.Identity, session protocol.Nonce) *device {
	t.Helper()
	if id == nil {
		id = x.broker.Terminal(t)
	}
	d := &device{Identity: id, service: x.broker.Authority.Service(), in: make(chan mqtt.Message, 64), lost: make(chan struct{})}
	o := x.broker.Options(id).SetBinaryWill(protocol.OutTopic(id.Hash, protocol.OutPresence), encode(t, presence(false, session)), 0, true)
	dial := o.CustomOpenConnectionFn
	o.SetCustomOpenConnectionFn(func(u *url.URL, co mqtt.ClientOptions) (net.Conn, error) {
		c, err := dial(u, co)
		d.conn = c
		return c, err
	})
	o.SetConnectionLostHandler(func(mqtt.Client, error) { close(d.lost) })
	d.client = brokertest.MustConnect(t, o)
	brokertest.Wait(t, d.client.Subscribe(protocol.InFilter(id.Hash), 0, func(_ mqtt.Client, m mqtt.Message) { d.in <- m }))
	return d
}

func (d *device) say(t *testing.T, channel string, retained bool, payload []byte) {
	t.Helper()
	brokertest.Wait(t, d.client.Publish(protocol.OutTopic(d.Hash, channel), 0, retained, payload))
}

// die ends the connection without DISCONNECT.
func (d *device) die(t *testing.T) {
	t.Helper()
	if err := d.conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-d.lost
}

func (d *device) next(t *testing.T) mqtt.Message {
	t.Helper()
	select {
	case m := <-d.in:
		return m
	case <-time.After(brokertest.Patience):
		t.Fatal("nothing came to the terminal")
		return nil
	}
}

func (d *device) ack(t *testing.T) protocol.Ack {
	t.Helper()
	m := d.next(t)
	if _, channel, err := protocol.ParseInTopic(m.Topic()); err != nil || channel != protocol.InAck {
		t.Fatalf("on %s", m.Topic())
	}
	a, err := protocol.VerifyAck(m.Payload(), [][]byte{d.service}, d.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return *a
}

func encode(t testing.TB, m any) []byte {
	t.Helper()
	var b []byte
	var err error
	switch m := m.(type) {
	case *protocol.Presence:
		b, err = protocol.Encode(m)
	case *protocol.Health:
		b, err = protocol.Encode(m)
	case *protocol.Event:
		b, err = protocol.Encode(m)
	case *protocol.Notice:
		b, err = protocol.Encode(m)
	case *protocol.CallOut:
		b, err = protocol.Encode(m)
	default:
		t.Fatalf("encode %T", m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func event(t testing.TB, epoch protocol.Nonce, seq uint64) *protocol.Event {
	t.Helper()
	return &protocol.Event{
		Version: protocol.Version, Epoch: epoch, Seq: seq, At: 5, Kind: protocol.EventNotice,
		Body: encode(t, &protocol.Notice{Version: protocol.Version, Code: protocol.PowerRestarted, At: 5, Detail: fmt.Sprint(seq)}),
	}
}
