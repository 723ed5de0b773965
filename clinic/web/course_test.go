package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/diagnosis"
	"vindu/protocol"
)

// TestCourse: both ends' stages stand in the order in which they happened, long pauses are seen, and what the call failed of stands where it was.
func TestCourse(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	half := func(after time.Duration, stages ...protocol.StageTime) *protocol.CallRecord {
		return &protocol.CallRecord{Began: protocol.At(began.Add(after)), Stages: stages}
	}
	at := func(stage string, ms uint64) protocol.StageTime { return protocol.StageTime{Stage: stage, After: ms} }
	caller := half(0, at("invited", 100), at("ringing", 900), at("connected", 12_000))
	home := half(300*time.Millisecond, at("proven", 50), at("ice", 1500), at("of a newer version", 11_000))
	lost := diagnosis.Diagnosis{What: "The path was lost", Where: diagnosis.HomeNetwork, Who: protocol.Technician}
	for name, c := range map[string]struct {
		record calls.Record
		want   string
		apart  bool
	}{
		"good": {
			calls.Record{Began: began, CallerHalf: caller, TerminalHalf: home},
			"+0.10 s caller Clinic sent the invitation / +0.35 s home Invitation proven / +0.90 s caller Ringing, proven / +1.80 s home Path found / " +
				"+11.30 s home of a newer version (long) / +12.00 s caller Picture and sound connected", false,
		},
		"failed in the home's network": {
			calls.Record{Began: began, CallerHalf: caller, Outcome: protocol.ICELost, Diagnosis: lost, EndedAt: began.Add(90 * time.Second)},
			"+0.10 s caller Clinic sent the invitation / +0.90 s caller Ringing, proven / +12.00 s caller Picture and sound connected (longer) / +1 min 30 s home The path was lost. BAD (longer)", false,
		},
		"the page closed after the clinic had ended it": {
			calls.Record{Began: began, CallerHalf: half(0, at("invited", 100), at("ended", 5070)), Outcome: protocol.SignalNoReply, EndedAt: began.Add(5060 * time.Millisecond),
				Diagnosis: diagnosis.Diagnosis{What: "The terminal did not reply", Where: diagnosis.Terminal, Who: protocol.Operator}},
			"+0.10 s caller Clinic sent the invitation / +5.06 s home The terminal did not reply. BAD (long) / +5.07 s caller Ended", false,
		},
		"nobody has to act": {
			calls.Record{Began: began, TerminalHalf: half(0, at("proven", 50)), Outcome: protocol.EndCallerHungUp, Diagnosis: diagnosis.Diagnosis{What: "The caller hung up", Who: protocol.Nobody}},
			"+0.05 s home Invitation proven", false,
		},
		"clocks an hour apart": {
			calls.Record{Began: began, CallerHalf: half(time.Hour, at("invited", 100)), TerminalHalf: half(-time.Hour, at("proven", 50))},
			"+0.05 s home Invitation proven / +0.10 s caller Clinic sent the invitation", true,
		},
		"never left the page": {
			calls.Record{Began: began, Outcome: protocol.ICELost, Diagnosis: diagnosis.Diagnosis{What: "The clinic was not reached", Where: diagnosis.OnTheWay, Who: protocol.Operator}},
			" both The clinic was not reached. BAD", false,
		},
		"nothing": {calls.Record{Began: began}, "", false},
	} {
		rows, note := w.course(c.record)
		var got []string
		for _, m := range rows {
			text := m.At + " " + m.Side + " " + m.Text
			if m.Bad {
				text += " BAD"
			}
			if m.Pause != "" {
				text += fmt.Sprintf(" (%s)", m.Pause)
			}
			got = append(got, text)
		}
		if strings.Join(got, " / ") != c.want || (note != "") != c.apart {
			t.Errorf("%s:\n%s\nwant\n%s\n%q", name, strings.Join(got, " / "), c.want, note)
		}
	}
}
