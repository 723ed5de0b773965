package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/media/session"
	"vindu/media/sound"
	"vindu/media/sound/soundtest"
)

// A sound card that is pulled out is back in the call within 3 s of being plugged in again, however long it was away and whatever it is called then.
// While it is away nothing is opened, and the ledger is not filled.
func TestSoundCardPulledOutAndPluggedIn(t *testing.T) {
	for _, tt := range []struct {
		name, wanted, before, after string
	}{
		{"auto", "auto", "Device", "Device_1"},
		{"by USB port", "usb:1-1.2", "Device", "Device_1"},
		{"by identity", "hw:CARD=Device", "Device", "Device"},
		{"by identity and number", "hw:CARD=Device,DEV=0", "Device", "Device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				card := func(id string) *soundtest.Card {
					return &soundtest.Card{ID: id, USB: "1-1.2", Playback: true, Capture: true}
				}
				first := card(tt.before)
				host := soundtest.New(first)
				with := machine
				with.cards = func() (capture, playback []sound.Card) { return sound.ListOn(host) }
				with.openSound = func(ctx context.Context, cfg sound.Config) (sound.Device, error) { return sound.OpenOn(ctx, host, cfg) }
				m := &media{cfg: agent.Default(), devices: &devices{cfg: agent.Devices{Microphone: tt.wanted, Speaker: tt.wanted}, by: &with}, log: slog.New(slog.DiscardHandler)}
				book := &ledger{}
				s := &mediaSession{m: m, offer: call.Offer{Ledger: book}}
				// As package session does: a device that is lost is tried again every 2 s, and a quarter.
				again := func() (session.Sound, error) {
					time.Sleep(2500 * time.Millisecond) // allowed: in a bubble
					return s.openSound(t.Context())
				}
				d, err := again()
				if err != nil {
					t.Fatal(err)
				}
				frame := make([]int16, sound.FrameSamples)
				if err := d.Read(frame); err != nil {
					t.Fatal(err)
				}
				first.Unplug()
				for err == nil {
					err = d.Read(frame)
				}
				if !errors.Is(err, sound.ErrGone) {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				entries := len(book.sorted())
				for range 100 {
					if _, err := again(); !errors.Is(err, sound.ErrNotFound) {
						t.Fatalf("while it is away: %v", err)
					}
				}
				if got := len(book.sorted()); got != entries {
					t.Errorf("the ledger has %d more entries", got-entries)
				}
				if h := m.devices.look(); h.Microphone.Kind != "none" || len(h.Conditions) < 2 {
					t.Errorf("while it is away the terminal says %+v", h)
				}
				host.Plug(card(tt.after))
				if d, err = again(); err != nil {
					t.Fatalf("plugged in again: %v", err)
				}
				if err := d.Read(frame); err != nil {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
