// Package agent puts a terminal together and keeps it running: state, identity, clock and outbox, the link to the clinic, calls,
// the screen and health. Devices and enrolment come from outside, as Parts, so that nothing here knows how they work.
//
// An Agent that is not set up yet shows the terminal's code, holds no lock, and becomes a terminal by itself as soon as an
// enrolment is in its state folder. While the clinic cannot be reached it keeps trying and says so.
//
// When Run's context ends, a running call is ended first, then its end and record are given a moment to reach the clinic, then
// the rest stops. If a device does not close Run returns call.ErrDeviceStuck at once: the process must exit.
package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/device/policy"
	"vindu/device/progress"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/device/voice"
	"vindu/protocol"
)

const (
	goodbye       = time.Second      // for the last events to reach the clinic
	enrolmentPoll = 2 * time.Second  // how often a terminal that is not set up looks whether it is
	keyPoll       = 10 * time.Second // how often a terminal without its key looks for it
	callsFile     = "calls"
	grantFile     = "identity/clinic.pem"
)

// keyAway are the reasons for which there is no key now, but may be later.
var keyAway = []protocol.Code{protocol.IdentityTPMGone, protocol.IdentityTPMCleared, protocol.IdentityTPMLocked}

// Parts are what an Agent is made of besides itself.
type Parts struct {
	Software string
	Display  screen.Display
	// Light lights Display up. nil: it cannot be set.
	Light screen.Light
	// HasScreen tells whether a person can see Display.
	HasScreen func() bool
	// Button tells whether there is a button by which the person in front of the terminal can say no, besides a panel's. It must not block. nil: there is none.
	Button func() bool
	// Panel tells whether there is a panel, with a button No and a button Answer, which the screen then names. It must not block. nil: there is none.
	Panel func() bool
	// Answer tells whether there is a key by which the person in front of the terminal can take a call that asks for it. It must not block. nil: there is none.
	Answer func() bool
	// Covered tells whether the camera's shutter is closed, so that a call has only the voice. It must not block. nil: nobody knows.
	Covered func() bool
	// Coders tells what coding pictures costs on this board, the coder first that calls offer first. It must not block. nil, or nothing: it is not known.
	Coders func() []protocol.CoderCost
	// Devices tells which devices there are. It opens none.
	Devices func() health.Devices
	// Media makes the media of calls; id verifies connections to the clinic's relay.
	Media func(id *identity.Identity) call.Media
	Bell  call.Bell // nil: silent
	// Synthesiser makes sound of what the screen says, and Mouth plays it. nil, one of them: nothing is said.
	Synthesiser voice.Synthesiser
	Mouth       voice.Mouth
	// Keys opens the terminal's key. nil: in a file.
	Keys identity.Keys
	// Forget destroys what the terminal knows outside its state folder, such as passwords of networks, when it is taken out of use. It may be called again. nil: nothing.
	Forget func() error
	// Dial opens the connections to the clinic that are not Clinic's, below TLS. nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ReportAfter is how long the broker is out of reach, or nothing is acknowledged through it, before the terminal tells by HTTPS; 0: five minutes.
	ReportAfter time.Duration
	// CallRest is how long after a call, or its start, the terminal may replace its key; 0: ten minutes.
	CallRest time.Duration
	// Clinic renews certificates and replaces keys. One with a method Report also takes what the terminal tells while the broker is out of its reach.
	Clinic func(signer crypto.Signer, now func() time.Time) identity.Clinic
	// Checks has the devices, the network and the clinic of acceptance checks; the agent fills in the rest. nil: the terminal cannot be checked.
	Checks func(id *identity.Identity, now func() time.Time) acceptance.Config
	// Rehearsal makes the media of rehearsed calls: made-up picture and sound, and no device. It is of use with Checks only. nil: the terminal does not rehearse.
	Rehearsal func(id *identity.Identity) call.Media
	// System is the system's file system from its root, where probes look. nil: the system's own.
	System fs.FS
	// Services run beside the agent as long as it does. If one returns before its context ends, the agent ends.
	Services []func(ctx context.Context) error
	// Shown is told every scene; it must not block. nil: nobody.
	Shown func(screen.Scene)
	// Progress is where the goroutines that the terminal consists of report that they get on: the screen, the calls, health, the link, and what the others wait for,
	// the agent's own lock. nil: they do not.
	Progress *progress.Board
	// Safe has the terminal do no more than what it has to, because it has ended again and again: it keeps its link and tells its health, and refuses calls and checks.
	Safe bool
	// Fields are added to the line that says that the terminal is ready: keys and values as slog takes them.
	Fields []any
}

