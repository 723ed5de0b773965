package web

import (
	"slices"
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

// The way that picture and sound took is said in plain words; the types of the candidates are there for who wants them.
func TestPath(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ local, remote, value, details string }{
		{"", "", "none found", ""},
		{"host", "host", "direct, on the same network", "host – host"},
		{"host", "prflx", "direct", "host – prflx"},
		{"srflx", "srflx", "direct", "srflx – srflx"},
		{"relay", "host", "through the clinic's relay", "relay – host"},
		{"prflx", "relay", "through the clinic's relay", "prflx – relay"},
	} {
		if f := w.path(test.local, test.remote); f.Value != test.value || f.Details != test.details {
			t.Errorf("%s and %s: %q, %q", test.local, test.remote, f.Value, f.Details)
		}
	}
}

// TestNothingMeasured: of a call that never was no quality is told; of one that was answered, that nothing came.
func TestNothingMeasured(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		half protocol.CallRecord
		want bool
	}{
		"never was":                    {protocol.CallRecord{}, false},
		"answered, and nothing came":   {protocol.CallRecord{Duration: 4000}, true},
		"seen while it rang, and over": {protocol.CallRecord{Quality: protocol.Quality{PacketsReceived: 40}}, true},
	} {
		if got := slices.ContainsFunc(w.half("record.half.caller", &x.half).Facts, func(f fact) bool { return f.Name == w["record.quality"] }); got != x.want {
			t.Errorf("%s: quality is told: %v", name, got)
		}
	}
}

// To the caller the record says who hung up; for the journal, which others read, it names the caller.
func TestOutcomeToTheCaller(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	for outcome, want := range map[protocol.Code][2]string{
		protocol.EndCallerHungUp: {"You hung up.", "The caller hung up."},
		protocol.EndPageClosed:   {"Your page was closed or lost its connection to the clinic.", "The caller's page was closed"},
		protocol.AnswerDeclined:  {"The person at the terminal said no for now.", "The person at the terminal said no for now."},
	} {
		v := w.record(calls.Record{Began: time.Now(), EndedAt: time.Now(), Outcome: outcome, Sentence: protocol.Explain(outcome).Sentence})
		if v.Line.Sentence != want[0] || !strings.Contains(v.Journal, want[1]) {
			t.Errorf("%s: %q, journal %q", outcome, v.Line.Sentence, v.Journal)
		}
		if got := w.failures()[outcome].Sentence; got != want[0] {
			t.Errorf("%s: the script says %q", outcome, got)
		}
	}
}
