package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/agent"
	"vindu/device/health"
	"vindu/device/panel"
	"vindu/media/camera"
	"vindu/media/display"
	"vindu/media/sound"
	"vindu/protocol"
)

// drivers are the ways to cameras and sound cards.
type drivers struct {
	cameras    func() []camera.Info
	openCamera func(context.Context, camera.Config) (camera.Source, error)
	cards      func() (capture, playback []sound.Card)
	openSound  func(context.Context, sound.Config) (sound.Device, error)
	openPlayer func(context.Context, sound.Config) (sound.Player, error) // never touches a microphone; nil: nothing rings
}

// machine are the drivers of the machine.
var machine = drivers{camera.List, camera.Open, sound.List, sound.Open, sound.OpenPlayback}

// devices knows which devices the configuration means and which there are. It opens none.
type devices struct {
	cfg    agent.Devices
	screen protocol.DeviceState
	by     *drivers // nil: the machine's. Tests put others in their place
	hands  *hands   // nil: there is no panel
	mouth  *mouth   // nil: nothing rings or speaks
}

func (d *devices) drivers() *drivers {
	if d.by != nil {
		return d.by
	}
	return &machine
}

// look implements agent.Parts.Devices.
func (d *devices) look() health.Devices {
	h := health.Devices{Screen: d.screen}
	if d.screen.Kind == "none" {
		h.Conditions = append(h.Conditions, protocol.ScreenNone)
	}
	if d.hands != nil && !d.hands.here() {
		h.Conditions = append(h.Conditions, protocol.PanelMissing)
	}
	h.Camera = d.camera()
	switch h.Camera.Kind {
	case "none":
		if d.cfg.Camera != "none" {
			h.Conditions = append(h.Conditions, protocol.CaptureNoCamera)
		}
	case "synthetic":
		h.Conditions = append(h.Conditions, protocol.CaptureTestPicture)
	}
	var noMicrophone, noSpeaker bool
	h.Microphone, h.Speaker, noMicrophone, noSpeaker = d.sound()
	if noMicrophone {
		h.Conditions = append(h.Conditions, protocol.CaptureNoMicrophone)
	}
	if noSpeaker {
		h.Conditions = append(h.Conditions, protocol.CaptureNoSpeaker)
	}
	if h.Microphone.Kind == "synthetic" {
		h.Conditions = append(h.Conditions, protocol.CaptureTestSound)
	}
	return h
}

