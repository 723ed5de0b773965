package web

import (
	"strings"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/protocol"
)

// What goes into a patient's journal has to be true: also when the clinic died in the call, and knows only what the two sides say.
func TestJournal(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour)
	talked := &protocol.CallRecord{Duration: 7000}
	for _, test := range []struct {
		name    string
		record  calls.Record
		journal string // part of it, "" for none
	}{
		{"the clinic saw it", calls.Record{TalkingAt: began.Add(5 * time.Second), Outcome: protocol.EndCallerHungUp}, ", 15 s, by"},
		{"nobody answered", calls.Record{Outcome: protocol.SignalOffline, CallerHalf: &protocol.CallRecord{}}, "did not take place"},
		{"the clinic died, the terminal tells", calls.Record{Outcome: protocol.SignalLostClinic, TerminalHalf: talked, CallerHalf: &protocol.CallRecord{Duration: 9000}}, ", 7 s, by"},
		{"the clinic died, the page tells", calls.Record{Outcome: protocol.SignalLostClinic, CallerHalf: talked}, ", 7 s, by"},
		{"the clinic died while it rang", calls.Record{Outcome: protocol.SignalLostClinic, TerminalHalf: &protocol.CallRecord{}}, "did not take place"},
		{"the clinic died, nobody has told yet", calls.Record{Outcome: protocol.SignalLostClinic}, ""},
		{"no longer than the call", calls.Record{Outcome: protocol.SignalLostClinic, CallerHalf: &protocol.CallRecord{Duration: 1 << 40}}, ", 20 s, by"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.record.Began, test.record.EndedAt = began, began.Add(20*time.Second)
			got := w.record(test.record).Journal
			if (got == "") != (test.journal == "") || !strings.Contains(got, test.journal) {
				t.Errorf("%q does not say %q", got, test.journal)
			}
		})
	}
}
