package call

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"vindu/device/progress"
	"vindu/protocol"
)

// Limits of the runner.
const (
	maxInbox      = 64              // messages of the clinic that wait; more are dropped, counted and logged
	maxEarly      = 64              // candidates that wait for the session; more are dropped
	maxCandidates = 64              // statements with candidates that are looked at in a call
	closeLimit    = 3 * time.Second // in which camera and microphone have to be closed
	goodbyeLimit  = time.Second     // in which the last messages leave when the program stops
	noticesPerMin = 10              // of refused invitations and hang-ups, for each cause; what exceeds it is counted in the next
)

// AliveEvery is how often a Runner that gets on tells its Root, so that others need not wait for a watchdog: a camera's power, for one.
const AliveEvery = time.Second

// Config is what a Runner works with. Every field is required, except Bell, Relays, Doubt and Root.
type Config struct {
	Self     protocol.KeyHash
	Signer   crypto.Signer // the terminal's key; may live in hardware
	Software string
	Prover   Prover
	Relays   func() []string // URLs of the servers by which paths are looked for: other ones that an invite offers are not used; nil: none
	Policy   Policy
	Media    Media
	Sender   Sender
	Outbox   Outbox
	View     View
	Bell     Bell
	Store    Store
	Now      func() time.Time // the terminal's best knowledge of the time
	Log      *slog.Logger
	Doubt    func()         // is called when a call's path is lost: the way to the clinic may be, too, and is needed to find another; nil: nobody is told
	Root     *progress.Root // is told that Run gets on; nil: nobody is
}

// Runner runs the calls of one terminal, one at a time. Its methods may be called from any goroutine, before, while and
// after Run runs. Run's goroutine owns all state; sessions, timers and the sender only post to it.
type Runner struct {
	c      Config
	memory *memory
	sender *sender

	deliver chan *protocol.CallIn
	link    chan bool
	hangUp  chan struct{} // apart, so that no queue stands before a "no"
	take    chan protocol.CallID
	press   chan struct{} // of the curtain's button
	inbox   chan any      // from sessions and timers
	done    chan struct{}

	state   State
	cur     *current
	status  Status
	todo    []Event
	timers  map[Timer]*runningTimer
	lastGen uint64
	notices map[protocol.Code]*noticeLimit
	stuck   error
	wg      sync.WaitGroup
}

type runningTimer struct {
	t   *time.Timer
	gen uint64
}

// What goroutines post to the owner.
type (
	timerFired struct {
		timer Timer
		gen   uint64
	}
	prepareDone struct {
		cur *current
		err error
	}
	openDone struct {
		cur *current
		err error
	}
	blankDone struct {
		cur    *current
		closed bool
		err    error
	}
	closeDone struct {
		cur *current
		err error
	}
	joinDone struct {
		cur   *current
		place uint8
		guest *guest
		err   error
	}
	leaveDone struct {
		cur   *current
		place uint8
		guest *guest
		err   error
	}
	moveDone struct {
		cur    *current
		number uint64
		sdp    protocol.SDP
		err    error
	}
	mediaHappened struct {
		cur *current
		ev  MediaEvent
	}
)

// New checks the configuration and makes a Runner. It starts nothing and reads nothing.
func New(c Config) (*Runner, error) {
	switch {
	case c.Signer == nil, c.Prover == nil, c.Policy == nil, c.Media == nil, c.Sender == nil, c.Outbox == nil,
		c.View == nil, c.Store == nil, c.Now == nil, c.Log == nil:
		return nil, errors.New("call: a field of the configuration is missing")
	}
	if c.Bell == nil {
		c.Bell = silent{}
	}
	return &Runner{
		c:       c,
		sender:  newSender(c.Sender, c.Log),
		deliver: make(chan *protocol.CallIn, maxInbox),
		link:    make(chan bool, 1),
		hangUp:  make(chan struct{}, 1),
		take:    make(chan protocol.CallID, 1),
		press:   make(chan struct{}, 1),
		inbox:   make(chan any, maxInbox),
		done:    make(chan struct{}),
		timers:  map[Timer]*runningTimer{},
		notices: map[protocol.Code]*noticeLimit{},
	}, nil
}

type silent struct{}

func (silent) Start(_, _ time.Duration) {}
func (silent) Stop()                    {}

// Deliver hands over a message of the clinic. It never blocks; false says that the queue is full and the message was dropped.
func (r *Runner) Deliver(m *protocol.CallIn) bool {
	select {
	case r.deliver <- m:
		return true
	default:
		return false
	}
}

// HangUp is the person's hang-up, or "no" while it rings. It is never lost and never waits behind anything.
func (r *Runner) HangUp() {
	select {
	case r.hangUp <- struct{}{}:
	default: // one is on its way already
	}
}

