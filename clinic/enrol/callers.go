package enrol

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Requests of one address: a household's router, or a depot with fifty terminals on the bench.
const (
	perSecond  = 2
	burst      = 100
	maxCallers = 10_000
)

// callers bounds requests per IPv4 address or IPv6 /64. It holds at most maxCallers; strangers beyond that share one bound.
type callers struct {
	mu     sync.Mutex
	known  map[netip.Prefix]*rate.Limiter
	others *rate.Limiter
	swept  time.Time
}

func newCallers() *callers {
	return &callers{known: map[netip.Prefix]*rate.Limiter{}, others: rate.NewLimiter(perSecond, burst)}
}

func (c *callers) allow(remote string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.others
	if a, err := netip.ParseAddrPort(remote); err == nil {
		bits := 64
		if a.Addr().Unmap().Is4() {
			bits = 32
		}
		if p, err := a.Addr().Unmap().WithZone("").Prefix(bits); err == nil {
			l = c.limiter(p, now)
		}
	}
	return l.AllowN(now, 1)
}

func (c *callers) limiter(p netip.Prefix, now time.Time) *rate.Limiter {
	if l := c.known[p]; l != nil {
		return l
	}
	if len(c.known) >= maxCallers && now.Sub(c.swept) > time.Second {
		c.swept = now
		for p, l := range c.known {
			if l.TokensAt(now) >= burst { // not heard of for long enough
				delete(c.known, p)
			}
		}
	}
	if len(c.known) >= maxCallers {
		return c.others
	}
	l := rate.NewLimiter(perSecond, burst)
	c.known[p] = l
	return l
}
