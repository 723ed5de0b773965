// Package displaytest has graphics cards that exist only in memory, and the contract that every
// screen must keep, whether in memory or real.
package displaytest

import (
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/display/drm"
)

// Card is one card of a Kernel. Set its fields before it is opened.
type Card struct {
	Name       string // of the driver
	NoDumb     bool
	Connectors []drm.Connector
	Encoders   map[uint32]drm.Encoder
	Crtcs      []uint32
	OpenError  error
	// CrtcError, FlipError and DirtyError are returned by SetCrtc, Flip and Dirty.
	CrtcError, FlipError, DirtyError error
	// Stuck makes flips never end.
	Stuck bool

	k       *Kernel
	master  *handle
	shown   *drm.Buffer
	glass   []byte // what a driver that copies has copied so far
	mode    drm.Mode
	on      uint32 // the connector in use
	buffers int
	gone    bool
}

// Kernel is a drm.Kernel.
type Kernel struct {
	mu    sync.Mutex
	paths []string
	cards map[string]*Card
	open  int
}

// New returns a Kernel without cards.
func New() *Kernel { return &Kernel{cards: map[string]*Card{}} }

// Plug adds a card at path.
func (k *Kernel) Plug(path string, c *Card) *Card {
	c.k = k
	k.cards[path] = c
	k.paths = append(k.paths, path)
	return c
}

// Opened returns how many cards are open now.
func (k *Kernel) Opened() int { k.mu.Lock(); defer k.mu.Unlock(); return k.open }

// Screen returns a card with one connector whose screen has the modes that are given, the first of them preferred.
func Screen(driver string, modes ...drm.Mode) *Card {
	if len(modes) > 0 {
		modes[0].Type |= drm.TypePreferred
	}
	return &Card{
		Name: driver, Crtcs: []uint32{31, 32},
		Connectors: []drm.Connector{{ID: 41, Type: 15, TypeID: 1, Connected: true, Encoders: []uint32{51}, Modes: modes}},
		Encoders:   map[uint32]drm.Encoder{51: {Possible: 0b10}},
	}
}

// Mode returns a mode.
func Mode(w, h, refresh int) drm.Mode {
	return drm.Mode{Width: uint16(w), Height: uint16(h), Refresh: uint32(refresh)}
}

// Glass returns what the screen shows now, BGRX, and its mode; nil if it is dark.
func (c *Card) Glass() ([]byte, drm.Mode) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.shown == nil {
		return nil, drm.Mode{}
	}
	if c.DirtyError == nil && c.glass != nil {
		return append([]byte(nil), c.glass...), c.mode
	}
	return append([]byte(nil), c.shown.Pix...), c.mode
}

// Driven returns the crtc's connector, and how many buffers exist.
func (c *Card) Driven() (connector uint32, buffers int) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	return c.on, c.buffers
}

// Unplug takes the card away.
func (c *Card) Unplug() { c.k.mu.Lock(); defer c.k.mu.Unlock(); c.gone = true }

// Paths implements drm.Kernel.
func (k *Kernel) Paths() []string { return k.paths }

// Open implements drm.Kernel.
func (k *Kernel) Open(path string) (drm.Card, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cards[path]
	if c == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	if c.OpenError != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: c.OpenError}
	}
	k.open++
	return &handle{c: c, k: k}, nil
}

// handle is an open card. All of it is guarded by Kernel.mu.
type handle struct {
	c       *Card
	k       *Kernel
	next    uint32
	pending *drm.Buffer
	closed  bool
}

func (h *handle) lock() func() { h.k.mu.Lock(); return h.k.mu.Unlock }

func (h *handle) Driver() (string, error) { return h.c.Name, nil }
func (h *handle) Dumb() (bool, error)     { return !h.c.NoDumb, nil }

func (h *handle) SetMaster() error {
	defer h.lock()()
	if h.c.master != nil && h.c.master != h {
		return unix.EBUSY
	}
	h.c.master = h
	return nil
}

func (h *handle) DropMaster() error {
	defer h.lock()()
	if h.c.master != h {
		return unix.EINVAL
	}
	h.c.master = nil
	return nil
}

func (h *handle) Resources() (drm.Resources, error) {
	r := drm.Resources{Crtcs: h.c.Crtcs}
	for _, c := range h.c.Connectors {
		r.Connectors = append(r.Connectors, c.ID)
	}
	return r, nil
}

func (h *handle) Connector(id uint32) (drm.Connector, error) {
	for _, c := range h.c.Connectors {
		if c.ID == id {
			return c, nil
		}
	}
	return drm.Connector{}, unix.ENOENT
}

func (h *handle) Encoder(id uint32) (drm.Encoder, error) {
	e, ok := h.c.Encoders[id]
	if !ok {
		return e, unix.ENOENT
	}
	return e, nil
}

func (h *handle) CreateBuffer(w, ht int) (*drm.Buffer, error) {
	defer h.lock()()
	h.next++
	h.c.buffers++
	stride := w*4 + 64
	return &drm.Buffer{Pix: make([]byte, stride*ht), Stride: stride, ID: h.next, Handle: h.next}, nil
}

func (h *handle) DestroyBuffer(b *drm.Buffer) error {
	defer h.lock()()
	h.c.buffers--
	if h.c.shown == b {
		h.c.shown = nil
	}
	return nil
}

func (h *handle) SetCrtc(crtc uint32, b *drm.Buffer, connector uint32, m drm.Mode) error {
	defer h.lock()()
	if h.c.CrtcError != nil {
		return h.c.CrtcError
	}
	if h.c.master != h {
		return unix.EACCES
	}
	h.c.shown, h.c.mode, h.c.on = b, m, connector
	if h.c.DirtyError == nil {
		h.c.glass = append([]byte(nil), b.Pix...)
	}
	return nil
}

func (h *handle) Flip(crtc uint32, b *drm.Buffer) error {
	defer h.lock()()
	switch {
	case h.c.gone:
		return unix.ENODEV
	case h.c.FlipError != nil:
		return h.c.FlipError
	case h.pending != nil:
		return unix.EBUSY
	}
	h.pending = b
	return nil
}

func (h *handle) WaitFlip(timeout time.Duration) error {
	if h.c.Stuck {
		<-time.After(timeout)
		return os.ErrDeadlineExceeded
	}
	<-time.After(2 * time.Millisecond)
	defer h.lock()()
	if h.c.gone {
		return unix.ENODEV
	}
	h.c.shown, h.pending = h.pending, nil
	h.c.glass = append(h.c.glass[:0], h.c.shown.Pix...)
	return nil
}

func (h *handle) Dirty(b *drm.Buffer, clips []drm.Clip) error {
	defer h.lock()()
	switch {
	case h.c.gone:
		return unix.ENODEV
	case h.c.DirtyError != nil:
		return h.c.DirtyError
	case b != h.c.shown:
		return unix.EINVAL
	}
	for _, r := range clips {
		for y := int(r.Y1); y < int(r.Y2); y++ {
			from, to := y*b.Stride+int(r.X1)*4, y*b.Stride+int(r.X2)*4
			copy(h.c.glass[from:to], b.Pix[from:to])
		}
	}
	return nil
}

func (h *handle) Close() error {
	defer h.lock()()
	if h.closed {
		return unix.EBADF
	}
	h.closed = true
	h.k.open--
	if h.c.master == h {
		h.c.master = nil
	}
	return nil
}
