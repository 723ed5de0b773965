package web

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Rights is who may call which homes, and what the homes' terminals do about it; grants.Service is one.
type Rights interface {
	Current(ctx context.Context, person string) (signed []byte, a *protocol.Authorisation, err error)
	Waits(ctx context.Context, person string) (bool, error)
	KeyHere() bool
	Replace(ctx context.Context, who, was string, g grants.Grant) (grants.Grant, error)
	RenewThis(ctx context.Context, who, person, id string, to time.Time, reason string) (grants.Grant, error)
	Withdraw(ctx context.Context, who, person, reason string) (grants.Grant, error)
	Grants(ctx context.Context) ([]grants.Grant, error)
	History(ctx context.Context, person string) ([]grants.Grant, error)
	Review(ctx context.Context) ([]grants.Grant, error)
	Groups(ctx context.Context) (map[string][]string, error)
	SetGroupHomes(ctx context.Context, who, name, before string, homes []string) error
	PolicySettings(ctx context.Context, home string) (effects, own grants.Settings, err error)
	PolicyHistory(ctx context.Context, home string, limit int) ([]grants.Version, error)
	ChangePolicy(ctx context.Context, who, home string, version int64, settings grants.Settings) error
	HomesThatDiffer(ctx context.Context) ([]string, error)
	Waiting(ctx context.Context, organisation string) (*grants.File, error)
	Accept(ctx context.Context, who string, f *grants.File) (grants.Accepted, error)
}

// endingSoon is how long before its end the page says of a grant that it ends.
const endingSoon = 30 * 24 * time.Hour

