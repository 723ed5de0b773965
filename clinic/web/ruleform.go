package web

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/protocol"
)

// ruleRow is the rule for one group of callers in the form, as it was filled in.
type ruleRow struct {
	ID                 string // of its fields: "rule-0"
	Group, Mode, After string
	Urgent, Gone       bool
	New                bool // the empty one at the end
}

// quietRow is a span of quiet hours in the form.
type quietRow struct {
	ID       string
	Days     []choiceView
	From, To string
	Gone     bool
	New      bool
}

// rulesForm is the page of what terminals do about callers: everywhere, or in one home.
type rulesForm struct {
	frame
	formView
	Home, Label string // empty: everywhere
	Version     int64  // which was the newest when the form was made
	Old         string // the version that the form was filled with, if it is not the newest
	Rules       []ruleRow
	Modes       []dutyView
	QuietOwn    bool // a home has quiet hours of its own
	Quiets      []quietRow
	Zone        string
	Longest     string
	Volume      string
	// What holds in a home where its own fields are empty.
	Else        grants.Settings
	ElseQuiet   string
	Words       []string // what the form says, in sentences
	Looked      bool     // Words are of what was filled in, not of what holds
	Override    []staffView
	Papers      []paperLink // of a home
	Differ      []groupView // homes that differ
	Homes       []register.Home
	History     []versionView
	Elsewhere   bool
	MoreHistory bool
}

// versionView is what was said at some time.
type versionView struct {
	Title string
	Words []string
	Path  string // of the form filled with it
	Now   bool
}

// shownVersions is how many versions the page lists.
const shownVersions = 20

func rulesPath(home string) string {
	if home == "" {
		return "/administrator/rules"
	}
	return "/administrator/rules?home=" + url.QueryEscape(home)
}

func (s *Server) rulesPage(w http.ResponseWriter, r *http.Request, v visitor) {
	q := r.URL.Query()
	form := rulesForm{Home: q.Get("home")}
	history, err := s.o.Rights.PolicyHistory(r.Context(), form.Home, shownVersions+1)
	effects, own, settingsErr := s.o.Rights.PolicySettings(r.Context(), form.Home)
	if err := errors.Join(err, settingsErr); err != nil {
		s.broken(w, r, err)
		return
	}
	if form.Home == "" {
		own = effects
	}
	if len(history) > 0 {
		form.Version = history[0].N
	}
	if old := q.Get("version"); old != "" {
		i := slices.IndexFunc(history, func(v grants.Version) bool { return strconv.FormatInt(v.N, 10) == old })
		if i < 0 {
			s.fail(w, r, http.StatusNotFound, "error.404")
			return
		}
		if own = history[i].Settings; form.Home == "" {
			own = wholly(own)
		}
		form.Old, form.Looked = s.words.when(history[i].At, time.Now()), true
	}
	form.fill(own)
	s.rulesView(w, r, v, http.StatusOK, form, own, history)
}

// wholly is what was said of all homes, with what holds where it was silent.
func wholly(own grants.Settings) grants.Settings {
	d := grants.DefaultSettings()
	d.Rules = nil
	return d.Over(own)
}

// fill fills the form in with what was said.
func (f *rulesForm) fill(own grants.Settings) {
	for _, group := range slices.Sorted(maps.Keys(own.Rules)) {
		r := own.Rules[group]
		row := ruleRow{Group: group, Mode: string(r.Mode), Urgent: r.Urgent}
		if r.Mode != protocol.ModeRefuse {
			row.After = itoa(r.Rings())
		}
		f.Rules = append(f.Rules, row)
	}
	if f.QuietOwn = own.Quiet != nil; f.QuietOwn {
		for _, q := range *own.Quiet {
			f.Quiets = append(f.Quiets, quietRow{From: q.From, To: q.To, Days: ticks(q.Days)})
		}
	}
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return itoa(n)
	}
	f.Zone, f.Longest, f.Volume = own.Zone, number(int(own.Longest)), number(int(own.Volume))
}

func ticks(on []string) (list []choiceView) {
	for _, d := range grants.Days() {
		list = append(list, choiceView{Value: d, On: slices.Contains(on, d) || len(on) == 0})
	}
	return list
}

