package fleet

import (
	"context"
	"time"

	"vindu/protocol"
)

// trips is what is known of the round trips of one connection. The terminal numbers what it says of its presence; each is answered by its number, and the terminal
// says which was the last answer that it got. So a broker or a network that lets messages through in one direction only does not pass for a terminal that is
// there.
type trips struct {
	takesPart bool
	first     uint64 // the first number that was answered
	answered  uint64 // the latest
	confirmed uint64 // the latest answer that the terminal says it got
}

// said takes a presence, and tells whether it shows a round trip that was not known. What was never answered cannot have been heard.
func (t *trips) said(p *protocol.Presence) bool {
	t.takesPart = t.takesPart || p.Beat != 0
	if p.Heard <= t.confirmed || p.Heard < t.first || p.Heard > t.answered {
		return false
	}
	t.confirmed = p.Heard
	return true
}

// due returns when the terminal is no longer to be taken as online unless something comes.
func (e *entry) due() time.Time {
	due := e.Heard.Add(Silence)
	if trip := e.RoundTrip.Add(Silence); e.trips.takesPart && trip.Before(due) {
		return trip
	}
	return due
}

// replyQueue bounds the presences that wait to be answered. What does not fit is said again within half a minute.
const replyQueue = 4096

type reply struct {
	terminal protocol.KeyHash
	command  *protocol.Command
}

// reply queues the answer to a presence. It does not block.
func (f *Fleet) reply(key protocol.KeyHash, p *protocol.Presence) {
	command := f.board.answer(key, p)
	if command == nil {
		return
	}
	select {
	case f.replies <- reply{key, command}:
	default:
		f.drop("a presence is not answered: too many wait", key)
	}
}

// sendReplies answers presences.
func (f *Fleet) sendReplies(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-f.replies:
			payload, err := protocol.Encode(r.command)
			if err == nil {
				err = f.publish(ctx, protocol.InTopic(r.terminal, protocol.InCommand), payload)
			}
			if err != nil && ctx.Err() == nil {
				f.log.Debug("a presence is not answered", "terminal", r.terminal, "error", err)
			}
		}
	}
}
