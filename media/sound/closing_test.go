package sound_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vindu/media/sound"
	"vindu/media/sound/alsa"
	"vindu/media/sound/soundtest"
)

// startingHost opens what its Host has, but Start of the capture side waits.
type startingHost struct {
	alsa.Host
	start    chan struct{}
	starting atomic.Bool
	broken   atomic.Bool // closed while it was being started
}

func (h *startingHost) Open(device string, d alsa.Direction) (alsa.PCM, error) {
	p, err := h.Host.Open(device, d)
	if err != nil || d != alsa.Capture {
		return p, err
	}
	return &startingPCM{p, h}, nil
}

type startingPCM struct {
	alsa.PCM
	h *startingHost
}

func (p *startingPCM) Start() error {
	p.h.starting.Store(true)
	defer p.h.starting.Store(false)
	<-p.h.start
	return p.PCM.Start()
}

func (p *startingPCM) Close() error {
	if p.h.starting.Load() {
		p.h.broken.Store(true)
	}
	return p.PCM.Close()
}

// Whoever writes first starts the microphone too. A Close meanwhile must not take it away under them: alsa-lib would use freed memory.
func TestCloseWhileBothDirectionsStart(t *testing.T) {
	for name, c := range map[string]struct {
		late bool // the driver comes back only after Close has given up
		want error
	}{
		"in time": {false, nil},
		"hanging": {true, sound.ErrGone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := soundtest.New(headset())
				h := &startingHost{Host: inner, start: make(chan struct{})}
				d, err := sound.OpenOn(t.Context(), h, sound.Config{})
				if err != nil {
					t.Fatal(err)
				}
				wrote, closed := make(chan error, 1), make(chan error, 1)
				go func() { wrote <- d.Write(make([]int16, sound.FrameSamples)) }()
				synctest.Wait()
				go func() { closed <- d.Close() }()
				synctest.Wait()
				if c.late {
					err = <-closed
					close(h.start)
				} else {
					close(h.start)
					err = <-closed
				}
				if !errors.Is(err, c.want) {
					t.Errorf("Close: %v, want %v", err, c.want)
				}
				if err := <-wrote; !errors.Is(err, sound.ErrClosed) {
					t.Errorf("Write: %v, want ErrClosed", err)
				}
				synctest.Wait()
				if h.broken.Load() {
					t.Error("the microphone was closed while it was being started")
				}
				if n := inner.Opened(); n != 0 {
					t.Errorf("%d directions are still open", n)
				}
			})
		})
	}
}
