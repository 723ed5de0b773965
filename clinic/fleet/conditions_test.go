package fleet

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"vindu/protocol"
)

// TestConditions: their history is kept once, however often and in which order it comes.
func TestConditions(t *testing.T) {
	x := newFixture(t)
	key := protocol.KeyHash{7}
	minute := int64(time.Minute / time.Millisecond)
	seq := uint64(0)
	change := func(c protocol.Code, since, until int64) *protocol.Event {
		seq++
		body, err := protocol.Encode(&protocol.ConditionChange{Version: protocol.Version, Code: c, Since: protocol.Time(since * minute), Until: protocol.Time(until * minute), Figure: "81 °C"})
		if err != nil {
			t.Fatal(err)
		}
		return &protocol.Event{Version: protocol.Version, Epoch: first, Seq: seq, At: 5, Kind: protocol.EventCondition, Body: body}
	}
	events := []*protocol.Event{
		change(protocol.HeatHot, 1, 0), change(protocol.HeatHot, 1, 3),
		change(protocol.PowerLow, 2, 0),
		change(protocol.HeatHot, 5, 0),
		change(protocol.HeatHot, 8, 0), // the end of the one before was dropped
	}
	for range 2 {
		if _, err := x.Commit(t.Context(), key, events...); err != nil {
			t.Fatal(err)
		}
	}
	got, err := x.Conditions(t.Context(), key, 10)
	if err != nil {
		t.Fatal(err)
	}
	at := func(m int64) time.Time { return protocol.Time(m * minute).Time() }
	want := []Past{
		{protocol.HeatHot, at(8), time.Time{}, "81 °C"}, {protocol.HeatHot, at(5), at(8), "81 °C"},
		{protocol.PowerLow, at(2), time.Time{}, "81 °C"}, {protocol.HeatHot, at(1), at(3), "81 °C"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestUntold: a condition whose end was never told is over once the terminal's health does not have it, and counts for no later call; an end that is told late says when.
func TestUntold(t *testing.T) {
	x := newFixture(t)
	const low = protocol.PowerLow
	at := func(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }
	never := time.Time{}
	type say struct {
		since, until int // an event
		health       int // or, if not 0, a health message of then
		up           int // of a terminal that began so many minutes before
		holds        []int
	}
	for name, test := range map[string]struct {
		says []say
		want []Past
	}{
		"power was cut":                                   {[]say{{since: 1}, {health: 50, up: 10}}, []Past{{low, at(1), at(40), ""}}},
		"and again":                                       {[]say{{since: 1}, {health: 50, up: 10}, {since: 60}, {health: 90, up: 5}, {health: 91, up: 6}}, []Past{{low, at(60), at(85), ""}, {low, at(1), at(40), ""}}},
		"the new start found it again":                    {[]say{{since: 1}, {health: 50, up: 10}, {since: 45}, {health: 51, up: 11, holds: []int{45}}}, []Past{{low, at(45), never, ""}, {low, at(1), at(40), ""}}},
		"the end came late":                               {[]say{{since: 1}, {health: 50, up: 10}, {since: 1, until: 20}}, []Past{{low, at(1), at(20), ""}}},
		"its beginning came late":                         {[]say{{health: 50, up: 10}, {since: 1}, {health: 51, up: 11}}, []Past{{low, at(1), at(40), ""}}},
		"its beginning came again":                        {[]say{{since: 1}, {health: 50, up: 10}, {since: 1}}, []Past{{low, at(1), at(40), ""}}},
		"the end was dropped":                             {[]say{{since: 1}, {health: 50, up: 90}}, []Past{{low, at(1), at(50), ""}}},
		"the end was only on its way":                     {[]say{{since: 1}, {health: 50, up: 90}, {since: 1, until: 49}}, []Past{{low, at(1), at(49), ""}}},
		"it holds":                                        {[]say{{since: 1}, {health: 50, up: 90, holds: []int{1}}}, []Past{{low, at(1), never, ""}}},
		"the message is from before":                      {[]say{{since: 60}, {health: 50, up: 10}}, []Past{{low, at(60), never, ""}}},
		"an older message came after":                     {[]say{{since: 40}, {health: 50, up: 90}, {health: 51, up: 91, holds: []int{40}}}, []Past{{low, at(40), never, ""}}},
		"its end was told, and not doubted":               {[]say{{since: 1, until: 30}, {health: 20, up: 90, holds: []int{1}}}, []Past{{low, at(1), at(30), ""}}},
		"the end of the one before was dropped, and came": {[]say{{since: 1}, {since: 30}, {since: 1, until: 20}}, []Past{{low, at(30), never, ""}, {low, at(1), at(20), ""}}},
		"a clock that begins behind":                      {[]say{{since: 45}, {health: 50, up: 10}}, []Past{{low, at(45), at(50), ""}}},
		"up for longer than there is time":                {[]say{{since: 1}, {health: 50, up: 1 << 40}}, []Past{{low, at(1), at(50), ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			key, other := protocol.KeyHash(sha256.Sum256([]byte(name))), protocol.KeyHash(sha256.Sum256([]byte("beside "+name)))
			for i, s := range test.says {
				for _, k := range []protocol.KeyHash{key, other} {
					r := &protocol.Report{Version: protocol.Version}
					if s.health == 0 {
						if k == other && s.until != 0 {
							continue
						}
						change := &protocol.ConditionChange{Version: protocol.Version, Code: low, Since: protocol.At(at(s.since))}
						if s.until != 0 {
							change.Until = protocol.At(at(s.until))
						}
						body, err := protocol.Encode(change)
						if err != nil {
							t.Fatal(err)
						}
						r.Events = []protocol.Event{{Version: protocol.Version, Epoch: first, Seq: uint64(i + 1), At: 5, Kind: protocol.EventCondition, Body: body}}
					} else if k == key { // what one says ends nothing of another
						r.Health = report(at(s.health), func(h *protocol.Health) {
							h.Uptime = uint64(s.up) * 60
							for _, since := range s.holds {
								h.Conditions = append(h.Conditions, protocol.Condition{Code: low, Since: protocol.At(at(since))})
							}
						})
					}
					if _, err := x.Report(t.Context(), k, r); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := x.Conditions(t.Context(), key, 10)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, test.want, func(a, b Past) bool {
				return a.Code == b.Code && a.Since.Equal(b.Since) && a.Until.Equal(b.Until) && a.Figure == b.Figure
			}) {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			month := at(30 * 24 * 60)
			held, err := x.Held(t.Context(), key, month, month.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if open := test.want[0].Until.IsZero(); (len(held) > 0) != open {
				t.Errorf("a month later %v held", held)
			}
			if past, err := x.Conditions(t.Context(), other, 1); err != nil || len(past) > 0 && !past[0].Until.IsZero() {
				t.Errorf("of another terminal: %+v, %v", past, err)
			}
		})
	}
}

// TestUntoldByBroker: the same by the way that terminals take. A message that the broker kept proves nothing.
func TestUntoldByBroker(t *testing.T) {
	x := newFixture(t)
	d := x.device(t, nil, first)
	body, err := protocol.Encode(&protocol.ConditionChange{Version: protocol.Version, Code: protocol.HeatHot, Since: protocol.At(start)})
	if err != nil {
		t.Fatal(err)
	}
	x.receive(protocol.OutTopic(d.Hash, protocol.OutEvent), encode(t, &protocol.Event{Version: protocol.Version, Epoch: first, Seq: 1, At: 5, Kind: protocol.EventCondition, Body: body}), false)
	holds := func() bool {
		t.Helper()
		past, err := x.Conditions(t.Context(), d.Hash, 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(past) == 1 && past[0].Until.IsZero()
	}
	x.until(t, "kept", holds)
	d.ack(t)
	now := encode(t, report(start.Add(time.Hour), nil))
	x.receive(protocol.OutTopic(d.Hash, protocol.OutHealth), now, true)
	x.receive(protocol.OutTopic(d.Hash, protocol.OutEvent), encode(t, &protocol.Event{Version: protocol.Version, Epoch: first, Seq: 2, At: 5, Kind: protocol.EventCondition, Body: body}), false)
	d.ack(t) // whatever came before is stored
	if !holds() {
		t.Error("ended by what the broker kept")
	}
	d.say(t, protocol.OutHealth, true, now)
	x.until(t, "over", func() bool { return !holds() })
}
