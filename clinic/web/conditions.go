package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vindu/clinic/alerts"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// conditionsListed is how many conditions that are over a page lists.
const conditionsListed = 50

// Conditions knows what held of terminals, and when; fleet.Fleet is one.
type Conditions interface {
	// Conditions returns the latest first, at most limit of them.
	Conditions(ctx context.Context, terminal protocol.KeyHash, limit int) ([]fleet.Past, error)
}

// Marks are what operators have said of conditions; alerts.Service keeps them.
type Marks interface {
	Mark(ctx context.Context, who string, terminal protocol.KeyHash, code protocol.Code, since, until time.Time, note string) error
	Unmark(ctx context.Context, who string, terminal protocol.KeyHash, code protocol.Code) error
	Marks(ctx context.Context) (map[protocol.KeyHash]map[protocol.Code]alerts.Mark, error)
}

// silences are for how long a condition can be silenced.
var silences = map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour}

// conditionView is a condition as operators read it.
type conditionView struct {
	Severity, Word, Title, Sentence, Next, Who, When, Figure string

	// Of one that holds, where operators can say something of it:
	Action string // address
	Since  int64  // ms since 1970
	Marked string // who has said what; "" if nobody has
	Code   protocol.Code
}

// conditionsView is how a terminal is, and was.
type conditionsView struct {
	Heard   string // when it was last heard, and when a message last went there and back
	Current []conditionView
	None    string          // what is said where nothing holds
	Last    []conditionView // of a terminal that is offline, what it told last: nobody knows whether that still holds
	Hidden  string          // how many follow from those
	Past    []conditionView
}

func (w words) condition(c protocol.Code, figure, when string, holds bool) conditionView {
	f := w.explain(c)
	v := conditionView{Severity: string(f.Severity), Word: w["condition.severity."+string(f.Severity)], Title: f.Title, Sentence: f.Sentence, When: when, Figure: figure, Code: c}
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
	figure := map[protocol.Code]string{}
	if s.Health != nil {
		for _, c := range s.Health.Conditions {
			raised = append(raised, c.Code)
			figure[c.Code] = c.Figure
		}
	}
	holds := func(c protocol.Code) conditionView {
		since := sinceOf(s, c)
		v := w.condition(c, figure[c], w.say("condition.since", names{"since": w.when(since, now)}), true)
		v.Since = since.UnixMilli()
		return v
	}
	var told []conditionView
	shown := protocol.Showing(raised)
	for _, c := range shown {
		told = append(told, holds(c))
	}
	switch {
	case s.Online:
		v.Current = told
		if len(told) == 0 {
			v.None = w["condition.none"]
		}
	case !s.Heard.IsZero():
		v.Current, v.Last = []conditionView{holds(protocol.SignalOffline)}, told
		if s.Health != nil && len(told) == 0 {
			v.None = w["condition.last.none"]
		}
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

// sinceOf returns since when a condition of a terminal holds; zero if it does not.
func sinceOf(s fleet.State, code protocol.Code) time.Time {
	if code == protocol.SignalOffline { // which the terminal cannot tell
		if s.Online {
			return time.Time{}
		}
		return s.Since
	}
	if s.Health != nil {
		for _, c := range s.Health.Conditions {
			if c.Code == code {
				return c.Since.Time()
			}
		}
	}
	return time.Time{}
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
	state := s.o.Fleet.State(terminal)
	v := s.words.conditions(state, past, now)
	return &v, s.mark(r, &v, state, now)
}

// mark adds to a terminal's conditions what operators have said of them, and where they do.
func (s *Server) mark(r *http.Request, v *conditionsView, state fleet.State, now time.Time) error {
	if s.o.Marks == nil {
		return nil
	}
	marks, err := s.o.Marks.Marks(r.Context())
	if err != nil {
		return err
	}
	who := s.naming(r.Context())
	for _, list := range [][]conditionView{v.Current, v.Last} {
		for i := range list {
			view := &list[i]
			view.Action = "/operator/homes/" + r.PathValue("home") + "/conditions/" + string(view.Code)
			if m, ok := marks[state.Terminal][view.Code]; ok && m.Holds(sinceOf(state, view.Code), now) {
				key := "condition.marked"
				if now.Before(m.Until) {
					key = "condition.silenced"
				}
				view.Marked = s.words.say(key, names{"who": who(m.By), "at": s.words.when(m.At, now), "until": s.words.when(m.Until, now), "note": m.Note})
			}
		}
	}
	return nil
}

// markCondition is what an operator says of a condition.
func (s *Server) markCondition(w http.ResponseWriter, r *http.Request, v visitor) {
	home, err := s.o.Custody.Home(r.Context(), r.PathValue("home"))
	if errors.Is(err, register.ErrNotFound) || err == nil && home.Terminal == (protocol.KeyHash{}) {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	code, who := protocol.Code(r.PathValue("code")), v.person.Who()
	if r.PostForm.Get("do") == "unmark" {
		err = s.o.Marks.Unmark(r.Context(), who, home.Terminal, code)
	} else {
		var since int64
		if since, err = strconv.ParseInt(r.PostForm.Get("since"), 10, 64); err != nil || since <= 0 {
			s.fail(w, r, http.StatusUnprocessableEntity, "error.text")
			return
		}
		var until time.Time
		if d, ok := silences[r.PostForm.Get("until")]; ok {
			until = time.Now().Add(d)
		}
		err = s.o.Marks.Mark(r.Context(), who, home.Terminal, code, time.UnixMilli(since), until, r.PostForm.Get("note"))
	}
	switch {
	case errors.Is(err, alerts.ErrNote), errors.Is(err, alerts.ErrUntil), errors.Is(err, alerts.ErrCode):
		s.fail(w, r, http.StatusUnprocessableEntity, "error.text")
	case err != nil:
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, "/operator/homes/"+home.ID, http.StatusSeeOther)
	}
}
