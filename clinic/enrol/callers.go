package enrol

import (
	"net/netip"

	"vindu/clinic/pace"
	"vindu/protocol"
)

// Bounds of those who ask.
var (
	// strangers have shown no certificate of the clinic: who enrols, and who knocks. A household's router, or a depot with fifty terminals on the bench.
	strangers = pace.Bound{PerSecond: 2, Burst: 100}
	// terminals have. What stands behind the same router as they do cannot take their share.
	terminals = pace.Bound{PerSecond: 2, Burst: 100}
	// clocks ask for the time, which a terminal does before anything else, and each hour: thousands behind one carrier's router, and all of them at once
	// when the power comes back. An answer costs a signature, the connection that it comes over more.
	clocks = pace.Bound{PerSecond: 100, Burst: 5000}
)

// all are the bounds of everybody.
type all struct {
	strangers, clocks *pace.Callers[netip.Prefix]
	terminals         *pace.Callers[protocol.KeyHash]
}

func newAll() all {
	return all{pace.New[netip.Prefix](strangers), pace.New[netip.Prefix](clocks), pace.New[protocol.KeyHash](terminals)}
}
