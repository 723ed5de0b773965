package web

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Staff is the register as administrators see it; register.Register is one.
type Staff interface {
	Persons(ctx context.Context) ([]register.Person, error)
	EnsurePerson(ctx context.Context, who string, p protocol.Party, d register.Duty) (register.Person, error)
	Give(ctx context.Context, who, person string, d register.Duty) (register.Person, error)
}

func (s *Server) administratorRoutes(mux *http.ServeMux) {
	page := func(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
		return s.page(s.only(register.Administrator, s.fresh(h)))
	}
	form := func(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
		return s.form(register.Administrator, s.fresh(h))
	}
	mux.HandleFunc("GET /administrator", page(s.personsPage))
	mux.HandleFunc("POST /administrator/persons", form(s.addPerson))
	mux.HandleFunc("GET /administrator/persons/{person}", page(s.personPage))
	mux.HandleFunc("POST /administrator/persons/{person}/duty", form(s.giveDuty))
	mux.HandleFunc("POST /administrator/persons/{person}/invite", form(s.invite))
	mux.HandleFunc("POST /administrator/persons/{person}/withdraw", form(s.withdrawInvitation))
	mux.HandleFunc("POST /administrator/persons/{person}/end", form(s.endSessions))
	mux.HandleFunc("POST /administrator/persons/{person}/passkeys/{passkey}/remove", form(s.removePasskey))
	mux.HandleFunc("GET /administrator/shown/{shown}", page(s.showOnce))
	if s.o.Rights != nil {
		s.rightsRoutes(mux, page, form)
	}
	if s.o.Provider != nil {
		mux.HandleFunc("POST /administrator/persons/{person}/identity", form(s.linkIdentity))
		mux.HandleFunc("POST /administrator/persons/{person}/identity/remove", form(s.unlinkIdentity))
	}
}

// dutyView is a choice in a form.
type dutyView struct{ Value, Text string }

func (w words) duty(d register.Duty) string {
	if d == register.NoDuty {
		return w["duty.word.none"]
	}
	return w["duty.word."+string(d)]
}

func (w words) duties(none bool) []dutyView {
	var list []dutyView
	for _, d := range []register.Duty{register.Clinician, register.Technician, register.Operator, register.Administrator} {
		list = append(list, dutyView{string(d), w.duty(d) + " – " + w["duty.does."+string(d)]})
	}
	if none {
		list = append(list, dutyView{"", w.duty(register.NoDuty)})
	}
	return list
}

func (w words) invitationLives() []life {
	return []life{{"1h", w["setup.life.hour"], passkey.InvitationLife}, {"24h", w["setup.life.24"], 24 * time.Hour}, {"168h", w["setup.life.week"], passkey.MaxInvitationLife}}
}

// staffView is a line of the list of persons.
type staffView struct {
	ID      string
	Party   protocol.Party
	Duty    string
	State   string
	Word    string
	Detail  string
	May     string // whom the person may ring
	Invited bool
}

type personsView struct {
	frame
	Problem, Fix, Bad string
	Persons           []staffView
	Duties            []dutyView
	Name, Role        string
	Unit              string // organisation
	Duty              string
	Nav               bool        // there are pages besides
	Review            []staffView // whose right to call nobody has looked at in a year
	may               map[string]string
}

func (s *Server) personsPage(w http.ResponseWriter, r *http.Request, v visitor) {
	s.personsView(w, r, v, http.StatusOK, personsView{Unit: s.o.Organisation})
}

func (s *Server) personsView(w http.ResponseWriter, r *http.Request, v visitor, status int, view personsView) {
	persons, err := s.o.Staff.Persons(r.Context())
	summaries, summariesErr := s.o.Passkeys.Summaries(r.Context())
	if err := errors.Join(err, summariesErr); err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame, view.Duties = s.frame(s.words["admin.title"], &v), s.words.duties(false)
	if view.Problem != "" {
		view.Tab = s.words.say("setup.refused", names{"problem": view.Problem})
	}
	if err := s.mayCall(r.Context(), persons, &view); err != nil {
		s.broken(w, r, err)
		return
	}
	now := time.Now()
	for _, p := range persons {
		m := summaries[p.ID]
		line := staffView{ID: p.ID, Party: p.Party, Duty: s.words.duty(p.Duty), Invited: m.Invited, State: stateReady, Word: s.words.count("admin.passkeys.", m.Usable)}
		switch {
		case m.Usable == 0 && m.Invited:
			line.State, line.Word = stateBusy, s.words["admin.invited"]
		case m.Usable == 0:
			line.State, line.Word = "", s.words["admin.passkeys.none"]
		}
		if !m.Used.IsZero() {
			line.Detail = s.words.say("passkeys.used", names{"at": s.words.when(m.Used, now)})
		}
		line.May = view.may[p.ID]
		view.Persons = append(view.Persons, line)
	}
	s.render(w, r, status, "persons", view)
}

