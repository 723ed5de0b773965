package enrol

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vindu/protocol"
)

// bound is how many requests one caller may make, and how many callers are told apart.
type bound struct {
	perSecond rate.Limit
	burst     int
}

// Bounds of those who ask.
var (
	// strangers have shown no certificate of the clinic: who enrols, and who knocks. A household's router, or a depot with fifty terminals on the bench.
	strangers = bound{2, 100}
	// terminals have. What stands behind the same router as they do cannot take their share.
	terminals = bound{2, 100}
	// clocks ask for the time, which a terminal does before anything else, and each hour: thousands behind one carrier's router, and all of them at once
	// when the power comes back. An answer costs a signature, the connection that it comes over more.
	clocks = bound{100, 5000}
)

const maxCallers = 10_000

// callers bounds the requests of each. It holds at most maxCallers; those beyond share one bound.
type callers[K comparable] struct {
	bound
	mu     sync.Mutex
	known  map[K]*rate.Limiter
	others *rate.Limiter
	swept  time.Time
}

func newCallers[K comparable](b bound) *callers[K] {
	return &callers[K]{bound: b, known: map[K]*rate.Limiter{}, others: rate.NewLimiter(b.perSecond, b.burst)}
}

func (c *callers[K]) allow(caller K, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limiter(caller, now).AllowN(now, 1)
}

func (c *callers[K]) limiter(caller K, now time.Time) *rate.Limiter {
	if l := c.known[caller]; l != nil {
		return l
	}
	if len(c.known) >= maxCallers && now.Sub(c.swept) > time.Second {
		c.swept = now
		for k, l := range c.known {
			if l.TokensAt(now) >= float64(c.burst) { // not heard of for long enough
				delete(c.known, k)
			}
		}
	}
	if len(c.known) >= maxCallers {
		return c.others
	}
	l := rate.NewLimiter(c.perSecond, c.burst)
	c.known[caller] = l
	return l
}

// place returns the IPv4 address, or the IPv6 /64, that a request comes from; the zero Prefix if it is none.
func place(remote string) netip.Prefix {
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

// all are the bounds of everybody.
type all struct {
	strangers, clocks *callers[netip.Prefix]
	terminals         *callers[protocol.KeyHash]
}

func newAll() all {
	return all{newCallers[netip.Prefix](strangers), newCallers[netip.Prefix](clocks), newCallers[protocol.KeyHash](terminals)}
}
