package web

import (
	"strings"
	"testing"
	"time"
)

// TestZone: pages tell times by the clinic's clock, whatever the server's is: a call of the evening's end is on the day on which it was.
func TestZone(t *testing.T) {
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	before := clock.Load()
	SetZone(oslo)
	t.Cleanup(func() { clock.Store(before) })
	w := words{"time.full": "2 January 2006, 15:04:05", "time.day": "2 January 2006", "time.today": "15:04", "time.other": "2 January 15:04"}
	at := time.Date(2026, 11, 22, 23, 15, 40, 0, time.UTC)
	if got := w.full(at); got != "23 November 2026, 00:15:40" {
		t.Errorf("in full: %q", got)
	}
	if got := w.day(at); !strings.HasPrefix(got, "23 November") {
		t.Errorf("the day: %q", got)
	}
	if got := w.when(at, at.Add(time.Hour)); got != "00:15" {
		t.Errorf("on the same day there: %q", got)
	}
	if got := w.when(at.Add(-time.Hour), at); got != "22 November 23:15" && !strings.Contains(got, "22 November") {
		t.Errorf("on the day before there: %q", got)
	}
}
