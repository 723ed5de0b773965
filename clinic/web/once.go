package web

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"sync"
	"time"
)

// Bounds of what waits to be shown once.
const (
	grantLife = time.Minute
	maxGrants = 256
)

// onces are secrets that were issued by a form and are to be shown by the page that follows it: once. So a page that is loaded again neither
// issues another one nor shows this one to who comes to the browser later.
type onces struct {
	mu   sync.Mutex
	wait map[string]waiting
}

type waiting struct {
	session string
	until   time.Time
	view    grantView
}

// put returns the name under which take finds view.
func (g *onces) put(session string, view grantView, now time.Time) string {
	var b [16]byte
	rand.Read(b[:])
	name := hex.EncodeToString(b[:])
	g.mu.Lock()
	defer g.mu.Unlock()
	for n, w := range g.wait {
		if !now.Before(w.until) || len(g.wait) >= maxGrants {
			delete(g.wait, n)
		}
	}
	if g.wait == nil {
		g.wait = map[string]waiting{}
	}
	g.wait[name] = waiting{session, now.Add(grantLife), view}
	return name
}

// take returns what is to be shown, to the session that issued it, and forgets it.
func (g *onces) take(session, name string, now time.Time) (grantView, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w, ok := g.wait[name]
	if !ok || w.session != session {
		return grantView{}, false
	}
	delete(g.wait, name)
	return w.view, now.Before(w.until)
}

// showLater leads to the page that shows view, once.
func (s *Server) showLater(w http.ResponseWriter, r *http.Request, v visitor, view grantView) {
	http.Redirect(w, r, start[v.person.Duty]+"/shown/"+s.onces.put(v.session, view, time.Now()), http.StatusSeeOther)
}

func (s *Server) showOnce(w http.ResponseWriter, r *http.Request, v visitor) {
	view, ok := s.onces.take(v.session, r.PathValue("shown"), time.Now())
	if !ok {
		s.render(w, r, http.StatusGone, "notice", notice{s.frame(s.words["setup.shown"], &v), s.words["setup.shown.text"], s.words["setup.shown.next"], true})
		return
	}
	s.render(w, r, http.StatusOK, "grant", view)
}
