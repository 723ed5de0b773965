package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"vindu/device/link"
	"vindu/protocol"
)

func health(t *testing.T, uptime uint64) *protocol.Health {
	t.Helper()
	none := protocol.DeviceState{Kind: "none"}
	return &protocol.Health{Version: 1, At: 1, Uptime: uptime, Software: "test", KeyGrade: "file", Camera: none, Microphone: none, Speaker: none, Screen: none}
}

func candidate() *protocol.CallOut {
	return &protocol.CallOut{Version: 1, Call: protocol.CallID{1}, Kind: protocol.KindCandidate, Candidate: &protocol.Candidate{}}
}

func TestComesUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		if s := r.State(); !s.Up || s.Cause != "" || s.Err != nil {
			t.Fatalf("state %+v", s)
		}
		c := r.broker.connects[0]
		if c.ClientIdentifier != r.terminal.Key().Name() || !c.CleanSession || c.ProtocolVersion != 4 || !c.WillFlag || !c.WillRetain || c.WillQos != 0 ||
			c.WillTopic != protocol.OutTopic(r.terminal.Key(), protocol.OutPresence) || c.Keepalive != 10 {
			t.Errorf("connected with %v", c)
		}
		var will, here protocol.Presence
		if err := protocol.Decode(c.WillMessage, &will); err != nil || will.Online {
			t.Errorf("will %+v, %v", will, err)
		}
		said := r.broker.of(r.terminal.Key(), protocol.OutPresence)
		if len(said) != 1 || !said[0].Retain {
			t.Fatalf("presence was said %d times", len(said))
		}
		if err := protocol.Decode(said[0].Payload, &here); err != nil || !here.Online || here.Session != will.Session || here.Software != "test" {
			t.Errorf("presence %+v, %v", here, err)
		}
		if err := r.SetHealth(health(t, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if said := r.broker.of(r.terminal.Key(), protocol.OutHealth); len(said) != 1 || !said[0].Retain {
			t.Errorf("health was said %d times", len(said))
		}
		pass(10 * time.Minute)
		said = r.broker.of(r.terminal.Key(), protocol.OutPresence)
		if n := len(said); n < 24 || n > 34 || said[n-1].Retain {
			t.Errorf("presence was said %d times in ten minutes, the last time retained: %v", n, said[n-1].Retain)
		}
		if len(r.told()) != 1 || r.Counters().Connections != 1 || len(r.broker.attempts()) != 1 {
			t.Errorf("states %+v, attempts %v", r.told(), r.broker.attempts())
		}
	})
}

// TestHalfOpen: however the clinic falls silent, it is noticed within 45 s, and a new connection made.
func TestHalfOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		fall func(*fakeBroker)
		cfg  func(*link.Config)
	}{
		{"nothing is read any more", func(b *fakeBroker) { b.frozen.Store(true) }, nil},
		{"nothing is answered any more", func(b *fakeBroker) { b.silent.Store(true) }, nil},
		{"and the library does not ping", func(b *fakeBroker) { b.silent.Store(true) }, func(c *link.Config) { c.KeepAlive = time.Hour }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(cfg *link.Config, _ *link.Handlers, _ *rig) {
				if c.cfg != nil {
					c.cfg(cfg)
				}
			}, func(t *testing.T, r *rig) {
				pass(20 * time.Second)
				c.fall(r.broker)
				began := time.Now()
				for r.Up() && time.Since(began) < time.Hour {
					pass(100 * time.Millisecond)
				}
				took := time.Since(began)
				t.Logf("noticed after %v", took)
				if took > 45*time.Second {
					t.Errorf("noticed after %v", took)
				}
				if s := r.State(); s.Cause != protocol.LinkUnreachable || s.Err == nil {
					t.Errorf("state %+v", s)
				}
				r.broker.silent.Store(false)
				r.broker.frozen.Store(false)
				pass(time.Minute)
				if !r.Up() {
					t.Errorf("not up again: %+v", r.State())
				}
			})
		})
	}
}

