package calls

import (
	"context"
	"fmt"

	"vindu/protocol"
)

// Restart passes an offer for another path on to the terminal, which verifies that the caller has signed it for this call. After the call's end it does nothing.
func (s *Service) Restart(ctx context.Context, person string, id protocol.CallID, restart *protocol.CallRestart) error {
	message := &protocol.CallIn{Version: protocol.Version, Call: id, Kind: protocol.KindRestart, Restart: restart}
	if _, err := protocol.Encode(message); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.mu.Lock()
	c, err := s.own(person, id)
	if err == nil && c.state != Ended {
		if c.restarts++; c.restarts > protocol.MaxRestarts {
			err = fmt.Errorf("restarts of call %s: %w", id, ErrTooMany)
		} else {
			c.fromCaller = 0 // it has candidates of its own
		}
	}
	over := err != nil || c.state == Ended
	s.mu.Unlock()
	if over {
		return err
	}
	return s.link.Send(ctx, c.terminal, message)
}

// restarted checks the terminal's answer to an offer for another path as the page will. Nothing that is not proven goes any further. s.mu is held.
func (s *Service) restarted(c *call, m *protocol.CallRestart) {
	key, err := publicKey(c.spki)
	var answer *protocol.Restart
	if err == nil {
		answer, err = protocol.VerifyRestart(m.Restart, key, protocol.SideTerminal, c.id, c.terminal, c.invitation, m.SDP, uint64(c.answered))
	}
	if err != nil {
		s.complain("answer to a restart is not proven and was left aside", "call", c.id, "terminal", c.terminal, "error", err)
		return
	}
	c.answered, c.fromTerminal = int(answer.N), 0
	s.log.Info("another path is looked for", "call", c.id, "terminal", c.terminal, "number", answer.N)
	s.update(c, Update{Kind: KindRestart, Restart: m.Restart, SDP: m.SDP})
}
