package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
)

// greetTime is for a terminal to say who it is when ports are tried.
const greetTime = 3 * time.Second

// coverTime is for a terminal's screen to be free to ask for its button.
const coverTime = 20 * time.Second

// cable is a session with one terminal over a cable that may come loose. Its methods are called by one goroutine; each goroutine that it starts
// has ended when close returns.
type cable struct {
	app   *app
	flags *portFlags
	who   session.Technician

	path     string
	client   *session.Client
	hangUp   context.CancelFunc
	gone     chan struct{}
	terminal protocol.KeyHash // zero until the first greeting
	greeting *session.Greeting
	lost     bool   // a terminal whose key is away will do
	button   string // what it is, as far as known
	pressed  bool   // somebody pressed the button, or did not have to
	checking bool   // a check was asked for: camera and microphone may be open
	seen     bool   // somebody compared the code on the terminal's screen
}

// plug opens a port and asks who is there.
func (c *cable) plug(ctx context.Context, path string) (*session.Greeting, error) {
	c.unplug()
	p, err := c.app.open(path)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	client, gone := session.NewClient(p, c.who, c.app.log), make(chan struct{})
	go func() {
		defer close(gone)
		if err := client.Run(run); err != nil {
			c.app.log.Info("port closed", "port", path, "error", err)
		}
	}()
	c.client, c.hangUp, c.gone, c.path = client, cancel, gone, path
	limited, done := context.WithTimeout(ctx, greetTime)
	defer done()
	g, err := client.Greet(limited)
	if err != nil {
		c.unplug()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return g, nil
}

func (c *cable) unplug() {
	if c.client != nil {
		c.hangUp()
		<-c.gone
		c.client = nil
	}
}

// close ends the session.
func (c *cable) close() { c.unplug() }

// find finds the terminal and opens a session with it.
func (c *cable) find(ctx context.Context) error {
	if c.flags.Code != "" && !isCode(c.flags.Code) {
		return badCode.of(c.flags.Code).because(nil)
	}
	path := c.flags.Port
	if path == "" {
		var err error
		if path, err = c.look(ctx); err != nil {
			return err
		}
	}
	g, err := c.plug(ctx, path)
	if err != nil {
		return silent(path, err)
	}
	c.terminal, c.greeting = g.Terminal(), g
	c.app.result.Port, c.app.result.Terminal = path, &terminal{c.terminal.Name(), c.terminal.Code()}
	c.app.say.ok("terminal at %s", path)
	if g.State == session.Returned {
		return protocol.WithCode(protocol.IdentityReturned, errors.New("the terminal was taken out of use"))
	}
	if g.State == session.KeyAway && !c.lost {
		return protocol.WithCode(g.Cause, errors.New("the terminal's key or enrolment is not there"))
	}
	return c.do(ctx, func(s *session.Client) error { return s.Open(ctx) })
}

// silent says of a port where nobody answers what to do.
func silent(path string, err error) error {
	if errors.Is(err, session.ErrSilent) || errors.Is(err, session.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return noAnswer.of(path).because(err)
	}
	return err
}

// look tries every port.
func (c *cable) look(ctx context.Context) (string, error) {
	ports, err := c.app.ports()
	if err != nil {
		return "", err
	}
	if len(ports) == 0 {
		return "", noPort.because(nil)
	}
	var found []option
	var refused error
	for _, p := range ports {
		c.app.say.note("%s", strings.TrimSpace("looking at "+p.Path+"  "+p.What))
		g, err := c.plug(ctx, p.Path)
		c.unplug()
		var own *failure
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err == nil:
			found = append(found, option{fmt.Sprintf("%s  at %s", g.Terminal().Code(), p.Path), p.Path})
		case errors.As(err, &own) && refused == nil:
			refused = err
		}
	}
	switch {
	case len(found) == 1:
		return found[0].value, nil
	case len(found) > 1:
		q := question{title: "More than one terminal is connected. Which one?", detail: "Its code is on its screen.", flag: "--port PORT"}
		path, err := c.app.ask.choose(ctx, q, "", found...)
		if errors.Is(err, errUsage) {
			return "", severalTerminals.because(err)
		}
		return path, err
	case refused != nil:
		return "", refused // a port that may not be used is the likelier cause
	}
	return "", noTerminal.because(nil)
}

// compare makes sure that the cable leads to the terminal in front of the technician, whose screen shows its code: while it is not set up, and afterwards
// while it asks for its button. What answers at the cable may be anything and can say that it is set up, so that is no reason not to ask. If nobody is there to
// answer it is an error where it is demanded: where secrets are to follow.
func (c *cable) compare(ctx context.Context, demanded bool) error {
	code := c.terminal.Code()
	if c.flags.Code != "" {
		if !sameCode(c.flags.Code, code) {
			return codeDiffers.because(fmt.Errorf("the terminal at the cable is %s", code))
		}
		c.seen = c.app.somebody() // who typed it has read it there; a script has not
		c.app.say.ok("%s", code)
		return nil
	}
	q := question{title: "Does the terminal's screen show this code?", flag: "--code CODE"}
	if c.greeting.State == session.SetUp && c.app.somebody() {
		if err := c.hold(ctx, func(s *session.Client) error {
			_, err := s.AskPress(ctx)
			return err
		}); err != nil {
			return err
		}
		q.title = "The terminal's screen asks for its button now. Does it show this code?"
	}
	q.detail = "\n    " + strings.ReplaceAll(code, "-", "  -  ") + "\n"
	same, err := c.app.ask.choose(ctx, q, "", option{"No, or I cannot tell", "no"}, option{"Yes, all 16 characters are the same", "yes"})
	switch {
	case errors.Is(err, errUsage) && !demanded:
		c.app.say.note("%s; nobody is here to compare it with the screen", code)
		return nil
	case err != nil:
		return err
	case same != "yes":
		return codeUnconfirmed.because(nil)
	}
	c.seen = true
	c.app.say.ok("%s", code)
	return nil
}

