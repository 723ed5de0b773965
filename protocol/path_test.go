package protocol

import (
	"errors"
	"slices"
	"testing"
)

func pathRecord() *CallRecord {
	end := PathEnd{"host", "v4.private", "udp"}
	return &CallRecord{
		Version: Version, Call: CallID{1}, By: SideTerminal, Began: 1_800_000_000_000, Outcome: ICEFailed,
		Pairs: []Pair{{Local: end, Remote: PathEnd{"relay", "v6.public", "tls"}, State: "failed", Asked: 7}}, Gather: []GatherError{{"tls", 701}},
	}
}

// Nothing that could be an address passes through the words of a path.
func TestPathWords(t *testing.T) {
	if err := pathRecord().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*CallRecord){
		"address for a network":   func(r *CallRecord) { r.Pairs[0].Local.Network = "203.0.113.7" },
		"address for a kind":      func(r *CallRecord) { r.Pairs[0].Remote.Kind = "2001:db8::1" },
		"address for a transport": func(r *CallRecord) { r.Pairs[0].Remote.Transport = "turn.example" },
		"address for a state":     func(r *CallRecord) { r.Pairs[0].State = "192.0.2.1" },
		"address for a way":       func(r *CallRecord) { r.Gather[0].Way = "turn:192.0.2.1" },
		"code of no STUN":         func(r *CallRecord) { r.Gather[0].Code = 4711 },
		"too many pairs":          func(r *CallRecord) { r.Pairs = slices.Repeat(r.Pairs, MaxPairs+1) },
		"too many errors":         func(r *CallRecord) { r.Gather = slices.Repeat(r.Gather, MaxGatherErrors+1) },
		"ragged series":           func(r *CallRecord) { r.Series = &Series{Every: 1, RTT: []uint64{1}} },
		"ragged grades": func(r *CallRecord) {
			r.Series = &Series{Every: 1, RTT: []uint64{1}, Loss: []uint64{1}, Jitter: []uint64{1}, Out: []uint64{1}, In: []uint64{1}, Frames: []uint64{1}, Grade: []uint64{400, 400}}
		},
		"heat of a sun": func(r *CallRecord) {
			r.Series = &Series{Every: 1, RTT: []uint64{1}, Loss: []uint64{1}, Jitter: []uint64{1}, Out: []uint64{1}, In: []uint64{1}, Frames: []uint64{1}, Heat: []uint64{5500}}
		},
		"hot call":               func(r *CallRecord) { r.Quality.Heat = MostHeat + 1 },
		"grade below the least":  func(r *CallRecord) { r.Quality.Grade = LeastGrade - 1 },
		"grade above the most":   func(r *CallRecord) { r.Quality.Worst = MostGrade + 1 },
		"echo that is nowhere":   func(r *CallRecord) { r.Quality.ERLE = MostERLE + 1 },
		"processors without end": func(r *CallRecord) { r.Quality.CPU = MostCPU + 1 },
		"text for a coder":       func(r *CallRecord) { r.Quality.CodecIn = "Kari Nordmann" },
		"text for another coder": func(r *CallRecord) { r.Quality.CodecOut = "192.0.2.1" },
		"series without a step":  func(r *CallRecord) { r.Series = &Series{} },
	} {
		t.Run(name, func(t *testing.T) {
			r := pathRecord()
			change(r)
			if err := r.Validate(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v, want %v", err, ErrMalformed)
			}
		})
	}
}

// However long a call is, its half stays within a few KiB, and the series says what happened.
func TestSampler(t *testing.T) {
	if new(Sampler).Series() != nil {
		t.Error("a series of nothing")
	}
	for _, seconds := range []int{1, MaxSeries - 1, MaxSeries, MaxSeries + 1, 3*MaxSeries + 1, 7200} {
		var a Sampler
		for i := range seconds {
			s := Sample{RTT: 900, Jitter: 300, Out: 2_500, In: 2_500, Frames: 30, Grade: 441, ERLE: 40, CPU: 900, Frozen: 999}
			if i == seconds/2 {
				s.Loss, s.Grade, s.CPU = 777, 123, 9_000_000
			}
			a.Add(s)
		}
		s := a.Series()
		if err := s.valid(); err != nil {
			t.Fatalf("%d s: %v", seconds, err)
		}
		if n := uint64(len(s.RTT)); n*s.Every < uint64(seconds) || (n-1)*s.Every >= uint64(seconds)+s.Every || slices.Max(s.Loss) != 777 || slices.Min(s.RTT) != 900 {
			t.Errorf("%d s: %d values of %d s, worst loss %d", seconds, n, s.Every, slices.Max(s.Loss))
		}
		if slices.Min(s.Grade) != 123 || slices.Max(s.CPU) != MostCPU || slices.Min(s.ERLE) != 40 {
			t.Errorf("%d s: worst grade %d, most of a processor %d, ERLE %d", seconds, slices.Min(s.Grade), slices.Max(s.CPU), slices.Min(s.ERLE))
		}
		if s.Heat != nil || s.Concealed != nil {
			t.Errorf("%d s: what is not known is told: %d, %d", seconds, s.Heat, s.Concealed)
		}
		r := pathRecord()
		r.Pairs, r.Series = slices.Repeat(r.Pairs, MaxPairs), s
		b, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 12<<10 {
			t.Errorf("%d s: %d bytes", seconds, len(b))
		}
	}
}
