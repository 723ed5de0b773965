package web

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vindu/clinic/grants"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func itoa(n int) string { return strconv.Itoa(n) }

const (
	// maxNames bounds the homes of a group.
	maxNames = 4096
	// maxGroupForm bounds a form that names so many of them: "homes=", a number, "&".
	maxGroupForm = 40 * maxNames
)

// groupView is a group of homes in the list.
type groupView struct {
	Name, Path string
	Homes      string // how many
	Labels     string
	Persons    string // how many may ring its homes
}

// groupForm is the page of the groups, or of one of them.
type groupForm struct {
	frame
	formView
	Groups []groupView
	Name   string
	Before string // grants.GroupState of the homes that the group had when the form was made
	Known  bool   // whether persons may ring homes of a group of this name already is asked
	Homes  []choiceView
}

func groupPath(name string) string {
	return "/administrator/groups/homes?name=" + url.QueryEscape(name)
}

func (s *Server) groupsPage(w http.ResponseWriter, r *http.Request, v visitor) {
	s.groupsView(w, r, v, http.StatusOK, groupForm{}, nil)
}

func (s *Server) groupsView(w http.ResponseWriter, r *http.Request, v visitor, status int, view groupForm, ticked []string) {
	labels, homes, err := s.labels(r.Context())
	groups, groupsErr := s.o.Rights.Groups(r.Context())
	all, grantsErr := s.o.Rights.Grants(r.Context())
	if err := errors.Join(err, groupsErr, grantsErr); err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame = s.frame(s.words["groups.title"], &v)
	s.refused(&view.frame, view.formView)
	for _, name := range sortedKeys(groups) {
		line := groupView{Name: name, Path: groupPath(name), Homes: s.words.count("groups.homes.", len(groups[name]))}
		var own []string
		for _, h := range groups[name] {
			own = append(own, labels[h])
		}
		slices.Sort(own)
		line.Labels = strings.Join(own, "; ")
		persons := naming(all, name)
		if line.Persons = s.words["groups.persons.none"]; persons > 0 {
			line.Persons = s.words.count("groups.persons.", persons)
		}
		view.Groups = append(view.Groups, line)
	}
	for _, h := range homes {
		view.Homes = append(view.Homes, choiceView{"home-" + h.ID, h.ID, h.Label, slices.Contains(ticked, h.ID)})
	}
	s.render(w, r, status, "groups", view)
}

// naming counts the grants that name a group.
func naming(all []grants.Grant, group string) (n int) {
	for _, g := range all {
		if slices.Contains(g.Scope.Groups, group) {
			n++
		}
	}
	return n
}

func (s *Server) makeGroup(w http.ResponseWriter, r *http.Request, v visitor) {
	homes := r.PostForm["homes"]
	view := groupForm{Name: strings.TrimSpace(r.PostForm.Get("name"))}
	if len(homes) == 0 {
		view.Bad.add("homes", s.words["groups.bad.none"])
	}
	s.tooMany(&view, homes)
	groups, err := s.o.Rights.Groups(r.Context())
	all, grantsErr := s.o.Rights.Grants(r.Context())
	if err := errors.Join(err, grantsErr); err != nil {
		s.broken(w, r, err)
		return
	}
	// A group that was there before, and whose last home has left, is on no page; the rights that name it stay.
	switch n := naming(all, view.Name); {
	case len(groups[view.Name]) > 0:
		view.Bad.add("name", s.words["groups.bad.there"])
	case n > 0 && r.PostForm.Get("known") != view.Name:
		view.Known = true
		view.Bad.add("name", s.words.count("groups.bad.named.", n))
	}
	if len(view.Bad) == 0 {
		if err = s.o.Rights.SetGroupHomes(r.Context(), v.person.Who(), view.Name, grants.GroupState(nil), homes); err == nil {
			http.Redirect(w, r, "/administrator/groups", http.StatusSeeOther)
			return
		}
		if !s.groupRefused(w, r, &view, err) {
			return
		}
	}
	view.Bad.order("name", "homes")
	s.groupsView(w, r, v, http.StatusUnprocessableEntity, view, homes)
}

// tooMany says so of homes that are too many for a group.
func (s *Server) tooMany(view *groupForm, homes []string) {
	if len(homes) > maxNames {
		view.Bad.add("homes", s.words.say("groups.bad.many", names{"count": itoa(maxNames)}))
	}
}

func (s *Server) groupRefused(w http.ResponseWriter, r *http.Request, view *groupForm, err error) bool {
	switch {
	case errors.Is(err, grants.ErrChanged):
		view.Problem, view.Fix = s.words["groups.bad.changed"], s.words["groups.bad.changed.next"]
	case !s.flawed(&view.formView, "groups.bad.", err):
		s.broken(w, r, err)
		return false
	}
	return true
}

func (s *Server) groupPage(w http.ResponseWriter, r *http.Request, v visitor) {
	name := r.URL.Query().Get("name")
	groups, err := s.o.Rights.Groups(r.Context())
	switch {
	case err != nil:
		s.broken(w, r, err)
	case len(groups[name]) == 0:
		s.fail(w, r, http.StatusNotFound, "error.404")
	default:
		s.groupView(w, r, v, http.StatusOK, groupForm{Name: name, Before: grants.GroupState(groups[name])}, groups[name])
	}
}

func (s *Server) groupView(w http.ResponseWriter, r *http.Request, v visitor, status int, view groupForm, ticked []string) {
	_, homes, err := s.labels(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame = s.frame(s.words.say("groups.one", names{"name": view.Name}), &v)
	s.refused(&view.frame, view.formView)
	for _, h := range homes {
		view.Homes = append(view.Homes, choiceView{"home-" + h.ID, h.ID, h.Label, slices.Contains(ticked, h.ID)})
	}
	s.render(w, r, status, "group", view)
}

func (s *Server) changeGroup(w http.ResponseWriter, r *http.Request, v visitor) {
	view := groupForm{Name: r.PostForm.Get("name"), Before: r.PostForm.Get("before")}
	homes := r.PostForm["homes"]
	if s.tooMany(&view, homes); len(view.Bad) > 0 {
		s.groupView(w, r, v, http.StatusUnprocessableEntity, view, homes)
		return
	}
	err := s.o.Rights.SetGroupHomes(r.Context(), v.person.Who(), view.Name, view.Before, homes)
	if err == nil {
		http.Redirect(w, r, "/administrator/groups", http.StatusSeeOther)
		return
	}
	if s.groupRefused(w, r, &view, err) {
		status := http.StatusUnprocessableEntity
		if errors.Is(err, grants.ErrChanged) {
			groups, err := s.o.Rights.Groups(r.Context())
			labels, _, labelsErr := s.labels(r.Context())
			if err := errors.Join(err, labelsErr); err != nil {
				s.broken(w, r, err)
				return
			}
			var now []string
			for _, h := range groups[view.Name] {
				now = append(now, labels[h])
			}
			slices.Sort(now)
			status, view.Before = http.StatusConflict, grants.GroupState(groups[view.Name])
			view.Fix = s.words.say("groups.bad.changed.next", names{"homes": strings.Join(now, "; ")})
		}
		s.groupView(w, r, v, status, view, homes)
	}
}
