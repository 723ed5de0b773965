package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vindu/clinic/fleet"
	"vindu/protocol"
)

// conditionsListed is how many conditions that are over a page lists.
const conditionsListed = 50

// Conditions knows what held of terminals, and when; fleet.Fleet is one.
type Conditions interface {
	// Conditions returns the latest first, at most limit of them.
	Conditions(ctx context.Context, terminal protocol.KeyHash, limit int) ([]fleet.Past, error)
}

// conditionView is a condition as operators read it.
type conditionView struct{ Severity, Word, Title, Sentence, Next, Who, When, Figure string }

// conditionsView is how a terminal is, and was.
type conditionsView struct {
	Heard   string // when it was last heard, and when a message last went there and back
	Current []conditionView
	Hidden  string // how many follow from those
	Past    []conditionView
}

func (w words) condition(c protocol.Code, figure, when string, holds bool) conditionView {
	f := protocol.Explain(c)
	v := conditionView{Severity: string(f.Severity), Word: w["condition.severity."+string(f.Severity)], Title: f.Title, Sentence: f.Sentence, When: when, Figure: figure}
	if holds && f.Who != protocol.Nobody {
		v.Next, v.Who = f.Next, w["condition.who."+string(f.Who)]
	}
	return v
}

// conditions says how a terminal is by its latest report, with what held before.
func (w words) conditions(s fleet.State, past []fleet.Past, now time.Time) conditionsView {
	var v conditionsView
	switch {
	case s.Heard.IsZero():
		v.Heard = w["condition.never"]
	case s.RoundTrip.IsZero():
		v.Heard = w.say("condition.heard", names{"heard": w.when(s.Heard, now)})
	default:
		v.Heard = w.say("condition.trip", names{"heard": w.when(s.Heard, now), "trip": w.when(s.RoundTrip, now)})
	}
	var raised []protocol.Code
	since, figure := map[protocol.Code]protocol.Time{}, map[protocol.Code]string{}
	if s.Health != nil {
		for _, c := range s.Health.Conditions {
			raised = append(raised, c.Code)
			since[c.Code], figure[c.Code] = c.Since, c.Figure
		}
	}
	shown := protocol.Showing(raised)
	for _, c := range shown {
		v.Current = append(v.Current, w.condition(c, figure[c], w.say("condition.since", names{"since": w.when(since[c].Time(), now)}), true))
	}
	switch n := len(raised) - len(shown); {
	case n == 1:
		v.Hidden = w["condition.hidden.one"]
	case n > 1:
		v.Hidden = w.say("condition.hidden", names{"count": strconv.Itoa(n)})
	}
	for _, p := range past {
		switch {
		case !p.Until.IsZero():
			v.Past = append(v.Past, w.condition(p.Code, p.Figure, w.say("condition.until", names{"since": w.full(p.Since), "until": w.full(p.Until)}), false))
		case !slices.Contains(raised, p.Code): // its end has not come, or never will
			v.Past = append(v.Past, w.condition(p.Code, p.Figure, w.say("condition.until", names{"since": w.full(p.Since), "until": w["operator.opening.untold"]}), false))
		}
	}
	return v
}

// conditionsOf says how the terminal of a home is.
func (s *Server) conditionsOf(r *http.Request, terminal protocol.KeyHash, now time.Time) (*conditionsView, error) {
	if (terminal == protocol.KeyHash{}) {
		return nil, nil
	}
	var past []fleet.Past
	if s.o.Conditions != nil {
		var err error
		if past, err = s.o.Conditions.Conditions(r.Context(), terminal, conditionsListed); err != nil {
			return nil, err
		}
	}
	v := s.words.conditions(s.o.Fleet.State(terminal), past, now)
	return &v, nil
}
