// Package rehearsal has a terminal find out, before anybody is waiting, whether a call would work: a real call with the clinic's robot, once without a relay and once by the relay alone,
// and a quiet chirp from its loudspeaker to its microphone. It begins by itself, at a time of its own in the window that the clinic names, once in each; and when the clinic
// asks, which it is allowed every AskEvery.
//
// It is the terminal that decides, and nobody can see or hear a home by it:
//   - What it sends is made up. No camera opens, ever: its calls run in a call.Runner of their own whose ledger allows no opening, over a call.Media that knows no device.
//   - The microphone opens for the chirp alone, apart from any call (acceptance.Runner.Rehearse): on the ledger, not in quiet hours, not with a closed shutter, by
//     itself only in daytime, and on the clinic's wish not more often than every SoundEvery. Figures of it are not even sent: whether it was heard is.
//   - The screen stays as it is, and no bell rings.
//   - The robot is let in as in a technician's check: by the server's key, for the very call that was asked for a moment ago.
//   - A call that is let in ends it at once (Yield), and so do a technician and a person's no.
//
// What it found is an event, a part of health, and conditions that hold until the next good one. It outlives a restart by one small file, written once for each rehearsal.
package rehearsal

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/protocol"
)

// How often things happen.
const (
	AskEvery   = 5 * time.Minute // at most, when the clinic asks
	SoundEvery = time.Hour       // at most, the chirp when the clinic asks
	look       = time.Minute     // whether it is time
	between    = 3 * time.Second // two calls: the robot has one at a time
	again      = 10 * time.Minute
	crowd      = 20 * time.Second // at least, before a robot that has too many calls is asked again; at most three times that
	crowded    = 8                // times
	secondTry  = 30 * time.Second // the same, before a call that failed is tried once more
)

var errCrowded = protocol.WithCode(protocol.LinkTooMany, errors.New("the clinic's robot has too many calls"))

var errGivesWay = protocol.WithCode(protocol.AnswerBusy, errors.New("a call, or a technician, comes first"))

// Config is what a Runner works with. Every field is required, but Relays, Listen and Covered.
type Config struct {
	Self     protocol.KeyHash
	Signer   crypto.Signer
	Software string
	Keys     func() [][]byte // the service keys that the clinic has signed for
	Relays   func() []string // and the relays
	Media    call.Media      // sends what is made up, and shows and plays nothing
	Sender   call.Sender
	Outbox   call.Outbox
	Clinic   acceptance.Robot
	// Listen plays the chirp and listens for it, as acceptance.Runner.Rehearse does; nil: sound is not rehearsed.
	Listen func(context.Context) ([]protocol.Check, error)
	Store  call.Store
	Window func() *protocol.Window // nil: by itself it does not rehearse
	Now    func() time.Time        // the terminal's best knowledge of the time, on the home's clocks
	Known  func() bool             // that it is known
	Quiet  func(time.Time) bool    // it is quiet at the home
	// Covered tells whether the shutter is closed, which stands for "leave me alone"; nil: nobody knows.
	Covered func() bool
	// Free returns why there can be no rehearsal now: a call runs, the terminal is worked on or has no link; or "".
	Free func() protocol.Code
	// Told is told the last rehearsal, at the start and after each. It must not block.
	Told func(*protocol.Rehearsal)
	Log  *slog.Logger
}

// Runner rehearses, once at a time. Its methods may be called from any goroutine. Run owns its goroutines.
type Runner struct {
	c     Config
	asked chan struct{} // bounded by one

	mu       sync.Mutex
	last     *protocol.Rehearsal
	line     *line                   // of the call that runs; nil: none does
	stop     context.CancelCauseFunc // of the rehearsal that runs; nil: none does
	allowed  time.Time               // when the clinic may ask next, by the monotonic clock
	disabled bool                    // a call's connection did not end
}

// New makes a Runner.
func New(c Config) (*Runner, error) {
	if c.Signer == nil || c.Keys == nil || c.Media == nil || c.Sender == nil || c.Outbox == nil || c.Clinic == nil || c.Store == nil || c.Window == nil || c.Now == nil ||
		c.Known == nil || c.Quiet == nil || c.Free == nil || c.Told == nil || c.Log == nil {
		return nil, errors.New("rehearsal: a field of the configuration is missing")
	}
	if c.Covered == nil {
		c.Covered = func() bool { return false }
	}
	return &Runner{c: c, asked: make(chan struct{}, 1)}, nil
}