// camera says what a call would use.
func (d *devices) camera() protocol.DeviceState {
	if d.cfg.Camera == "none" {
		return protocol.DeviceState{Kind: "none"}
	}
	for _, c := range d.drivers().cameras() {
		if d.cfg.Camera == "auto" || sameFile(d.cfg.Camera, c.Path) {
			return protocol.DeviceState{Kind: "v4l2", Name: c.Name}
		}
	}
	if d.cfg.TestPicture {
		return protocol.DeviceState{Kind: "synthetic", Name: "test picture"}
	}
	return protocol.DeviceState{Kind: "none"}
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// sound says what a call would use, and what is missing that was wanted.
func (d *devices) sound() (microphone, speaker protocol.DeviceState, noMicrophone, noSpeaker bool) {
	capture, playback := d.drivers().cards()
	state := func(wanted string, cards []sound.Card) protocol.DeviceState {
		if card, known, found := sound.Find(cards, wanted); found {
			return protocol.DeviceState{Kind: "alsa", Name: card.Name}
		} else if !known && wanted != "none" { // a name that only ALSA can resolve
			return protocol.DeviceState{Kind: "alsa", Name: wanted}
		}
		return protocol.DeviceState{Kind: "none"}
	}
	microphone, speaker = state(d.cfg.Microphone, capture), state(d.cfg.Speaker, playback)
	if microphone.Kind == "none" && speaker.Kind == "none" && d.cfg.TestSound {
		synthetic := protocol.DeviceState{Kind: "synthetic", Name: "test sound"}
		return synthetic, synthetic, false, false
	}
	return microphone, speaker, microphone.Kind == "none" && d.cfg.Microphone != "none", speaker.Kind == "none" && d.cfg.Speaker != "none"
}

// soundConfig is what to open. Without leave to capture nothing is, though a microphone was connected since it was looked for.
func (d *devices) soundConfig(captures bool) sound.Config {
	cfg := sound.Config{Capture: d.cfg.Microphone, Playback: d.cfg.Speaker}
	if !captures {
		cfg.Capture = "none"
	}
	return cfg
}

// cameraCode says by which code a camera's error is reported.
func cameraCode(err error) protocol.Code {
	switch {
	case errors.Is(err, panel.ErrShutter), errors.Is(err, panel.ErrDenied):
		return protocol.AnswerShutter
	case errors.Is(err, panel.ErrAway), errors.Is(err, panel.ErrNoPower), errors.Is(err, panel.ErrHung), errors.Is(err, panel.ErrBusy):
		return protocol.PanelMissing
	case errors.Is(err, camera.ErrBusy):
		return protocol.CaptureCameraBusy
	case errors.Is(err, camera.ErrUnsupported):
		return protocol.CaptureCameraFormat
	case errors.Is(err, camera.ErrGone):
		return protocol.CaptureCameraGone
	case errors.Is(err, camera.ErrTimeout):
		return protocol.CaptureCameraStuck
	}
	return protocol.CaptureNoCamera
}

// soundCode is the same for sound.
func soundCode(err error) protocol.Code {
	switch {
	case errors.Is(err, sound.ErrBusy):
		return protocol.CaptureSoundBusy
	case errors.Is(err, sound.ErrGone):
		return protocol.CaptureSoundGone
	}
	return protocol.CaptureNoMicrophone
}

// screenDevice is the screen that is there, or a memory in its place.
type screenDevice struct {
	display *display.Display
	memory  *display.Memory // nil if the screen is a real one
	state   protocol.DeviceState
	seen    atomic.Bool // a person can see it
	cfg     display.Config
	log     *slog.Logger
}

// openScreen opens the configured screen. A terminal without one runs, refuses calls and says why; when a screen is connected the program
// ends, so that its supervisor starts it with the screen.
func openScreen(ctx context.Context, cfg agent.Devices, log *slog.Logger) (*screenDevice, error) {
	size, err := cfg.Size()
	if err != nil {
		return nil, err
	}
	s := &screenDevice{log: log, cfg: display.Config{Device: cfg.Display}}
	if cfg.Display == "memory" {
		s.memory = display.NewMemory(size.X, size.Y)
		s.display = display.New(s.memory)
		s.state = protocol.DeviceState{Kind: "memory", Name: cfg.MemorySize}
		s.seen.Store(true)
		return s, nil
	}
	device, err := display.OpenDRM(ctx, s.cfg)
	if err != nil {
		log.Error("no screen: calls are refused until there is one", "display", cfg.Display, "error", err)
		s.display = display.New(display.NewMemory(size.X, size.Y))
		s.state = protocol.DeviceState{Kind: "none"}
		return s, nil
	}
	w, h := device.Size()
	s.display = display.New(device)
	s.state = protocol.DeviceState{Kind: "drm", Name: fmt.Sprintf("%dx%d", w, h)}
	s.seen.Store(true)
	return s, nil
}

var errScreenCame = errors.New("a screen was connected: start the program again to use it")

// run paints until ctx ends.
func (s *screenDevice) run(ctx context.Context) error {
	if s.state.Kind != "none" {
		err := s.display.Run(ctx)
		s.seen.Store(false)
		if err != nil {
			return fmt.Errorf("screen: %w; start the program again when it is connected", err)
		}
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Second):
		}
		if device, err := display.OpenDRM(ctx, s.cfg); err == nil {
			return errors.Join(errScreenCame, device.Close())
		}
	}
}

// pictures hands moving pictures to the screen; to nil: to nobody.
type pictures struct{ to *display.Display }

// Far implements session.Screen.
func (p pictures) Far(img *image.YCbCr) {
	if p.to != nil {
		_ = p.to.Far(img) // a picture that is not shown is replaced by the next
	}
}

// Self implements session.Screen.
func (p pictures) Self(img *image.YCbCr) {
	if p.to != nil {
		_ = p.to.Self(img)
	}
}

// tap passes on the far end's sound to those who listen in the preview.
type tap struct {
	mu sync.Mutex
	to func(frame []int16)
}

func (t *tap) set(f func(frame []int16)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to = f
}

func (t *tap) hear(frame []int16) {
	t.mu.Lock()
	f := t.to
	t.mu.Unlock()
	if f != nil {
		f(frame)
	}
}
