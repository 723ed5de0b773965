package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/clinic/register"
	"vindu/clinic/signing"
	"vindu/protocol"
)

func mandate(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	party := protocol.Party{Role: string(register.Technician)}
	c.flags.StringVar(&party.Name, "person", "", "the technician's name")
	laptop := c.flags.String("laptop", "", "the laptop's key, as vindu-provision prints it (vindu-laptop-1.…)")
	life := c.flags.Duration("life", 24*time.Hour, "how long the authorisation is good for")
	withdraw := c.flags.Bool("withdraw", false, "take all authorisations of this laptop back")
	by := c.by()
	required := []string{"dir", "person", "laptop"}
	if c.has("withdraw") {
		required = []string{"dir", "laptop"}
	}
	if err := c.parse(required...); err != nil {
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
	if *withdraw {
		list, err := clinic.setup.WithdrawMandates(ctx, *by, key)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "Withdrawn: %d, of the laptop with key %s. A terminal that is connected refuses it within about an hour; one that is not, once it was connected.\n",
			len(list), list[0].Laptop.Code())
		return nil
	}
	party.Organisation = clinic.config.Organisation
	if _, err := clinic.register.EnsurePerson(ctx, *by, party, register.Technician); err != nil {
		return err
	}
	text, m, err := clinic.setup.IssueMandate(ctx, *by, party, key, *life)
	if errors.Is(err, signing.ErrWaits) {
		return fmt.Errorf("%w; until %s the same command prints it when it is signed", err, m.To.Format(time.DateTime))
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout, text); err != nil {
		return fmt.Errorf("write authorisation: %w", err)
	}
	fmt.Fprintf(c.stderr, "%s may work at terminals, from the laptop with key %s, until %s.\n", party.Name, m.Laptop.Code(), m.To.Format(time.DateTime))
	return nil
}

// has reports whether a flag without a value is given; it is for flags that make others needless.
func (c *call) has(name string) bool {
	return slices.ContainsFunc(c.args, func(a string) bool { return a == "-"+name || a == "--"+name })
}

func decommission(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of the home whose terminal is taken out of use")
	reason := c.flags.String("reason", "", "why, for the register")
	withdraw := c.flags.Bool("withdraw", false, "take the order back, if the terminal has not answered it yet")
	by := c.by()
	required := []string{"dir", "home", "reason"}
	if c.has("withdraw") {
		required = required[:2]
	}
	if err := c.parse(required...); err != nil {
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
	if *withdraw {
		o, err := clinic.setup.WithdrawOrder(ctx, *by, h.Terminal)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "The order for terminal %s of %q is withdrawn.\n", h.Terminal.Code(), h.Label)
		if !o.Sent.IsZero() {
			fmt.Fprintf(c.stderr, "It was sent at %s: if it arrived, the terminal destroys its keys and state all the same.\n", o.Sent.Format(time.DateTime))
		}
		return nil
	}
	o, err := clinic.setup.Decommission(ctx, *by, h.Terminal, *reason)
	if err != nil {
		return err
	}
	if len(o.Signed) == 0 {
		fmt.Fprintln(c.stderr, "The order waits to be signed, because the authorisation key is elsewhere: vindu-clinic waiting, authorise, accept. Until then it is not sent.")
	}
	fmt.Fprintf(c.stderr, "Terminal %s of %q is ordered to destroy its keys and state. A running server tells it as soon as it is connected, until %s, and revokes it when its signed receipt is here.\n",
		h.Terminal.Code(), h.Label, o.Expires.Format(time.DateOnly))
	return nil
}
