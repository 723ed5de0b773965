// Package panel is the terminal's end of the line to its panel: a microcontroller with the call lamp, the power of the camera and its light, the shutter's sensor, a
// button to say no, one to answer, a knob and a light sensor. docs/panel.md has the line (package wire), package firmware what runs in the panel.
//
// The camera has power, and its light is on, only while this end renews a lease. The panel ends it by itself: 1.5 s after the last renewal, at once when the
// shutter closes or somebody says no, and then until that call is over. So:
//   - A terminal whose program hangs, dies or loses the line has a camera without power within 2 s.
//   - One in which only what runs the calls hangs asks for no power any more, and says so to the panel.
//   - A lease that the panel ended is lost here as well (Lease.Lost), and whoever holds it closes the camera.
//   - No event is lost to a damaged frame, or to who reads events late: presses are counted by the panel, and events are gathered until they are read.
//   - Noise is no press: frames carry a CRC and the number of this session, and what was pressed before a session counts for nothing.
//
// A terminal works without a panel, and says so; one that is configured and away is looked for with growing pauses.
package panel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"vindu/device/panel/wire"
)

const (
	firstWait, lastWait = 250 * time.Millisecond, 15 * time.Second // between attempts to open the line, with jitter
	silence             = time.Second                              // without a word the panel is away
	powerLimit          = time.Second                              // for the panel to say that the camera has power
	writeLimit          = time.Second                              // for a frame to go into the line
	closeLimit          = 2 * time.Second
)

var (
	// ErrAway: there is no panel now.
	ErrAway = errors.New("the panel is away: look at its cable")
	// ErrShutter: the shutter is closed.
	ErrShutter = errors.New("the shutter is closed")
	// ErrDenied: somebody said no to this call.
	ErrDenied = errors.New("somebody at the panel said no")
	// ErrNoPower: the panel did not switch the camera on, or has switched it off for no reason that it says.
	ErrNoPower = errors.New("the panel gives the camera no power")
	// ErrHung: what needs the camera does not get on.
	ErrHung = errors.New("what runs the call hangs")
	// ErrBusy: the camera is in use.
	ErrBusy = errors.New("the camera's power is held already")
)

// Event is a set of what has happened since it was read last.
type Event uint8

const (
	No     Event = 1 << iota // somebody pressed the no button, or had done so in this call before the line was back
	Answer                   // somebody pressed the answer button
	Came                     // there is a panel
	Went                     // there is none any more
	Opened                   // the shutter
	Closed                   //
	Turned                   // the knob
)

// Lamp is what the call lamp shows.
type Lamp = wire.Lamp

// What the call lamp can show.
const (
	LampOff     = wire.LampOff
	LampRinging = wire.LampRinging
	LampCall    = wire.LampCall
)

// State is what is known of the panel. If it is not Here, nothing is.
type State struct {
	Here     bool
	Camera   bool // has power, and the light is on
	Open     bool // the shutter
	Denied   bool // somebody said no to the call that rings or runs
	NoHeld   bool // the buttons, now
	Held     bool //
	Volume   int  // percent
	Light    int  // in the room, 0 to 255; the terminal has no use for it yet
	Firmware int

	heldSince time.Time // the last press of answer in this session, whose end was not heard of; zero: there is none
}

// Panel is the terminal's. Its methods may be called from any goroutine.
type Panel struct {
	open   func(context.Context) (io.ReadWriteCloser, error)
	alive  func() bool
	log    *slog.Logger
	events chan Event    // one set
	wake   chan struct{} // something else is wanted

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed when state or lease changes
	lease   *Lease
	lamp    Lamp
}