// rulesView shows the form. own is what it says; what of it does not hold is in form.Bad.
func (s *Server) rulesView(w http.ResponseWriter, r *http.Request, v visitor, status int, form rulesForm, own grants.Settings, history []grants.Version) {
	labels, homes, err := s.labels(r.Context())
	all, rulesErr := s.allRules(r.Context())
	if err := errors.Join(err, rulesErr); err != nil {
		s.broken(w, r, err)
		return
	}
	title := s.words["rules.title"]
	effects := own
	if form.Home != "" {
		label, ok := labels[form.Home]
		if !ok {
			s.fail(w, r, http.StatusNotFound, "error.404")
			return
		}
		form.Label, title = label, s.words.say("rules.title.home", names{"home": label})
		form.Else, effects = all.everywhere, all.everywhere.Over(own)
		form.ElseQuiet = s.words["rules.quiet.none"]
		if q := all.everywhere.Quiet; q != nil && len(*q) > 0 {
			form.ElseQuiet = strings.Join(s.words.spans(*q), "; ")
		}
	}
	form.frame = s.frame(title, &v)
	s.refused(&form.frame, form.formView)
	form.complete(s.words)
	if len(form.Bad) == 0 {
		form.Words = s.words.settings(effects)
	}
	form.Homes, form.Elsewhere = homes, !s.o.Rights.KeyHere()
	if form.Home != "" {
		if form.Papers, err = papersOf(form.Home); err != nil {
			s.broken(w, r, err)
			return
		}
	}
	for _, h := range sortedKeys(all.homes) {
		form.Differ = append(form.Differ, groupView{Name: labels[h], Path: rulesPath(h)})
	}
	slices.SortFunc(form.Differ, func(a, b groupView) int { return cmp.Compare(a.Name, b.Name) })
	if form.Override, err = s.mayOverride(r.Context(), all, labels, form.Home); err == nil {
		err = s.versions(r.Context(), &form, all, history)
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.render(w, r, status, "rules", form)
}

// complete gives the rows their numbers, and adds an empty one of each kind.
func (f *rulesForm) complete(w words) {
	if len(f.Rules) < protocol.MaxRules {
		f.Rules = append(f.Rules, ruleRow{Mode: string(protocol.ModeRing), New: true})
	}
	if len(f.Quiets) < protocol.MaxSpans {
		f.Quiets = append(f.Quiets, quietRow{Days: ticks(nil), New: true})
	}
	for i := range f.Rules {
		f.Rules[i].ID = "rule-" + itoa(i)
	}
	for i := range f.Quiets {
		q := &f.Quiets[i]
		q.ID = "quiet-" + itoa(i)
		for d := range q.Days {
			q.Days[d].ID, q.Days[d].Text = q.ID+"-"+q.Days[d].Value, w["day."+q.Days[d].Value]
		}
	}
	for _, m := range []protocol.Mode{protocol.ModeRing, protocol.ModeAsk, protocol.ModeRefuse} {
		f.Modes = append(f.Modes, dutyView{string(m), w["rules.mode."+string(m)]})
	}
}

// mayOverride lists the persons who may ring in quiet hours if it is urgent: in a home, or anywhere.
func (s *Server) mayOverride(ctx context.Context, all allRules, labels map[string]string, home string) (list []staffView, err error) {
	persons, err := s.o.Staff.Persons(ctx)
	byName, groupsErr := s.o.Rights.Groups(ctx)
	if err := errors.Join(err, groupsErr); err != nil {
		return nil, err
	}
	var groups []string // of the home
	for name, homes := range byName {
		if slices.Contains(homes, home) {
			groups = append(groups, name)
		}
	}
	for _, p := range persons {
		i := slices.IndexFunc(all.persons, func(g grants.Grant) bool { return g.Person == p.ID && g.Holds(time.Now()) })
		if i < 0 || home != "" && !all.persons[i].Scope.Contains(home, groups) {
			continue
		}
		callers := all.persons[i].Callers
		where := s.words.override(all, callers, labels)
		if home != "" {
			settings, differs := all.homes[home]
			if !differs {
				settings = all.everywhere
			}
			if where = ""; settings.Rules[callers].Urgent {
				where = s.words["rights.quiet.here"]
			}
		}
		if where != "" {
			list = append(list, staffView{ID: p.ID, Party: p.Party, Word: callers, Detail: where})
		}
	}
	return list, nil
}

func (s *Server) versions(ctx context.Context, form *rulesForm, all allRules, history []grants.Version) error {
	who := s.naming(ctx)
	if len(history) > shownVersions {
		history, form.MoreHistory = history[:shownVersions], true
	}
	for i, v := range history {
		settings := wholly(v.Settings)
		if form.Home != "" {
			settings = all.everywhere.Over(v.Settings)
		}
		path := "/administrator/rules?version=" + strconv.FormatInt(v.N, 10)
		if form.Home != "" {
			path += "&home=" + url.QueryEscape(form.Home)
		}
		form.History = append(form.History, versionView{
			Title: s.words.say("rules.version", names{"at": s.words.full(v.At), "who": who(v.By)}), Words: s.words.settings(settings), Path: path, Now: i == 0,
		})
	}
	return nil
}

// settings says in sentences what terminals do.
func (w words) settings(s grants.Settings) (list []string) {
	var urgent []string
	for _, group := range slices.Sorted(maps.Keys(s.Rules)) {
		r := s.Rules[group]
		list = append(list, w.say("rules.say", names{"group": group, "rule": w.rule(r)}))
		if r.Urgent && r.Mode != protocol.ModeRefuse {
			urgent = append(urgent, w.say("rules.quoted", names{"group": group}))
		}
	}
	if len(list) == 0 {
		list = append(list, w["rules.say.nobody"])
	} else {
		list = append(list, w["rules.say.else"])
	}
	if s.Quiet == nil || len(*s.Quiet) == 0 {
		list = append(list, w["rules.say.quiet.none"])
	} else {
		for _, span := range w.spans(*s.Quiet) {
			list = append(list, w.say("rules.say.quiet", names{"span": span, "zone": s.Zone}))
		}
		if len(urgent) > 0 {
			list = append(list, w.say("rules.say.urgent", names{"groups": strings.Join(urgent, ", ")}))
		} else {
			list = append(list, w["rules.say.urgent.none"])
		}
	}
	return append(list, w.say("rules.say.bounds", names{"longest": itoa(int(s.Longest)), "volume": itoa(int(s.Volume))}))
}

// spans says when quiet hours are.
func (w words) spans(quiet []grants.Quiet) (list []string) {
	for _, q := range quiet {
		days := w["rules.every_day"]
		if n := len(q.Days); n > 0 && n < len(grants.Days()) {
			var own []string
			for _, d := range grants.Days() {
				if slices.Contains(q.Days, d) {
					own = append(own, w["day."+d])
				}
			}
			days = strings.Join(own, ", ")
		}
		key := "rules.span"
		if q.To < q.From { // both are like 22:00
			key = "rules.span.night"
		}
		list = append(list, w.say(key, names{"days": days, "from": q.From, "to": q.To}))
	}
	return list
}

// readRules reads what was filled in: the form as it was, and what it says if nothing is wrong.
func (s *Server) readRules(post url.Values) (form rulesForm, settings grants.Settings) {
	field := func(name string) string { return strings.TrimSpace(post.Get(name)) }
	form = rulesForm{Home: field("home"), Zone: field("zone"), Longest: field("longest"), Volume: field("volume"), QuietOwn: field("quiet-own") == "yes"}
	form.Version, _ = strconv.ParseInt(field("version"), 10, 64) // another than the newest is refused
	settings.Rules = map[string]grants.Rule{}
	for i := range protocol.MaxRules + 1 {
		id := "rule-" + itoa(i)
		row := ruleRow{Group: field(id + "-group"), Mode: field(id + "-mode"), After: field(id + "-after"), Urgent: post.Has(id + "-urgent"), Gone: post.Has(id + "-gone")}
		if row.Gone || row.Group == "" && row.After == "" && !row.Urgent {
			continue
		}
		shown := "rule-" + itoa(len(form.Rules)) // the row's id when it is shown again
		s.readRule(&form, &settings, row, shown)
		form.Rules = append(form.Rules, row)
	}
	if form.Home == "" || form.QuietOwn {
		settings.Quiet = &[]grants.Quiet{}
	}
	for i := range protocol.MaxSpans + 1 {
		id := "quiet-" + itoa(i)
		q := grants.Quiet{From: field(id + "-from"), To: field(id + "-to"), Days: post[id+"-day"]}
		if post.Has(id+"-gone") || q.From == "" && q.To == "" {
			continue
		}
		shown := "quiet-" + itoa(len(form.Quiets))
		row := quietRow{From: q.From, To: q.To}
		for _, d := range grants.Days() {
			row.Days = append(row.Days, choiceView{Value: d, On: slices.Contains(q.Days, d)})
		}
		form.Quiets = append(form.Quiets, row)
		if form.Home != "" && !form.QuietOwn {
			form.Bad.add("quiet-own", s.words["rules.bad.own"])
			continue
		}
		if len(q.Days) == 0 { // of Settings that is every day
			form.Bad.add(shown+"-days", s.words["rules.bad.days"])
		}
		for _, f := range grants.Flaws(q.Check()) {
			form.Bad.add(shown+"-"+f.Field, s.words["rules.bad."+f.Field])
		}
		if len(q.Days) == len(grants.Days()) {
			q.Days = nil
		}
		*settings.Quiet = append(*settings.Quiet, q)
	}
	settings.Zone = form.Zone
	settings.Longest, settings.Volume = uint32(s.number(&form, "longest", form.Longest)), uint8(s.number(&form, "volume", form.Volume))
	if form.Home == "" && form.Zone == "" {
		form.Bad.add("zone", s.words["rules.bad.zone"])
	}
	for _, f := range grants.Flaws(grants.Settings{Zone: settings.Zone, Longest: settings.Longest, Volume: settings.Volume}.Check()) {
		if form.Bad.Of(f.Field) == "" {
			form.Bad.add(f.Field, s.words["rules.bad."+f.Field])
		}
	}
	return form, settings
}

func (s *Server) readRule(form *rulesForm, settings *grants.Settings, row ruleRow, id string) {
	rule := grants.Rule{Mode: protocol.Mode(row.Mode), Urgent: row.Urgent}
	if rule.Mode == protocol.ModeRefuse {
		rule.Urgent = false // and for how long it rings does not matter
	} else if after, err := strconv.ParseUint(cmp.Or(row.After, "x"), 10, 16); err != nil {
		form.Bad.add(id+"-after", s.words["rules.bad.after"])
		rule.After = 1 // so that the rest is looked at all the same
	} else if rule.After = uint16(after); rule.Mode == protocol.ModeRing && after == 0 { // which rules that nobody has written here mean otherwise
		form.Bad.add(id+"-after", s.words["rules.bad.after"])
	}
	for _, f := range grants.Flaws(rule.Check(row.Group)) {
		form.Bad.add(id+"-"+f.Field, s.words["rules.bad."+f.Field])
	}
	if _, twice := settings.Rules[row.Group]; twice {
		form.Bad.add(id+"-group", s.words["rules.bad.twice"])
	}
	settings.Rules[row.Group] = rule
}

// number reads a number that may be missing in what differs in a home. What is not one in bounds is wrong.
func (s *Server) number(form *rulesForm, field, text string) uint64 {
	if text == "" && form.Home != "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n == 0 {
		form.Bad.add(field, s.words["rules.bad."+field])
		return 0
	}
	return n
}

