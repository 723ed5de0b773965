package main

import (
	"context"
	"errors"
	"slices"

	"vindu/device/agent"
	"vindu/device/button"
	"vindu/device/screen"
	"vindu/protocol"
)

// press is the button of the terminal, and of its page in builds that have one.
type press struct {
	button *button.Button
	page   *preview
	lost   chan bool // the newest of: there is nothing left at this terminal that a press could harm
}

func newPress(cfg agent.Devices, page *preview) *press {
	return &press{button.New(cfg.Button), page, make(chan bool, 1)}
}

// await returns nil once one of the buttons was pressed.
func (p *press) await(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	buttons := []func(context.Context) error{p.button.Await, p.page.awaitPress}
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

// show notices what is on the screen. It does not block; it has one caller at a time.
func (p *press) show(s screen.Scene) {
	select {
	case <-p.lost:
	default:
	}
	p.lost <- s.Kind == screen.Returned || slices.Contains(s.Faults, protocol.IdentityTPMCleared)
}

// run has a press begin anew where the key is lost for good: the agent itself judges whether it is. Until then it reads no button.
func (p *press) run(ctx context.Context, a *agent.Agent) error {
	for lost := false; ; {
		if !lost {
			select {
			case <-ctx.Done():
				return nil
			case lost = <-p.lost:
			}
			continue
		}
		waiting, stop := context.WithCancel(ctx)
		pressed := make(chan error, 1)
		go func() { pressed <- p.await(waiting) }()
		select {
		case <-ctx.Done():
		case lost = <-p.lost:
		case err := <-pressed:
			if pressed <- err; err == nil {
				a.StartAnew()
			}
			lost = false // until the screen says it again
		}
		stop()
		<-pressed
		if ctx.Err() != nil {
			return nil
		}
	}
}