// Take is the person's wish to take a call that asks for it. It does nothing for any other call.
func (r *Runner) Take(call protocol.CallID) {
	select {
	case r.take <- call:
	default: // one is on its way already
	}
}

// Curtain is a press of the patient's button that draws the curtain and opens it again. It does nothing where no call runs.
func (r *Runner) Curtain() {
	select {
	case r.press <- struct{}{}:
	default: // one is on its way already
	}
}

// LinkUp tells whether the clinic can be reached. Only the newest word counts.
func (r *Runner) LinkUp(up bool) {
	for {
		select {
		case r.link <- up:
			return
		default:
		}
		select {
		case <-r.link:
		default:
		}
	}
}

// Run runs calls until ctx ends; then it ends a running call, closes its devices, and returns nil. It returns an error
// wrapping ErrDeviceStuck if a device did not close: the process must exit then.
func (r *Runner) Run(ctx context.Context) error {
	var err error
	if r.memory, err = loadMemory(r.c.Store); err != nil {
		r.c.Log.Warn("memory of calls lost; invitations of the last minutes are refused", "error", err)
		r.notice(protocol.StorageDamaged, protocol.CallID{}, "memory of calls")
	}
	r.reportInterrupted()
	r.show(Status{Scene: SceneReady})

	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	r.wg.Go(func() { r.sender.run(sending) })
	defer func() {
		for _, t := range r.timers {
			t.t.Stop()
		}
		r.sender.finish(goodbyeLimit)
		stopSending()
		close(r.done)
		if r.stuck == nil { // else it is not known what ever returns
			r.wg.Wait()
		}
	}()
	return r.loop(ctx)
}

func (r *Runner) loop(ctx context.Context) error {
	stopping := ctx.Done()
	alive, stop := r.c.Root.Tick(AliveEvery)
	defer stop()
	defer r.c.Root.End()
	for {
		select { // a "no" first
		case <-r.hangUp:
			r.apply(HungUp{r.state.Call, ByPatient, protocol.EndPatientHungUp})
		default:
		}
		if r.stuck != nil {
			return r.stuck
		}
		if stopping == nil && r.state.Phase == Idle {
			return nil
		}
		select {
		case <-r.hangUp:
			r.apply(HungUp{r.state.Call, ByPatient, protocol.EndPatientHungUp})
		case call := <-r.take:
			select { // who says both says no
			case <-r.hangUp:
				r.apply(HungUp{r.state.Call, ByPatient, protocol.EndPatientHungUp})
			default:
				r.apply(Taken{call})
			}
		case <-r.press:
			r.apply(Curtained{r.state.Call, ByPatient, r.state.Drawn&DrawnByPatient == 0})
		case <-stopping:
			stopping = nil
			r.apply(HungUp{r.state.Call, ByTerminal, stopReason(ctx)})
		case up := <-r.link:
			r.sender.linkUp(up)
			r.apply(Link{up})
		case m := <-r.deliver:
			if stopping != nil || m.Kind != protocol.KindInvite {
				r.message(m)
			}
		case m := <-r.inbox:
			r.posted(m)
		case <-alive:
			r.c.Root.Alive()
		}
	}
}

// stopReason is the code of the error with which ctx was cancelled; the program stops if it has none.
func stopReason(ctx context.Context) protocol.Code {
	if code := protocol.CodeOf(context.Cause(ctx)); code != protocol.Unknown {
		return code
	}
	return protocol.EndTerminalStopped
}

// apply runs an event, and those that its effects lead to at once, through the machine.
func (r *Runner) apply(e Event) {
	r.todo = append(r.todo, e)
	for len(r.todo) > 0 {
		e, r.todo = r.todo[0], r.todo[1:]
		was := r.state
		var effects []Effect
		r.state, effects = Next(r.state, e)
		if r.state == was && len(effects) == 0 {
			r.c.Log.Debug("event does not fit", "event", fmt.Sprintf("%T", e), "phase", was.Phase.String(), "call", was.Call)
		}
		if r.state.Phase != was.Phase {
			r.c.Log.Debug("call phase", "from", was.Phase.String(), "to", r.state.Phase.String(), "call", r.callID())
		}
		if r.state.Phase == Talking && was.Phase != Talking {
			r.cur.stage("talking", r.c.Now())
			if r.cur.policy.Notice > 0 { // they have seen it to its end, or somebody there was content to take the call
				if err := r.memory.told(r.cur.policy.Home); err != nil {
					r.c.Log.Warn("it is not kept that the home was told; it is told again", "error", err)
				}
			}
		}
		for _, effect := range effects {
			r.do(effect)
		}
	}
}

