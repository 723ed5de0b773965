package screen

import (
	"context"
	"errors"
	"image"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

type memory struct {
	mu   sync.Mutex
	err  error
	sets int
}

func (m *memory) Size() (w, h int) { return 800, 480 }

func (m *memory) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sets++
	return m.err
}

func (m *memory) painted() int {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.sets
	m.sets = 0
	return n
}

// TestPaintsOnlyWhatChanges counts paintings over an hour of rest, a ring and a call.
func TestPaintsOnlyWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &memory{}
		s, err := New(d, load(t, "en"), time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		check := func(what string, want int) {
			t.Helper()
			if got := d.painted(); got != want {
				t.Errorf("%s: painted %d times, want %d", what, got, want)
			}
		}
		check("at the start", 1)
		s.Show(Scene{Kind: Ready})
		check("ready", 1)
		s.Show(Scene{Kind: Ready})
		check("ready again", 0)
		<-time.After(time.Hour + time.Second)
		check("an hour of rest", 60)
		s.Show(Scene{Kind: Ringing, Parties: []protocol.Party{anne}, AnswersAt: time.Now().Add(5 * time.Second)})
		check("ringing", 1)
		<-time.After(10 * time.Second)
		check("five seconds of countdown", 5)
		s.Show(Scene{Kind: InCall, Parties: []protocol.Party{anne}, Camera: true})
		check("in call", 1)
		<-time.After(time.Hour)
		check("an hour of call", 0)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDisplayFails(t *testing.T) {
	d := &memory{err: errors.New("unplugged")}
	s, err := New(d, load(t, "en"), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run hides that the display failed")
	}
}
