// Package robot is the clinic's partner for test calls: it rings a terminal that asks for it, shows it a picture, plays it a sound, and
// counts what comes back.
//
// Package calls invites the terminal on its behalf, by the server's service key, with an errand that says that it is a test, and records it: only a terminal
// that waits for this very call, which it has asked for itself, believes that; the terminal proves itself by its signed answer, which the robot holds against the key of the
// register as a browser does before it sends anything. Media is DTLS-SRTP with AEAD profiles only.
//
// The robot has no decoders and keeps nothing: of pictures it counts the whole ones and those that stand alone, of sound the packets. What
// it sends was coded beforehand (scripts/robotmedia). It hangs up when it has had enough to judge by, or has waited long enough.
//
// A terminal asks for a test call while a technician checks it, and for two in each rehearsal: one to which no relay is offered, and one by the relay alone. Rehearsals leave room for
// technicians: of a fleet that rehearses at night some are told to come again.
//
// A terminal has one test call at a time. Call both begins one and tells how it goes, so that it can be asked again whatever became of
// a reply.
package robot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vindu/clinic/calls"
	"vindu/clinic/register"
	"vindu/protocol"
)

// How long things take.
const (
	longest    = 50 * time.Second // a whole test call: two rings, seeing first, and talking
	leastTalk  = 3 * time.Second
	mostTalk   = 10 * time.Second // for a terminal from which not enough comes
	remembered = 10 * time.Minute
	farewell   = 5 * time.Second // for the terminal's end, after the robot has hung up
	apart      = 2 * time.Second // between two test calls of one terminal
	// A terminal may have oftenBurst test calls, and then one every seldom: each is in the audit log for good.
	seldom     = 10 * time.Minute
	oftenBurst = 20
)

// What is enough to judge by.
const (
	enoughPictures = 30
	enoughSounds   = 150
)

// maxCalls bounds the test calls that run at the same time: each sends about 150 kbit/s.
const (
	maxCalls      = 32
	maxRehearsals = 24 // of them
)

// PersonID is the robot's in the records of calls; the terminal's code follows it.
const PersonID = "robot/"

// Calls sets calls up; calls.Service is one.
type Calls interface {
	Start(ctx context.Context, r calls.Request) (calls.Started, error)
	Subscribe(person, page string, seq uint64) (<-chan calls.Update, func())
	HangUp(ctx context.Context, person string, id protocol.CallID, reason protocol.Code, signed []byte) error
	Report(ctx context.Context, person string, id protocol.CallID, half *protocol.CallRecord) error
}

// Config is what a Robot works with.
type Config struct {
	Calls        Calls
	Organisation string
	Relay        func() []protocol.ICEServer // servers with fresh credentials; nil: none
	Permits      func(netip.Addr) bool       // says to which of a terminal's addresses the robot may send; nil: to all
	Loopback     bool                        // offers the loopback interface too: terminals are on this machine
	Log          *slog.Logger
}

// Robot makes test calls. Run owns its goroutines; Call may be called from any.
type Robot struct {
	c     Config
	media *assets
	most  time.Duration // mostTalk
	begin chan *testCall

	mu    sync.Mutex
	known map[protocol.KeyHash]*testCall     // the last of each terminal
	asked map[protocol.KeyHash]*rate.Limiter // how often each may have one
}

// testCall is one that runs, or was.
type testCall struct {
	terminal register.Terminal
	id       protocol.CallID
	path     string // of a rehearsal; empty: any
	began    time.Time

	mu    sync.Mutex
	state protocol.TestCall
	over  time.Time // zero while it runs
}

func (t *testCall) look() (protocol.TestCall, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.over
}

// New makes a robot that Run runs.
func New(c Config) (*Robot, error) {
	media, err := loadAssets()
	if err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	if c.Relay == nil {
		c.Relay = func() []protocol.ICEServer { return nil }
	}
	if c.Permits == nil {
		c.Permits = func(netip.Addr) bool { return true }
	}
	return &Robot{c: c, media: media, most: mostTalk, begin: make(chan *testCall, maxCalls), known: map[protocol.KeyHash]*testCall{}, asked: map[protocol.KeyHash]*rate.Limiter{}}, nil
}

