package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vindu/device/agent"
	"vindu/device/screen"
)

// TestPressIsReadOnlyWhereItIsAskedFor: a press at a terminal that is well is not even read; at one whose key is lost it is.
func TestPressIsReadOnlyWhereItIsAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "event0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader := func() bool { // somebody has the button open
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err == nil
	}
	until := func(want bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); reader() != want; {
			if time.Now().After(end) {
				t.Fatalf("open: %v", !want)
			}
		}
	}
	p := newPress(agent.Devices{Button: path}, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx, &agent.Agent{}) }()
	if reader() {
		t.Error("the button is read at the start")
	}
	lost := screen.Scene{Kind: screen.Lost}
	p.show(lost)
	until(true)
	p.show(screen.Scene{Kind: screen.Ready})
	until(false)
	p.show(screen.Scene{Kind: screen.Checking})
	until(true)
	p.show(screen.Scene{Kind: screen.Ringing})
	until(false)
	p.show(screen.Scene{Kind: screen.Returned})
	until(true)
	stop()
	if err := <-done; err != nil || reader() {
		t.Errorf("at the end: %v", err)
	}
}
