package session

import (
	"context"
	"fmt"
	"sync"
)

// veil is the curtain's: what can see, hear, show or play is inside while it does, and nothing is while it is drawn.
type veil struct {
	mu     sync.Mutex
	drawn  bool
	inside int
	change chan struct{} // closed when any of these changes
	open   context.Context
	shut   context.CancelFunc // of open, when it is drawn
}

func newVeil() *veil {
	v := &veil{change: make(chan struct{})}
	v.open, v.shut = context.WithCancel(context.Background())
	return v
}

// changed wakes whoever waits. v.mu is held.
func (v *veil) changed() {
	close(v.change)
	v.change = make(chan struct{})
}

// try goes inside unless it is drawn. Whoever is inside calls leave.
func (v *veil) try() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.drawn {
		return false
	}
	v.inside++
	return true
}

func (v *veil) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.inside--
	v.changed()
}

// enter waits until it is not drawn, and goes inside. The context that it returns ends when it is drawn; so does the work for which it is, and then leave is
// called. It returns false if ctx ends first.
func (v *veil) enter(ctx context.Context) (context.Context, func(), bool) {
	for ctx.Err() == nil {
		v.mu.Lock()
		if !v.drawn {
			v.inside++
			open := v.open
			v.mu.Unlock()
			own, cancel := context.WithCancel(ctx)
			unhook := context.AfterFunc(open, cancel)
			return own, func() { unhook(); cancel(); v.leave() }, true
		}
		change := v.change
		v.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		}
	}
	return nil, nil, false
}

// draw ends what is inside and waits until nothing is; or until ctx ends, with its error. It stays drawn.
func (v *veil) draw(ctx context.Context) error {
	v.mu.Lock()
	if !v.drawn {
		v.drawn = true
		v.shut()
		v.changed()
	}
	for v.inside > 0 {
		change := v.change
		v.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
		v.mu.Lock()
	}
	v.mu.Unlock()
	return nil
}

// lift lets them in again.
func (v *veil) lift() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.drawn {
		v.drawn = false
		v.open, v.shut = context.WithCancel(context.Background())
		v.changed()
	}
}

func (v *veil) isDrawn() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.drawn
}

// Curtain draws or opens a curtain. When it returns nil after drawing, no camera and no sound card is open, nothing of the far end is on the screen or being played, and
// no more of the home is given to the connection; an error wraps ErrStuck, and says that something may be. After opening, what was open by Open is opened again, as
// after a loss. The connection stays. What is not there for a curtain is no loss: no event tells of it, and it is no part of the call's grade.
func (s *Session) Curtain(ctx context.Context, drawn bool) error {
	if !drawn {
		s.far.resume()
		s.keys.Store(true)
		s.veil.lift()
		s.peer.RequestKeyframe()
		return nil
	}
	if err := s.veil.draw(ctx); err != nil {
		return fmt.Errorf("draw a curtain: %w: %w", ErrStuck, err)
	}
	if n := s.camera.hanging(); n > 0 {
		return fmt.Errorf("draw a curtain: %d reads hang in the camera: %w", n, ErrStuck)
	}
	s.far.clear()
	s.dev.Screen.Far(nil)
	s.dev.Screen.Self(nil)
	return nil
}
