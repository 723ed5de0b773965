package grade_test

import (
	"math"
	"testing"
	"time"

	"vindu/media/grade"
)

// The values of ITU-T G.107 annex B, table B.1: R and the mean opinion score at the limits of its categories.
func TestMOS(t *testing.T) {
	for r, want := range map[float64]float64{90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58, 0: 1, -10: 1, 100: 4.5, 120: 4.5, 93.2: 4.41, 3: 1} {
		if got := grade.MOS(r); math.Abs(got-want) > 0.01 {
			t.Errorf("R %v: %.3f, want %.2f", r, got, want)
		}
	}
}

func TestR(t *testing.T) {
	for _, tt := range []struct {
		name      string
		delay     time.Duration
		concealed float64
		want      float64
	}{
		{"empty line", 50 * time.Millisecond, 0, 93.2},
		{"at the edge of what is noticed", 100 * time.Millisecond, 0, 93.2},
		// G.114 figure 1 and G.107 appendix: without loss 150 ms cost next to nothing, 400 ms come to 69.
		{"150 ms", 150 * time.Millisecond, 0, 93.1},
		{"250 ms", 250 * time.Millisecond, 0, 84.3},
		{"400 ms", 400 * time.Millisecond, 0, 69.1},
		{"one in a hundred", 0, 0.01, 93.2 - 95*1/26.1},
		{"one in ten", 0, 0.10, 93.2 - 95*10/35.1},
		{"all", 0, 1, 93.2 - 95*100/125.1},
		{"nonsense", 0, math.NaN(), 93.2 - 95*100/125.1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := grade.R(tt.delay, tt.concealed); math.Abs(got-tt.want) > 0.5 {
				t.Errorf("%.2f, want %.2f", got, tt.want)
			}
		})
	}
	// More delay and more loss are never better.
	last := 100.0
	for ms := range 2000 {
		r := grade.R(time.Duration(ms)*time.Millisecond, 0)
		if r > last+1e-9 {
			t.Fatalf("%d ms grade better than %d", ms, ms-1)
		}
		last = r
	}
}

func TestMeter(t *testing.T) {
	var m grade.Meter
	now := time.Unix(1000, 0)
	total := grade.Totals{RTT: 40 * time.Millisecond, Buffered: 40 * time.Millisecond, Heat: 50}
	if _, ok := m.Note(now, total); ok {
		t.Error("the first reading makes a second")
	}
	if _, ok := m.Note(now, total); ok {
		t.Error("no time makes a second")
	}
	var s grade.Second
	for i := range 10 {
		now = now.Add(time.Second)
		total.Packets, total.BytesIn, total.BytesOut = total.Packets+90, total.BytesIn+62_500, total.BytesOut+125_000
		total.Lost += 10
		total.Sound += time.Second
		total.Pictures += 25
		total.CPU += 250 * time.Millisecond
		if i == 9 {
			total.Concealed += 100 * time.Millisecond
			total.Freezes, total.Frozen, total.Heat = 1, 400*time.Millisecond, 61
		}
		var ok bool
		if s, ok = m.Note(now, total); !ok {
			t.Fatal("no second")
		}
	}
	if s.At != 10*time.Second || s.Loss != 0.1 || s.Concealed != 0.1 || s.BitrateIn != 500_000 || s.BitrateOut != 1_000_000 || s.Pictures != 25 ||
		s.FrozenFor != 0.4 || s.CPU != 0.25 || s.Delay != 60*time.Millisecond || math.Abs(s.Grade-grade.MOS(grade.R(s.Delay, 0.1))) > 1e-6 {
		t.Errorf("the last second: %+v", s)
	}
	c := m.Call()
	if c.Seconds != 10 || c.Grade > 4.35 || c.Grade < 4.25 || c.Worst < 4.3 || c.Concealed != 100*time.Millisecond || c.Freezes != 1 ||
		c.Frozen != 400*time.Millisecond || c.RTT != 40*time.Millisecond || c.CPU != 0.25 || c.Heat != 61 {
		t.Errorf("the call: %+v", c)
	}
	// Nothing is played: no grade, and none that is remembered.
	if s, _ = m.Note(now.Add(time.Second), total); s.Grade != 0 || m.Call().Seconds != 10 {
		t.Errorf("without sound: %+v", s)
	}
	// Counters that were set back make nothing negative.
	s, _ = m.Note(now.Add(2*time.Second), grade.Totals{})
	if s.BitrateIn != 0 || s.Pictures != 0 || s.Loss != 0 || s.CPU != 0 || s.FrozenFor != 0 {
		t.Errorf("set back: %+v", s)
	}
}
