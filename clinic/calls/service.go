package calls

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// The times of a call at the clinic.
const (
	replyTimeout   = 5 * time.Second  // for the terminal to prove itself, or refuse
	ringTimeout    = 4 * time.Minute  // from ringing to answered; the terminal's own limit is shorter: two minutes, and what a home is told before its first call
	maxTalk        = 4 * time.Hour    // the terminal's own limit is shorter
	terminalGrace  = 5 * time.Second  // for a terminal to come back
	pageGrace      = 6 * time.Second  // for a page to come back
	endTimeout     = 3 * time.Second  // for the terminal to prove its end
	lapseGrace     = 3 * time.Second  // for the terminal to end a call by itself whose authorisation is over
	revokeTimeout  = time.Second      // the same, for a terminal that is about to be cut off
	replay         = 60 * time.Second // how long the updates of an ended call can be had by a page that comes back
	invitationLife = time.Minute
	tick           = 250 * time.Millisecond // how exactly these times are kept
	storeTimeout   = 10 * time.Second
	farewell       = 2 * time.Second  // to tell terminals when the server stops
	remindFor      = 20 * time.Second // how long terminals are told that a call did not survive the server
	remindEvery    = time.Second
)

// Bounds.
const (
	maxCalls      = 2000 // that run at the same time
	maxPerPerson  = 4
	maxCandidates = 64  // of the terminal, and statements with them of the caller, in a call
	complaints    = 1   // a second in the log of what terminals must not send, after the first 50
	updateQueue   = 512 // updates that wait for one subscriber; it is cut off when they do not fit, and comes back
	outQueue      = 256 // hang-ups that wait to be sent; what does not fit is lost, and the terminal finds out by itself
)

// Link is the way to the terminals; fleet.Fleet is one.
type Link interface {
	Up() bool
	State(protocol.KeyHash) fleet.State
	Send(ctx context.Context, key protocol.KeyHash, m *protocol.CallIn) error
	Messages() <-chan fleet.CallMessage
	Watch() (<-chan protocol.KeyHash, func())
}

// Register knows the homes; register.Register is one.
type Register interface {
	Home(ctx context.Context, id string) (register.Home, error)
}

// Authority signs for the clinic's server itself; authority.Authority is one.
type Authority interface {
	SignTestCall(*protocol.Invitation) ([]byte, error)
	SignEnd(*protocol.End) ([]byte, error)
}

// Relay gives terminals what they need to reach the relay; relay.Relay is one.
type Relay interface {
	TerminalServers(terminal protocol.KeyHash) []protocol.ICEServer
}

// Service sets calls up. Run owns its goroutines; the methods are safe for concurrent use while Run runs.
type Service struct {
	records   *Records
	link      Link
	register  Register
	authority Authority
	relay     Relay
	log       *slog.Logger

	authorisations Authorisations
	relyingParty   protocol.RelyingParty

	complaints *rate.Limiter

	out     chan outgoing     // hang-ups on their way to terminals
	endings chan finishedCall // records to be closed

	mu      sync.Mutex
	stopped bool // out and endings are, or are about to be, closed
	seq     uint64
	calls   map[protocol.CallID]*call
	begun   map[string]int // by person: calls that have room, and are in calls once their record is made
	subs    map[*subscription]struct{}
	givenUp map[protocol.CallID]gaveUp
	// lost are calls that did not survive the server's last stop. Their terminals are told until they report or remindFor is over: what
	// the broker remembers of a terminal's presence may be older than its connection.
	lost             map[protocol.CallID]interrupted
	lostEnd, lostDue time.Time
}

// call is one that runs, or ended not longer ago than replay.
type call struct {
	course
	id         protocol.CallID
	person     Person
	page       string
	home       string
	terminal   protocol.KeyHash
	spki       []byte
	invitation protocol.Hash
	passkey    []byte    // id of the one that has proven the call
	until      time.Time // the end of the caller's authorisation; zero: none was needed
	rehearsal  bool      // the robot's, by a path that it has to take
	callerKey  []byte    // of this call, DER SubjectPublicKeyInfo: signs the caller's end

	began, rang, talking, ended time.Time
	endingAt                    time.Time // when hang-up was asked for
	terminalGone, pageGone      time.Time // since when; zero while they are there
	key                         protocol.Fingerprint
	answer                      protocol.Hash // of the ringing answer: the later one has to name the same
	terminalEnd, callerEnd      []byte
	over                        chan struct{} // closed when it has ended
	invited                     bool          // the invitation is on its way: what follows it cannot overtake it any more
	unwanted                    protocol.Code // why it was hung up before it was invited
	pageLost                    bool          // its page told that it had lost the clinic
	outcome                     protocol.Code // of an ended call

	fromCaller, fromTerminal int // candidates, since the last restart
	restarts, answered       int // offers for other paths that were passed on; the number of the last that was answered
	curtains                 curtains
	presence                 *rate.Limiter
	updates                  []Update
}

