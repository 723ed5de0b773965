package fleet

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"

	"vindu/protocol"
)

// Bounds of one terminal in what all share.
const (
	// maxWaiting is how many of its events wait to be stored. An honest terminal sends the next when the one before is acknowledged.
	maxWaiting = 64
	// callRate and callBurst bound its call messages; a call needs fewer than callBurst in all.
	callRate  = 50
	callBurst = 256
	// complaints a second are in the log of what was dropped, after the first 50.
	complaints = 1
)

// shares are what each terminal has of the queues, so that one that sends without end is in nobody's way but its own.
type shares struct {
	mu      sync.Mutex
	waiting map[protocol.KeyHash]int           // events in the queue
	missed  map[protocol.KeyHash]uint64        // events that did not get into it
	calls   map[protocol.KeyHash]*rate.Limiter // call messages
	log     *rate.Limiter
}

func newShares() *shares {
	return &shares{
		waiting: make(map[protocol.KeyHash]int), missed: make(map[protocol.KeyHash]uint64), calls: make(map[protocol.KeyHash]*rate.Limiter),
		log: rate.NewLimiter(complaints, 50),
	}
}

// take reports whether one more event of a terminal may wait.
func (s *shares) take(key protocol.KeyHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[key] >= maxWaiting {
		return false
	}
	s.waiting[key]++
	return true
}

// give undoes take.
func (s *shares) give(key protocol.KeyHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[key]--; s.waiting[key] <= 0 {
		delete(s.waiting, key)
	}
}

// miss notes that an event of a terminal came and is not stored.
func (s *shares) miss(key protocol.KeyHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed[key]++
}

func (s *shares) misses(key protocol.KeyHash) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missed[key]
}

// speak reports whether a terminal may say one more thing about calls.
func (s *shares) speak(key protocol.KeyHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.calls[key]
	if l == nil {
		l = rate.NewLimiter(callRate, callBurst)
		s.calls[key] = l
	}
	return l.Allow()
}

// unbrokenOf counts the times at which something of one terminal may have been missed: between two events with the same count all that it sent between them
// has come.
func (f *Fleet) unbrokenOf(key protocol.KeyHash) uint64 {
	return f.unbroken.Load() + f.shares.misses(key)
}

// drop counts and tells of a message that is not taken. Of them there can be as many as a terminal likes.
func (f *Fleet) drop(message string, key protocol.KeyHash, attributes ...any) {
	f.dropped.Add(1)
	level := slog.LevelError
	if !f.shares.log.Allow() {
		level = slog.LevelDebug
	}
	f.log.Log(context.Background(), level, message, append([]any{"terminal", key}, attributes...)...)
}
