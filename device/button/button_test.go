package button

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func event(kind, code uint16, value int32) []byte {
	b := make([]byte, eventSize-8, eventSize)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, code)
	return binary.NativeEndian.AppendUint32(b, uint32(value))
}

const space = 57

func TestIsPress(t *testing.T) {
	syn := event(0, 0, 0)
	for _, c := range []struct {
		name   string
		events [][]byte
		want   bool
	}{
		{"nothing", nil, false},
		{"press", [][]byte{event(4, 4, 57), event(typeKey, space, 1), syn}, true},
		{"release", [][]byte{event(typeKey, space, 0), syn}, false},
		{"repetition", [][]byte{event(typeKey, space, 2), syn}, false},
		{"power", [][]byte{event(typeKey, keyPower, 1), syn}, false},
		{"sleep", [][]byte{event(typeKey, keySleep, 1), syn}, false},
		{"touch", [][]byte{event(typeKey, 0x14a, 1), syn}, false},
		{"mouse button", [][]byte{event(typeKey, 0x110, 1), syn}, false},
		{"movement", [][]byte{event(2, 0, 1), syn}, false},
		{"BTN_0 of a GPIO", [][]byte{syn, event(typeKey, 0x100, 1)}, true},
		{"half an event", [][]byte{event(typeKey, space, 1)[:eventSize-1]}, false},
	} {
		var all []byte
		for _, e := range c.events {
			all = append(all, e...)
		}
		if got := (keys{}).pressed(all); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// TestKeyboard: of a keyboard only Enter counts.
func TestKeyboard(t *testing.T) {
	for code, want := range map[uint16]bool{keyEnter: true, keypad: true, space: false, keyQ: false, keyPower: false} {
		if got := (keys{letters: true}).pressed(event(typeKey, code, 1)); got != want {
			t.Errorf("key %d: got %v", code, got)
		}
	}
}

func TestAnyKey(t *testing.T) {
	with := func(codes ...int) []byte {
		b := make([]byte, bitsSize)
		for _, c := range codes {
			b[c/8] |= 1 << (c % 8)
		}
		return b
	}
	if anyKey(with()) || anyKey(with(keyPower, keySleep)) || !anyKey(with(keyPower, space)) || !anyKey(with(0x100)) {
		t.Error("wrong")
	}
	row := with(keyQ, 17, 18, 19, 20, 21, 22, 23, 24, keyP, keyEnter)
	if !allLetters(row) || allLetters(with(keyEnter, space)) || allLetters(with(keyQ, keyP)) {
		t.Error("letters")
	}
}

// device makes a pipe in the place of an input device. What is written to the returned file is an event of it.
func device(t *testing.T, path string) *os.File {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // so that a reader sees no end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, f *os.File, b []byte) {
	t.Helper()
	if _, err := f.Write(b); err != nil {
		t.Error(err)
	}
}

func TestAwait(t *testing.T) {
	folder := t.TempDir()
	keys, mouse := device(t, filepath.Join(folder, "event3")), device(t, filepath.Join(folder, "event1"))
	for name, b := range map[string]*Button{
		"auto":    {device: "auto", folder: folder, hasKey: func(f *os.File) bool { return filepath.Base(f.Name()) == "event3" }, name: name},
		"by path": {device: keys.Name(), name: name},
	} {
		t.Run(name, func(t *testing.T) {
			if got := b.What(); got != "event3" { // which no driver has given a name
				t.Errorf("it is %q", got)
			}
			done := make(chan error, 1)
			go func() { done <- b.Await(t.Context()) }()
			write(t, mouse, event(typeKey, space, 1)) // not looked at
			write(t, keys, append(event(typeKey, space, 0), event(typeKey, keyPower, 1)...))
			select {
			case err := <-done:
				t.Fatalf("ended without a press: %v", err)
			default:
			}
			write(t, keys, event(typeKey, space, 1))
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNobodyPresses(t *testing.T) {
	folder := t.TempDir()
	device(t, filepath.Join(folder, "event0"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, b := range map[string]*Button{
		"auto":      {device: "auto", folder: folder, hasKey: func(*os.File) bool { return true }, name: name},
		"no device": {device: filepath.Join(folder, "event7")},
		"no folder": {device: "auto", folder: filepath.Join(folder, "none")},
	} {
		if err := b.Await(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := New("none", 0, 0).Await(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("none: got %v", err)
	}
}

// TestHold: only a key that stays down for long enough counts, and one key is not held by another.
func TestHold(t *testing.T) {
	const long = 200 * time.Millisecond
	path := filepath.Join(t.TempDir(), "event0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	thumb, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer thumb.Close()
	press := func(events ...[]byte) {
		for _, e := range events {
			if _, err := thumb.Write(e); err != nil {
				t.Error(err)
			}
		}
	}
	held := make(chan error, 1)
	go func() { held <- New(path, 0, 0).Hold(t.Context(), long) }()
	for _, events := range [][][]byte{
		{event(typeKey, space, 1), event(typeKey, space, 2), event(typeKey, space, 0)}, // a short press
		{event(typeKey, keyPower, 1)},
		{event(typeKey, space, 2)},
		{event(typeKey, space, 0)},
	} {
		press(events...)
		select {
		case err := <-held:
			t.Fatalf("held by %v: %v", events, err)
		case <-time.After(2 * long):
		}
	}
	began := time.Now()
	press(event(typeKey, space, 1), event(typeKey, space+1, 1), event(typeKey, space+1, 0), event(typeKey, space, 2))
	if err := <-held; err != nil || time.Since(began) < long {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := New(path, 0, 0).Hold(ctx, long); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody presses: %v", err)
	}
}
