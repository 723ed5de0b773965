package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/call"
	"vindu/device/panel"
	"vindu/media/camera"
	"vindu/media/echo"
	"vindu/media/session"
	"vindu/media/sound"
)

// retry spaces attempts to open a device that does not open. For one goroutine.
type retry struct {
	wait  time.Duration
	after time.Time
	err   error
}

// early returns the last attempt's error while it is too early for another.
func (r *retry) early() error {
	if r.err != nil && time.Now().Before(r.after) {
		return r.err
	}
	return nil
}

func (r *retry) failed(err error) error {
	r.wait = min(max(2*r.wait, retryFirst), retryLast)
	r.after, r.err = time.Now().Add(r.wait-retryFirst/2), err
	return err
}

func (r *retry) worked() { *r = retry{} }

// recorded asks the ledger for leave to open a device.
func (s *mediaSession) recorded(d call.Device) error {
	err := s.offer.Ledger.Opening(d)
	if d == call.Camera && s.cameraHung.Load() && errors.Is(err, call.ErrOpen) {
		// A driver hangs in the camera. It stays on the ledger, and may be opened again beside that: the same opening goes on.
		return nil
	}
	if me, ok := errors.AsType[*call.MediaError](err); ok {
		// What cannot be recorded does not happen: neither does this call.
		s.say(call.MediaEvent{Kind: call.MediaFailed, Code: me.Code})
	}
	return err
}

// openCamera implements session.Devices.OpenCamera.
func (s *mediaSession) openCamera(ctx context.Context) (session.Camera, error) {
	s.mu.Lock()
	real := s.realCamera
	s.mu.Unlock()
	kind := s.m.devices.camera().Kind
	if kind == "none" || (kind == "synthetic" && real) { // a camera that was pulled out comes back; nothing else takes its place
		return nil, camera.ErrNotFound
	}
	if err := s.camera.early(); err != nil {
		return nil, err
	}
	if err := s.m.devices.hands.ready(); err != nil { // nothing is opened, and nothing said in the ledger
		return nil, err
	}
	if err := s.recorded(call.Camera); err != nil {
		return nil, s.camera.failed(err)
	}
	cfg := camera.Config{Device: s.m.cfg.Devices.Camera, Width: s.m.cfg.Picture.Width, Height: s.m.cfg.Picture.Height, FPS: s.m.cfg.Picture.FPS}
	var source camera.Source
	var err error
	if kind == "synthetic" { // so that the light is on, and somebody can say no, in trials as well
		var lease *panel.Lease
		if lease, err = s.m.devices.hands.power(ctx); lease != nil {
			source = litBy(camera.TestPicture(cfg), lease)
		}
	}
	if kind == "v4l2" {
		source, err = settled(ctx, func(whole context.Context) (camera.Source, error) {
			if s.m.devices.hands != nil {
				whole = ctx // nobody waits for power, or for a camera to be on the bus, when the call is over
			}
			return s.m.devices.drivers().openCamera(whole, cfg)
		})
	}
	if source == nil && s.m.cfg.Devices.TestPicture && !real && ctx.Err() == nil && !isPanel(err) {
		if err != nil {
			s.m.log.Warn("the camera cannot be used, a test picture is sent", "error", err)
		}
		source, err, kind = camera.TestPicture(cfg), nil, "synthetic"
	}
	if source == nil && err == nil {
		err = ctx.Err() // the call ended before a test picture was made
	}
	if err != nil {
		if errors.Is(err, errStillOpen) {
			s.cameraHung.Store(true)
		} else if !s.cameraHung.Load() {
			s.offer.Ledger.Closed(call.Camera)
		}
		return nil, s.camera.failed(err)
	}
	s.camera.worked()
	info := source.Info()
	s.m.log.Info("camera open", "call", s.offer.Call, "kind", kind, "name", info.Name, "format", info.Format, "width", info.Width, "height", info.Height, "fps", info.FPS)
	s.mu.Lock()
	s.cameraKind, s.realCamera = kind, s.realCamera || kind == "v4l2"
	s.mu.Unlock()
	return &openCamera{openDevice[camera.Source]{Source: source, ledger: s.offer.Ledger, device: call.Camera, hung: &s.cameraHung}}, nil
}

