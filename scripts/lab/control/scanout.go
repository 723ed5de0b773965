package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Look asks to look at what a DRM card scans out, again and again, for pixels of a colour in one column.
type Look struct {
	Card           string // such as "/dev/dri/card0"
	X, Top, Bottom int    // the column, from Top up to Bottom
	R, G, B        uint8
	Tolerance      uint8 // in each of them
	Every, Total   time.Duration
}

// Sight is what one look saw.
type Sight struct {
	At     time.Duration // since the first
	Middle int           // the mean row of the pixels of that colour; -1 if there were none
}

// Watch looks at the screen. It reads the buffer that the card scans out, which costs the guest next to nothing, where a
// screendump halts it.
func (c *Client) Watch(ctx context.Context, look Look) ([]Sight, error) {
	return call[[]Sight](ctx, c, "Watch", look)
}

// Watch looks until the time is up.
func (*Service) Watch(look Look, sights *[]Sight) error {
	if look.Every <= 0 || look.Total <= 0 {
		return errors.New("no time to look")
	}
	s := scanout{maps: map[uint32]framebuffer{}}
	var err error
	if s.card, err = os.OpenFile(look.Card, os.O_RDWR, 0); err != nil {
		return err
	}
	defer s.close()
	ticker := time.NewTicker(look.Every)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		at := time.Since(began)
		if at >= look.Total {
			return nil
		}
		frame, err := s.current()
		if err != nil {
			return err
		}
		*sights = append(*sights, Sight{at, frame.middle(look)})
	}
}

// scanout finds the buffer that a card scans out now. See drm_mode.h for the structures and drm.h for the numbers.
type scanout struct {
	card *os.File
	maps map[uint32]framebuffer
}

type framebuffer struct {
	pixels                []byte // XRGB8888, little endian
	width, height, stride int
}

func (s *scanout) ioctl(request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, s.card.Fd(), request, uintptr(arg)); errno != 0 {
		return fmt.Errorf("%s: ioctl %#x: %w", s.card.Name(), request, errno)
	}
	return nil
}

func (s *scanout) current() (framebuffer, error) {
	id, err := s.buffer()
	if err != nil {
		return framebuffer{}, err
	}
	if frame, ok := s.maps[id]; ok {
		return frame, nil
	}
	fb := struct{ id, width, height, pitch, bpp, depth, handle uint32 }{id: id}
	if err := s.ioctl(0xc01c64ad, unsafe.Pointer(&fb)); err != nil { // DRM_IOCTL_MODE_GETFB
		return framebuffer{}, err
	}
	if fb.bpp != 32 || fb.handle == 0 {
		return framebuffer{}, fmt.Errorf("%s: buffer %d has %d bits per pixel and handle %d", s.card.Name(), id, fb.bpp, fb.handle)
	}
	dumb := struct {
		handle, _ uint32
		offset    uint64
	}{handle: fb.handle}
	if err := s.ioctl(0xc01064b3, unsafe.Pointer(&dumb)); err != nil { // DRM_IOCTL_MODE_MAP_DUMB
		return framebuffer{}, err
	}
	pixels, err := unix.Mmap(int(s.card.Fd()), int64(dumb.offset), int(fb.pitch*fb.height), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return framebuffer{}, fmt.Errorf("map buffer %d of %s: %w", id, s.card.Name(), err)
	}
	s.maps[id] = framebuffer{pixels, int(fb.width), int(fb.height), int(fb.pitch)}
	return s.maps[id], nil
}

// buffer is the id of the buffer on the first CRTC that has one.
func (s *scanout) buffer() (uint32, error) {
	var crtcs [16]uint32
	var pin runtime.Pinner
	pin.Pin(&crtcs)
	defer pin.Unpin()
	resources := struct {
		fbs, crtcs, connectors, encoders                     uint64 // pointers
		countFBs, countCRTCs, countConnectors, countEncoders uint32
		leastWidth, mostWidth, leastHeight, mostHeight       uint32
	}{crtcs: uint64(uintptr(unsafe.Pointer(&crtcs))), countCRTCs: uint32(len(crtcs))}
	if err := s.ioctl(0xc04064a0, unsafe.Pointer(&resources)); err != nil { // DRM_IOCTL_MODE_GETRESOURCES
		return 0, err
	}
	for _, id := range crtcs[:min(int(resources.countCRTCs), len(crtcs))] {
		var crtc struct {
			connectors              uint64
			countConnectors, id, fb uint32
			x, y, gamma, valid      uint32
			mode                    [68]byte
		}
		crtc.id = id
		if err := s.ioctl(0xc06864a1, unsafe.Pointer(&crtc)); err != nil { // DRM_IOCTL_MODE_GETCRTC
			return 0, err
		}
		if crtc.fb != 0 {
			return crtc.fb, nil
		}
	}
	return 0, fmt.Errorf("%s: nothing is shown", s.card.Name())
}

func (s *scanout) close() {
	for _, frame := range s.maps {
		unix.Munmap(frame.pixels) // the process lives on in any case
	}
	s.card.Close()
}

func (f framebuffer) middle(look Look) int {
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) <= look.Tolerance }
	sum, count := 0, 0
	for y := max(look.Top, 0); y < min(look.Bottom, f.height); y++ {
		at := y*f.stride + 4*look.X
		if look.X < 0 || look.X >= f.width || at+3 > len(f.pixels) {
			break
		}
		if pixel := f.pixels[at : at+3]; near(pixel[2], look.R) && near(pixel[1], look.G) && near(pixel[0], look.B) {
			sum += y
			count++
		}
	}
	if count == 0 {
		return -1
	}
	return sum / count
}