func (r *Runner) callID() protocol.CallID {
	if r.cur == nil {
		return protocol.CallID{}
	}
	return r.cur.call
}

// message handles what the clinic sent.
func (r *Runner) message(m *protocol.CallIn) {
	switch m.Kind {
	case protocol.KindInvite:
		if r.state.Phase == Idle {
			r.cur = &current{call: m.Call, invite: m.Invite, began: r.c.Now()}
			r.apply(Invited{m.Call})
			return
		}
		if m.Call == r.state.Call {
			if r.joinable() {
				r.join(m.Invite)
			} else {
				r.second(m)
			}
			return
		}
		r.cur.other = m.Invite
		r.apply(Invited{m.Call})
		r.cur.other = nil
	case protocol.KindCandidates:
		if r.cur == nil || m.Call != r.state.Call || r.cur.inv == nil || r.state.Phase == Ending {
			return
		}
		r.candidates(m.Candidates)
	case protocol.KindRestart:
		if r.cur == nil || m.Call != r.state.Call || r.cur.inv == nil || r.state.Phase == Ending {
			return
		}
		r.restart(m.Restart)
	case protocol.KindCurtain:
		if r.cur != nil && m.Call == r.state.Call && r.cur.inv != nil {
			r.curtained(m)
		}
	case protocol.KindHangUp:
		if r.cur == nil || m.Call != r.state.Call || r.cur.inv == nil {
			return
		}
		if place := r.leaver(m.HangUp.End); place != 0 {
			r.apply(Leaves{m.Call, place})
			return
		}
		end, err := r.c.Prover.End(m.HangUp.End, r.cur.proof)
		if err == nil {
			err = r.cur.fits(end)
		}
		if err != nil {
			// Whoever wants this call to end can cut the line; but nobody can make its record say what did not happen.
			r.complain(protocol.AuthUnproven, m.Call, "hang-up that is not proven", err)
			r.notice(protocol.AuthUnproven, m.Call, "hang-up")
			return
		}
		r.apply(HungUp{m.Call, ByCaller, end.Reason})
	}
}

// second is an invitation to the call that runs, which has had its own: an offer cannot be exchanged in a call. Nothing comes of it, and the clinic is told
// what it was.
func (r *Runner) second(m *protocol.CallIn) {
	now := r.c.Now()
	proof, code, err := r.c.Prover.Invite(m.Invite, now)
	if err == nil {
		code, err = checkInvitation(proof.Invitation, m.Call, r.c.Self, m.Invite.Offer, now)
	}
	if err == nil {
		code, err = protocol.AuthReplayed, errReplayed
	}
	r.c.Log.Warn("second invitation to the call that runs", "call", m.Call, "code", code, "error", err)
	r.notice(code, m.Call, "second invitation")
}

// candidates takes those that the caller has signed, and no others: nobody in between has this terminal look for paths to where he likes.
func (r *Runner) candidates(signed []byte) {
	cur := r.cur
	if cur.statements++; cur.statements > maxCandidates {
		return
	}
	c, err := protocol.VerifyCandidates(signed, cur.inv, cur.hash)
	if err != nil {
		r.complain(protocol.AuthUnproven, cur.call, "candidates that are not the caller's", err)
		if !cur.doubted { // once is enough: the call goes on
			cur.doubted = true
			r.notice(protocol.AuthUnproven, cur.call, "candidates")
		}
		return
	}
	if c.Number <= cur.number {
		r.c.Log.Debug("candidates came once more, or late", "call", cur.call, "number", c.Number)
		return
	}
	cur.number = c.Number
	for _, one := range c.List {
		r.addCandidate(one)
	}
}

func (r *Runner) addCandidate(c protocol.Candidate) {
	if r.cur.session == nil || r.cur.restarts.runs {
		if len(r.cur.early) < maxEarly {
			r.cur.early = append(r.cur.early, c)
		}
		return
	}
	if err := r.cur.session.AddCandidate(c); err != nil {
		r.c.Log.Info("candidate not used", "call", r.cur.call, "error", err)
	}
}