// count says how many there are of something, by the texts prefix + "one" and "many".
func (w words) count(prefix string, n int) string {
	if n == 1 {
		return w[prefix+"one"]
	}
	return w.say(prefix+"many", names{"count": fmt.Sprint(n)})
}

func (s *Server) addPerson(w http.ResponseWriter, r *http.Request, v visitor) {
	field := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	view := personsView{Name: field("name"), Role: field("role"), Unit: field("organisation"), Duty: field("duty")}
	refuse := func(key, field string) {
		view.Problem, view.Fix, view.Bad = s.words[key], s.words[key+".next"], field
		s.personsView(w, r, v, http.StatusUnprocessableEntity, view)
	}
	d, err := register.ParseDuty(view.Duty)
	if err != nil {
		refuse("admin.bad.duty", "duty")
		return
	}
	p, err := s.o.Staff.EnsurePerson(r.Context(), v.person.Who(), protocol.Party{Name: view.Name, Role: view.Role, Organisation: view.Unit}, d)
	switch {
	case errors.Is(err, register.ErrText):
		refuse("admin.bad.text", "name")
	case errors.Is(err, register.ErrDuty):
		refuse("admin.bad.there", "name")
	case err != nil:
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, personPath(p.ID), http.StatusSeeOther)
	}
}

func personPath(id string) string { return "/administrator/persons/" + id }

// personView is a person's page.
type personView struct {
	frame
	Problem, Fix string
	ID           string
	Party        protocol.Party
	Duty         string
	Own          bool // the administrator's own page
	Duties       []dutyView
	Given        string // value of the duty
	Keys         []passkeyView
	Gone         []passkeyView
	Invitation   string // that one can be used now
	Lives        []life
	Sessions     string
	SignedIn     bool
	Passkeyless  bool
	Rights       *rightsView   // nil: the clinic has no such pages
	Identity     *identityView // nil: it has no identity provider
}

func (s *Server) personPage(w http.ResponseWriter, r *http.Request, v visitor) {
	s.personView(w, r, v, http.StatusOK, personView{})
}

// whom returns the person that the path names, or answers that there is none.
func (s *Server) whom(w http.ResponseWriter, r *http.Request) (register.Person, bool) {
	p, err := s.o.Register.Person(r.Context(), r.PathValue("person"))
	switch {
	case errors.Is(err, register.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "error.404")
	case err != nil:
		s.broken(w, r, err)
	}
	return p, err == nil
}

func (s *Server) personView(w http.ResponseWriter, r *http.Request, v visitor, status int, view personView) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	list, err := s.o.Passkeys.List(r.Context(), p.ID)
	invitation, invited, openErr := s.o.Passkeys.Open(r.Context(), p.ID)
	sessions, sessionsErr := s.o.Sessions.Count(r.Context(), p.ID, list)
	rights, rightsErr := s.rights(r.Context(), p)
	identity, identityErr := s.identityOf(r.Context(), p.ID)
	if err := errors.Join(err, openErr, sessionsErr, rightsErr, identityErr); err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame = s.frame(p.Party.Name, &v)
	if view.Rights != nil && rights != nil {
		rights.Problem, rights.Reason = view.Rights.Problem, view.Rights.Reason
		s.refused(&view.frame, rights.Problem)
	}
	view.Rights = rights
	if view.Identity != nil && identity != nil {
		identity.formView, identity.Code = view.Identity.formView, view.Identity.Code
		s.refused(&view.frame, identity.formView)
	}
	view.Identity = identity
	if view.Problem != "" {
		view.Tab = s.words.say("setup.refused", names{"problem": view.Problem})
	}
	view.ID, view.Party, view.Duty, view.Given, view.Own = p.ID, p.Party, s.words.duty(p.Duty), string(p.Duty), p.ID == v.person.ID
	view.Duties, view.Lives = s.words.duties(true), s.words.invitationLives()
	who, now := s.naming(r.Context()), time.Now()
	view.Passkeyless = true
	for _, k := range list {
		line := s.words.passkey(k, who, now)
		view.Passkeyless = view.Passkeyless && !k.Usable()
		if line.Gone {
			view.Gone = append(view.Gone, line)
		} else {
			view.Keys = append(view.Keys, line)
		}
	}
	if invited {
		view.Invitation = s.words.say("admin.invitation.open", names{"who": who(invitation.By), "at": s.words.when(invitation.Issued, now), "until": s.words.when(invitation.Expires, now)})
	}
	view.SignedIn, view.Sessions = sessions > 0, s.words["admin.sessions.none"]
	if sessions > 0 {
		view.Sessions = s.words.count("admin.sessions.", sessions)
	}
	s.render(w, r, status, "person", view)
}

