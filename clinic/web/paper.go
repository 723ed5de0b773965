package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/protocol"
	told "vindu/protocol/notice"
)

// The pages that are printed for a home, in its language: a leaflet for the people there (R24), how their terminal is set (R23), and the same for staff.
const (
	paperLeaflet = "leaflet"
	paperHome    = "home"
	paperStaff   = "staff"
)

// paperView is a page to print.
type paperView struct {
	frame
	Words     *told.Words
	Kind      string
	Heading   string
	Points    [][2]string // of the leaflet
	Label     string
	Code      string
	Printed   string
	Groups    string
	Version   string
	Callers   []paperCaller
	Rules     []paperRule
	First     string
	Quiet     []string
	Bounds    []string
	Always    []string
	Change    string
	Others    []paperLink // the other papers and languages
	Languages []paperLink
	Back      string
}

// paperCaller is somebody who can ring this home now.
type paperCaller struct{ Name, From, Group, Until string }

// paperRule is what happens when they do.
type paperRule struct{ Group, Text string }

type paperLink struct {
	Path, Text, Tag string
	Here            bool
}

func paperPath(home, kind, language string) string {
	return "/administrator/homes/" + home + "/papers/" + kind + "/" + language
}

// paperPage shows one. Whatever is on it is read now: it says what holds at its date.
func (s *Server) paperPage(w http.ResponseWriter, r *http.Request, v visitor) {
	kind, home := r.PathValue("paper"), r.PathValue("home")
	words, err := told.Load(r.PathValue("language"))
	title := map[string]func(*told.Words) string{
		paperLeaflet: func(w *told.Words) string { return w.Leaflet },
		paperHome:    func(w *told.Words) string { return w.Home },
		paperStaff:   func(w *told.Words) string { return w.Staff },
	}
	if err != nil || title[kind] == nil {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	homes, err := s.o.Custody.Homes(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	view := &paperView{Words: words, Kind: kind, Heading: title[kind](words), Back: rulesPath(home)}
	known := false
	for _, h := range homes {
		if h.ID == home {
			known, view.Label = true, h.Label
			if h.Terminal != (protocol.KeyHash{}) {
				view.Code = h.Terminal.Code()
			}
		}
	}
	if !known {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	if err := s.fillPaper(r.Context(), view, home); err != nil {
		s.broken(w, r, err)
		return
	}
	if view.frame = s.frame(view.Heading, &v); kind == paperLeaflet {
		view.Title = told.Fill(words.Title, "organisation", s.o.Organisation)
	}
	for _, k := range []string{paperLeaflet, paperHome, paperStaff} {
		view.Others = append(view.Others, paperLink{Path: paperPath(home, k, words.Tag), Text: title[k](words), Here: k == kind})
	}
	for _, tag := range told.Languages() {
		other, err := told.Load(tag)
		if err != nil {
			s.broken(w, r, err)
			return
		}
		view.Languages = append(view.Languages, paperLink{Path: paperPath(home, kind, tag), Text: other.Language, Tag: tag, Here: tag == words.Tag})
	}
	s.render(w, r, http.StatusOK, "paper", view)
}

// papersOf are the ways to a home's papers, in the first language; each leads to the others.
func papersOf(home string) ([]paperLink, error) {
	words, err := told.Load(told.Languages()[0])
	if err != nil {
		return nil, err
	}
	return []paperLink{
		{Path: paperPath(home, paperLeaflet, words.Tag), Text: words.Leaflet, Tag: words.Tag},
		{Path: paperPath(home, paperHome, words.Tag), Text: words.Home, Tag: words.Tag},
		{Path: paperPath(home, paperStaff, words.Tag), Text: words.Staff, Tag: words.Tag},
	}, nil
}

func (s *Server) fillPaper(ctx context.Context, view *paperView, home string) error {
	words, organisation := view.Words, s.o.Organisation
	settings, _, err := s.o.Rights.PolicySettings(ctx, home)
	history, historyErr := s.o.Rights.PolicyHistory(ctx, home, 1)
	general, generalErr := s.o.Rights.PolicyHistory(ctx, "", 1)
	given, grantsErr := s.o.Rights.Grants(ctx)
	byName, groupsErr := s.o.Rights.Groups(ctx)
	persons, personsErr := s.o.Staff.Persons(ctx)
	if err := errors.Join(err, historyErr, generalErr, grantsErr, groupsErr, personsErr); err != nil {
		return err
	}
	zone, err := time.LoadLocation(settings.Zone)
	if err != nil {
		return err
	}
	now := time.Now().In(zone)
	view.Printed = words.Date(now) + now.Format(", 15:04")
	view.Version = words.VersionFirst
	var last time.Time
	for _, v := range append(history, general...) {
		if v.At.After(last) {
			last = v.At
			view.Version = words.Date(last.In(zone)) + last.In(zone).Format(", 15:04")
		}
	}
	var groups []string // of the home
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if slices.Contains(byName[name], home) {
			groups = append(groups, name)
		}
	}
	if view.Groups = strings.Join(groups, ", "); view.Groups == "" {
		view.Groups = words.GroupsNone
	}
	asks := true // nobody's call is answered without somebody there
	used := map[string]bool{}
	for _, p := range persons {
		for _, g := range given {
			if g.Person != p.ID || p.Duty != register.Clinician || !g.Holds(now) || !g.Scope.Contains(home, groups) || !rings(settings.Rules[g.Callers]) {
				continue
			}
			used[g.Callers] = true
			view.Callers = append(view.Callers, paperCaller{
				Name: p.Party.Name, From: p.Party.Role + ", " + p.Party.Organisation, Group: told.Fill(words.Group, "group", g.Callers),
				Until: told.Fill(words.Until, "date", words.Date(local(g.To.Add(-time.Second)))),
			})
		}
	}
	view.paperRules(settings, used)
	for group := range used {
		asks = asks && settings.Rules[group].Mode == protocol.ModeAsk
	}
	view.Points = words.Points(organisation, asks && len(used) > 0)
	view.paperQuiet(settings)
	view.Bounds = []string{
		told.Fill(words.Longest, "minutes", itoa(int(settings.Longest))), told.Fill(words.Volume, "percent", itoa(int(settings.Volume))),
	}
	view.Always, view.Change = words.AlwaysLines, told.Fill(words.Change, "organisation", organisation)
	if view.Kind == paperStaff {
		view.Always = slices.Concat(words.StaffLines, words.AlwaysLines)
		view.Change = ""
	}
	view.First = words.First
	return nil
}

func rings(r grants.Rule) bool { return r.Mode == protocol.ModeRing || r.Mode == protocol.ModeAsk }

// paperRules says what happens when somebody of a group calls: to staff of every group that a rule names, to the home of those to which somebody belongs.
func (view *paperView) paperRules(settings grants.Settings, used map[string]bool) {
	words := view.Words
	for _, group := range slices.Sorted(maps.Keys(settings.Rules)) {
		if view.Kind != paperStaff && !used[group] {
			continue
		}
		rule, text := settings.Rules[group], words.Refuse
		switch {
		case rule.Mode == protocol.ModeRing:
			text = told.Fill(words.Ring, "seconds", itoa(rule.Rings()))
		case rule.Mode == protocol.ModeAsk:
			text = told.Fill(words.Ask, "seconds", itoa(int(rule.After)))
		}
		view.Rules = append(view.Rules, paperRule{told.Fill(words.Group, "group", group), text})
	}
}

func (view *paperView) paperQuiet(settings grants.Settings) {
	words := view.Words
	if settings.Quiet == nil || len(*settings.Quiet) == 0 {
		view.Quiet = []string{words.QuietNone}
		return
	}
	all := grants.Days()
	for _, q := range *settings.Quiet {
		days := words.EveryDay
		if n := len(q.Days); n > 0 && n < len(all) {
			var named []string
			for i, d := range all {
				if slices.Contains(q.Days, d) {
					named = append(named, words.Days[i])
				}
			}
			days = capital(strings.Join(named, ", "))
		}
		text := words.QuietSpan
		if q.To < q.From { // both are like 22:00
			text = words.QuietNight
		}
		view.Quiet = append(view.Quiet, told.Fill(text, "days", days, "from", q.From, "to", q.To))
	}
	var urgent []string
	for _, group := range slices.Sorted(maps.Keys(settings.Rules)) {
		if r := settings.Rules[group]; r.Urgent && rings(r) {
			urgent = append(urgent, told.Fill(words.Group, "group", group))
		}
	}
	if len(urgent) > 0 {
		view.Quiet = append(view.Quiet, told.Fill(words.QuietUrgent, "groups", strings.Join(urgent, ", ")))
	}
}

// capital begins a sentence.
func capital(text string) string {
	for i, r := range text {
		return strings.ToUpper(string(r)) + text[i+len(string(r)):]
	}
	return text
}