type subscription struct {
	person, page string
	updates      chan Update
}

type outgoing struct {
	terminal protocol.KeyHash
	message  *protocol.CallIn
}

type finishedCall struct {
	id     protocol.CallID
	person string
	ending
}

// Config is what a Service works with. Every field is required.
type Config struct {
	Records        *Records
	Link           Link
	Register       Register
	Authority      Authority
	Authorisations Authorisations
	RelyingParty   protocol.RelyingParty // of the persons' passkeys
	Relay          Relay
	Log            *slog.Logger
}

// New returns a service that Run starts.
func New(c Config) *Service {
	return &Service{
		records: c.Records, link: c.Link, register: c.Register, authority: c.Authority, relay: c.Relay, log: c.Log,
		authorisations: c.Authorisations, relyingParty: c.RelyingParty, complaints: rate.NewLimiter(complaints, 50*complaints),
		out: make(chan outgoing, outQueue), endings: make(chan finishedCall, maxCalls),
		// Ascending also over a restart, so that a page that comes back misses nothing.
		seq:   uint64(time.Now().UnixMicro()),
		calls: make(map[protocol.CallID]*call), begun: make(map[string]int), subs: make(map[*subscription]struct{}),
		givenUp: make(map[protocol.CallID]gaveUp),
		lost:    make(map[protocol.CallID]interrupted),
	}
}

// Run carries calls until ctx is done. Then it ends those that run and closes their records.
func (s *Service) Run(ctx context.Context) error {
	s.records.setListener(s.reported)
	defer s.records.setListener(nil)
	s.mu.Lock()
	s.takeInterrupted(time.Now())
	s.mu.Unlock()
	// What is on its way when the server stops is still done.
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { s.send(last) })
	group.Go(func() { s.record(last) })
	s.carry(ctx)
	s.endAll(protocol.SignalLostClinic)
	timer := time.AfterFunc(farewell, cancel)
	defer timer.Stop()
	group.Wait()
	return nil
}

// carry takes what comes from terminals and keeps the times.
func (s *Service) carry(ctx context.Context) {
	changes, stop := s.link.Watch()
	defer stop()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.link.Messages():
			s.receive(m)
		case <-changes:
			s.keepTimes(time.Now())
		case now := <-ticker.C:
			s.keepTimes(now)
		}
	}
}

func (s *Service) send(ctx context.Context) {
	for o := range s.out {
		if err := s.link.Send(ctx, o.terminal, o.message); err != nil {
			s.log.Warn("terminal not told that its call is over; it finds out by itself", "call", o.message.Call, "error", err)
		}
	}
}

