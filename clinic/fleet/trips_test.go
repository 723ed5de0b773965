package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// TestRoundTrip drives the board by hand: presence is said every 25 s, and lost in one direction or the other.
func TestRoundTrip(t *testing.T) {
	says := func(session protocol.Nonce, beat, heard uint64) *protocol.Presence {
		p := presence(true, session)
		p.Beat, p.Heard = beat, heard
		return p
	}
	type step struct {
		after   time.Duration // since the start
		says    *protocol.Presence
		lost    bool // the answer does not arrive; only what is said later shows it
		health  bool // something else comes
		online  bool
		confirm bool // the answer asks for a confirmation at once
	}
	for name, steps := range map[string][]step{
		"comes": {
			{says: says(first, 10, 0), confirm: true},
			{after: time.Second, says: says(first, 11, 10), online: true},
			{after: 26 * time.Second, says: says(first, 12, 11), online: true},
			{after: 85 * time.Second, online: true},
			{after: 86 * time.Second},
		},
		"nothing gets through to the terminal": {
			{says: says(first, 10, 0), confirm: true},
			{after: time.Second, says: says(first, 11, 10), online: true},
			{after: 25 * time.Second, says: says(first, 12, 10), lost: true, online: true},
			{after: 50 * time.Second, says: says(first, 13, 10), health: true, online: true},
			{after: 61 * time.Second, health: true},
			{after: 75 * time.Second, says: says(first, 14, 10)},
			{after: 100 * time.Second, says: says(first, 15, 14), online: true},
		},
		"what was never answered was never heard": {
			{says: says(first, 10, 9), confirm: true},
			{after: time.Second, says: says(first, 11, 11), confirm: true},
			{after: 2 * time.Second, says: says(first, 12, 11), online: true},
		},
		"another connection begins anew": {
			{says: says(first, 10, 0), confirm: true},
			{after: time.Second, says: says(first, 11, 10), online: true},
			{after: 2 * time.Second, says: says(second, 500, 0), confirm: true},
			{after: 3 * time.Second, says: says(second, 501, 11), confirm: true},
			{after: 4 * time.Second, says: says(second, 502, 500), online: true},
		},
		"of a version that does not take part": {
			{says: presence(true, first), online: true},
			{after: 59 * time.Second, online: true},
			{after: 60 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard()
			for i, s := range steps {
				now := start.Add(s.after)
				if s.health {
					b.health(terminal, report(now, nil), false, now)
				}
				var answer *protocol.Command
				if s.says != nil {
					b.presence(terminal, s.says, false, now)
					answer = b.answer(terminal, s.says)
				}
				b.silence(now)
				if got := b.state(terminal, now).Online; got != s.online {
					t.Errorf("step %d: online %v", i, got)
				}
				if (answer != nil && answer.Confirm) != s.confirm {
					t.Errorf("step %d: answered %+v", i, answer)
				}
				if s.says != nil && s.says.Beat != 0 && (answer == nil || answer.Beat != s.says.Beat) {
					t.Errorf("step %d: answered %+v", i, answer)
				}
			}
		})
	}
}

// TestAnswers: over a real broker a presence is answered by its number, and makes the terminal online once it says so.
func TestAnswers(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	p := presence(true, first)
	p.Beat = 70
	d.say(t, protocol.OutPresence, true, encode(t, p))
	heard := func() *protocol.Command {
		c := new(protocol.Command)
		if err := protocol.Decode(d.next(t).Payload(), c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := heard(); c.Kind != protocol.CommandHeard || c.Beat != 70 || !c.Confirm {
		t.Errorf("answered %+v", c)
	}
	if s := x.State(d.Hash); s.Online || s.Heard.IsZero() {
		t.Errorf("before the round trip: %+v", s)
	}
	p.Beat, p.Heard = 71, 70
	d.say(t, protocol.OutPresence, false, encode(t, p))
	x.until(t, "online", func() bool { return x.State(d.Hash).Online })
	if c := heard(); c.Beat != 71 || c.Confirm {
		t.Errorf("answered %+v", c)
	}
	if x.State(d.Hash).RoundTrip.IsZero() {
		t.Error("no round trip is known")
	}
}

// TestReported: what comes by another way shows that a terminal is alive, not that it can be called.
func TestReported(t *testing.T) {
	b := newBoard()
	b.presence(terminal, presence(true, first), false, start)
	b.presence(terminal, presence(false, first), false, start.Add(time.Second))
	later := start.Add(10 * time.Minute)
	b.reported(terminal, report(later.Add(24*time.Hour), func(h *protocol.Health) { h.Software = "1.1" }), later) // by a clock that is ahead
	if s := b.state(terminal, later); s.Online || !s.Heard.Equal(later) || s.Software != "1.1" {
		t.Errorf("%+v", s)
	}
	later = later.Add(time.Minute)
	b.reported(terminal, report(later, func(h *protocol.Health) { h.Software = "1.2" }), later) // and by the same, put right
	b.reported(terminal, nil, later.Add(time.Second))
	if s := b.state(terminal, later); !s.Heard.Equal(later.Add(time.Second)) || s.Software != "1.2" || s.Health.At != protocol.At(later) {
		t.Errorf("%+v", s)
	}
}

// TestPresenceDoesNotLie: a terminal whose connection hangs half-open is offline within a minute and the time between two looks.
func TestPresenceDoesNotLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		p := presence(true, first)
		for beat := uint64(1); beat < 5; beat++ {
			p.Beat, p.Heard = beat, beat-1
			b.presence(terminal, p, false, time.Now())
			b.answer(terminal, p)
			<-time.After(25 * time.Second)
		}
		hangs := time.Now()
		heard := p.Beat - 1
		for b.state(terminal, time.Now()).Online { // the terminal goes on saying that it is there, and gets no answer
			<-time.After(time.Second)
			if time.Since(hangs)%(25*time.Second) == 0 {
				p.Beat, p.Heard = p.Beat+1, heard
				b.presence(terminal, p, false, time.Now())
				b.answer(terminal, p)
			}
			b.silence(time.Now())
		}
		if took := time.Since(hangs); took > Silence+silenceCheck {
			t.Errorf("online for %v", took)
		}
	})
}