// Run makes the test calls that are asked for until ctx ends; then it ends those that run.
func (r *Robot) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-r.begin:
			group.Go(func() { r.run(ctx, t) })
		}
	}
}

var (
	errOther   = errors.New("the terminal has another test call")
	errTooMany = errors.New("too many test calls")
)

// Call begins the test call that a terminal names, by a path if it names one, or tells how it goes. Errors carry link.too_many_requests.
func (r *Robot) Call(t register.Terminal, id protocol.CallID, path string) (*protocol.TestCall, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if last := r.known[t.Key]; last != nil {
		state, over := last.look()
		switch {
		case last.id == id:
			return &state, nil
		case over.IsZero():
			return nil, protocol.WithCode(protocol.LinkTooMany, errOther)
		case now.Sub(over) < apart:
			return nil, protocol.WithCode(protocol.LinkTooMany, errTooMany)
		}
	}
	running, rehearsals := 0, 0
	for key, c := range r.known {
		_, over := c.look()
		if over.IsZero() {
			running++
			if c.path != "" {
				rehearsals++
			}
		} else if now.Sub(over) > remembered {
			delete(r.known, key)
		}
	}
	if running >= maxCalls || path != "" && rehearsals >= maxRehearsals {
		return nil, protocol.WithCode(protocol.LinkTooMany, errTooMany)
	}
	for key, l := range r.asked {
		if l.TokensAt(now) >= oftenBurst {
			delete(r.asked, key)
		}
	}
	often := r.asked[t.Key]
	if often == nil {
		often = rate.NewLimiter(rate.Every(seldom), oftenBurst)
		r.asked[t.Key] = often
	}
	if !often.AllowN(now, 1) {
		return nil, protocol.WithCode(protocol.LinkTooMany, errTooMany)
	}
	c := &testCall{terminal: t, id: id, path: path, began: now, state: protocol.TestCall{Version: protocol.Version, Call: id}}
	state := c.state // afterwards it is the call's
	select {
	case r.begin <- c:
	default: // the robot has stopped
		return nil, protocol.WithCode(protocol.LinkTooMany, errTooMany)
	}
	r.known[t.Key] = c
	return &state, nil
}

func (r *Robot) person(t *testCall) calls.Person {
	return calls.Person{
		ID: PersonID + t.terminal.Key.Code(), Party: protocol.Party{Name: "Prøvesamtale", Role: "test", Organisation: r.c.Organisation},
	}
}

// run makes one test call and tells its outcome.
func (r *Robot) run(ctx context.Context, t *testCall) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	outcome, counted, err := r.talk(ctx, t)
	if err != nil {
		r.c.Log.Warn("test call failed", "call", t.id, "terminal", t.terminal.Key, "code", outcome, "error", err)
	} else {
		r.c.Log.Info("test call over", "call", t.id, "terminal", t.terminal.Key, "code", outcome, "pictures", counted.pictures, "sounds", counted.sounds, "lost", counted.lost)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = time.Now()
	t.state.Ended, t.state.Outcome = true, outcome
	t.state.Pictures, t.state.Keys, t.state.Sounds, t.state.Lost = counted.pictures, counted.keys, counted.sounds, counted.lost
}

// talk is the call itself. It returns how it ended and what came.
func (r *Robot) talk(ctx context.Context, t *testCall) (protocol.Code, counts, error) {
	who := r.person(t)
	page := t.id.String()
	updates, unsubscribe := r.c.Calls.Subscribe(who.ID, page, 0)
	defer unsubscribe()
	l, err := r.dial(ctx, t.path)
	if err != nil {
		return protocol.MediaRobot, counts{}, err
	}
	defer l.close()
	started, err := r.c.Calls.Start(ctx, calls.Request{
		Person: who, Test: t.id, Path: t.path, Page: page, Home: t.terminal.Home, Offer: l.offer,
	})
	if failure, ok := errors.AsType[*calls.Failure](err); ok {
		return failure.Code, counts{}, err
	}
	if err != nil {
		return protocol.LinkClinicFailed, counts{}, err
	}
	outcome, err := r.follow(ctx, l, started, updates, who.ID)
	if err := r.report(who.ID, t, l, outcome); err != nil {
		r.c.Log.Warn("the robot's half of a call's record is missing", "call", t.id, "error", err)
	}
	return outcome, l.counted(), err
}

