package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/state/statetest"
)

// TestFloorIsNeverAhead: a system's clock that is years ahead moves what the clock believes until it is told better, and never the floor.
func TestFloorIsNeverAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		built := time.Now().Add(-3 * 365 * 24 * time.Hour)
		c := New(open(t, statetest.New()), built, quiet)
		<-time.After(time.Hour)
		if got := c.Floor(); !got.Equal(built.Add(time.Hour)) || c.Now().Sub(got) < 1000*24*time.Hour {
			t.Errorf("floor %v, now %v", got, c.Now())
		}
		told := built.Add(365 * 24 * time.Hour)
		if err := c.Prove(told, 0); err != nil {
			t.Fatal(err)
		}
		if c.Floor().After(c.Now()) {
			t.Errorf("floor %v, now %v", c.Floor(), c.Now())
		}
	})
}

// TestCommitted: what the linker stamps is the floor; what is no time, or one before the first release, is not.
func TestCommitted(t *testing.T) {
	defer func(was string) { committed = was }(committed)
	for text, want := range map[string]time.Time{
		"2031-05-06T07:08:09+02:00": time.Date(2031, time.May, 6, 5, 8, 9, 0, time.UTC), "yesterday": released, "1999-05-06T07:08:09Z": released,
	} {
		committed = text
		if got := Built(); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