// Agent is a terminal's program. Its methods may be called from any goroutine.
type Agent struct {
	cfg     Config
	parts   Parts
	log     *slog.Logger
	policy  policy.Policy
	screen  *screen.Screen
	voice   *voice.Voice // nil: there is none
	started time.Time

	mu        sync.Mutex
	situation situation
	now       func() time.Time
	quiet     func(time.Time) bool // when the screen rests; nil: never
	hangUp    func()
	take      func(protocol.CallID)
	curtain   func()
	check     func(context.Context, acceptance.Proof, acceptance.Wanted, func(acceptance.Progress)) ([]protocol.Check, error)
	anew      chan struct{} // somebody decided about a lost key, or that a returned terminal is set up anew
	kept      chan struct{} // an enrolment was stored
	language  string        // of the screen
	home      *home         // as it was opened last; its folder is open while restart is not nil
	restart   func()        // has the terminal begin anew; nil unless it runs
	events    *outbox.Outbox
	pressed   time.Time // when a technician was last let in by a press

	opening sync.Mutex   // held while the folder is open, but for the terminal that runs: nobody finds it locked by this program and takes that for another
	using   sync.RWMutex // held for reading by who uses the open folder or the outbox, for writing by who opens and closes them
}

// CallsRoot is the name of the Root that runs calls, which reports every call.AliveEvery.
const CallsRoot = "calls"

// New makes an Agent. It opens nothing but what Parts has open.
func New(cfg Config, parts Parts, log *slog.Logger) (*Agent, error) {
	lang, err := screen.LoadLanguage(cfg.Language)
	if err != nil {
		return nil, err
	}
	quiet, err := policy.ParseHours(cfg.Quiet.From, cfg.Quiet.To)
	if err != nil {
		return nil, fmt.Errorf("quiet hours: %w", err)
	}
	a := &Agent{cfg: cfg, parts: parts, log: log, started: time.Now(), now: time.Now, anew: make(chan struct{}, 1), kept: make(chan struct{}, 1), language: lang.Tag}
	if parts.Keys == nil {
		a.parts.Keys = identity.FileKeys{Log: log}
	}
	shut := func() bool { return cfg.Panel.Refuses() && parts.Covered != nil && parts.Covered() }
	a.policy = policy.Policy{
		Shut: shut,
		Safe: parts.Safe, Screen: parts.HasScreen, Answer: parts.Answer, Ring: time.Duration(cfg.Call.Ring), Least: time.Duration(cfg.Call.Least), SeeFirst: time.Duration(cfg.Call.SeeFirst),
		Longest: time.Duration(cfg.Call.Longest), Notice: time.Duration(cfg.Call.Notice), Quiet: quiet,
	}
	if a.screen, err = screen.New(parts.Display, lang, a.time, log); err != nil {
		return nil, err
	}
	a.screen.Watch(parts.Progress.Root("screen"))
	a.screen.Rest(a.rests, parts.Light)
	a.screen.Announce(a.coming)
	if parts.Synthesiser != nil && parts.Mouth != nil {
		a.voice = voice.New(parts.Synthesiser, parts.Mouth, lang, log)
	}
	return a, nil
}

// time is the terminal's best knowledge of the time, as the clocks on the home's walls show it: the clinic's policy knows in which zone they are; without one it is the
// system's.
func (a *Agent) time() time.Time {
	a.mu.Lock()
	now, h := a.now, a.home
	a.mu.Unlock()
	if h != nil {
		if signed := h.id.Policy(); signed != nil {
			if zone, err := policy.Zone(signed); err == nil {
				return now().In(zone)
			}
		}
	}
	return now().Local()
}

// rests tells whether the screen rests: a terminal that is set up does in its quiet hours.
func (a *Agent) rests(now time.Time) bool {
	a.mu.Lock()
	quiet := a.quiet
	a.mu.Unlock()
	return quiet != nil && quiet(now)
}

// HangUp ends the running call or check, or says no to a ringing call. It does nothing else.
func (a *Agent) HangUp() {
	a.mu.Lock()
	f := a.hangUp
	a.mu.Unlock()
	if f != nil {
		f()
	}
}