// follow goes along with a call until it has ended.
func (r *Robot) follow(ctx context.Context, l *line, started calls.Started, updates <-chan calls.Update, person string) (protocol.Code, error) {
	var enough <-chan time.Time // ticks while the terminal talks
	var talking time.Time
	var failed error
	hangUp := func(reason protocol.Code) {
		if err := r.c.Calls.HangUp(context.WithoutCancel(ctx), person, started.Call, reason, nil); err != nil {
			r.c.Log.Warn("test call not hung up", "call", started.Call, "error", err)
		}
	}
	done, lost := ctx.Done(), l.lost
	var last <-chan time.Time // for the terminal's end, after the robot has hung up
	reason := protocol.EndCallerHungUp
	leave := func(why protocol.Code, err error) {
		if last == nil {
			reason, failed = why, err
			hangUp(why)
			last = time.After(farewell)
		}
		done, lost, enough = nil, nil, nil
	}
	for {
		select {
		case u, open := <-updates:
			switch {
			case !open:
				leave(protocol.SignalLostClinic, errors.New("the clinic's server stopped telling"))
				updates = nil
			case u.Kind == calls.KindEnd:
				if failed != nil {
					return reason, failed
				}
				return u.Code, nil
			case u.Kind == calls.KindAnswer:
				answer, err := prove(u.Answer, started)
				if err != nil {
					leave(protocol.ProofAnswer, err)
					continue
				}
				if answer.Decision == protocol.Ringing {
					if err := l.answer(u.SDP, answer); err != nil {
						leave(protocol.ProofAnswer, err)
					}
				}
				if answer.Decision == protocol.Answered && talking.IsZero() && last == nil {
					talking = time.Now()
					ticker := time.NewTicker(200 * time.Millisecond)
					defer ticker.Stop()
					enough = ticker.C
				}
			case u.Kind == calls.KindCandidate:
				l.candidate(u.Candidate)
			}
		case now := <-enough:
			c := l.counted()
			if now.Sub(talking) >= r.most || now.Sub(talking) >= leastTalk && c.pictures >= enoughPictures && c.keys > 0 && c.sounds >= enoughSounds {
				leave(protocol.EndCallerHungUp, nil)
			}
		case code := <-lost:
			leave(code, errors.New("the connection to the terminal failed"))
		case <-done:
			leave(protocol.SignalNoReply, ctx.Err())
		case <-last:
			return reason, failed
		}
	}
}

// prove holds a signed answer against the terminal's key and the invitation, as the clinician's page does.
func prove(signed []byte, started calls.Started) (*protocol.Answer, error) {
	key, err := publicKey(started.SPKI)
	if err != nil {
		return nil, err
	}
	answer := new(protocol.Answer)
	if err := protocol.Verify(signed, key, answer); err != nil {
		return nil, err
	}
	if answer.Call != started.Call || answer.Terminal != started.Terminal || answer.Invitation != protocol.HashOf(started.Invitation) {
		return nil, errors.New("answer to another invitation")
	}
	return answer, nil
}

// report tells the caller's half of the record.
func (r *Robot) report(person string, t *testCall, l *line, outcome protocol.Code) error {
	c := l.counted()
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	return r.c.Calls.Report(ctx, person, t.id, &protocol.CallRecord{
		Version: protocol.Version, Call: t.id, By: protocol.SideCaller, Began: protocol.At(t.began), Outcome: outcome,
		Camera: "synthetic", Sound: "synthetic", LocalPath: c.local, RemotePath: c.remote,
		Quality: protocol.Quality{
			PacketsReceived: c.packets, PacketsLost: c.lost, FramesSent: c.sent, BytesReceived: c.bytes,
			// Whole pictures, as the robot has no decoder.
			FramesDecoded: c.pictures,
		},
	})
}
