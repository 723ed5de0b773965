package fleet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/broker/brokertest"
	"vindu/protocol"
)

func TestOnlineAndWill(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	d.say(t, protocol.OutPresence, true, encode(t, presence(true, first)))
	x.until(t, "online", func() bool { return x.State(d.Hash).Online })
	d.say(t, protocol.OutHealth, true, encode(t, report(time.Now(), nil)))
	x.until(t, "healthy", func() bool { return x.State(d.Hash).Health != nil })
	d.die(t)
	x.until(t, "offline", func() bool { return !x.State(d.Hash).Online })
	if s := x.States()[d.Hash]; s.Software != "1.0" || s.Heard.IsZero() || s.Since.IsZero() {
		t.Errorf("state %+v", s)
	}
}

// A fleet that starts beside a running broker takes retained presence as hearsay and asks.
func TestRetainedOnReconnect(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	d.say(t, protocol.OutPresence, true, encode(t, presence(true, first)))
	d.say(t, protocol.OutHealth, true, encode(t, report(time.Now(), func(h *protocol.Health) { h.KeyGrade = "file" })))
	x.until(t, "reported", func() bool { return x.State(d.Hash).Health != nil })
	x.stop()

	y := startFleet(t, x.broker, openStore(t, filepath.Join(t.TempDir(), "other.db")), nil)
	y.until(t, "told of health", func() bool { h := y.State(d.Hash).Health; return h != nil && h.KeyGrade == "file" })
	m := d.next(t)
	var c protocol.Command
	if err := protocol.Decode(m.Payload(), &c); err != nil || c.Kind != protocol.CommandReport || y.State(d.Hash).Online {
		t.Errorf("command %+v (%v), online %v", c, err, y.State(d.Hash).Online)
	}
	d.say(t, protocol.OutHealth, true, encode(t, report(time.Now(), nil)))
	y.until(t, "online", func() bool { return y.State(d.Hash).Online })
	y.stop()

	// The first fleet's store remembers, and takes nobody to be there.
	z, err := New(context.Background(), Config{Store: x.store, Audit: x.journal}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if s := z.State(d.Hash); s.Online || s.Heard.IsZero() || s.Health == nil || s.Health.KeyGrade != "file" {
		t.Errorf("remembered %+v", s)
	}
}

func TestEventsAcknowledgedAfterCommit(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	for seq := uint64(1); seq <= 3; seq++ {
		d.say(t, protocol.OutEvent, false, encode(t, event(t, first, seq)))
	}
	for acked := uint64(0); acked < 3; {
		a := d.ack(t)
		if a.Epoch != first || a.Seq <= acked || a.Seq > 3 {
			t.Fatalf("ack %+v after %d", a, acked)
		}
		acked = a.Seq
		list, err := x.Events(context.Background(), d.Hash, 10)
		if err != nil || len(list) < int(acked) {
			t.Fatalf("%d events are stored (%v), %d acknowledged", len(list), err, acked)
		}
	}
	// Again: recognised, acknowledged again, not stored again.
	d.say(t, protocol.OutEvent, false, encode(t, event(t, first, 2)))
	if a := d.ack(t); a.Seq != 3 {
		t.Errorf("ack %+v", a)
	}
	// A new epoch begins anew.
	d.say(t, protocol.OutEvent, false, encode(t, event(t, second, 1)))
	if a := d.ack(t); a.Epoch != second || a.Seq != 1 {
		t.Errorf("ack %+v", a)
	}
	x.sink.mu.Lock()
	defer x.sink.mu.Unlock()
	if len(x.sink.stored) != 4 || len(x.sink.committed) != 4 {
		t.Errorf("sink saw %v and %v", x.sink.stored, x.sink.committed)
	}
	for what, n := range x.sink.stored {
		if n != 1 || x.sink.committed[what] != 1 {
			t.Errorf("%s: stored %d times, told %d times", what, n, x.sink.committed[what])
		}
	}
}

// The server dies after the commit and before the acknowledgement: nothing is lost and nothing comes twice.
func TestCrashBetweenCommitAndAck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	b := brokertest.Start(t, quiet)
	before := &Fleet{config: Config{Store: openStore(t, path)}, log: quiet, board: newBoard()}
	if err := before.config.Store.Migrate(context.Background(), "fleet", steps); err != nil {
		t.Fatal(err)
	}
	sink := newTally()
	before.events = &events{store: before.config.Store, sinks: []Sink{sink}, log: quiet, gaps: make(map[protocol.KeyHash]gap)}
	id := b.Terminal(t)
	// What storeBatch does, up to where it would send the acknowledgement.
	if _, err := before.events.commit(context.Background(), []work{{terminal: id.Hash, event: event(t, first, 1)}, {terminal: id.Hash, event: event(t, first, 2)}}); err != nil {
		t.Fatal(err)
	}
	after := startFleet(t, b, openStore(t, path), nil)
	d := after.device(t, id, first)
	for _, c := range []struct{ seq, ack uint64 }{{1, 2}, {2, 2}, {3, 3}} {
		d.say(t, protocol.OutEvent, false, encode(t, event(t, first, c.seq)))
		if a := d.ack(t); a.Seq != c.ack {
			t.Errorf("ack %+v, want %d", a, c.ack)
		}
	}
	list, err := after.Events(context.Background(), id.Hash, 10)
	if err != nil || len(list) != 3 {
		t.Errorf("%d events stored (%v)", len(list), err)
	}
	if len(after.sink.stored) != 1 {
		t.Errorf("sink saw again %v", after.sink.stored)
	}
}

