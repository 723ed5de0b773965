package main

import (
	"context"
	"crypto"
	"log/slog"
	"time"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/identity"
	"vindu/provisioning"
)

// run is the terminal, until ctx ends.
func run(ctx context.Context, cfg agent.Config, log *slog.Logger) error {
	screen, err := openScreen(ctx, cfg.Devices, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := screen.display.Close(); err != nil {
			log.Warn("screen not closed", "error", err)
		}
	}()
	devices := &devices{cfg: cfg.Devices, screen: screen.state}
	far := new(tap)
	page, err := openPreview(cfg.Preview.Listen, screen.memory, devices, far, log)
	if err != nil {
		return err
	}
	services := []func(context.Context) error{screen.run}
	var fields []any
	if page != nil {
		services = append(services, page.run)
		fields = []any{"preview", page.address()}
	}
	a, err := agent.New(cfg, agent.Parts{
		Software: software(), Display: screen.display, HasScreen: screen.seen.Load, Devices: devices.look, Bell: &bell{cfg: cfg.Devices, log: log},
		Media: func(id *identity.Identity) call.Media {
			return &media{cfg: cfg, devices: devices, screen: pictures{screen.display}, far: far, id: id, log: log}
		},
		Clinic: func(signer crypto.Signer, now func() time.Time) identity.Clinic {
			return clinic{&provisioning.Client{Signer: signer, Now: now}}
		},
		Services: services, Shown: page.show, Fields: fields,
	}, log)
	if err != nil {
		return err
	}
	page.use(a)
	err = a.Run(ctx)
	if err == nil {
		log.Info("stopped")
	}
	return err
}
