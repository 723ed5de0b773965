package web

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"time"

	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Passkeys are those of the clinic's people; passkey.Service is one.
type Passkeys interface {
	Site() protocol.RelyingParty
	Invite(ctx context.Context, by, person string, life time.Duration, removing bool) (passkey.Invitation, error)
	Invited(ctx context.Context, token string) (passkey.Invitation, error)
	Open(ctx context.Context, person string) (passkey.Invitation, bool, error)
	Withdraw(ctx context.Context, by, person string) error
	BeginInvited(ctx context.Context, token string) (*passkey.Creation, error)
	AddInvited(ctx context.Context, token, name string, response []byte) (passkey.Proof, error)
	BeginAnother(ctx context.Context, person, session string) (*passkey.Creation, error)
	AddAnother(ctx context.Context, person, session, name string, response []byte) (passkey.Proof, error)
	BeginSignIn() (*passkey.Request, error)
	SignIn(ctx context.Context, response []byte) (passkey.Proof, error)
	BeginTouch(ctx context.Context, person, session string) (*passkey.Request, error)
	Touch(ctx context.Context, person, session string, response []byte) (passkey.Proof, error)
	List(ctx context.Context, person string) ([]passkey.Passkey, error)
	Summaries(ctx context.Context) (map[string]passkey.Summary, error)
	Usable(ctx context.Context, person string, id []byte) (bool, error)
	Remove(ctx context.Context, by, person string, id []byte, last bool) error
}

// TouchLife is for how long a touch of a passkey is fresh: what matters asks for one.
const TouchLife = 15 * time.Minute

func (s *Server) passkeyRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", s.signInPage)
	if s.o.Passkeys == nil {
		return
	}
	mux.HandleFunc("GET /invited/{token}", s.invitedPage)
	mux.HandleFunc("GET /passkeys", s.page(s.passkeysPage))
	mux.HandleFunc("GET /passkeys/add", s.page(s.fresh(s.addPage)))
	mux.HandleFunc("POST /passkeys/{passkey}/remove", s.page(s.filled(maxForm, s.fresh(s.removeOwn))))
	mux.HandleFunc("POST /api/invited/{token}/begin", s.beginInvited)
	mux.HandleFunc("POST /api/invited/{token}/finish", s.finishInvited)
	mux.HandleFunc("POST /api/sign-in/begin", s.beginSignIn)
	mux.HandleFunc("POST /api/sign-in/finish", s.finishSignIn)
	mux.HandleFunc("POST /api/touch/begin", s.own(s.beginTouch))
	mux.HandleFunc("POST /api/touch/finish", s.own(s.finishTouch))
	mux.HandleFunc("POST /api/passkeys/begin", s.own(s.beginAnother))
	mux.HandleFunc("POST /api/passkeys/finish", s.own(s.finishAnother))
}

// own wraps a handler of what scripts ask for on pages that everybody has who is signed in.
func (s *Server) own(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := s.visitor(r)
		switch {
		case errors.Is(err, errNoSession):
			s.signedOut(w, err)
		case err != nil:
			s.broken(w, r, err)
		default:
			h(w, r, v)
		}
	}
}

func (v *visitor) fresh(now time.Time) bool {
	return v.passkey != nil && !now.Before(v.touched) && now.Sub(v.touched) < TouchLife
}

// touchView asks for a passkey before something that matters, and does that then: sends the form again, or loads the page again.
type touchView struct {
	frame
	Texts  template.JS
	Action string // of the form; empty if it was no form
	Fields []field
	None   bool // the person has no passkey
}

type field struct{ Name, Value string }

// fresh lets through who has used a passkey within TouchLife, and asks all others for one.
func (s *Server) fresh(h func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		if v.fresh(time.Now()) {
			h(w, r, v)
			return
		}
		list, err := s.o.Passkeys.List(r.Context(), v.person.ID)
		if err != nil {
			s.broken(w, r, err)
			return
		}
		view := touchView{frame: s.scripted("touch.title", &v), None: true}
		for _, p := range list {
			view.None = view.None && !p.Usable()
		}
		if r.Method == http.MethodPost {
			view.Action = r.URL.Path
			for name, values := range r.PostForm {
				for _, value := range values {
					view.Fields = append(view.Fields, field{name, value})
				}
			}
		}
		if view.Texts, err = s.passkeyTexts(); err != nil {
			s.broken(w, r, err)
			return
		}
		s.render(w, r, http.StatusForbidden, "touch", view)
	}
}

func (s *Server) scripted(title string, v *visitor) frame {
	f := s.frame(s.words[title], v)
	f.Script = "passkey.js"
	return f
}

