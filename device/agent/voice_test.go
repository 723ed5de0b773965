package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"vindu/device/screen"
	"vindu/protocol"
)

// speaker is a synthesiser and a mouth that remember.
type speaker struct {
	mu    sync.Mutex
	fails error
	made  []string
	said  chan int
}

func (s *speaker) Speak(_ context.Context, language, text string) ([]int16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return nil, s.fails
	}
	s.made = append(s.made, language+" "+text)
	return make([]int16, len(s.made)), nil
}

func (s *speaker) Say(ctx context.Context, samples []int16) error {
	select {
	case s.said <- len(samples):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *speaker) last() string {
	n := <-s.said
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[n-1]
}

// TestNoVoice: a terminal whose synthesiser does not work says so to its clinic; one that has a voice, and one that is to have none, do not.
func TestNoVoice(t *testing.T) {
	f := newFixture(t)
	s := &speaker{fails: errors.New("nobody listens"), said: make(chan int)}
	f.parts.Synthesiser, f.parts.Mouth = s, s
	f.enrol()
	f.start()
	for deadline := time.Now().Add(time.Minute); !slices.Equal(f.missing(), []protocol.Code{protocol.CaptureNoVoice}); {
		if time.Now().After(deadline) {
			t.Fatal("nobody was told")
		}
		f.see("anything", func(screen.Scene) bool { return true })
		f.change(func(*situation) {})
	}
	if err := f.end(); err != nil {
		t.Error(err)
	}
	quiet := newFixture(t)
	quiet.start()
	if got := quiet.missing(); len(got) > 0 {
		t.Errorf("without a voice: %v", got)
	}
	quiet.Speak("nothing") // and nothing happens
	if err := quiet.end(); err != nil {
		t.Error(err)
	}
}

// TestSpokenScenes: what is shown is said in the language that the screen speaks, and so is what else is to be said.
func TestSpokenScenes(t *testing.T) {
	f := newFixture(t)
	s := &speaker{said: make(chan int)}
	f.parts.Synthesiser, f.parts.Mouth = s, s
	f.enrol()
	f.start()
	f.see("a terminal that is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	if got := f.missing(); len(got) > 0 {
		t.Errorf("with a voice: %v", got)
	}
	if err := f.SetLanguage(t.Context(), "en"); err != nil {
		t.Fatal(err)
	}
	f.Speak("This screen is from the clinic.")
	if got := s.last(); got != "en This screen is from the clinic." {
		t.Errorf("said %q", got)
	}
	if err := f.end(); err != nil {
		t.Error(err)
	}
}
