package button

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestKey(t *testing.T) {
	for _, name := range Keys() {
		code, ok := Key(name)
		if !ok || code <= 0 || code/8 >= answerSize {
			t.Errorf("%s is %d", name, code)
		}
		if (keys{but: []int{0, code}}).count(code) || (keys{letters: true, but: []int{code}}).count(code) {
			t.Errorf("%s takes calls and says no, too", name)
		}
	}
	for _, name := range []string{"", "KEY_POWER", "green"} {
		if _, ok := Key(name); ok {
			t.Errorf("%q was accepted", name)
		}
	}
}

// TestAwaitAnswer: the one key takes calls, and no other; and it is not the button.
func TestAwaitAnswer(t *testing.T) {
	green, _ := Key("KEY_GREEN")
	f1, _ := Key("KEY_F1")
	for _, test := range []struct {
		name  string
		await func(*Button, context.Context) error
		other uint16
		key   uint16
	}{
		{"answer", (*Button).AwaitAnswer, space, uint16(green)},
		{"button", (*Button).Await, uint16(green), space},
		{"button, not the curtain's", (*Button).Await, uint16(f1), space},
		{"button beside the curtain's", func(b *Button, ctx context.Context) error { return b.AwaitOrCurtain(ctx, func() {}) }, uint16(green), space},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "event0")
			thumb := device(t, path)
			b := New(path, green, f1)
			pressed := make(chan error, 1)
			go func() { pressed <- test.await(b, t.Context()) }()
			for _, e := range [][]byte{event(typeKey, test.other, 1), event(typeKey, test.key, 0), event(typeKey, test.key, 2)} {
				if _, err := thumb.Write(e); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case err := <-pressed:
				t.Fatalf("another key counts: %v", err)
			default:
			}
			if _, err := thumb.Write(event(typeKey, test.key, 1)); err != nil {
				t.Fatal(err)
			}
			if err := <-pressed; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCanAnswer(t *testing.T) {
	folder := t.TempDir()
	device(t, filepath.Join(folder, "event0"))
	with := func(change func(*Button)) *Button {
		b := &Button{device: "auto", folder: folder, answer: 28, has: func(*os.File, int) bool { return true }}
		change(b)
		return b
	}
	for name, test := range map[string]struct {
		b    *Button
		want bool
	}{
		"the key is there":  {with(func(*Button) {}), true},
		"no key is named":   {with(func(b *Button) { b.answer = 0 }), false},
		"no button at all":  {with(func(b *Button) { b.device = "none" }), false},
		"no such key":       {with(func(b *Button) { b.has = func(*os.File, int) bool { return false } }), false},
		"nothing connected": {with(func(b *Button) { b.folder = t.TempDir() }), false},
	} {
		if got := test.b.CanAnswer(); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, b := range []*Button{New("auto", 0, 0), New("none", 28, 59)} {
		if err := b.AwaitAnswer(t.Context()); !errors.Is(err, ErrNone) || b.HasCurtain() {
			t.Error(err)
		}
	}
}

// TestCurtainKey: the one key draws, as often as it is pressed and no oftener, until another says no.
func TestCurtainKey(t *testing.T) {
	green, _ := Key("KEY_GREEN")
	f1, _ := Key("KEY_F1")
	path := filepath.Join(t.TempDir(), "event0")
	thumb := device(t, path)
	b := New(path, green, f1)
	drawn := 0
	over := make(chan error, 1)
	go func() { over <- b.AwaitOrCurtain(t.Context(), func() { drawn++ }) }()
	var events []byte
	for _, e := range []struct {
		code  int
		value int32
	}{{f1, 1}, {f1, 2}, {f1, 0}, {green, 1}, {f1, 1}, {f1, 0}, {space, 1}, {f1, 1}} {
		events = append(events, event(typeKey, uint16(e.code), e.value)...)
	}
	if _, err := thumb.Write(events); err != nil {
		t.Fatal(err)
	}
	if err := <-over; err != nil || drawn != 2 {
		t.Errorf("drawn %d times, %v", drawn, err)
	}
}
