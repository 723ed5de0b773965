package health

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"vindu/protocol"
)

// Finding is a condition that a probe has found. Figure is what it measured, for who has to judge it: a number with its unit and
// fixed words, never a name or an address.
type Finding struct {
	Code   protocol.Code
	Figure string
}

// Probe looks for conditions of the register. Run is never called twice at a time; it returns all that it finds now, so that what it does not
// return is over. An error says that it could not look.
type Probe struct {
	Name    string
	Every   time.Duration
	Timeout time.Duration // for one run; 0: ten seconds
	Costly  bool          // it is not run during calls, nor at the start, and ends when a call begins
	Run     func(ctx context.Context) ([]Finding, error)
}

const (
	probeTimeout = 10 * time.Second
	costlyFirst  = 5 * time.Minute // at the earliest; at the latest twice as much
	hurryEvery   = 10 * time.Second
	leaveAfter   = 2 * time.Second
	costlyAgain  = 15 * time.Minute // what a costly probe has found is looked at again after so long at most: somebody may have mended it
	endsWithin   = 2 * time.Second  // after its time: what waits for the network itself uses all of it, and then ends
)

// Prober runs probes, each in its time, spread so that a fleet that lost its power does not ask in step. What is nearly due is run with what is
// due, so that the processor is woken seldom. A probe that does not end is itself a finding (protocol.CheckHangs), is not run again before it ends,
// and is in no other's way. A nil Prober has no probes.
type Prober struct {
	probes []*scheduled
	tell   func(finder string, found ...Finding)
	log    *slog.Logger
	wakes  int // of Run, for tests; Run's

	mu     sync.Mutex
	inCall bool
	hurry  map[string]bool
	poke   chan struct{}
}

type scheduled struct {
	Probe
	due      time.Time
	began    time.Time // of the run that has not ended, or zero
	last     time.Time // when a run began
	hangs    bool
	found    []Finding
	cancel   context.CancelFunc
	deferred bool      // it was ended by a call
	hurried  time.Time // when it is to run because it was hurried; zero: it was not, since it began last
}

// NewProber makes a Prober that tells what is found under the finder "probe." with the probe's name.
func NewProber(probes []Probe, tell func(finder string, found ...Finding), log *slog.Logger) *Prober {
	p := &Prober{tell: tell, log: log, hurry: map[string]bool{}, poke: make(chan struct{}, 1)}
	for _, x := range probes {
		if x.Timeout == 0 {
			x.Timeout = probeTimeout
		}
		p.probes = append(p.probes, &scheduled{Probe: x})
	}
	return p
}

// Hurry has probes run now, or a moment after they were run last: what they look at may have changed.
func (p *Prober) Hurry(names ...string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	for _, n := range names {
		p.hurry[n] = true
	}
	p.mu.Unlock()
	signal(p.poke)
}

// SetInCall says whether a call runs: costly probes wait until it is over.
func (p *Prober) SetInCall(yes bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.inCall = yes
	p.mu.Unlock()
	signal(p.poke)
}

type result struct {
	of    *scheduled
	found []Finding
	err   error
}

// Run probes until ctx ends and returns nil. A probe that hangs is left behind then: nothing can end a file system that does not answer.
func (p *Prober) Run(ctx context.Context) error {
	done := make(chan result, len(p.probes))
	now := time.Now()
	for _, s := range p.probes {
		s.due = now
		if s.Costly {
			s.due = now.Add(costlyFirst + rand.N(costlyFirst))
		}
	}
	running := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.leave(running, done)
			return nil
		case r := <-done:
			running--
			p.ended(ctx, r)
		case <-p.poke:
		case <-timer.C:
			p.wakes++
		}
		running += p.start(ctx, done)
		timer.Reset(time.Until(p.next()))
	}
}

