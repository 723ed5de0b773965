package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// stopTimeout is how long a stage may take to stop.
const stopTimeout = 10 * time.Second

// stage is a part of the server. Stages start in order, each once the one before is ready, and stop in the reverse order, so that a
// part can lean on those before it for as long as it runs.
type stage struct {
	name  string
	run   func(ctx context.Context) error // until ctx ends
	ready <-chan struct{}                 // nil: ready once it runs
}

type running struct {
	stage
	stop context.CancelFunc
	done chan struct{}
	err  error // once done
}

// runStages runs all stages, calls ready when they are, and stops them when ctx ends or any of them does. A stage that ends before
// it was told to is an error, also if it has none itself.
func runStages(ctx context.Context, log *slog.Logger, stages []stage, ready func()) (err error) {
	var started []*running
	ended := make(chan *running, len(stages))
	defer func() {
		for _, r := range slices.Backward(started) {
			r.stop()
			select {
			case <-r.done:
				if r.err != nil && !errors.Is(r.err, context.Canceled) {
					err = errors.Join(err, fmt.Errorf("%s: %w", r.name, r.err))
				}
			case <-time.After(stopTimeout):
				err = errors.Join(err, fmt.Errorf("%s does not stop", r.name))
			}
			log.Debug("stopped", "part", r.name)
		}
	}()
	early := func(r *running) error {
		if r.err != nil {
			return nil // told above
		}
		return fmt.Errorf("%s ended by itself", r.name)
	}
	for _, s := range stages {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{stage: s, stop: stop, done: make(chan struct{})}
		started = append(started, r)
		go func() {
			r.err = r.run(own)
			close(r.done)
			ended <- r
		}()
		if s.ready == nil {
			continue
		}
		select {
		case <-s.ready:
			log.Debug("started", "part", s.name)
		case r := <-ended:
			return early(r)
		case <-ctx.Done():
			return nil
		}
	}
	ready()
	select {
	case r := <-ended:
		return early(r)
	case <-ctx.Done():
		log.Info("stopping")
		return nil
	}
}
