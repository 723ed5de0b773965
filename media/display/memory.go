package display

import (
	"context"
	"image"
	"sync"

	"vindu/media/yuv"
)

// Memory is a Device that exists only in memory: for tests, and for trying a terminal out
// without a screen. Its methods are safe for concurrent use.
type Memory struct {
	w, h int

	mu      sync.Mutex
	back    []byte // painted by the one who presents
	front   []byte // as last presented
	count   uint64
	changed chan struct{} // if someone waits: closed when the picture changes or on Close
	closed  bool
}

// NewMemory returns a black screen of w×h pixels. It panics on a size outside 1…yuv.MaxSide.
func NewMemory(w, h int) *Memory {
	if w < 1 || h < 1 || w > yuv.MaxSide || h > yuv.MaxSide {
		panic("display: screen size out of range")
	}
	return &Memory{w: w, h: h, back: make([]byte, w*h*4), front: make([]byte, w*h*4)}
}

func (m *Memory) Size() (w, h int) { return m.w, m.h }

func (m *Memory) Frame() (pix []byte, stride, age int) { return m.back, m.w * 4, 1 }

func (m *Memory) Present(dirty []image.Rectangle) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	bounds := image.Rect(0, 0, m.w, m.h)
	for _, r := range dirty {
		copyRect(m.front, m.back, m.w*4, r.Intersect(bounds))
	}
	m.count++
	m.wake()
	return nil
}

func (m *Memory) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// copyRect copies the pixels of r between two pictures of the same layout.
func copyRect(dst, src []byte, stride int, r image.Rectangle) {
	if r.Empty() {
		return
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		from, to := y*stride+r.Min.X*4, y*stride+r.Max.X*4
		copy(dst[from:to], src[from:to])
	}
}

// Snapshot returns a copy of what the screen shows.
func (m *Memory) Snapshot() *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, m.w, m.h))
	m.SnapshotInto(img)
	return img
}

// SnapshotInto copies what the screen shows into img, which has the screen's size, and
// returns how many pictures have been presented so far.
func (m *Memory) SnapshotInto(img *image.RGBA) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if img.Rect.Size() == image.Pt(m.w, m.h) {
		// Cannot fail: both pictures are complete and of the same size.
		_ = yuv.SwapRB(img.Pix, img.Stride, m.front, m.w*4, m.w, m.h)
		for i := 3; i < len(img.Pix); i += 4 {
			img.Pix[i] = 255
		}
	}
	return m.count
}

// Wait blocks until more than seen pictures have been presented, and returns how many have.
// It returns ErrClosed once the screen is closed, and ctx's error when that ends first.
func (m *Memory) Wait(ctx context.Context, seen uint64) (uint64, error) {
	for {
		m.mu.Lock()
		if m.changed == nil && !m.closed {
			m.changed = make(chan struct{})
		}
		count, changed, closed := m.count, m.changed, m.closed
		m.mu.Unlock()
		if closed {
			return count, ErrClosed
		}
		if count > seen {
			return count, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return count, ctx.Err()
		}
	}
}

func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake()
	return nil
}
