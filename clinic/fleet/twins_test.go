package fleet

import (
	"fmt"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/broker/brokertest"
	"vindu/protocol"
)

func TestTwins(t *testing.T) {
	type step struct {
		after   time.Duration // since the step before
		session byte
		started time.Duration // before the first step; negative after
		will    bool          // the connection's end is noticed
	}
	const hour = time.Hour
	flood := func(n int, every time.Duration) (steps []step) {
		for i := range n {
			steps = append(steps, step{after: every, session: byte(i + 1), started: hour})
		}
		return steps
	}
	for name, tc := range map[string]struct {
		steps []step
		want  int
	}{
		"one that reports":                     {[]step{{0, 1, hour, false}, {20 * time.Second, 1, hour, false}, {20 * time.Second, 1, hour, false}}, 0},
		"one that lost its line":               {[]step{{0, 1, hour, false}, {20 * time.Second, 2, hour, false}, {20 * time.Second, 3, hour, false}}, 0},
		"one that restarts again and again":    {[]step{{0, 1, hour, false}, {time.Minute, 2, -time.Minute, false}, {time.Minute, 3, -2 * time.Minute, false}}, 0},
		"one whose clock was off and put back": {[]step{{0, 1, hour, false}, {time.Minute, 1, 9 * hour, false}, {time.Minute, 1, hour, false}}, 0},
		"two in turn":                          {[]step{{0, 1, hour, false}, {2 * time.Second, 2, hour / 2, false}, {2 * time.Second, 3, hour, false}}, 1},
		"two in turn, their ends noticed":      {[]step{{0, 1, hour, true}, {2 * time.Second, 2, hour / 2, true}, {2 * time.Second, 3, hour, true}}, 1},
		"two in turn, told once":               {[]step{{0, 1, hour, false}, {2 * time.Second, 2, hour / 2, false}, {2 * time.Second, 3, hour, false}, {2 * time.Second, 4, hour / 2, false}, {2 * time.Second, 5, hour, false}}, 1},
		"back after a long time":               {[]step{{0, 1, hour, false}, {4 * time.Minute, 2, hour / 2, false}, {4 * time.Minute, 3, hour, false}}, 0},
		"many connections in a short time":     {flood(manyTakeovers+1, 10*time.Second), 1},
		"many connections in a long time":      {flood(3*manyTakeovers, 40*time.Second), 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard()
			told := 0
			b.twice = func(k protocol.KeyHash, why string) {
				if k != terminal || why == "" {
					t.Errorf("told of %v, %q", k, why)
				}
				told++
			}
			now := start
			for _, s := range tc.steps {
				now = now.Add(s.after)
				session := protocol.Nonce{s.session}
				b.presence(terminal, presence(true, session), false, now)
				b.health(terminal, report(now, func(h *protocol.Health) { h.Uptime = uint64(now.Sub(start.Add(-s.started)).Seconds()) }), false, now)
				if s.will {
					b.presence(terminal, presence(false, session), false, now)
				}
			}
			if told != tc.want {
				t.Errorf("told %d times, want %d", told, tc.want)
			}
		})
	}
}

// Two that never say a word push each other out, and the broker tells. What each end says and what the broker sees is counted apart: it is the same connections.
func TestReplaced(t *testing.T) {
	for name, tc := range map[string]struct {
		every time.Duration
		n     int
		said  bool // the terminal tells its presence, too
		want  int
	}{
		"a copy that comes every 40 s and is pushed out": {20 * time.Second, manyTakeovers, false, 1},
		"told once":       {20 * time.Second, 3 * manyTakeovers, false, 1},
		"a bad line":      {40 * time.Second, 3 * manyTakeovers, false, 0},
		"a bad line, too": {20 * time.Second, manyTakeovers - 1, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard()
			told := 0
			b.twice = func(protocol.KeyHash, string) { told++ }
			now := start
			for i := range tc.n {
				now = now.Add(tc.every)
				b.replaced(terminal, now)
				if tc.said {
					b.presence(terminal, presence(true, protocol.Nonce{byte(i + 1)}), false, now)
				}
			}
			if told != tc.want {
				t.Errorf("told %d times, want %d", told, tc.want)
			}
		})
	}
}

// Two devices with one terminal's certificate push each other out of the broker and are noticed.
func TestTwoConnections(t *testing.T) {
	x := newFixture(t)
	told := make(chan protocol.KeyHash, 1)
	x.board.mu.Lock()
	x.board.twice = func(k protocol.KeyHash, _ string) { told <- k }
	x.board.mu.Unlock()
	id := x.broker.Terminal(t)
	now := time.Now()
	for i, uptime := range []uint64{3600, 60, 3600} {
		session := protocol.Nonce{byte(i + 1)}
		var c mqtt.Client
		x.until(t, "connected", func() bool { // the broker keeps identities that change hands out for a second
			var err error
			c, err = brokertest.Connect(t, x.broker.Options(id))
			return err == nil
		})
		say := func(channel string, payload []byte) {
			brokertest.Wait(t, c.Publish(protocol.OutTopic(id.Hash, channel), 0, true, payload))
		}
		say(protocol.OutPresence, encode(t, presence(true, session)))
		say(protocol.OutHealth, encode(t, report(now, func(h *protocol.Health) { h.Uptime, h.Software = uptime, fmt.Sprint(i) })))
		x.until(t, "heard", func() bool { return x.State(id.Hash).Software == fmt.Sprint(i) })
	}
	select {
	case k := <-told:
		if k != id.Hash {
			t.Errorf("told of %v", k)
		}
	case <-time.After(brokertest.Patience):
		t.Error("not noticed")
	}
}
