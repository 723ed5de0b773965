package days

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"vindu/device/call/calltest"
	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/protocol"
)

// clinic is the terminal's clinic in the bubble: broker, enrolment, what keeps events, and who calls. It acknowledges what it has, answers presence, and notes what came.
type clinic struct {
	t      *testing.T
	own    *identitytest.Clinic
	caller *calltest.Clinic
	self   protocol.KeyHash
	config *tls.Config
	down   atomic.Bool // nobody is reached
	broken atomic.Bool // the broker is not, enrolment and reports are

	dials, fetches, reports, came atomic.Int64
	calls                         chan *protocol.CallOut
	running                       sync.WaitGroup

	mu       sync.Mutex
	conns    []net.Conn
	newest   *tls.Conn
	settings *protocol.Settings
	epoch    protocol.Nonce
	have     uint64 // all events up to it came
	beyond   map[uint64]bool
	events   map[string]int // by kind
	repeated int
	open     map[string]bool // devices, by the ledger
	openings int
	previous protocol.Hash
	health   *protocol.Health
}

var errLost = errors.New("an acknowledgement is lost")

var errDown = protocol.WithCode(protocol.LinkUnreachable, errors.New("no way to the clinic"))

// dial implements agent.Parts.Dial.
func (c *clinic) dial(_ context.Context, _, address string) (net.Conn, error) {
	c.dials.Add(1)
	if c.down.Load() || address != clinicAddress {
		return nil, errDown
	}
	near, far := net.Pipe()
	c.mu.Lock()
	c.conns = append(c.conns, far)
	c.mu.Unlock()
	c.running.Go(func() { c.serve(far) })
	return near, nil
}

// serve speaks as much MQTT as a terminal's link needs.
func (c *clinic) serve(raw net.Conn) {
	defer c.forget(raw)
	defer raw.Close()
	conn := tls.Server(raw, c.config)
	if err := conn.Handshake(); err != nil || conn.ConnectionState().NegotiatedProtocol != protocol.ALPNMQTT || c.broken.Load() {
		return // or the probe of TLS, which only looks
	}
	in := bufio.NewReader(conn)
	for {
		packet, err := packets.ReadPacket(in)
		if err != nil {
			return
		}
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			err = packets.NewControlPacket(packets.Connack).Write(conn)
		case *packets.SubscribePacket:
			ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			ack.MessageID, ack.ReturnCodes = p.MessageID, []byte{0}
			err = ack.Write(conn)
			c.mu.Lock()
			c.newest = conn
			c.mu.Unlock()
		case *packets.PingreqPacket:
			err = packets.NewControlPacket(packets.Pingresp).Write(conn)
		case *packets.PublishPacket:
			err = c.take(conn, p)
		case *packets.DisconnectPacket:
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *clinic) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.conns {
		if c.conns[i] == conn {
			c.conns = append(c.conns[:i], c.conns[i+1:]...)
			break
		}
	}
}

// drop ends all connections.
func (c *clinic) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

// take takes what the terminal publishes.
func (c *clinic) take(conn *tls.Conn, p *packets.PublishPacket) error {
	_, channel, err := protocol.ParseOutTopic(p.TopicName)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	switch channel {
	case protocol.OutPresence:
		m := new(protocol.Presence)
		if c.good(protocol.Decode(p.Payload, m)) && m.Beat != 0 {
			return c.publish(conn, protocol.InCommand, c.encoded(protocol.Encode(&protocol.Command{Version: protocol.Version, Kind: protocol.CommandHeard, Beat: m.Beat})))
		}
	case protocol.OutHealth:
		m := new(protocol.Health)
		if c.good(protocol.Decode(p.Payload, m)) {
			c.mu.Lock()
			c.health = m
			c.mu.Unlock()
		}
	case protocol.OutEvent:
		m := new(protocol.Event)
		if c.good(protocol.Decode(p.Payload, m)) {
			ack := c.commit(m)
			if c.came.Add(1)%20 == 0 {
				return errLost // and the connection with it
			}
			if ack != nil {
				return c.publish(conn, protocol.InAck, ack)
			}
		}
	case protocol.OutCall:
		m := new(protocol.CallOut)
		if c.good(protocol.Decode(p.Payload, m)) {
			select {
			case c.calls <- m:
			default:
			}
		}
	}
	return nil
}

// good tells the test of an error.
func (c *clinic) good(err error) bool {
	if err != nil {
		c.t.Error(err)
	}
	return err == nil
}

