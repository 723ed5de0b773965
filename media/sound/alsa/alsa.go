// Package alsa is the thin binding to alsa-lib that package sound uses, and Host and PCM, the seam
// between that package and the sound system.
//
// Every PCM is 48 kHz, one channel, signed 16-bit in the machine's byte order, opened without blocking. "hw:"
// and "plughw:" names are opened through alsa-lib's plug layer with a configuration made
// here, so no file of /usr/share/alsa is needed on the terminal; other names are looked up in
// ALSA's configuration.
//
// System is the real Host; package soundtest has one for tests.
package alsa

/*
#cgo pkg-config: alsa
#cgo noescape vp_read
#cgo nocallback vp_read
#cgo noescape vp_write
#cgo nocallback vp_write
#cgo noescape vp_delay
#cgo nocallback vp_delay
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The format of every PCM.
const (
	Rate   = 48000 // samples per second
	Period = 480   // samples moved at a time: 10 ms
	// captureBuffer is what the card keeps for a late reader: 120 ms.
	captureBuffer = 12 * Period
	// PlaybackLimit is how much may wait to be played: 60 ms.
	PlaybackLimit = 6 * Period
)

// Direction is what a PCM does.
type Direction int

const (
	Playback Direction = iota
	Capture
)

// ErrCancelled is returned by PCM.Wait after PCM.Cancel.
var ErrCancelled = errors.New("wait was cancelled")

// Host finds and opens sound cards.
type Host interface {
	// Cards lists the hardware in order of card and device number, from /proc/asound. It opens nothing.
	Cards() []Card
	// Open opens one direction of a device. Errors wrap the errno: ENOENT or ENODEV if there is none,
	// EBUSY, EACCES, EINVAL if it cannot do the format.
	Open(device string, d Direction) (PCM, error)
}

// PCM is one open direction of a card. Its methods are for one goroutine, except Cancel. Errors
// wrap the errno, except that Read and Write return it bare.
type PCM interface {
	// Link makes both start together, until Unlink.
	Link(other PCM) error
	Unlink() error
	// Prepare makes it ready to start, also after an EPIPE (overrun or underrun), an ESTRPIPE
	// (suspended) and an EBADFD.
	Prepare() error
	Start() error
	// Read and Write move up to len(samples) samples, and return how many; EAGAIN if none.
	Read(samples []int16) (int, error)
	Write(samples []int16) (int, error)
	// Delay returns how many samples wait: to be heard, of what was written, or to be read, of what was captured. Errors are bare.
	Delay() (int, error)
	// Wait blocks until a period can be moved or something is wrong (nil), until the timeout is over
	// (os.ErrDeadlineExceeded) or Cancel was called (ErrCancelled).
	Wait(timeout time.Duration) error
	// Cancel ends the waiting Wait and all later ones. It may be called from any goroutine.
	Cancel()
	// Close drops what waits to be played and gives the card back. No other method may run or follow,
	// but for Cancel.
	Close() error
}

// pcm is a PCM of alsa-lib. cancel is an eventfd that becomes readable for good.
type pcm struct {
	p      *C.vp
	mu     sync.Mutex // guards cancel against being closed under Cancel
	cancel int
}

// Open implements Host.
func (System) Open(device string, d Direction) (PCM, error) {
	name, conf, err := resolve(device)
	if err != nil {
		return nil, err
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	cName := C.CString(name)
	defer C.free(unsafe.Pointer(cName))
	var cConf *C.char
	if conf != "" {
		cConf = C.CString(conf)
		defer C.free(unsafe.Pointer(cConf))
	}
	capture, buffer := C.int(0), C.uint(PlaybackLimit)
	if d == Capture {
		capture, buffer = 1, captureBuffer
	}
	p := &pcm{cancel: event}
	if r := C.vp_open(&p.p, cName, cConf, capture, Rate, Period, buffer, PlaybackLimit); r < 0 {
		unix.Close(event)
		return nil, errno(r)
	}
	return p, nil
}

func errno(r C.int) error {
	if r >= 0 {
		return nil
	}
	return unix.Errno(-r)
}

func (p *pcm) Link(other PCM) error {
	o, ok := other.(*pcm)
	if !ok {
		return unix.ENOSYS
	}
	return errno(C.vp_link(p.p, o.p))
}

func (p *pcm) Unlink() error  { return errno(C.vp_unlink(p.p)) }
func (p *pcm) Prepare() error { return errno(C.vp_prepare(p.p)) }
func (p *pcm) Start() error   { return errno(C.vp_start(p.p)) }

func (p *pcm) Read(samples []int16) (int, error) {
	if len(samples) == 0 {
		return 0, nil
	}
	r := C.vp_read(p.p, (*C.int16_t)(&samples[0]), C.uint(len(samples)))
	if r < 0 {
		return 0, unix.Errno(-r)
	}
	return int(r), nil
}

func (p *pcm) Write(samples []int16) (int, error) {
	if len(samples) == 0 {
		return 0, nil
	}
	r := C.vp_write(p.p, (*C.int16_t)(&samples[0]), C.uint(len(samples)))
	if r < 0 {
		return 0, unix.Errno(-r)
	}
	return int(r), nil
}

func (p *pcm) Delay() (int, error) {
	var n C.long
	if r := C.vp_delay(p.p, &n); r < 0 {
		return 0, unix.Errno(-r)
	}
	return int(n), nil
}

func (p *pcm) Wait(timeout time.Duration) error {
	ms := int64((timeout + time.Millisecond - 1) / time.Millisecond)
	switch r := C.vp_wait(p.p, C.int(p.cancel), C.int(max(ms, 0))); {
	case r == 0:
		return os.ErrDeadlineExceeded
	case r == -C.int(unix.ECANCELED):
		return ErrCancelled
	default:
		return errno(r)
	}
}

func (p *pcm) Cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel >= 0 {
		one := [8]byte{0: 1, 7: 1} // not zero in either byte order
		// It can only fail when the counter is full, and then it is readable anyway.
		_, _ = unix.Write(p.cancel, one[:])
	}
}

func (p *pcm) Close() error {
	C.vp_close(p.p)
	p.p = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	err := unix.Close(p.cancel)
	p.cancel = -1
	return err
}
