package state_test

import (
	"os"
	"path/filepath"
	"testing"

	"vindu/device/state"
	"vindu/protocol"
)

// TestReach: a folder's disk is read, and one from which nothing can be read is said to be that. That errors of a disk come through, and that a file system can become
// read-only, is seen in the lab.
func TestReach(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	d, err := state.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Reach(); err != nil {
		t.Error(err)
	}
	if locked, err := d.ReadOnly(); locked || err != nil {
		t.Errorf("read-only: %v, %v", locked, err)
	}
	if err := os.Remove(filepath.Join(folder, "lock")); err != nil {
		t.Fatal(err)
	}
	if err := d.Reach(); protocol.CodeOf(err) != protocol.StorageUnreadable {
		t.Errorf("without its files: %v with code %q", err, protocol.CodeOf(err))
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadOnly(); protocol.CodeOf(err) != protocol.StorageUnreadable {
		t.Errorf("without its folder: %v with code %q", err, protocol.CodeOf(err))
	}
}
