package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/panel"
	"vindu/device/panel/simulator"
	"vindu/device/progress"
	"vindu/device/screen"
	"vindu/media/camera"
	"vindu/protocol"
)

// pressed notices what presses lead to.
type pressed struct {
	said  chan string
	looks atomic.Int64
}

func (p *pressed) HangUp()    { p.said <- "no" }
func (p *pressed) Take()      { p.said <- "take" }
func (p *pressed) Curtain()   { p.said <- "curtain" }
func (p *pressed) StartAnew() { p.said <- "anew" }
func (p *pressed) Look()      { p.looks.Add(1) }

// bedside is a panel on a pseudo-terminal, a terminal's end of it, and whoever is told.
type bedside struct {
	t     *testing.T
	sim   *simulator.Simulator
	cable *simulator.Cable
	hands *hands
	to    *pressed
}

func newBedside(t *testing.T) *bedside { return newBedsideUnder(t, nil) }

// newBedsideUnder has a board on which those report who run calls.
func newBedsideUnder(t *testing.T, board *progress.Board) *bedside {
	pty, err := simulator.OpenPTY()
	if err != nil {
		t.Fatal(err)
	}
	d := &bedside{t: t, sim: simulator.New(new(simulator.Panel), nil), cable: &simulator.Cable{Line: pty}, to: &pressed{said: make(chan string, 16)}}
	d.hands = openHands(agent.Panel{Port: pty.Path()}, board, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	simulated, ran := make(chan error, 1), make(chan error, 1)
	go func() { ran <- d.hands.run(ctx, d.to) }()
	outlives, end := context.WithCancel(t.Context())
	go func() { simulated <- d.sim.Run(outlives, d.cable) }()
	t.Cleanup(func() {
		stop()
		err := <-ran
		end()
		if err := errors.Join(err, <-simulated); err != nil {
			t.Error(err)
		}
	})
	d.until("there is a panel", func() bool { return d.hands.here() && d.hands.panel.State().Open })
	return d
}

// until waits for something to be so; the test's own deadline ends it.
func (d *bedside) until(what string, so func() bool) {
	d.t.Helper()
	limit := time.After(time.Minute)
	for tick := time.NewTicker(5 * time.Millisecond); !so(); {
		select {
		case <-tick.C:
		case <-limit:
			d.t.Fatalf("never: %s", what)
		}
	}
}

func (d *bedside) hear(want string) {
	d.t.Helper()
	select {
	case got := <-d.to.said:
		if got != want {
			d.t.Fatalf("%q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		d.t.Fatalf("nobody heard %q", want)
	}
}

// TestPanelPresses: no hangs up and answer takes, whatever is on the screen; and answer agrees where somebody is asked, which no never does.
func TestPanelPresses(t *testing.T) {
	d := newBedside(t)
	press := func(set func(*simulator.Inputs, bool), counts func() bool) {
		t.Helper()
		d.sim.Change(func(in *simulator.Inputs) { set(in, true) })
		d.until("the press was seen", counts)
		d.sim.Change(func(in *simulator.Inputs) { set(in, false) })
		d.until("the button was let go", func() bool { s := d.hands.panel.State(); return !s.NoHeld && !s.Held })
	}
	no := func() {
		t.Helper()
		press(func(in *simulator.Inputs, on bool) { in.No = on }, func() bool { return len(d.to.said) > 0 })
		d.hear("no")
	}
	for kind := screen.Kind(0); kind < 16; kind++ {
		d.hands.show(screen.Scene{Kind: kind})
		no()
	}
	press(func(in *simulator.Inputs, on bool) { in.Answer = on }, func() bool { return len(d.to.said) > 0 })
	d.hear("take")

	p := newPress(agent.Devices{Button: "none"}, agent.Button{}, nil, d.hands)
	agreed := make(chan error, 1)
	go func() { agreed <- p.agree(t.Context()) }()
	d.until("somebody waits", func() bool {
		d.hands.mu.Lock()
		defer d.hands.mu.Unlock()
		return len(d.hands.agreeds) > 0
	})
	no()
	select {
	case err := <-agreed:
		t.Fatalf("no agrees: %v", err)
	default:
	}
	press(func(in *simulator.Inputs, on bool) { in.Answer = on }, func() bool { return len(agreed) > 0 })
	if err := <-agreed; err != nil || len(d.to.said) > 0 {
		t.Errorf("%v, %d", err, len(d.to.said))
	}
	if p.what() != "Answer, on the panel" || p.own() != "" {
		t.Errorf("%q, %q", p.what(), p.own())
	}
	looks := d.to.looks.Load()
	d.cable.Pull(true)
	d.until("the screen is told that the buttons are gone", func() bool { return d.to.looks.Load() > looks })
	if p.what() != "" {
		t.Errorf("%q without a panel", p.what())
	}
	d.cable.Pull(false)
	d.until("and that they are back", func() bool { return d.to.looks.Load() > looks+1 })
}

// TestPanelCamera: a camera is open only while the panel gives it power, and is closed when it does not any more, whyever; then it can be opened anew.
func TestPanelCamera(t *testing.T) {
	for _, test := range []struct {
		name string
		cut  func(*bedside)
		why  error
		mend func(*bedside)
	}{
		{"cable", func(d *bedside) { d.cable.Pull(true) }, panel.ErrAway, func(d *bedside) { d.cable.Pull(false) }},
		{"shutter", func(d *bedside) { d.sim.Change(func(in *simulator.Inputs) { in.Open = false }) }, panel.ErrShutter,
			func(d *bedside) { d.sim.Change(func(in *simulator.Inputs) { in.Open = true }) }},
		{"no", func(d *bedside) { d.sim.Change(func(in *simulator.Inputs) { in.No = true }) }, panel.ErrDenied,
			func(d *bedside) {
				d.sim.Change(func(in *simulator.Inputs) { in.No = false })
				d.hands.show(screen.Scene{Kind: screen.Ended})
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newBedside(t)
			d.hands.show(screen.Scene{Kind: screen.InCall})
			closed := make(chan struct{}, 4)
			by := d.hands.powered(&drivers{
				cameras: func() []camera.Info { return nil },
				openCamera: func(_ context.Context, cfg camera.Config) (camera.Source, error) {
					if !d.sim.Outputs().Camera {
						t.Error("the camera is opened without power")
					}
					return &watched{camera.TestPicture(cfg), func() { closed <- struct{}{} }}, nil
				},
			})
			if len(by.cameras()) != 1 {
				t.Error("a camera without power is no camera")
			}
			source, err := by.openCamera(t.Context(), camera.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if _, release, err := source.Read(); err != nil {
				t.Fatal(err)
			} else {
				release()
			}
			test.cut(d)
			d.until("the camera is closed", func() bool { return len(closed) > 0 })
			<-closed
			d.until("the power is cut", func() bool { return !d.sim.Outputs().Camera })
			if _, _, err := source.Read(); !errors.Is(err, test.why) {
				t.Errorf("read: %v", err)
			}
			if _, err := by.openCamera(t.Context(), camera.Config{}); !errors.Is(err, test.why) {
				t.Errorf("open: %v", err)
			}
			if shut := test.why == panel.ErrShutter; d.hands.covered() != shut {
				t.Errorf("covered: %v", !shut)
			}
			if err := source.Close(); err != nil {
				t.Error(err)
			}
			test.mend(d)
			d.until("it is mended", func() bool { return d.hands.ready() == nil && !d.hands.panel.State().NoHeld })
			again, err := by.openCamera(t.Context(), camera.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
			d.until("the camera is closed again", func() bool { return len(closed) > 0 })
			<-closed
			d.until("the light is out", func() bool { return !d.sim.Outputs().Camera })
			select {
			case <-closed:
				t.Error("closed twice")
			default:
			}
		})
	}
}

// watched tells when a camera is closed.
type watched struct {
	camera.Source
	closed func()
}

func (w *watched) Close() error {
	err := w.Source.Close()
	w.closed()
	return err
}

// TestPanelEndsCall: where the configuration has it so, a call ends that has lost its panel, or is answered while it is away; not one whose shutter is closed.
func TestPanelEndsCall(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(*bedside)
		then   func(*bedside)
		code   protocol.Code
		ends   bool
	}{
		{"cable", func(*bedside) {}, func(d *bedside) { d.cable.Pull(true) }, protocol.PanelMissing, true},
		{"away when it is answered", func(d *bedside) {
			d.cable.Pull(true)
			d.until("it is away", func() bool { return !d.hands.here() })
		}, func(*bedside) {}, protocol.PanelMissing, true},
		{"shutter", func(*bedside) {}, func(d *bedside) { d.sim.Change(func(in *simulator.Inputs) { in.Open = false }) }, protocol.AnswerShutter, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newBedside(t)
			f := newFixture(t)
			f.media.cfg.Panel.Lost, f.media.devices.hands = "end", d.hands
			d.hands.show(screen.Scene{Kind: screen.InCall})
			f.prepare()
			f.connect()
			f.await("connection", kind(call.MediaConnected))
			test.before(d)
			if err := f.session.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			test.then(d)
			f.await("a camera that is missed", func(ev call.MediaEvent) bool { return ev.Kind == call.MediaCondition && ev.On && ev.Code == test.code })
			if test.ends {
				f.await("the end", func(ev call.MediaEvent) bool { return ev.Kind == call.MediaFailed && ev.Code == protocol.PanelMissing })
				return
			}
			d.sim.Change(func(in *simulator.Inputs) { in.Open = true })
			f.await("the camera again, in the same call", func(ev call.MediaEvent) bool {
				if ev.Kind == call.MediaFailed {
					t.Fatalf("ended by %s", ev.Code)
				}
				return ev.Kind == call.MediaCondition && !ev.On && ev.Code == test.code
			})
		})
	}
}

// TestPanelPulledInCall is a call with a panel: the ledger has an opening only with power, and the closing when the cable is pulled; the call goes on as voice, and its
// picture comes back with the cable.
func TestPanelPulledInCall(t *testing.T) {
	d := newBedside(t)
	f := newFixture(t)
	f.media.devices.hands = d.hands
	d.hands.show(screen.Scene{Kind: screen.InCall})
	f.prepare()
	f.connect()
	f.await("connection", kind(call.MediaConnected))
	if d.sim.Outputs().Camera {
		t.Error("the camera has power before the answer")
	}
	if err := f.session.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.until("the camera has power", func() bool { return d.sim.Outputs().Camera })
	d.cable.Pull(true)
	d.until("the power is cut", func() bool { return !d.sim.Outputs().Camera })
	d.until("the camera is closed on the ledger", func() bool { return slices.Contains(f.ledger.sorted(), "close camera") })
	if slices.Contains(f.ledger.sorted(), "close microphone") {
		t.Error("the voice is gone, too")
	}
	d.cable.Pull(false)
	d.until("the picture is back", func() bool { return d.sim.Outputs().Camera })
	if err := f.session.Close(context.Background()); err != nil {
		t.Error(err)
	}
	d.until("the light is out", func() bool { return !d.sim.Outputs().Camera })
}

// TestPanelAway: a panel that is configured and not there is a condition, and so is its camera's.
func TestPanelAway(t *testing.T) {
	cfg := agent.Default().Devices
	away := &hands{panel: panel.New(func(context.Context) (io.ReadWriteCloser, error) { return nil, fs.ErrNotExist }, func() bool { return true }, slog.New(slog.DiscardHandler))}
	for _, test := range []struct {
		name  string
		hands *hands
		want  bool
	}{{"none is configured", nil, false}, {"it is away", away, true}} {
		d := &devices{cfg: cfg, hands: test.hands}
		if got := slices.Contains(d.look().Conditions, protocol.PanelMissing); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if err := away.ready(); !errors.Is(err, panel.ErrAway) || cameraCode(err) != protocol.PanelMissing || away.knob(80) != 80 {
		t.Errorf("%v", err)
	}
}

// TestKnob: the knob makes less of the policy's volume, and never nothing.
func TestKnob(t *testing.T) {
	d := newBedside(t)
	for _, test := range []struct{ knob, policy, want int }{{100, 80, 80}, {50, 80, 40}, {0, 80, protocol.MinVolume}, {50, 0, 35}, {100, 0, 70}} {
		d.sim.Change(func(in *simulator.Inputs) { in.Volume = uint8(test.knob) })
		d.until("the knob is turned", func() bool { return d.hands.panel.State().Volume == test.knob })
		if got := d.hands.knob(test.policy); got != test.want {
			t.Errorf("%d of %d is %d, want %d", test.knob, test.policy, got, test.want)
		}
	}
}

// TestPanelCallHangs: a camera is closed when what runs the calls reports nothing any more, however well the panel's line and the pictures get on.
func TestPanelCallHangs(t *testing.T) {
	board := new(progress.Board)
	d := newBedsideUnder(t, board)
	d.hands.show(screen.Scene{Kind: screen.InCall})
	var closed atomic.Int64
	by := d.hands.powered(&drivers{
		cameras: func() []camera.Info { return nil },
		openCamera: func(_ context.Context, cfg camera.Config) (camera.Source, error) {
			return &watched{camera.TestPicture(cfg), func() { closed.Add(1) }}, nil
		},
	})
	if _, err := by.openCamera(t.Context(), camera.Config{}); !errors.Is(err, panel.ErrHung) {
		t.Errorf("nothing runs calls: %v", err)
	}
	calls := board.Root(agent.CallsRoot)
	source, err := by.openCamera(t.Context(), camera.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d.until("the camera is closed", func() bool { return closed.Load() == 1 })
	d.until("the power is cut", func() bool { return !d.sim.Outputs().Camera })
	if _, _, err := source.Read(); !errors.Is(err, panel.ErrHung) {
		t.Errorf("read: %v", err)
	}
	calls.Alive()
	again, err := by.openCamera(t.Context(), camera.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(source.Close(), again.Close()); err != nil {
		t.Error(err)
	}
}

// TestPanelDriverHangs: a camera whose driver does not close it loses its power all the same.
func TestPanelDriverHangs(t *testing.T) {
	d := newBedside(t)
	d.hands.show(screen.Scene{Kind: screen.InCall})
	hang := make(chan struct{})
	by := d.hands.powered(&drivers{
		cameras: func() []camera.Info { return nil },
		openCamera: func(_ context.Context, cfg camera.Config) (camera.Source, error) {
			return &watched{camera.TestPicture(cfg), func() { <-hang }}, nil
		},
	})
	source, err := by.openCamera(t.Context(), camera.Config{})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- source.Close() }()
	d.until("the light is out", func() bool { return !d.sim.Outputs().Camera })
	select {
	case err := <-closed:
		t.Errorf("the driver let go: %v", err)
	default:
	}
	close(hang)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