// posted handles what sessions and timers posted. What is about an earlier call is of no interest.
func (r *Runner) posted(m any) {
	switch m := m.(type) {
	case timerFired:
		if t := r.timers[m.timer]; t != nil && t.gen == m.gen {
			delete(r.timers, m.timer)
			if m.timer == TimerAuthorisation {
				r.lapseGuests()
				if left := r.lapsesIn(); left > 0 {
					r.start(m.timer, min(left, lapseLook))
					return
				}
			}
			r.apply(Elapsed{m.timer})
		}
	case prepareDone:
		r.prepared(m.cur, m.err)
	case openDone:
		if m.cur != r.cur {
			return
		}
		if m.err != nil {
			r.fail(m.cur, "open", m.err, protocol.MediaFailed)
			return
		}
		r.apply(Opened{m.cur.call})
	case blankDone:
		r.blanked(m)
	case joinDone:
		r.joined(m)
	case leaveDone:
		r.left(m)
	case closeDone:
		if m.cur != r.cur {
			return
		}
		if m.err != nil {
			r.stuck = fmt.Errorf("call %s: %w: %w", m.cur.call, ErrDeviceStuck, m.err)
			if err := r.memory.stuck(protocol.CaptureCameraStuck); err != nil {
				r.c.Log.Error("cannot note why the program ends", "error", err)
			}
			return
		}
		m.cur.stage("closed", r.c.Now())
		r.apply(SessionClosed{m.cur.call})
	case moveDone:
		r.moved(m)
	case mediaHappened:
		if m.cur == r.cur {
			r.media(m.ev)
		}
	}
}

func (r *Runner) prepared(cur *current, err error) {
	if cur != r.cur || r.state.Phase == Ending {
		return // the effect Close waits for Prepare itself
	}
	if err != nil {
		r.fail(cur, "prepare", err, protocol.MediaFailed)
		return
	}
	cur.session = cur.preparing
	cur.stage("prepared", r.c.Now())
	if r.status.Scene != SceneReady && r.status.Call == cur.call {
		s := r.status
		s.Code = cur.code()
		r.show(s)
	}
	r.apply(Prepared{cur.call})
	for _, c := range cur.early {
		r.addCandidate(c)
	}
	cur.early = nil
	r.wg.Go(func() {
		events := cur.preparing.Events()
		for {
			select {
			case ev, ok := <-events:
				if !ok {
					return
				}
				r.post(mediaHappened{cur, ev})
			case <-r.done:
				return
			}
		}
	})
}

func (r *Runner) fail(cur *current, what string, err error, code protocol.Code) {
	if me, ok := errors.AsType[*MediaError](err); ok {
		code = me.Code
	}
	r.c.Log.Warn("call failed", "call", cur.call, "doing", what, "code", code, "error", err)
	if hostile(code) {
		r.notice(code, cur.call, "connection")
	}
	r.apply(Failed{cur.call, code})
}

// hostile tells whether a connection failed by what an honest far end does not do: another certificate than the proven one, or too weak encryption.
func hostile(code protocol.Code) bool {
	return code == protocol.AuthFingerprint || code == protocol.DTLSWeak
}

func (r *Runner) media(ev MediaEvent) {
	call := r.cur.call
	switch ev.Kind {
	case MediaCandidate:
		r.sender.send(&protocol.CallOut{Version: protocol.Version, Call: call, Kind: protocol.KindCandidate, Candidate: &ev.Candidate})
	case MediaConnected:
		r.cur.stage("connected", r.c.Now())
		r.condition(protocol.ICELost, false)
		r.apply(Connected{call})
	case MediaDisconnected:
		r.cur.stage("disconnected", r.c.Now())
		r.condition(protocol.ICELost, true)
		r.apply(Disconnected{call})
		if r.c.Doubt != nil {
			r.c.Doubt()
		}
	case MediaSeen:
		r.cur.stage("seen", r.c.Now())
		r.apply(Seen{call})
	case MediaFailed:
		r.fail(r.cur, "run", errors.New("the session ended"), ev.Code)
	case MediaCondition:
		r.condition(ev.Code, ev.On)
	}
}

func (r *Runner) condition(code protocol.Code, on bool) {
	conditions := slices.DeleteFunc(slices.Clone(r.status.Conditions), func(c protocol.Code) bool { return c == code })
	if on {
		conditions = append(conditions, code)
	}
	if slices.Equal(conditions, r.status.Conditions) {
		return
	}
	r.c.Log.Info("condition in call", "call", r.cur.call, "code", code, "holds", on)
	s := r.status
	s.Conditions = conditions
	r.show(s)
}

func (r *Runner) show(s Status) {
	r.status = s
	r.c.View.Show(s)
}

// post hands something to the owner; after Run has ended it is forgotten.
func (r *Runner) post(m any) {
	select {
	case r.inbox <- m:
	case <-r.done:
	}
}

func (r *Runner) start(t Timer, after time.Duration) {
	r.stop(t)
	r.lastGen++
	gen := r.lastGen
	r.timers[t] = &runningTimer{gen: gen, t: time.AfterFunc(after, func() { r.post(timerFired{t, gen}) })}
}

func (r *Runner) stop(t Timer) {
	if running := r.timers[t]; running != nil {
		running.t.Stop()
		delete(r.timers, t)
	}
}
