package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/agent"
	"vindu/media/sound"
)

// TestChime: the ring begins softly, stays so while people are told what this is, then rises to its volume within the time that it has, is never startling, and has no clicks
// at its seams.
func TestChime(t *testing.T) {
	for _, test := range []struct{ told, ring time.Duration }{{0, risesFirst}, {0, 10 * time.Second}, {0, risesLast}, {40 * time.Second, risesFirst}, {40 * time.Second, risesLast}} {
		told, ring := test.told, test.ring
		frame := make([]int16, sound.FrameSamples)
		var last, steepest int
		var peaks []int
		for n := range 2500 + int(told/(10*time.Millisecond)) { // 25 seconds
			if n%300 == 0 {
				peaks = append(peaks, 0)
			}
			chime(frame, n, told, ring)
			for _, v := range frame {
				peaks[n/300] = max(peaks[n/300], int(v), -int(v))
				steepest = max(steepest, int(v)-last, last-int(v))
				last = int(v)
			}
		}
		for i := 1; i < len(peaks); i++ {
			soft, rises := float64(3*i) <= told.Seconds(), float64(3*i) < (told+ring).Seconds()
			if soft {
				if peaks[i] != peaks[0] {
					t.Errorf("%v: chime %d peaks at %d while people are told, the first at %d", ring, i, peaks[i], peaks[0])
				}
				continue
			}
			if (rises && peaks[i] <= peaks[i-1]) || peaks[i] < peaks[i-1] {
				t.Errorf("%v: chime %d peaks at %d, the one before at %d", ring, i, peaks[i], peaks[i-1])
			}
		}
		if first, most := peaks[0], peaks[len(peaks)-1]; first < 300 || first > 1500 || most < 7000 || most > 12000 || steepest > 2000 {
			t.Errorf("%v: from %d to %d, steepest step %d", ring, first, most, steepest)
		}
	}
}

// speaker is a loudspeaker that records, and can be had once at a time.
type speaker struct {
	open   atomic.Int32
	opened atomic.Int32
	err    error

	mu  sync.Mutex
	all []int16
}

func (s *speaker) hear(frame []int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, frame...)
}

func (s *speaker) played() []int16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func (s *speaker) player(context.Context, sound.Config) (sound.Player, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.open.Add(1) > 1 {
		s.open.Add(-1)
		return nil, sound.ErrBusy
	}
	s.opened.Add(1)
	return &onSpeaker{Device: sound.TestSound(s.hear), s: s}, nil
}

type onSpeaker struct {
	sound.Device
	s    *speaker
	done atomic.Bool
}

func (o *onSpeaker) Close() error {
	if !o.done.Swap(true) {
		o.s.open.Add(-1)
	}
	return o.Device.Close()
}

// mouthed runs f in a bubble with a mouth at a loudspeaker.
func mouthed(t *testing.T, f func(t *testing.T, m *mouth, s *speaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &speaker{}
		by := &drivers{cards: func() (capture, playback []sound.Card) {
			return nil, []sound.Card{{Device: "hw:CARD=x,DEV=0", Name: "x"}}
		}, openPlayer: s.player}
		m := &mouth{devices: &devices{cfg: agent.Devices{Microphone: "auto", Speaker: "auto"}, by: by}, far: &tap{}, log: slog.New(slog.DiscardHandler)}
		f(t, m, s)
		m.Stop()
		m.lend()
		if n := s.open.Load(); n != 0 {
			t.Errorf("the loudspeaker is open %d times", n)
		}
	})
}

func sentenceOf(d time.Duration) []int16 {
	s := make([]int16, int(d.Seconds()*sound.Rate))
	for i := range s {
		soft := min(float64(i), float64(len(s)-1-i), 480) / 480
		s[i] = int16(9000 * soft * math.Sin(2*math.Pi*300*float64(i)/sound.Rate))
	}
	return s
}

// jump is the steepest step of what was played.
func jump(samples []int16) (most int) {
	for i := 1; i < len(samples); i++ {
		d := int(samples[i]) - int(samples[i-1])
		most = max(most, d, -d)
	}
	return most
}

