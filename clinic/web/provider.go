package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"vindu/clinic/register"
)

// mostly is the share of a group's homes, in percent, from which its common provider is named although some have another.
const mostly = 80

// providersListed bounds what is suggested where a provider is noted.
const providersListed = 200

// tally counts homes by the provider of their lines. Case does not tell providers apart; each is called as the first home has it.
type tally struct {
	n     int // homes, those too of which nobody has noted it
	lines map[string]int
	names map[string]string
}

func newTally() *tally { return &tally{lines: map[string]int{}, names: map[string]string{}} }

func (t *tally) add(provider string) {
	t.n++
	if provider == "" {
		return
	}
	key := strings.ToLower(provider)
	t.lines[key]++
	if t.names[key] == "" {
		t.names[key] = provider
	}
}

// most returns the provider of most homes, and how many it has.
func (t *tally) most() (key string, n int) {
	for k, m := range t.lines {
		if m > n || m == n && k < key {
			key, n = k, m
		}
	}
	return key, n
}

// shared says which provider the homes of a group have in common, when that tells them from the other homes of the clinic: all of them have it, and not all of the others; or most have it, and fewer of the
// others. Of one home nothing can be in common.
func (w words) shared(group, all *tally) string {
	key, n := group.most()
	others, with := all.n-group.n, all.lines[key]-n
	switch {
	case group.n < 2 || others == 0:
	case n == group.n && with < others:
		return w.say("fleet.provider.all", names{"provider": group.names[key]})
	case 100*n >= mostly*group.n && 100*with < mostly*others:
		return w.say("fleet.provider.most", names{"provider": group.names[key], "n": strconv.Itoa(n), "count": strconv.Itoa(group.n)})
	}
	return ""
}

// setProvider notes who provides a home's line.
func (s *Server) setProvider(w http.ResponseWriter, r *http.Request, v visitor) {
	home := r.PathValue("home")
	switch err := s.o.Custody.SetProvider(r.Context(), v.person.Who(), home, strings.TrimSpace(r.PostForm.Get("provider"))); {
	case errors.Is(err, register.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "error.404")
	case errors.Is(err, register.ErrText):
		s.fail(w, r, http.StatusUnprocessableEntity, "error.text")
	case err != nil:
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, "/operator/homes/"+home, http.StatusSeeOther)
	}
}
