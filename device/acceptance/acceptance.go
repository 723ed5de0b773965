// Package acceptance finds out whether a terminal works where it stands: eyes, ears, mouth, face, the way to the clinic, and a test call. A
// technician starts it; every finding is a protocol.Check with a code that says what to do.
//
// Camera and microphone open for it outside a call, so the same rules hold as in one (R25, and that nobody may be monitored):
//   - only with a Proof: a technician with a mandate of the clinic, and a press of the terminal's button not long ago;
//   - only while a person can see the screen, which says what is open (R24);
//   - each opening is in the outbox, with the reason and the mandate, before it happens; one that cannot be recorded does not happen;
//   - nothing of what was seen or heard is kept but figures;
//   - whoever says no at the terminal ends it (Stop);
//   - a device that does not close ends the process (call.ErrDeviceStuck);
//   - the ledger gets an end for each opening: before the next opening, or at the next start (Recover), if it could not be written at once;
//   - a terminal that ends closes everything before it takes its ledger away (Close).
//
// A rehearsal of the sound (Rehearse) needs nobody: it opens the microphone alone, for a chirp, with the same ledger.
//
// While a check runs every caller is told that the terminal is busy, but the robot whose call the check itself asked for (Policy). That call is an
// ordinary one: invited, proven, answered, on the record.
//
// What a check needs of a terminal comes by the interfaces Devices, Network and Clinic; package reach is a Network.
package acceptance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

var (
	// ErrRunning is wrapped when a check runs already.
	ErrRunning = errors.New("a check is running")
	// ErrUnknown is wrapped when a check of that name does not exist.
	ErrUnknown = errors.New("no such check")
	// ErrClosed is wrapped when no check may begin any more.
	ErrClosed = errors.New("the terminal ends")

	errStopped = protocol.WithCode(protocol.AnswerDeclined, errors.New("the person at the terminal ended the check"))
	errEnded   = protocol.WithCode(protocol.LinkTerminalBusy, errors.New("the terminal ended, or began anew, during the check"))
)

// Proof is that a technician may have camera and microphone opened now. Whoever makes one has verified the technician's mandate.
type Proof interface {
	Technician() protocol.Party
	Mandate() protocol.Nonce
	// Pressed returns how long ago the terminal's button was pressed for it, whatever the clock was set to since, and false if it was not.
	Pressed() (ago time.Duration, ok bool)
}

// PressLife is how long a press of the button is good for: a check begins within it.
const PressLife = 15 * time.Minute

// Wanted says what is to be checked.
type Wanted struct {
	Names []string // none: all
	Seen  bool     // a person has compared the code on the screen with the terminal's, so that it can be read
}

// Progress is where a check stands.
type Progress struct {
	Current string // name of the check that runs; empty at the end
	Total   int
	Done    []protocol.Check
}

// Status is what a person in front of the terminal is told.
type Status struct {
	Running            bool
	Technician         protocol.Party
	Camera, Microphone bool // are open
}

// Sight is what the camera's pictures are like; package media/inspect says what the figures are.
type Sight struct {
	Brightness, Sharpness, Motion float64
	Synthetic                     bool // no camera but a test picture
}

// Hearing is what the microphone hears.
type Hearing struct {
	Microphone, Speaker bool    // there is one
	RMS, Peak           float64 // dBFS, of the room before the chirp
	Clipped             float64 // share of samples at full scale
	Heard               bool    // the chirp
	Delay               time.Duration
	Synthetic           bool
}

// Devices are the terminal's. A method returns when what it opened is closed again. Errors carry codes.
type Devices interface {
	// Look opens the camera for a few seconds. Opening and closing are told to the ledger.
	Look(ctx context.Context, l call.Ledger) (Sight, error)
	// Listen opens microphone and loudspeaker for a few seconds and plays a chirp. It returns what it found also where one of the two is
	// missing.
	Listen(ctx context.Context, l call.Ledger) (Hearing, error)
	// Screen and Panel return what there is, and the code of what is missing, if so.
	Screen() (figure string, code protocol.Code)
	Panel() (figure string, code protocol.Code)
}

// Path is how the terminal reaches the clinic.
type Path struct {
	Interface, Address string
	Wireless           bool
	Signal             int // dBm; 0 if not known
}

