package fleet

import (
	"context"
	"time"

	"vindu/protocol"
)

// Report takes what a terminal sends by HTTPS while it cannot reach the broker, and returns the signed acknowledgements of what is committed. It shows that the terminal is alive, not
// that it can be called.
func (f *Fleet) Report(ctx context.Context, key protocol.KeyHash, r *protocol.Report) ([][]byte, error) {
	f.board.reported(key, r.Health, time.Now())
	var acks [][]byte
	if len(r.Events) > 0 {
		list := make([]*protocol.Event, len(r.Events))
		for i := range r.Events {
			list[i] = &r.Events[i]
		}
		var err error
		if acks, err = f.Commit(ctx, key, list...); err != nil {
			return nil, err
		}
	}
	f.settle(ctx, []work{{terminal: key, health: r.Health}})
	return acks, nil
}
