package yuv

import (
	"image"
	"sync"
	"sync/atomic"
)

// Pool lends I420 pictures of one size, so that a stream allocates nothing once it runs.
// Safe for concurrent use.
type Pool struct {
	w, h int

	mu    sync.Mutex
	free  []*pooled
	limit int
	made  atomic.Int64
}

type pooled struct {
	img     image.YCbCr
	release func()
	out     atomic.Bool
}

// NewPool returns a pool of w×h pictures that keeps at most keep of them when they are
// given back. Pictures are made when first needed.
func NewPool(w, h, keep int) *Pool {
	return &Pool{w: w, h: h, limit: keep, free: make([]*pooled, 0, keep)}
}

// Get lends a picture with undefined content, and the function that gives it back. A
// borrower who never gives it back costs an allocation, not a stop: Get makes another.
// Giving back twice in a row does nothing; after the picture was lent again it is a fault.
func (pl *Pool) Get() (*image.YCbCr, func()) {
	pl.mu.Lock()
	var f *pooled
	if n := len(pl.free); n > 0 {
		f = pl.free[n-1]
		pl.free = pl.free[:n-1]
	}
	pl.mu.Unlock()
	if f == nil {
		f = new(pooled)
		setup(&f.img, pl.w, pl.h)
		f.release = func() { pl.put(f) }
		pl.made.Add(1)
	}
	f.out.Store(true)
	return &f.img, f.release
}

func (pl *Pool) put(f *pooled) {
	if !f.out.CompareAndSwap(true, false) {
		return
	}
	pl.mu.Lock()
	if len(pl.free) < pl.limit {
		pl.free = append(pl.free, f)
	}
	pl.mu.Unlock()
}

// Made returns how many pictures were allocated since the pool was made.
func (pl *Pool) Made() int64 { return pl.made.Load() }

// Size returns the width and height of the pictures.
func (pl *Pool) Size() (w, h int) { return pl.w, pl.h }
