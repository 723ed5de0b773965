package soundtest

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vindu/media/sound"
	"vindu/media/sound/alsa"
)

// Held returns how many sound devices this process has open, by /proc/self/fd.
func Held() int {
	links, _ := filepath.Glob("/proc/self/fd/*")
	n := 0
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "/dev/snd/") {
			n++
		}
	}
	return n
}

// Contract checks what every sound device must do. What is played on cfg.Playback must be heard on cfg.Capture.
// run makes it run where time is right: in a bubble for a fake, as it is for a real
// one. held says how many directions are open now.
func Contract(t *testing.T, h alsa.Host, cfg sound.Config, held func() int, run func(*testing.T, func(*testing.T))) {
	open := func(t *testing.T, cfg sound.Config) sound.Device {
		t.Helper()
		d, err := sound.OpenOn(t.Context(), h, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	part := func(name string, f func(*testing.T)) {
		t.Run(name, func(t *testing.T) {
			run(t, f)
			if n := held(); n != 0 {
				t.Errorf("sound devices are still open %d times afterwards", n)
			}
		})
	}

	part("is listed and not opened", func(t *testing.T) {
		capture, playback := sound.ListOn(h)
		has := func(list []sound.Card, device string) bool {
			for _, c := range list {
				if c.Device == device && c.Name != "" {
					return true
				}
			}
			return false
		}
		if !has(capture, cfg.Capture) || !has(playback, cfg.Playback) {
			t.Errorf("%+v is not in the lists %v and %v", cfg, capture, playback)
		}
		if n := held(); n != 0 {
			t.Errorf("List left %d sound devices open", n)
		}
	})
	part("plays and hears a tone", func(t *testing.T) {
		d := open(t, cfg)
		defer d.Close()
		if info := d.Info(); info.Capture != cfg.Capture || info.Playback != cfg.Playback || info.Synthetic {
			t.Errorf("Info %+v", info)
		}
		stop, stopped := make(chan struct{}), make(chan error, 1)
		go func() { stopped <- playTone(d, stop) }()
		frame := make([]int16, sound.FrameSamples)
		var heard int
		for range 150 {
			if err := d.Read(frame); err != nil {
				t.Fatal(err)
			}
			if tonality(frame, 1000) > 0.8 {
				heard++
			}
		}
		close(stop)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if heard < 50 {
			t.Errorf("of 150 frames %d held the tone that was played", heard)
		}
	})
	part("keeps the pace", func(t *testing.T) {
		d := open(t, cfg)
		defer d.Close()
		frame := make([]int16, sound.FrameSamples)
		for _, call := range []func([]int16) error{d.Read, d.Write} {
			var start time.Time
			for i := range 70 {
				if i == 20 { // what was buffered is through
					start = time.Now()
				}
				if err := call(frame); err != nil {
					t.Fatal(err)
				}
			}
			if got := time.Since(start); got < 300*time.Millisecond || got > 2*time.Second {
				t.Errorf("50 frames took %v, want half a second", got)
			}
		}
	})
	part("takes no more than 60 ms ahead", func(t *testing.T) {
		cfg := cfg
		cfg.Capture = "none"
		d := open(t, cfg)
		defer d.Close()
		frame := make([]int16, sound.FrameSamples)
		start := time.Now()
		for range 30 { // 300 ms of sound
			if err := d.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got < 200*time.Millisecond {
			t.Errorf("300 ms of sound were taken within %v", got)
		}
	})
	part("recovers from gaps", func(t *testing.T) {
		d := open(t, cfg)
		defer d.Close()
		frame := make([]int16, sound.FrameSamples)
		for range 3 {
			for range 3 {
				if err := errors.Join(d.Read(frame), d.Write(frame)); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(400 * time.Millisecond)
		}
		if err := errors.Join(d.Read(frame), d.Write(frame)); err != nil {
			t.Fatal(err)
		}
		if st := d.(sound.Counter).Stats(); st.Overruns < 1 || st.Underruns < 1 || st.Captured != 10 || st.Played != 10 {
			t.Errorf("stats %+v", st)
		}
	})
	part("is busy for a second user", func(t *testing.T) {
		d := open(t, cfg)
		defer d.Close()
		one := cfg
		one.Playback = "none"
		if second, err := sound.OpenOn(t.Context(), h, one); !errors.Is(err, sound.ErrBusy) {
			if err == nil {
				second.Close()
			}
			t.Errorf("error %v, want ErrBusy", err)
		}
	})
	part("lets waiting calls go when closed", func(t *testing.T) {
		d := open(t, cfg)
		ended := make(chan error, 2)
		for _, call := range []func([]int16) error{d.Read, d.Write} {
			go func() {
				frame := make([]int16, sound.FrameSamples)
				for {
					if err := call(frame); err != nil {
						ended <- err
						return
					}
				}
			}()
		}
		<-time.After(100 * time.Millisecond)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if n := held(); n != 0 {
			t.Errorf("sound devices are open %d times after Close", n)
		}
		for range 2 {
			if err := <-ended; !errors.Is(err, sound.ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
		}
		if err := d.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
	part("plays without touching a microphone", func(t *testing.T) {
		p, err := sound.OpenPlaybackOn(t.Context(), h, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if n := held(); n != 1 {
			t.Errorf("%d directions are open, want one", n)
		}
		if info := p.Info(); info.Capture != "" || info.Playback != cfg.Playback {
			t.Errorf("Info %+v", info)
		}
		if err := p.Write(make([]int16, sound.FrameSamples)); err != nil {
			t.Error(err)
		}
		if err := p.(sound.Device).Read(make([]int16, sound.FrameSamples)); !errors.Is(err, sound.ErrNotFound) {
			t.Errorf("Read: %v, want ErrNotFound", err)
		}
	})
}

// playTone plays 1 kHz until stop is closed.
func playTone(d sound.Device, stop <-chan struct{}) error {
	frame := make([]int16, sound.FrameSamples) // ten whole periods
	for i := range frame {
		frame[i] = int16(8000 * math.Sin(2*math.Pi*1000*float64(i)/sound.Rate))
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := d.Write(frame); err != nil {
			return err
		}
	}
}

// tonality returns the part of frame's power that lies at a frequency, 0…1.
func tonality(frame []int16, frequency float64) float64 {
	var re, im, power float64
	for i, x := range frame {
		angle := 2 * math.Pi * frequency * float64(i) / sound.Rate
		re += float64(x) * math.Cos(angle)
		im += float64(x) * math.Sin(angle)
		power += float64(x) * float64(x)
	}
	if power < float64(len(frame))*100*100 {
		return 0 // near silence
	}
	return 2 * (re*re + im*im) / (power * float64(len(frame)))
}
