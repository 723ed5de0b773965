package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/protocol"
)

// verb runs one of the commands that a command has of its own.
func (c *call) verb(ctx context.Context, name, explained string, verbs map[string]func(context.Context, *call) error) error {
	if len(c.args) == 0 || verbs[c.args[0]] == nil {
		fmt.Fprint(c.stderr, explained)
		names := make([]string, 0, len(verbs))
		for v := range verbs {
			names = append(names, v)
		}
		slices.Sort(names)
		return fmt.Errorf("%w: %s: say one of %s", errUsage, name, strings.Join(names, ", "))
	}
	v := newCall(name+" "+c.args[0], c.args[1:], c.stdout, c.stderr)
	v.stdin = c.stdin
	return verbs[c.args[0]](ctx, v)
}

// grant is the command by which an administrator says who may call which homes.
func grant(ctx context.Context, c *call) error {
	return c.verb(ctx, "grant", `vindu-clinic grant says who may call which homes. Its commands:
  give      let a person call, in place of what the person may do now
  renew     have it hold for longer, once somebody has looked at it
  withdraw  end it at once; calls that run end, too
  list      what holds, what a person ever had, or what nobody has looked at in a year
`, map[string]func(context.Context, *call) error{"give": grantGive, "renew": grantRenew, "withdraw": grantWithdraw, "list": grantList})
}

// day parses a day, which ends where the next one begins, or an instant.
func day(text string, end bool) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	at, err := time.ParseInLocation(time.DateOnly, text, time.Local)
	if err != nil {
		return at, fmt.Errorf("%w: %q has to be a day such as 2027-03-31, or an instant such as 2027-03-31T16:00:00Z", errUsage, text)
	}
	if end {
		at = at.AddDate(0, 0, 1)
	}
	return at, nil
}

// names splits a list. Labels of homes may have commas.
func names(text string) (list []string) {
	for n := range strings.SplitSeq(text, ";") {
		if n = strings.TrimSpace(n); n != "" {
			list = append(list, n)
		}
	}
	return list
}

// known returns the person who was named.
func (c *clinic) known(ctx context.Context, by string, party *protocol.Party) (register.Person, error) {
	party.Organisation = c.config.Organisation
	p, err := c.register.EnsurePerson(ctx, by, *party, register.NoDuty)
	if errors.Is(err, register.ErrNotFound) {
		return p, fmt.Errorf("%w; add the person first: vindu-clinic person", err)
	}
	return p, err
}

// homesCalled returns the homes with these labels.
func (c *clinic) homesCalled(ctx context.Context, labels ...string) (homes []register.Home, err error) {
	all, err := c.register.Homes(ctx)
	if err != nil {
		return nil, err
	}
	for _, label := range labels {
		i := slices.IndexFunc(all, func(h register.Home) bool { return h.Label == label })
		if i < 0 {
			return nil, fmt.Errorf("home %q: %w; spell it as on its page", label, register.ErrNotFound)
		}
		homes = append(homes, all[i])
	}
	return homes, nil
}