func (s *Server) rightsRoutes(mux *http.ServeMux, page, form func(func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc) {
	group := func(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
		return s.page(s.only(register.Administrator, s.filled(maxGroupForm, s.fresh(h))))
	}
	mux.HandleFunc("GET /administrator/persons/{person}/right", page(s.rightPage))
	mux.HandleFunc("POST /administrator/persons/{person}/right", form(s.giveRight))
	mux.HandleFunc("POST /administrator/persons/{person}/right/renew", form(s.renewRight))
	mux.HandleFunc("POST /administrator/persons/{person}/right/withdraw", form(s.withdrawRight))
	mux.HandleFunc("GET /administrator/groups", page(s.groupsPage))
	mux.HandleFunc("POST /administrator/groups", group(s.makeGroup))
	mux.HandleFunc("GET /administrator/groups/homes", page(s.groupPage))
	mux.HandleFunc("POST /administrator/groups/homes", group(s.changeGroup))
	mux.HandleFunc("GET /administrator/signing", page(s.signingPage))
	mux.HandleFunc("POST /administrator/signing/file", form(s.writeWaiting))
	mux.HandleFunc("POST /administrator/signing", s.page(s.only(register.Administrator, s.acceptSigned)))
	mux.HandleFunc("GET /administrator/rules", page(s.rulesPage))
	mux.HandleFunc("POST /administrator/rules", form(s.changeRules))
	mux.HandleFunc("GET /administrator/homes/{home}/papers/{paper}/{language}", page(s.paperPage))
}

// flawView is what is wrong in a field of a form: the field's id, and a sentence.
type flawView struct{ Field, Text string }

// Name is the field's, as the texts "field.…" have it: "rule-0-after" is "after".
func (f flawView) Name() string {
	if _, rest, ok := f.row(); ok {
		return rest
	}
	return f.Field
}

// Row counts the rows of a form from one; 0 if the field is in none.
func (f flawView) Row() int {
	n, _, _ := f.row()
	return n
}

func (f flawView) row() (n int, rest string, ok bool) {
	parts := strings.SplitN(f.Field, "-", 3)
	if len(parts) < 3 {
		return 0, "", false
	}
	n, err := strconv.Atoi(parts[1])
	return n + 1, parts[2], err == nil
}

// flaws are all of a form, in the order of its fields.
type flaws []flawView

func (f *flaws) add(field, text string) { *f = append(*f, flawView{field, text}) }

// Of returns what is wrong with a field, if something is.
func (f flaws) Of(field string) string {
	for _, one := range f {
		if one.Field == field {
			return one.Text
		}
	}
	return ""
}

// Line returns what is wrong with a field, for the template that shows it.
func (f flaws) Line(field string) flawView { return flawView{field, f.Of(field)} }

// Attributes tie a field to what explains it, and to what is wrong with it (WCAG 2.2, 3.3.1). The first that is wrong gets the focus.
func (f flaws) Attributes(field string, explained ...string) template.HTMLAttr {
	ids := explained
	text := ""
	if f.Of(field) != "" {
		ids = append([]string{field + "-bad"}, explained...)
		text = ` aria-invalid="true"`
		if f[0].Field == field {
			text += " autofocus"
		}
	}
	if len(ids) > 0 {
		text += ` aria-describedby="` + template.HTMLEscapeString(strings.Join(ids, " ")) + `"`
	}
	return template.HTMLAttr(text)
}

// formView is a form that was not taken as it was filled in.
type formView struct {
	Bad     flaws
	Problem string // what is wrong with the whole
	Fix     string
}

// refused gives the browser's tab the problem, so that who does not see the page learns of it first.
func (s *Server) refused(f *frame, v formView) {
	switch {
	case v.Problem != "":
		f.Tab = s.words.say("setup.refused", names{"problem": v.Problem})
	case len(v.Bad) > 0:
		f.Tab = s.words.say("setup.refused", names{"problem": v.Bad[0].Text})
	}
}

func (w words) day(t time.Time) string { return local(t).Format(w["time.day"]) }

// lastDay is the day on which something ends that ends with a day; other ends are told to the minute.
func (w words) lastDay(t time.Time) string {
	t = local(t)
	if t.Hour() == 0 && t.Minute() == 0 {
		return w.day(t.Add(-time.Second))
	}
	return w.day(t) + t.Format(", 15:04")
}

// rightView is a grant as it is shown.
type rightView struct {
	ID    string
	State string // for the style
	Word  string
	Next  string // what is still to be done, in a sentence
	Facts []fact
}

// rightsView is the part of a person's page about homes that the person may ring.
type rightsView struct {
	Current   *rightView
	Elsewhere bool // the key: what is decided waits to be signed
	Signed    string
	Until     string // the day of the current grant's end in a year, for renewing
	Past      []rightView
	Problem   formView
	Reason    string
}

// labels are those of all homes, by number.
func (s *Server) labels(ctx context.Context) (map[string]string, []register.Home, error) {
	homes, err := s.o.Custody.Homes(ctx)
	m := make(map[string]string, len(homes))
	for _, h := range homes {
		m[h.ID] = h.Label
	}
	return m, homes, err
}

func (s *Server) rights(ctx context.Context, p register.Person) (*rightsView, error) {
	if s.o.Rights == nil {
		return nil, nil
	}
	history, err := s.o.Rights.History(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	labels, _, err := s.labels(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := s.allRules(ctx)
	if err != nil {
		return nil, err
	}
	view := &rightsView{Elsewhere: !s.o.Rights.KeyHere()}
	who, now := s.naming(ctx), time.Now()
	for _, g := range history {
		line := s.words.right(g, labels, who, now)
		if !g.Ended.IsZero() || view.Current != nil {
			view.Past = append(view.Past, line)
			continue
		}
		if err := s.standing(ctx, g, &line, view, now); err != nil {
			return nil, err
		}
		line.Facts = slices.Insert(line.Facts, 2, fact{Name: s.words["rights.as"], Value: g.Callers + " – " + s.words.rule(rules.everywhere.Rules[g.Callers])})
		if quiet := s.words.override(rules, g.Callers, labels); quiet != "" {
			line.Facts = slices.Insert(line.Facts, 3, fact{Name: s.words["rights.quiet"], Value: quiet})
		}
		view.Current, view.Until = &line, max(g.To.Format(time.DateOnly), now.AddDate(1, 0, 0).Format(time.DateOnly))
	}
	return view, nil
}

// right says what a grant says, and what became of it.
func (w words) right(g grants.Grant, labels map[string]string, who func(string) string, now time.Time) rightView {
	v := rightView{ID: g.ID}
	var homes, groups []string
	for _, h := range g.Scope.Homes {
		homes = append(homes, labels[h])
	}
	groups = append(groups, g.Scope.Groups...)
	slices.Sort(homes)
	none := w["rights.none.word"]
	join := func(list []string) string {
		if len(list) == 0 {
			return none
		}
		return strings.Join(list, "; ")
	}
	v.Facts = []fact{
		{Name: w["rights.homes"], Value: join(homes)}, {Name: w["rights.groups"], Value: join(groups)}, {Name: w["rights.employment"], Value: g.Employment},
		{Name: w["rights.time"], Value: w.say("rights.time.text", names{"from": w.day(g.From), "to": w.lastDay(g.To)})},
		{Name: w["rights.reason"], Value: w.say("rights.given", names{"why": g.Reason, "who": who(g.By), "at": w.when(g.Given, now)})},
	}
	switch {
	case g.Followed():
		v.Word = w["rights.state.followed"]
		v.Facts = append(v.Facts, fact{Name: w["rights.ended"], Value: w.say("rights.ended.text", names{"who": who(g.EndedBy), "at": w.when(g.Ended, now)})})
	case !g.Ended.IsZero():
		v.Word, v.State = w["rights.state.withdrawn"], stateAttention
		v.Facts = append(v.Facts, fact{Name: w["rights.ended"], Value: w.say("rights.withdrawn.text", names{"why": g.EndedWhy, "who": who(g.EndedBy), "at": w.when(g.Ended, now)})})
	case !now.Before(g.To):
		v.Word, v.Next = w["rights.state.over"], w["rights.over.next"]
	case now.Before(g.From):
		v.Word, v.State = w["rights.state.later"], stateBusy
	}
	if !g.Ended.IsZero() {
		v.Facts = append(v.Facts, fact{Name: w["rights.as"], Value: g.Callers})
	}
	return v
}

// standing says what a grant that was not ended comes to just now.
func (s *Server) standing(ctx context.Context, g grants.Grant, line *rightView, view *rightsView, now time.Time) error {
	w := s.words
	_, signed, err := s.o.Rights.Current(ctx, g.Person)
	switch {
	case err == nil:
		waits, err := s.o.Rights.Waits(ctx, g.Person)
		if err != nil {
			return err
		}
		line.State, line.Word = stateReady, w["rights.state.valid"]
		if g.To.Sub(now) < endingSoon {
			line.State, line.Word, line.Next = stateAttention, w["rights.state.soon"], w["rights.soon.next"]
		}
		view.Signed = w.when(signed.To.Time(), now)
		line.Facts = append(line.Facts, fact{Name: w["rights.signed"], Value: w.say("rights.signed.text", names{"until": view.Signed})})
		if waits {
			line.Next = w.say("rights.waits.renewal", names{"until": view.Signed})
		}
	case errors.Is(err, grants.ErrNoPasskey):
		line.State, line.Word, line.Next = stateBusy, w["rights.state.passkey"], w["rights.passkey.next"]
	case errors.Is(err, grants.ErrWaits):
		line.State, line.Word, line.Next = stateBusy, w["rights.state.waits"], w["rights.waits.next"]
	case !errors.Is(err, grants.ErrNoGrant): // which right has said already
		return err
	}
	return nil
}

// mayCall adds to the list of persons whom they may ring, and whose right nobody has looked at in a year (R28).
func (s *Server) mayCall(ctx context.Context, persons []register.Person, view *personsView) error {
	if s.o.Rights == nil {
		return nil
	}
	all, err := s.o.Rights.Grants(ctx)
	old, oldErr := s.o.Rights.Review(ctx)
	if err := errors.Join(err, oldErr); err != nil {
		return err
	}
	now := time.Now()
	view.Nav, view.may = true, map[string]string{}
	for _, g := range all {
		switch {
		case !now.Before(g.To):
			view.may[g.Person] = s.words.say("rights.may.over", names{"until": s.words.lastDay(g.To)})
		case now.Before(g.From):
			view.may[g.Person] = s.words.say("rights.may.later", names{"from": s.words.day(g.From)})
		default:
			view.may[g.Person] = s.words.say("rights.may", names{"homes": s.words.scope(g.Scope), "until": s.words.lastDay(g.To)})
		}
	}
	for _, g := range old {
		if i := slices.IndexFunc(persons, func(p register.Person) bool { return p.ID == g.Person }); i >= 0 {
			view.Review = append(view.Review, staffView{
				ID: g.Person, Party: persons[i].Party, Detail: s.words.say("rights.review.line", names{"at": s.words.day(g.Given), "until": s.words.lastDay(g.To)}),
			})
		}
	}
	return nil
}

// scope says briefly which homes.
func (w words) scope(c protocol.Scope) string {
	var parts []string
	if n := len(c.Homes); n > 0 {
		parts = append(parts, w.count("groups.homes.", n))
	}
	if n := len(c.Groups); n > 0 {
		parts = append(parts, w.say("rights.scope.groups", names{"groups": strings.Join(c.Groups, ", ")}))
	}
	return strings.Join(parts, w["rights.scope.and"])
}

// choiceView is a box to tick.
type choiceView struct {
	ID, Value, Text string
	On              bool
}

// rightForm is the page on which a person is given a grant.
type rightForm struct {
	frame
	formView
	ID         string
	Party      protocol.Party
	Homes      []choiceView
	Groups     []choiceView
	Callers    []dutyView // the groups of callers to choose among
	Caller     string
	Employment string
	From, To   string
	Reason     string
	Was        string // the grant that the person had when the form was made
	Elsewhere  bool
}

func (s *Server) rightPage(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	now := time.Now()
	form := rightForm{Caller: "staff", Employment: s.words["rights.employed"], From: now.Format(time.DateOnly), To: now.AddDate(1, 0, -1).Format(time.DateOnly)}
	var scope protocol.Scope
	history, err := s.o.Rights.History(r.Context(), p.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if len(history) > 0 { // who changes one begins with what there is
		g := history[0]
		if g.Ended.IsZero() {
			form.Was = g.ID
		}
		form.Caller, form.Employment, scope = g.Callers, g.Employment, g.Scope
		if g.Ended.IsZero() && now.Before(g.To) {
			form.To = g.To.Add(-time.Second).Format(time.DateOnly)
		}
	}
	s.rightForm(w, r, v, http.StatusOK, p, scope, form)
}

func (s *Server) rightForm(w http.ResponseWriter, r *http.Request, v visitor, status int, p register.Person, scope protocol.Scope, form rightForm) {
	_, homes, err := s.labels(r.Context())
	groups, groupsErr := s.o.Rights.Groups(r.Context())
	rules, rulesErr := s.allRules(r.Context())
	if err := errors.Join(err, groupsErr, rulesErr); err != nil {
		s.broken(w, r, err)
		return
	}
	form.frame = s.frame(s.words.say("rights.give.title", names{"name": p.Party.Name}), &v)
	s.refused(&form.frame, form.formView)
	form.ID, form.Party, form.Elsewhere = p.ID, p.Party, !s.o.Rights.KeyHere()
	for _, h := range homes {
		form.Homes = append(form.Homes, choiceView{"home-" + h.ID, h.ID, h.Label, slices.Contains(scope.Homes, h.ID)})
	}
	for i, name := range sortedKeys(groups) {
		text := name + " (" + s.words.count("groups.homes.", len(groups[name])) + ")"
		form.Groups = append(form.Groups, choiceView{"group-" + itoa(i), name, text, slices.Contains(scope.Groups, name)})
	}
	for _, name := range rules.callers(form.Caller) {
		form.Callers = append(form.Callers, dutyView{name, name + " – " + s.words.rule(rules.everywhere.Rules[name])})
	}
	s.render(w, r, status, "right", form)
}

func (s *Server) giveRight(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	field := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	form := rightForm{Was: field("was"), Caller: field("callers"), Employment: field("employment"), From: field("from"), To: field("to"), Reason: field("reason")}
	g := grants.Grant{
		Person: p.ID, Employment: form.Employment, Callers: form.Caller, Reason: form.Reason, Scope: protocol.Scope{Homes: r.PostForm["homes"], Groups: r.PostForm["groups"]},
	}
	var from, to bool
	if g.From, from = parseDay(form.From, false); !from {
		form.Bad.add("from", s.words["rights.bad.day"])
	}
	if g.To, to = parseDay(form.To, true); !to {
		form.Bad.add("to", s.words["rights.bad.day"])
	}
	if !from || !to { // the rest is looked at all the same, so that all is said at once
		g.From, g.To = time.Now(), time.Now().AddDate(1, 0, 0)
	}
	var err error
	if len(form.Bad) == 0 {
		_, err = s.o.Rights.Replace(r.Context(), v.person.Who(), form.Was, g)
		switch {
		case err == nil:
			http.Redirect(w, r, personPath(p.ID)+"#rights-title", http.StatusSeeOther)
			return
		case errors.Is(err, grants.ErrChanged):
			s.rightChanged(w, r, v, p, g.Scope, form)
			return
		}
	} else {
		s.alsoBad(&form.formView, "rights.bad.", g)
	}
	if err != nil && !s.flawed(&form.formView, "rights.bad.", err) {
		s.broken(w, r, err)
		return
	}
	form.Bad.order("scope", "callers", "employment", "from", "to", "reason")
	s.rightForm(w, r, v, http.StatusUnprocessableEntity, p, g.Scope, form)
}

// rightChanged says that the person's right is another than the one that was to be replaced. What was filled in is kept; who sends it again has been told.
func (s *Server) rightChanged(w http.ResponseWriter, r *http.Request, v visitor, p register.Person, scope protocol.Scope, form rightForm) {
	history, err := s.o.Rights.History(r.Context(), p.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	form.Was = ""
	if len(history) > 0 && history[0].Ended.IsZero() {
		form.Was = history[0].ID
	}
	form.Problem, form.Fix = s.words["rights.bad.changed"], s.words["rights.bad.changed.next"]
	s.rightForm(w, r, v, http.StatusConflict, p, scope, form)
}

// alsoBad says of the fields that can be judged by themselves what is wrong with them.
func (s *Server) alsoBad(f *formView, prefix string, g grants.Grant) {
	if g.Reason == "" {
		f.Bad.add("reason", s.words[prefix+"reason"])
	}
	if g.Employment == "" {
		f.Bad.add("employment", s.words[prefix+"employment"])
	}
	if len(g.Scope.Homes)+len(g.Scope.Groups) == 0 {
		f.Bad.add("scope", s.words[prefix+"scope"])
	}
}

// flawed tells whether an error is about what was filled in, and says so in f by the texts prefix + field.
func (s *Server) flawed(f *formView, prefix string, err error) bool {
	list := grants.Flaws(err)
	for _, one := range list {
		if text, ok := s.words[prefix+one.Field]; ok {
			f.Bad.add(one.Field, text)
		}
	}
	switch {
	case len(list) > 0 && len(f.Bad) > 0:
	case errors.Is(err, grants.ErrBounds), errors.Is(err, register.ErrNotFound): // such as an authorisation that would be too long
		f.Problem, f.Fix = s.words[prefix+"whole"], s.words[prefix+"whole.next"]
	default:
		return false
	}
	return true
}

// order puts flaws into the order of the form.
func (f flaws) order(fields ...string) {
	slices.SortStableFunc(f, func(a, b flawView) int { return slices.Index(fields, a.Field) - slices.Index(fields, b.Field) })
}

// parseDay reads what an input of a day sends; end: the instant at which the day is over.
func parseDay(text string, end bool) (time.Time, bool) {
	at, err := time.ParseInLocation(time.DateOnly, text, zone())
	if err != nil {
		return time.Time{}, false
	}
	if end {
		at = at.AddDate(0, 0, 1)
	}
	return at, true
}

func (s *Server) renewRight(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	var f formView
	reason := strings.TrimSpace(r.PostForm.Get("reason"))
	to, ok := parseDay(r.PostForm.Get("until"), true)
	if !ok {
		f.Problem, f.Fix = s.words["rights.bad.day"], s.words["rights.renew.again"]
	} else if _, err := s.o.Rights.RenewThis(r.Context(), v.person.Who(), p.ID, r.PostForm.Get("right"), to, reason); err == nil {
		http.Redirect(w, r, personPath(p.ID)+"#rights-title", http.StatusSeeOther)
		return
	} else if !s.rightRefused(w, r, &f, err) {
		return
	}
	s.personView(w, r, v, http.StatusUnprocessableEntity, personView{Rights: &rightsView{Problem: f, Reason: reason}})
}

// rightRefused says in f what is wrong; if that cannot be said, it answers and returns false.
func (s *Server) rightRefused(w http.ResponseWriter, r *http.Request, f *formView, err error) bool {
	var inner formView
	switch {
	case errors.Is(err, grants.ErrNoGrant), errors.Is(err, grants.ErrChanged):
		f.Problem, f.Fix = s.words["rights.bad.gone"], s.words["rights.bad.gone.next"]
	case s.flawed(&inner, "rights.bad.", err):
		if f.Problem, f.Fix = inner.Problem, inner.Fix; f.Problem == "" {
			f.Problem, f.Fix = inner.Bad[0].Text, s.words["rights.renew.again"]
		}
	default:
		s.broken(w, r, err)
		return false
	}
	return true
}

func (s *Server) withdrawRight(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	reason := strings.TrimSpace(r.PostForm.Get("reason"))
	_, err := s.o.Rights.Withdraw(r.Context(), v.person.Who(), p.ID, reason)
	if err == nil {
		http.Redirect(w, r, personPath(p.ID)+"#rights-title", http.StatusSeeOther)
		return
	}
	var f formView
	if s.rightRefused(w, r, &f, err) {
		s.personView(w, r, v, http.StatusUnprocessableEntity, personView{Rights: &rightsView{Problem: f, Reason: reason}})
	}
}
