// Package cectest has a CEC bus for tests, with a television on it, and the contract that every adapter keeps.
package cectest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"vindu/device/cec"
)

// Rig is a bus with a television on it.
type Rig interface {
	// Open opens this end.
	Open() (cec.Adapter, error)
	// Sleeps has the television be asleep, or on.
	Sleeps(asleep bool)
	// Heard returns what the television was told since it was asked last, such as "4 to 0: 04" and "4 to 15: 82 1000", without questions; in the order in which it came.
	Heard() []string
}

// Contract plays what an adapter has to do.
func Contract(t *testing.T, rig Rig) {
	for _, asleep := range []bool{true, false} {
		t.Run(fmt.Sprintf("a set that is asleep %v", asleep), func(t *testing.T) {
			rig.Sleeps(asleep)
			a, err := rig.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := a.Send(cec.Set, cec.ImageViewOn); !errors.Is(err, cec.ErrNoAddress) {
				t.Errorf("without a place on the bus: %v", err)
			}
			physical, err := a.Claim()
			if err != nil || physical != 0x1000 {
				t.Fatalf("%#x, %v", physical, err)
			}
			status, err := a.Ask(cec.GivePowerStatus, cec.ReportPowerStatus)
			if want := map[bool]byte{true: 1}[asleep]; err != nil || !slices.Equal(status, []byte{want}) {
				t.Errorf("power %v, %v", status, err)
			}
			rig.Heard()
			if err := errors.Join(a.Send(cec.Set, cec.ImageViewOn), a.Send(cec.All, cec.ActiveSource, 0x10, 0), a.Send(cec.Set, cec.Standby), a.Send(cec.Set, cec.InactiveSource, 0x10, 0)); err != nil {
				t.Error(err)
			}
			want := []string{"4 to 0: 04", "4 to 15: 821000", "4 to 0: 36", "4 to 0: 9d1000"}
			var heard []string
			for end := time.Now().Add(10 * time.Second); len(heard) < len(want) && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
				heard = append(heard, rig.Heard()...)
			}
			if !slices.Equal(heard, want) {
				t.Errorf("the television heard %q, want %q", heard, want)
			}
			if err := a.Send(cec.Address(9), cec.Standby); !errors.Is(err, cec.ErrNoAnswer) {
				t.Errorf("to nobody: %v", err)
			}
		})
	}
}

// Bus is a Rig of memory. The zero Bus has a television that is on.
type Bus struct {
	mu     sync.Mutex
	asleep bool
	silent bool
	heard  []string
	opens  int
	hang   chan struct{}
}

// Sleeps implements Rig.
func (b *Bus) Sleeps(asleep bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asleep = asleep
}

// Silence has nobody be at the other end.
func (b *Bus) Silence() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.silent = true
}

// Hang has whatever is asked of the bus hang until the channel is closed.
func (b *Bus) Hang(until chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hang = until
}

// Heard implements Rig.
func (b *Bus) Heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	heard := b.heard
	b.heard = nil
	return heard
}

// Opened tells how many ends are open.
func (b *Bus) Opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opens
}

// Open implements Rig.
func (b *Bus) Open() (cec.Adapter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	return &end{bus: b}, nil
}

// end is this end of a Bus.
type end struct {
	bus     *Bus
	claimed bool
	closed  bool
}

func (e *end) Claim() (uint16, error) {
	e.wait()
	e.claimed = true
	return 0x1000, nil
}

func (e *end) wait() {
	e.bus.mu.Lock()
	hang := e.bus.hang
	e.bus.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

func (e *end) Send(to cec.Address, op cec.Opcode, operands ...byte) error {
	e.wait()
	e.bus.mu.Lock()
	defer e.bus.mu.Unlock()
	switch {
	case !e.claimed:
		return cec.ErrNoAddress
	case e.bus.silent && to != cec.All, to != cec.Set && to != cec.All:
		return cec.ErrNoAnswer
	}
	e.bus.heard = append(e.bus.heard, fmt.Sprintf("4 to %d: %02x%x", to, byte(op), operands))
	switch {
	case op == cec.ImageViewOn:
		e.bus.asleep = false
	case op == cec.Standby:
		e.bus.asleep = true
	}
	return nil
}

func (e *end) Ask(cec.Opcode, cec.Opcode) ([]byte, error) {
	e.wait()
	e.bus.mu.Lock()
	defer e.bus.mu.Unlock()
	if e.bus.silent {
		return nil, cec.ErrNoAnswer
	}
	if e.bus.asleep {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

func (e *end) Close() error {
	e.bus.mu.Lock()
	defer e.bus.mu.Unlock()
	if !e.closed {
		e.closed = true
		e.bus.opens--
	}
	return nil
}
