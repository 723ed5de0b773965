package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const stepTime = 5 * time.Millisecond

// Simulator is a panel with hands on it. Its methods may be called from any goroutine; Run runs once at a time.
type Simulator struct {
	logic Logic
	shown func(Outputs)

	start sync.Once
	began time.Time // of its clock

	mu  sync.Mutex
	in  Inputs
	out Outputs
}

// New returns a panel that was just plugged in: its shutter is open and its knob full. shown is told what it switches whenever that changes; it may be nil, and must not block.
func New(logic Logic, shown func(Outputs)) *Simulator {
	if shown == nil {
		shown = func(Outputs) {}
	}
	return &Simulator{logic: logic, shown: shown, in: Inputs{Open: true, Volume: 100, Light: 128}}
}

// Change changes what is done to the panel.
func (s *Simulator) Change(f func(*Inputs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.in)
}

// Inputs returns what is done to the panel.
func (s *Simulator) Inputs() Inputs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in
}

// Outputs returns what the panel switches.
func (s *Simulator) Outputs() Outputs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out
}

// Run is the panel at a line until ctx ends. A line that ends is a cable that was pulled: the panel goes on without it, as a microcontroller with its own supply
// does. It closes the line at its end, if it can be.
func (s *Simulator) Run(ctx context.Context, line io.ReadWriter) error {
	s.start.Do(func() { s.began = time.Now() })
	received, frames := make(chan []byte, 16), make(chan []byte, 1)
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer func() {
		stop()
		if c, ok := line.(io.Closer); ok {
			_ = c.Close() // which ends what waits on it
		}
		group.Wait()
	}()
	group.Go(func() {
		for {
			b := make([]byte, 256)
			n, err := line.Read(b)
			if err != nil || ctx.Err() != nil {
				return
			}
			select {
			case received <- b[:n]:
			case <-ctx.Done():
				return
			}
		}
	})
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case b := <-frames:
				if _, err := line.Write(b); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
		}
	})
	ticks := time.NewTicker(stepTime)
	defer ticks.Stop()
	for {
		var b []byte
		select {
		case <-ctx.Done():
			return nil
		case b = <-received:
		case <-ticks.C:
		}
		s.mu.Lock()
		in, was := s.in, s.out
		in.Full = in.Full || len(frames) > 0
		out, frame := s.logic.Step(uint32(time.Since(s.began).Milliseconds()), in, b)
		s.out = out
		s.mu.Unlock()
		if frame != nil {
			frames <- frame
		}
		if out != was {
			s.shown(out)
		}
	}
}

// String says it in words.
func (o Outputs) String() string {
	word := map[bool]string{true: "on", false: "off"}
	return fmt.Sprintf("camera and light %s, call lamp %s", word[o.Camera], word[o.Lamp])
}
