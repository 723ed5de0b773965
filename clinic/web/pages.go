package web

import (
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/passkey"
	"vindu/protocol"
)

//go:embed templates/*.html
var templateFiles embed.FS

// recentCalls is how many calls the first page lists.
const recentCalls = 10

func loadTemplates(w words, a *assets) (*template.Template, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"t": func(key string, pairs ...string) (string, error) {
			if _, ok := w[key]; !ok {
				return "", fmt.Errorf("no text %q", key)
			}
			n := names{}
			for i := 0; i+1 < len(pairs); i += 2 {
				n[pairs[i]] = pairs[i+1]
			}
			return w.say(key, n), nil
		},
		"asset": a.url,
		"b64":   func(b []byte) string { return base64.StdEncoding.EncodeToString(b) },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}).ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	return t, nil
}

// frame is what every page shows.
type frame struct {
	Title        string
	Tab          string // what the browser's tab says, if not Title
	Organisation string
	Person       *protocol.Party // nil if nobody is signed in
	Script       string          // file name; empty if the page has none
	Passkeys     bool            // there are any
	Tongues      []tongue        // in which pages can be had
}

func (s *Server) frame(title string, v *visitor) frame {
	f := frame{Title: title, Organisation: s.o.Organisation, Passkeys: s.o.Passkeys != nil, Tongues: s.offered()}
	if v != nil {
		f.Person = &v.person.Party
	}
	return f
}

func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b strings.Builder
	if err := s.templates.ExecuteTemplate(&b, name, data); err != nil {
		s.o.Log.Error("page cannot be rendered", "page", name, "error", err)
		http.Error(w, s.words["error.500"], http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, b.String())
}

// page wraps a handler of a page that only those who are signed in see.
func (s *Server) page(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := s.visitor(r)
		switch {
		case errors.Is(err, errNoSession):
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		case err != nil:
			s.broken(w, r, err)
		default:
			h(w, r, v)
		}
	}
}

// notice is a page with a sentence and what to do next.
type notice struct {
	frame
	Sentence, Next string
	Home           bool // offer the way to the homes
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, key string) {
	if strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/events" {
		s.refuse(w, status, protocol.BrowserFailed, s.words[key])
		return
	}
	s.render(w, r, status, "notice", notice{s.frame(s.words["error.title"], nil), s.words[key], s.words[key+".next"], true})
}

// broken answers when the clinic is at fault.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.o.Log.Error("page cannot be served", "error", err)
	}
	s.fail(w, r, http.StatusInternalServerError, "error.500")
}

// enter signs in by a link. Browsers that look ahead do not use it up. A link that another site leads to only shows a
// button: nobody is signed in as another unawares. One that the person opened (typed, pasted, from a program) signs in at once.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead || r.Header.Get("Sec-Purpose") != "" || r.Header.Get("Purpose") != "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	if site := r.Header.Get("Sec-Fetch-Site"); site == "" || site == "none" || site == "same-origin" {
		s.enterAnew(w, r)
		return
	}
	person, err := s.o.Sessions.whose(r.Context(), r.PathValue("token"))
	switch {
	case errors.Is(err, ErrLink):
		s.enterAnew(w, r) // which says so
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	p, err := s.o.Register.Person(r.Context(), person)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	ask := enterView{frame: s.frame(s.words["enter.title"], nil), As: p.Party, Token: r.PathValue("token")}
	if v, err := s.visitor(r); err == nil {
		ask.frame, ask.Now = s.frame(s.words["enter.title"], &v), s.words.say("enter.now", names{"name": v.person.Party.Name})
	}
	s.render(w, r, http.StatusOK, "enter", ask)
}

// enterView asks before somebody is signed in.
type enterView struct {
	frame
	As    protocol.Party
	Now   string // who is signed in until then
	Token string
}

