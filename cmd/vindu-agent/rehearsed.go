package main

import (
	"context"
	"errors"
	"log/slog"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/identity"
	"vindu/media/camera"
	"vindu/media/sound"
)

var errNoDevice = errors.New("a rehearsed call has no device")

// noDevices is a machine without any.
var noDevices = drivers{
	cameras:    func() []camera.Info { return nil },
	openCamera: func(context.Context, camera.Config) (camera.Source, error) { return nil, errNoDevice },
	cards:      func() (capture, playback []sound.Card) { return nil, nil },
	openSound:  func(context.Context, sound.Config) (sound.Device, error) { return nil, errNoDevice },
}

// rehearsed makes the media of rehearsed calls: the media of calls on a machine that has no camera, microphone, loudspeaker, panel or screen, so that it sends a test
// picture and a test sound, and what comes is decoded for nobody.
type rehearsed struct{ media }

func newRehearsed(cfg agent.Config, coders *coders, id *identity.Identity, log *slog.Logger) *rehearsed {
	cfg.Devices = agent.Devices{Camera: "auto", Microphone: "none", Speaker: "none", Display: "memory", MemorySize: cfg.Devices.MemorySize, TestPicture: true, TestSound: true}
	return &rehearsed{media{cfg: cfg, devices: &devices{cfg: cfg.Devices, by: &noDevices}, coders: coders, far: new(tap), id: id, log: log}}
}

// Prepare implements call.Media.
func (r *rehearsed) Prepare(ctx context.Context, offer call.Offer) (call.Session, error) {
	offer.Ledger = madeUp{} // the call's own allows no opening
	return r.media.Prepare(ctx, offer)
}

// madeUp is the ledger of a picture and a sound that come from no device.
type madeUp struct{}

// Opening implements call.Ledger.
func (madeUp) Opening(call.Device) error { return nil }

// Closed implements call.Ledger.
func (madeUp) Closed(call.Device) {}