// Take takes the call that rings and asks for it. It does nothing else.
func (a *Agent) Take() {
	a.mu.Lock()
	f, s := a.take, a.situation.call
	a.mu.Unlock()
	if f != nil && s.Scene == call.SceneRinging && s.Ask {
		f(s.Call)
	}
}

// Curtain draws the curtain in the call that runs, or opens it again. It does nothing else.
func (a *Agent) Curtain() {
	a.mu.Lock()
	f, s := a.curtain, a.situation.call
	a.mu.Unlock()
	if f != nil && s.Scene == call.SceneInCall {
		f()
	}
}

// Look shows what follows from what the terminal has now: its panel may have come or gone, or its shutter. One that is closed while it rings is a no, where nobody is let in then.
func (a *Agent) Look() {
	a.change(func(*situation) {})
	a.mu.Lock()
	f, s := a.hangUp, a.situation.call
	a.mu.Unlock()
	if f != nil && s.Scene == call.SceneRinging && a.policy.Shut() {
		f()
	}
}

// change changes the situation and shows what follows from it.
func (a *Agent) change(f func(*situation)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.situation.disturbed()
	f(&a.situation)
	if now := a.situation.disturbed(); now != was || !now {
		a.situation.button = now && a.parts.Button != nil && a.parts.Button()
	}
	a.situation.panel = a.parts.Panel != nil && a.parts.Panel() // whose cable may be pulled in a call
	scene := a.situation.scene()
	scene.NoSelf = !a.cfg.Picture.Own
	scene.Covered = scene.Kind == screen.Ringing && a.parts.Covered != nil && a.parts.Covered()
	if a.situation.covered != nil && scene.Kind != screen.Pressing {
		a.situation.covered()
	}
	a.screen.Show(scene)
	a.voice.Show(scene, a.now())
	if a.parts.Shown != nil {
		a.parts.Shown(scene)
	}
}

// Volume is that of the home's policy, percent; 0: unknown.
func (a *Agent) Volume() int {
	a.mu.Lock()
	h := a.home
	a.mu.Unlock()
	if h == nil {
		return 0
	}
	if signed := h.id.Policy(); signed != nil {
		return int(max(signed.Volume, protocol.MinVolume))
	}
	return 0
}

// Speak has sentences said aloud, in the language of the screen, when nothing else is; a call comes first. Without a voice nothing happens.
func (a *Agent) Speak(sentences ...string) { a.voice.Speak(sentences...) }

// missing says that the terminal was to have a voice and has none.
func (a *Agent) missing() []protocol.Code {
	if a.voice.Missing() {
		return []protocol.Code{protocol.CaptureNoVoice}
	}
	return nil
}

// coming is the call that the clinic has announced, if any.
func (a *Agent) coming() screen.Coming {
	a.mu.Lock()
	h := a.home
	a.mu.Unlock()
	if h == nil {
		return screen.Coming{}
	}
	s := h.id.Settings()
	if s == nil || s.Coming == nil {
		return screen.Coming{}
	}
	c := s.Coming
	return screen.Coming{Name: c.Name, Role: c.Role, At: c.At.Time()}
}

// Run is the terminal, until ctx ends; then it returns nil.
func (a *Agent) Run(ctx context.Context) error {
	// Screen and services outlive calls: they show that a call has ended.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	around, stopAround := context.WithCancel(failed)
	defer stopAround()
	group.Go(func() error { return a.screen.Run(around) })
	if a.voice != nil {
		group.Go(func() error { return a.voice.Run(around) })
	}
	group.Go(func() error { return a.reportLock(around) })
	for _, service := range a.parts.Services {
		group.Go(func() error {
			if err := service(around); err != nil {
				return err
			}
			if around.Err() == nil {
				return errors.New("a service ended by itself")
			}
			return nil
		})
	}
	a.change(func(*situation) {})

	inner, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(failed, stop)()
	err := a.run(inner)
	if errors.Is(err, call.ErrDeviceStuck) {
		return err
	}
	stopAround()
	return errors.Join(err, group.Wait())
}

// reportLock reports for as long as the agent's lock can be had: whoever holds it for ever stops all that the terminal shows and does.
func (a *Agent) reportLock(ctx context.Context) error {
	root := a.parts.Progress.Root("lock")
	defer root.End()
	tick, stop := root.Tick(progress.Every)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
		a.mu.Lock() // that it can be had is the point
		root.Alive()
		a.mu.Unlock()
	}
}

