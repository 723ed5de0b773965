package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vindu/protocol"
	"vindu/provisioning/session/sessiontest"
)

var colours = []option{{"Red", "red"}, {"Green", "green"}, {"Blue", "blue"}}

func TestLines(t *testing.T) {
	tests := map[string]struct {
		typed  string
		ask    func(ctx context.Context, a asker) (string, error)
		want   string
		within string // what is shown
	}{
		"a number":             {"2\n", choose(""), "green", "1  Red"},
		"Enter takes a preset": {"\n", choose("blue"), "blue", "Number [3]"},
		"Enter takes nothing":  {"\n1\n", choose(""), "red", "Type a number from 1 to 3"},
		"nonsense first":       {"4\nx\n0\n3\n", choose("red"), "blue", "Type a number from 1 to 3"},
		"without a last line":  {"2", choose(""), "green", ""},
		"a text":               {"  hello \n", text(""), "hello", "> "},
		"a text kept":          {"\n", text("as it was"), "as it was", "[as it was]"},
		"a text that is wrong": {"\nright\n", text(""), "right", "Type something."},
		"a secret":             {"p4ssword \n", func(ctx context.Context, a asker) (string, error) { return a.secret(ctx, question{}, nil) }, "p4ssword ", "not shown"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := test.ask(t.Context(), newLines(strings.NewReader(test.typed), &out, nil))
			if err != nil || got != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
			if !strings.Contains(out.String(), test.within) || strings.Contains(out.String(), "\x1b") {
				t.Errorf("shown: %q", out.String())
			}
		})
	}
}

func choose(preset string) func(context.Context, asker) (string, error) {
	return func(ctx context.Context, a asker) (string, error) {
		return a.choose(ctx, question{title: "Colour?"}, preset, colours...)
	}
}

func text(preset string) func(context.Context, asker) (string, error) {
	return func(ctx context.Context, a asker) (string, error) {
		return a.text(ctx, question{title: "Name?"}, preset, notEmpty)
	}
}

func TestNobodyAnswers(t *testing.T) {
	for name, ask := range map[string]func(context.Context, asker) (string, error){"choose": choose("red"), "text": text("x")} {
		var own *failure
		if _, err := ask(t.Context(), newLines(strings.NewReader(""), io.Discard, nil)); !errors.Is(err, errStopped) {
			t.Errorf("%s at the end of input: %v", name, err)
		}
		if _, err := ask(t.Context(), nobody{}); !errors.Is(err, errUsage) || !errors.As(err, &own) {
			t.Errorf("%s of nobody: %v", name, err)
		}
		in, out := io.Pipe()
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := ask(ctx, newLines(in, io.Discard, nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s after an interrupt: %v", name, err)
		}
		out.Close()
	}
}

// screen is what a form draws on; waiting until it shows something replaces waiting for some time.
type screen struct {
	mu   sync.Mutex
	some *sync.Cond
	text bytes.Buffer
}

func newScreen() *screen {
	s := new(screen)
	s.some = sync.NewCond(&s.mu)
	return s
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.some.Broadcast()
	return s.text.Write(b)
}

// shows waits until text is drawn, and forgets what was drawn until then.
func (s *screen) shows(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !strings.Contains(s.text.String(), text) {
		s.some.Wait()
	}
	s.text.Reset()
}

// TestForms types at a terminal. The first key of a form must not be lost to the form before it.
func TestForms(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	keyboard, name := pty(t)
	in, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	if err := unix.IoctlSetWinsize(int(in.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	out, drawn := newScreen(), make(chan struct{})
	go func() {
		defer close(drawn)
		_, _ = io.Copy(out, keyboard) // until the terminal is closed
	}()
	a := newForms(in, in, nil)
	const down, enter, interrupt = "\x1b[B", "\r", "\x03"
	for range 3 {
		typed := make(chan error, 1)
		go func() {
			out.shows("Colour?")
			_, err := keyboard.WriteString(down)
			out.shows("Green")
			_, err2 := keyboard.WriteString(enter)
			typed <- errors.Join(err, err2)
		}()
		if got, err := a.choose(t.Context(), question{title: "Colour?"}, "", colours...); err != nil || got != "green" {
			t.Fatalf("got %q, %v", got, err)
		}
		if err := <-typed; err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		text string
		err  error
	}
	asked := make(chan answer)
	go func() {
		text, err := a.secret(t.Context(), question{title: "Password?"}, notEmpty)
		asked <- answer{text, err}
		text, err = a.text(t.Context(), question{title: "Name?"}, "", nil)
		asked <- answer{text, err}
	}()
	out.shows("Password?")
	if _, err := keyboard.WriteString("correct horse\r"); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got.err != nil || got.text != "correct horse" {
		t.Errorf("got %+v", got)
	}
	out.mu.Lock()
	if strings.Contains(out.text.String(), "horse") {
		t.Error("the password is shown")
	}
	out.mu.Unlock()
	out.shows("Name?")
	if _, err := keyboard.WriteString(interrupt); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; !errors.Is(got.err, errStopped) {
		t.Errorf("after Ctrl-C: %+v", got)
	}
	keyboard.Close() // hangs up
	<-a.(forms).keys.ended
	<-drawn
}

// TestAsked answers every question of a set-up in plain lines.
func TestAsked(t *testing.T) {
	b := newBench(t)
	b.Lock()
	b.Checks[2] = protocol.Check{Name: "clinic.latency", State: protocol.CheckFailed, Figure: "812 ms", Code: protocol.QualityDelay}
	b.Unlock()
	mandate, err := os.ReadFile(b.path("mandate"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.folder + "/mandate.txt"); err != nil {
		t.Fatal(err)
	}
	b.world.interactive = true
	b.world.in = strings.NewReader(strings.Join([]string{
		"vindu-mandate-1.wrong", string(mandate), // the authorisation
		"2",                                // the code is the same
		"3",                                // English
		"1", "1", "short", "correct horse", // Wi-Fi, the first that is heard, its password
		"nonsense", b.path("voucher"), // a file will do
		"1", "2", // check again; then as it is
	}, "\n") + "\n")
	if status := b.run(t, "--plain"); status != exitChecks {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	b.golden(t, "asked.txt", b.err.Bytes())
	b.Lock()
	defer b.Unlock()
	if len(b.Spent) != 1 || len(b.HandedOver) != 1 || b.Language != "en" || string(b.Networks[0].Password) != "correct horse" {
		t.Errorf("terminal: %+v", b.Log)
	}
	if b.HandedOver[0].Technician != sessiontest.Person {
		t.Errorf("technician: %+v", b.HandedOver[0].Technician)
	}
}
