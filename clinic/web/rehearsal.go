package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// rehearseSeldom is how often a terminal lets itself be asked to rehearse; it judges by itself, this only tells people.
const rehearseSeldom = 5 * time.Minute

// fresh is for how long a rehearsal stands for how a terminal is where the next one comes only when somebody asks for it.
const fresh = 36 * time.Hour

// lasts is for how long a rehearsal stands for how a terminal is: where terminals rehearse by themselves, until the next one is late. From one to the next it is a day and
// the window at most; one hour more is for summer time, and one for a terminal whose clock is slow.
func lasts(window *protocol.Window) time.Duration {
	if window == nil {
		return fresh
	}
	const day = 24 * 60
	return (day+time.Duration((int(window.To)-int(window.From)+day)%day))*time.Minute + 2*time.Hour
}

// stands reports whether a call was rehearsed so lately that it stands for how the terminal is.
func stands(r *protocol.Rehearsal, window *protocol.Window, now time.Time) bool {
	_, at, _ := r.Verdict()
	return now.Sub(at.Time()) <= lasts(window)
}

// rehearsed says whether a call would have worked when a terminal rehearsed last, or why not; "" of one that never rehearsed a call. That it is ready is said only if that
// stands.
func (w words) rehearsed(r *protocol.Rehearsal, stands bool, now time.Time) string {
	ready, at, cause := r.Verdict()
	n := names{"time": w.when(at.Time(), now), "cause": w.explain(cause).Title}
	switch {
	case at == 0:
		return ""
	case !ready:
		return w.say("rehearsal.failed", n)
	case !stands && cause != "":
		return w.say("rehearsal.was.but", n)
	case !stands:
		return w.say("rehearsal.was", n)
	case cause != "":
		return w.say("rehearsal.but", n)
	}
	return w.say("rehearsal.ready", n)
}

// late says of a terminal that should have rehearsed since that it has not; "" of any other.
func (w words) late(r *protocol.Rehearsal, window *protocol.Window, now time.Time) string {
	if _, at, _ := r.Verdict(); at == 0 || window == nil || stands(r, window, now) {
		return ""
	}
	return w["rehearsal.late"]
}

// rehearsalNotes are what callers are told of an online terminal's rehearsals.
func (w words) rehearsalNotes(r *protocol.Rehearsal, window *protocol.Window, now time.Time) []noteView {
	text := w.rehearsed(r, stands(r, window, now), now)
	if text == "" {
		return nil
	}
	if late := w.late(r, window, now); late != "" {
		return []noteView{{Kind: "warn", Text: text, Next: late}}
	}
	return []noteView{{Kind: "rehearsal", Text: text}}
}

// rehearsals says how each part went when it was rehearsed last.
func (w words) rehearsals(r *protocol.Rehearsal, now time.Time) (facts []fact) {
	if r == nil {
		return nil
	}
	for _, p := range r.Parts {
		n := names{"time": w.when(p.At.Time(), now), "ms": strconv.Itoa(int(p.Took)) + " ms", "cause": w.explain(p.Code).Title}
		key := "rehearsal.passed"
		switch {
		case p.State == protocol.CheckFailed:
			key = "rehearsal.part.failed"
		case p.State == protocol.CheckSkipped:
			key = "rehearsal.skipped"
		case p.Took > 0:
			key = "rehearsal.passed.in"
		}
		facts = append(facts, fact{Name: w["rehearsal.part."+p.Name], Value: w.say(key, n)})
	}
	return facts
}

// cannotRehearse returns the word for why a terminal would not rehearse if it was asked now; "" if it may.
func cannotRehearse(s fleet.State, now time.Time) string {
	switch {
	case !s.Online:
		return "rehearsal.offline"
	case s.Health != nil && s.Health.InCall:
		return "rehearsal.busy"
	case s.Health != nil && s.Health.Rehearsed != nil && s.Health.Rehearsed.Asked && now.Sub(s.Health.Rehearsed.At.Time()) < rehearseSeldom:
		return "rehearsal.soon"
	}
	return ""
}

// refusals are the codes by which scripts are told.
var refusals = map[string]protocol.Code{"rehearsal.offline": protocol.SignalOffline, "rehearsal.busy": protocol.AnswerBusy, "rehearsal.soon": protocol.LinkTooMany}

var errNoRehearsals = errors.New("nobody can be asked to rehearse")

// askToRehearse asks a terminal, which decides, and returns the word for why it would not.
func (s *Server) askToRehearse(ctx context.Context, h register.Home) (string, error) {
	if s.o.Rehearse == nil {
		return "", errNoRehearsals
	}
	if word := cannotRehearse(s.o.Fleet.State(h.Terminal), time.Now()); word != "" {
		return word, nil
	}
	return "", s.o.Rehearse(ctx, h.Terminal)
}

// rehearse is an operator's wish.
func (s *Server) rehearse(w http.ResponseWriter, r *http.Request, _ visitor) {
	home, ok := s.addressed(w, r)
	if !ok {
		return
	}
	switch word, err := s.askToRehearse(r.Context(), home); {
	case err != nil:
		s.broken(w, r, err)
	case word != "":
		s.fail(w, r, http.StatusConflict, word)
	default:
		http.Redirect(w, r, "/operator/homes/"+home.ID, http.StatusSeeOther)
	}
}

// rehearseOwn is a clinician's wish, of a home that this person may call.
func (s *Server) rehearseOwn(w http.ResponseWriter, r *http.Request, v visitor) {
	id := r.PathValue("home")
	err := s.mayKnow(r.Context(), v.person.ID, id)
	if errors.Is(err, errNotTheirs) {
		s.denied(r, v, "home "+id)
		s.refuse(w, http.StatusForbidden, protocol.AuthNone, "")
		return
	}
	var home register.Home
	if err == nil {
		home, err = s.o.Register.Home(r.Context(), id)
	}
	var word string
	if err == nil {
		word, err = s.askToRehearse(r.Context(), home)
	}
	switch {
	case err != nil:
		s.broken(w, r, err)
	case word != "":
		s.refuse(w, http.StatusConflict, refusals[word], s.words[word])
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// rehearsalView is what an operator sees of a terminal's rehearsals.
type rehearsalView struct {
	Home, Text string
	Late       string // that it should have rehearsed since
	Parts      []fact
	Cannot     string // why it cannot be asked now
}