// TestStuckAttempts: an attempt to connect never hangs.
func TestStuckAttempts(t *testing.T) {
	for _, c := range []struct {
		name  string
		stick func(*fakeBroker)
	}{
		{"in TLS", func(b *fakeBroker) { b.stuck.Store(true) }},
		{"in CONNECT", func(b *fakeBroker) { b.silent.Store(true) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(_ *link.Config, _ *link.Handlers, r *rig) { c.stick(r.broker) }, func(t *testing.T, r *rig) {
				pass(5 * time.Minute)
				if n := len(r.broker.attempts()); n < 4 || r.Up() {
					t.Errorf("%d attempts in five minutes, up %v", n, r.Up())
				}
				if s := r.State(); s.Cause != protocol.LinkUnreachable {
					t.Errorf("state %+v", s)
				}
				r.broker.stuck.Store(false)
				r.broker.silent.Store(false)
				pass(2 * time.Minute)
				if !r.Up() {
					t.Errorf("not up: %+v", r.State())
				}
			})
		})
	}
}

// TestBackoff: waits have full jitter below a bound that doubles up to a minute, and begin anew after a connection that held.
func TestBackoff(t *testing.T) {
	bubble(t, func(_ *link.Config, _ *link.Handlers, r *rig) { r.broker.refuse.Store(true) }, func(t *testing.T, r *rig) {
		pass(10 * time.Hour)
		at := r.broker.attempts()
		bound := 2 * time.Second
		var late []time.Duration
		for i := 1; i < len(at); i++ {
			wait := at[i].Sub(at[i-1])
			if wait > bound+time.Second {
				t.Errorf("wait %d is %v, bound %v", i, wait, bound)
			}
			if bound = min(2*bound, time.Minute); i > 6 {
				late = append(late, wait)
			}
		}
		slices.Sort(late)
		if n := len(late); n < 1000 || n > 1500 || late[n/10] > 10*time.Second || late[n*9/10] < 50*time.Second {
			t.Errorf("%d waits, a tenth below %v, a tenth above %v: not spread evenly", n, late[n/10], late[n*9/10])
		}
		if s := r.State(); s.Since.After(at[0].Add(time.Second)) || len(r.told()) == 0 {
			t.Errorf("down since %v, first attempt %v", s.Since, at[0])
		}
		r.broker.refuse.Store(false)
		pass(2 * time.Minute)
		if !r.Up() {
			t.Fatal("not up")
		}
		began := time.Now()
		r.broker.drop()
		pass(3 * time.Second)
		at = r.broker.attempts()
		if wait := at[len(at)-1].Sub(began); wait > 2*time.Second || wait < 0 || !r.Up() {
			t.Errorf("after a connection that held, the next attempt came after %v", wait)
		}
	})
}

// TestReconnectHurries: a network that came back is used at once.
func TestReconnectHurries(t *testing.T) {
	bubble(t, func(_ *link.Config, _ *link.Handlers, r *rig) { r.broker.refuse.Store(true) }, func(t *testing.T, r *rig) {
		pass(time.Hour)
		r.broker.refuse.Store(false)
		r.Reconnect()
		synctest.Wait()
		if !r.Up() {
			t.Error("not up")
		}
		r.Reconnect()
		synctest.Wait()
		pass(time.Second)
		if !r.Up() || r.Counters().Connections != 2 {
			t.Errorf("up %v, %d connections", r.Up(), r.Counters().Connections)
		}
		var gone protocol.Presence
		said := r.broker.of(r.terminal.Key(), protocol.OutPresence)
		if err := protocol.Decode(said[1].Payload, &gone); err != nil || gone.Online || !said[1].Retain {
			t.Errorf("the first connection ended with %+v, %v", gone, err)
		}
	})
}