// Ask has the terminal rehearse, because the clinic wants it. It returns why it does not, or "". It does not block.
func (r *Runner) Ask() protocol.Code {
	if code := r.c.Free(); code != "" {
		return code
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil || r.disabled || time.Now().Before(r.allowed) {
		return protocol.LinkTooMany
	}
	r.allowed = time.Now().Add(AskEvery)
	select {
	case r.asked <- struct{}{}:
	default: // one waits already
	}
	return ""
}

// Deliver hands over a message of the clinic that is about the rehearsed call; of another one it returns false. It does not block.
func (r *Runner) Deliver(m *protocol.CallIn) bool {
	r.mu.Lock()
	l := r.line
	r.mu.Unlock()
	if l == nil || l.id != m.Call {
		return false
	}
	if !l.calls.Deliver(m) {
		r.c.Log.Warn("message of a rehearsed call dropped: too many wait", "call", m.Call, "kind", m.Kind)
	}
	return true
}

// LinkUp tells whether the clinic can be reached.
func (r *Runner) LinkUp(up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line != nil {
		r.line.calls.LinkUp(up)
	}
}

// Yield ends the rehearsal that runs, because something comes first. It does not block.
func (r *Runner) Yield() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop(errGivesWay)
	}
}

// Running tells whether it rehearses.
func (r *Runner) Running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop != nil
}

// Last returns the last rehearsal; nil if there was none. It must not be changed.
func (r *Runner) Last() *protocol.Rehearsal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *Runner) use(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line = l; l != nil {
		l.calls.LinkUp(true)
	}
}

// Run rehearses when it is time, or asked for, until ctx ends. It returns an error wrapping call.ErrDeviceStuck if a microphone did not close: the process must exit then.
func (r *Runner) Run(ctx context.Context) error {
	r.load()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var notBefore, noSoundBefore time.Time // by itself, by the monotonic clock
	for {
		calls, sound, asked := false, false, false
		select {
		case <-ctx.Done():
			return nil
		case <-r.asked:
			calls, sound, asked = true, r.audible() && r.c.Now().Sub(latest(r.Last(), "microphone", "loudspeaker")).Abs() >= SoundEvery, true
		case <-tick.C:
			if time.Now().Before(notBefore) || !r.c.Known() || r.c.Free() != "" {
				continue
			}
			calls, sound = due(r.c.Self, r.c.Window(), r.Last(), r.c.Now())
			if sound && (time.Now().Before(noSoundBefore) || !r.audible()) {
				sound = false
				if !time.Now().Before(noSoundBefore) { // it does not chirp in the moment in which somebody opens the shutter
					noSoundBefore = time.Now().Add(again + rand.N(again))
				}
			}
		}
		if !calls && !sound {
			continue
		}
		err := r.rehearse(ctx, calls, sound, asked)
		if errors.Is(err, call.ErrDeviceStuck) {
			return err
		}
		if err != nil {
			r.c.Log.Info("rehearsal ended before its time", "code", protocol.CodeOf(err), "error", err)
			notBefore = time.Now().Add(again + rand.N(again))
		}
	}
}

// audible tells whether the microphone may be opened and the loudspeaker heard now.
func (r *Runner) audible() bool {
	return r.c.Listen != nil && r.c.Known() && !r.c.Quiet(r.c.Now()) && !r.c.Covered()
}

// rehearse rehearses what is wanted and tells what was found, as far as it came.
func (r *Runner) rehearse(ctx context.Context, calls, sound, asked bool) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.mu.Lock()
	if r.disabled {
		r.mu.Unlock()
		return nil
	}
	r.stop = stop
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stop = nil
	}()
	// From here on whatever comes first ends it; what came before is looked for.
	if code := r.c.Free(); code != "" {
		return protocol.WithCode(code, errors.New("not now"))
	}
	r.c.Log.Info("rehearsal begins", "asked", asked, "calls", calls, "sound", sound)
	var parts []protocol.RehearsalPart
	var err error
	if calls {
		parts, err = r.calls(ctx, asked)
	}
	if sound && err == nil {
		var found []protocol.RehearsalPart
		found, err = r.sound(ctx)
		parts = append(parts, found...)
	}
	return errors.Join(err, r.tell(asked, parts))
}