func grantGive(ctx context.Context, c *call) (err error) {
	dir, party := c.dir(), c.party()
	callers := c.flags.String("callers", "staff", "the group of callers: which rule of a home's policy holds")
	employment := c.flags.String("employment", "employed", "how the person belongs here, such as employed, agency or relative")
	homes := c.flags.String("homes", "", "the labels of the homes that the person may call, with ; between them")
	in := c.flags.String("groups", "", "the groups of homes that the person may call, with ; between them")
	from := c.flags.String("from", "", "the first day, such as 2027-01-01 (default: from now on)")
	until := c.flags.String("until", "", "the last day, such as 2027-12-31 (default: a year)")
	reason := c.flags.String("reason", "", "why, for the history")
	by := c.by()
	if err := c.parse("dir", "person", "role", "reason"); err != nil {
		return err
	}
	if *homes == "" && *in == "" {
		return fmt.Errorf("%w: %s: name with -homes or -groups which homes the person may call", errUsage, c.flags.Name())
	}
	now := time.Now()
	g := grants.Grant{Employment: *employment, Callers: *callers, From: now, To: now.AddDate(1, 0, 0), Reason: *reason, Scope: protocol.Scope{Groups: names(*in)}}
	if *from != "" {
		if g.From, err = day(*from, false); err != nil {
			return fmt.Errorf("%s: -from: %w", c.flags.Name(), err)
		}
	}
	if *until != "" {
		if g.To, err = day(*until, true); err != nil {
			return fmt.Errorf("%s: -until: %w", c.flags.Name(), err)
		}
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	person, err := clinic.known(ctx, *by, party)
	if err != nil {
		return err
	}
	list, err := clinic.homesCalled(ctx, names(*homes)...)
	if err != nil {
		return err
	}
	g.Person = person.ID
	for _, h := range list {
		g.Scope.Homes = append(g.Scope.Homes, h.ID)
	}
	if g, err = clinic.grants.Give(ctx, *by, g); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s, %s, may call as %q until %s (grant %s).\n", party.Name, party.Role, g.Callers, g.To.Local().Format(time.DateTime), g.ID)
	clinic.remark(ctx, c, person.ID)
	return nil
}

// remark says what is still missing for a person to call.
func (c *clinic) remark(ctx context.Context, o *call, person string) {
	switch _, _, err := c.grants.Current(ctx, person); {
	case errors.Is(err, grants.ErrNoPasskey):
		fmt.Fprintln(o.stderr, "The person has no passkey yet, and can call once there is one.")
	case errors.Is(err, grants.ErrWaits):
		fmt.Fprintln(o.stderr, "It waits to be signed, because the authorisation key is elsewhere: vindu-clinic waiting, authorise, accept.")
	}
}

func grantRenew(ctx context.Context, c *call) (err error) {
	dir, party := c.dir(), c.party()
	until := c.flags.String("until", "", "the last day, such as 2027-12-31 (default: a year)")
	reason := c.flags.String("reason", "", "why, for the history")
	by := c.by()
	if err := c.parse("dir", "person", "role", "reason"); err != nil {
		return err
	}
	to := time.Now().AddDate(1, 0, 0)
	if *until != "" {
		if to, err = day(*until, true); err != nil {
			return fmt.Errorf("%s: -until: %w", c.flags.Name(), err)
		}
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	person, err := clinic.known(ctx, *by, party)
	if err != nil {
		return err
	}
	g, err := clinic.grants.Renew(ctx, *by, person.ID, to, *reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s, %s, may call until %s (grant %s).\n", party.Name, party.Role, g.To.Local().Format(time.DateTime), g.ID)
	clinic.remark(ctx, c, person.ID)
	return nil
}

func grantWithdraw(ctx context.Context, c *call) (err error) {
	dir, party := c.dir(), c.party()
	reason := c.flags.String("reason", "", "why, for the history")
	by := c.by()
	if err := c.parse("dir", "person", "role", "reason"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	person, err := clinic.known(ctx, *by, party)
	if err != nil {
		return err
	}
	// What was signed before is what a terminal that nobody reaches still believes.
	_, was, _ := clinic.grants.Current(ctx, person.ID)
	if _, err := clinic.grants.Withdraw(ctx, *by, person.ID, *reason); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s, %s, may not call any more; a running server places no call for this person.\n", party.Name, party.Role)
	if was != nil {
		fmt.Fprintf(c.stderr, "What was signed before is over on %s: until then it would still be believed by a terminal to which somebody else than this server brought it.\n", was.To.Time().Local().Format(time.DateTime))
	}
	return nil
}

func grantList(ctx context.Context, c *call) (err error) {
	dir, party := c.dir(), c.party()
	review := c.flags.Bool("review", false, "only what nobody has given or renewed in a year")
	if err := c.parse("dir"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	var list []grants.Grant
	switch {
	case party.Name != "":
		if party.Role == "" {
			return fmt.Errorf("%w: %s: -role is missing", errUsage, c.flags.Name())
		}
		person, err := clinic.known(ctx, "list", party)
		if err != nil {
			return err
		}
		list, err = clinic.grants.History(ctx, person.ID)
		if err != nil {
			return err
		}
	case *review:
		list, err = clinic.grants.Review(ctx)
	default:
		list, err = clinic.grants.Grants(ctx)
	}
	if err != nil {
		return err
	}
	labels := map[string]string{}
	homes, err := clinic.register.Homes(ctx)
	if err != nil {
		return err
	}
	for _, h := range homes {
		labels[h.ID] = h.Label
	}
	for _, g := range list {
		if err := clinic.printGrant(ctx, c.stdout, g, labels); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.stderr, "%d grants.\n", len(list))
	return nil
}

func (c *clinic) printGrant(ctx context.Context, w io.Writer, g grants.Grant, labels map[string]string) error {
	p, err := c.register.Person(ctx, g.Person)
	if err != nil {
		return err
	}
	scope := make([]string, 0, len(g.Scope.Homes)+len(g.Scope.Groups))
	for _, h := range g.Scope.Homes {
		scope = append(scope, labels[h])
	}
	for _, n := range g.Scope.Groups {
		scope = append(scope, "all in "+n)
	}
	state := "holds"
	switch now := time.Now(); {
	case !g.Ended.IsZero():
		state = fmt.Sprintf("ended %s by %s: %s", g.Ended.Local().Format(time.DateTime), c.whoIs(ctx, g.EndedBy), g.EndedWhy)
	case now.Before(g.From):
		state = "has still to begin"
	case !now.Before(g.To):
		state = "is over"
	}
	_, err = fmt.Fprintf(w, "%s\t%s, %s\t%s as %s\t%s\tfrom %s to %s\tgiven %s by %s: %s\t%s\n", g.ID, p.Party.Name, p.Party.Role, g.Employment, g.Callers, strings.Join(scope, "; "),
		g.From.Local().Format(time.DateOnly), g.To.Add(-1).Local().Format(time.DateOnly), g.Given.Local().Format(time.DateOnly), c.whoIs(ctx, g.By), g.Reason, state)
	if err != nil {
		return fmt.Errorf("write grants: %w", err)
	}
	return nil
}

// whoIs names one of whom the history says only which number of the register it is.
func (c *clinic) whoIs(ctx context.Context, who string) string {
	if id, ok := strings.CutPrefix(who, "person "); ok {
		if p, err := c.register.Person(ctx, id); err == nil {
			return p.Party.Name
		}
	}
	return who
}

// groups shows to which groups homes belong, and puts a home into others.
func groups(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of the home to put into groups (default: show all)")
	in := c.flags.String("in", "", "the groups to which it is to belong, with ; between them")
	none := c.flags.Bool("none", false, "it is to belong to no group")
	by := c.by()
	if err := c.parse("dir"); err != nil {
		return err
	}
	if (*label == "") != (*in == "" && !*none) || *in != "" && *none {
		return fmt.Errorf("%w: %s: say with -home which home, and with -in or -none which groups", errUsage, c.flags.Name())
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	if *label != "" {
		list, err := clinic.homesCalled(ctx, *label)
		if err != nil {
			return err
		}
		if err := clinic.grants.SetHomeGroups(ctx, *by, list[0].ID, names(*in)); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "%q belongs to: %s. Its terminal is told.\n", *label, strings.Join(names(*in), "; "))
		return nil
	}
	homes, err := clinic.register.Homes(ctx)
	if err != nil {
		return err
	}
	for _, h := range homes {
		list, err := clinic.grants.HomeGroups(ctx, h.ID)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.stdout, "%s\t%s\n", h.Label, strings.Join(list, "; ")); err != nil {
			return fmt.Errorf("write groups: %w", err)
		}
	}
	return nil
}

// file parses flags and opens the one file besides.
func (c *call) file(required ...string) (*os.File, error) {
	path, err := c.parseWithFile(required...)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, fmt.Errorf("%w: %s: the file is missing: %[2]s %s", errUsage, c.flags.Name(), synopses[strings.TrimPrefix(c.flags.Name(), "vindu-clinic ")])
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	return f, nil
}
