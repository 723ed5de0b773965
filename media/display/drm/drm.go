// Package drm is the kernel's mode setting interface as package display uses it: the ioctls of
// drm/drm.h and drm/drm_mode.h for plain ("dumb") buffers, without libdrm.
//
// System is the real Kernel, with the cards of /dev/dri; package displaytest has one for tests.
// Errors wrap the errno.
package drm

import (
	"fmt"
	"time"
)

// Kernel finds and opens graphics cards.
type Kernel interface {
	// Paths lists the cards in order of their numbers. It opens none.
	Paths() []string
	// Open opens a card. Errors are *fs.PathError.
	Open(path string) (Card, error)
}

// Card is an open graphics card. It is for one goroutine, except Close.
type Card interface {
	// Driver returns the kernel driver's name.
	Driver() (string, error)
	// Dumb reports whether the card has buffers that programs can write to.
	Dumb() (bool, error)
	// SetMaster takes the right to set modes. EBUSY or EACCES: someone else has it.
	SetMaster() error
	DropMaster() error
	Resources() (Resources, error)
	Connector(id uint32) (Connector, error)
	Encoder(id uint32) (Encoder, error)
	// CreateBuffer makes a buffer of 32 bits for each pixel, maps it and makes a framebuffer of it.
	CreateBuffer(w, h int) (*Buffer, error)
	DestroyBuffer(b *Buffer) error
	// SetCrtc shows b in mode m through one connector.
	SetCrtc(crtc uint32, b *Buffer, connector uint32, m Mode) error
	// Flip asks that b be shown at the next refresh. EBUSY: the flip before is not done.
	Flip(crtc uint32, b *Buffer) error
	// WaitFlip waits until the last flip is done, or returns os.ErrDeadlineExceeded.
	WaitFlip(timeout time.Duration) error
	// Dirty makes the driver show what was written to parts of b.
	Dirty(b *Buffer, clips []Clip) error
	Close() error
}

// Resources are the numbers of what a card has.
type Resources struct{ Crtcs, Connectors []uint32 }

// Connector is a plug, and what is behind it.
type Connector struct {
	ID        uint32
	Type      uint32
	TypeID    uint32
	Connected bool
	Encoder   uint32 // in use now, or 0
	Encoders  []uint32
	Modes     []Mode
}

// Name returns the usual name, such as HDMI-A-1.
func (c Connector) Name() string {
	name := "Unknown"
	if int(c.Type) < len(connectorTypes) {
		name = connectorTypes[c.Type]
	}
	return fmt.Sprintf("%s-%d", name, c.TypeID)
}

// connectorTypes are named as in the kernel's drm_connector.c.
var connectorTypes = [...]string{
	"Unknown", "VGA", "DVI-I", "DVI-D", "DVI-A", "Composite", "SVIDEO", "LVDS", "Component", "DIN", "DP",
	"HDMI-A", "HDMI-B", "TV", "eDP", "Virtual", "DSI", "DPI", "Writeback", "SPI", "USB",
}

// Encoder connects Crtcs to a Connector.
type Encoder struct {
	Crtc     uint32 // in use now, or 0
	Possible uint32 // bit n: Resources.Crtcs[n]
}

// Mode is struct drm_mode_modeinfo.
type Mode struct {
	Clock                                       uint32
	Width, HSyncStart, HSyncEnd, HTotal, HSkew  uint16
	Height, VSyncStart, VSyncEnd, VTotal, VScan uint16
	Refresh                                     uint32
	Flags                                       uint32
	Type                                        uint32
	NameBytes                                   [32]byte
}

// TypePreferred in Mode.Type marks what the screen is best at.
const TypePreferred = 1 << 3

func (m Mode) String() string { return fmt.Sprintf("%d×%d at %d Hz", m.Width, m.Height, m.Refresh) }

// Buffer is a framebuffer in memory: BGRX on a little-endian machine.
type Buffer struct {
	Pix    []byte
	Stride int
	ID     uint32 // of the framebuffer
	Handle uint32 // of the memory
}

// Clip is struct drm_clip_rect: x2 and y2 lie outside.
type Clip struct{ X1, Y1, X2, Y2 uint16 }