// passkeyTexts are the words of ts/passkey.ts.
func (s *Server) passkeyTexts() (template.JS, error) {
	b, err := json.Marshal(map[string]any{"words": s.words.under("passkey."), "failures": map[string]failure{}})
	return template.JS(b), err
}

// signInView is the page on which one signs in.
type signInView struct {
	frame
	Texts    template.JS
	Origin   string // by which passkeys work; empty: they do not
	Provider string // where one can sign in besides; empty: nowhere
}

func (s *Server) signInPage(w http.ResponseWriter, r *http.Request) {
	view := signInView{}
	if s.o.Provider != nil {
		view.Provider = s.o.ProviderName
	}
	if s.o.Passkeys != nil && s.o.Passkeys.Site().ID != "" {
		view.Origin = s.o.Passkeys.Site().Origins[0]
	}
	if view.Origin == "" && view.Provider == "" {
		s.render(w, r, http.StatusOK, "notice", notice{s.frame(s.words["enter.title"], nil), s.words["enter.ask"], s.words["enter.next"], false})
		return
	}
	var err error
	if view.Texts, err = s.passkeyTexts(); err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame = s.scripted("enter.title", nil)
	s.render(w, r, http.StatusOK, "sign-in", view)
}

// addView is the page on which a passkey is registered: under an invitation, or a further one.
type addView struct {
	frame
	Texts         template.JS
	Origin        string
	As            protocol.Party
	Now           string // who is signed in until then
	Lead          string
	Begin, Finish string
	Back          bool // to the passkeys that there are
}

// invitedPage shows an invitation and uses nothing up.
func (s *Server) invitedPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	token := r.PathValue("token")
	i, err := s.o.Passkeys.Invited(r.Context(), token)
	if errors.Is(err, passkey.ErrInvitation) {
		s.complain(r, "invitation refused")
		s.render(w, r, http.StatusForbidden, "notice", notice{s.frame(s.words["invited.title"], nil), s.words["passkey.bad.invitation"], s.words["passkey.bad.invitation.next"], true})
		return
	}
	var p register.Person
	if err == nil {
		p, err = s.o.Register.Person(r.Context(), i.Person)
	}
	texts, textsErr := s.passkeyTexts()
	if err := errors.Join(err, textsErr); err != nil {
		s.broken(w, r, err)
		return
	}
	if s.o.Passkeys.Site().ID == "" {
		s.render(w, r, http.StatusNotFound, "notice", notice{s.frame(s.words["invited.title"], nil), s.words["passkey.bad.site"], s.words["passkey.bad.site.next"], false})
		return
	}
	view := addView{
		frame: s.scripted("invited.title", nil), Texts: texts, Origin: s.o.Passkeys.Site().Origins[0], As: p.Party,
		Lead: s.words.say("invited.until", names{"until": s.words.full(i.Expires)}), Begin: "/api/invited/" + token + "/begin", Finish: "/api/invited/" + token + "/finish",
	}
	if v, err := s.visitor(r); err == nil && v.person.ID != p.ID {
		view.frame, view.Now = s.scripted("invited.title", &v), s.words.say("enter.now", names{"name": v.person.Party.Name})
	}
	s.render(w, r, http.StatusOK, "add-passkey", view)
}

func (s *Server) addPage(w http.ResponseWriter, r *http.Request, v visitor) {
	texts, err := s.passkeyTexts()
	if err != nil {
		s.broken(w, r, err)
		return
	}
	view := addView{
		frame: s.scripted("passkeys.add", &v), Texts: texts, As: v.person.Party, Lead: s.words["passkeys.add.why"],
		Begin: "/api/passkeys/begin", Finish: "/api/passkeys/finish", Back: true,
	}
	if site := s.o.Passkeys.Site(); site.ID != "" {
		view.Origin = site.Origins[0]
	}
	s.render(w, r, http.StatusOK, "add-passkey", view)
}

// passkeyView is a line of a list of passkeys.
type passkeyView struct {
	ID, Name string
	State    string // for the style
	Word     string
	Detail   string
	Remove   bool
	Gone     bool
}

