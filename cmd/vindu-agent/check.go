package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"net"
	"sync"
	"time"

	"vindu/device/acceptance"
	"vindu/device/acceptance/reach"
	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/identity"
	"vindu/device/network"
	"vindu/media/camera"
	"vindu/media/inspect"
	"vindu/media/sound"
	"vindu/protocol"
	"vindu/provisioning"
	"vindu/provisioning/session"
)

// How long a check looks and listens.
const (
	exposure = time.Second     // for a camera to find its exposure and focus; not judged
	watching = 3 * time.Second // afterwards
	// Sound, in frames of 10 ms: what a card does when it starts is not judged, then the room is, then the chirp is played.
	startFrames = 50
	roomFrames  = 100
	chirpFrames = 200 // in which the chirp has to be heard
	leadFrames  = 10  // before the chirp was written, from which it is looked for
)

// checkHost is the check part of session.Host.
type checkHost struct{ agent *agent.Agent }

// Check runs the acceptance checks, as session.Host has it.
func (h checkHost) Check(ctx context.Context, p *session.Proof, o session.CheckOptions, progress func(session.CheckProgress)) ([]protocol.Check, error) {
	return h.agent.Check(ctx, p, acceptance.Wanted{Names: o.Names, Seen: o.Seen}, func(s acceptance.Progress) {
		progress(session.CheckProgress{Current: s.Current, Total: s.Total, Done: s.Done})
	})
}

// checksOf are the means of the acceptance checks of this machine.
func checksOf(cfg agent.Config, d *devices, id *identity.Identity, now func() time.Time, log *slog.Logger) acceptance.Config {
	ways := network.New(network.Config{WiFi: cfg.Network.WiFi, File: cfg.Network.WPAFile, Control: cfg.Network.WPAControl})
	return acceptance.Config{
		Devices: &checkDevices{cfg: cfg, devices: d, log: log},
		Network: &reach.Network{
			Clinic: func() string { return id.Grant().Address },
			Dial: func(ctx context.Context, address string) (net.Conn, error) {
				return relayDialer{id}.DialContext(ctx, "tcp", address)
			},
			Signal: func(ctx context.Context, name string) int { return signalOf(ctx, ways, name) },
		},
		Clinic: checkClinic{&provisioning.Client{Signer: id.Signer(), Now: now}, id},
	}
}

// signalOf asks how strong a Wi-Fi is, in dBm; 0 if that is not known.
func signalOf(ctx context.Context, ways *network.Network, name string) int {
	all, err := ways.State(ctx)
	if err != nil {
		return 0
	}
	for _, i := range all {
		if i.Name == name {
			return i.Signal
		}
	}
	return 0
}

// checkClinic implements acceptance.Clinic by package provisioning.
type checkClinic struct {
	client *provisioning.Client
	id     *identity.Identity
}

func (c checkClinic) grant() *provisioning.Grant { return (*provisioning.Grant)(c.id.Grant()) }

// Relay implements acceptance.Clinic.
func (c checkClinic) Relay(ctx context.Context) ([]protocol.ICEServer, error) {
	offered, err := c.client.Relay(ctx, c.grant())
	if err != nil {
		return nil, err
	}
	var urls []string
	if trust := c.id.Trust(); trust != nil {
		urls = trust.Relays
	}
	servers, unknown := protocol.KnownServers(offered, urls)
	if len(servers) == 0 && unknown > 0 {
		return nil, protocol.WithCode(protocol.AuthRelay, errors.New("the clinic has not signed for the relay that its server names"))
	}
	return servers, nil
}

// TestCall implements acceptance.Clinic.
func (c checkClinic) TestCall(ctx context.Context, id protocol.CallID, path string) (*protocol.TestCall, error) {
	return c.client.TestCall(ctx, c.grant(), id, path)
}

// Time implements acceptance.Clinic.
func (c checkClinic) Time(ctx context.Context) (time.Time, time.Duration, error) {
	return c.client.Time(ctx, c.grant())
}

// checkDevices implements acceptance.Devices.
type checkDevices struct {
	cfg     agent.Config
	devices *devices
	log     *slog.Logger
	// Open the devices; nil: those of the machine. Tests put others in their place.
	openCamera func(context.Context, camera.Config) (camera.Source, error)
	openSound  func(context.Context, sound.Config) (sound.Device, error)
}

// Screen implements acceptance.Devices.
func (d *checkDevices) Screen() (string, protocol.Code) {
	s := d.devices.screen
	if s.Kind == "none" {
		return "", protocol.ScreenNone
	}
	return s.Kind + " " + s.Name, ""
}

// Panel implements acceptance.Devices.
func (d *checkDevices) Panel() (string, protocol.Code) {
	if !d.devices.hands.here() {
		return "", protocol.PanelMissing
	}
	return fmt.Sprintf("panel, firmware %d", d.devices.hands.panel.State().Firmware), ""
}

// Look implements acceptance.Devices.
func (d *checkDevices) Look(ctx context.Context, l call.Ledger) (acceptance.Sight, error) {
	switch d.devices.camera().Kind {
	case "none":
		return acceptance.Sight{}, protocol.WithCode(protocol.CaptureNoCamera, camera.ErrNotFound)
	case "synthetic":
		return acceptance.Sight{Synthetic: true}, nil
	}
	return d.look(ctx, l)
}