// encoded has the test know of an error of protocol.Encode.
func (c *clinic) encoded(b []byte, err error) []byte {
	c.good(err)
	return b
}

func (c *clinic) publish(conn *tls.Conn, channel string, payload []byte) error {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = protocol.InTopic(c.self, channel), payload
	return p.Write(conn)
}

// say sends a message over the newest connection; false: there is none.
func (c *clinic) say(channel string, message []byte) bool {
	c.mu.Lock()
	conn := c.newest
	c.mu.Unlock()
	return conn != nil && c.publish(conn, channel, message) == nil
}

// commit keeps an event, and returns the acknowledgement of all up to it.
func (c *clinic) commit(e *protocol.Event) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == (protocol.Nonce{}) {
		c.epoch = e.Epoch
	}
	if e.Epoch != c.epoch {
		c.t.Errorf("event %d is of another outbox", e.Seq)
		return nil
	}
	if e.Seq <= c.have || c.beyond[e.Seq] {
		c.repeated++
	} else {
		c.beyond[e.Seq] = true
		c.keep(e)
	}
	for c.beyond[c.have+1] {
		c.have++
		delete(c.beyond, c.have)
	}
	return c.own.Ack(c.self, c.epoch, c.have)
}

// keep judges the ledger as it comes: in order, each opening linked to the one before, none of what is open already.
func (c *clinic) keep(e *protocol.Event) {
	if e.Seq != c.have+1 {
		c.t.Errorf("event %d came after %d", e.Seq, c.have)
	}
	c.events[e.Kind]++
	body, err := e.Open()
	if err != nil {
		c.t.Error(err)
		return
	}
	o, ok := body.(*protocol.Opening)
	if !ok {
		return
	}
	c.openings++
	if e.Link == nil || e.Link.Previous != c.previous {
		c.t.Errorf("opening %d is not linked to the one before", e.Seq)
	}
	c.previous = protocol.HashOf(c.encoded(protocol.Encode(e)))
	if c.open[o.Device] == o.Open {
		c.t.Errorf("event %d: %s open: %v, twice", e.Seq, o.Device, o.Open)
	}
	c.open[o.Device] = o.Open
}

// Report implements what terminals tell by HTTPS.
func (c *clinic) Report(_ context.Context, _ *identity.Grant, r *protocol.Report) ([][]byte, error) {
	if c.down.Load() {
		return nil, errDown
	}
	c.reports.Add(1)
	var last []byte
	for i := range r.Events {
		last = c.commit(&r.Events[i])
	}
	if last == nil {
		return nil, nil
	}
	return [][]byte{last}, nil
}

// Renew implements identity.Clinic.
func (c *clinic) Renew(_ context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	if c.down.Load() {
		return nil, errDown
	}
	return c.own.Issue(g.Chain[0].PublicKey), nil
}

// Replace implements identity.Clinic.
func (c *clinic) Replace(context.Context, *identity.Grant, crypto.Signer) ([]*x509.Certificate, error) {
	return nil, errors.New("no key is old enough")
}

// Time implements identity.Clinic.
func (c *clinic) Time(context.Context, *identity.Grant) (time.Time, time.Duration, error) {
	if c.down.Load() {
		return time.Time{}, 0, errDown
	}
	return time.Now(), 0, nil
}

// Settings implements identity.Clinic.
func (c *clinic) Settings(context.Context, *identity.Grant) (*protocol.Settings, time.Duration, error) {
	if c.down.Load() {
		return nil, 0, errDown
	}
	c.fetches.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := *c.settings
	s.At = protocol.At(time.Now())
	return &s, 0, nil
}

// rule signs a policy and has the terminal fetch it.
func (c *clinic) rule(serial uint64) {
	signed := c.own.SignPolicy(serial, c.self, func(p *protocol.Policy) {
		p.Home, p.Groups = calltest.Home, []string{calltest.Group}
		p.Rules = []protocol.Rule{{Group: "nurses", Mode: protocol.ModeRing, After: uint16(5 + serial%10)}}
		p.Quiet = []protocol.Span{{Days: 0x7f, From: 22 * 60, To: 7 * 60}}
	})
	c.mu.Lock()
	c.settings.Policy = signed
	c.mu.Unlock()
	c.say(protocol.InCommand, c.encoded(protocol.Encode(&protocol.Command{Version: protocol.Version, Kind: protocol.CommandSettings})))
}
