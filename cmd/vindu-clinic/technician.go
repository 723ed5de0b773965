package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/register"
	"vindu/protocol"
)

func mandate(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	party := protocol.Party{Role: string(register.Technician)}
	c.flags.StringVar(&party.Name, "person", "", "the technician's name")
	laptop := c.flags.String("laptop", "", "the laptop's key, as vindu-provision prints it (vindu-laptop-1.…)")
	life := c.flags.Duration("life", 24*time.Hour, "how long the authorisation is good for; it cannot be taken back before")
	by := c.by()
	if err := c.parse("dir", "person", "laptop"); err != nil {
		return err
	}
	key, err := protocol.ParseLaptop(*laptop)
	if err != nil {
		return fmt.Errorf("issue authorisation: %w; copy all of the line that vindu-provision prints", err)
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	party.Organisation = clinic.config.Organisation
	if _, err := clinic.register.EnsurePerson(ctx, *by, party); err != nil {
		return err
	}
	text, m, err := clinic.setup.IssueMandate(ctx, *by, party, key, *life)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout, text); err != nil {
		return fmt.Errorf("write authorisation: %w", err)
	}
	fmt.Fprintf(c.stderr, "%s may work at terminals, from the laptop with key %s, until %s.\n", party.Name, m.Laptop.Code(), m.To.Format(time.DateTime))
	return nil
}

func decommission(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of the home whose terminal is taken out of use")
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
		return fmt.Errorf("decommission: %w", err)
	}
	o, err := clinic.setup.Decommission(ctx, *by, h.Terminal, *reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "Terminal %s of %q is ordered to destroy its keys and state. A running server tells it as soon as it is connected, until %s, and revokes it when its signed receipt is here.\n",
		h.Terminal.Code(), h.Label, o.Expires.Format(time.DateOnly))
	return nil
}
