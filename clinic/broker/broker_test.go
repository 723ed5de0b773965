package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"vindu/clinic/broker"
	"vindu/clinic/broker/brokertest"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// inbox collects what a client hears.
type inbox struct{ messages chan mqtt.Message }

func newInbox() *inbox { return &inbox{make(chan mqtt.Message, 256)} }

func (i *inbox) handle(_ mqtt.Client, m mqtt.Message) {
	select {
	case i.messages <- m:
	default:
	}
}

func (i *inbox) next(t *testing.T) mqtt.Message {
	t.Helper()
	select {
	case m := <-i.messages:
		return m
	case <-time.After(brokertest.Patience):
		t.Fatal("no message came")
		return nil
	}
}

// subscribe returns whether the broker granted the filter (MQTT 3.1.1 §3.9.3).
func subscribe(t *testing.T, c mqtt.Client, filter string, handler mqtt.MessageHandler) bool {
	t.Helper()
	token := c.Subscribe(filter, 0, handler)
	if !token.WaitTimeout(brokertest.Patience) {
		t.Fatalf("subscribe %s: no reply", filter)
	}
	if granted, ok := token.(*mqtt.SubscribeToken).Result()[filter]; ok {
		return granted != 0x80
	}
	return token.Error() == nil
}

var (
	outChannels = []string{protocol.OutPresence, protocol.OutHealth, protocol.OutEvent, protocol.OutCall}
	inChannels  = []string{protocol.InAck, protocol.InCommand, protocol.InCall}
)

