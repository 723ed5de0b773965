package calls

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vindu/protocol"
)

// Every state meets every happening.
func TestCourse(t *testing.T) {
	const code, why = protocol.Code("test.code"), protocol.Code("test.why")
	type result struct {
		state   State
		ending  protocol.Code
		effects []effect
		outcome protocol.Code
	}
	over := func(outcome protocol.Code, effects ...effect) *result {
		return &result{Ended, "", append(effects, finish), outcome}
	}
	stopped := &result{Ended, why, []effect{finish}, why}
	table := map[course]map[happening]*result{ // what is not here does not fit
		{state: Calling}: {
			terminalRings: {Ringing, "", []effect{forward}, ""}, terminalSaysNo: over(code, forward), terminalRefuses: over(code),
			terminalEnds: over(code), terminalReports: over(code), terminalLost: over(code), hangUp: over(code, tellTerminal),
		},
		{state: Ringing}: {
			terminalAnswers: {Talking, "", []effect{forward}, ""}, terminalSaysNo: over(code, forward),
			terminalEnds: over(code), terminalReports: over(code), terminalLost: over(code),
			hangUp: {Ringing, code, []effect{tellTerminal}, ""},
		},
		{state: Talking}: {
			terminalEnds: over(code), terminalReports: over(code), terminalLost: over(code),
			hangUp: {Talking, code, []effect{tellTerminal}, ""},
		},
		{state: Ringing, ending: why}: {
			terminalSaysNo: stopped, terminalEnds: stopped, terminalReports: stopped, terminalLost: stopped, endWaited: stopped,
		},
		{state: Talking, ending: why}: {
			terminalSaysNo: stopped, terminalEnds: stopped, terminalReports: stopped, terminalLost: stopped, endWaited: stopped,
		},
		{state: Ended}:              {},
		{state: Ended, ending: why}: {},
	}
	for from, row := range table {
		for h := happening(1); h < happeningsBeyond; h++ {
			to, effects, outcome, fits := from.next(h, code)
			want := row[h]
			if want == nil {
				if fits || to != from || effects != nil || outcome != "" {
					t.Errorf("%+v, happening %d: %+v %v %q, want nothing", from, h, to, effects, outcome)
				}
				continue
			}
			if !fits || to.state != want.state || to.ending != want.ending || !slices.Equal(effects, want.effects) || outcome != want.outcome {
				t.Errorf("%+v, happening %d: %+v %v %q, want %+v", from, h, to, effects, outcome, *want)
			}
		}
	}
}

// Whatever happens in whatever order: a call ends at most once, with a code, and nothing happens after; the terminal is told at most once.
func TestCourseSequences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := course{state: Calling}
		finished, told := 0, 0
		for _, h := range rapid.SliceOf(rapid.Uint8Range(0, uint8(happeningsBeyond))).Draw(t, "happenings") {
			before := c
			to, effects, outcome, fits := c.next(happening(h), "test.code")
			if !fits && to != before {
				t.Fatalf("changed by what does not fit: %+v to %+v", before, to)
			}
			c = to
			for _, e := range effects {
				switch e {
				case finish:
					finished++
					if c.state != Ended || outcome == "" {
						t.Fatalf("finished in %+v with %q", c, outcome)
					}
				case tellTerminal:
					told++
				}
			}
			if before.state == Ended && len(effects) > 0 {
				t.Fatalf("%v after the end", effects)
			}
		}
		if finished > 1 || told > 1 || (c.state == Ended) != (finished == 1) {
			t.Fatalf("finished %d times, told %d times, in %+v", finished, told, c)
		}
	})
}
