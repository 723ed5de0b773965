package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"vindu/device/outbox"
	"vindu/protocol"
)

// repeatIn spreads the repetitions of many terminals.
func (r *running) repeatIn() time.Duration { return spread(r.cfg.Repeat) }

// resendIn spreads what many terminals send again to a clinic that was slow to acknowledge.
func (r *running) resendIn() time.Duration { return spread(r.cfg.Resend) }

// spread returns three quarters of most or more, but not more than most.
func spread(most time.Duration) time.Duration { return most*3/4 + rand.N(most/4+1) }

func (r *running) newestHealth() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.health
}

// goodbye clears presence itself: the broker discards the will of a client that disconnects.
func (r *running) goodbye() error {
	err := r.publish(protocol.OutPresence, true, r.gone)
	r.client.Disconnect(250) // milliseconds, for DISCONNECT to be written
	return err
}

// take reads one message of the clinic.
func (r *running) take(message incoming, calls chan<- *protocol.CallIn, commands chan<- *protocol.Command) {
	terminal, channel, err := protocol.ParseInTopic(message.topic)
	if err == nil && terminal != r.cfg.Terminal {
		err = fmt.Errorf("message for another terminal: %w", protocol.ErrMalformed)
	}
	if err == nil {
		switch channel {
		case protocol.InAck:
			if err = r.acknowledge(message.payload); err != nil && r.cfg.Refused != nil {
				r.cfg.Refused(err)
			}
		case protocol.InCall:
			m := new(protocol.CallIn)
			if err = protocol.Decode(message.payload, m); err == nil {
				offer(r.Link, calls, m)
			}
		case protocol.InCommand:
			m := new(protocol.Command)
			if err = protocol.Decode(message.payload, m); err == nil && m.Kind == protocol.CommandHeard {
				r.heard(m)
			} else if err == nil {
				r.saying.news = r.saying.news || m.Kind == protocol.CommandReport // a clinic that began anew
				offer(r.Link, commands, m)
			}
		default:
			err = fmt.Errorf("channel %q is not for terminals: %w", channel, protocol.ErrMalformed)
		}
	}
	if err != nil {
		r.malformed.Add(1)
		r.log.Warn("message of the clinic was refused", "bytes", len(message.payload), "error", err, "code", refusal(err))
	}
}

// refusal is the code of a message that was refused.
func refusal(err error) protocol.Code {
	if code := protocol.CodeOf(err); code == protocol.AuthAck {
		return code
	}
	return protocol.SignalMalformed
}

// offer hands m on, or drops it when whoever handles these messages is far behind.
func offer[M any](l *Link, to chan<- M, m M) {
	select {
	case to <- m:
	default:
		l.overrun.Add(1)
		l.log.Error("message of the clinic was dropped because earlier ones are not handled yet", "waiting", len(to))
	}
}

// acknowledge has the outbox forget what the clinic says that it has. It returns an error if the clinic does not say so.
func (r *running) acknowledge(signed []byte) error {
	a, err := protocol.VerifyAck(signed, r.cfg.Service(), r.cfg.Terminal)
	if err != nil {
		return err
	}
	n, err := r.cfg.Outbox.Ack(*a)
	switch {
	case errors.Is(err, outbox.ErrNeverSent):
		return err
	case err != nil:
		r.log.Error("acknowledgement cannot be stored; the clinic recognises what is sent again", "error", err, "code", protocol.CodeOf(err))
	case n > 0:
		r.acked = max(r.acked, a.Seq)
	}
	return nil
}

// drive sends the oldest event if none waits for its acknowledgement, or again if that did not come in time (again). One at a
// time: an acknowledgement covers everything before it, and at QoS 0 an event in the middle of many could be lost.
func (r *running) drive(resend *time.Timer, again bool) error {
	if r.sentSeq != 0 && r.sentSeq > r.acked && !again {
		return nil
	}
	seq, message, err := r.cfg.Outbox.Next(0)
	if err != nil {
		r.log.Error("outbox cannot be read", "error", err, "code", protocol.CodeOf(err))
		resend.Reset(r.resendIn())
		return nil
	}
	if r.sentSeq = seq; message == nil {
		resend.Stop()
		return nil
	}
	resend.Reset(r.resendIn())
	return r.publish(protocol.OutEvent, false, message)
}