// enterAnew signs in, unless the person has a passkey: then a link is no way in any more. Who has lost the passkey is invited by an administrator.
func (s *Server) enterAnew(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	person, err := s.o.Sessions.whose(r.Context(), r.PathValue("token"))
	has := false
	if err == nil {
		has, err = s.hasPasskey(r.Context(), person)
	}
	switch {
	case err != nil && !errors.Is(err, ErrLink): // of which enter tells
		s.broken(w, r, err)
		return
	case has:
		s.complain(r, "sign-in link of a person with a passkey refused", "person", person)
		s.render(w, r, http.StatusForbidden, "notice", notice{s.frame(s.words["enter.title"], nil), s.words["enter.passkey"], s.words["enter.passkey.next"], true})
		return
	}
	session, expires, err := s.o.Sessions.enter(r.Context(), r.PathValue("token"))
	switch {
	case errors.Is(err, ErrLink):
		if _, err := s.visitor(r); err == nil { // such as by the back button
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		s.complain(r, "sign-in link refused")
		s.render(w, r, http.StatusForbidden, "notice", notice{s.frame(s.words["enter.title"], nil), s.words["enter.used"], s.words["enter.next"], false})
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	s.leaveBefore(r)
	setCookie(w, r, session, expires)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// hasPasskey tells whether a person can sign in by one.
func (s *Server) hasPasskey(ctx context.Context, person string) (bool, error) {
	if s.o.Passkeys == nil {
		return false, nil
	}
	list, err := s.o.Passkeys.List(ctx, person)
	return slices.ContainsFunc(list, func(p passkey.Passkey) bool { return p.Usable() }), err
}

// leaveBefore ends the session that the browser had until now: nobody could any more, and it may be another person's.
func (s *Server) leaveBefore(r *http.Request) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return
	}
	if err := s.o.Sessions.leave(r.Context(), cookie.Value); err != nil {
		s.o.Log.Error("former session cannot be ended; it ends by its time", "error", err)
	}
	s.dismiss(cookie.Value)
}

func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	next := s.words["enter.ask"]
	if cookie, err := r.Cookie(cookieName(r)); err == nil {
		if h, err := s.o.Sessions.find(r.Context(), cookie.Value); err == nil && h.identity != nil && s.o.Provider != nil {
			next = s.words.say("identity.left", names{"name": s.o.ProviderName})
		}
		if err := s.o.Sessions.leave(r.Context(), cookie.Value); err != nil {
			s.broken(w, r, err)
			return
		}
		s.dismiss(cookie.Value)
	}
	setCookie(w, r, "", time.Unix(0, 0))
	s.render(w, r, http.StatusOK, "notice", notice{s.frame(s.words["left.title"], nil), s.words["left.text"], next, false})
}

// recentView is a line of the list of calls.
type recentView struct {
	Call     string `json:"call"`
	Began    string `json:"began"` // RFC 3339
	When     string `json:"when"`
	Home     string `json:"home"`
	Sentence string `json:"sentence"`
	Duration string `json:"duration"`
	Kind     string `json:"kind"` // running, good, bad, alarm
}

func (w words) recent(r calls.Record, now time.Time) recentView {
	v := recentView{
		Call: r.Call.String(), Began: r.Began.UTC().Format(time.RFC3339), When: w.when(r.Began, now),
		Home: r.HomeLabel, Sentence: w["recent.running"], Kind: kindOf(r.Outcome),
	}
	if r.Outcome != "" {
		v.Sentence = w.outcome(r.Outcome)
	}
	v.Duration = spell(talking(r))
	return v
}

// kindOf sorts outcomes into those that are as they should be, those that are not, and those that are security events.
func kindOf(c protocol.Code) string {
	stage, _, _ := strings.Cut(string(c), ".")
	switch {
	case c == "":
		return "running"
	case stage == "proof" || stage == "authorisation":
		return "alarm"
	case protocol.Explain(c).Who == protocol.Nobody:
		return "good"
	}
	return "bad"
}

// talking returns how long the two talked, by the clinic's own account; where it died during the call, by the terminal's or the page's.
func talking(r calls.Record) time.Duration {
	switch {
	case r.EndedAt.IsZero():
		return 0
	case !r.TalkingAt.IsZero():
		return r.EndedAt.Sub(r.TalkingAt)
	}
	for _, half := range []*protocol.CallRecord{r.TerminalHalf, r.CallerHalf} {
		if half != nil && half.Duration > 0 {
			return time.Duration(min(half.Duration, uint64(max(r.EndedAt.Sub(r.Began).Milliseconds(), 0)))) * time.Millisecond
		}
	}
	return 0
}

func (s *Server) recents(r *http.Request, v visitor) ([]recentView, error) {
	records, err := s.o.Calls.Records(r.Context(), v.person.ID, recentCalls)
	if err != nil {
		return nil, err
	}
	views := make([]recentView, 0, len(records))
	for _, record := range records {
		views = append(views, s.words.recent(record, time.Now()))
	}
	return views, nil
}

func (s *Server) homesPage(w http.ResponseWriter, r *http.Request, v visitor) {
	homes, err := s.read(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	mine, err := s.scope(r.Context(), v.person.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	recent, err := s.recents(r, v)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	// Inside <script type="application/json"> html/template would encode a string once more: this is JSON already, with
	// < > & escaped by encoding/json.
	texts, err := json.Marshal(map[string]any{"words": s.words.under("call.", "own.", "page."), "failures": s.words.failures()})
	if err != nil {
		s.broken(w, r, err)
		return
	}
	f := s.frame(s.words["homes.title"], &v)
	f.Script = "page.js"
	s.render(w, r, http.StatusOK, "homes", struct {
		frame
		Homes  []homeView
		Rights scopeView
		Recent []recentView
		Blank  recentView
		Texts  template.JS
		Tells  bool // homes can be told of calls
		// Rehearses: terminals can be asked to.
		Rehearses bool
	}{f, mine.only(homes), s.words.seen(mine, time.Now()), recent, recentView{}, template.JS(texts), s.o.Announcements != nil, s.o.Rehearse != nil})
}
