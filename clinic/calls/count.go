package calls

import (
	"maps"

	"vindu/protocol"
)

// count notes a call that has ended.
func (r *Records) count(e ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.ended = map[protocol.Code]uint64{}
	}
	code := e.outcome
	if !protocol.Known(code) { // a page can say anything
		code = protocol.Unknown
	}
	r.ended[code]++
}

// Ended returns how many calls have ended since the server began, by why.
func (r *Records) Ended() map[protocol.Code]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.ended)
}
