package main

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"vindu/device/outbox"
	"vindu/device/state"
)

// worked is a state folder after all work, and what was promised about it.
func worked(t *testing.T) (string, promises) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	var p promises
	if err := work(path, p.keep); err != nil {
		t.Fatal(err)
	}
	return path, p
}

// The check finds a state that keeps its promises, and each that does not.
func TestCheck(t *testing.T) {
	path, p := worked(t)
	if !p.ready || p.appended != events || p.written != writes || p.acked == 0 || p.acked >= events {
		t.Fatalf("promised: %+v", p)
	}
	if err := p.keep("appended=many"); err == nil {
		t.Error("a mark without a number was taken")
	}
	for name, c := range map[string]struct {
		change func(p *promises)
		want   error
	}{
		"another key":               {func(p *promises) { p.key = "another" }, errAnew},
		"an event more":             {func(p *promises) { p.appended++; p.appending++ }, errLost},
		"an event that never was":   {func(p *promises) { p.appended, p.appending = 3, 4 }, errLost},
		"an event left too early":   {func(p *promises) { p.acking -= ackEach }, errLost},
		"an event that is back":     {func(p *promises) { p.acked += 1; p.acking += 1 }, errLost},
		"a file's older content":    {func(p *promises) { p.written++; p.writing++ }, errLost},
		"a file nobody has written": {func(p *promises) { p.written, p.writing = 1, 2 }, errLost},
	} {
		changed := p
		c.change(&changed)
		if err := check(path, changed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check(path, p); err != nil {
		t.Error(err)
	}
	// That one went on working: its event is more than was promised.
	if err := check(path, p); !errors.Is(err, errLost) {
		t.Errorf("an event that nobody promised: %v", err)
	}
}

func TestCheckOfDamage(t *testing.T) {
	path, p := worked(t)
	dir, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	box, err := outbox.Open(dir, boxLimit, time.Now, discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(box.Close(), dir.Write("outbox.db", []byte("not a database")), dir.Close()); err != nil {
		t.Fatal(err)
	}
	if err := check(path, p); !errors.Is(err, errDamaged) {
		t.Errorf("a damaged database: %v", err)
	}
	if err := check(filepath.Join(t.TempDir(), "state"), p); !errors.Is(err, errAnew) {
		t.Errorf("an empty disk: %v", err)
	}
	if err := check(filepath.Join(t.TempDir(), "state"), promises{}); err != nil {
		t.Errorf("an empty disk of which nothing was promised: %v", err)
	}
}
