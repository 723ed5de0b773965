package link_test

import (
	"testing"

	"vindu/protocol"
)

// TestTrip: over a real broker, what the clinic answers is said back at once if it asks for that, and measured; what was never said is not believed.
func TestTrip(t *testing.T) {
	c := connect(t, nil)
	heard := func(beat uint64, confirm bool) {
		c.say(protocol.InCommand, encoded(t, &protocol.Command{Version: 1, Kind: protocol.CommandHeard, Beat: beat, Confirm: confirm}))
	}
	first := c.hearPresence()
	if first.Beat == 0 || first.Heard != 0 {
		t.Errorf("first said %+v", first)
	}
	if trip := c.Trip(); !trip.Up || trip.From.IsZero() || trip.Took != 0 {
		t.Errorf("before an answer: %+v", trip)
	}
	heard(first.Beat+100, true) // of no presence of this connection
	heard(first.Beat, true)
	second := c.hearPresence()
	if second.Session != first.Session || second.Beat != first.Beat+1 || second.Heard != first.Beat {
		t.Errorf("then said %+v after %+v", second, first)
	}
	if trip := c.Trip(); trip.Took <= 0 {
		t.Errorf("after an answer: %+v", trip)
	}
	heard(second.Beat, false)
	c.say(protocol.InCommand, encoded(t, &protocol.Command{Version: 1, Kind: protocol.CommandReport}))
	if third := c.hearPresence(); third.Heard != second.Beat || third.Beat != second.Beat+1 {
		t.Errorf("asked to report, said %+v after %+v", third, second)
	}
	select {
	case m := <-c.commands:
		if m.Kind != protocol.CommandReport {
			t.Errorf("the handler got %+v", m)
		}
	default:
	}
}
