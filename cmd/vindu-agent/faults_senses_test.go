package main

import (
	"context"
	"image"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/acceptance"
	"vindu/device/agent"
	"vindu/device/call/calltest"
	"vindu/device/health"
	"vindu/device/rehearsal"
	"vindu/media/camera"
	"vindu/media/sound"
	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// technician is one who has pressed the terminal's button a moment ago.
type technician struct{}

func (technician) Technician() protocol.Party {
	return protocol.Party{Name: "Bo Dahl", Role: "technician", Organisation: "Kommunen"}
}
func (technician) Mandate() protocol.Nonce        { return protocol.Nonce{7} }
func (technician) Pressed() (time.Duration, bool) { return 0, true }

// blind is a camera that sees black, with a sensor's noise, while its lens is covered.
type blind struct {
	camera.Source
	covered *atomic.Bool
	n       uint8
}

func (b *blind) Read() (image.Image, func(), error) {
	img, release, err := b.Source.Read()
	picture, ok := img.(*image.YCbCr)
	if err != nil || !ok || !b.covered.Load() {
		return img, release, err
	}
	defer release()
	black := image.NewYCbCr(picture.Rect, picture.SubsampleRatio)
	b.n++
	for i := range black.Y {
		black.Y[i] = 16 + (uint8(i)*31+b.n*17)%4
	}
	for i := range black.Cb {
		black.Cb[i], black.Cr[i] = 128, 128
	}
	return black, func() {}, nil
}

// deaf is a sound card in a room whose microphone delivers nought while its wire is broken.
type deaf struct {
	sound.Device
	broken *atomic.Bool
}

func (d *deaf) Read(frame []int16) error {
	err := d.Device.Read(frame)
	if d.broken.Load() {
		clear(frame)
	}
	return err
}

// TestFaultsOfSenses provokes what no look at the inventory tells: a camera that sees black, and a microphone that hears nothing. The devices are watched ones; how
// they are looked at and listened to, what is made of that, and what is told, is the program's.
func TestFaultsOfSenses(t *testing.T) {
	const black, silent = "the camera sees black", "the microphone hears nothing"
	list := faulttest.New(t, "senses", "cmd/vindu-agent TestFaultsOfSenses", *update, black, silent)
	t.Run(black, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { seesBlack(t, list, black) }) })
	t.Run(silent, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { hearsNothing(t, list, silent) }) })
}

