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

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/panel"
	"vindu/device/progress"
	"vindu/device/screen"
	"vindu/media/camera"
	"vindu/media/sound"
	"vindu/protocol"
)

const (
	// bootTime is how long a camera may take to be on the bus after it was given power.
	bootTime = 5 * time.Second
	bootLook = 100 * time.Millisecond
	// darkTime is how long a camera may take to close before it loses its power.
	darkTime = 500 * time.Millisecond
	// hungTime is how long what runs calls may say nothing before a camera loses its power: three of its reports, and a slow card below the ledger.
	hungTime = 3 * call.AliveEvery
)

var errNoPanel = errors.New("there is no panel with a button")

// hands is the terminal's panel. A nil one is none: nothing is asked of it, and it presses nothing.
type hands struct {
	panel *panel.Panel

	mu      sync.Mutex
	agreeds []chan struct{} // who waits for the answer button
}

// openHands returns the panel that is configured; nil if there is none.
func openHands(cfg agent.Panel, board *progress.Board, log *slog.Logger) *hands {
	if cfg.Port == "" {
		log.Info("no panel is configured: the camera's power and light are its own")
		return nil
	}
	return &hands{panel: panel.New(panel.Port(cfg.Port), func() bool { return board.Recent(agent.CallsRoot, hungTime) }, log.With("panel", cfg.Port))}
}

// here tells whether there is a panel now.
func (h *hands) here() bool { return h != nil && h.panel.State().Here }

// run does what is pressed, until ctx ends. No is first, and is obeyed in every state.
func (h *hands) run(ctx context.Context, a pressable) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	line := make(chan error, 1)
	go func() { line <- h.panel.Run(ctx) }()
	for {
		select {
		case err := <-line:
			return err
		case e := <-h.panel.Events():
			if e&(panel.Came|panel.Went|panel.Closed|panel.Opened) != 0 {
				a.Look()
			}
			switch {
			case e&panel.No != 0:
				a.HangUp()
			case e&panel.Answer != 0:
				if !h.agreed() {
					a.Take()
				}
			}
		}
	}
}

// show has the call lamp show what is on the screen. It does not block.
func (h *hands) show(s screen.Scene) {
	if h == nil {
		return
	}
	switch s.Kind {
	case screen.Ringing:
		h.panel.Show(panel.LampRinging)
	case screen.InCall, screen.Checking:
		h.panel.Show(panel.LampCall)
	default:
		h.panel.Show(panel.LampOff)
	}
}

// agreed tells those who wait for the answer button; false if nobody does.
func (h *hands) agreed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.agreeds {
		close(c)
	}
	was := len(h.agreeds) > 0
	h.agreeds = nil
	return was
}

// awaitAnswer returns nil once the answer button was pressed after it was called, or ctx's error; at once without a panel.
func (h *hands) awaitAnswer(ctx context.Context) error {
	if h == nil {
		return errNoPanel
	}
	c := make(chan struct{})
	h.mu.Lock()
	h.agreeds = append(h.agreeds, c)
	h.mu.Unlock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, other := range h.agreeds {
		if other == c {
			h.agreeds = append(h.agreeds[:i], h.agreeds[i+1:]...)
			return fmt.Errorf("wait for the answer button: %w", ctx.Err())
		}
	}
	return nil // it came just before
}

// awaitHold returns nil once the answer button was held for so long, or ctx's error; at once without a panel.
func (h *hands) awaitHold(ctx context.Context, long time.Duration) error {
	if h == nil {
		return errNoPanel
	}
	return h.panel.AwaitHold(ctx, long)
}

// knob is what the knob makes of the policy's volume: less, and never so little that people at home do not hear who looks at them.
func (h *hands) knob(policy int) int {
	if !h.here() {
		return policy
	}
	if policy == 0 {
		policy = sound.UnityVolume
	}
	return max(policy*h.panel.State().Volume/100, protocol.MinVolume)
}

// knobbed plays at the policy's volume and the knob's, as it is turned. For one goroutine.
type knobbed struct {
	hands  *hands
	policy int
	now    int
	volume sound.Volume
}

// apply changes a frame in place.
func (k *knobbed) apply(frame []int16) {
	if now := k.hands.knob(k.policy); now != k.now {
		k.now, k.volume = now, sound.NewVolume(now)
	}
	k.volume.Apply(frame)
}