func (w words) passkey(p passkey.Passkey, who func(string) string, now time.Time) passkeyView {
	v := passkeyView{ID: p.Hex(), Name: p.Name, State: stateReady, Word: w["passkeys.state.usable"], Remove: true}
	v.Detail = w.say("passkeys.added", names{"at": w.when(p.Created, now)}) + " · " + w["passkeys.unused"]
	if !p.Used.IsZero() {
		v.Detail = w.say("passkeys.added", names{"at": w.when(p.Created, now)}) + " · " + w.say("passkeys.used", names{"at": w.when(p.Used, now)})
	}
	if p.Synced {
		v.Detail += " · " + w["passkeys.synced"]
	}
	switch {
	case !p.Removed.IsZero():
		v.State, v.Word, v.Remove, v.Gone = "", w["passkeys.state.removed"], false, true
		v.Detail += " · " + w.say("passkeys.removed", names{"at": w.when(p.Removed, now), "who": who(p.By)})
	case !p.Disabled.IsZero():
		v.State, v.Word = stateAttention, w["passkeys.state.disabled"]
		v.Detail += " · " + w.say("passkeys.disabled", names{"at": w.when(p.Disabled, now)})
	}
	return v
}

type passkeysView struct {
	frame
	Passkeys []passkeyView
	Problem  string
	Next     string
	Add      bool // offer to
}

func (s *Server) passkeysPage(w http.ResponseWriter, r *http.Request, v visitor) {
	s.passkeysView(w, r, v, http.StatusOK, passkeysView{})
}

func (s *Server) passkeysView(w http.ResponseWriter, r *http.Request, v visitor, status int, view passkeysView) {
	list, err := s.o.Passkeys.List(r.Context(), v.person.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame = s.frame(s.words["passkeys.title"], &v)
	usable := 0
	for _, p := range list {
		if p.Usable() {
			usable++
		}
	}
	for _, p := range list {
		line := s.words.passkey(p, func(who string) string { return who }, time.Now())
		if !line.Gone {
			line.Remove = usable > 1 || !p.Usable() && usable > 0
			view.Passkeys = append(view.Passkeys, line)
		}
	}
	view.Add = usable > 0 && usable < protocol.MaxCredentials
	s.render(w, r, status, "passkeys", view)
}

func (s *Server) removeOwn(w http.ResponseWriter, r *http.Request, v visitor) {
	id, err := hex.DecodeString(r.PathValue("passkey"))
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	switch err := s.o.Passkeys.Remove(r.Context(), v.person.Who(), v.person.ID, id, false); {
	case errors.Is(err, passkey.ErrLast):
		s.passkeysView(w, r, v, http.StatusConflict, passkeysView{Problem: s.words["passkeys.last"], Next: s.words["passkeys.last.next"]})
	case err != nil && !errors.Is(err, passkey.ErrNotFound): // removed meanwhile: the list says so
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, "/passkeys", http.StatusSeeOther)
	}
}

// finishBody is what ts/passkey.ts sends when a ceremony is finished.
type finishBody struct {
	Name       string          `json:"name"`
	Credential json.RawMessage `json:"credential"`
}

const maxFinish = passkey.MaxResponse + 4<<10

func readFinish(w http.ResponseWriter, r *http.Request) (b finishBody, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxFinish))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return finishBody{}, passkey.ErrMalformed
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return finishBody{}, passkey.ErrMalformed
	}
	return b, nil
}

// begun answers with the options of a ceremony, or why it could not be begun.
func (s *Server) begun(w http.ResponseWriter, r *http.Request, options any, err error) {
	if err != nil {
		s.passkeyFailed(w, r, err)
		return
	}
	reply(w, http.StatusOK, options)
}

func (s *Server) beginInvited(w http.ResponseWriter, r *http.Request) {
	o, err := s.o.Passkeys.BeginInvited(r.Context(), r.PathValue("token"))
	s.begun(w, r, o, err)
}

func (s *Server) finishInvited(w http.ResponseWriter, r *http.Request) {
	b, err := readFinish(w, r)
	var p passkey.Proof
	if err == nil {
		p, err = s.o.Passkeys.AddInvited(r.Context(), r.PathValue("token"), b.Name, b.Credential)
	}
	s.proven(w, r, p, err)
}

func (s *Server) beginSignIn(w http.ResponseWriter, r *http.Request) {
	o, err := s.o.Passkeys.BeginSignIn()
	s.begun(w, r, o, err)
}

func (s *Server) finishSignIn(w http.ResponseWriter, r *http.Request) {
	b, err := readFinish(w, r)
	var p passkey.Proof
	if err == nil {
		p, err = s.o.Passkeys.SignIn(r.Context(), b.Credential)
	}
	s.proven(w, r, p, err)
}

// proven signs in who has used a passkey.
func (s *Server) proven(w http.ResponseWriter, r *http.Request, p passkey.Proof, err error) {
	var session string
	var expires time.Time
	if err == nil {
		session, expires, err = s.o.Sessions.begin(r.Context(), p)
	}
	if err != nil {
		s.passkeyFailed(w, r, err)
		return
	}
	s.leaveBefore(r)
	setCookie(w, r, session, expires)
	reply(w, http.StatusOK, map[string]string{"next": "/"})
}

