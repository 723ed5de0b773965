package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("VINDU_TEST_HOLD"); path != "" {
		hold(path)
	}
	goleak.VerifyTestMain(m)
}

// hold is the other agent of TestSecondAgent: it opens the state folder and waits for its standard input to end.
func hold(path string) {
	if _, err := state.Open(path); err != nil {
		fmt.Println("cannot open:", err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

func open(t *testing.T) *state.Dir {
	t.Helper()
	d, err := state.Open(filepath.Join(t.TempDir(), "vindu"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestFiles(t *testing.T) {
	d := open(t)
	if _, err := d.Read("identity/key.pem", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading what is not there: %v", err)
	}
	for _, content := range []string{"first", "second"} {
		if err := d.Write("identity/key.pem", []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := d.Read("identity/key.pem", 10)
		if err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if _, err := d.Read("identity/key.pem", 5); !errors.Is(err, state.ErrTooLarge) {
		t.Errorf("reading what is too large: %v", err)
	}
	for path, want := range map[string]fs.FileMode{"": 0o700, "identity": 0o700, "identity/key.pem": 0o600} {
		info, err := os.Stat(filepath.Join(d.Path(), path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%q has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(d.Path(), "identity", "*.new")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v %v", left, err)
	}
	for range 2 {
		if err := d.Remove("identity/key.pem"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	for _, name := range []string{"", ".", "..", "../x", "/x", "a/b/c", "a//b", "a.new"} {
		if err := d.Write(name, nil); err == nil {
			t.Errorf("wrote to %q", name)
		}
		if _, err := d.Read(name, 1); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read from %q: %v", name, err)
		}
	}
}

func TestOpenTightensMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vindu")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path string }{
		{"no folder", ""},
		{"a file", file},
		{"below a file", filepath.Join(file, "vindu")},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := state.Open(c.path)
			if protocol.CodeOf(err) != protocol.StorageUnreadable || !strings.Contains(err.Error(), c.path) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSecondAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vindu")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "VINDU_TEST_HOLD="+path)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 5)
	if _, err := out.Read(line); err != nil || string(line) != "open\n" {
		t.Fatalf("the other agent said %q, %v", line, err)
	}
	_, err = state.Open(path)
	if !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", other.Process.Pid)) {
		t.Errorf("got %v", err)
	}
	// However the other ends, the folder is free.
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
	in.Close()
	d, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// TestPowerCut replaces a file with the power cut before each step: it is the old or the new one, and the new one
// for certain once Write has returned.
func TestPowerCut(t *testing.T) {
	older, newer := bytes.Repeat([]byte("old "), 50), bytes.Repeat([]byte("newer"), 80)
	for _, first := range []struct {
		name    string
		content []byte // nil: there is none yet
	}{{"new file", nil}, {"replaced file", older}} {
		for _, loss := range statetest.Losses {
			t.Run(fmt.Sprintf("%s, %s lost", first.name, loss), func(t *testing.T) {
				for cut, done := 0, false; !done; cut++ {
					disk := statetest.New()
					d, err := state.OpenOn(disk, "/state")
					if err != nil {
						t.Fatal(err)
					}
					if first.content != nil {
						if err := d.Write("identity/x", first.content); err != nil {
							t.Fatal(err)
						}
					}
					disk.CutBefore(disk.Steps() + cut)
					writeErr := d.Write("identity/x", newer)
					done = writeErr == nil
					found, err := state.OpenOn(disk.After(loss), "/state")
					if err != nil {
						t.Fatal(err)
					}
					got, err := found.Read("identity/x", 1000)
					if errors.Is(err, fs.ErrNotExist) {
						got, err = nil, nil
					}
					if err != nil {
						t.Fatal(err)
					}
					isOld, isNew := bytes.Equal(got, first.content), bytes.Equal(got, newer)
					if done && !isNew || !isOld && !isNew {
						t.Errorf("cut before step %d (%v): found %d bytes", cut, writeErr, len(got))
					}
					if err := found.Write("identity/x", older); err != nil {
						t.Errorf("cut before step %d: cannot write again: %v", cut, err)
					}
				}
			})
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		kind string
		err  error
		want protocol.Code
	}{
		{"write", syscall.ENOSPC, protocol.StorageFull},
		{"sync", syscall.EDQUOT, protocol.StorageFull},
		{"create", syscall.EACCES, protocol.StorageUnreadable},
		{"rename", syscall.EROFS, protocol.StorageUnreadable},
		{"syncdir", syscall.EIO, protocol.StorageUnreadable},
	} {
		t.Run(c.kind, func(t *testing.T) {
			disk := statetest.New()
			d, err := state.OpenOn(disk, "/state")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Write("x", []byte("old")); err != nil {
				t.Fatal(err)
			}
			disk.Fail(c.kind, c.err)
			err = d.Write("x", []byte("new"))
			if protocol.CodeOf(err) != c.want || !strings.Contains(err.Error(), "/state") || !errors.Is(err, c.err) {
				t.Errorf("got %v with code %q", err, protocol.CodeOf(err))
			}
			disk.Fail(c.kind, nil)
			if got, err := d.Read("x", 10); c.kind != "syncdir" && string(got) != "old" || err != nil {
				t.Errorf("after the failure: %q, %v", got, err)
			}
		})
	}
}

func TestWipe(t *testing.T) {
	d := open(t)
	if err := errors.Join(d.Wipe("clock"), d.Wipe("identity/key.pem")); err != nil {
		t.Errorf("nothing to wipe: %v", err)
	}
	if err := d.Wipe("../x"); err == nil {
		t.Error("a name outside the folder was accepted")
	}
	content := bytes.Repeat([]byte("secret "), 1000)
	if err := d.Write("identity/key.pem", content); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.Path(), "identity", "key.pem")
	// Other names for the same content show what was left in its place.
	for _, name := range []string{path, path + ".new"} {
		if name != path {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(name, name+"-seen"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Wipe("identity/key.pem"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".new"} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
		left, err := os.ReadFile(name + "-seen")
		if err != nil || len(left) != len(content) || bytes.Contains(left, []byte("secret")) {
			t.Errorf("%s was not overwritten: %v, %d bytes", name, err, len(left))
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if !d.Has("identity/key.pem") {
		t.Error("something that cannot be read counts as nothing")
	}
	if err := d.Wipe("identity/key.pem"); protocol.CodeOf(err) != protocol.StorageUnreadable {
		t.Errorf("a folder in its place: %v", err)
	}
}
