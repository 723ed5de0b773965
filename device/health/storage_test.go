package health

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// TestDisk: a disk is read at each look, which wears nothing, and written once an hour; while something is wrong, or waits to be written, at each look.
func TestDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads, writes int
		var waiting, locked bool
		var writeErr error
		p := Disk(Drive{
			Write:    func([]byte) error { writes++; return writeErr },
			Read:     func() error { reads++; return nil },
			ReadOnly: func() (bool, error) { return locked, nil },
			Waiting:  func() bool { return waiting },
		})
		look := func(want ...protocol.Code) {
			t.Helper()
			found, err := p.Run(t.Context())
			if err != nil {
				t.Error(err)
			}
			var codes []protocol.Code
			for _, f := range found {
				codes = append(codes, f.Code)
			}
			if !slices.Equal(codes, want) {
				t.Errorf("found %q, want %q", codes, want)
			}
			<-time.After(p.Every)
		}
		for range 120 {
			look()
		}
		if reads != 120 || writes != 2 {
			t.Errorf("in two hours %d reads and %d writes", reads, writes)
		}
		waiting, writeErr = true, fmt.Errorf("sync disk-probe: %w", syscall.EIO)
		look(protocol.StorageFailing)
		writeErr = fmt.Errorf("write disk-probe: %w", syscall.ENOSPC)
		look(protocol.StorageFull)
		waiting, writeErr = false, fmt.Errorf("write disk-probe: %w", syscall.EROFS)
		look(protocol.StorageReadOnly) // still tried, because the last look found something
		writeErr, locked = nil, true
		look(protocol.StorageReadOnly)
		locked = false
		look()
		if before := writes; before != 6 {
			t.Errorf("%d writes, want one for each look that found something, and one that found that it is over", before)
		}
		look()
		if writes != 6 {
			t.Error("it is written to again although all is well")
		}
	})
}

// TestDiskUnknown: what cannot be looked at is said to be so, and is no finding.
func TestDiskUnknown(t *testing.T) {
	gone := errors.New("gone")
	d := drive(func([]byte) error { return nil })
	d.ReadOnly = func() (bool, error) { return false, gone }
	if found, err := Disk(d).Run(t.Context()); !errors.Is(err, gone) || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
}
