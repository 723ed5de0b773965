package call

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"vindu/protocol"
)

const (
	maxOutgoing  = 128              // messages that wait for the link; when full, the oldest candidate is dropped first
	messageLife  = 10 * time.Second // after which a message about a call is of no use to anybody
	publishLimit = 2 * time.Second
	retryAfter   = 250 * time.Millisecond
)

// sender sends call messages in order and keeps those that could not be sent while the link comes back. What has to arrive in the end is
// in the outbox too.
type sender struct {
	to  Sender
	log *slog.Logger

	mu    sync.Mutex
	queue []outgoing
	wake  chan struct{} // holds one token when there may be something to do
	idle  *sync.Cond    // signalled when the queue becomes empty
}

type outgoing struct {
	m     *protocol.CallOut
	until time.Time
	tried bool // and said so
}

func newSender(to Sender, log *slog.Logger) *sender {
	s := &sender{to: to, log: log, wake: make(chan struct{}, 1)}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// send queues m. It never blocks.
func (s *sender) send(m *protocol.CallOut) {
	s.mu.Lock()
	if len(s.queue) >= maxOutgoing {
		drop := 0
		for i, o := range s.queue {
			if o.m.Kind == protocol.KindCandidate {
				drop = i
				break
			}
		}
		s.log.Warn("call message dropped: too many wait", "call", s.queue[drop].m.Call, "kind", s.queue[drop].m.Kind)
		s.queue = append(s.queue[:drop], s.queue[drop+1:]...)
	}
	s.queue = append(s.queue, outgoing{m: m, until: time.Now().Add(messageLife)})
	s.mu.Unlock()
	s.poke()
}

func (s *sender) linkUp(up bool) {
	if up {
		s.poke()
	}
}

func (s *sender) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) run(ctx context.Context) {
	for {
		wait := s.flush(ctx)
		var retry <-chan time.Time
		if wait {
			retry = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-retry:
		}
	}
}

// flush sends what it can. True says that something is left to be tried again.
func (s *sender) flush(ctx context.Context) bool {
	for {
		o, ok := s.first()
		if !ok {
			return false
		}
		publish, cancel := context.WithTimeout(ctx, publishLimit)
		err := s.to.PublishCall(publish, o.m)
		cancel()
		if err != nil {
			if !errors.Is(err, protocol.ErrTooLarge) && !errors.Is(err, protocol.ErrMalformed) {
				if !o.tried {
					s.log.Info("call message not sent yet", "call", o.m.Call, "kind", o.m.Kind, "error", err)
				}
				return true
			}
			s.log.Error("call message dropped", "call", o.m.Call, "kind", o.m.Kind, "error", err)
		}
		s.drop(o)
	}
}

func (s *sender) first() (outgoing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.queue) > 0 {
		if o := s.queue[0]; now.Before(o.until) {
			s.queue[0].tried = true
			return o, true
		}
		s.log.Warn("call message dropped: too old", "call", s.queue[0].m.Call, "kind", s.queue[0].m.Kind)
		s.queue = s.queue[1:]
	}
	s.idle.Broadcast()
	return outgoing{}, false
}

func (s *sender) drop(sent outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.queue { // it is the first, unless others were dropped meanwhile
		if o.m == sent.m {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return
		}
	}
}

// finish waits until everything is sent, at most for limit.
func (s *sender) finish(limit time.Duration) {
	over := false
	timer := time.AfterFunc(limit, func() {
		s.mu.Lock()
		over = true
		s.mu.Unlock()
		s.idle.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 && !over {
		s.idle.Wait()
	}
}
