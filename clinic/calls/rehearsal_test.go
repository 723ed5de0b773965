package calls

import (
	"testing"
	"time"

	"vindu/protocol"
)

// Rehearsals of a whole fleet, night after night, fill neither the records nor the audit log, and are in nobody's list and count of calls.
func TestRehearsalsPass(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		began := time.Now()
		place := func(rehearsal bool, at time.Time) protocol.CallID {
			t.Helper()
			rec := &Record{Call: protocol.NewCallID(), Person: Person{ID: "p"}, Home: "17", Terminal: w.terminal, SPKI: w.spki, Began: at, Rehearsal: rehearsal}
			if err := w.records.begin(t.Context(), rec, nil); err != nil {
				t.Fatal(err)
			}
			return rec.Call
		}
		end := func(call protocol.CallID, at time.Time) {
			t.Helper()
			if err := w.records.finish(t.Context(), call, "p", ending{at: at, outcome: protocol.EndCallerHungUp}); err != nil {
				t.Fatal(err)
			}
		}
		kept := func(call protocol.CallID) bool {
			t.Helper()
			rec, err := w.records.get(t.Context(), "p", call)
			return err == nil && rec.Call == call
		}
		call, rehearsal, running := place(false, began), place(true, began), place(true, began)
		end(call, began.Add(time.Minute))
		end(rehearsal, began.Add(time.Minute))
		if rec, err := w.records.get(t.Context(), "p", rehearsal); err != nil || !rec.Rehearsal || rec.Outcome != protocol.EndCallerHungUp {
			t.Errorf("the record of a rehearsal: %+v, %v", rec, err)
		}
		if n := len(w.journal.entries); n != 2 {
			t.Errorf("%d entries in the audit log, want the call's two: %+v", n, w.journal.entries)
		}
		if n := w.records.Ended()[protocol.EndCallerHungUp]; n != 1 {
			t.Errorf("%d calls are said to have ended, want one", n)
		}
		for name, list := range map[string]func() ([]Record, error){
			"of the home": func() ([]Record, error) { return w.records.ofHome(t.Context(), "17", began.Add(-time.Hour), 10) },
			"of all":      func() ([]Record, error) { return w.records.Latest(t.Context(), 10) },
		} {
			if got, err := list(); err != nil || len(got) != 1 || got[0].Call != call {
				t.Errorf("calls %s: %+v, %v", name, got, err)
			}
		}
		place(true, began.Add(keepRehearsals))
		if !kept(rehearsal) {
			t.Error("forgotten too early")
		}
		place(true, began.Add(keepRehearsals+time.Second))
		if kept(rehearsal) || !kept(call) || !kept(running) {
			t.Errorf("after two weeks: rehearsal kept %v, call kept %v, one that still runs kept %v; want only the first forgotten", kept(rehearsal), kept(call), kept(running))
		}
	})
}
