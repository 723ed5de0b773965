package main

import (
	"context"
	"crypto"
	"log/slog"
	"os"
	"runtime"
	"time"

	"vindu/device/acceptance"
	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/cec"
	"vindu/device/identity"
	scene "vindu/device/screen"
	"vindu/device/voice"
	"vindu/media/codec"
	"vindu/media/speech"
	"vindu/provisioning"
)

// runWith is the terminal with these drivers, until ctx ends; shown is told every scene and must not block. Nobody supervises it.
func runWith(ctx context.Context, cfg agent.Config, by *drivers, shown func(scene.Scene), log *slog.Logger) error {
	return runUnder(ctx, cfg, oversight{}, by, shown, log)
}

// runUnder is runWith under oversight.
func runUnder(ctx context.Context, cfg agent.Config, over oversight, by *drivers, shown func(scene.Scene), log *slog.Logger) error {
	screen, err := openScreen(ctx, cfg.Devices, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := screen.display.Close(); err != nil {
			log.Warn("screen not closed", "error", err)
		}
	}()
	hands := openHands(cfg.Panel, over.board, log)
	devices := &devices{cfg: cfg.Devices, screen: screen.state, by: hands.powered(by), hands: hands}
	far := new(tap)
	devices.mouth = &mouth{devices: devices, far: far, log: log}
	page, err := openPreview(cfg.Preview.Listen, cfg.Language, screen.memory, devices, far, log)
	if err != nil {
		return err
	}
	rest := newResting(log)
	coders := newCoders(cfg, append([]codec.Coder{codec.Libvpx(), codec.OpenH264()}, hardware(over.safe, log)...), log)
	services := append([]func(context.Context) error{screen.run, rest.run, coders.run}, over.services...)
	var fields []any
	if page != nil {
		services = append(services, page.run)
		fields = []any{"preview", page.address()}
	}
	press, wires := newPress(cfg.Devices, cfg.Button, page, hands), networkOf(cfg.Network)
	var light scene.Light
	if cfg.Devices.Display != "memory" {
		if light, err = scene.OpenBacklight(lights); err != nil {
			log.Warn("the screen's light cannot be set", "error", err)
		}
	}
	tv := televisionOf(cfg.CEC, log)
	if tv != nil {
		services = append(services, tv.Run)
	}
	var a *agent.Agent // the services run only after it is made
	services = append(services, func(ctx context.Context) error { return press.run(ctx, a) })
	if hands != nil {
		services = append(services, func(ctx context.Context) error { return hands.run(ctx, a) })
	}
	if cfg.Serial.Port != "" {
		services = append(services, func(ctx context.Context) error {
			host, err := newSetupHost(a, press, wires, log)
			if err != nil {
				return err
			}
			return serveSerial(cfg.Serial.Port, host, log)(ctx)
		})
	}
	a, err = agent.New(cfg, agent.Parts{
		Software: software(), Display: screen.display, Light: light, HasScreen: screen.seen.Load, Button: func() bool { return press.own() != "" }, Panel: hands.here, Answer: func() bool { return hands.here() || press.button.CanAnswer() }, Covered: hands.covered, Devices: devices.look, Coders: coders.told, Bell: devices.mouth,
		Media: func(id *identity.Identity) call.Media {
			return &media{cfg: cfg, devices: devices, coders: coders, screen: pictures{screen.display}, far: far, id: id, files: os.DirFS("/"), log: log, profile: &profiler{file: over.profile, log: log}}
		},
		Rehearsal: func(id *identity.Identity) call.Media { return newRehearsed(cfg, coders, id, log) },
		Keys:      keysOf(cfg, log), Forget: wires.Forget,
		Checks: func(id *identity.Identity, now func() time.Time) acceptance.Config {
			return checksOf(cfg, devices, id, now, log)
		},
		Clinic: func(signer crypto.Signer, now func() time.Time) identity.Clinic {
			return clinic{&provisioning.Client{Signer: signer, Now: now}}
		},
		Synthesiser: synthesiserOf(cfg.Voice, log), Mouth: devices.mouth,
		Services: services, Fields: fields, Progress: over.board, Safe: over.safe,
		Shown: func(s scene.Scene) {
			page.show(s)
			rest.show(s)
			press.show(s)
			hands.show(s)
			tv.Show(s.Kind == scene.Ringing || s.Kind == scene.InCall)
			shown(s)
		},
	}, log)
	if err != nil {
		return err
	}
	page.use(a)
	devices.mouth.policy.Store(a)
	err = a.Run(ctx)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// televisionOf is the television that is woken by the configuration; nil if none is.
func televisionOf(cfg agent.CEC, log *slog.Logger) *cec.Television {
	if cfg.Device == "" {
		return nil
	}
	return cec.New(func() (cec.Adapter, error) { return cec.OpenSystem(cfg.Device) }, cfg.Standby, log.With("cec", cfg.Device))
}

// synthesiserOf is what speaks by the configuration; nil if nothing does.
func synthesiserOf(cfg agent.Voice, log *slog.Logger) voice.Synthesiser {
	if cfg.Socket == "" {
		log.Info("no voice is configured: the terminal chimes, and its screen says the rest")
		return nil
	}
	return &speech.Synthesiser{Socket: cfg.Socket, Speed: cfg.Speed}
}

// resting gives memory back to the system when the terminal has come to rest after its start or a call.
type resting struct {
	log  *slog.Logger
	now  chan struct{}
	kind scene.Kind // of the scene before; only for show, which has one caller at a time
}

func newResting(log *slog.Logger) *resting { return &resting{log: log, now: make(chan struct{}, 1)} }

// show notices that the terminal came to rest. It does not block.
func (r *resting) show(s scene.Scene) {
	if s.Kind == scene.Ready && r.kind != scene.Ready {
		select {
		case r.now <- struct{}{}:
		default:
		}
	}
	r.kind = s.Kind
}

func (r *resting) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.now:
		}
		// Not in the moment in which a start or an end has other things to do.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
		giveBack()
		r.tell()
	}
}

// tell says what the program consists of when nothing happens: what grows from one rest to the next is lost.
func (r *resting) tell() {
	if !r.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r.log.Debug("at rest", "goroutines", runtime.NumGoroutine(), "heap", memory.HeapAlloc)
}
