// Package cec wakes the television that is the terminal's screen, by CEC (HDMI 1.4b, supplement 1), which is a bus of one wire in the HDMI cable.
//
// A Television is told whether somebody is called. When that begins it asks the set for its power, has it show pictures (<Image View On>, <Active Source>), and when it is over
// gives it back: a set that was asleep sleeps again (<Standby>, to the set alone) if that is wanted, one that somebody was watching is left to its own
// programme (<Inactive Source>).
//
// Guarantees:
//   - Nothing is opened and nothing is sent before somebody is called. So a set is never woken by a terminal that starts, and no other device of the home is told anything.
//   - A set that was on is never switched off.
//   - Show never blocks, and nothing of a call waits for the bus: a set that does not answer, a driver that fails or hangs costs the waking and nothing else.
//
// Adapter is the bus: System is the kernel's (linux/cec.h), package cectest has one for tests and the contract that both keep.
package cec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Opcode is a message's (CEC table 7 to 23).
type Opcode byte

// What is said here.
const (
	ImageViewOn       Opcode = 0x04 // to the set: show pictures
	Standby           Opcode = 0x36 // to the set: sleep
	ActiveSource      Opcode = 0x82 // to all: the pictures come from this physical address
	GivePowerStatus   Opcode = 0x8f
	ReportPowerStatus Opcode = 0x90 // 0 on, 1 asleep, 2 on its way to on, 3 on its way to sleep
	InactiveSource    Opcode = 0x9d // to the set: no pictures come from this physical address any more
)

// Logical addresses.
const (
	Set Address = 0  // the television
	All Address = 15 // everybody
)

// Address is a logical address.
type Address byte

var (
	// ErrNoAnswer: nobody has taken a message, or answered it in time.
	ErrNoAnswer = errors.New("the television does not answer")
	// ErrNoAddress: this end of the bus has no place there: no cable, or a set without CEC.
	ErrNoAddress = errors.New("no place on the bus: no television is connected, or it has no CEC")
	// ErrHung: a driver does not come back.
	ErrHung = errors.New("the CEC driver hangs")
)

// Adapter is one end of the bus. It is used by one goroutine at a time.
type Adapter interface {
	// Claim takes a place on the bus as a device that plays, and returns the physical address that the cable gives it.
	Claim() (physical uint16, err error)
	// Send sends a message and returns when it was taken, or with ErrNoAnswer.
	Send(to Address, op Opcode, operands ...byte) error
	// Ask sends a message to the set and returns the operands of the answer.
	Ask(op, answer Opcode) ([]byte, error)
	// Close leaves the bus.
	Close() error
}

const (
	// patience is how long the adapter may take for all that is said at once.
	patience = 15 * time.Second
	// lull is for how long nobody has to be called before the set is given back: "ended" is read, and a call that is rung again finds it awake.
	lull = 20 * time.Second
)

// Television is the set. Show may be called from any goroutine.
type Television struct {
	open  func() (Adapter, error)
	sleep bool
	log   *slog.Logger
	wake  chan struct{}

	mu     sync.Mutex
	called bool
}

// New returns a Television behind what open opens. sleep tells whether a set that was asleep is sent to sleep again. Nothing is opened before somebody is called.
func New(open func() (Adapter, error), sleep bool, log *slog.Logger) *Television {
	return &Television{open: open, sleep: sleep, log: log, wake: make(chan struct{}, 1)}
}

// Show tells whether somebody is called, or talks. It does not block.
func (t *Television) Show(called bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	was := t.called
	t.called = called
	t.mu.Unlock()
	if was == called {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *Television) isCalled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.called
}

// taken is a set that shows our pictures.
type taken struct {
	adapter  Adapter
	physical uint16
	asleep   bool // it was
}

// Run wakes the set and gives it back, until ctx ends.
func (t *Television) Run(ctx context.Context) error {
	var now *taken
	var since <-chan time.Time // the lull's end
	for {
		select {
		case <-ctx.Done():
			if now != nil {
				t.within(func() error { return t.giveBack(now) })
			}
			return nil
		case <-t.wake:
			if !t.isCalled() {
				if now != nil {
					since = time.After(lull)
				}
				continue
			}
			since = nil
			if now == nil {
				var took *taken
				if !t.within(func() (err error) { took, err = t.take(); return err }) {
					return t.leaveAlone(ctx)
				}
				now = took
			}
		case <-since:
			since = nil
			if last := now; last != nil {
				now = nil
				if !t.within(func() error { return t.giveBack(last) }) {
					return t.leaveAlone(ctx)
				}
			}
		}
	}
}

// within does something that a driver may hang in; false if it does.
func (t *Television) within(do func() error) bool {
	done := make(chan error, 1)
	go func() { done <- do() }()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case err := <-done:
		if err != nil {
			t.log.Warn("the television is not told", "error", err)
		}
		return true
	case <-limit.C:
		t.log.Error("the television is left alone until the program starts again", "error", ErrHung)
		return false
	}
}

// leaveAlone waits for ctx's end: whoever hangs in the driver has what belongs to this goroutine.
func (t *Television) leaveAlone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// take has the set show our pictures. nil if there is none to be had.
func (t *Television) take() (*taken, error) {
	adapter, err := t.open()
	if err != nil {
		return nil, err
	}
	physical, err := adapter.Claim()
	if err != nil {
		return nil, errors.Join(err, adapter.Close())
	}
	// A set that does not tell is taken for one that was on: it is not switched off.
	status, err := adapter.Ask(GivePowerStatus, ReportPowerStatus)
	asleep := err == nil && len(status) > 0 && (status[0] == 1 || status[0] == 3)
	if err := adapter.Send(Set, ImageViewOn); err != nil {
		return nil, errors.Join(fmt.Errorf("wake the television: %w", err), adapter.Close())
	}
	if err := adapter.Send(All, ActiveSource, byte(physical>>8), byte(physical)); err != nil {
		t.log.Warn("the television may show something else", "error", err)
	}
	t.log.Info("the television shows the terminal", "was_asleep", asleep)
	return &taken{adapter, physical, asleep}, nil
}

// giveBack leaves the set as it was.
func (t *Television) giveBack(s *taken) error {
	var err error
	switch {
	case !s.asleep:
		err = s.adapter.Send(Set, InactiveSource, byte(s.physical>>8), byte(s.physical))
	case t.sleep:
		err = s.adapter.Send(Set, Standby)
	}
	return errors.Join(err, s.adapter.Close())
}
