package panel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"vindu/device/panel/wire"
)

var (
	errSilent  = errors.New("the panel says nothing")
	errAgain   = errors.New("the panel began anew")
	errBlocked = errors.New("the line takes nothing")
)

// flusher is a line that can throw away what it has not sent: only so does one that takes nothing let its writer go.
type flusher interface{ ResetOutputBuffer() error }

// serve speaks with a panel until the line or the panel fails, or ctx ends; answered tells whether there was one. It closes the line and waits for its goroutines, but for
// one that a driver does not let go.
func (p *Panel) serve(ctx context.Context, line io.ReadWriteCloser) (answered bool, err error) {
	ctx, stop := context.WithCancel(ctx)
	statuses, frames := make(chan wire.Status, 8), make(chan []byte, 1)
	fails := make(chan error, 2)
	go func() { fails <- read(ctx, line, statuses) }()
	go func() { fails <- write(ctx, line, frames) }()
	running := 2
	defer func() {
		stop()
		if f, ok := line.(flusher); ok {
			_ = f.ResetOutputBuffer() // the line is given up
		}
		closed := make(chan struct{})
		go func() {
			_ = line.Close()
			close(closed)
		}()
		limit := time.NewTimer(closeLimit)
		defer limit.Stop()
		for wait := closed; running > 0 || wait != nil; {
			select {
			case <-fails:
				running--
			case <-wait:
				wait = nil
			case <-limit.C:
				p.log.Error("the panel's line does not close", "left", running)
				return
			}
		}
	}()

	s := session{number: rand.N(^uint32(0)) + 1, panel: p}
	heard, renew := time.NewTimer(silence), time.NewTicker(wire.RenewTime)
	defer heard.Stop()
	defer renew.Stop()
	var stuck time.Time // since when the line takes nothing; zero: it does
	send := func(b []byte) error {
		if b == nil {
			return nil
		}
		select {
		case <-frames: // the newest counts
			if stuck.IsZero() {
				stuck = time.Now()
			}
			if time.Since(stuck) >= writeLimit {
				return errBlocked
			}
		default:
			stuck = time.Time{}
		}
		frames <- b
		return nil
	}
	err = send(wire.Hello{Session: s.number}.Append(nil))
	for err == nil {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-fails:
			running--
		case <-heard.C:
			err = errSilent
		case status := <-statuses:
			var mine bool
			if mine, err = s.hear(status); mine {
				heard.Reset(silence)
			}
		case <-p.wake:
			err = send(s.lease(false))
		case <-renew.C:
			if !s.panel.alive() {
				s.panel.hung()
			}
			if s.answered {
				err = send(s.lease(true))
			} else {
				err = send(wire.Hello{Session: s.number}.Append(nil))
			}
		}
	}
	return s.answered, err
}

// read passes on the statuses that come, until the line fails or ctx ends.
func read(ctx context.Context, line io.Reader, to chan<- wire.Status) error {
	var d wire.Decoder
	buf := make([]byte, 256)
	for {
		n, err := line.Read(buf)
		for _, b := range buf[:n] {
			status, ok := d.Feed(b).(wire.Status)
			if !ok {
				continue
			}
			select {
			case to <- status:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return fmt.Errorf("read from the panel: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// write sends frames, until the line fails or ctx ends.
func write(ctx context.Context, line io.Writer, frames <-chan []byte) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-frames:
			if _, err := line.Write(b); err != nil {
				return fmt.Errorf("write to the panel: %w", err)
			}
		}
	}
}

// session is what is known of one session.
type session struct {
	panel    *Panel
	number   uint32
	sent     uint8 // the last lease's number
	asked    bool  // the last lease was for something
	answered bool
	last     wire.Status
}

// hear takes a status, and returns whether it is one of this session. An error ends the session.
func (s *session) hear(n wire.Status) (mine bool, err error) {
	if n.Session != s.number {
		if s.answered && n.Session == 0 {
			return false, errAgain // it has forgotten this session and its lease
		}
		return false, nil // of a session before, or of nobody
	}
	if s.answered && !wire.Newer(n.Sequence, s.last.Sequence) {
		return false, nil // late, or said twice
	}
	p, was := s.panel, s.last
	var e Event
	if s.answered {
		if n.No != was.No {
			e |= No
		}
		if n.Answer != was.Answer {
			e |= Answer
		}
		if n.Open != was.Open {
			e |= Closed
			if n.Open {
				e ^= Closed | Opened
			}
		}
		if n.Volume != was.Volume {
			e |= Turned
		}
	} else {
		e |= Came
		p.log.Info("there is a panel", "firmware", n.Firmware, "shutter_open", n.Open)
	}
	if n.Denied && !(s.answered && was.Denied) {
		e |= No // also one that was pressed while the line was away
	}
	s.answered, s.last = true, n
	p.mu.Lock()
	since := p.state.heldSince
	switch {
	case !n.Held:
		since = time.Time{}
	case e&Answer != 0: // also one whose release before it was not heard
		since = time.Now()
	}
	p.state = State{
		Here: true, Camera: n.Camera, Open: n.Open, Denied: n.Denied, NoHeld: n.NoHeld, Held: n.Held, Volume: int(n.Volume), Light: int(n.Light), Firmware: int(n.Firmware),
		heldSince: since,
	}
	ended := false
	if l := p.lease; l != nil {
		switch {
		case n.Denied:
			ended = p.endLocked(l, ErrDenied)
		case !n.Open:
			ended = p.endLocked(l, ErrShutter)
		case n.Camera:
			l.on = true
		case l.on:
			ended = p.endLocked(l, ErrNoPower)
		}
	}
	p.tell()
	p.mu.Unlock()
	if ended || e&Came != 0 {
		p.poke()
	}
	p.say(e)
	return true, nil
}

// lease is what is wanted now, as it goes over the line; nil if nothing is to be said. renewing: it may be what was said before.
func (s *session) lease(renewing bool) []byte {
	if !s.answered {
		return nil // it is said when the panel has answered
	}
	p := s.panel
	p.mu.Lock()
	want := wire.Lease{Session: s.number, Camera: p.lease != nil, Lamp: p.lamp}
	p.mu.Unlock()
	asks := want.Camera || want.Lamp != wire.LampOff
	if renewing && !asks && !s.asked && !s.last.Camera && !s.last.Denied {
		return nil // nothing is wanted, and the panel knows
	}
	s.asked = asks
	s.sent++
	want.Sequence = s.sent
	return want.Append(nil)
}