func (s *Service) record(ctx context.Context) {
	for f := range s.endings {
		for wait := tick; ; wait = min(2*wait, storeTimeout) {
			err := s.records.finish(ctx, f.id, f.person, f.ending)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				s.log.Error("record of a call not closed; it is when the server starts again", "call", f.id, "error", err)
				break
			}
			s.log.Error("record of a call not closed; trying again", "call", f.id, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
}

// Start sets a call up. A *Failure says why it could not be; its record is committed. Other errors wrap ErrBadRequest, ErrNotFound or
// ErrTooMany, or say that the clinic's server itself failed; of those there is no record, because nobody was asked.
func (s *Service) Start(ctx context.Context, r Request) (Started, error) {
	home, err := s.register.Home(ctx, r.Home)
	if errors.Is(err, register.ErrNotFound) {
		return Started{}, fmt.Errorf("start call: %w: %w", ErrNotFound, err)
	}
	if err != nil {
		return Started{}, fmt.Errorf("start call: %w", err)
	}
	if err := s.afterLast(ctx, home.Terminal); err != nil {
		return Started{}, fmt.Errorf("start call: %w", err)
	}
	now := time.Now()
	rec := &Record{Person: r.Person, Home: home.ID, HomeLabel: home.Label, Terminal: home.Terminal, SPKI: home.SPKI, Began: now, Rehearsal: r.Path != ""}
	inv, err := s.invite(ctx, r, home, now)
	if failed, ok := errors.AsType[*Failure](err); ok {
		rec.Call = failed.Call
		return Started{}, s.fail(ctx, rec, failed.Code, failed.Err)
	}
	if err != nil {
		return Started{}, fmt.Errorf("start call: %w", err)
	}
	rec.Call, rec.Person, rec.Errand, rec.RelayOnly, rec.Urgent = inv.Call, inv.person, inv.Errand, inv.RelayOnly, inv.Urgent
	rec.Proof, err = protocol.Encode(&protocol.CallProof{
		Version: protocol.Version, Invitation: inv.invite.Invitation, Assertion: inv.invite.Assertion, Authorisation: inv.invite.Authorisation,
	})
	if err != nil {
		return Started{}, fmt.Errorf("start call: %w: %w", ErrBadRequest, err)
	}
	s.mu.Lock()
	unwanted := s.wasGivenUp(r.Person.ID, inv.Call)
	s.mu.Unlock()
	if unwanted != "" {
		return Started{}, s.fail(ctx, rec, unwanted, errors.New("hung up before it was known here"))
	}
	switch {
	case !s.link.Up():
		return Started{}, s.fail(ctx, rec, protocol.SignalBroker, nil)
	case !s.link.State(home.Terminal).Online:
		return Started{}, s.fail(ctx, rec, protocol.SignalOffline, nil)
	}
	c := &call{
		course: course{state: Calling}, id: rec.Call, person: inv.person, page: r.Page, home: home.ID, terminal: home.Terminal, spki: home.SPKI,
		invitation: protocol.HashOf(inv.invite.Invitation), callerKey: inv.Key, passkey: inv.passkey(), until: inv.until, rehearsal: rec.Rehearsal, began: now, over: make(chan struct{}),
		curtains: newCurtains(), presence: rate.NewLimiter(presenceRate, presenceBurst),
	}
	if err := s.room(r.Person.ID); err != nil {
		return Started{}, fmt.Errorf("start call: %w", err)
	}
	if err := s.records.begin(ctx, rec, c.invitation[:]); err != nil {
		s.makeRoom(r.Person.ID)
		return Started{}, fmt.Errorf("start call: its record could not be made: %w", err)
	}
	if !s.add(c) {
		return Started{}, &Failure{Call: c.id, Code: protocol.SignalLostClinic, Err: ErrStopped}
	}
	if err := s.stillMay(ctx, c); err != nil {
		code := protocol.SignalLostClinic
		if failed, ok := errors.AsType[*Failure](err); ok {
			code = failed.Code
		}
		s.happen(c.id, terminalLost, code) // which has heard of nothing
		return Started{}, err
	}
	s.log.Info("call placed", "call", c.id, "person", r.Person.ID, "home", home.ID, "terminal", home.Terminal, "relay_only", inv.RelayOnly)
	if r.Path != protocol.DirectPath {
		inv.invite.ICE = s.relay.TerminalServers(home.Terminal)
	}
	err = s.link.Send(ctx, home.Terminal, &protocol.CallIn{Version: protocol.Version, Call: c.id, Kind: protocol.KindInvite, Invite: inv.invite})
	if err != nil {
		code := protocol.CodeOf(err)
		s.happen(c.id, terminalLost, code)
		return Started{}, &Failure{Call: c.id, Code: code, Err: err}
	}
	s.mu.Lock()
	c.invited = true
	if c.unwanted != "" {
		s.apply(c, hangUp, c.unwanted, nil)
	}
	s.mu.Unlock()
	return Started{Call: c.id, Invitation: inv.invite.Invitation, Terminal: home.Terminal, SPKI: home.SPKI}, nil
}

// invite makes what is sent to the terminal. Errors are as of prove.
func (s *Service) invite(ctx context.Context, r Request, home register.Home, now time.Time) (*invited, error) {
	if home.Terminal == (protocol.KeyHash{}) {
		call := r.Test
		if inv := new(protocol.Invitation); call == (protocol.CallID{}) && protocol.Decode(r.Proof.Invitation, inv) == nil {
			call = inv.Call
		}
		if call == (protocol.CallID{}) {
			return nil, fmt.Errorf("%w: the call has no name", ErrBadRequest)
		}
		return nil, &Failure{Call: call, Code: protocol.SignalOffline, Err: errors.New("the home has no terminal")}
	}
	if r.Test != (protocol.CallID{}) {
		return s.test(r, home, now)
	}
	if r.Proof.Assertion == nil {
		return nil, fmt.Errorf("%w: no passkey's proof", ErrBadRequest)
	}
	return s.prove(ctx, r, home, now)
}

// afterLast waits while a call that was hung up still ends at the terminal, as the caller sees it no more: the terminal would say that it
// is busy to the one who hangs up and rings again. It takes no longer than a terminal has to prove its end. A rehearsal keeps nobody waiting, neither here nor there.
func (s *Service) afterLast(ctx context.Context, terminal protocol.KeyHash) error {
	for {
		var over <-chan struct{}
		s.mu.Lock()
		for _, c := range s.calls {
			if c.terminal == terminal && c.ending != "" && c.state != Ended && !c.rehearsal {
				over = c.over
			}
		}
		s.mu.Unlock()
		if over == nil {
			return nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fail puts a call on the record that could not even be tried.
func (s *Service) fail(ctx context.Context, rec *Record, code protocol.Code, cause error) error {
	err := s.records.begin(ctx, rec, nil)
	if err == nil {
		err = s.records.finish(ctx, rec.Call, rec.Person.ID, ending{at: time.Now(), outcome: code})
	}
	if err != nil {
		return fmt.Errorf("start call: its record could not be made: %w", err)
	}
	s.log.Info("call not possible", "call", rec.Call, "person", rec.Person.ID, "home", rec.Home, "code", code)
	return &Failure{Call: rec.Call, Code: code, Err: cause}
}

// room says whether a person may have one more call. If so it is taken, until add or makeRoom.
func (s *Service) room(person string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	running, own := 0, s.begun[person]
	for _, n := range s.begun {
		running += n
	}
	for _, c := range s.calls {
		if c.state == Ended {
			continue
		}
		running++
		if c.person.ID == person {
			own++
		}
	}
	if running >= maxCalls || own >= maxPerPerson {
		return fmt.Errorf("calls that run: %w", ErrTooMany)
	}
	s.begun[person]++
	return nil
}

func (s *Service) makeRoom(person string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unbegin(person)
}

func (s *Service) unbegin(person string) {
	if s.begun[person]--; s.begun[person] == 0 {
		delete(s.begun, person)
	}
}

// add lets a call run. It returns false, and the call is over, if the server has begun to stop meanwhile: its terminal must not ring for nobody.
func (s *Service) add(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unbegin(c.person.ID)
	s.calls[c.id] = c
	c.unwanted = s.wasGivenUp(c.person.ID, c.id)
	s.lookForPage(c, c.began)
	if s.stopped {
		s.apply(c, hangUp, protocol.SignalLostClinic, nil)
	}
	return !s.stopped
}

// offered returns the fingerprint of the certificate that an offer promises (RFC 8122 §5): SHA-256, and one for all its parts.
func offered(offer protocol.SDP) (protocol.Fingerprint, error) {
	var found protocol.Fingerprint
	if offer == "" || len(offer) > protocol.MaxSDP {
		return found, fmt.Errorf("%w: offer of %d bytes", ErrBadRequest, len(offer))
	}
	for line := range strings.Lines(string(offer)) {
		value, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "a=fingerprint:")
		if !ok {
			continue
		}
		algorithm, digest, _ := strings.Cut(value, " ")
		f, err := parseFingerprint(digest)
		if !strings.EqualFold(algorithm, "sha-256") || err != nil {
			return found, fmt.Errorf("%w: fingerprint of the offer is not SHA-256", ErrBadRequest)
		}
		if found != (protocol.Fingerprint{}) && found != f {
			return found, fmt.Errorf("%w: offer has several fingerprints", ErrBadRequest)
		}
		found = f
	}
	if found == (protocol.Fingerprint{}) {
		return found, fmt.Errorf("%w: offer has no fingerprint", ErrBadRequest)
	}
	return found, nil
}

func parseFingerprint(s string) (protocol.Fingerprint, error) {
	var f protocol.Fingerprint
	if len(s) != 3*len(f)-1 {
		return f, protocol.ErrMalformed
	}
	for i := range f {
		if _, err := hex.Decode(f[i:i+1], []byte(s[3*i:3*i+2])); err != nil || i > 0 && s[3*i-1] != ':' {
			return f, protocol.ErrMalformed
		}
	}
	return f, nil
}

// own returns a person's call. s.mu is held.
func (s *Service) own(person string, id protocol.CallID) (*call, error) {
	c := s.calls[id]
	if c == nil || c.person.ID != person {
		return nil, fmt.Errorf("call %s: %w", id, ErrNotFound)
	}
	return c, nil
}

// Candidates passes candidates that the page has signed on to the terminal, which verifies them. After the call's end it does nothing.
func (s *Service) Candidates(ctx context.Context, person string, id protocol.CallID, signed []byte) error {
	message := &protocol.CallIn{Version: protocol.Version, Call: id, Kind: protocol.KindCandidates, Candidates: signed}
	if _, err := protocol.Encode(message); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.mu.Lock()
	c, err := s.own(person, id)
	if err == nil && c.state != Ended {
		if c.fromCaller++; c.fromCaller > maxCandidates {
			err = fmt.Errorf("candidates of call %s: %w", id, ErrTooMany)
		}
	}
	over := err != nil || c.state == Ended
	s.mu.Unlock()
	if over {
		return err
	}
	return s.link.Send(ctx, c.terminal, message)
}

// HangUp ends a call, for a reason that its page has. The terminal is told; the page learns of its proof of the end by an Update.
// Hanging up again does nothing. A call that is not known is kept from beginning, should the page's request for it still come. signed is the caller's end, by
// the call's own key; where there is none, or it does not hold, the clinic ends the call by its own. With the reason protocol.ProofEnd a page tells of a call that
// is over that what it got as the terminal's end is none.
func (s *Service) HangUp(ctx context.Context, person string, id protocol.CallID, reason protocol.Code, signed []byte) error {
	if reason == protocol.ProofEnd {
		if err := s.records.doubted(ctx, person, id, reason); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[id] == nil {
		return s.giveUp(person, id, reason, time.Now())
	}
	c, err := s.own(person, id)
	if err != nil {
		return err
	}
	if _, err := protocol.Encode(s.end(c, reason, time.Now())); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if len(signed) > 0 && c.callerEnd == nil && c.ending == "" {
		if err := c.proveEnd(signed, reason); err != nil {
			s.log.Warn("the caller's end is not proven; the clinic ends the call", "call", c.id, "error", err)
		} else {
			c.callerEnd = signed
		}
	}
	c.pageLost = reason == protocol.SignalLostClinic
	s.stop(c, reason)
	return nil
}

// stop ends a call for a reason. One whose invitation is not on its way yet is ended as soon as it is: a hang-up that overtakes it is for a call that the terminal does not
// know, and then it would ring for one that is over. s.mu is held.
func (s *Service) stop(c *call, reason protocol.Code) {
	if c.invited || c.state != Calling {
		s.apply(c, hangUp, reason, nil)
	} else if c.unwanted == "" {
		c.unwanted = reason
	}
}

// Report takes the page's half of a call's record.
func (s *Service) Report(ctx context.Context, person string, id protocol.CallID, half *protocol.CallRecord) error {
	if half.Call != id || half.By != protocol.SideCaller {
		return fmt.Errorf("%w: record of another call or side", ErrBadRequest)
	}
	return s.records.callerHalf(ctx, person, id, half)
}

// Running returns how many calls run.
func (s *Service) Running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// Records returns the latest calls of a person, the latest first, at most limit.
func (s *Service) Records(ctx context.Context, person string, limit int) ([]Record, error) {
	return s.records.list(ctx, person, limit)
}

// Record returns one call. The error wraps ErrNotFound if it is not there or not this person's.
func (s *Service) Record(ctx context.Context, person string, id protocol.CallID) (Record, error) {
	return s.records.get(ctx, person, id)
}

// endAll ends what runs; after it nothing more begins.
func (s *Service) endAll(code protocol.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		s.apply(c, hangUp, code, nil)
		s.apply(c, endWaited, code, nil)
	}
	s.stopped = true
	close(s.out)
	close(s.endings)
}
