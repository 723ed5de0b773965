package web

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"vindu/protocol"
)

// Authorisations knows by what right persons call.
type Authorisations interface {
	// Current returns a person's authorisation as it is now. The error has the code protocol.AuthNone if there is none.
	Current(ctx context.Context, person string) (signed []byte, a *protocol.Authorisation, err error)
	// Covered returns the homes, by number, that an authorisation is for.
	Covered(ctx context.Context, a *protocol.Authorisation) (map[string]bool, error)
}

const (
	// soon is how long before its end an authorisation that is not being renewed is spoken of: the clinic renews one a day before.
	soon = 24 * time.Hour
	// rightsEvery is, in beats, how often an open page's person is looked up again. What takes a right away is told at once, by RightsChanged.
	rightsEvery = 5
)

// scope is what a person may do now: nothing, if there is no authorisation.
type scope struct {
	signed []byte
	a      *protocol.Authorisation // nil: none
	homes  map[string]bool         // that may be seen and called
}

// scope looks a person's up.
func (s *Server) scope(ctx context.Context, person string) (scope, error) {
	signed, a, err := s.o.Authorisations.Current(ctx, person)
	if protocol.CodeOf(err) == protocol.AuthNone {
		return scope{}, nil
	}
	if err != nil {
		return scope{}, err
	}
	homes, err := s.o.Authorisations.Covered(ctx, a)
	return scope{signed, a, homes}, err
}

// only returns the homes that the person may see.
func (r scope) only(homes []homeView) []homeView {
	return slices.DeleteFunc(slices.Clone(homes), func(h homeView) bool { return !r.homes[h.ID] })
}

// scopeView is what an open page knows of its person's rights.
type scopeView struct {
	ID    string   `json:"id"`    // of the authorisation; empty: there is none
	Text  string   `json:"text"`  // what to know of it; empty: nothing
	Homes []string `json:"homes"` // all that may be seen, by number
}

func (w words) seen(r scope, now time.Time) scopeView {
	if r.a == nil {
		return scopeView{Text: w["right.none"], Homes: []string{}}
	}
	v := scopeView{ID: hex.EncodeToString(r.a.ID[:]), Homes: make([]string, 0, len(r.homes))}
	for h := range r.homes {
		v.Homes = append(v.Homes, h)
	}
	slices.Sort(v.Homes)
	if to := r.a.To.Time(); to.Sub(now) < soon {
		v.Text = w.say("right.ends", names{"time": w.when(to, now)})
	}
	return v
}

// equal leaves out nothing that the page shows.
func (v scopeView) equal(o scopeView) bool {
	return v.ID == o.ID && v.Text == o.Text && slices.Equal(v.Homes, o.Homes)
}

// RightsChanged has the open pages of a person look at once what it may see and call. It does not block.
func (s *Server) RightsChanged(person string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, st := range s.streams {
		if k.person != person {
			continue
		}
		select {
		case st.righted <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// authorisation tells a person's page by what right it calls: what it writes into invitations, and which passkeys can sign them.
func (s *Server) authorisation(w http.ResponseWriter, r *http.Request, v visitor) {
	signed, a, err := s.o.Authorisations.Current(r.Context(), v.person.ID)
	if protocol.CodeOf(err) == protocol.AuthNone {
		s.refuse(w, http.StatusForbidden, protocol.AuthNone, "")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	passkeys := make([][]byte, len(a.Credentials))
	for i, c := range a.Credentials {
		passkeys[i] = c.ID
	}
	reply(w, http.StatusOK, struct {
		Now           int64          `json:"now"` // ms since the epoch
		RP            string         `json:"rp"`
		ID            string         `json:"id"`
		To            int64          `json:"to"` // ms since the epoch
		Authorisation []byte         `json:"authorisation"`
		Party         protocol.Party `json:"party"`
		Passkeys      [][]byte       `json:"passkeys"`
	}{time.Now().UnixMilli(), s.o.RelyingParty.ID, hex.EncodeToString(a.ID[:]), int64(a.To), signed, a.Party, passkeys})
}

// errNotTheirs is that a home is not among those that a person may see, or that there is none of that number: which of them is not told.
var errNotTheirs = errors.New("not a home of this person's")

// mayKnow looks whether a home may be known to a person at all. What else a call needs is the calls' own to look at.
func (s *Server) mayKnow(ctx context.Context, person, home string) error {
	r, err := s.scope(ctx, person)
	if err != nil {
		return err
	}
	if !r.homes[home] {
		return fmt.Errorf("%w: home %q", errNotTheirs, home)
	}
	return nil
}