// power asks the panel for the camera's power; nil and no error where no panel is configured.
func (h *hands) power(ctx context.Context) (*panel.Lease, error) {
	if h == nil {
		return nil, nil //nolint:nilnil // no panel, no lease, and nothing wrong
	}
	return h.panel.Camera(ctx)
}

// ready says why the panel would give the camera no power now, as far as is known.
func (h *hands) ready() error {
	if h == nil {
		return nil
	}
	switch s := h.panel.State(); {
	case !s.Here:
		return panel.ErrAway
	case s.Denied:
		return panel.ErrDenied
	case !s.Open:
		return panel.ErrShutter
	}
	return nil
}

// covered tells whether the panel's shutter is closed.
func (h *hands) covered() bool { return errors.Is(h.ready(), panel.ErrShutter) }

// isPanel tells whether an error is the panel's: then nothing is sent in the camera's place.
func isPanel(err error) bool {
	for _, e := range []error{panel.ErrAway, panel.ErrShutter, panel.ErrDenied, panel.ErrNoPower, panel.ErrHung, panel.ErrBusy} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// volume is the volume at which a session is to play: as it comes where the panel has a knob, because then it is done where the knob is turned.
func (d *devices) volume(policy int) int {
	if d.hands != nil {
		return 0
	}
	return policy
}

// knob is what plays at this volume and the knob's; nil without a panel.
func (d *devices) knob(policy int) *knobbed {
	if d.hands == nil {
		return nil
	}
	return &knobbed{hands: d.hands, policy: policy, now: -1}
}

// powered are drivers of a camera that has power, and whose light is on, only while it is open: it is asked for just before, and given back just after. A camera
// that the panel leaves without power is closed. A camera that is behind the panel is not on the bus without power: the one that was there last counts then.
func (h *hands) powered(by *drivers) *drivers {
	if h == nil {
		return by
	}
	var known atomic.Pointer[[]camera.Info]
	changed := *by
	changed.cameras = func() []camera.Info {
		found := by.cameras()
		if len(found) > 0 {
			known.Store(&found)
		} else if s := h.panel.State(); s.Here && !s.Camera {
			if was := known.Load(); was != nil {
				return *was
			}
			return []camera.Info{{Name: "camera at the panel"}}
		}
		return found
	}
	changed.openCamera = func(ctx context.Context, cfg camera.Config) (camera.Source, error) {
		lease, err := h.power(ctx)
		if err != nil {
			return nil, err
		}
		source, err := booted(ctx, by, cfg, lease)
		if err != nil {
			lease.Release()
			return nil, err
		}
		return litBy(source, lease), nil
	}
	return &changed
}

// booted opens a camera that has just been given power. It may take a while to be there.
func booted(ctx context.Context, by *drivers, cfg camera.Config, lease *panel.Lease) (camera.Source, error) {
	limit := time.NewTimer(bootTime)
	defer limit.Stop()
	for {
		source, err := by.openCamera(context.WithoutCancel(ctx), cfg) // a driver is waited for
		if err == nil || !errors.Is(err, camera.ErrNotFound) {
			return source, err
		}
		select {
		case <-time.After(bootLook):
		case <-lease.Lost():
			return nil, errors.Join(lease.Err(), err)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return nil, err
		}
	}
}

// lit is a camera whose power and light are the panel's.
type lit struct {
	camera.Source
	lease *panel.Lease
	once  sync.Once
	err   error
}

// litBy returns the source, which is closed when the lease is lost.
func litBy(source camera.Source, lease *panel.Lease) *lit {
	l := &lit{Source: source, lease: lease}
	go func() { // ends with Close, which gives the lease back
		<-lease.Lost()
		_ = l.Close() // who reads it closes it too, and is told
	}()
	return l
}

// Read implements camera.Source. The panel's reason comes before what a camera says that was closed for it.
func (l *lit) Read() (image.Image, func(), error) {
	img, release, err := l.Source.Read()
	if err != nil {
		if why := l.lease.Err(); why != nil {
			err = why
		}
	}
	return img, release, err
}

// Close closes the camera, and then gives its power back: the light is on as long as the camera is open. A driver that hangs loses the power all the same.
func (l *lit) Close() error {
	l.once.Do(func() {
		late := time.AfterFunc(darkTime, l.lease.Release)
		l.err = l.Source.Close()
		late.Stop()
		l.lease.Release()
	})
	return l.err
}
