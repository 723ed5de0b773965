package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/acceptance"
	"vindu/device/agent"
	"vindu/device/call"
	"vindu/media/camera"
	"vindu/media/sound"
	"vindu/protocol"
)

// notes is a ledger that notes what it is told.
type notes struct {
	mu     sync.Mutex
	lines  []string
	refuse error
}

func (n *notes) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *notes) Opening(d call.Device) error {
	if n.refuse == nil {
		n.note("%s opens", d)
	}
	return n.refuse
}

func (n *notes) Closed(d call.Device) { n.note("%s closed", d) }

func newCheck() *checkDevices {
	return &checkDevices{cfg: agent.Default(), devices: &devices{cfg: agent.Default().Devices}, log: slog.New(slog.DiscardHandler)}
}

func TestLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newCheck(), new(notes)
		var opened camera.Source
		d.openCamera = func(_ context.Context, c camera.Config) (camera.Source, error) {
			l.note("open")
			c.Width, c.Height, c.FPS = 160, 120, 10
			opened = camera.TestPicture(c)
			return opened, nil
		}
		began := time.Now()
		s, err := d.look(t.Context(), l)
		if err != nil || s.Brightness < 0.1 || s.Brightness > 0.9 || s.Sharpness < 50 || s.Motion <= 0 || s.Synthetic {
			t.Errorf("%+v, %v", s, err)
		}
		if took := time.Since(began); took != exposure+watching {
			t.Errorf("looked for %v", took)
		}
		if _, _, err := opened.Read(); !errors.Is(err, camera.ErrClosed) {
			t.Errorf("the camera is open: %v", err)
		}
		if want := []string{"camera opens", "open", "camera closed"}; !reflect.DeepEqual(l.lines, want) {
			t.Errorf("%v", l.lines)
		}
	})
}

func TestLookFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		open   func(context.Context, camera.Config) (camera.Source, error)
		refuse error
		code   protocol.Code
		ledger []string
	}{
		{"busy", func(context.Context, camera.Config) (camera.Source, error) { return nil, camera.ErrBusy }, nil, protocol.CaptureCameraBusy, []string{"camera opens", "camera closed"}},
		{"gone while it is looked at", func(_ context.Context, c camera.Config) (camera.Source, error) {
			return &shortLived{Source: camera.TestPicture(c), left: 20}, nil
		}, nil, protocol.CaptureCameraGone, []string{"camera opens", "camera closed"}},
		{"one picture in all that time", func(_ context.Context, c camera.Config) (camera.Source, error) {
			return &slow{Source: camera.TestPicture(c), done: make(chan struct{})}, nil
		}, nil, protocol.CaptureCameraStuck, []string{"camera opens", "camera closed"}},
		{"the ledger refuses", func(context.Context, camera.Config) (camera.Source, error) {
			return nil, errors.New("must not be opened")
		}, protocol.WithCode(protocol.AuthButton, errors.New("no button")), protocol.AuthButton, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, l := newCheck(), &notes{refuse: c.refuse}
				d.openCamera = c.open
				_, err := d.look(t.Context(), l)
				if protocol.CodeOf(err) != c.code || !reflect.DeepEqual(l.lines, c.ledger) {
					t.Errorf("%v, %v", err, l.lines)
				}
			})
		})
	}
}

// shortLived is unplugged after some pictures.
type shortLived struct {
	camera.Source
	left int
}

func (s *shortLived) Read() (image.Image, func(), error) {
	if s.left--; s.left < 0 {
		return nil, nil, camera.ErrGone
	}
	return s.Source.Read()
}

// slow delivers one picture and then nothing until it is closed.
type slow struct {
	camera.Source
	once sync.Once
	seen bool
	done chan struct{}
}

func (s *slow) Read() (image.Image, func(), error) {
	if !s.seen {
		s.seen = true
		return s.Source.Read()
	}
	<-s.done
	return nil, nil, camera.ErrClosed
}

func (s *slow) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.Source.Close()
}