func (d *checkDevices) look(ctx context.Context, l call.Ledger) (acceptance.Sight, error) {
	if err := l.Opening(call.Camera); err != nil {
		return acceptance.Sight{}, err
	}
	open := d.openCamera
	if open == nil {
		open = d.devices.drivers().openCamera
	}
	source, err := settled(ctx, func(ctx context.Context) (camera.Source, error) {
		return open(ctx, camera.Config{Device: d.cfg.Devices.Camera, Width: d.cfg.Picture.Width, Height: d.cfg.Picture.Height, FPS: d.cfg.Picture.FPS})
	})
	if err != nil {
		if !errors.Is(err, errStillOpen) {
			l.Closed(call.Camera)
		}
		return acceptance.Sight{}, protocol.WithCode(cameraCode(err), err)
	}
	opened := &openDevice[camera.Source]{Source: source, ledger: l, device: call.Camera}
	sight, err := watch(ctx, source, func() { _ = opened.Close() }) // what Close returns is returned below too
	if err != nil {
		err = protocol.WithCode(cameraCode(err), err)
	}
	return sight, errors.Join(err, opened.Close())
}

var errFewPictures = fmt.Errorf("no two pictures in %v: %w", watching, camera.ErrTimeout)

// watch judges the camera's pictures until it has closed the camera, or until ctx ends.
func watch(ctx context.Context, source camera.Source, closeIt func()) (acceptance.Sight, error) {
	began := time.Now()
	over, cancel := context.WithTimeout(ctx, exposure+watching)
	defer cancel()
	defer context.AfterFunc(over, closeIt)()
	var w inspect.Watcher
	for {
		img, release, err := source.Read()
		switch {
		case over.Err() != nil:
			if err == nil {
				release()
			}
			s := w.Sight()
			if ctx.Err() == nil && s.Pictures < 2 {
				return acceptance.Sight{}, errFewPictures
			}
			return acceptance.Sight{Brightness: s.Brightness, Sharpness: s.Sharpness, Motion: s.Motion}, ctx.Err()
		case err != nil:
			return acceptance.Sight{}, err
		}
		if picture, ok := img.(*image.YCbCr); ok && time.Since(began) > exposure {
			w.Add(picture)
		}
		release()
	}
}

// Listen implements acceptance.Devices.
func (d *checkDevices) Listen(ctx context.Context, l call.Ledger) (acceptance.Hearing, error) {
	microphone, speaker, _, _ := d.devices.sound()
	h := acceptance.Hearing{Microphone: microphone.Kind != "none", Speaker: speaker.Kind != "none", Synthetic: microphone.Kind == "synthetic"}
	if !h.Microphone || h.Synthetic {
		return h, nil // there is nothing to hear the chirp by
	}
	return d.listen(ctx, l)
}

func (d *checkDevices) listen(ctx context.Context, l call.Ledger) (acceptance.Hearing, error) {
	var h acceptance.Hearing
	if err := l.Opening(call.Microphone); err != nil {
		return h, err
	}
	defer d.devices.mouth.lend()()
	open := d.openSound
	if open == nil {
		open = d.devices.drivers().openSound
	}
	device, err := settled(ctx, func(ctx context.Context) (sound.Device, error) { return open(ctx, d.devices.soundConfig(true)) })
	if err != nil {
		if !errors.Is(err, errStillOpen) {
			l.Closed(call.Microphone)
		}
		return h, protocol.WithCode(soundCode(err), err)
	}
	opened := &openDevice[sound.Device]{Source: device, ledger: l, device: call.Microphone}
	defer context.AfterFunc(ctx, func() { _ = opened.Close() })() // what it returns is returned below too
	info := device.Info()
	h.Microphone, h.Speaker = info.Capture != "", info.Playback != ""
	var heard []int16
	if h.Microphone {
		heard, err = listen(device, h.Speaker)
		defer clear(heard) // figures are all that is kept
	}
	if err := errors.Join(err, opened.Close()); err != nil {
		return h, protocol.WithCode(soundCode(err), err)
	}
	if !h.Microphone {
		return h, nil
	}
	at := func(frame int) int { return frame * sound.FrameSamples }
	room := inspect.Measure(heard[at(startFrames):at(startFrames+roomFrames)])
	h.RMS, h.Peak, h.Clipped = room.RMS, room.Peak, room.Clipped
	if h.Speaker {
		echo := inspect.FindChirp(heard[at(startFrames+roomFrames-leadFrames):])
		h.Heard, h.Delay = echo.Heard, max(echo.Delay-leadFrames*sound.FrameSamples*time.Second/sound.Rate, 0)
	}
	return h, nil
}

// listen plays silence and then the chirp, and returns all that was heard meanwhile.
func listen(device sound.Device, plays bool) ([]int16, error) {
	frames := startFrames + roomFrames + chirpFrames
	var playing sync.WaitGroup
	var playErr error
	if plays {
		playing.Go(func() { playErr = play(device, frames) })
	}
	heard := make([]int16, frames*sound.FrameSamples)
	var err error
	for f := range frames {
		if err = device.Read(heard[f*sound.FrameSamples : (f+1)*sound.FrameSamples]); err != nil {
			_ = device.Close() // so that nobody waits for it; the caller closes it too
			break
		}
	}
	playing.Wait()
	return heard, errors.Join(err, playErr)
}

func play(device sound.Device, frames int) error {
	chirp := inspect.Chirp()
	frame := make([]int16, sound.FrameSamples)
	for f := range frames {
		clear(frame)
		if at := (f - startFrames - roomFrames) * sound.FrameSamples; at >= 0 && at < len(chirp) {
			copy(frame, chirp[at:])
		}
		if err := device.Write(frame); err != nil {
			_ = device.Close() // so that nobody waits for it; the caller closes it too
			return err
		}
	}
	return nil
}
