package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// replaceKeys orders terminals to replace their keys. A running server tells them with the settings that they fetch.
func replaceKeys(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	text := c.flags.String("before", "", "only terminals whose key was registered before this instant, such as 2026-11-22T10:00:00Z (default: all)")
	by := c.by()
	if err := c.parse("dir"); err != nil {
		return err
	}
	before := time.Now()
	if *text != "" {
		if before, err = time.Parse(time.RFC3339, *text); err != nil {
			return fmt.Errorf("%w: %s: -before %q has to be an instant such as 2026-11-22T10:00:00Z", errUsage, c.flags.Name(), *text)
		}
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	n, err := clinic.register.OrderKeys(ctx, *by, before)
	if err != nil {
		return err
	}
	if !clinic.authority.KeyHere() {
		fmt.Fprintln(c.stderr, "The authorisation key is elsewhere: each order waits to be signed from the time at which its terminal asks for it (vindu-clinic waiting, authorise, accept).")
	}
	fmt.Fprintf(c.stderr, "%d terminals are to replace their keys. Each is told within a day, one after the other, if it is there, and does it when no call runs; the code that it shows changes with its key.\n", n)
	return nil
}
