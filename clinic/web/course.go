package web

import (
	"cmp"
	"slices"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/diagnosis"
	"vindu/protocol"
)

// moment is one row of a call's picture: what happened at one end, or in between.
type moment struct {
	At    string // after the call's beginning
	Side  string // "caller", "home", or "both"
	Text  string
	Bad   bool
	Pause string // how long nothing had happened before: "", "long" from a second, "longer" from ten
}

// apart is by how much the two ends' clocks may differ before each end's stages are counted from its own beginning.
const apart = 5 * time.Second

// course is the call from its beginning to its end, both ends beside each other, with what it failed of where it failed.
func (w words) course(r calls.Record) (rows []moment, note string) {
	type event struct {
		at   time.Duration
		side string
		text string
		bad  bool
	}
	var events []event
	add := func(side string, h *protocol.CallRecord) {
		if h == nil {
			return
		}
		offset := h.Began.Time().Sub(r.Began)
		if offset < -apart || offset > apart {
			note, offset = w["record.course.apart"], 0
		}
		for _, s := range h.Stages {
			events = append(events, event{offset + time.Duration(s.After)*time.Millisecond, side, cmp.Or(w["record.stage."+s.Stage], s.Stage), false})
		}
	}
	add("caller", r.CallerHalf)
	add("home", r.TerminalHalf)
	d := r.Diagnosis
	failed := r.Outcome != "" && d.What != "" && d.Who != protocol.Nobody
	side := "both"
	switch d.Where {
	case diagnosis.Caller, diagnosis.CallerPC, diagnosis.CallerNetwork:
		side = "caller"
	case diagnosis.Home, diagnosis.Terminal, diagnosis.HomeNetwork:
		side = "home"
	}
	if failed && !r.EndedAt.IsZero() {
		events = append(events, event{r.EndedAt.Sub(r.Began), side, d.What + ".", true})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	var last time.Duration
	for i, e := range events {
		m := moment{At: w.after(e.at), Side: e.side, Text: e.text, Bad: e.bad}
		if i > 0 {
			m.Pause = pause(e.at - last)
		}
		last = e.at
		rows = append(rows, m)
	}
	if failed && r.EndedAt.IsZero() { // nobody knows when
		rows = append(rows, moment{Side: side, Text: d.What + ".", Bad: true})
	}
	return rows, note
}

// after says how long after the beginning something was: to the hundredth of a second, and from a minute on to the second.
func (w words) after(d time.Duration) string {
	if d >= time.Minute {
		return "+" + spell(d)
	}
	return "+" + w.decimal(max(d, 0).Seconds(), 2) + " s"
}

func pause(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return "longer"
	case d >= time.Second:
		return "long"
	}
	return ""
}