// Each identity tries every topic of every identity, in both directions: only its own pass.
func TestTopicDiagonal(t *testing.T) {
	b := brokertest.Start(t, quiet)
	identities := []*brokertest.Identity{b.Terminal(t), b.Terminal(t), b.Terminal(t), b.Clinic}
	heard := newInbox()
	clients := make([]mqtt.Client, len(identities))
	for i, id := range identities {
		clients[i] = brokertest.MustConnect(t, b.Options(id))
	}
	clinic := clients[len(clients)-1]
	if !subscribe(t, clinic, protocol.AllOut, heard.handle) {
		t.Fatal("the clinic may not hear the terminals")
	}
	told := newInbox()
	for i, c := range clients[:3] {
		for j, other := range identities[:3] {
			if got := subscribe(t, c, protocol.InFilter(other.Hash), told.handle); got != (i == j) {
				t.Errorf("terminal %d subscribes to the topics of %d: %v", i, j, got)
			}
			for _, channel := range inChannels {
				if got := subscribe(t, c, protocol.InTopic(other.Hash, channel), nil); got != (i == j) {
					t.Errorf("terminal %d subscribes to %s of %d: %v", i, channel, j, got)
				}
				c.Unsubscribe(protocol.InTopic(other.Hash, channel)).WaitTimeout(brokertest.Patience)
			}
		}
		for _, filter := range []string{"#", "+", "vindu/#", "vindu/v1/+/in/+", protocol.AllOut, "$SYS/#", "$MQTT/#", "$JS/#", ">", "$MQTT/sub/#", protocol.OutTopic(identities[i].Hash, protocol.OutCall)} {
			if subscribe(t, c, filter, nil) {
				t.Errorf("terminal %d subscribes to %s", i, filter)
			}
		}
	}
	// Publishing is answered the same whether permitted or not (QoS 0), so each says its piece and then one that must arrive.
	allowed := map[string]bool{}
	for i, c := range clients[:3] {
		for j, other := range identities {
			for _, channel := range outChannels {
				payload := fmt.Sprintf("%d %d %s", i, j, channel)
				allowed[payload] = i == j
				brokertest.Wait(t, c.Publish(protocol.OutTopic(other.Hash, channel), 0, false, payload))
				brokertest.Wait(t, c.Publish(protocol.OutTopic(other.Hash, channel), 0, true, payload))
			}
			for _, channel := range inChannels {
				brokertest.Wait(t, c.Publish(protocol.InTopic(other.Hash, channel), 0, false, "forged"))
			}
		}
		for _, topic := range []string{"vindu/v1", "a", "$MQTT/msgs/a", "$JS/API/INFO", "$SYS/a", protocol.OutTopic(identities[i].Hash, "other"), protocol.OutTopic(identities[i].Hash, "call") + "/deeper"} {
			brokertest.Wait(t, c.Publish(topic, 0, false, "forged"))
		}
		brokertest.Wait(t, c.Publish(protocol.OutTopic(identities[i].Hash, protocol.OutCall), 0, false, fmt.Sprintf("last %d", i)))
	}
	got := map[string]int{}
	for last := 0; last < 3; {
		m := heard.next(t)
		if strings.HasPrefix(string(m.Payload()), "last ") {
			last++
			continue
		}
		key, channel, err := protocol.ParseOutTopic(m.Topic())
		if err != nil {
			t.Fatalf("heard on %s: %v", m.Topic(), err)
		}
		var i, j int
		var name string
		if _, err := fmt.Sscanf(string(m.Payload()), "%d %d %s", &i, &j, &name); err != nil || identities[i].Hash != key || name != channel {
			t.Errorf("heard %q on %s", m.Payload(), m.Topic())
		}
		got[string(m.Payload())]++
	}
	for payload, pass := range allowed {
		if want := map[bool]int{true: 2, false: 0}[pass]; got[payload] != want {
			t.Errorf("%q came %d times, want %d", payload, got[payload], want)
		}
	}
	// The clinic tells each terminal something; each hears its own alone, and nothing that was forged.
	for i, id := range identities[:3] {
		for _, channel := range inChannels {
			brokertest.Wait(t, clinic.Publish(protocol.InTopic(id.Hash, channel), 0, false, fmt.Sprintf("%d %s", i, channel)))
		}
	}
	for range 3 * len(inChannels) {
		m := told.next(t)
		key, channel, err := protocol.ParseInTopic(m.Topic())
		if err != nil {
			t.Fatal(err)
		}
		var i int
		var name string
		if _, err := fmt.Sscanf(string(m.Payload()), "%d %s", &i, &name); err != nil || identities[i].Hash != key || name != channel {
			t.Errorf("told %q on %s", m.Payload(), m.Topic())
		}
	}
	// A new subscription sees what was retained: by the owners alone.
	again := newInbox()
	second := b.Authority.Identity(t)
	b.Admit(second.Hash)
	brokertest.Wait(t, clinic.Unsubscribe(protocol.AllOut))
	retains(t, clinic, 3*len(outChannels))
	if !subscribe(t, clinic, protocol.AllOut, again.handle) {
		t.Fatal("the clinic may not hear the terminals")
	}
	for range 3 * len(outChannels) {
		m := again.next(t)
		var i, j int
		var name string
		if _, err := fmt.Sscanf(string(m.Payload()), "%d %d %s", &i, &j, &name); err != nil || i != j || !m.Retained() {
			t.Errorf("retained %q on %s (%v)", m.Payload(), m.Topic(), m.Retained())
		}
	}
	for i, c := range clients {
		if !c.IsConnectionOpen() {
			t.Errorf("connection %d did not survive", i)
		}
	}
}

// A will goes where its owner may publish, and nowhere else.
func TestWill(t *testing.T) {
	b := brokertest.Start(t, quiet)
	heard := newInbox()
	clinic := brokertest.MustConnect(t, b.Options(b.Clinic))
	if !subscribe(t, clinic, protocol.AllOut, heard.handle) {
		t.Fatal("the clinic may not hear the terminals")
	}
	victim, forger, honest := b.Terminal(t), b.Terminal(t), b.Terminal(t)
	lose := func(id *brokertest.Identity, topic string) {
		var conn net.Conn
		o := b.Options(id).SetWill(topic, "gone", 0, true)
		open := o.CustomOpenConnectionFn
		o.SetCustomOpenConnectionFn(func(uri *url.URL, options mqtt.ClientOptions) (net.Conn, error) {
			var err error
			conn, err = open(uri, options)
			return conn, err
		})
		lost := make(chan struct{})
		o.SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) })
		brokertest.MustConnect(t, o)
		conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite() // the broker sees an end without DISCONNECT
		<-lost
	}
	lose(forger, protocol.OutTopic(victim.Hash, protocol.OutPresence))
	lose(honest, protocol.OutTopic(honest.Hash, protocol.OutPresence))
	m := heard.next(t)
	if m.Topic() != protocol.OutTopic(honest.Hash, protocol.OutPresence) || string(m.Payload()) != "gone" {
		t.Errorf("heard %q on %s", m.Payload(), m.Topic())
	}
}

