package agent

import (
	"slices"
	"sync"

	"vindu/protocol"
)

// changesQueue bounds the beginnings and ends of conditions that wait to be written while the disk is slow. It is more than two for each code of protocol.Register, so that when it is
// full there is always a condition both of whose beginning and end wait.
const changesQueue = 512

// changes are the beginnings and ends of conditions that wait to be written to the outbox, the oldest first. Nobody waits to add one. When there are too many, a condition that has come
// and gone meanwhile is left out, both its beginning and its end, and counted as dropped: what waits still leads to what holds. It is safe for concurrent use.
type changes struct {
	wake chan struct{} // bounded by one

	mu      sync.Mutex
	waiting []protocol.ConditionChange
	dropped uint64
}

func newChanges() *changes { return &changes{wake: make(chan struct{}, 1)} }

// add returns how many of those that waited it cost.
func (c *changes) add(x protocol.ConditionChange) (lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, x)
	for len(c.waiting) > changesQueue {
		lost += c.leaveOut()
	}
	c.dropped += uint64(lost)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return lost
}

// leaveOut takes out the oldest beginning whose end waits too, with that end; c.mu is held. Where there is none, as of codes that the register does not have, it takes the oldest.
func (c *changes) leaveOut() int {
	type spell struct {
		code  protocol.Code
		since protocol.Time
	}
	ends := map[spell]int{}
	for i, x := range slices.Backward(c.waiting) {
		s := spell{x.Code, x.Since}
		if x.Until != 0 {
			ends[s] = i
		}
	}
	for i, x := range c.waiting {
		if end, ok := ends[spell{x.Code, x.Since}]; ok && x.Until == 0 && end > i {
			c.waiting = slices.Delete(slices.Delete(c.waiting, end, end+1), i, i+1)
			return 2
		}
	}
	c.waiting = slices.Delete(c.waiting, 0, 1)
	return 1
}

// next takes the oldest one.
func (c *changes) next() (x protocol.ConditionChange, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return x, false
	}
	x = c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	return x, true
}

// lose counts one that could not be kept.
func (c *changes) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
}

// lost returns how many were dropped since the agent began.
func (c *changes) lost() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}
