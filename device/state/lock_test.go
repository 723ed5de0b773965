package state

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestRunning: whether an agent holds the folder is seen without keeping one from beginning.
func TestRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		is := func(what string, want bool) {
			t.Helper()
			if got, err := Running(path); err != nil || got != want {
				t.Errorf("%s: %v, %v", what, got, err)
			}
		}
		is("no folder", false)
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		is("held", true)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		is("let go", false)
		f, err := os.Open(filepath.Join(path, "lock"))
		if err != nil {
			t.Fatal(err)
		}
		if err := flock(f, syscall.LOCK_SH); err != nil { // somebody looks at this instant
			t.Fatal(err)
		}
		time.AfterFunc(lockPause+time.Millisecond, func() { _ = f.Close() })
		if d, err = Open(path); err != nil {
			t.Fatalf("while somebody looks: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
