package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vindu/device/health"
	"vindu/protocol"
)

// healthFile holds what was last told of the terminal's health, for who looks at it on the spot.
const healthFile = "health"

const (
	// tellEvery spares the disk: what changes again sooner waits for the next message.
	tellEvery = 30 * time.Second
	// tellAtLeast has numbers and times that are read on the spot be no older, and shows there that the agent can write: 24 pages of the disk a day.
	tellAtLeast = time.Hour
)

// TellsWithin is how old what an agent has told can be while it is well: a message comes every health.PublishEvery.
const TellsWithin = tellAtLeast + 2*health.PublishEvery

// told keeps on disk what was last told. A disk that does not answer holds nobody else up.
type told struct {
	write func(b []byte) error
	next  chan *protocol.Health // bounded by one: the latest counts
}

func newTold(write func(b []byte) error) *told {
	return &told{write, make(chan *protocol.Health, 1)}
}

// take is for one goroutine, the monitor's.
func (t *told) take(h *protocol.Health) {
	select {
	case <-t.next:
	default:
	}
	t.next <- h
}

// run writes what says something else than before; numbers that only grow are nothing else, and are written now and then.
func (t *told) run(ctx context.Context, log *slog.Logger) error {
	var last *protocol.Health
	var written time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case h := <-t.next:
			if last != nil && sameHealth(last, h) && time.Since(written) < tellAtLeast {
				continue
			}
			b, err := protocol.Encode(h)
			if err == nil {
				err = t.write(b)
			}
			if err != nil {
				log.Debug("health not kept on disk", "error", err) // the probe of the disk tells it
				continue
			}
			last, written = h, time.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tellEvery):
		}
	}
}

func sameHealth(a, b *protocol.Health) bool {
	return slices.Equal(a.Conditions, b.Conditions) && a.Camera == b.Camera && a.Microphone == b.Microphone && a.Speaker == b.Speaker && a.Screen == b.Screen
}

// publish gives health to the link, and keeps it where "vindu-agent diagnose" reads it.
func (t *terminal) publish(h *protocol.Health) error {
	t.kept.take(h)
	return t.link.SetHealth(h)
}

// LastHealth reads what an agent, running or not, has last told of itself, and when it was written, by the clock of this machine. The error wraps os.ErrNotExist if it never has.
func LastHealth(cfg Config) (*protocol.Health, time.Time, error) {
	path := filepath.Join(cfg.State, healthFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("what the terminal has last told of itself: %w", err)
	}
	about, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("what the terminal has last told of itself: %w", err)
	}
	h := new(protocol.Health)
	if err := protocol.Decode(b, h); err != nil {
		return nil, time.Time{}, fmt.Errorf("what the terminal has last told of itself, %s: %w", path, err)
	}
	return h, about.ModTime(), nil
}