func (s *Server) giveDuty(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	if p.ID == v.person.ID { // or the clinic might be left without an administrator
		s.personView(w, r, v, http.StatusConflict, personView{Problem: s.words["admin.bad.own"], Fix: s.words["admin.bad.own.next"]})
		return
	}
	d := register.NoDuty
	if text := r.PostForm.Get("duty"); text != "" {
		var err error
		if d, err = register.ParseDuty(text); err != nil {
			s.personView(w, r, v, http.StatusUnprocessableEntity, personView{Problem: s.words["admin.bad.duty"], Fix: s.words["admin.bad.duty.next"]})
			return
		}
	}
	_, err := s.o.Staff.Give(r.Context(), v.person.Who(), p.ID, d)
	s.done(w, r, p.ID, err)
}

// done leads back to a person's page. What was done meanwhile by somebody else is seen there.
func (s *Server) done(w http.ResponseWriter, r *http.Request, person string, err error) {
	if err != nil && !errors.Is(err, register.ErrNotFound) && !errors.Is(err, passkey.ErrNotFound) && !errors.Is(err, passkey.ErrInvitation) {
		s.broken(w, r, err)
		return
	}
	http.Redirect(w, r, personPath(person), http.StatusSeeOther)
}

func (s *Server) invite(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	hold, ok := chosen(s.words.invitationLives(), r.PostForm.Get("life"))
	keep := r.PostForm.Get("passkeys")
	if !ok || keep != "keep" && keep != "remove" {
		s.personView(w, r, v, http.StatusUnprocessableEntity, personView{Problem: s.words["setup.bad.life"], Fix: s.words["setup.bad.life.next"]})
		return
	}
	i, err := s.o.Passkeys.Invite(r.Context(), v.person.Who(), p.ID, hold, keep == "remove")
	if err != nil {
		s.broken(w, r, err)
		return
	}
	address := s.address(r) + i.Path()
	code, err := qr(address, s.words["admin.invitation.qr"])
	if err != nil {
		s.broken(w, r, err)
		return
	}
	grant := grantView{
		frame: s.frame(s.words.say("admin.invitation.title", names{"name": p.Party.Name}), &v), Text: address, QR: code,
		Lead:  s.words.say("admin.invitation.lead", names{"name": p.Party.Name, "until": s.words.full(i.Expires)}),
		After: s.words["admin.invitation.after"], Back: personPath(p.ID), BackTo: p.Party.Name, Label: s.words["admin.invitation.text"], Rows: 3,
	}
	if keep == "remove" {
		grant.Warning = s.words["admin.invitation.removed"]
	}
	s.showLater(w, r, v, grant)
}

// address is where browsers find the pages, and passkeys work.
func (s *Server) address(r *http.Request) string {
	if site := s.o.Passkeys.Site(); site.ID != "" {
		return site.Origins[0]
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (s *Server) withdrawInvitation(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	s.done(w, r, p.ID, s.o.Passkeys.Withdraw(r.Context(), v.person.Who(), p.ID))
}

func (s *Server) removePasskey(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	id, err := hex.DecodeString(r.PathValue("passkey"))
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	err = s.o.Passkeys.Remove(r.Context(), v.person.Who(), p.ID, id, p.ID != v.person.ID)
	if errors.Is(err, passkey.ErrLast) {
		s.personView(w, r, v, http.StatusConflict, personView{Problem: s.words["passkeys.last"], Fix: s.words["passkeys.last.next"]})
		return
	}
	s.done(w, r, p.ID, err)
}

func (s *Server) endSessions(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	err := s.o.Sessions.End(r.Context(), v.person.Who(), p.ID)
	s.Dismiss(p.ID)
	s.done(w, r, p.ID, err)
}