// run waits until the terminal is set up, and then is one.
func (a *Agent) run(ctx context.Context) error {
	for {
		order, err := a.returning(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		a.opening.Lock()
		h, err := openHome(a.cfg.State, a.parts.Keys, a.log)
		away := isAway(err)
		if err == nil && h.problem != nil {
			err, away = errors.Join(h.problem, h.close()), true
		}
		if err != nil {
			a.opening.Unlock()
		}
		if away {
			// It may come back, or somebody gives it up; until then people can read what is wrong.
			if !a.showKeyAway(protocol.CodeOf(err), isLost(err)) {
				a.hush()
				a.log.Error("the terminal's key or enrolment cannot be used", "error", err, "code", protocol.CodeOf(err))
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(keyPoll + rand.N(keyPoll/4)):
			case <-a.anew:
				if err := a.startAnew(); err != nil {
					a.log.Error("the lost key could not be given up", "error", err)
				}
			}
			continue
		}
		if err != nil {
			return err
		}
		a.recall(h.dir)
		a.mu.Lock()
		a.home = h
		a.mu.Unlock()
		if h.id.Grant() != nil {
			again, err := a.hold(ctx, h, order)
			if again && err == nil {
				a.log.Info("the terminal begins anew")
				continue
			}
			return err
		}
		// Before it is said: whoever enrols needs the folder.
		err = h.close()
		a.opening.Unlock()
		if err != nil {
			return err
		}
		a.change(func(s *situation) {
			*s = situation{started: true, code: h.id.Key().Code(), conditions: []protocol.Code{protocol.IdentityNone}, pressing: s.pressing, covered: s.covered}
		})
		a.log.Info("not set up: enrol this terminal with a voucher of the clinic", "terminal", h.id.Key().Code(), "state", a.cfg.State)
		if err := a.waitForEnrolment(ctx); err != nil {
			return nil // only ctx ends the wait
		}
	}
}

// hold runs the terminal and holds its folder meanwhile; it gives a.opening back. It returns true if it was told to begin anew, or has been taken out of use.
func (a *Agent) hold(ctx context.Context, h *home, order []byte) (again bool, err error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	a.restart = func() {
		a.mu.Lock()
		a.check = nil // who wants one waits for the terminal that begins
		a.mu.Unlock()
		stop()
	}
	a.mu.Unlock()
	a.opening.Unlock()
	err = a.terminal(inner, h, order)
	out := errors.Is(err, errReturned)
	if out { // the mark is all that is needed: the rest is done where it would be after a power cut
		err = h.dir.Write(returnFile, []byte(destroying))
	}
	a.using.Lock()
	defer a.using.Unlock()
	a.mu.Lock()
	a.restart = nil
	a.mu.Unlock()
	return out || ctx.Err() == nil && inner.Err() != nil, errors.Join(err, h.close())
}

// StartAnew gives up a key or an enrolment that is lost for good, because the TPM was cleared or a file is damaged, with all that went with it; and ends that a
// terminal that was taken out of use asks to be returned: the terminal can then be set up as one from the factory. It is for a person's decision, such as a long
// press of the button, and does nothing in any other situation.
func (a *Agent) StartAnew() {
	a.mu.Lock()
	lost, out := a.situation.lost, a.situation.returned
	a.mu.Unlock()
	if lost || out {
		a.wake()
	}
}

// wake has Run look at once at what it waits for.
func (a *Agent) wake() {
	select {
	case a.anew <- struct{}{}:
	default: // it is about to
	}
}

// hush forgets what was decided about something else than what is shown from now on.
func (a *Agent) hush() {
	select {
	case <-a.anew:
	default:
	}
}

// startAnew looks once more whether the key is lost.
func (a *Agent) startAnew() error {
	a.opening.Lock()
	defer a.opening.Unlock()
	h, err := openHome(a.cfg.State, a.parts.Keys, a.log)
	if err == nil {
		err = errors.Join(h.problem, h.close())
	}
	if !isLost(err) {
		return nil
	}
	a.log.Warn("what is lost is given up: the terminal can be set up anew", "error", err)
	dir, err := state.Open(a.cfg.State)
	if err != nil {
		return err
	}
	return errors.Join(markAnew(dir), dir.Close())
}

// terminal is a terminal that is set up, until ctx ends; or until it was taken out of use, and then it returns errReturned. order is one from before.
func (a *Agent) terminal(ctx context.Context, h *home, order []byte) error {
	a.mu.Lock()
	a.now = h.clock.Now
	a.mu.Unlock()
	log := a.log
	grant := h.id.Grant()

	events, err := outbox.Open(h.dir, outbox.DefaultLimit, h.clock.Now, log)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.events = events
	a.mu.Unlock()
	defer func() {
		a.using.Lock()
		defer a.using.Unlock()
		a.mu.Lock()
		a.events = nil
		a.mu.Unlock()
		if err := events.Close(); err != nil {
			log.Error("outbox not closed", "error", err)
		}
	}()

	clinic := a.parts.Clinic(h.id.Signer(), h.clock.Now)
	t := &terminal{a: a, id: h.id, clock: h.clock, outbox: events, dir: h.dir, called: time.Now(), stuck: make(chan error, 1), orders: make(chan []byte, 1), told: map[protocol.Code]time.Time{}, changes: newChanges()}
	t.time = newTimekeeper(h.clock, clinic, h.id.Grant, log)
	t.policy = t.ownPolicy()
	t.renewer = identity.NewRenewer(h.id, clinic, log)
	t.renewer.Time = t.time.learn
	t.renewer.Renewed, t.renewer.Refused, t.renewer.Rotation = t.renewed, t.refusedSettings, t.rotation()
	t.link = link.New(link.Config{
		Address: grant.Address, TLS: func() *tls.Config { return h.id.TLS(protocol.ALPNMQTT) }, Terminal: h.id.Key(),
		Software: a.parts.Software, Now: h.clock.Now, Outbox: events, Prepare: t.time.prepare,
		Service: t.service, Refused: t.refusedAck, Dial: a.linkDial(grant.Address),
		Root: a.parts.Progress.Root("link"),
	}, link.Handlers{Call: t.callMessage, Command: t.command, State: t.linkState}, log)
	t.kept = newTold(func(b []byte) error { return h.dir.Write(healthFile, b) })
	t.health = health.New(health.Config{
		Software: a.parts.Software, KeyGrade: h.id.Grade(), Devices: a.parts.Devices, Counters: t.counters, Checks: t.checks,
		Figures: t.figures.Now, About: t.about(), Standing: t.standing,
		Publish: t.publish, Changed: t.conditionChanged, Rehearsed: t.lastRehearsal, Now: h.clock.Now, Log: log, Root: a.parts.Progress.Root("health"),
	})
	t.prober = t.newProber(grant.Address)
	if to, ok := clinic.(reporter); ok {
		t.courier = &courier{after: a.parts.ReportAfter, up: t.link.Up, grant: h.id.Grant, health: t.health.Health, outbox: events, to: to, said: log.Info, self: h.id.Key, service: t.service, refused: t.refusedByCourier}
	}
	if t.checker, err = t.newChecks(fileStore{h.dir, checksFile}); err != nil {
		return err
	}
	if t.rehearsal, err = t.newRehearsal(); err != nil {
		return err
	}
	box := recorded{events, t.recorded}
	t.calls, err = call.New(call.Config{
		Self: h.id.Key(), Signer: h.id.Signer(), Software: a.parts.Software, Prover: t.prover(), Relays: t.relays, Policy: t.policyOf(), Media: t.media(),
		Sender: t.link, Outbox: box, View: t, Bell: a.parts.Bell, Store: fileStore{h.dir, callsFile}, Now: h.clock.Now, Log: log,
		Doubt: t.link.Doubt,
		Root:  a.parts.Progress.Root(CallsRoot),
	})
	if err != nil {
		return err
	}
	// Whether it is ready is known when the link has come up, or has failed.
	a.change(func(s *situation) {
		*s = situation{enrolled: true, code: h.id.Key().Code(), pressing: s.pressing, covered: s.covered}
	})
	if order != nil {
		t.leave(order)
	}
	a.mu.Lock()
	a.hangUp, a.take, a.curtain, a.quiet = t.hangUp, t.calls.Take, t.calls.Curtain, t.policy.Rests
	if t.checker != nil {
		a.check = t.runCheck
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.hangUp, a.take, a.curtain, a.check, a.quiet = nil, nil, nil, nil, nil
		a.mu.Unlock()
	}()
	return t.run(ctx)
}