// TestDoubt: a connection over which the clinic answers is not touched; one over which it does not is given up at once, and another one tried with hardly a pause.
func TestDoubt(t *testing.T) {
	heard := func(t *testing.T, r *rig) {
		t.Helper()
		said := r.broker.of(r.terminal.Key(), protocol.OutPresence)
		var last protocol.Presence
		if err := protocol.Decode(said[len(said)-1].Payload, &last); err != nil {
			t.Fatal(err)
		}
		r.broker.say(t, r.terminal.Key(), protocol.InCommand, &protocol.Command{Version: 1, Kind: protocol.CommandHeard, Beat: last.Beat})
		synctest.Wait()
	}
	bubble(t, nil, func(t *testing.T, r *rig) {
		pass(time.Minute)
		for range 3 {
			r.Doubt()
			synctest.Wait()
			heard(t, r)
			pass(5 * time.Second)
		}
		if n := r.Counters().Connections; n != 1 {
			t.Errorf("%d connections, though the clinic answered", n)
		}
		// The network changes: nothing comes any more, and for a while nobody can be reached.
		r.broker.silent.Store(true)
		r.broker.refuse.Store(true)
		r.Doubt()
		pass(time.Second)
		r.Doubt() // asking again takes no more time
		pass(600 * time.Millisecond)
		if r.Up() {
			t.Error("a connection that does not answer is kept")
		}
		pass(5 * time.Second)
		if n := len(r.broker.attempts()); n < 10 {
			t.Errorf("%d attempts", n)
		}
		r.broker.silent.Store(false)
		r.broker.refuse.Store(false)
		pass(500 * time.Millisecond)
		if !r.Up() {
			t.Error("not up again")
		}
	})
	// Doubt is over after a while: the pauses grow as they do for everybody.
	bubble(t, func(_ *link.Config, _ *link.Handlers, r *rig) { r.broker.refuse.Store(true) }, func(t *testing.T, r *rig) {
		r.Doubt()
		pass(20 * time.Second)
		n := len(r.broker.attempts())
		pass(10 * time.Minute)
		if more := len(r.broker.attempts()) - n; more > 60 {
			t.Errorf("%d attempts in ten minutes", more)
		}
	})
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fakeBroker)
	}{
		{"connection", func(b *fakeBroker) { b.accept = packets.ErrRefusedNotAuthorised }},
		{"subscription", func(b *fakeBroker) { b.grant = 0x80 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(_ *link.Config, _ *link.Handlers, r *rig) { c.change(r.broker) }, func(t *testing.T, r *rig) {
				pass(10 * time.Minute)
				if s := r.State(); s.Up || s.Cause != protocol.LinkRefused {
					t.Errorf("state %+v", s)
				}
				if n := len(r.broker.attempts()); n < 5 || n > 60 {
					t.Errorf("%d attempts in ten minutes", n)
				}
			})
		})
	}
}

func TestNotEnrolled(t *testing.T) {
	bubble(t, func(c *link.Config, _ *link.Handlers, _ *rig) { c.TLS = func() *tls.Config { return nil } }, func(t *testing.T, r *rig) {
		if s := r.State(); s.Cause != protocol.IdentityNone {
			t.Errorf("state %+v", s)
		}
	})
}

// TestGoodbye: a link that is told to stop clears its presence itself.
func TestGoodbye(t *testing.T) {
	var b *fakeBroker
	var terminal protocol.KeyHash
	bubble(t, nil, func(t *testing.T, r *rig) { b, terminal = r.broker, r.terminal.Key() })
	said := b.of(terminal, protocol.OutPresence)
	var last protocol.Presence
	if err := protocol.Decode(said[len(said)-1].Payload, &last); err != nil || last.Online || !said[len(said)-1].Retain {
		t.Errorf("the last presence is %+v, %v", last, err)
	}
}

func TestPublishCall(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		for i := range 100 {
			m := candidate()
			m.Candidate.MLine = uint16(i)
			if err := r.PublishCall(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		said := r.broker.of(r.terminal.Key(), protocol.OutCall)
		if len(said) != 100 {
			t.Fatalf("%d arrived", len(said))
		}
		for i, p := range said {
			var m protocol.CallOut
			if err := protocol.Decode(p.Payload, &m); err != nil || int(m.Candidate.MLine) != i || p.Retain || p.Qos != 0 {
				t.Fatalf("message %d: %+v, %v", i, m, err)
			}
		}
		if err := r.PublishCall(t.Context(), &protocol.CallOut{}); !errors.Is(err, protocol.ErrVersion) {
			t.Errorf("an invalid message: %v", err)
		}
	})
}