// openSound implements session.Devices.OpenSound.
func (s *mediaSession) openSound(ctx context.Context) (session.Sound, error) {
	microphone, speaker, _, _ := s.m.devices.sound()
	if microphone.Kind == "none" && speaker.Kind == "none" {
		return nil, sound.ErrNotFound
	}
	if err := s.sound.early(); err != nil {
		return nil, err
	}
	captures := microphone.Kind != "none"
	if captures {
		if err := s.recorded(call.Microphone); err != nil {
			return nil, s.sound.failed(err)
		}
	}
	kind := "alsa"
	back := s.m.devices.mouth.lend()
	open := s.m.devices.drivers().openSound
	var device sound.Device
	var err error
	if microphone.Kind == "synthetic" {
		kind, device = "synthetic", sound.TestSound(nil)
	} else if device, err = settled(ctx, func(ctx context.Context) (sound.Device, error) {
		return open(ctx, s.m.devices.soundConfig(captures))
	}); err != nil && s.m.cfg.Devices.TestSound && ctx.Err() == nil {
		s.m.log.Warn("the sound card cannot be used, generated sound is sent", "error", err)
		kind, device, err = "synthetic", sound.TestSound(nil), nil
	}
	if err != nil {
		back()
		if captures && !errors.Is(err, errStillOpen) {
			s.offer.Ledger.Closed(call.Microphone)
		}
		return nil, s.sound.failed(err)
	}
	s.sound.worked()
	info := device.Info()
	var cancels *echo.Device
	if duplex, ok := device.(sound.Duplex); ok && info.Capture != "" && s.m.cfg.Sound.Echo == "on" {
		if canceller, err := echo.New(echo.Config{}); err != nil {
			s.m.log.Error("no echo canceller: the caller hears himself, and the room's noise", "error", err)
		} else {
			cancels = echo.Over(duplex, canceller)
			device = cancels
		}
	}
	s.m.log.Info("sound open", "call", s.offer.Call, "kind", kind, "capture", info.CaptureName, "playback", info.PlaybackName, "linked", info.Linked, "echo", cancels != nil)
	s.mu.Lock()
	s.soundKind = kind
	s.mu.Unlock()
	opened := &openSound{openDevice: openDevice[sound.Device]{Source: device}, far: s.m.far, mouth: s.m.devices.mouth, back: back, echo: cancels, knob: s.m.devices.knob(int(s.offer.Volume)), log: s.m.log.With("call", s.offer.Call)}
	if captures {
		opened.ledger, opened.device = s.offer.Ledger, call.Microphone
	}
	return opened, nil
}

// closer is what a device has to have to be on the ledger.
type closer interface{ Close() error }

var errStillOpen = errors.New("the device was opened too late and does not close")

// settled opens a device and waits for its driver, also when the call ends meanwhile: a driver that is left alone with it could open the
// device when ledger, record and screen have said that it is closed. While the driver hangs the device counts as open, and package call ends
// the process. An error wrapping errStillOpen says that the device is open.
func settled[T closer](ctx context.Context, open func(context.Context) (T, error)) (T, error) {
	var none T
	device, err := open(context.WithoutCancel(ctx))
	if err != nil {
		return none, err
	}
	if ctx.Err() == nil {
		return device, nil
	}
	if err := device.Close(); err != nil {
		return none, fmt.Errorf("%w: %w", errStillOpen, err)
	}
	return none, ctx.Err()
}

// openDevice tells the ledger when it was closed. If closing fails it does not: then nobody may believe that it is closed, also when the device
// was opened again meanwhile and that closes.
type openDevice[T closer] struct {
	Source T
	ledger call.Ledger // nil: this device is not on it
	device call.Device
	hung   *atomic.Bool // set when closing fails; nil: it is not opened again
	once   sync.Once
	err    error
}

// Close closes the device.
func (d *openDevice[T]) Close() error {
	d.once.Do(func() {
		d.err = d.Source.Close()
		if d.err != nil && d.hung != nil {
			d.hung.Store(true)
		}
		if d.err == nil && d.ledger != nil && (d.hung == nil || !d.hung.Load()) {
			d.ledger.Closed(d.device)
		}
	})
	return d.err
}

// openCamera is a camera on the ledger.
type openCamera struct{ openDevice[camera.Source] }

// Read implements session.Camera.
func (o *openCamera) Read() (image.Image, func(), error) { return o.Source.Read() }

// openSound adds what the terminal says itself, and lets the preview listen to what is played.
type openSound struct {
	openDevice[sound.Device]
	far   *tap
	mouth *mouth // nil: it says nothing
	back  func() // gives the loudspeaker back; nil: it was not borrowed
	given sync.Once
	echo  *echo.Device // nil: nothing is cancelled
	knob  *knobbed     // nil: there is none
	log   *slog.Logger
	said  sync.Once
}

// Close implements session.Sound.
func (o *openSound) Close() error {
	err := o.openDevice.Close()
	o.given.Do(func() {
		o.mouth.gone()
		if o.back != nil {
			o.back()
		}
	})
	if o.echo != nil {
		o.said.Do(func() {
			e := o.echo.Echo()
			o.log.Info("sound closed", "erle_db", int(e.ERLE), "echo_late_ms", e.Late.Milliseconds(), "learning", e.Learning, "frames", e.Frames, "failed", e.Failed)
		})
	}
	return err
}

// ERLE implements session.EchoMeter.
func (o *openSound) ERLE() float64 {
	if o.echo == nil {
		return 0
	}
	return o.echo.Echo().ERLE
}

// Read implements session.Sound.
func (o *openSound) Read(frame []int16) error { return o.Source.Read(frame) }

// Write implements session.Sound.
func (o *openSound) Write(frame []int16) error {
	if o.knob != nil {
		o.knob.apply(frame)
	}
	o.mouth.mix(frame)
	o.far.hear(frame)
	return o.Source.Write(frame)
}
