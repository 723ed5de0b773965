package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Announcements are the calls that homes are told of before they come; register.Register keeps them.
type Announcements interface {
	Announce(ctx context.Context, home, person string, at time.Time) error
	Announced(ctx context.Context) (map[string]register.Announcement, error)
}

// announce has a home told when this person calls, or told of nothing. The time is that of the home's clock, today's or, if that is over, tomorrow's.
func (s *Server) announce(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		At string `json:"at"` // "15:04"; "": it is taken back
	}
	if err := read(w, r, &body); err != nil {
		s.answer(w, r, err)
		return
	}
	home := r.PathValue("home")
	switch err := s.mayKnow(r.Context(), v.person.ID, home); {
	case errors.Is(err, errNotTheirs):
		s.denied(r, v, "home "+home)
		s.refuse(w, http.StatusForbidden, protocol.AuthNone, "")
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	var at time.Time
	if body.At != "" {
		clock, err := time.Parse("15:04", body.At)
		if err != nil {
			s.answer(w, r, fmt.Errorf("%w: the time is not as 15:04", calls.ErrBadRequest))
			return
		}
		zone, err := s.zone(r.Context(), home)
		if err != nil {
			s.broken(w, r, err)
			return
		}
		at = coming(clock, time.Now().In(zone))
	}
	if err := s.tell(r.Context(), home, v.person.ID, at); err != nil {
		s.broken(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// coming returns the next time at which a clock in now's zone shows this.
func coming(clock, now time.Time) time.Time {
	at := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if at.Before(now) {
		at = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	return at
}

// tell keeps what a home is told, and has its terminal and the open pages hear of it.
func (s *Server) tell(ctx context.Context, home, person string, at time.Time) error {
	if err := s.o.Announcements.Announce(ctx, home, person, at); err != nil {
		return err
	}
	if err := s.pin(ctx); err != nil {
		s.o.Log.Error("homes cannot be read; pages show them as they were", "error", err)
	}
	h, err := s.o.Register.Home(ctx, home)
	if err != nil || h.Terminal == (protocol.KeyHash{}) {
		return err
	}
	if err := s.o.Tell(ctx, h.Terminal); err != nil {
		s.o.Log.Warn("a terminal was not told of a call that is announced; it learns of it when it asks for its settings", "terminal", h.Terminal, "error", err)
	}
	return nil
}

// made takes back what a home was told of a person's call, which has come.
func (s *Server) made(ctx context.Context, home, person string) {
	if s.o.Announcements == nil {
		return
	}
	all, err := s.o.Announcements.Announced(ctx)
	if err == nil && all[home].Person == person {
		err = s.tell(ctx, home, person, time.Time{})
	}
	if err != nil {
		s.o.Log.Error("a home is still told of a call that has come", "home", home, "error", err)
	}
}

// zone is where a home's clocks are.
func (s *Server) zone(ctx context.Context, home string) (*time.Location, error) {
	if s.o.Rights == nil {
		return zone(), nil
	}
	rules, _, err := s.o.Rights.PolicySettings(ctx, home)
	if err != nil {
		return nil, err
	}
	return time.LoadLocation(rules.Zone)
}

// told adds to homes what they are told.
func (s *Server) told(ctx context.Context, homes []homeView, now time.Time) error {
	if s.o.Announcements == nil {
		return nil
	}
	all, err := s.o.Announcements.Announced(ctx)
	if err != nil {
		return err
	}
	for i, h := range homes {
		a, ok := all[h.ID]
		if !ok {
			continue
		}
		zone, err := s.zone(ctx, h.ID)
		if err != nil {
			return err
		}
		at, key := a.At.In(zone), "home.told"
		if now = now.In(zone); at.YearDay() != now.YearDay() {
			key = "home.told.tomorrow"
		}
		homes[i].Notes = append(h.Notes, noteView{Kind: "told", Text: s.words.say(key, names{"name": a.Party.Name, "role": a.Party.Role, "time": at.Format("15:04")})})
	}
	return nil
}
