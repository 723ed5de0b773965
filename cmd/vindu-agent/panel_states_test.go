package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/agent"
	"vindu/device/panel"
	"vindu/device/panel/simulator"
	"vindu/device/screen"
	"vindu/media/camera"
	"vindu/media/sound"
	"vindu/protocol"
)

const (
	// soon is within what time whatever a person does at the panel has to have its effect.
	soon = 300 * time.Millisecond
	// darkLimit is within what time a camera has to be closed and without power whose panel's cable was pulled.
	darkLimit = 2 * time.Second
)

// hearsay is what presses lead to.
type hearsay struct {
	mu    sync.Mutex // of who tells; who reads waits for the bubble to be still
	said  []string
	looks int
}

func (h *hearsay) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, what)
}

func (h *hearsay) HangUp()    { h.note("no") }
func (h *hearsay) Take()      { h.note("take") }
func (h *hearsay) Curtain()   { h.note("curtain") }
func (h *hearsay) StartAnew() { h.note("anew") }

func (h *hearsay) Look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
}

// reopened is a line that can be opened again after it was closed.
type reopened struct{ net.Conn }

func (l reopened) Close() error { return l.SetDeadline(time.Unix(1, 0)) }

// newHands runs a panel's simulator and the terminal's end of its line until the test, which is a bubble, ends.
func newHands(t *testing.T) (*hands, *simulator.Simulator, *simulator.Cable, *hearsay) {
	here, there := net.Pipe()
	told, sim, cable := &hearsay{}, simulator.New(new(simulator.Panel), nil), &simulator.Cable{Line: there}
	h := &hands{panel: panel.New(func(context.Context) (io.ReadWriteCloser, error) {
		return reopened{here}, here.SetDeadline(time.Time{})
	}, func() bool { return true }, slog.New(slog.DiscardHandler))}
	ctx, stop := context.WithCancel(t.Context())
	outlives, end := context.WithCancel(t.Context())
	ran, simulated := make(chan error, 1), make(chan error, 1)
	go func() { ran <- h.run(ctx, told) }()
	go func() { simulated <- sim.Run(outlives, cable) }()
	t.Cleanup(func() {
		stop()
		err := <-ran
		end()
		if err := errors.Join(err, <-simulated); err != nil {
			t.Error(err)
		}
	})
	return h, sim, cable, told
}

// elapse lets time go by in a bubble.
func elapse(d time.Duration) { <-time.After(d); synctest.Wait() }