func (s *Server) beginTouch(w http.ResponseWriter, r *http.Request, v visitor) {
	o, err := s.o.Passkeys.BeginTouch(r.Context(), v.person.ID, v.session)
	s.begun(w, r, o, err)
}

func (s *Server) finishTouch(w http.ResponseWriter, r *http.Request, v visitor) {
	b, err := readFinish(w, r)
	var p passkey.Proof
	if err == nil {
		p, err = s.o.Passkeys.Touch(r.Context(), v.person.ID, v.session, b.Credential)
	}
	if err == nil {
		err = s.o.Sessions.touch(r.Context(), v.session, p)
	}
	if err != nil {
		s.passkeyFailed(w, r, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{})
}

func (s *Server) beginAnother(w http.ResponseWriter, r *http.Request, v visitor) {
	if !v.fresh(time.Now()) {
		s.passkeyFailed(w, r, errStale)
		return
	}
	o, err := s.o.Passkeys.BeginAnother(r.Context(), v.person.ID, v.session)
	s.begun(w, r, o, err)
}

func (s *Server) finishAnother(w http.ResponseWriter, r *http.Request, v visitor) {
	b, err := readFinish(w, r)
	if err == nil && !v.fresh(time.Now()) {
		err = errStale
	}
	if err == nil {
		_, err = s.o.Passkeys.AddAnother(r.Context(), v.person.ID, v.session, b.Name, b.Credential)
	}
	if err != nil {
		s.passkeyFailed(w, r, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"next": "/passkeys"})
}

// errStale is that a passkey was not used within TouchLife.
var errStale = errors.New("no fresh touch of a passkey")

// refusals of ceremonies: what each error is called in lang/. The first that fits.
var passkeyRefusals = []struct {
	err    error
	status int
	key    string
	code   protocol.Code
}{
	{errStale, http.StatusForbidden, "passkey.bad.stale", protocol.AuthPasskey},
	{passkey.ErrInvitation, http.StatusForbidden, "passkey.bad.invitation", protocol.AuthExpired},
	{passkey.ErrCeremony, http.StatusConflict, "passkey.bad.late", protocol.AuthExpired},
	{passkey.ErrUnknown, http.StatusForbidden, "passkey.bad.unknown", protocol.AuthPasskey},
	{passkey.ErrNotFound, http.StatusForbidden, "passkey.bad.unknown", protocol.AuthPasskey},
	{passkey.ErrDisabled, http.StatusForbidden, "passkey.bad.disabled", protocol.AuthCounter},
	{passkey.ErrCopied, http.StatusForbidden, "passkey.bad.disabled", protocol.AuthCounter},
	{passkey.ErrOther, http.StatusForbidden, "passkey.bad.other", protocol.AuthPasskey},
	{passkey.ErrKind, http.StatusUnprocessableEntity, "passkey.bad.kind", protocol.AuthPasskey},
	{passkey.ErrRefused, http.StatusForbidden, "passkey.bad.refused", protocol.AuthPasskey},
	{passkey.ErrMalformed, http.StatusBadRequest, "passkey.bad.malformed", protocol.SignalMalformed},
	{passkey.ErrName, http.StatusUnprocessableEntity, "passkey.bad.name", protocol.SignalMalformed},
	{passkey.ErrTooMany, http.StatusConflict, "passkey.bad.many", protocol.BrowserFailed},
	{passkey.ErrBusy, http.StatusServiceUnavailable, "passkey.bad.busy", protocol.BrowserFailed},
	{passkey.ErrSite, http.StatusNotFound, "passkey.bad.site", protocol.BrowserNoPasskey},
	{register.ErrNotFound, http.StatusForbidden, "passkey.bad.invitation", protocol.AuthRevoked},
	{errNoSession, http.StatusUnauthorized, "passkey.bad.signed_out", protocol.AuthRevoked},
}

func (s *Server) passkeyFailed(w http.ResponseWriter, r *http.Request, err error) {
	for _, f := range passkeyRefusals {
		if errors.Is(err, f.err) {
			s.complain(r, "passkey ceremony refused", "error", err, "code", f.code)
			w.Header().Set(protocol.FailureHeader, string(f.code))
			reply(w, f.status, map[string]string{"code": string(f.code), "sentence": s.words[f.key], "next": s.words[f.key+".next"]})
			return
		}
	}
	s.broken(w, r, err)
}
