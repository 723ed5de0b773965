package peer

import (
	"context"
	"time"
)

// shut tells pion to let go of everything, once, in a goroutine of its own: pion has had ways of blocking here.
func (p *Peer) shut() {
	p.closing.Do(func() {
		go func() {
			defer close(p.closed)
			p.looking.Lock() // pion's statistics are not safe beside this
			p.shutting = true
			p.looking.Unlock()
			if err := p.pc.GracefulClose(); err != nil {
				p.log.Debug("connection closed with an error")
			}
		}()
	})
}

func (p *Peer) await(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.closed:
		return nil
	case <-timer.C:
		return ErrCloseTimeout
	}
}

// Close ends the connection. When it returns nil, every goroutine has ended; it returns ErrCloseTimeout if that takes longer than
// ctx or 4 s allow. It may be called again, in any state, from any goroutine but a Sink's.
func (p *Peer) Close(ctx context.Context) error {
	p.runMu.Lock()
	running := p.running
	p.end()
	p.runMu.Unlock()
	p.shut()
	timer := time.NewTimer(closeLimit + time.Second)
	defer timer.Stop()
	done := p.closed
	if running {
		done = p.ended
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	return ErrCloseTimeout
}
