package agent

import (
	"sync"
	"time"

	"vindu/protocol"
)

// ackNoticeEvery bounds the events that forged acknowledgements can cause: while they come nothing of what waits is taken away.
const ackNoticeEvery = time.Hour

// refusals are of acknowledgements. Link and courier add to them.
type refusals struct {
	mu      sync.Mutex
	told    time.Time // last
	courier uint64    // those that came by https; the link counts its own
}

func (r *refusals) byCourier() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.courier
}

// refusedAck tells the clinic that somebody acknowledges in its name, which is kept with all that was to be forgotten. It may also be that the clinic's server has
// another key than the terminal knows of: so it looks.
func (t *terminal) refusedAck(err error) {
	t.acks.mu.Lock()
	again := !t.acks.told.IsZero() && time.Since(t.acks.told) < ackNoticeEvery
	if !again {
		t.acks.told = time.Now()
	}
	t.acks.mu.Unlock()
	if again {
		return
	}
	t.a.log.Error("acknowledgement of what was told is not the clinic's; nothing is forgotten", "error", err, "code", protocol.AuthAck)
	t.tell(protocol.AuthAck)
	t.renewer.FetchNow()
}

// refusedByCourier is refusedAck for what came by https.
func (t *terminal) refusedByCourier(err error) {
	t.acks.mu.Lock()
	t.acks.courier++
	t.acks.mu.Unlock()
	t.refusedAck(err)
}