func (s *Server) changeRules(w http.ResponseWriter, r *http.Request, v visitor) {
	form, settings := s.readRules(r.PostForm)
	status := http.StatusOK
	form.Looked = true
	if len(form.Bad) > 0 {
		status = http.StatusUnprocessableEntity
	} else if r.PostForm.Get("do") == "save" {
		err := s.o.Rights.ChangePolicy(r.Context(), v.person.Who(), form.Home, form.Version, settings)
		switch {
		case err == nil:
			http.Redirect(w, r, rulesPath(form.Home), http.StatusSeeOther)
			return
		case errors.Is(err, grants.ErrChanged):
			status, form.Problem, form.Fix = http.StatusConflict, s.words["rules.bad.changed"], s.words["rules.bad.changed.next"]
		case errors.Is(err, register.ErrNotFound):
			s.fail(w, r, http.StatusNotFound, "error.404")
			return
		case !s.flawed(&form.formView, "rules.bad.", err):
			s.broken(w, r, err)
			return
		default:
			status = http.StatusUnprocessableEntity
		}
	}
	history, err := s.o.Rights.PolicyHistory(r.Context(), form.Home, shownVersions+1)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if status == http.StatusConflict && len(history) > 0 { // who saves now has been told
		form.Version = history[0].N
	}
	s.rulesView(w, r, v, status, form, settings, history)
}
