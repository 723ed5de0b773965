package jitter_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"vindu/media/codec"
	"vindu/media/jitter"
	"vindu/media/jitter/jittertest"
	"vindu/media/sound"
)

func newBuffer(t testing.TB) *jitter.Buffer {
	t.Helper()
	b, err := jitter.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// tone is always there, so that what is quiet is missing.
func tone() func([]int16) {
	n := 0
	return func(frame []int16) {
		for i := range frame {
			frame[i] = int16(6000 * math.Sin(2*math.Pi*440*float64(n)/codec.SampleRate))
			n++
		}
	}
}

func code(t testing.TB, voice func([]int16), packets int, loss float64, dtx bool) [][]byte {
	t.Helper()
	coded, err := jittertest.Code(voice, packets, loss, dtx)
	if err != nil {
		t.Fatal(err)
	}
	return coded
}

// The goals for gaps (99 of 100 are no longer) are 60, 120 and 300 ms; what is measured is in docs/benchmarks.md.
func TestLines(t *testing.T) {
	const ms = time.Millisecond
	coded := code(t, sound.NewVoice().Fill, 500, 0.2, false)
	for _, tt := range []struct {
		name      string
		line      jittertest.Line
		gap       time.Duration // 99 of 100 are no longer
		concealed float64       // part of all, at most
		recovered float64       // at least
		mean      time.Duration // of the delay
	}{
		{"perfect", jittertest.Line{Delay: 30 * ms}, 0, 0, 0, 45 * ms},
		{"a little jitter", jittertest.Line{Delay: 30 * ms, Spread: 5 * ms}, 20 * ms, 0.002, 0, 55 * ms},
		{"100±30 ms, reordered", jittertest.Line{Delay: 100 * ms, Spread: 30 * ms}, 20 * ms, 0.01, 0, 110 * ms},
		{"10 % lost, 100±30 ms", jittertest.Line{Loss: 0.1, Delay: 100 * ms, Spread: 30 * ms}, 60 * ms, 0.04, 0.05, 150 * ms},
		{"20 % lost, 100±30 ms", jittertest.Line{Loss: 0.2, Delay: 100 * ms, Spread: 30 * ms}, 120 * ms, 0.08, 0.1, 160 * ms},
		{"30 % lost, 100±30 ms", jittertest.Line{Loss: 0.3, Delay: 100 * ms, Spread: 30 * ms}, 300 * ms, 0.16, 0.15, 170 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.line.Seed = 7
			r := tt.line.Play(newBuffer(t), coded, time.Minute, nil)
			t.Logf("%d gaps, 99 %% up to %v, longest %v; mean delay %v (%v to %v); %+v", len(r.Gaps), r.Gap(0.99), r.Stats.Longest, r.Mean, r.Shortest, r.Most, r.Stats)
			frames := float64(r.Stats.Played)
			if r.Gap(0.99) > tt.gap {
				t.Errorf("99 of 100 gaps are up to %v, want %v", r.Gap(0.99), tt.gap)
			}
			if got := float64(r.Stats.Concealed) / frames; got > tt.concealed {
				t.Errorf("%.3f is made up, want %.3f", got, tt.concealed)
			}
			if got := float64(r.Stats.Recovered) / frames; got < tt.recovered {
				t.Errorf("%.3f is recovered from copies, want %.3f", got, tt.recovered)
			}
			if r.Mean > tt.mean {
				t.Errorf("%v wait on average, want %v", r.Mean, tt.mean)
			}
			if r.Stats.Target < 20*ms || r.Stats.Target > r.Most+40*ms {
				t.Errorf("the target is %v", r.Stats.Target)
			}
		})
	}
}

// edges counts the jumps in what is heard that the voice itself does not have.
type edges struct {
	last, before int
	most         int // second difference
}

//go:norace
func (e *edges) hear(frame []int16) {
	for _, v := range frame {
		d := int(v) - 2*e.last + e.before
		e.most = max(e.most, d, -d)
		e.before, e.last = e.last, int(v)
	}
}

// A clock that is wrong by 200 ppm makes 120 ms in ten minutes. They are played off, or filled, where nobody hears it.
func TestDrift(t *testing.T) {
	coded := code(t, sound.NewVoice().Fill, 1000, 0, false)
	var plain edges
	jittertest.Line{Delay: 30 * time.Millisecond}.Play(newBuffer(t), coded, 25*time.Second, plain.hear)
	for name, fast := range map[string]float64{"fast": 200e-6, "slow": -200e-6} {
		t.Run(name, func(t *testing.T) {
			var drifting edges
			r := jittertest.Line{Delay: 30 * time.Millisecond, Fast: fast}.Play(newBuffer(t), coded, 10*time.Minute, drifting.hear)
			t.Logf("edges of %d, without drift %d; delay %v to %v; %+v", drifting.most, plain.most, r.Shortest, r.Most, r.Stats)
			if drifting.most > plain.most*5/4 {
				t.Errorf("there are edges of %d, and without drift of %d", drifting.most, plain.most)
			}
			if r.Most > 90*time.Millisecond {
				t.Errorf("up to %v wait", r.Most)
			}
			if r.Stats.Concealed > 2 || r.Stats.Late > 0 {
				t.Errorf("%+v", r.Stats)
			}
			if n := r.Stats.Shortened + r.Stats.Stretched; n < 8 || n > 200 {
				t.Errorf("%d periods were left out or repeated, want 120 ms' worth", n)
			}
		})
	}
}