// checkerOf is what checks a terminal with these drivers and nothing else.
func checkerOf(t *testing.T, by *drivers) *acceptance.Runner {
	t.Helper()
	cfg, log := agent.Default(), slog.New(slog.DiscardHandler)
	r, err := acceptance.New(acceptance.Config{
		Devices: &checkDevices{cfg: cfg, devices: &devices{cfg: cfg.Devices, by: by}, log: log}, Network: struct{ acceptance.Network }{}, Clinic: struct{ acceptance.Clinic }{},
		Outbox: &calltest.Outbox{}, Store: &calltest.Store{}, Busy: func() bool { return false }, Now: time.Now, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// seesBlack has a technician check a camera. What a check finds is no condition that lasts: it is found, and after relief it is not.
func seesBlack(t *testing.T, list *faulttest.List, name string) {
	covered := new(atomic.Bool)
	checker := checkerOf(t, &drivers{
		cameras: func() []camera.Info { return []camera.Info{{Path: "/dev/vindu-watched", Name: "watched"}} },
		openCamera: func(_ context.Context, c camera.Config) (camera.Source, error) {
			c.Width, c.Height, c.FPS = 160, 120, 10
			return &blind{Source: camera.TestPicture(c), covered: covered}, nil
		},
	})
	found := func() (failed []protocol.Code) {
		t.Helper()
		checks, err := checker.Check(t.Context(), technician{}, acceptance.Wanted{Names: []string{"camera.brightness", "camera.sharpness", "camera.motion"}}, nil)
		if err != nil || len(checks) != 3 {
			t.Fatalf("%+v, %v", checks, err)
		}
		for _, c := range checks {
			if c.State == protocol.CheckFailed {
				failed = append(failed, c.Code)
			}
		}
		return failed
	}
	if failed := found(); len(failed) != 0 {
		t.Errorf("before it was covered: %q", failed)
	}
	covered.Store(true)
	failed := found()
	if !slices.Equal(failed, []protocol.Code{protocol.CaptureDark}) {
		t.Errorf("found %q", failed)
	}
	covered.Store(false)
	if failed := found(); len(failed) != 0 {
		t.Errorf("after relief: %q", failed)
	}
	list.Saw(t, faulttest.Fault{Fault: name, Condition: protocol.CaptureDark})
}

// hearsNothing has a terminal rehearse its sound on two days, of which it hears nothing on the first.
func hearsNothing(t *testing.T, list *faulttest.List, name string) {
	broken := new(atomic.Bool)
	card := []sound.Card{{Device: "watched", Name: "watched"}}
	checker := checkerOf(t, &drivers{
		cards: func() (capture, playback []sound.Card) { return card, card },
		openSound: func(context.Context, sound.Config) (sound.Device, error) {
			return &deaf{Device: newParlour(), broken: broken}, nil
		},
	})
	changes := 0
	monitor := health.New(health.Config{
		Devices: func() health.Devices { return health.Devices{} }, Counters: func() health.Counters { return health.Counters{} }, Checks: func() []protocol.Code { return nil },
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Changed: func(protocol.ConditionChange) { changes++ },
	})
	clinic, store := calltest.NewClinic(t), &calltest.Store{}
	var last *protocol.Rehearsal
	// day has the night's calls go well, which are not what is looked at here, and the terminal rehearse its sound when it is time. It returns what is told then.
	day := func() (told []protocol.Code) {
		t.Helper()
		began := time.Now()
		passed := func(call string) protocol.RehearsalPart {
			return protocol.RehearsalPart{Name: call, At: protocol.At(began.Add(3 * time.Hour)), State: protocol.CheckPassed}
		}
		last = last.With(protocol.At(began.Add(3*time.Hour)), false, passed("call.direct"), passed("call.relayed"))
		body, err := protocol.Encode(last)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Save(body); err != nil {
			t.Fatal(err)
		}
		runner, err := rehearsal.New(rehearsal.Config{
			Self: clinic.Self, Signer: clinic.Terminal, Keys: func() [][]byte { return nil }, Media: &calltest.Media{}, Sender: &calltest.Sender{}, Outbox: &calltest.Outbox{},
			Clinic: struct{ acceptance.Clinic }{}, Listen: checker.Rehearse, Store: store, Window: func() *protocol.Window { return &protocol.Window{From: 60, To: 120} },
			Now: func() time.Time { return time.Now().UTC() }, Known: func() bool { return true }, Quiet: func(time.Time) bool { return false }, Free: func() protocol.Code { return "" },
			Told: func(r *protocol.Rehearsal) { last = r; monitor.Set("rehearsal", r.Conditions()...) }, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- runner.Run(ctx) }()
		pass(13 * time.Hour)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if p, ok := last.Part("microphone"); !ok || p.At.Time().Before(began) {
			t.Fatalf("the sound was not rehearsed: %+v", last)
		}
		for _, c := range monitor.Health().Conditions {
			told = append(told, c.Code)
		}
		pass(11 * time.Hour)
		return told
	}
	if told := day(); len(told) != 0 {
		t.Errorf("before it was broken: %q", told)
	}
	broken.Store(true)
	told := day()
	shown := protocol.Showing(told)
	if !slices.Equal(shown, []protocol.Code{protocol.CaptureSilent}) {
		t.Errorf("%q shows of %q", shown, told)
	}
	broken.Store(false)
	if told := day(); len(told) != 0 || changes == 0 {
		t.Errorf("after relief: %q, told %d times", told, changes)
	}
	list.Saw(t, faulttest.Fault{Fault: name, Condition: protocol.CaptureSilent, Hidden: slices.DeleteFunc(told, func(c protocol.Code) bool { return slices.Contains(shown, c) })})
}