// TestLookEnds: whoever says no is not looked at any longer.
func TestLookEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newCheck(), new(notes)
		d.openCamera = func(_ context.Context, c camera.Config) (camera.Source, error) { return camera.TestPicture(c), nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		began := time.Now()
		if _, err := d.look(ctx, l); err == nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if want := []string{"camera opens", "camera closed"}; !reflect.DeepEqual(l.lines, want) {
			t.Errorf("%v", l.lines)
		}
	})
}

// parlour is a sound card in a room: what is played is heard 64 ms later, a tenth as loud, under a hum.
type parlour struct {
	sound.Device
	info   sound.Info
	muted  bool
	mu     sync.Mutex
	played []int16
	heard  int
}

func newParlour() *parlour {
	return &parlour{Device: sound.TestSound(nil), info: sound.Info{Capture: "hw:0", Playback: "hw:0"}}
}

func (p *parlour) Info() sound.Info { return p.info }

func (p *parlour) Write(frame []int16) error {
	p.mu.Lock()
	p.played = append(p.played, frame...)
	p.mu.Unlock()
	return p.Device.Write(frame)
}

func (p *parlour) Read(frame []int16) error {
	if err := p.Device.Read(frame); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	const late = 64 * sound.Rate / 1000
	for i := range frame {
		frame[i] = int16(40 * ((p.heard + i) % 480) / 480)
		if at := p.heard + i - late; at >= 0 && at < len(p.played) && !p.muted {
			frame[i] += p.played[at] / 10
		}
	}
	p.heard += len(frame)
	return nil
}

func TestListen(t *testing.T) {
	for _, c := range []struct {
		name string
		card func() (sound.Device, error)
		code protocol.Code // empty: no error
		want acceptance.Hearing
	}{
		{"in a room", func() (sound.Device, error) { return newParlour(), nil }, "", acceptance.Hearing{Microphone: true, Speaker: true, Heard: true}},
		{"the loudspeaker is muted", func() (sound.Device, error) { p := newParlour(); p.muted = true; return p, nil }, "", acceptance.Hearing{Microphone: true, Speaker: true}},
		{"no loudspeaker", func() (sound.Device, error) { p := newParlour(); p.info.Playback = ""; return p, nil }, "", acceptance.Hearing{Microphone: true}},
		{"no microphone after all", func() (sound.Device, error) { p := newParlour(); p.info.Capture = ""; return p, nil }, "", acceptance.Hearing{Speaker: true}},
		{"in use", func() (sound.Device, error) { return nil, sound.ErrBusy }, protocol.CaptureSoundBusy, acceptance.Hearing{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, l := newCheck(), new(notes)
				d.openSound = func(context.Context, sound.Config) (sound.Device, error) { return c.card() }
				h, err := d.listen(t.Context(), l)
				if (err != nil) != (c.code != "") || c.code != "" && protocol.CodeOf(err) != c.code {
					t.Errorf("%v", err)
				}
				if h.Microphone != c.want.Microphone || h.Speaker != c.want.Speaker || h.Heard != c.want.Heard {
					t.Errorf("%+v", h)
				}
				// The reader and the writer of the test's card begin within a frame of each other.
				if h.Heard && (h.Delay-64*time.Millisecond).Abs() > 15*time.Millisecond {
					t.Errorf("delay %v", h.Delay)
				}
				if h.Microphone && (h.RMS < -80 || h.RMS > -55) {
					t.Errorf("%+v", h)
				}
				if want := []string{"microphone opens", "microphone closed"}; !reflect.DeepEqual(l.lines, want) {
					t.Errorf("%v", l.lines)
				}
			})
		})
	}
}

// TestListenEnds: whoever says no is not heard any longer.
func TestListenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newCheck(), new(notes)
		d.openSound = func(context.Context, sound.Config) (sound.Device, error) { return newParlour(), nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := d.listen(ctx, l); err == nil || time.Since(began) > 1200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if want := []string{"microphone opens", "microphone closed"}; !reflect.DeepEqual(l.lines, want) {
			t.Errorf("%v", l.lines)
		}
	})
}
