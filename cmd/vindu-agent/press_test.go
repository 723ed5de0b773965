package main

import (
	"bytes"
	"context"
	"os"
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
	thumb, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer thumb.Close()
	reader := func() bool { // somebody else has the button open
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		open := 0
		for _, f := range files {
			if at, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && at == path {
				open++
			}
		}
		return open > 1
	}
	until := func(want bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); reader() != want; {
			if time.Now().After(end) {
				t.Fatalf("open: %v", !want)
			}
		}
	}
	p := newPress(agent.Devices{Button: path}, agent.Button{}, nil, nil)
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
	for _, disturbed := range []screen.Kind{screen.Checking, screen.Ringing, screen.InCall} {
		p.show(screen.Scene{Kind: disturbed})
		until(true)
		p.show(screen.Scene{Kind: screen.Ended})
		until(false)
	}
	p.show(screen.Scene{Kind: screen.Returned})
	until(true)
	stop()
	if err := <-done; err != nil || reader() {
		t.Errorf("at the end: %v", err)
	}
}

// patient counts what was said at the terminal.
type patient struct{ no, take, curtain, anew chan struct{} }

func (p patient) HangUp()    { p.no <- struct{}{} }
func (p patient) Take()      { p.take <- struct{}{} }
func (p patient) Curtain()   { p.curtain <- struct{}{} }
func (p patient) StartAnew() { p.anew <- struct{}{} }
func (p patient) Look()      {}

// TestPressSaysNo: whoever is called or looked at can say no by the button, also after the screen has said something else about it, and a press of before
// does not count.
func TestPressSaysNo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "event0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	thumb, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer thumb.Close()
	key := bytes.Repeat([]byte{0}, 24)
	key[16], key[18], key[20] = 1, 57, 1
	p := newPress(agent.Devices{Button: path}, agent.Button{}, nil, nil)
	if p.what() != "event0" {
		t.Errorf("the button is %q", p.what())
	}
	if none := newPress(agent.Devices{Button: "none"}, agent.Button{}, nil, nil); none.what() != "" {
		t.Errorf("no button is %q", none.what())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	who := patient{make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})}
	go func() { done <- p.run(ctx, who) }()
	for _, kind := range []screen.Kind{screen.Ringing, screen.InCall, screen.Checking} {
		p.show(screen.Scene{Kind: kind})
		p.show(screen.Scene{Kind: kind, Camera: true})
		if _, err := thumb.Write(key[24-inputEvent:]); err != nil {
			t.Fatal(err)
		}
		select {
		case <-who.no:
		case <-who.anew:
			t.Errorf("%d: begins anew", kind)
		case <-time.After(time.Minute):
			t.Fatalf("%d: nobody heard the no", kind)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPressTakes: where the screen asks, the answer key takes the call, and every other says no. Where it does not ask, the answer key does nothing. In a call, the curtain's
// key draws the curtain, and the button says no all the same.
func TestPressTakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "event0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	thumb, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer thumb.Close()
	press := func(code byte) {
		key := bytes.Repeat([]byte{0}, 24)
		key[16], key[18], key[20] = 1, code, 1
		if _, err := thumb.Write(key[24-inputEvent:]); err != nil {
			t.Error(err)
		}
	}
	const space, f1, f2 = 57, 59, 60
	p := newPress(agent.Devices{Button: path}, agent.Button{Answer: "KEY_F1", Curtain: "KEY_F2"}, nil, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	who := patient{make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})}
	go func() { done <- p.run(ctx, who) }()
	// heard presses until somebody hears it: a pipe, unlike an input device, hands each press to one reader only.
	heard := func(code byte) string {
		for range 600 {
			press(code)
			select {
			case <-who.no:
				return "no"
			case <-who.take:
				return "take"
			case <-who.curtain:
				return "curtain"
			case <-who.anew:
				return "anew"
			case <-time.After(100 * time.Millisecond):
			}
		}
		return "nothing"
	}
	for _, step := range []struct {
		scene screen.Scene
		code  byte
		want  string
	}{
		{screen.Scene{Kind: screen.Ringing, Ask: true}, f1, "take"},
		{screen.Scene{Kind: screen.Ringing, Ask: true}, space, "no"},
		{screen.Scene{Kind: screen.Ringing}, space, "no"},
		{screen.Scene{Kind: screen.InCall}, f2, "curtain"},
		{screen.Scene{Kind: screen.InCall, Curtain: screen.DrawnHere}, f2, "curtain"},
		{screen.Scene{Kind: screen.InCall, Curtain: screen.DrawnByCaller}, space, "no"},
	} {
		p.show(step.scene)
		if got := heard(step.code); got != step.want {
			t.Errorf("%+v, key %d: %s, want %s", step.scene, step.code, got, step.want)
		}
	}
	p.show(screen.Scene{Kind: screen.InCall})
	press(f1) // takes no call that runs
	if got := heard(space); got != "no" {
		t.Errorf("in a call, the answer key and then another: %s, want no", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
