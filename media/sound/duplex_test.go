package sound_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"vindu/media/sound"
	"vindu/media/sound/soundtest"
)

// hiss writes noise in which each place is found again, until the card is closed.
func hiss(d sound.Device, ended chan<- error) {
	frame := make([]int16, sound.FrameSamples)
	seed, last := uint32(3), 0.0
	for {
		for i := range frame {
			seed = seed*1664525 + 1013904223
			last += 0.2 * (float64(int32(seed)>>16) - last) // below 2 kHz, mostly
			frame[i] = int16(last)
		}
		if err := d.Write(frame); err != nil {
			ended <- err
			return
		}
	}
}

// lag returns by how many samples near comes later than far, at most most, and how alike they are then. Between samples it is interpolated.
//
//go:norace
func lag(near, far []int16, most int) (float64, float64) {
	likeness := func(d int) float64 {
		var ab, aa, bb float64
		for i := most; i < len(near)-most; i++ {
			a, b := float64(near[i]), float64(far[i-d])
			ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
		}
		return ab / math.Sqrt(aa*bb+1)
	}
	best, at := -1.0, 0
	for d := -most; d <= most; d++ {
		if l := likeness(d); l > best {
			best, at = l, d
		}
	}
	l, r := likeness(at-1), likeness(at+1)
	return float64(at) + (r-l)/(2*(2*best-l-r)), best
}

func TestBothSidesStayTogether(t *testing.T) {
	const card, hdmi, mic = "hw:CARD=Headset,DEV=0", "hw:CARD=HDMI,DEV=0", "hw:CARD=Mic,DEV=0"
	for _, tt := range []struct {
		name            string
		playback        string
		capture         string
		fastOut, fastIn float64
		seconds         int
		moves, alike    float64
		lossAt          int
	}{
		{"one card", card, card, 0, 0, 20, 0.01, 0.999, 0},
		{"one card, after a gap", card, card, 0, 0, 30, 0.01, 0.999, 10},
		{"two cards, the microphone's clock is fast by 200 ppm", hdmi, mic, 0, 200e-6, 60, 2.5, 0.93, 0},
		{"two cards, the loudspeaker's clock is fast by 200 ppm", hdmi, mic, 200e-6, 0, 60, 2.5, 0.93, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cable := &soundtest.Cable{}
				h := soundtest.New(
					&soundtest.Card{ID: "Headset", Playback: true, Capture: true, In: cable, Out: cable},
					&soundtest.Card{ID: "HDMI", Playback: true, Out: cable, Fast: tt.fastOut},
					&soundtest.Card{ID: "Mic", Capture: true, In: cable, Fast: tt.fastIn})
				opened, err := sound.OpenOn(t.Context(), h, sound.Config{Capture: tt.capture, Playback: tt.playback})
				if err != nil {
					t.Fatal(err)
				}
				d := opened.(sound.Duplex)
				ended := make(chan error, 1)
				go hiss(d, ended)
				var near, far [sound.FrameSamples]int16
				var nears, fars []int16
				var lags []float64
				for i := range tt.seconds * 100 {
					if err := d.ReadBoth(near[:], far[:]); err != nil {
						t.Fatal(err)
					}
					if i == tt.lossAt*100+50 && tt.lossAt > 0 {
						time.Sleep(400 * time.Millisecond) // allowed: in a bubble; nobody reads, so that sound is lost
					}
					if i%1000 >= 990 { // the last 100 ms of each ten seconds
						nears, fars = append(nears, near[:]...), append(fars, far[:]...)
					}
					if i%1000 == 999 {
						late, alike := lag(nears, fars, 1000)
						if alike < tt.alike {
							t.Errorf("after %v they are alike to %.4f, want %.4f", time.Duration(i)*10*time.Millisecond, alike, tt.alike)
						}
						lags = append(lags, late)
						nears, fars = nears[:0], fars[:0]
					}
				}
				t.Logf("near is later by %.2f samples", lags)
				for i, late := range lags {
					if late < 0 || late > 960 {
						t.Errorf("near is %.1f samples later than far, want 0 to 960", late)
					}
					if moved := math.Abs(late - lags[len(lags)-1]); (i > 0 || tt.fastIn+tt.fastOut == 0) && moved > tt.moves+float64(tt.lossAt)*96 {
						t.Errorf("near moved by %.2f samples: %.2f", moved, lags)
					}
				}
				s := d.(sound.Counter).Stats()
				if got := s.Overruns + s.Underruns; (got > 0) != (tt.lossAt > 0) || got > 3 {
					t.Errorf("%+v", s)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				if err := <-ended; !errors.Is(err, sound.ErrClosed) {
					t.Error(err)
				}
			})
		})
	}
}

func TestBothSidesWithOneMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cfg := range []sound.Config{{Playback: "none"}, {Capture: "none"}} {
			d, err := sound.OpenOn(t.Context(), soundtest.New(headset()), cfg)
			if err != nil {
				t.Fatal(err)
			}
			near, far := make([]int16, sound.FrameSamples), make([]int16, sound.FrameSamples)
			far[7] = 9
			err = d.(sound.Duplex).ReadBoth(near, far)
			if cfg.Capture == "none" != errors.Is(err, sound.ErrNotFound) {
				t.Errorf("%+v: %v", cfg, err)
			}
			if err == nil && far[7] != 0 {
				t.Error("hears what nobody played")
			}
			if err := d.(sound.Duplex).ReadBoth(near, far[:3]); !errors.Is(err, sound.ErrUnsupported) {
				t.Errorf("a short frame: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestReadBothDoesNotAllocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := sound.OpenOn(t.Context(), soundtest.New(&soundtest.Card{ID: "HDMI", Playback: true}, &soundtest.Card{ID: "Mic", Capture: true, Fast: 1e-4}), sound.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		near, far := make([]int16, sound.FrameSamples), make([]int16, sound.FrameSamples)
		both := func() {
			if err := errors.Join(d.Write(far), d.(sound.Duplex).ReadBoth(near, far)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2000 { // until it is between samples
			both()
		}
		// The fake card's own timers are what is left.
		if n := testing.AllocsPerRun(100, both); n > 12 {
			t.Error(fmt.Errorf("%v allocations per frame", n))
		}
	})
}