func TestRefused(t *testing.T) {
	b := brokertest.Start(t, quiet)
	other := brokertest.NewAuthority(t)
	foreign := other.Identity(t)
	b.Admit(foreign.Hash)
	admitted := b.Terminal(t)
	expired := b.Authority.IdentityUntil(t, time.Now().Add(-time.Minute))
	b.Admit(expired.Hash)
	revoked := b.Terminal(t)
	b.Revoke(revoked.Hash)
	for name, c := range map[string]struct {
		options func() *mqtt.ClientOptions
		refusal bool // after TLS: the register knows of it
	}{
		"unknown": {func() *mqtt.ClientOptions { return b.Options(b.Authority.Identity(t)) }, true},
		"revoked": {func() *mqtt.ClientOptions { return b.Options(revoked) }, true},
		"another's client id": {func() *mqtt.ClientOptions {
			return b.Options(admitted).SetClientID(b.Terminal(t).Hash.Name())
		}, true},
		"the clinic's client id": {func() *mqtt.ClientOptions { return b.Options(admitted).SetClientID(b.Clinic.Hash.Name()) }, true},
		"no client id":           {func() *mqtt.ClientOptions { return b.Options(admitted).SetClientID("") }, true},
		"client id that ends as its own": {func() *mqtt.ClientOptions {
			return b.Options(admitted).SetClientID(`-"` + admitted.Hash.Name())
		}, true},
		"expired":           {func() *mqtt.ClientOptions { return b.Options(expired) }, false},
		"of another clinic": {func() *mqtt.ClientOptions { return dialing(b, foreign, nil) }, false},
		"without a certificate": {func() *mqtt.ClientOptions {
			return dialing(b, admitted, func(c *tls.Config) { c.Certificates = nil })
		}, false},
		"by TLS 1.2": {func() *mqtt.ClientOptions {
			return dialing(b, admitted, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
		}, false},
		"without TLS": {func() *mqtt.ClientOptions {
			return b.Options(admitted).SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
				return net.Dial("tcp", b.Addr().String())
			}).SetConnectTimeout(2 * time.Second)
		}, false},
	} {
		before := len(b.Refusals())
		if _, err := brokertest.Connect(t, c.options()); err == nil {
			t.Errorf("%s: was let in", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		refusals := b.Refusals()[before:]
		if c.refusal && (len(refusals) != 1 || !errors.Is(refusals[0].Err, broker.ErrRefused)) || !c.refusal && len(refusals) != 0 {
			t.Errorf("%s: refusals %v", name, refusals)
		}
	}
	brokertest.MustConnect(t, b.Options(admitted))
}

// dialing returns options for id, trusting the broker, with the TLS configuration changed.
func dialing(b *brokertest.Broker, id *brokertest.Identity, change func(*tls.Config)) *mqtt.ClientOptions {
	config := id.ClientTLS(b.Authority)
	if change != nil {
		change(config)
	}
	return b.Options(id).SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).Dial("tcp", b.Addr().String())
	})
}

func TestKick(t *testing.T) {
	b := brokertest.Start(t, quiet)
	heard := newInbox()
	clinic := brokertest.MustConnect(t, b.Options(b.Clinic))
	subscribe(t, clinic, protocol.AllOut, heard.handle)
	stays, goes := b.Terminal(t), b.Terminal(t)
	lost := make(chan struct{})
	o := b.Options(goes).SetWill(protocol.OutTopic(goes.Hash, protocol.OutPresence), "gone", 0, true)
	o.SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) })
	brokertest.MustConnect(t, o)
	other := brokertest.MustConnect(t, b.Options(stays))
	b.Revoke(goes.Hash)
	select {
	case <-lost:
	case <-time.After(5 * time.Second): // the promise: within 5 s
		t.Fatal("a revoked terminal is still connected after 5 s")
	}
	if m := heard.next(t); string(m.Payload()) != "gone" {
		t.Errorf("heard %q", m.Payload())
	}
	if _, err := brokertest.Connect(t, b.Options(goes)); err == nil {
		t.Error("a revoked terminal connected again")
	}
	if !other.IsConnectionOpen() {
		t.Error("another terminal's connection was closed too")
	}
}

