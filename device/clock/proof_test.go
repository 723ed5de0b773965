package clock

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/state/statetest"
	"vindu/protocol"
)

// TestProven: what the clinic signed is followed from any clock, back too, and never below the floor.
func TestProven(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		name  string
		built time.Duration // of the system's clock
		ahead time.Duration // what the clinic proves, of the system's clock
		want  time.Duration // of the system's clock
		kept  bool          // as the floor
	}{
		{"the clock is right", -year, 0, 0, true},
		{"the clock was never set", 30 * year, 31 * year, 31 * year, true},
		{"ten years later than the software", 30 * year, 40 * year, 40 * year, true},
		{"the clock is ten years ahead", -20 * year, -10 * year, -10 * year, true},
		{"the clinic is behind the software", -year, -2 * year, -year, false},
		{"the clock is a year behind", -year, year, year, false},
		{"the clock is two minutes behind", -year, 2 * time.Minute, 2 * time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := statetest.New()
				built := time.Now().Add(c.built)
				clock := New(open(t, disk), built, quiet)
				if clock.Proven() {
					t.Error("proven before it was")
				}
				if err := clock.Prove(time.Now().Add(c.ahead-time.Second), 2*time.Second); err != nil || !clock.Proven() {
					t.Fatal(err)
				}
				if got, want := clock.Now(), time.Now().Add(c.want); !got.Equal(want) {
					t.Errorf("got %v, want %v", got, want)
				}
				want := clock.Now().Add(time.Hour)
				time.Sleep(time.Hour) // allowed: of the bubble
				if got := clock.Now(); !got.Equal(want) {
					t.Errorf("an hour later %v, want %v", got, want)
				}
				restarted := New(open(t, disk.After(statetest.Everything)), built, quiet)
				if restarted.Proven() {
					t.Error("proven after a restart")
				}
				restarted.mu.Lock()
				floor := restarted.floor
				restarted.mu.Unlock()
				if kept := floor.After(built); kept != c.kept {
					t.Errorf("the floor is %v", floor)
				}
			})
		})
	}
}

// TestProvenWrong: a clinic whose clock was wrong is followed back.
func TestProvenWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := New(open(t, statetest.New()), longAgo, quiet)
		for _, ahead := range []time.Duration{365 * 24 * time.Hour, -100 * 24 * time.Hour, 0} {
			if err := clock.Prove(time.Now().Add(ahead), 0); err != nil {
				t.Fatal(err)
			}
			if got, want := clock.Now(), time.Now().Add(ahead); !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		if err := clock.Prove(time.Now().AddDate(100, 0, 0), 0); !errors.Is(err, ErrImplausible) || !clock.Now().Equal(time.Now()) {
			t.Errorf("a hundred years ahead: %v, %v", err, clock.Now())
		}
	})
}

func TestCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := New(open(t, statetest.New()), time.Now().AddDate(26, 0, 0), quiet)
		if got := clock.Condition(); got != protocol.TimeUnknown {
			t.Errorf("never set, clinic not heard: %q", got)
		}
		if err := clock.Prove(time.Now().AddDate(27, 0, 0), 0); err != nil || clock.Condition() != protocol.TimeOff {
			t.Errorf("never set, clinic heard: %q, %v", clock.Condition(), err)
		}
		if got := New(open(t, statetest.New()), longAgo, quiet).Condition(); got != "" {
			t.Errorf("right: %q", got)
		}
	})
}