// Echoes are the answers to a row of questions.
type Echoes struct {
	Sent, Lost int
	RTT        time.Duration // median
}

// Network is the way out. Errors carry codes.
type Network interface {
	Path(ctx context.Context) (Path, error)
	// Echo asks the relay at url (RFC 7065) a row of questions (STUN binding, RFC 8489 §12). An error says that none was answered.
	Echo(ctx context.Context, url string) (Echoes, error)
	// Allocate asks the relay for an allocation (RFC 8656 §7) and gives it back.
	Allocate(ctx context.Context, url, user string, password protocol.Secret) error
}

// Clinic is what the terminal asks the clinic for over mutual TLS. Errors carry codes.
type Clinic interface {
	Relay(ctx context.Context) ([]protocol.ICEServer, error)
	// TestCall has the clinic's robot call, or tells how that call goes. path is the one that it has to take; empty: any.
	TestCall(ctx context.Context, id protocol.CallID, path string) (*protocol.TestCall, error)
	// Time returns the clinic's time and how long the question took.
	Time(ctx context.Context) (at time.Time, roundTrip time.Duration, err error)
}

// Config is what a Runner works with. Every field is required but Shown and Screen.
type Config struct {
	Devices Devices
	Network Network
	Clinic  Clinic
	Outbox  call.Outbox
	Store   call.Store
	Busy    func() bool      // a call runs
	Now     func() time.Time // the terminal's best knowledge of the time
	Shown   func(Status)     // is told every change; must not block
	Screen  func() bool      // a person can see the screen; nil: always
	Log     *slog.Logger
}

// Runner checks a terminal, one check at a time. Its methods may be called from any goroutine. It has no goroutine of its own but while
// Check runs.
type Runner struct {
	c Config

	books sync.Mutex // held while the ledger is written
	owed  openings   // closed in truth, and not yet in the ledger

	mu        sync.Mutex
	stop      context.CancelCauseFunc // of the check that runs; nil if none does
	rehearsal context.CancelCauseFunc // of the rehearsal that runs; nil if none does
	over      chan struct{}           // is closed when that has ended
	closed    bool                    // none may begin any more
	stuck     error                   // of the device that did not close
	status    Status
	expected  protocol.CallID
	record    chan *protocol.CallRecord // bounded by one; of expected
}

// New makes a Runner.
func New(c Config) (*Runner, error) {
	if c.Devices == nil || c.Network == nil || c.Clinic == nil || c.Outbox == nil || c.Store == nil || c.Busy == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("acceptance: a field of the configuration is missing")
	}
	if c.Shown == nil {
		c.Shown = func(Status) {}
	}
	if c.Screen == nil {
		c.Screen = func() bool { return true }
	}
	return &Runner{c: c, record: make(chan *protocol.CallRecord, 1)}, nil
}

// Names returns the names of all checks, in their order.
func Names() []string {
	var names []string
	for _, s := range steps {
		names = append(names, s.names...)
	}
	return names
}

// Check runs the checks that are wanted and returns what was found, in their order. Without a Proof that a button was
// pressed, those that see or hear fail with authorisation.button and open nothing. progress, if not nil, is called from
// the caller's goroutine.
//
// An error says that not all of it was run; it wraps ErrRunning, ErrUnknown or ErrClosed, has the code of ctx's cause, carries answer.busy if a
// call runs and answer.declined if somebody at the terminal ended it, or wraps call.ErrDeviceStuck: the process must exit then.
func (r *Runner) Check(ctx context.Context, p Proof, w Wanted, progress func(Progress)) (_ []protocol.Check, err error) {
	for _, n := range w.Names {
		if !slices.Contains(Names(), n) {
			return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("check %q: %w", n, ErrUnknown))
		}
	}
	wanted := func(name string) bool { return len(w.Names) == 0 || slices.Contains(w.Names, name) }
	if progress == nil {
		progress = func(Progress) {}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	proven := r.proven(p)
	who := protocol.Party{}
	if proven == nil {
		who = p.Technician()
	}
	if err := r.Yield(ctx); err != nil {
		return nil, err
	}
	if err := r.begin(stop, who); err != nil {
		return nil, err
	}
	defer func() { r.end(err) }()
	run := &run{r: r, c: r.c, proof: p, unproven: proven, seen: w.Seen}
	at := Progress{}
	for _, n := range Names() {
		if wanted(n) {
			at.Total++
		}
	}
	for _, s := range steps {
		i := slices.IndexFunc(s.names, wanted)
		if i < 0 {
			continue
		}
		at.Current = s.names[i]
		progress(Progress{at.Current, at.Total, slices.Clone(at.Done)})
		found, err := run.step(ctx, s)
		if err != nil {
			return at.Done, err
		}
		if ctx.Err() != nil {
			return at.Done, fmt.Errorf("check %s: %w", at.Current, context.Cause(ctx))
		}
		for _, c := range found {
			if wanted(c.Name) {
				at.Done = append(at.Done, c)
				r.c.Log.Info("checked", "check", c.Name, "state", c.State, "figure", c.Figure, "code", c.Code)
			}
		}
	}
	progress(Progress{"", at.Total, slices.Clone(at.Done)})
	return at.Done, nil
}