// TestMouth: it speaks, and gives the loudspeaker back when it has nothing to say.
func TestMouth(t *testing.T) {
	mouthed(t, func(t *testing.T, m *mouth, s *speaker) {
		for range 2 {
			if err := m.Say(t.Context(), sentenceOf(time.Second)); err != nil {
				t.Error(err)
			}
		}
		if s.open.Load() != 1 || s.opened.Load() != 1 {
			t.Errorf("between sentences it was opened %d times", s.opened.Load())
		}
		pass(time.Second)
		if s.open.Load() != 0 {
			t.Error("the loudspeaker is kept")
		}
		if d := time.Duration(len(s.played())) * time.Second / sound.Rate; d < 2*time.Second || d > 3*time.Second || jump(s.played()) > 900 {
			t.Errorf("%v played, with a step of %d", d, jump(s.played()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := m.Say(ctx, sentenceOf(5*time.Second)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 310*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		pass(time.Second)
		if jump(s.played()) > 900 {
			t.Errorf("a step of %d where it was interrupted", jump(s.played()))
		}
	})
}

// TestMouthLends: who wants the loudspeaker has it within 150 ms, whatever is being played, without a click; what was being said is said there from its beginning.
func TestMouthLends(t *testing.T) {
	mouthed(t, func(t *testing.T, m *mouth, s *speaker) {
		m.Start(10*time.Second, 0)
		pass(3100 * time.Millisecond) // into a chime
		said := make(chan error, 1)
		go func() { said <- m.Say(t.Context(), sentenceOf(time.Second)) }()
		pass(500 * time.Millisecond)
		began := time.Now()
		back := m.lend()
		if took := time.Since(began); took > 150*time.Millisecond || s.open.Load() != 0 {
			t.Errorf("lent after %v, %d open", took, s.open.Load())
		}
		if j := jump(s.played()); j > 1300 {
			t.Errorf("a step of %d", j)
		}
		m.Stop()
		pass(time.Second)
		if s.open.Load() != 0 {
			t.Error("it took back what it had lent")
		}
		frame := make([]int16, sound.FrameSamples)
		var heard []int16
		for range 120 {
			clear(frame)
			m.mix(frame)
			heard = append(heard, frame...)
			pass(10 * time.Millisecond)
		}
		if err := <-said; err != nil {
			t.Error(err)
		}
		if n := len(heard) - quietAround(heard); n < sound.Rate*9/10 {
			t.Errorf("%d samples of a second were said", n)
		}
		opened := s.opened.Load()
		back()
		back()
		pass(time.Second)
		if s.opened.Load() != opened {
			t.Error("it opened the loudspeaker to say nothing")
		}
		if err := m.Say(t.Context(), sentenceOf(time.Second)); err != nil {
			t.Error(err)
		}
	})
}

// quietAround counts silent samples before and after.
func quietAround(samples []int16) (n int) {
	for _, v := range samples {
		if v != 0 {
			break
		}
		n++
	}
	for i := len(samples) - 1; i >= 0 && samples[i] == 0; i-- {
		n++
	}
	return n
}

// TestMouthInACall: what was said in a call is not said after it, and one whose sound does not come holds nobody up.
func TestMouthInACall(t *testing.T) {
	mouthed(t, func(t *testing.T, m *mouth, s *speaker) {
		back := m.lend()
		began := time.Now()
		if err := m.Say(t.Context(), sentenceOf(time.Second)); err == nil || time.Since(began) > mute+2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		said := make(chan error, 1)
		go func() { said <- m.Say(t.Context(), sentenceOf(3*time.Second)) }()
		frame := make([]int16, sound.FrameSamples)
		for range 50 {
			m.mix(frame)
			pass(10 * time.Millisecond)
		}
		m.gone()
		back()
		if err := <-said; err == nil {
			t.Error("said to its end")
		}
		pass(time.Second)
		if s.opened.Load() != 0 {
			t.Error("it was said after the call")
		}
	})
}

// TestMouthWithoutLoudspeaker: nothing is waited for.
func TestMouthWithoutLoudspeaker(t *testing.T) {
	mouthed(t, func(t *testing.T, m *mouth, s *speaker) {
		s.err = sound.ErrBusy
		m.Start(time.Second, 0)
		if err := m.Say(t.Context(), sentenceOf(time.Second)); !errors.Is(err, errNoLoudspeaker) {
			t.Errorf("a busy one: %v", err)
		}
		m.Stop()
		m.devices.cfg.Speaker = "none"
		began := time.Now()
		if err := m.Say(t.Context(), sentenceOf(time.Second)); !errors.Is(err, errNoLoudspeaker) || time.Since(began) > 0 {
			t.Errorf("none: %v", err)
		}
	})
	var none *mouth
	none.lend()()
	none.mix(nil)
	none.gone()
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { time.Sleep(d) } // allowed: in a bubble
