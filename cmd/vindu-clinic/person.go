package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/passkey"
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
	inviting := c.flags.Bool("invite", false, "print an address under which the person makes a passkey, once; an administrator always gets one")
	removing := c.flags.Bool("remove-passkeys", false, "with an invitation: remove the passkeys that the person has, such as when they are lost or stolen")
	life := c.flags.Duration("life", passkey.InvitationLife, "how long the invitation is good for")
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
	if !*inviting && !*removing && d != register.Administrator {
		return nil
	}
	return clinic.invite(ctx, c, *by, p, *life, *removing)
}

// invite prints an invitation.
func (c *clinic) invite(ctx context.Context, o *call, by string, p register.Person, life time.Duration, removing bool) error {
	if _, err := baseURL(c.config); err != nil {
		return err
	}
	site := c.config.RelyingParty("")
	i, err := c.passkeys.Invite(ctx, by, p.ID, life, removing)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(o.stdout, site.Origins[0]+i.Path()); err != nil {
		return fmt.Errorf("write invitation: %w", err)
	}
	if removing {
		fmt.Fprintln(o.stderr, "The passkeys of before are removed, and their sessions ended.")
	}
	fmt.Fprintf(o.stderr, "An invitation for %s, %s: good once, within %s, to make a passkey. Whoever opens it first becomes this person: treat it as a key.\n", p.Party.Name, p.Party.Role, life)
	return nil
}

// party adds the flags that name a person.
func (c *call) party() *protocol.Party {
	party := new(protocol.Party)
	c.flags.StringVar(&party.Name, "person", "", "the person's name, as patients will see it")
	c.flags.StringVar(&party.Role, "role", "", "the person's role, as patients will see it")
	return party
}
