package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/protocol"
	"vindu/provisioning/laptop"
	"vindu/provisioning/session"
)

// check runs the acceptance check until all is in order or the technician goes on without.
func (s *setup) check(ctx context.Context) error {
	s.app.say.step("Check")
	for {
		checks, err := s.accept(ctx, nil)
		s.app.result.Checks = findings(checks)
		if err != nil {
			return err
		}
		s.app.say.checks(checks)
		if !failing(checks) || s.flags.AcceptFailures {
			return nil
		}
		q := question{title: "Not all is in order. What now?", flag: "--accept-failures"}
		what, err := s.app.ask.choose(ctx, q, "again", option{"Check again", "again"}, option{"Hand over as it is: the record says so", "accept"}, option{"Stop here", "stop"})
		switch {
		case errors.Is(err, errUsage), err == nil && what == "stop":
			return checksFailed.because(nil)
		case err != nil:
			return err
		case what == "accept":
			return nil
		}
	}
}

func failing(checks []protocol.Check) bool {
	return slices.ContainsFunc(checks, func(c protocol.Check) bool { return c.State == protocol.CheckFailed })
}

// Bounds of accept.
const (
	acceptTries = 4               // a check ends with its session; so often a cable may come loose in one
	stopTime    = 5 * time.Second // for the terminal to be told to stop
)

// accept runs the checks with these names, or all, and waits for the end. It has the button pressed first: camera and
// microphone open for nothing less.
func (c *cable) accept(ctx context.Context, names []string) (checks []protocol.Check, err error) {
	for range acceptTries {
		checks, err = c.acceptOnce(ctx, names)
		if ctx.Err() != nil {
			if c.checking {
				c.stopCheck(ctx)
			}
			return checks, err
		}
		if protocol.CodeOf(err) != protocol.CheckStopped {
			return checks, err
		}
		c.app.say.attention("The check stopped when the cable came loose; it begins again.")
	}
	return checks, err
}

// stopCheck has the terminal close camera and microphone at once: nobody waits for what they find any more.
func (c *cable) stopCheck(ctx context.Context) {
	if c.client == nil {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer done()
	if err := c.client.StopCheck(ctx); err != nil {
		c.app.say.attention("The terminal could not be told to stop the check. It stops by itself in half a minute; its button stops it at once.")
		return
	}
	c.app.say.note("the check was stopped: camera and microphone are closed")
}

func (c *cable) acceptOnce(ctx context.Context, names []string) ([]protocol.Check, error) {
	if err := c.authorise(ctx); err != nil {
		return nil, err
	}
	shown := c.app.say.progress()
	defer shown.end()
	var run uint64
	c.checking = true
	err := c.do(ctx, func(s *session.Client) (err error) {
		run, err = s.StartCheck(ctx, session.CheckOptions{Names: names, Seen: c.seen})
		return err
	})
	if err != nil {
		return nil, err
	}
	for {
		var now *session.CheckStatus
		err := c.do(ctx, func(s *session.Client) (err error) {
			now, err = s.CheckStatus(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		if now.State != session.JobNone && now.Run != run {
			return nil, protocol.WithCode(protocol.LinkTerminalBusy, errors.New("somebody else began another check"))
		}
		shown.show(now.Done, int(now.Total), now.Current)
		switch now.State {
		case session.JobRunning:
		case session.JobDone:
			return now.Done, nil
		case session.JobNone: // the terminal has restarted: from the beginning
			return c.acceptOnce(ctx, names)
		default:
			code := now.Code
			if code == "" {
				code = protocol.Unknown
			}
			return now.Done, protocol.WithCode(code, fmt.Errorf("the terminal says: %s", now.Cause))
		}
		if err := c.app.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// open opens a session with a terminal for a command other than setup.
func (a *app) session(ctx context.Context, flags *portFlags) (*cable, *laptop.Laptop, error) {
	l, err := a.laptop()
	if err != nil {
		return nil, nil, err
	}
	signed, m, err := l.Mandate(a.now())
	if err == nil {
		a.result.Technician, a.result.MandateUntil = &m.Person, &m.To
	} else if !errors.Is(err, laptop.ErrMandate) {
		return nil, nil, err
	}
	unauthorised := err
	c := &cable{app: a, flags: flags, who: session.Technician{Key: l.Key(), Mandate: signed, Now: a.now}}
	if err := c.find(ctx); err != nil {
		c.close()
		if protocol.CodeOf(err) == protocol.AuthTechnician && unauthorised != nil {
			err = unauthorised // why is known better here
		}
		return nil, nil, err
	}
	return c, l, nil
}

// checkCmd runs the acceptance check alone.
type checkCmd struct {
	portFlags
	Names []string `arg:"" optional:"" name:"check" help:"Checks to run, such as camera.sharpness; none: all."`
}

// Run runs it.
func (f *checkCmd) Run(c *call) error {
	a := c.app
	for _, name := range f.Names {
		if !slices.Contains(protocol.CheckNames(), name) {
			return badCheck.of(name).because(nil)
		}
	}
	cable, _, err := a.session(c.ctx, &f.portFlags)
	if err != nil {
		return err
	}
	defer cable.close()
	if cable.greeting.State != session.SetUp {
		return notSetUp.because(nil)
	}
	if err := cable.compare(c.ctx, false); err != nil {
		return err
	}
	checks, err := cable.accept(c.ctx, f.Names)
	a.result.Checks = findings(checks)
	if err != nil {
		return err
	}
	a.say.checks(checks)
	if failing(checks) {
		return checksFailed.because(nil)
	}
	return nil
}

// infoCmd tells about the terminal.
type infoCmd struct {
	portFlags
}

// Run tells.
func (f *infoCmd) Run(c *call) error {
	a := c.app
	cable, _, err := a.session(c.ctx, &f.portFlags)
	if err != nil {
		return err
	}
	defer cable.close()
	if cable.greeting.State == session.SetUp {
		if err := cable.authorise(c.ctx); err != nil {
			return err
		}
	}
	var i *session.Info
	err = cable.do(c.ctx, func(s *session.Client) (err error) {
		if i, err = s.Info(c.ctx); err != nil {
			return err
		}
		a.result.Info = i
		a.result.Network, err = s.Network(c.ctx)
		return err
	})
	if err != nil {
		return err
	}
	a.print("terminal      %s\nstate         %s\nsoftware      %s\nkey           %s\n", cable.terminal.Code(), i.State, i.Software, i.KeyGrade)
	if i.State == session.SetUp {
		a.print("clinic        %s at %s\nhome          %s\nconnected     %t\ncertificate   until %s\n", i.Organisation, i.Address, i.Home, i.Connected,
			i.Expires.Time().In(a.zone).Format("2006-01-02 15:04"))
	}
	for _, n := range a.result.Network.Interfaces {
		text := "down"
		if n.Up {
			text = describe(&n)
		}
		if n.Code != "" {
			text += "  " + protocol.Explain(n.Code).Sentence
		}
		a.print("network       %s: %s\n", n.Name, text)
	}
	for _, code := range i.Conditions {
		a.print("condition     %s\n", protocol.Explain(protocol.Code(code)).Sentence)
	}
	return nil
}
