package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/state"
	"vindu/protocol"
)

// isAway tells whether a terminal is to show that it cannot be what it is, instead of ending.
func isAway(err error) bool {
	return isLost(err) || slices.Contains(keyAway, protocol.CodeOf(err))
}

// isLost tells whether nothing but another enrolment helps, or a restored folder.
func isLost(err error) bool {
	return errors.Is(err, identity.ErrDamaged) || errors.Is(err, identity.ErrForeign) || errors.Is(err, state.ErrTooLarge) || protocol.CodeOf(err) == protocol.IdentityTPMCleared
}

// showKeyAway shows why there is no key, and tells whether that was already shown.
func (a *Agent) showKeyAway(code protocol.Code, lost bool) (was bool) {
	a.change(func(s *situation) {
		was = s.keyAway && slices.Equal(s.conditions, []protocol.Code{code})
		*s = situation{started: true, enrolled: true, keyAway: true, lost: lost, conditions: []protocol.Code{code}, resetting: s.resetting}
	})
	return was
}

// waitForEnrolment returns nil when an enrolment is in the state folder.
func (a *Agent) waitForEnrolment(ctx context.Context) error {
	path := filepath.Join(a.cfg.State, grantFile)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.kept:
		case <-time.After(enrolmentPoll + rand.N(enrolmentPoll/4)):
		}
		if _, err := os.Stat(path); err != nil {
			continue
		}
		// Whoever enrols still holds the lock for a moment.
		d, err := state.Open(a.cfg.State)
		if err != nil {
			continue
		}
		return d.Close()
	}
}

// linkDial is the link's way to the clinic; nil: its own.
func (a *Agent) linkDial(address string) func(context.Context) (net.Conn, error) {
	if a.parts.Dial == nil {
		return nil
	}
	return func(ctx context.Context) (net.Conn, error) { return a.parts.Dial(ctx, "tcp", address) }
}

// dial opens a connection of a probe.
func (a *Agent) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if a.parts.Dial != nil {
		return a.parts.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// home is what the state folder holds, opened.
type home struct {
	dir     *state.Dir
	clock   *clock.Clock
	id      *identity.Identity
	problem error // with the identity
}

func openHome(path string, in identity.Keys, log *slog.Logger) (*home, error) {
	dir, err := state.Open(path)
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, clock: clock.New(dir, clock.Built(), log)}
	keys, err := in.Open(dir)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	h.id, err = identity.Open(dir, keys, h.clock.Now)
	if h.id == nil {
		return nil, errors.Join(err, dir.Close())
	}
	h.problem = err
	return h, nil
}

func (h *home) close() error { return h.dir.Close() }