// A connection does not outlive its certificate.
func TestConnectionEndsWithCertificate(t *testing.T) {
	b := brokertest.Start(t, quiet)
	lost := make(chan struct{})
	for life := 2 * time.Second; ; life *= 2 { // longer where the machine is too busy to connect in time
		id := b.Authority.IdentityUntil(t, time.Now().Add(life))
		b.Admit(id.Hash)
		_, err := brokertest.Connect(t, b.Options(id).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
		if err == nil {
			break
		}
		if life > brokertest.Patience/2 {
			t.Fatal(err)
		}
	}
	select {
	case <-lost:
	case <-time.After(brokertest.Patience):
		t.Fatal("still connected")
	}
}

// The newer connection of a terminal replaces the older; the older's will is not sent.
func TestTakeover(t *testing.T) {
	b := brokertest.Start(t, quiet)
	heard := newInbox()
	clinic := brokertest.MustConnect(t, b.Options(b.Clinic))
	subscribe(t, clinic, protocol.AllOut, heard.handle)
	id := b.Terminal(t)
	lost := make(chan struct{})
	o := b.Options(id).SetWill(protocol.OutTopic(id.Hash, protocol.OutPresence), "gone", 0, true)
	brokertest.MustConnect(t, o.SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	second := brokertest.MustConnect(t, b.Options(id))
	<-lost
	brokertest.Wait(t, second.Publish(protocol.OutTopic(id.Hash, protocol.OutHealth), 0, false, "here"))
	if m := heard.next(t); string(m.Payload()) != "here" {
		t.Errorf("heard %q on %s", m.Payload(), m.Topic())
	}
}

// What the protocol refuses for its size still passes, so that the clinic counts it; the connection survives. Beyond MaxPayload it ends.
func TestSizes(t *testing.T) {
	b := brokertest.Start(t, quiet)
	heard := newInbox()
	clinic := brokertest.MustConnect(t, b.Options(b.Clinic))
	subscribe(t, clinic, protocol.AllOut, heard.handle)
	id := b.Terminal(t)
	lost := make(chan struct{})
	c := brokertest.MustConnect(t, b.Options(id).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	for _, channel := range outChannels {
		for _, size := range []int{0, 1, protocol.MaxMessage, protocol.MaxMessage + 1, broker.MaxPayload - 1024} {
			brokertest.Wait(t, c.Publish(protocol.OutTopic(id.Hash, channel), 0, false, bytes.Repeat([]byte{0xff}, size)))
			if m := heard.next(t); len(m.Payload()) != size {
				t.Errorf("%s: %d bytes came, want %d", channel, len(m.Payload()), size)
			}
		}
	}
	c.Publish(protocol.OutTopic(id.Hash, protocol.OutEvent), 0, false, make([]byte, broker.MaxPayload+1))
	select {
	case <-lost:
	case <-time.After(brokertest.Patience):
		t.Error("the connection survived a payload beyond the limit")
	}
	brokertest.MustConnect(t, b.Options(id))
}

// What is retained is there after a restart; a damaged folder is set aside and the broker starts.
func TestRestartAndDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "broker")
	a := brokertest.NewAuthority(t)
	clinicID := a.Identity(t)
	first := brokertest.StartIn(t, dir, a, clinicID, quiet)
	id := first.Terminal(t)
	c := brokertest.MustConnect(t, first.Options(id))
	heard := newInbox()
	clinic := brokertest.MustConnect(t, first.Options(clinicID))
	subscribe(t, clinic, protocol.AllOut, heard.handle)
	brokertest.Wait(t, c.Publish(protocol.OutTopic(id.Hash, protocol.OutHealth), 0, true, "kept"))
	heard.next(t)
	retained(t, clinic, "kept") // the broker stores what it retains after it has passed it on
	first.Stop()

	second := brokertest.StartIn(t, dir, a, clinicID, quiet)
	retained(t, brokertest.MustConnect(t, second.Options(clinicID)), "kept")
	second.Stop()

	if err := os.RemoveAll(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), []byte("not a folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	third := brokertest.StartIn(t, dir, a, clinicID, quiet)
	brokertest.MustConnect(t, third.Options(clinicID))
	aside, err := filepath.Glob(dir + ".damaged-*")
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// retained waits until a subscription is told what is retained. A broker that has just stored it, or has just started and reads what it has stored, tells only
// those who subscribe later.
func retained(t *testing.T, clinic mqtt.Client, want string) {
	t.Helper()
	for late := time.After(brokertest.Patience); ; {
		later := newInbox()
		if !subscribe(t, clinic, protocol.AllOut, later.handle) {
			t.Fatal("the clinic may not hear the terminals")
		}
		select {
		case m := <-later.messages:
			if string(m.Payload()) != want || !m.Retained() {
				t.Errorf("heard %q, retained: %v", m.Payload(), m.Retained())
			}
			return
		case <-time.After(200 * time.Millisecond):
			brokertest.Wait(t, clinic.Unsubscribe(protocol.AllOut))
		case <-late:
			t.Fatalf("%q was not retained", want)
		}
	}
}

// retains waits until a new subscription is told so many retained messages, as retained does for one, and subscribes to nothing in the end.
func retains(t *testing.T, clinic mqtt.Client, want int) {
	t.Helper()
	late := time.After(brokertest.Patience)
	for heard := 0; heard < want; {
		later := newInbox()
		if !subscribe(t, clinic, protocol.AllOut, later.handle) {
			t.Fatal("the clinic may not hear the terminals")
		}
		for idle := false; heard < want && !idle; {
			select {
			case <-later.messages:
				heard++
			case <-time.After(time.Second):
				idle = true
			case <-late:
				t.Fatalf("%d of %d messages were retained", heard, want)
			}
		}
		brokertest.Wait(t, clinic.Unsubscribe(protocol.AllOut))
		if heard < want {
			heard = 0
		}
	}
}

func TestCannotStart(t *testing.T) {
	a := brokertest.NewAuthority(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	admit := func(protocol.KeyHash, *x509.Certificate) error { return nil }
	base := broker.Config{
		Dir: t.TempDir(), Clinic: func(*x509.Certificate) bool { return false }, Admit: admit,
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.Server(t)}, ClientCAs: a.Pool()},
	}
	for name, c := range map[string]struct {
		change func(*broker.Config)
		says   string
	}{
		"port taken":         {func(c *broker.Config) { c.Listen = taken.Addr().String() }, "which program holds the port"},
		"no folder possible": {func(c *broker.Config) { c.Dir = filepath.Join(file, "below") }, "belongs to the server's user"},
	} {
		config := base
		c.change(&config)
		b, err := broker.New(config, quiet)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := b.Run(context.Background()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*broker.Config){
		"no folder":      func(c *broker.Config) { c.Dir = "" },
		"no certificate": func(c *broker.Config) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientCAs: a.Pool()} },
		"no authority": func(c *broker.Config) {
			c.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: c.TLS.Certificates}
		},
		"no register": func(c *broker.Config) { c.Admit = nil },
		"no clinic":   func(c *broker.Config) { c.Clinic = nil },
		"no address":  func(c *broker.Config) { c.Listen = "here" },
	} {
		config := base
		change(&config)
		if _, err := broker.New(config, quiet); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	b, err := broker.New(base, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(stopped); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("stopped before it began: %v", err)
	}
}

// Many idle terminals stay connected and each can be told something.
func TestManyTerminals(t *testing.T) {
	const many = 200
	b := brokertest.Start(t, quiet)
	clinic := brokertest.MustConnect(t, b.Options(b.Clinic))
	heard := newInbox()
	identities := make([]*brokertest.Identity, many)
	for i := range identities {
		identities[i] = b.Terminal(t)
	}
	var group sync.WaitGroup
	limit := make(chan struct{}, 8)
	for _, id := range identities {
		group.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			c, err := brokertest.Connect(t, b.Options(id))
			if err != nil {
				t.Errorf("connect: %v", err)
				return
			}
			token := c.Subscribe(protocol.InFilter(id.Hash), 0, heard.handle)
			if !token.WaitTimeout(brokertest.Patience) || token.Error() != nil {
				t.Errorf("subscribe: %v", token.Error())
			}
		})
	}
	group.Wait()
	for _, id := range identities {
		brokertest.Wait(t, clinic.Publish(protocol.InTopic(id.Hash, protocol.InCommand), 0, false, "report"))
	}
	seen := map[string]bool{}
	for range many {
		seen[heard.next(t).Topic()] = true
	}
	if len(seen) != many {
		t.Errorf("%d of %d terminals heard", len(seen), many)
	}
}