// calls has the robot call by each path; by one that failed once more, if nobody waits for the result: at night networks are worked on.
func (r *Runner) calls(ctx context.Context, asked bool) (parts []protocol.RehearsalPart, err error) {
	for i, c := range []struct{ name, path string }{{"call.direct", protocol.DirectPath}, {"call.relayed", protocol.RelayedPath}} {
		if i > 0 {
			if err := wait(ctx, between); err != nil {
				return parts, err
			}
		}
		var part protocol.RehearsalPart
		for try, crowds := 0, 0; ; {
			part, err = r.call(ctx, c.name, c.path)
			if errors.Is(err, call.ErrDeviceStuck) { // there is none; it is a connection that hangs
				r.mu.Lock()
				r.disabled = true
				r.mu.Unlock()
				r.c.Log.Error("no rehearsals any more until the program begins anew", "error", err)
				return append(parts, protocol.RehearsalPart{Name: c.name, At: protocol.At(r.c.Now()), State: protocol.CheckFailed, Code: protocol.MediaFailed}), nil
			}
			if err != nil {
				return parts, err
			}
			var pause time.Duration
			switch {
			case part.Code == protocol.LinkTooMany && crowds == crowded:
				return parts, errCrowded // which says nothing of the terminal
			case part.Code == protocol.LinkTooMany:
				crowds++
				pause = crowd
			case part.State == protocol.CheckFailed && try == 0 && !asked:
				try++
				pause = secondTry
			}
			if pause == 0 {
				break
			}
			if err := wait(ctx, pause+rand.N(2*pause)); err != nil {
				return parts, err
			}
		}
		r.c.Log.Info("rehearsed", "part", part.Name, "state", part.State, "code", part.Code, "took_ms", part.Took, "loss", part.Loss)
		parts = append(parts, part)
	}
	return parts, nil
}

// names are those of the parts of sound in a technician's check.
var names = map[string]string{"microphone": "microphone.level", "loudspeaker": "loudspeaker.chirp"}

func (r *Runner) sound(ctx context.Context) ([]protocol.RehearsalPart, error) {
	found, err := r.c.Listen(ctx)
	switch {
	case errors.Is(err, call.ErrDeviceStuck):
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case protocol.CodeOf(err) == protocol.AnswerDeclined: // by a person there: not again today
		for _, name := range []string{"microphone", "loudspeaker"} {
			found = append(found, protocol.Check{Name: names[name], State: protocol.CheckSkipped, Code: protocol.AnswerDeclined})
		}
	case err != nil:
		return nil, fmt.Errorf("rehearse the sound: %w", err)
	}
	var parts []protocol.RehearsalPart
	for _, c := range found {
		for name, check := range names {
			if c.Name == check {
				r.c.Log.Info("rehearsed", "part", name, "state", c.State, "code", c.Code)
				parts = append(parts, protocol.RehearsalPart{Name: name, At: protocol.At(r.c.Now()), State: c.State, Code: c.Code})
			}
		}
	}
	return parts, nil
}

// tell keeps what was found and tells the clinic.
func (r *Runner) tell(asked bool, parts []protocol.RehearsalPart) error {
	if len(parts) == 0 {
		return nil
	}
	r.mu.Lock()
	r.last = r.last.With(protocol.At(r.c.Now()), asked, parts...)
	last := r.last
	r.mu.Unlock()
	r.c.Told(last)
	body, err := protocol.Encode(last)
	if err != nil {
		return err
	}
	if err := r.c.Store.Save(body); err != nil {
		r.c.Log.Warn("rehearsal is not remembered across a restart", "error", err)
	}
	if err := r.c.Outbox.Append(protocol.EventRehearsal, body); err != nil {
		r.c.Log.Warn("rehearsal is told by health alone", "error", err)
	}
	return nil
}

func (r *Runner) load() {
	b, err := r.c.Store.Load()
	if err == nil && len(b) > 0 {
		last := new(protocol.Rehearsal)
		if err = protocol.Decode(b, last); err == nil {
			r.mu.Lock()
			r.last = last
			r.mu.Unlock()
			r.c.Told(last)
		}
	}
	if err != nil {
		r.c.Log.Warn("the last rehearsal is not known any more", "error", err)
	}
}

// wait returns the cause if ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