// An acknowledgement passes a gap only where the terminal does not have what is missing.
func TestGaps(t *testing.T) {
	type come struct {
		seq      uint64
		unbroken uint64
		ack      uint64
	}
	for name, list := range map[string][]come{
		"in order":                            {{1, 1, 1}, {2, 1, 2}, {3, 1, 3}},
		"one lost on the way":                 {{1, 1, 1}, {3, 1, 1}, {2, 1, 3}, {3, 1, 3}},
		"many lost on the way":                {{1, 1, 1}, {4, 1, 1}, {5, 1, 1}, {7, 1, 1}, {2, 1, 2}, {3, 1, 5}, {4, 1, 5}, {5, 1, 5}, {6, 1, 7}},
		"the first lost":                      {{2, 1, 0}, {1, 1, 2}},
		"dropped by the terminal":             {{1, 1, 1}, {4, 1, 1}, {5, 1, 1}, {4, 1, 5}, {5, 1, 5}},
		"dropped twice by the terminal":       {{1, 1, 1}, {4, 1, 1}, {7, 1, 1}, {4, 1, 4}, {7, 1, 4}, {7, 1, 7}},
		"clinic set back to an old backup":    {{500, 1, 0}, {501, 1, 0}, {500, 1, 501}, {502, 1, 502}},
		"missed here both times":              {{1, 1, 1}, {3, 1, 1}, {3, 2, 1}, {2, 2, 3}},
		"missed here, then gone":              {{1, 1, 1}, {3, 1, 1}, {3, 2, 1}, {3, 2, 3}},
		"a higher one twice proves nothing":   {{1, 1, 1}, {3, 1, 1}, {5, 1, 1}, {5, 1, 1}, {2, 1, 3}},
		"a lower one shows it was not oldest": {{1, 1, 1}, {5, 1, 1}, {3, 1, 1}, {5, 1, 1}, {3, 1, 3}, {5, 1, 3}, {5, 1, 5}},
	} {
		s := openStore(t, filepath.Join(t.TempDir(), "clinic.db"))
		if err := s.Migrate(context.Background(), "fleet", steps); err != nil {
			t.Fatal(err)
		}
		e := &events{store: s, log: quiet, gaps: make(map[protocol.KeyHash]gap)}
		for i, c := range list {
			acks, err := e.commit(context.Background(), []work{{terminal: terminal, event: event(t, first, c.seq), unbroken: c.unbroken}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var got uint64
			if len(acks) == 1 {
				got = acks[0].Seq
			}
			if got != c.ack {
				t.Errorf("%s: message %d (event %d) acknowledges %d, want %d", name, i, c.seq, got, c.ack)
			}
		}
	}
}

// One event that cannot be stored holds up its own terminal's acknowledgement and nobody else's.
func TestFailingSink(t *testing.T) {
	x := newFixture(t)
	x.sink.mu.Lock()
	x.sink.fail = func(e *protocol.Event) error {
		if e.Epoch == second {
			return errors.New("cannot be stored")
		}
		return nil
	}
	x.sink.mu.Unlock()
	bad, good := x.device(t, nil, first), x.device(t, nil, first)
	bad.say(t, protocol.OutEvent, false, encode(t, event(t, second, 1)))
	good.say(t, protocol.OutEvent, false, encode(t, event(t, first, 1)))
	if a := good.ack(t); a.Seq != 1 {
		t.Errorf("ack %+v", a)
	}
	x.storeBatch(context.Background(), []work{
		{terminal: bad.Hash, event: event(t, second, 1)}, {terminal: good.Hash, event: event(t, first, 2)},
	})
	if a := good.ack(t); a.Seq != 2 {
		t.Errorf("ack %+v", a)
	}
	list, err := x.Events(context.Background(), bad.Hash, 10)
	if err != nil || len(list) != 0 || len(bad.in) != 0 {
		t.Errorf("%d events of the other are stored (%v), %d messages", len(list), err, len(bad.in))
	}
}

func TestMalformedOnEveryTopic(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	sent := uint64(0)
	for _, channel := range []string{protocol.OutPresence, protocol.OutHealth, protocol.OutEvent, protocol.OutCall} {
		for _, payload := range [][]byte{
			{}, {0xff}, {0xa0}, []byte("hello"), bytes.Repeat([]byte{0x81}, 4096), make([]byte, protocol.MaxMessage+1), make([]byte, 3*protocol.MaxMessage),
			binary.BigEndian.AppendUint64([]byte{0x9b}, 1<<60), // an array of 2^60 elements
		} {
			d.say(t, channel, false, payload)
			sent++
		}
	}
	huge := event(t, first, 1<<63)
	d.say(t, protocol.OutEvent, false, encode(t, huge))
	sent++
	x.until(t, "counted", func() bool { return x.State(d.Hash).Malformed == sent })
	if c := x.Counters(); c.Malformed != sent || c.Dropped != 0 {
		t.Errorf("counters %+v, sent %d", c, sent)
	}
	d.say(t, protocol.OutEvent, false, encode(t, event(t, first, 1)))
	if a := d.ack(t); a.Seq != 1 || !x.Up() {
		t.Errorf("ack %+v, up %v", a, x.Up())
	}
	x.until(t, "audited", func() bool {
		x.journal.mu.Lock()
		defer x.journal.mu.Unlock()
		return len(x.journal.entries) == 1 && x.journal.entries[0].What == audit.MessageRefused && x.journal.entries[0].Subject == d.Hash.Name()
	})
}

func TestCallMessages(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	call := protocol.NewCallID()
	out := &protocol.CallOut{Version: protocol.Version, Call: call, Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired}
	d.say(t, protocol.OutCall, true, encode(t, out)) // retained by mistake: delivered once, and not again
	d.say(t, protocol.OutCall, false, encode(t, out))
	for range 2 {
		select {
		case m := <-x.Messages():
			if m.Terminal != d.Hash || m.Message.Call != call || m.Message.Refusal != protocol.AuthExpired {
				t.Errorf("message %+v", m)
			}
		case <-time.After(brokertest.Patience):
			t.Fatal("no call message")
		}
	}
	if !x.State(d.Hash).Online {
		t.Error("a terminal that speaks is not online")
	}
	in := &protocol.CallIn{Version: protocol.Version, Call: call, Kind: protocol.KindCandidates, Candidates: []byte("signed")}
	if err := x.Send(context.Background(), d.Hash, in); err != nil {
		t.Fatal(err)
	}
	var got protocol.CallIn
	if m := d.next(t); m.Topic() != protocol.InTopic(d.Hash, protocol.InCall) || protocol.Decode(m.Payload(), &got) != nil || string(got.Candidates) != "signed" {
		t.Errorf("sent %q on %s", m.Payload(), m.Topic())
	}
	if err := x.Send(context.Background(), d.Hash, &protocol.CallIn{Version: 1, Call: call, Kind: "other"}); !errors.Is(err, protocol.ErrMalformed) {
		t.Errorf("malformed: %v", err)
	}
	x.stop()
	if err := x.Send(context.Background(), d.Hash, in); !errors.Is(err, ErrDown) || protocol.CodeOf(err) != protocol.SignalBroker {
		t.Errorf("broker gone: %v", err)
	}
}

// The broker goes and comes back elsewhere: the fleet follows, and terminals that come back are seen.
func TestBrokerRestarts(t *testing.T) {
	a := brokertest.NewAuthority(t)
	clinic := a.Identity(t)
	old := brokertest.StartIn(t, t.TempDir(), a, clinic, quiet)
	var mu sync.Mutex
	address := old.Addr().String()
	x := startFleet(t, old, openStore(t, filepath.Join(t.TempDir(), "clinic.db")), func() string {
		mu.Lock()
		defer mu.Unlock()
		return address
	})
	old.Stop()
	x.until(t, "down", func() bool { return !x.Up() })
	next := brokertest.StartIn(t, t.TempDir(), a, clinic, quiet)
	mu.Lock()
	address = next.Addr().String()
	mu.Unlock()
	x.until(t, "up", x.Up)
	x.broker = next
	d := x.device(t, nil, first)
	d.say(t, protocol.OutPresence, true, encode(t, presence(true, first)))
	x.until(t, "online", func() bool { return x.State(d.Hash).Online })
}

// TestRetainedSaysNothingOfNow: what the broker kept of a terminal that is away does not make it look as if it were there.
func TestRetainedSaysNothingOfNow(t *testing.T) {
	f, err := New(t.Context(), Config{Store: openStore(t, filepath.Join(t.TempDir(), "clinic.db")), Audit: &journal{}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	terminal := protocol.KeyHash{7}
	f.receive(protocol.OutTopic(terminal, protocol.OutEvent), encode(t, event(t, protocol.NewNonce(), 1)), true)
	f.receive(protocol.OutTopic(terminal, protocol.OutCall), encode(t, &protocol.CallOut{
		Version: protocol.Version, Call: protocol.NewCallID(), Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired}), true)
	if s := f.State(terminal); s.Online || len(f.work) != 0 || len(f.messages) != 0 {
		t.Errorf("state %+v, %d events and %d call messages wait", s, len(f.work), len(f.messages))
	}
}

// What does not fit in a queue is counted; events that were lost so are not passed over by an acknowledgement.
func TestFullQueues(t *testing.T) {
	f, err := New(context.Background(), Config{Store: openStore(t, filepath.Join(t.TempDir(), "clinic.db"))}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	one := func(i, each int) protocol.KeyHash { return protocol.KeyHash{7, byte(i / each >> 8), byte(i / each)} } // of many terminals
	out := encode(t, &protocol.CallOut{Version: protocol.Version, Call: protocol.NewCallID(), Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired})
	for i := range messageQueue + 3 {
		f.receive(protocol.OutTopic(one(i, callBurst), protocol.OutCall), out, false)
	}
	if c := f.Counters(); c.Dropped != 3 {
		t.Errorf("counters %+v", c)
	}
	e := encode(t, event(t, first, 1))
	for i := range workQueue {
		f.receive(protocol.OutTopic(one(i, maxWaiting), protocol.OutEvent), e, false)
	}
	before := f.unbrokenOf(terminal)
	f.receive(protocol.OutTopic(terminal, protocol.OutEvent), e, false)
	if c := f.Counters(); c.Dropped != 4 || f.unbrokenOf(terminal) != before+1 {
		t.Errorf("counters %+v, unbroken %d", c, f.unbrokenOf(terminal)-before)
	}
	f.receive("vindu/v2/x", e, false)
	if c := f.Counters(); c.Malformed != 1 {
		t.Errorf("counters %+v", c)
	}
}

// Events may also come another way than by the broker.
func TestCommit(t *testing.T) {
	x := newFixture(t)
	for range 2 {
		acks, err := x.Commit(context.Background(), terminal, event(t, first, 1), event(t, first, 2), event(t, second, 1))
		if err != nil {
			t.Fatal(err)
		}
		var got []protocol.Ack
		for _, signed := range acks {
			a, err := protocol.VerifyAck(signed, [][]byte{x.broker.Authority.Service()}, terminal)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, *a)
		}
		if want := []protocol.Ack{{Version: 1, Terminal: terminal, Epoch: first, Seq: 2}, {Version: 1, Terminal: terminal, Epoch: second, Seq: 1}}; !slices.Equal(got, want) {
			t.Errorf("acks %+v", got)
		}
	}
	x.config.SignAck = func(*protocol.Ack) ([]byte, error) { return nil, errors.New("no key") }
	if acks, err := x.Commit(context.Background(), terminal, event(t, first, 1)); err == nil {
		t.Errorf("acknowledged without a signature: %x", acks)
	}
	if _, err := x.Commit(context.Background(), terminal, event(t, first, 1<<63)); !errors.Is(err, protocol.ErrMalformed) {
		t.Errorf("huge number: %v", err)
	}
}

// FuzzReceive throws anything on any topic at the fleet. What it accepts is on the board; nothing else happens.
func FuzzReceive(f *testing.F) {
	for _, channel := range []string{protocol.OutPresence, protocol.OutHealth, protocol.OutEvent, protocol.OutCall, "other"} {
		f.Add(protocol.OutTopic(terminal, channel), []byte{0xa0}, false)
	}
	f.Add(protocol.OutTopic(terminal, protocol.OutPresence), encode(f, presence(true, first)), false)
	f.Add(protocol.OutTopic(terminal, protocol.OutHealth), encode(f, report(start, nil)), true)
	f.Add(protocol.OutTopic(terminal, protocol.OutEvent), encode(f, event(f, first, 1)), false)
	f.Add("vindu/v1//out/call", []byte{}, true)
	f.Fuzz(func(t *testing.T, topic string, payload []byte, retained bool) {
		fl := &Fleet{log: quiet, board: newBoard(), shares: newShares(), events: &events{}, work: make(chan work, 4), messages: make(chan CallMessage, 4), reports: make(chan protocol.KeyHash, 4)}
		fl.receive(topic, payload, retained)
		refused := fl.Counters().Malformed
		states := fl.States()
		if refused > 1 || len(states) > 1 {
			t.Fatalf("refused %d, states %v", refused, states)
		}
		for key, s := range states {
			if _, _, err := protocol.ParseOutTopic(topic); err != nil || (refused == 1) != (s.Malformed == 1) || refused == 1 && s.Online {
				t.Fatalf("%s: %+v", key, s)
			}
		}
	})
}