// TestPublishCallWhenStuck: it never waits for longer than its context, or than it takes to notice.
func TestPublishCallWhenStuck(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.broker.frozen.Store(true)
		results := make(chan error, 200)
		for range 200 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				results <- r.PublishCall(ctx, candidate())
			}()
		}
		began := time.Now()
		var busy, late, written int
		for range 200 {
			switch err := <-results; {
			case errors.Is(err, link.ErrBusy):
				busy++
			case errors.Is(err, context.DeadlineExceeded):
				late++
			case err == nil:
				written++
			default:
				t.Error(err)
			}
		}
		if took := time.Since(began); took > 3*time.Second || busy == 0 || late == 0 || written > 3 {
			t.Errorf("after %v: %d busy, %d late, %d written", took, busy, late, written)
		}
		go func() { results <- r.PublishCall(t.Context(), candidate()) }()
		if err := <-results; !errors.Is(err, link.ErrDown) && !errors.Is(err, link.ErrBusy) {
			t.Errorf("without a deadline: %v", err)
		}
		pass(time.Minute)
		if err := r.PublishCall(t.Context(), candidate()); r.Up() == errors.Is(err, link.ErrDown) {
			t.Errorf("up %v: %v", r.Up(), err)
		}
	})
}

func TestPublishCallWhenDown(t *testing.T) {
	bubble(t, func(_ *link.Config, _ *link.Handlers, r *rig) { r.broker.refuse.Store(true) }, func(t *testing.T, r *rig) {
		began := time.Now()
		if err := r.PublishCall(t.Context(), candidate()); !errors.Is(err, link.ErrDown) || time.Since(began) != 0 {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

// TestResend: an event goes again and again until it is acknowledged, and only one at a time.
func TestResend(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		for i := range 3 {
			b, err := protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.AuthReplayed, At: protocol.Time(i + 1)})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.outbox.Append(protocol.EventNotice, b); err != nil {
				t.Fatal(err)
			}
		}
		pass(16 * time.Second)
		var events []protocol.Event
		for _, p := range r.broker.of(r.terminal.Key(), protocol.OutEvent) {
			var e protocol.Event
			if err := protocol.Decode(p.Payload, &e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		var seqs []uint64
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
		if fmt.Sprint(seqs) != "[1 1]" {
			t.Errorf("events %v after 16 s", seqs)
		}
		sent, last := 0, time.Now()
		gaps := map[time.Duration]bool{}
		for range 600 {
			pass(time.Second)
			if n := len(r.broker.of(r.terminal.Key(), protocol.OutEvent)); n > sent {
				gaps[time.Since(last)] = true
				sent, last = n, time.Now()
			}
		}
		if sent < 40 || sent > 55 {
			t.Errorf("sent %d times in ten minutes", sent)
		}
		if len(gaps) < 3 {
			t.Errorf("terminals that began together stay together: again after %v", gaps)
		}
	})
}

// TestPrepare: an attempt that is not prepared is none, says why, and is told why the one before failed.
func TestPrepare(t *testing.T) {
	var unready atomic.Bool
	var mu sync.Mutex
	var causes []protocol.Code
	unready.Store(true)
	bubble(t, func(c *link.Config, _ *link.Handlers, _ *rig) {
		c.Prepare = func(ctx context.Context, cause protocol.Code) error {
			mu.Lock()
			causes = append(causes, cause)
			mu.Unlock()
			if unready.Load() {
				<-ctx.Done() // it is not waited for without end
				return protocol.WithCode(protocol.TimeOff, ctx.Err())
			}
			return nil
		}
	}, func(t *testing.T, r *rig) {
		pass(time.Minute)
		if n := len(r.broker.attempts()); n != 0 || r.State().Cause != protocol.TimeOff {
			t.Errorf("%d attempts, state %+v", n, r.State())
		}
		unready.Store(false)
		pass(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if !r.Up() || len(causes) < 3 || causes[0] != "" || causes[1] != protocol.TimeOff {
			t.Errorf("up %v, causes %v", r.Up(), causes)
		}
	})
}
