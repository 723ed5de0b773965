package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"vindu/device/agent"
	"vindu/device/button"
	"vindu/device/screen"
)

// press is the button of the terminal, and of its page in builds that have one.
type press struct {
	button *button.Button
	page   *preview
	hands  *hands
	means  chan meaning // the newest
}

// meaning is what a press does that no technician's session asks for.
type meaning uint8

const (
	nothing     meaning = iota // and the button is not read
	no                         // declines the call that rings, or ends the call or the acceptance check that runs: a person at home can always say no
	noOrTake                   // no; and the answer key takes the call, which asks for it
	noOrCurtain                // no; and the curtain's key draws it, or opens it again
	newStart                   // a long one begins anew, where the key is lost for good or the terminal was taken out of use
)

func newPress(cfg agent.Devices, keys agent.Button, page *preview, hands *hands) *press {
	answer, _ := button.Key(keys.Answer)
	curtain, _ := button.Key(keys.Curtain)
	return &press{button.New(cfg.Button, answer, curtain), page, hands, make(chan meaning, 1)}
}

// errTaken ends a wait by the key that takes calls.
var errTaken = errors.New("the call is taken")

// noOrTake returns nil once one of the buttons was pressed, or errTaken once the key that takes calls was; nil if both were.
func (p *press) noOrTake(ctx context.Context) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	no, taken := make(chan error, 1), make(chan error, 1)
	go func() { no <- p.await(waiting) }()
	go func() { taken <- p.button.AwaitAnswer(waiting) }()
	select {
	case err := <-no:
		stop()
		if took := <-taken; took == nil && err != nil {
			return errTaken
		}
		return err
	case err := <-taken:
		if err != nil { // there is no such key, or ctx ended
			return <-no
		}
		stop()
		if <-no == nil {
			return nil
		}
		return errTaken
	}
}

// noOrCurtain is await that calls draw whenever the curtain's key is pressed.
func (p *press) noOrCurtain(ctx context.Context, draw func()) error {
	return p.first(ctx, func(ctx context.Context) error { return p.button.AwaitOrCurtain(ctx, draw) })
}

// holdTime is how long a press has to be by which all that a terminal keeps is destroyed, or by which one that was taken out of use is ready to be set up anew.
const holdTime = 3 * time.Second

// await returns nil once one of the buttons was pressed. The panel's no does what it does by itself.
func (p *press) await(ctx context.Context) error { return p.first(ctx, p.button.Await) }

// agree is await for a press by which somebody agrees to what the screen asks: the panel's answer button does, too, and its no does not.
func (p *press) agree(ctx context.Context) error {
	return p.first(ctx, p.button.Await, p.hands.awaitAnswer)
}

// hold returns nil once one of the buttons was held for holdTime, as agree would be. That of the page, which is for trials, is only pressed.
func (p *press) hold(ctx context.Context) error {
	return p.first(ctx, func(ctx context.Context) error { return p.button.Hold(ctx, holdTime) },
		func(ctx context.Context) error { return p.hands.awaitHold(ctx, holdTime) })
}

func (p *press) first(ctx context.Context, buttons ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	buttons = append(buttons, p.page.awaitPress)
	ends := make(chan error, len(buttons))
	for _, await := range buttons {
		go func() { ends <- await(ctx) }()
	}
	var ended []error
	for range buttons { // one that is pressed ends the others
		err := <-ends
		if err == nil {
			cancel()
		}
		ended = append(ended, err)
	}
	if slices.Contains(ended, nil) {
		return nil
	}
	return errors.Join(ended...)
}

// what is what the button calls itself by which somebody agrees; empty if there is none. A panel's comes first, as on the screen: it is the one with a label.
func (p *press) what() string {
	if p.hands.here() {
		return "Answer, on the panel"
	}
	return p.own()
}

// own is what the button calls itself that is no panel's; empty if there is none.
func (p *press) own() string {
	if w := p.button.What(); w != "" {
		return w
	}
	return p.page.button()
}

// show notices what is on the screen. It does not block; it has one caller at a time.
func (p *press) show(s screen.Scene) {
	m := nothing
	switch {
	case s.Kind == screen.Ringing && s.Ask:
		m = noOrTake
	case s.Kind == screen.InCall && p.button.HasCurtain():
		m = noOrCurtain
	case s.Kind == screen.Checking, s.Kind == screen.Ringing, s.Kind == screen.InCall:
		m = no
	case s.Kind == screen.Returned, s.Kind == screen.Lost:
		m = newStart
	}
	select {
	case <-p.means:
	default:
	}
	p.means <- m
}

// pressable is what a press changes: an agent.Agent.
type pressable interface {
	HangUp()
	Take()
	Curtain()
	StartAnew()
	Look() // what there is to press, or whether the shutter is closed, is another than it was
}

// run does what a press means, until ctx ends. While the meaning stays the same the button stays open, so that no press is lost to another word on
// the screen.
func (p *press) run(ctx context.Context, a pressable) error {
	m := nothing
	for ctx.Err() == nil {
		waiting, stop := context.WithCancel(ctx)
		pressed := make(chan error, 1)
		go func() {
			if m == nothing {
				<-waiting.Done()
				pressed <- waiting.Err()
				return
			}
			if m == newStart {
				pressed <- p.hold(waiting)
				return
			}
			if m == noOrTake {
				pressed <- p.noOrTake(waiting)
				return
			}
			if m == noOrCurtain {
				pressed <- p.noOrCurtain(waiting, a.Curtain)
				return
			}
			pressed <- p.await(waiting)
		}()
		next := m
		for waits := true; waits; {
			select {
			case next = <-p.means:
				if waits = next == m; !waits {
					stop()
					<-pressed
				}
			case err := <-pressed: // ctx ended, or there is no button, or:
				waits, next = false, nothing // until the screen says it again
				switch {
				case errors.Is(err, errTaken):
					a.Take()
				case err != nil:
				case m == no, m == noOrTake, m == noOrCurtain:
					a.HangUp()
				case m == newStart:
					a.StartAnew() // it judges itself whether there is anything left to lose
				}
			}
		}
		stop()
		m = next
	}
	return nil
}
