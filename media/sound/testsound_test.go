package sound

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVoiceResemblesSpeech(t *testing.T) {
	v := NewVoice()
	const seconds = 20
	var loud, silent, clipped int
	var sum float64
	var rms []float64
	frame := make([]int16, FrameSamples)
	for range seconds * 100 {
		v.Fill(frame)
		var power float64
		for _, x := range frame {
			power += float64(x) * float64(x)
			if x >= 16000 || x <= -16000 {
				clipped++
			}
		}
		r := math.Sqrt(power / FrameSamples)
		rms = append(rms, r)
		sum += power
		switch {
		case r > 800:
			loud++
		case r < 30:
			silent++
		}
	}
	dBFS := 10 * math.Log10(sum/(seconds*Rate)/(32768*32768))
	t.Logf("%.1f dBFS, %d %% loud, %d %% silent, %d clipped", dBFS, loud*100/len(rms), silent*100/len(rms), clipped)
	if dBFS < -32 || dBFS > -16 {
		t.Errorf("level %.1f dBFS, want that of speech, -32…-16", dBFS)
	}
	if loud < len(rms)*35/100 || silent < len(rms)*10/100 {
		t.Errorf("of %d frames %d are loud and %d silent: no syllables with pauses", len(rms), loud, silent)
	}
	if clipped > 0 {
		t.Errorf("%d samples clipped", clipped)
	}
}

func TestTestSoundIsPacedInBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var played int
		d := TestSound(func(frame []int16) { played += len(frame) })
		defer d.Close()
		if info := d.Info(); !info.Synthetic || info.Capture == "" || info.Playback == "" {
			t.Errorf("Info %+v", info)
		}
		frame := make([]int16, FrameSamples)
		start := time.Now()
		for range 100 {
			if err := d.Read(frame); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("100 frames were captured in %v, want 1s", got)
		}
		start = time.Now()
		for range 106 {
			if err := d.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("106 frames were taken in %v, want 1s: 60 ms buffer", got)
		}
		if played != 106*FrameSamples {
			t.Errorf("tap got %d samples", played)
		}
		<-time.After(5 * time.Second) // both sides stall
		start = time.Now()
		for range 2 {
			if err := errors.Join(d.Read(frame), d.Write(frame)); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got > 2*period {
			t.Errorf("after a stall two frames took %v", got)
		}
		if st := d.(Counter).Stats(); st.Overruns != 1 || st.Underruns != 1 || st.Captured != 102 || st.Played != 108 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestTestSoundCloseUnblocks(t *testing.T) {
	for name, call := range map[string]func(Device, []int16) error{
		"Read": Device.Read, "Write": func(d Device, f []int16) error { return d.Write(f) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := TestSound(nil)
				failed := make(chan error)
				go func() {
					frame := make([]int16, FrameSamples)
					for {
						if err := call(d, frame); err != nil {
							failed <- err
							return
						}
					}
				}()
				<-time.After(time.Second)
				d.Close()
				if err := <-failed; !errors.Is(err, ErrClosed) {
					t.Errorf("error %v, want ErrClosed", err)
				}
				if err := d.Close(); err != nil {
					t.Errorf("second Close: %v", err)
				}
			})
		})
	}
}

func TestWrongFrameSizeIsRefused(t *testing.T) {
	d := TestSound(nil)
	defer d.Close()
	if err := d.Read(make([]int16, 960)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Read of 960 samples: %v", err)
	}
	if err := d.Write(nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Write of nothing: %v", err)
	}
}

func TestVoiceAllocatesNothing(t *testing.T) {
	v, frame := NewVoice(), make([]int16, FrameSamples)
	if n := testing.AllocsPerRun(100, func() { v.Fill(frame) }); n != 0 {
		t.Errorf("%v allocations for each frame, want 0", n)
	}
}

func BenchmarkVoice(b *testing.B) {
	v, frame := NewVoice(), make([]int16, FrameSamples)
	b.ReportAllocs()
	for b.Loop() {
		v.Fill(frame)
	}
}
