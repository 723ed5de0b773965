package broker_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/broker/brokertest"
	"vindu/protocol"
)

// fifty identities of each kind are held against each other.
const fifty = 50

// tally counts what arrived, by what was written on it.
type tally struct {
	mu      sync.Mutex
	heard   map[string]int
	changed chan struct{} // holds a token when there may be something new
}

func newTally() *tally { return &tally{heard: map[string]int{}, changed: make(chan struct{}, 1)} }

func (c *tally) handle(_ mqtt.Client, m mqtt.Message) {
	c.mu.Lock()
	c.heard[m.Topic()+" "+string(m.Payload())]++
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// await waits until everything of want has come at least once.
func (c *tally) await(t *testing.T, want []string) {
	t.Helper()
	deadline := time.After(brokertest.Patience)
	for {
		missing := ""
		c.mu.Lock()
		for _, w := range want {
			if c.heard[w] == 0 {
				missing = w
			}
		}
		c.mu.Unlock()
		if missing == "" {
			return
		}
		select {
		case <-c.changed:
		case <-deadline:
			t.Fatalf("%q did not come", missing)
		}
	}
}

// only fails the test for everything that came and that allowed does not name, or that came another number of times.
func (c *tally) only(t *testing.T, allowed map[string]int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for text, n := range c.heard {
		if allowed[text] != n {
			t.Errorf("%q came %d times, has to come %d times", text, n, allowed[text])
		}
	}
	for text, n := range allowed {
		if c.heard[text] != n {
			t.Errorf("%q came %d times, has to come %d times", text, c.heard[text], n)
		}
	}
}

// each runs f for every number below n, eight at a time.
func each(n int, f func(i int)) {
	var group sync.WaitGroup
	limit := make(chan struct{}, 8)
	for i := range n {
		limit <- struct{}{}
		group.Go(func() { defer func() { <-limit }(); f(i) })
	}
	group.Wait()
}

// TestFiftyByFifty holds the identity of each of fifty terminals against every topic of each of them, in both directions: to publish, to retain and to
// subscribe; and against those of some by wills. Nothing passes but what is its own.
func TestFiftyByFifty(t *testing.T) {
	b := brokertest.Start(t, quiet)
	ids := make([]*brokertest.Identity, fifty)
	for i := range ids {
		ids[i] = b.Terminal(t)
	}
	out, in := newTally(), newTally()
	clinic := brokertest.MustConnect(t, b.Options(b.Clinic))
	if !subscribe(t, clinic, protocol.AllOut, out.handle) {
		t.Fatal("the clinic may not hear the terminals")
	}

	clients := make([]mqtt.Client, fifty)
	each(fifty, func(i int) {
		c, err := brokertest.Connect(t, b.Options(ids[i]))
		if err != nil {
			t.Errorf("connect %d: %v", i, err)
			return
		}
		clients[i] = c
		filters := map[string]byte{}
		own := map[string]bool{}
		for j, other := range ids {
			own[protocol.InFilter(other.Hash)] = i == j
			for _, channel := range inChannels {
				own[protocol.InTopic(other.Hash, channel)] = i == j
			}
			for _, channel := range append([]string{"+", "#"}, outChannels...) {
				own[protocol.OutTopic(other.Hash, channel)] = false
			}
		}
		for f := range own {
			filters[f] = 0
		}
		token := c.SubscribeMultiple(filters, in.handle).(*mqtt.SubscribeToken)
		if !token.WaitTimeout(brokertest.Patience) || len(token.Result()) != len(filters) {
			t.Errorf("terminal %d: %d of %d filters were answered, %v", i, len(token.Result()), len(filters), token.Error())
			return
		}
		for f, answer := range token.Result() {
			if (answer != 0x80) != own[f] {
				t.Errorf("terminal %d subscribes to %s: answer %#x", i, f, answer)
			}
		}
		// One subscription from here on, as terminals have.
		for f, granted := range own {
			if granted && f != protocol.InFilter(ids[i].Hash) {
				brokertest.Wait(t, c.Unsubscribe(f))
			}
		}
	})
	if t.Failed() {
		return
	}

	// Publishing is answered the same whether it is permitted or not: each says its piece, and then what must arrive.
	name := func(by int, retained bool) string {
		return fmt.Sprintf("by %d, retained %v", by, retained)
	}
	allowed, last := map[string]int{}, []string(nil)
	for i, id := range ids {
		for _, channel := range outChannels {
			allowed[protocol.OutTopic(id.Hash, channel)+" "+name(i, false)] = 1
			allowed[protocol.OutTopic(id.Hash, channel)+" "+name(i, true)] = 1
		}
		last = append(last, protocol.OutTopic(id.Hash, protocol.OutCall)+" last")
		allowed[last[i]] = 1
	}
	each(fifty, func(i int) {
		for _, other := range ids {
			for _, retained := range []bool{false, true} {
				for _, channel := range outChannels {
					clients[i].Publish(protocol.OutTopic(other.Hash, channel), 0, retained, name(i, retained))
				}
				for _, channel := range inChannels {
					clients[i].Publish(protocol.InTopic(other.Hash, channel), 0, retained, name(i, retained))
				}
			}
		}
		brokertest.Wait(t, clients[i].Publish(protocol.OutTopic(ids[i].Hash, protocol.OutCall), 0, false, "last"))
	})
	out.await(t, last)
	out.only(t, allowed)

	// The clinic tells each its own; after it, nothing that was forged can still come.
	told := map[string]int{}
	for i, id := range ids {
		for _, channel := range inChannels {
			told[protocol.InTopic(id.Hash, channel)+" "+fmt.Sprint("told ", i)] = 1
			brokertest.Wait(t, clinic.Publish(protocol.InTopic(id.Hash, channel), 0, false, fmt.Sprint("told ", i)))
		}
	}
	in.await(t, keys(told))
	in.only(t, told)

	// What is retained of a terminal is its own, and for terminals nothing is.
	brokertest.Wait(t, clinic.Unsubscribe(protocol.AllOut))
	retained, kept := newTally(), map[string]int{}
	for i, id := range ids {
		for _, channel := range outChannels {
			kept[protocol.OutTopic(id.Hash, channel)+" "+name(i, true)] = 1
		}
	}
	retains(t, clinic, len(kept))
	if !subscribe(t, clinic, protocol.AllOut, retained.handle) {
		t.Fatal("the clinic may not hear the terminals")
	}
	retained.await(t, keys(kept))
	retained.only(t, kept)
	each(fifty, func(i int) {
		brokertest.Wait(t, clients[i].Unsubscribe(protocol.InFilter(ids[i].Hash)))
		if !subscribe(t, clients[i], protocol.InFilter(ids[i].Hash), in.handle) {
			t.Errorf("terminal %d may not hear the clinic", i)
		}
		brokertest.Wait(t, clients[i].Publish(protocol.OutTopic(ids[i].Hash, protocol.OutHealth), 0, false, "again"))
	})
	for _, id := range ids {
		brokertest.Wait(t, clinic.Publish(protocol.InTopic(id.Hash, protocol.InAck), 0, false, "again"))
		told[protocol.InTopic(id.Hash, protocol.InAck)+" again"] = 1
		kept[protocol.OutTopic(id.Hash, protocol.OutHealth)+" again"] = 1
	}
	in.await(t, keys(told))
	in.only(t, told)
	retained.await(t, keys(kept))
	retained.only(t, kept)
	for i, c := range clients {
		if !c.IsConnectionOpen() {
			t.Errorf("connection %d did not survive", i)
		}
		c.Disconnect(0)
	}

	// Wills, each of which costs a connection: a terminal leaves one on the presence of three others, one after the other, and on its own at last.
	wills := map[string]int{}
	for text, n := range kept {
		wills[text] = n
	}
	for i, id := range ids {
		wills[protocol.OutTopic(id.Hash, protocol.OutPresence)+" "+fmt.Sprint("will of ", i)] = 1
	}
	each(fifty, func(i int) {
		for _, n := range []int{1, fifty / 2, fifty - 1, 0} {
			victim := ids[(i+n)%fifty]
			if err := dropped(b, ids[i], protocol.OutTopic(victim.Hash, protocol.OutPresence), fmt.Sprint("will of ", i)); err != nil {
				t.Errorf("will of %d: %v", i, err)
				return
			}
		}
	})
	if t.Failed() {
		return
	}
	retained.await(t, keys(wills))
	retained.only(t, wills)
	if refusals := b.Refusals(); len(refusals) != 0 {
		t.Errorf("%d connections were refused", len(refusals))
	}
}

func keys(m map[string]int) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	return list
}

// dropped connects with a will and loses the connection. The broker has closed it when it returns.
func dropped(b *brokertest.Broker, id *brokertest.Identity, topic, will string) error {
	var conn net.Conn
	lost := make(chan struct{})
	o := b.Options(id).SetWill(topic, will, 0, strings.HasSuffix(topic, protocol.OutPresence))
	open := o.CustomOpenConnectionFn
	o.SetCustomOpenConnectionFn(func(uri *url.URL, options mqtt.ClientOptions) (net.Conn, error) {
		var err error
		conn, err = open(uri, options)
		return conn, err
	}).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) })
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(brokertest.Patience) {
		return fmt.Errorf("no reply to CONNECT")
	}
	if err := token.Error(); err != nil {
		return err
	}
	if err := conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite(); err != nil { // the broker sees an end without DISCONNECT
		return err
	}
	select {
	case <-lost:
		return nil
	case <-time.After(brokertest.Patience):
		return fmt.Errorf("the connection did not end")
	}
}
