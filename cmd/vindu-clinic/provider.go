package main

import (
	"context"
	"errors"
	"fmt"
)

// provider notes who provides the line of a home, for the operators' page, which says when homes with the same fault have one provider; or shows what is noted.
func provider(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of the home (default: show all)")
	is := c.flags.String("is", "", "who provides its line, at most 60 characters")
	none := c.flags.Bool("none", false, "nobody is noted any more")
	by := c.by()
	if err := c.parse("dir"); err != nil {
		return err
	}
	if (*label == "") != (*is == "" && !*none) || *is != "" && *none {
		return fmt.Errorf("%w: %s: say with -home which home, and with -is who provides its line, or -none", errUsage, c.flags.Name())
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
		return clinic.register.SetProvider(ctx, *by, list[0].ID, *is)
	}
	homes, err := clinic.register.Homes(ctx)
	if err != nil {
		return err
	}
	for _, h := range homes {
		if _, err := fmt.Fprintf(c.stdout, "%s\t%s\n", h.Label, h.Provider); err != nil {
			return fmt.Errorf("write providers: %w", err)
		}
	}
	return nil
}
