package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"vindu/clinic/config"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/web"
	"vindu/protocol"
)

func voucher(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the home's label; a new home is made for a new label")
	life := c.flags.Duration("life", time.Hour, "how long the voucher is good for")
	by := c.by()
	if err := c.parse("dir", "home"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	v, err := clinic.setup.Voucher(ctx, *by, *label, *life)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout, string(v.Text)); err != nil {
		return fmt.Errorf("write voucher: %w", err)
	}
	fmt.Fprintf(c.stderr, "For one terminal in %q, once, until %s. Whoever has it can set a terminal up there: treat it as a key.\n",
		v.Home.Label, v.Expires.Format(time.DateTime))
	if outdated(clinic.config.State, clinic.setup.Trust().Pin) {
		fmt.Fprintln(c.stderr, "The server that runs was started before the root was renewed: nobody can use this voucher until it is restarted.")
	}
	if v.Home.Terminal != (protocol.KeyHash{}) {
		fmt.Fprintf(c.stderr, "That home has terminal %s; the new one will replace it.\n", v.Home.Terminal.Code())
	}
	return nil
}

func signInLink(ctx context.Context, c *call) (err error) {
	dir, party := c.dir(), c.party()
	duty := c.duty()
	life := c.flags.Duration("life", web.LinkLife, "how long the link is good for")
	by := c.by()
	if err := c.parse("dir", "person", "role"); err != nil {
		return err
	}
	d := register.NoDuty // whichever the person has
	if *duty != "" {
		if d, err = register.ParseDuty(*duty); err != nil {
			return fmt.Errorf("%w: %s: -duty: %w", errUsage, c.flags.Name(), err)
		}
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	base, err := baseURL(clinic.config)
	if err != nil {
		return err
	}
	party.Organisation = clinic.config.Organisation
	person, err := clinic.register.EnsurePerson(ctx, *by, *party, d)
	switch {
	case errors.Is(err, register.ErrNotFound):
		return fmt.Errorf("%w; say with -duty what this person does here", err)
	case errors.Is(err, register.ErrDuty):
		return fmt.Errorf("%w; to change it: vindu-clinic person", err)
	case err != nil:
		return err
	case person.Duty == register.NoDuty:
		return fmt.Errorf("%s, %s, has no duty yet, and so no pages: give one with vindu-clinic person -duty", party.Name, party.Role)
	}
	list, err := clinic.passkeys.List(ctx, person.ID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(p passkey.Passkey) bool { return p.Usable() }) {
		return fmt.Errorf("%s, %s, has a passkey, and signs in with it alone; if it is lost: vindu-clinic person -invite -remove-passkeys", party.Name, party.Role)
	}
	path, err := clinic.sessions.Link(ctx, *by, person.ID, *life)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout, base+path); err != nil {
		return fmt.Errorf("write link: %w", err)
	}
	fmt.Fprintf(c.stderr, "For %s, %s, once, within %s; it leads to the %s's pages. Whoever opens it is signed in as that person: treat it as a key.\n",
		party.Name, party.Role, *life, person.Duty)
	return nil
}

// baseURL returns where browsers find the pages.
func baseURL(c config.Config) (string, error) {
	if c.Web.Certificate == "" {
		if _, port, err := net.SplitHostPort(c.Web.Plain); err != nil || port == "0" {
			return "", fmt.Errorf("web.plain = %q: a link needs a port that stays the same", c.Web.Plain)
		}
		return "http://" + c.Web.Plain, nil
	}
	_, port, err := net.SplitHostPort(c.Front.Listen)
	if err != nil || port == "0" {
		return "", fmt.Errorf("front.listen = %q: a link needs a port that stays the same", c.Front.Listen)
	}
	if port == "443" {
		return "https://" + c.Web.Names[0], nil
	}
	return "https://" + net.JoinHostPort(c.Web.Names[0], port), nil
}

func revoke(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of the home whose terminal is revoked")
	reason := c.flags.String("reason", "", "why, for the register")
	by := c.by()
	if err := c.parse("dir", "home", "reason"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	h, err := clinic.occupied(ctx, *label)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if err := clinic.register.Revoke(ctx, *by, h.Terminal, *reason); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "Terminal %s of %q is revoked; a running server closes its connections within seconds.\n", h.Terminal.Code(), h.Label)
	return nil
}

// occupied returns the home with this label, which has a terminal.
func (c *clinic) occupied(ctx context.Context, label string) (register.Home, error) {
	homes, err := c.register.Homes(ctx)
	if err != nil {
		return register.Home{}, err
	}
	for _, h := range homes {
		switch {
		case h.Label != label:
		case h.Terminal == (protocol.KeyHash{}):
			return register.Home{}, fmt.Errorf("%q has no terminal", h.Label)
		default:
			return h, nil
		}
	}
	return register.Home{}, fmt.Errorf("home %q: %w; spell it as on its page", label, register.ErrNotFound)
}
