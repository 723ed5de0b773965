package main

import (
	"context"
	"errors"
	"fmt"

	"vindu/clinic/register"
	"vindu/protocol"
)

// noDuty is the value of -duty for a person who is to see no page.
const noDuty = "none"

// duty adds a flag for what a person does here.
func (c *call) duty() *string {
	return c.flags.String("duty", "", fmt.Sprintf("what the person does here, and so which pages are the person's: %s (rings homes), %s (sets terminals up), %s (sees to terminals and alarms) or %s (invites persons, says who may ring whom)",
		register.Clinician, register.Technician, register.Operator, register.Administrator))
}

func person(ctx context.Context, c *call) (err error) {
	dir, party := c.dir(), c.party()
	duty := c.duty()
	by := c.by()
	if err := c.parse("dir", "person", "role", "duty"); err != nil {
		return err
	}
	d := register.NoDuty
	if *duty != noDuty {
		if d, err = register.ParseDuty(*duty); err != nil {
			return fmt.Errorf("%w: %s: -duty: %w; or %s, for one who is to see nothing", errUsage, c.flags.Name(), err, noDuty)
		}
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	party.Organisation = clinic.config.Organisation
	p, err := clinic.register.Assign(ctx, *by, *party, d)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s, %s, has the duty %s (%s); a running server knows it at once.\n", party.Name, party.Role, *duty, p.Who())
	return nil
}

// party adds the flags that name a person.
func (c *call) party() *protocol.Party {
	party := new(protocol.Party)
	c.flags.StringVar(&party.Name, "person", "", "the person's name, as patients will see it")
	c.flags.StringVar(&party.Role, "role", "", "the person's role, as patients will see it")
	return party
}
