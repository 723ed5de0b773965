package calls

import (
	"time"

	"vindu/protocol"
)

// Revoke ends the calls of a terminal that lost its right to have any. It returns when the terminal has proven that they are over, or has
// had revokeTimeout for it: its connection may be closed then.
func (s *Service) Revoke(terminal protocol.KeyHash) {
	s.mu.Lock()
	var ending []*call
	for _, c := range s.calls {
		if c.terminal == terminal && c.state != Ended {
			s.stop(c, protocol.EndCutOff)
			ending = append(ending, c)
		}
	}
	s.mu.Unlock()
	timer := time.NewTimer(revokeTimeout)
	defer timer.Stop()
	for _, c := range ending {
		select {
		case <-c.over:
		case <-timer.C:
			timer.Reset(0) // for the others too
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range ending {
		s.apply(c, endWaited, protocol.EndCutOff, nil)
	}
}

// RevokePerson ends the calls of a person who lost the right to them (R29): those for which permits names a reason, asked for this home and this passkey. Where it
// cannot say, they end.
func (s *Service) RevokePerson(person string, permits func(home string, passkey []byte) (protocol.Code, error)) {
	s.mu.Lock()
	var running []*call
	for _, c := range s.calls {
		if c.person.ID == person && c.state != Ended {
			running = append(running, c)
		}
	}
	s.mu.Unlock()
	for _, c := range running {
		reason, err := permits(c.home, c.passkey)
		if err != nil {
			s.log.Error("whether a call is still permitted cannot be found out; it ends", "call", c.id, "person", person, "error", err)
			reason = protocol.EndWithdrawn
		}
		if reason == "" {
			continue
		}
		if !c.until.IsZero() && !time.Now().Before(c.until) {
			reason = protocol.EndLapsed // nobody has withdrawn anything
		}
		s.mu.Lock()
		s.stop(c, reason)
		s.mu.Unlock()
	}
}
