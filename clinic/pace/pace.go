// Package pace bounds how often each of many callers may ask, so that none takes the share of the others. Callers are told apart by what they have proven, such as a key,
// or by the Place that they come from.
package pace

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bound is how often one caller may ask.
type Bound struct {
	PerSecond rate.Limit
	Burst     int
}

const maxCallers = 10_000

// Callers bounds the requests of each. It holds at most 10,000; those beyond share one bound. It is safe for concurrent use.
type Callers[K comparable] struct {
	bound  Bound
	mu     sync.Mutex
	known  map[K]*rate.Limiter
	others *rate.Limiter
	swept  time.Time
}

// New returns callers of whom none has asked yet.
func New[K comparable](b Bound) *Callers[K] {
	return &Callers[K]{bound: b, known: map[K]*rate.Limiter{}, others: rate.NewLimiter(b.PerSecond, b.Burst)}
}

// Allow reports whether a caller may ask now, and counts it if so.
func (c *Callers[K]) Allow(caller K, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limiter(caller, now).AllowN(now, 1)
}

func (c *Callers[K]) limiter(caller K, now time.Time) *rate.Limiter {
	if l := c.known[caller]; l != nil {
		return l
	}
	if len(c.known) >= maxCallers && now.Sub(c.swept) > time.Second {
		c.swept = now
		for k, l := range c.known {
			if l.TokensAt(now) >= float64(c.bound.Burst) { // not heard of for long enough
				delete(c.known, k)
			}
		}
	}
	if len(c.known) >= maxCallers {
		return c.others
	}
	l := rate.NewLimiter(c.bound.PerSecond, c.bound.Burst)
	c.known[caller] = l
	return l
}

// Place returns the IPv4 address, or the IPv6 /64, that a request comes from; the zero Prefix if remote, a host:port, is none.
func Place(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	address, bits := a.Addr().Unmap().WithZone(""), 64
	if address.Is4() {
		bits = 32
	}
	p, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