// do asks the terminal for something. If the press of the button was too long ago, it has it pressed again and asks again.
func (c *cable) do(ctx context.Context, ask func(*session.Client) error) error {
	err := c.hold(ctx, ask)
	if c.pressed && protocol.CodeOf(err) == protocol.AuthButton && ctx.Err() == nil {
		if err := c.authorise(ctx); err != nil {
			return err
		}
		err = c.hold(ctx, ask)
	}
	return err
}

// hold asks the terminal for something. If the cable comes loose it waits, opens the session again and asks again: every request may be
// repeated.
func (c *cable) hold(ctx context.Context, ask func(*session.Client) error) error {
	for {
		err := ask(c.client)
		if err == nil || ctx.Err() != nil || !lost(err) {
			return err
		}
		if err := c.again(ctx, err); err != nil {
			return err
		}
	}
}

// lost tells whether err is about the cable and not about what was asked.
func lost(err error) bool {
	return errors.Is(err, session.ErrLost) || errors.Is(err, session.ErrSilent) || errors.Is(err, session.ErrClosed)
}

// again waits for the same terminal to be back and opens a session with it.
func (c *cable) again(ctx context.Context, cause error) error {
	c.app.say.attention("The terminal does not answer any more. Put the cable back, or wait until the terminal has started: this goes on by itself.")
	limited, done := context.WithTimeout(ctx, c.flags.Wait)
	defer done()
	tries := time.NewTicker(c.app.poll)
	defer tries.Stop()
	for {
		err := c.resume(limited)
		if err == nil {
			c.app.say.ok("the terminal is back")
			// A terminal that was set up meanwhile does nothing any more without the button.
			if err = c.press(ctx, c.pressed || c.greeting.State == session.SetUp); err == nil || !lost(err) {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case limited.Err() != nil:
			return protocol.WithCode(protocol.LinkCable, fmt.Errorf("waited %v: %w", c.flags.Wait, errors.Join(cause, err)))
		case errors.Is(err, errGiveUp):
			return err
		}
		select {
		case <-limited.Done():
		case <-tries.C:
		}
	}
}

var errGiveUp = errors.New("no use in waiting")

// resume tries once. A cable at USB may have got another name.
func (c *cable) resume(ctx context.Context) error {
	paths := []string{c.path}
	if c.flags.Port == "" {
		ports, err := c.app.ports()
		if err != nil {
			return err
		}
		for _, p := range ports {
			if p.Path != c.path {
				paths = append(paths, p.Path)
			}
		}
	}
	var first error
	for _, path := range paths {
		g, err := c.plug(ctx, path)
		if err == nil && g.Terminal() != c.terminal {
			c.unplug()
			err = otherTerminal.because(nil)
			if len(paths) == 1 {
				return errors.Join(err, errGiveUp)
			}
		}
		if err == nil {
			c.greeting = g
			if err = c.client.Open(ctx); err == nil {
				return nil
			}
			if !lost(err) {
				return errors.Join(err, errGiveUp)
			}
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// press has the button pressed, if that is needed.
func (c *cable) press(ctx context.Context, needed bool) error {
	if !needed {
		return nil
	}
	c.pressed = true
	prompt := sync.OnceFunc(func() {
		where := ""
		if c.button != "" {
			where = " (" + c.button + ")"
		}
		if c.greeting.State == session.KeyAway {
			c.app.say.attention("Hold the button at the terminal%s for three seconds if its screen shows %s. You have a minute.", where, c.terminal.Code())
			return
		}
		c.app.say.attention("Press the button at the terminal%s now: its screen asks for it and shows %s. You have a minute.", where, c.terminal.Code())
	})
	began := time.Now()
	err := c.client.Authorise(ctx, prompt)
	// A terminal whose screen shows something else, such as the end of a call, refuses at once: it can ask in a moment.
	for protocol.CodeOf(err) == protocol.AnswerBusy && time.Since(began) < coverTime {
		if err := c.app.wait(ctx); err != nil {
			return err
		}
		err = c.client.Authorise(ctx, prompt)
	}
	if err != nil && !lost(err) {
		c.pressed = false
	}
	return err
}

// authorise has the button pressed by somebody who is at the terminal, unless it was not long ago in this session.
func (c *cable) authorise(ctx context.Context) error {
	c.pressed = true
	return c.hold(ctx, func(*session.Client) error { return c.press(ctx, true) })
}
