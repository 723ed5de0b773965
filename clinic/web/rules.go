package web

import (
	"context"
	"slices"
	"strings"

	"vindu/clinic/grants"
	"vindu/protocol"
)

// allRules is what holds everywhere, and what differs in homes.
type allRules struct {
	everywhere grants.Settings
	homes      map[string]grants.Settings // what holds there, in homes of which something was said
	persons    []grants.Grant
}

func (s *Server) allRules(ctx context.Context) (all allRules, err error) {
	if all.everywhere, _, err = s.o.Rights.PolicySettings(ctx, ""); err != nil {
		return all, err
	}
	if all.persons, err = s.o.Rights.Grants(ctx); err != nil {
		return all, err
	}
	homes, err := s.o.Rights.HomesThatDiffer(ctx)
	if err != nil {
		return all, err
	}
	all.homes = map[string]grants.Settings{}
	for _, h := range homes {
		if all.homes[h], _, err = s.o.Rights.PolicySettings(ctx, h); err != nil {
			return all, err
		}
	}
	return all, nil
}

// callers returns the groups of callers for which there is a rule somewhere, or that somebody belongs to, and those besides.
func (a *allRules) callers(besides ...string) []string {
	known := map[string]bool{}
	for _, settings := range append([]grants.Settings{a.everywhere}, values(a.homes)...) {
		for name := range settings.Rules {
			known[name] = true
		}
	}
	for _, g := range a.persons {
		known[g.Callers] = true
	}
	for _, name := range besides {
		if name != "" {
			known[name] = true
		}
	}
	return sortedKeys(known)
}

func values[V any](m map[string]V) (list []V) {
	for _, k := range sortedKeys(m) {
		list = append(list, m[k])
	}
	return list
}

// rule says in words what happens when somebody calls.
func (w words) rule(r grants.Rule) string {
	text := ""
	switch {
	case r.Mode == protocol.ModeRing:
		text = w.say("rules.ring", names{"after": itoa(r.Rings())})
	case r.Mode == protocol.ModeAsk:
		text = w.say("rules.ask", names{"after": itoa(int(r.After))})
	default: // refused, or not named
		return w["rules.refuse"]
	}
	return text
}

// override says where a group of callers may ring in quiet hours; empty: nowhere.
func (w words) override(a allRules, callers string, labels map[string]string) string {
	var homes, not []string
	for _, h := range sortedKeys(a.homes) {
		if label := labels[h]; a.homes[h].Rules[callers].Urgent {
			homes = append(homes, label)
		} else {
			not = append(not, label)
		}
	}
	slices.Sort(homes)
	slices.Sort(not)
	switch everywhere := a.everywhere.Rules[callers].Urgent; {
	case everywhere && len(not) == 0:
		return w["rights.quiet.everywhere"]
	case everywhere:
		return w.say("rights.quiet.but", names{"homes": strings.Join(not, "; ")})
	case len(homes) > 0:
		return w.say("rights.quiet.in", names{"homes": strings.Join(homes, "; ")})
	}
	return ""
}
