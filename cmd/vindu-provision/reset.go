package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vindu/protocol"
	"vindu/provisioning/session"
)

// resetCmd gives up what a terminal is.
type resetCmd struct {
	portFlags
	Yes bool `help:"Delete without being asked whether that is meant."`
}

// Run has the terminal destroy its key and all that it keeps, and waits until it is as from the factory.
func (r *resetCmd) Run(c *call) error {
	a, ctx := c.app, c.ctx
	l, err := a.laptop()
	if err != nil {
		return err
	}
	// Whoever has no authorisation can still reset a terminal that does not know itself any more.
	signed, m, err := l.Mandate(a.now())
	if err == nil {
		a.result.Technician, a.result.MandateUntil = &m.Person, &m.To
	}
	unauthorised := err
	s := &cable{app: a, flags: &r.portFlags, who: session.Technician{Key: l.Key(), Mandate: signed, Now: a.now}, lost: true}
	defer s.close()
	if err := s.find(ctx); err != nil {
		if protocol.CodeOf(err) == protocol.AuthTechnician && unauthorised != nil {
			return unauthorised
		}
		return err
	}
	switch s.greeting.State {
	case session.Factory:
		a.say.ok("it is as from the factory already: %s", s.terminal.Code())
		return nil
	case session.KeyAway:
		entry := protocol.Explain(s.greeting.Cause)
		a.say.attention("%s", entry.Sentence)
	default:
		if r.Code != "" && !sameCode(r.Code, s.terminal.Code()) {
			return codeDiffers.because(fmt.Errorf("the terminal at the cable is %s", s.terminal.Code()))
		}
	}
	if err := r.confirm(ctx, s); err != nil {
		return err
	}
	if err := s.authorise(ctx); err != nil {
		return err
	}
	if err := s.do(ctx, func(c *session.Client) error { return c.Reset(ctx) }); err != nil {
		return err
	}
	return s.reborn(ctx)
}

// confirm asks whether it is meant.
func (r *resetCmd) confirm(ctx context.Context, s *cable) error {
	if r.Yes {
		return nil
	}
	q := question{
		title:  "Delete the terminal's key and all that it keeps?",
		detail: "It then belongs to no home, and needs a new voucher. If the clinic is to have a receipt, let its page order the terminal to destroy itself instead.",
		flag:   "--yes",
	}
	answer, err := s.app.ask.choose(ctx, q, "", option{"No, leave it as it is", "no"}, option{"Yes, delete it all", "yes"})
	if err == nil && answer != "yes" {
		err = notReset.because(nil)
	}
	return err
}

// reborn waits until the terminal greets as from the factory, with another key.
func (c *cable) reborn(ctx context.Context) error {
	c.app.say.ok("%s gives up its key", c.terminal.Code())
	limited, done := context.WithTimeout(ctx, c.flags.Wait)
	defer done()
	for {
		g, err := c.plug(limited, c.path)
		if err == nil && g.State == session.Factory {
			c.terminal, c.greeting = g.Terminal(), g
			c.app.result.Terminal = &terminal{c.terminal.Name(), c.terminal.Code()}
			c.app.say.ok("it is as from the factory now: %s. Set it up with a new voucher.", c.terminal.Code())
			return nil
		}
		if limited.Err() == nil {
			err = errors.Join(err, c.app.wait(limited))
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case limited.Err() != nil:
			return protocol.WithCode(protocol.LinkCable, fmt.Errorf("waited %v for the terminal to be as from the factory: %w", c.flags.Wait, err))
		}
	}
}

// isCode tells whether a person can have read it on a terminal's screen: protocol.KeyHash.Code is 16 characters of RFC 4648 §6.
func isCode(text string) bool {
	text = strings.ToUpper(strings.ReplaceAll(text, "-", ""))
	return len(text) == 16 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// sameCode compares what people type.
func sameCode(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "-", ""), strings.ReplaceAll(b, "-", ""))
}
