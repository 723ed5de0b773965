package display

import (
	"context"
	"fmt"
	"image"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"vindu/media/yuv"
)

// Memory is a Device that exists only in memory: for tests, and for trying a terminal out
// without a screen. It has one picture, which nobody sees while it is painted. Its methods are safe for concurrent use.
type Memory struct {
	w, h int
	pix  []byte

	mu       sync.Mutex
	count    uint64
	painting bool          // between Frame and Present pix is the painter's
	changed  chan struct{} // if someone waits: closed when the picture changes or on Close
	closed   bool
}

// NewMemory returns a black screen of w×h pixels. It panics on a size outside 1…yuv.MaxSide.
func NewMemory(w, h int) *Memory {
	if w < 1 || h < 1 || w > yuv.MaxSide || h > yuv.MaxSide {
		panic("display: screen size out of range")
	}
	m := &Memory{w: w, h: h, pix: mapped(w * h * 4)}
	runtime.AddCleanup(m, func(pix []byte) { _ = unix.Munmap(pix) }, m.pix)
	return m
}

// mapped returns n bytes that are not the garbage collector's, as those of a real screen are not: it keeps room for half of what it knows of.
func mapped(n int) []byte {
	pix, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(fmt.Sprintf("display: map %d bytes: %v", n, err)) // as when make finds no memory
	}
	return pix
}

// Size implements Device.
func (m *Memory) Size() (w, h int) { return m.w, m.h }

// Frame implements Device.
func (m *Memory) Frame() (pix []byte, stride, age int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		// Painted into and thrown away: Present will say that the screen is closed, and a snapshot may be reading.
		return make([]byte, m.w*m.h*4), m.w * 4, 0
	}
	m.painting = true
	return m.pix, m.w * 4, 1
}

// Present implements Device.
func (m *Memory) Present([]image.Rectangle) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.painting = false
	m.wake()
	if m.closed {
		return ErrClosed
	}
	m.count++
	return nil
}

func (m *Memory) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// Snapshot returns a copy of what the screen shows.
func (m *Memory) Snapshot() *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, m.w, m.h))
	m.SnapshotInto(img)
	return img
}

// SnapshotInto copies what the screen shows into img, which has the screen's size, and
// returns how many pictures have been presented so far. It waits for a painting under way, some milliseconds.
func (m *Memory) SnapshotInto(img *image.RGBA) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.painting {
		changed := m.change()
		m.mu.Unlock()
		<-changed
		m.mu.Lock()
	}
	if img.Rect.Size() == image.Pt(m.w, m.h) {
		// Cannot fail: both pictures are complete and of the same size.
		_ = yuv.SwapRB(img.Pix, img.Stride, m.pix, m.w*4, m.w, m.h)
		for i := 3; i < len(img.Pix); i += 4 {
			img.Pix[i] = 255
		}
	}
	return m.count
}

// change returns what is closed at the next change. m.mu is held.
func (m *Memory) change() <-chan struct{} {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

// Wait blocks until more than seen pictures have been presented, and returns how many have.
// It returns ErrClosed once the screen is closed, and ctx's error when that ends first.
func (m *Memory) Wait(ctx context.Context, seen uint64) (uint64, error) {
	for {
		m.mu.Lock()
		count, changed, closed := m.count, m.change(), m.closed
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

// Close implements Device.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake()
	return nil
}
