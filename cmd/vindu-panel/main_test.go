package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/device/panel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCommand is a terminal at the program's pseudo-terminal, and somebody who types: keys are presses, and what is switched is printed.
func TestCommand(t *testing.T) {
	link := filepath.Join(t.TempDir(), "panel")
	keys, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	printed, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- command(t.Context(), []string{"-link", link}, keys, out)
		out.Close()
	}()
	lines := bufio.NewScanner(printed)
	await := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("%q was never printed", want)
	}
	press := func(k string) {
		t.Helper()
		if _, err := io.WriteString(typed, k); err != nil {
			t.Fatal(err)
		}
	}
	await("panel at /dev/pts/")
	await("n no")

	p := panel.New(panel.Port(link), func() bool { return true }, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	hear := func(want panel.Event) {
		t.Helper()
		for {
			select {
			case e := <-p.Events():
				if e&want != 0 {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("never %b", want)
			}
		}
	}
	hear(panel.Came)
	if !p.State().Open {
		hear(panel.Opened)
	}
	press("a")
	await("answer")
	hear(panel.Answer)
	press("-")
	await("knob 90 %")
	hear(panel.Turned)
	lease, err := p.Camera(ctx)
	if err != nil {
		t.Fatal(err)
	}
	await("camera and light on")
	press("u")
	await("pulled out")
	await("camera and light off")
	<-lease.Lost()
	press("u")
	await("cable in")
	hear(panel.Came)
	press("s")
	await("shutter closed")
	hear(panel.Closed)
	press("s")
	await("shutter open")
	hear(panel.Opened)
	press("n")
	await("no")
	hear(panel.No)
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	press("q")
	go func() { _, _ = io.Copy(io.Discard, printed) }()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := typed.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("the link is still there: %v", err)
	}
}

func TestWrong(t *testing.T) {
	for name, args := range map[string][]string{
		"two lines":   {"-socket", "/x", "-device", "/y"},
		"no socket":   {"-socket", filepath.Join(t.TempDir(), "none")},
		"no such":     {"-device", "panel"},
		"no such key": {"-x"},
	} {
		if err := command(t.Context(), args, os.Stdin, io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
