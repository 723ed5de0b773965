//go:build lab

package cec_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"vindu/device/cec"
	"vindu/device/cec/cectest"
)

// TestRealBus plays the contract on the kernel's adapters: one end is the terminal's, at the other the test is a television.
func TestRealBus(t *testing.T) {
	paths, err := filepath.Glob("/dev/cec*")
	if err != nil || len(paths) != 2 {
		t.Fatalf("%v, %v", paths, err)
	}
	rig := &kernel{t: t}
	var television *cec.System
	for _, path := range paths {
		s, err := cec.OpenSystem(path)
		if err != nil {
			t.Fatal(err)
		}
		physical, err := s.Physical()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is at %#x", path, physical)
		if physical == 0 { // the set's own
			television = s
			continue
		}
		rig.path = path
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if television == nil || rig.path == "" {
		t.Fatal("the two ends are not told apart")
	}
	if err := television.BeSet(); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- rig.listen(television, stop) }()
	cectest.Contract(t, rig)
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := television.Close(); err != nil {
		t.Error(err)
	}
}

// kernel is the rig of the kernel's bus.
type kernel struct {
	t    *testing.T
	path string

	mu     sync.Mutex
	asleep bool
	heard  []string
}

func (k *kernel) Open() (cec.Adapter, error) { return cec.OpenSystem(k.path) }

func (k *kernel) Sleeps(asleep bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asleep = asleep
}

func (k *kernel) Heard() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	heard := k.heard
	k.heard = nil
	return heard
}

// listen is the television.
func (k *kernel) listen(s *cec.System, stop chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		m, err := s.Receive()
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if err := k.hear(s, m); err != nil {
			return err
		}
	}
}

func (k *kernel) hear(s *cec.System, m []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	from, op := m[0]>>4, cec.Opcode(m[1])
	switch op {
	case cec.GivePowerStatus:
		return s.Send(cec.Address(from), cec.ReportPowerStatus, map[bool]byte{true: 1}[k.asleep])
	case cec.ImageViewOn, cec.ActiveSource, cec.Standby, cec.InactiveSource:
		k.heard = append(k.heard, fmt.Sprintf("%d to %d: %02x%x", from, m[0]&15, byte(op), m[2:]))
	default:
		k.t.Logf("the television also heard %x", m)
	}
	return nil
}