// New returns a Panel whose line open opens. Nothing is opened before Run. alive is asked before each renewal, and must not block: the camera loses its power when it says no.
func New(open func(context.Context) (io.ReadWriteCloser, error), alive func() bool, log *slog.Logger) *Panel {
	return &Panel{open: open, alive: alive, log: log, events: make(chan Event, 1), wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// State returns what is known now.
func (p *Panel) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Events has what has happened. It holds one set, to which is added until it is read.
func (p *Panel) Events() <-chan Event { return p.events }

// AwaitHold returns nil once somebody has held the answer button for so long, or ctx's error. Only a press counts that was heard of after the call, and whose every second was
// heard: a button that is stuck, or held while the line is away, is nobody's wish.
func (p *Panel) AwaitHold(ctx context.Context, long time.Duration) error {
	began := time.Now()
	for {
		p.mu.Lock()
		since, changed := p.state.heldSince, p.changed
		p.mu.Unlock()
		if !since.IsZero() && !since.Before(began) && time.Since(since) >= long {
			return nil
		}
		select {
		case <-changed: // as often as the panel says how it is
		case <-ctx.Done():
			return fmt.Errorf("wait for the panel's answer button to be held: %w", ctx.Err())
		}
	}
}

// Show has the call lamp show something, for as long as Run runs and there is a panel. LampOff says that no call is there: what somebody denied is over with it.
func (p *Panel) Show(l Lamp) {
	p.mu.Lock()
	was := p.lamp
	p.lamp = l
	p.mu.Unlock()
	if was != l {
		p.poke()
	}
}

// Lease is leave to have the camera open.
type Lease struct {
	panel *Panel
	on    bool // the panel has said so
	err   error
	lost  chan struct{}
}

// Camera asks for power for the camera and returns when it is on. The lease is renewed until it is released or lost.
func (p *Panel) Camera(ctx context.Context) (*Lease, error) {
	l := &Lease{panel: p, lost: make(chan struct{})}
	alive := p.alive()
	p.mu.Lock()
	var err error
	switch s := p.state; {
	case !alive:
		err = ErrHung
	case p.lease != nil:
		err = ErrBusy
	case !s.Here:
		err = ErrAway
	case s.Denied:
		err = ErrDenied
	case !s.Open:
		err = ErrShutter
	}
	if err == nil {
		p.lease = l
	}
	p.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("power for the camera: %w", err)
	}
	p.poke()
	limit := time.NewTimer(powerLimit)
	defer limit.Stop()
	for {
		p.mu.Lock()
		on, err, changed := l.on, l.err, p.changed
		p.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("power for the camera: %w", err)
		}
		if on {
			return l, nil
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-limit.C:
			err = ErrNoPower
		}
		l.Release()
		return nil, fmt.Errorf("power for the camera: %w", err)
	}
}

// Lost is closed when the camera has, or may have, no power any more, and when the lease is released.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Err says why the lease was lost; nil while it holds and after it was released.
func (l *Lease) Err() error {
	l.panel.mu.Lock()
	defer l.panel.mu.Unlock()
	return l.err
}

// Release gives the power back. It may be called again.
func (l *Lease) Release() { l.panel.end(l, nil) }

// end ends a lease, if it is the one that holds.
func (p *Panel) end(l *Lease, err error) {
	p.mu.Lock()
	ended := p.endLocked(l, err)
	p.mu.Unlock()
	if ended {
		p.poke()
	}
}

func (p *Panel) endLocked(l *Lease, err error) bool {
	if l == nil || p.lease != l {
		return false
	}
	p.lease = nil
	l.err = err
	close(l.lost)
	p.tell()
	return true
}

// hung ends the lease because nobody is known who needs it.
func (p *Panel) hung() {
	p.mu.Lock()
	ended := p.endLocked(p.lease, ErrHung)
	p.mu.Unlock()
	if ended {
		p.log.Error("what runs the call hangs: the camera loses its power")
	}
}

// tell wakes who waits for a change. p.mu is held.
func (p *Panel) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Panel) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// say adds to the set of events. It has one caller at a time.
func (p *Panel) say(e Event) {
	if e == 0 {
		return
	}
	select {
	case was := <-p.events:
		e |= was
	default:
	}
	p.events <- e
}

// Run keeps the line until ctx ends.
func (p *Panel) Run(ctx context.Context) error {
	wait, said := firstWait, false
	for ctx.Err() == nil {
		line, err := p.open(ctx)
		if err == nil {
			var answered bool
			answered, err = p.serve(ctx, line)
			p.away()
			if answered {
				wait, said = firstWait, false
			}
		}
		if ctx.Err() != nil {
			break
		}
		if !said {
			p.log.Warn("there is no panel: its buttons do nothing, and the camera stays closed", "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, lastWait)
	}
	return nil
}

// away notices that nothing is known any more.
func (p *Panel) away() {
	p.mu.Lock()
	was := p.state.Here
	p.state = State{}
	p.endLocked(p.lease, ErrAway)
	p.tell()
	p.mu.Unlock()
	if was {
		p.say(Went)
	}
}