// TestPanelHold: a terminal whose only buttons are its panel's begins anew when somebody holds Answer for three seconds, where its screen asks for that, and only there.
func TestPanelHold(t *testing.T) {
	answer, no := func(in *simulator.Inputs) { in.Answer = true }, func(in *simulator.Inputs) { in.No = true }
	for _, test := range []struct {
		name  string
		kind  screen.Kind
		press func(*simulator.Inputs)
		long  time.Duration
		want  []string
	}{
		{"lost", screen.Lost, answer, holdTime + soon, []string{"take", "anew"}},
		{"returned", screen.Returned, answer, holdTime + soon, []string{"take", "anew"}},
		{"lost, too short", screen.Lost, answer, holdTime - soon, []string{"take"}},
		{"lost, the other button", screen.Lost, no, 2 * holdTime, []string{"no"}},
		{"at rest", screen.Ready, answer, 2 * holdTime, []string{"take"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, sim, _, told := newHands(t)
				p := newPress(agent.Devices{Button: "none"}, agent.Button{}, nil, h)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- p.run(ctx, told) }()
				p.show(screen.Scene{Kind: test.kind})
				elapse(2 * time.Second)
				sim.Change(test.press)
				elapse(test.long)
				sim.Change(func(in *simulator.Inputs) { in.Answer, in.No = false, false })
				elapse(2 * holdTime)
				if !slices.Equal(told.said, test.want) {
					t.Errorf("%v, want %v", told.said, test.want)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestPanelEveryState is everything that hands can do at a panel, in every state of the terminal, by the clock of a bubble: no always hangs up, answer is heard, the shutter and
// no close the camera and cut its power, the knob is obeyed; each within 300 ms, and nothing else happens. Without its cable, the camera is closed and has no power within 2 s.
func TestPanelEveryState(t *testing.T) {
	states := []struct {
		name   string
		scene  screen.Scene
		camera bool // is open
		call   bool // rings or runs: what somebody says no to stays denied until it is over
	}{
		{name: "idle", scene: screen.Scene{Kind: screen.Ready}},
		{name: "resting", scene: screen.Scene{Kind: screen.Resting}},
		{name: "told before the first call", scene: screen.Scene{Kind: screen.Ringing, Notice: time.Minute}, call: true},
		{name: "ringing", scene: screen.Scene{Kind: screen.Ringing}, call: true},
		{name: "asked", scene: screen.Scene{Kind: screen.Ringing, Ask: true}, call: true},
		{name: "connecting, as the camera opens", scene: screen.Scene{Kind: screen.Ringing}, camera: true, call: true},
		{name: "talking", scene: screen.Scene{Kind: screen.InCall}, camera: true, call: true},
		{name: "talking by voice", scene: screen.Scene{Kind: screen.InCall}, call: true},
		{name: "behind a curtain", scene: screen.Scene{Kind: screen.InCall, Curtain: screen.DrawnHere}, call: true},
		{name: "the curtain opens", scene: screen.Scene{Kind: screen.InCall, Curtain: screen.Lifting}, camera: true, call: true},
		{name: "ended", scene: screen.Scene{Kind: screen.Ended}},
		{name: "checked by a technician", scene: screen.Scene{Kind: screen.Checking}, camera: true, call: true},
		{name: "not set up", scene: screen.Scene{Kind: screen.NotSetUp}},
		{name: "asked to let a technician in", scene: screen.Scene{Kind: screen.Pressing}},
		{name: "its key is lost", scene: screen.Scene{Kind: screen.Lost}},
		{name: "taken out of use", scene: screen.Scene{Kind: screen.Returned}},
	}
	actions := []struct {
		name  string
		do    func(*simulator.Inputs)
		says  string // what is told
		why   error  // the camera is closed for this
		knob  int    // of the volume; -1: there is none
		heard func(panel.State) bool
		cable bool // is pulled
	}{
		{name: "no", do: func(in *simulator.Inputs) { in.No = true }, says: "no", why: panel.ErrDenied, knob: 100, heard: func(s panel.State) bool { return s.NoHeld }},
		{name: "answer", do: func(in *simulator.Inputs) { in.Answer = true }, says: "take", knob: 100, heard: func(s panel.State) bool { return s.Held }},
		{name: "shutter", do: func(in *simulator.Inputs) { in.Open = false }, why: panel.ErrShutter, knob: 100, heard: func(s panel.State) bool { return !s.Open }},
		{name: "knob", do: func(in *simulator.Inputs) { in.Volume = 50 }, knob: 50, heard: func(s panel.State) bool { return s.Volume == 50 }},
		{name: "knob to nothing", do: func(in *simulator.Inputs) { in.Volume = 0 }, knob: 0, heard: func(s panel.State) bool { return s.Volume == 0 }},
		{name: "no, shutter and knob at once", do: func(in *simulator.Inputs) { in.No, in.Open, in.Volume = true, false, 50 }, says: "no", why: panel.ErrShutter, knob: 50,
			heard: func(s panel.State) bool { return s.NoHeld && !s.Open }},
		{name: "cable", do: func(*simulator.Inputs) {}, cable: true, why: panel.ErrAway, knob: -1, heard: func(s panel.State) bool { return s == panel.State{} }},
	}
	for _, state := range states {
		for _, action := range actions {
			t.Run(state.name+", "+action.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, sim, cable, told := newHands(t)
					h.show(state.scene)
					elapse(2 * time.Second)
					closed := make(chan time.Time, 1)
					if state.camera {
						by := h.powered(&drivers{cameras: func() []camera.Info { return nil }, openCamera: func(_ context.Context, cfg camera.Config) (camera.Source, error) {
							return &watched{camera.TestPicture(cfg), func() { closed <- time.Now() }}, nil
						}})
						source, err := by.openCamera(t.Context(), camera.Config{})
						if err != nil {
							t.Fatal(err)
						}
						defer func() {
							if err := source.Close(); err != nil {
								t.Error(err)
							}
						}()
					}
					elapse(time.Second)
					if !h.panel.State().Open || len(told.said) > 0 || sim.Outputs().Camera != state.camera {
						t.Fatalf("before: %+v, %v, %v", h.panel.State(), told.said, sim.Outputs())
					}
					since, looks := time.Now(), told.looks
					sim.Change(action.do)
					within := soon
					if action.cable {
						cable.Pull(true)
						within = darkLimit
					}
					elapse(within)
					if s := h.panel.State(); !action.heard(s) {
						t.Errorf("after %v the terminal knows %+v", within, s)
					}
					want := []string{action.says}
					if action.says == "" {
						want = nil
					}
					if len(told.said) != len(want) || len(want) > 0 && told.said[0] != want[0] {
						t.Errorf("after %v %v is told, want %v", within, told.said, want)
					}
					if another := action.cable || action.why == panel.ErrShutter; (told.looks > looks) != another {
						t.Errorf("after %v it is told %d times to look", within, told.looks-looks)
					}
					knob := 0 // the policy's
					if action.knob >= 0 {
						knob = max(sound.UnityVolume*action.knob/100, protocol.MinVolume)
					}
					if h.knob(0) != knob {
						t.Errorf("it plays at %d, want %d", h.knob(0), knob)
					}
					if on := state.camera && action.why == nil; sim.Outputs().Camera != on || len(closed) > 0 == on && state.camera {
						t.Errorf("after %v: %v, %d cameras closed", within, sim.Outputs(), len(closed))
					}
					if len(closed) > 0 {
						t.Logf("closed after %v", (<-closed).Sub(since))
					}
					sim.Change(func(in *simulator.Inputs) { in.No, in.Answer, in.Open = false, false, true })
					cable.Pull(false)
					elapse(time.Second)
					if action.says == "no" && h.panel.State().Denied != state.call {
						t.Errorf("denied: %v", h.panel.State().Denied)
					}
					if len(told.said) != len(want) {
						t.Errorf("told %v when it was over", told.said)
					}
				})
			})
		}
	}
}