// proven returns nil if camera and microphone may be opened, else the reason why not.
func (r *Runner) proven(p Proof) error {
	if p == nil {
		return protocol.WithCode(protocol.AuthTechnician, errors.New("nobody has proven to be a technician"))
	}
	ago, ok := p.Pressed()
	if !ok {
		return protocol.WithCode(protocol.AuthButton, errors.New("the button was not pressed"))
	}
	if ago < 0 || ago > PressLife {
		return protocol.WithCode(protocol.AuthButton, fmt.Errorf("the button was pressed %v ago", ago.Round(time.Second)))
	}
	return r.seen()
}

// seen returns nil if what the screen says can be read.
func (r *Runner) seen() error {
	if !r.c.Screen() {
		return protocol.WithCode(protocol.ScreenNone, errors.New("nobody can see on the screen that a device is open"))
	}
	return nil
}

func (r *Runner) begin(stop context.CancelCauseFunc, who protocol.Party) error {
	r.mu.Lock()
	switch {
	case r.closed:
		r.mu.Unlock()
		return protocol.WithCode(protocol.LinkTerminalBusy, ErrClosed)
	case r.stop != nil || r.rehearsal != nil:
		r.mu.Unlock()
		return protocol.WithCode(protocol.LinkTerminalBusy, ErrRunning)
	}
	r.stop, r.over = stop, make(chan struct{})
	r.mu.Unlock()
	// From here on no call is let in; one that was may be about to be seen.
	if r.c.Busy() {
		r.end(nil)
		return protocol.WithCode(protocol.AnswerBusy, errors.New("a call runs at the terminal: check it when that has ended"))
	}
	r.show(func(s *Status) { *s = Status{Running: true, Technician: who} })
	return nil
}

func (r *Runner) end(err error) {
	r.mu.Lock()
	r.stop, r.expected = nil, protocol.CallID{}
	if errors.Is(err, call.ErrDeviceStuck) {
		r.stuck, r.closed = err, true
	}
	over := r.over
	r.mu.Unlock()
	r.show(func(s *Status) { *s = Status{} })
	close(over)
}

func (r *Runner) show(f func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.status)
	r.c.Shown(r.status)
}

// Stop ends a check or a rehearsal, because a person at the terminal wants it. It reports whether a check ran; the devices are closed soon after.
func (r *Runner) Stop() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rehearsal != nil {
		r.rehearsal(errStopped)
	}
	if r.stop == nil {
		return false
	}
	r.stop(errStopped)
	return true
}

// Shut ends a check, because the terminal ends, and lets none begin any more.
func (r *Runner) Shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.rehearsal != nil {
		r.rehearsal(errEnded)
	}
	if r.stop != nil {
		r.stop(errEnded)
	}
}

// Close is Shut, and returns when every device is closed and the ledger says so. The error wraps call.ErrDeviceStuck: the process must exit then.
func (r *Runner) Close() error {
	r.Shut()
	r.mu.Lock()
	running, over := r.stop != nil || r.rehearsal != nil, r.over
	r.mu.Unlock()
	if running {
		<-over
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stuck
}

// Running tells whether a check runs.
func (r *Runner) Running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop != nil
}
