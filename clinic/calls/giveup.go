package calls

import (
	"fmt"
	"time"

	"vindu/protocol"
)

// Bounds on hang-ups of calls that the service does not know (yet).
const (
	maxGivenUp          = 2 * maxCalls
	maxGivenUpPerPerson = 32
)

// gaveUp is a hang-up that came before its call: a page names its calls itself, so that it can end one also when the reply to its
// request was lost, or has not come yet. The request may still be on its way; for as long as an invitation lives nothing comes of it.
type gaveUp struct {
	person string
	reason protocol.Code
	at     time.Time
}

// giveUp remembers that a person does not want a call that is not known. s.mu is held.
func (s *Service) giveUp(person string, id protocol.CallID, reason protocol.Code, now time.Time) error {
	if f := protocol.Explain(reason); reason != protocol.Unknown && f.Sentence == protocol.Explain(protocol.Unknown).Sentence {
		return fmt.Errorf("%w: hang up for no reason that is known", ErrBadRequest)
	}
	own := 0
	for _, g := range s.givenUp {
		if g.person == person {
			own++
		}
	}
	if _, known := s.givenUp[id]; !known && (own >= maxGivenUpPerPerson || len(s.givenUp) >= maxGivenUp) {
		return fmt.Errorf("hang-ups of calls that are not known: %w", ErrTooMany)
	}
	s.givenUp[id] = gaveUp{person, reason, now}
	return nil
}

// wasGivenUp returns why a person has hung up a call before it was known, "" if not. s.mu is held.
func (s *Service) wasGivenUp(person string, id protocol.CallID) protocol.Code {
	if g, ok := s.givenUp[id]; ok && g.person == person {
		return g.reason
	}
	return ""
}

// forgetGivenUp lets go of what nothing can come of any more. s.mu is held.
func (s *Service) forgetGivenUp(now time.Time) {
	for id, g := range s.givenUp {
		if now.Sub(g.at) >= protocol.MaxInvitationLife+clockSlack {
			delete(s.givenUp, id)
		}
	}
}