// While nobody speaks nothing is sent, and that is no gap.
func TestNothingIsSentInPauses(t *testing.T) {
	n := 0
	voice := sound.NewVoice()
	coded := code(t, func(frame []int16) {
		if n++; n%200 < 100 { // two seconds each
			voice.Fill(frame)
		} else {
			clear(frame)
		}
	}, 1000, 0, true)
	empty := 0
	for _, p := range coded {
		if len(p) <= 2 {
			empty++
		}
	}
	if empty < 300 {
		t.Fatalf("of 1000 packets %d are empty: nothing is shown", empty)
	}
	for name, line := range map[string]jittertest.Line{
		"perfect": {Delay: 30 * time.Millisecond}, "jitter": {Delay: 60 * time.Millisecond, Spread: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			r := line.Play(newBuffer(t), coded, 20*time.Second, nil)
			t.Logf("%+v", r.Stats)
			if r.Stats.Comfort < 500 {
				t.Errorf("%d frames of comfort noise, want 500", r.Stats.Comfort)
			}
			if r.Stats.Concealed > 20 || r.Stats.Silent > 12 {
				t.Errorf("%d frames concealed, %d silent: pauses are taken for gaps", r.Stats.Concealed, r.Stats.Silent)
			}
		})
	}
}

// What was lost for longer than can be made up is silence, and then goes on.
func TestHalfASecondOfNothing(t *testing.T) {
	b := newBuffer(t)
	coded := code(t, tone(), 400, 0, false)
	start := time.Unix(1000, 0)
	b.Start(start)
	var frame [jitter.FrameSamples]int16
	quiet := 0
	for i := range 800 {
		now := start.Add(time.Duration(i) * 10 * time.Millisecond)
		if k := i / 2; i%2 == 0 && (k < 200 || k >= 225) {
			b.Push(jitter.Packet{Data: coded[k], Seq: uint16(65500 + k), Timestamp: uint32(k * 960)}, now)
		}
		b.Pull(frame[:], now)
		if power(frame[:]) < 500*500 {
			quiet++
		}
	}
	s := b.Stats()
	t.Logf("%d quiet, %+v", quiet, s)
	if quiet < 20 || quiet > 70 {
		t.Errorf("%d frames of 800 are quiet, want 20 to 70", quiet)
	}
	if s.Gaps != 1 || s.Longest < 400*time.Millisecond || s.Longest > 600*time.Millisecond {
		t.Errorf("gaps: %+v", s)
	}
}

func power(frame []int16) int {
	sum := 0
	for _, v := range frame {
		sum += int(v) * int(v)
	}
	return sum / len(frame)
}

func TestNothingIsHeardBeforeStart(t *testing.T) {
	b := newBuffer(t)
	for i, p := range code(t, tone(), 10, 0, false) {
		b.Push(jitter.Packet{Data: p, Seq: uint16(i), Timestamp: uint32(i * 960)}, time.Unix(1000, 0))
	}
	var frame [jitter.FrameSamples]int16
	b.Pull(frame[:], time.Unix(1000, 0))
	if s := b.Stats(); s.Delay != 0 || s.Played != 0 || s.Silent != 1 || b.Playing() {
		t.Errorf("sound from before the answer: %+v", s)
	}
}

func TestPushAndPullDoNotAllocate(t *testing.T) {
	b := newBuffer(t)
	now := time.Unix(1000, 0)
	b.Start(now)
	coded := code(t, sound.NewVoice().Fill, 20, 0.1, false)
	var frame [jitter.FrameSamples]int16
	i := 0
	if n := testing.AllocsPerRun(500, func() {
		if i%11 != 5 {
			b.Push(jitter.Packet{Data: coded[i%20], Seq: uint16(i), Timestamp: uint32(i * 960)}, now)
		}
		i++
		now = now.Add(20*time.Millisecond + time.Duration(i%5)*time.Millisecond) // a slow far end, and jitter
		b.Pull(frame[:], now)
		b.Pull(frame[:], now)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// Packets are the far end's: any order, any content.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 7, 1}, uint8(3))
	coded := code(f, tone(), 2, 0.2, false)
	f.Fuzz(func(t *testing.T, script []byte, spoil uint8) {
		b := newBuffer(t)
		now := time.Unix(1000, 0)
		b.Start(now)
		var frame [jitter.FrameSamples]int16
		seq := uint16(0)
		for i, c := range script {
			seq += uint16(int8(c))
			p := slices.Clone(coded[i%2])
			p[0] ^= c & spoil
			b.Push(jitter.Packet{Data: p[:len(p)-int(c)%len(p)], Seq: seq, Timestamp: uint32(seq) * uint32(c)}, now)
			if c&1 != 0 {
				now = now.Add(time.Duration(c) * time.Millisecond)
				b.Pull(frame[:], now)
			}
			if d := b.Stats().Delay; d < 0 || d > 64*120*time.Millisecond+240*time.Millisecond {
				t.Fatalf("%v wait", d)
			}
		}
		for range 20 {
			b.Pull(frame[:], now)
		}
	})
}
