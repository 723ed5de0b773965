package calls

import (
	"slices"
	"testing"

	"vindu/protocol"
)

// What the ends tell of a call's quality is summed up for each side, calls that were talked in alone, and what is not known is not counted as 0.
func TestQualityIsSummedUp(t *testing.T) {
	var r Records
	half := func(by protocol.Side, duration uint64, q protocol.Quality) {
		r.heard(&protocol.CallRecord{By: by, Duration: duration, Quality: q})
	}
	half(protocol.SideTerminal, 0, protocol.Quality{Grade: 100})
	half(protocol.SideTerminal, 60_000, protocol.Quality{Grade: 441, RTT: 40, Heat: 71, CPU: 300, Frozen: 1500, Concealed: 250})
	half(protocol.SideTerminal, 60_000, protocol.Quality{Grade: 258, RTT: 1 << 60, ERLE: 38})
	half(protocol.SideCaller, 1<<63, protocol.Quality{Frozen: 1 << 63})
	all := r.Quality()
	h := all[protocol.SideTerminal]
	if h.Talked != 120 || h.Frozen != 1.5 || h.Concealed != 0.25 || len(all) != 2 {
		t.Errorf("%+v", all)
	}
	for name, s := range map[string]struct {
		got  Spread
		want []uint64
		sum  float64
	}{
		"grade": {h.Grade, []uint64{1, 0, 0, 0, 0, 1}, 6.99},
		"heat":  {h.Heat, []uint64{0, 0, 0, 1, 0, 0}, 71},
		"cpu":   {h.CPU, []uint64{0, 1, 0, 0, 0, 0}, 0.3},
		"erle":  {h.ERLE, []uint64{0, 0, 0, 1, 0}, 38},
	} {
		if !slices.Equal(s.got.Counts, s.want) || s.got.Sum < s.sum-1e-9 || s.got.Sum > s.sum+1e-9 {
			t.Errorf("%s: %v, sum %v, want %v, %v", name, s.got.Counts, s.got.Sum, s.want, s.sum)
		}
	}
	if year := 365 * 24 * 3600.0; all[protocol.SideCaller].Talked != year || h.RTT.Sum > year+1 {
		t.Errorf("what cannot be spoils the sums: %+v", all)
	}
	all[protocol.SideTerminal].Grade.Counts[0] = 99
	if r.Quality()[protocol.SideTerminal].Grade.Counts[0] != 1 {
		t.Error("what was given out is not a copy")
	}
}