// leave waits a moment for what still runs.
func (p *Prober) leave(running int, done <-chan result) {
	limit := time.NewTimer(leaveAfter)
	defer limit.Stop()
	for range running {
		select {
		case <-done:
		case <-limit.C:
			p.log.Warn("a probe does not end and is left behind")
			return
		}
	}
}

// start begins what is due, and finds what hangs. It returns how many it began.
func (p *Prober) start(ctx context.Context, done chan<- result) int {
	p.mu.Lock()
	inCall, hurry := p.inCall, p.hurry
	p.hurry = map[string]bool{}
	p.mu.Unlock()
	now := time.Now()
	begun := 0
	for _, s := range p.probes {
		if hurry[s.Name] {
			s.hurried = s.last.Add(hurryEvery)
		}
		if s.began.IsZero() && !s.hurried.IsZero() && !s.hurried.After(now) {
			s.due = now
		}
		switch {
		case !s.began.IsZero():
			if inCall && s.Costly && !s.deferred {
				s.deferred = true
				s.cancel()
			}
			if !s.hangs && now.Sub(s.began) > s.Timeout+endsWithin {
				s.hangs = true
				p.log.Warn("a probe hangs", "probe", s.Name, "since", s.began)
				p.tell("probe."+s.Name, append(slices.Clone(s.found), Finding{Code: protocol.CheckHangs, Figure: s.Name})...)
			}
		case s.Costly && inCall:
		case !s.due.After(now.Add(s.tolerance())):
			begun++
			s.began, s.last, s.deferred, s.hurried = now, now, false, time.Time{}
			var inner context.Context
			inner, s.cancel = context.WithTimeout(ctx, s.Timeout)
			go func() { // waited for by leave; the channel has room for it
				found, err := run(inner, s.Probe)
				done <- result{s, found, err}
			}()
		}
	}
	return begun
}

// tolerance is how much earlier than due a probe may run, to go with others.
func (s *scheduled) tolerance() time.Duration {
	if s.Costly {
		return 0
	}
	return s.Every / 4
}

// run lets no probe end the terminal's program.
func run(ctx context.Context, p Probe) (found []Finding, err error) {
	defer func() {
		if r := recover(); r != nil {
			found, err = nil, fmt.Errorf("probe %s: panic: %v", p.Name, r)
		}
	}()
	return p.Run(ctx)
}

// ended takes what a probe has found.
func (p *Prober) ended(ctx context.Context, r result) {
	s := r.of
	s.cancel()
	s.began, s.hangs = time.Time{}, false
	s.due = soon(s.Every)
	if ctx.Err() != nil {
		return
	}
	if s.deferred { // by a call: what is known stays
		s.due = time.Now().Add(costlyFirst + rand.N(costlyFirst))
		p.tell("probe."+s.Name, s.found...)
		return
	}
	s.found = r.found
	if r.err != nil {
		p.log.Info("a probe could not look", "probe", s.Name, "error", r.err)
		s.found = append(s.found, Finding{Code: protocol.CheckFails, Figure: s.Name})
	}
	if s.Costly && len(s.found) > 0 {
		s.due = soon(min(s.Every, costlyAgain))
	}
	p.tell("probe."+s.Name, s.found...)
}

// soon is in about so long.
func soon(every time.Duration) time.Time {
	return time.Now().Add(every - every/10 + rand.N(every/5+1))
}

// next is when something has to be done.
func (p *Prober) next() time.Time {
	p.mu.Lock()
	inCall := p.inCall
	p.mu.Unlock()
	next := time.Now().Add(time.Hour)
	for _, s := range p.probes {
		at := s.due
		if !s.hurried.IsZero() && s.hurried.Before(at) {
			at = s.hurried
		}
		switch {
		case !s.began.IsZero() && s.hangs, s.began.IsZero() && s.Costly && inCall:
			continue
		case !s.began.IsZero():
			at = s.began.Add(s.Timeout + endsWithin + time.Millisecond)
		}
		if at.Before(next) {
			next = at
		}
	}
	return next
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // pending already
	}
}
