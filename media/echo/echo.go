// Package echo makes a terminal's microphone fit to be heard: it takes the far end's own voice out of it, suppresses noise and
// levels what is left, by WebRTC's audio processing behind a C++ shim. Debian's 0.3 is linked; the build tag webrtc1 takes 1.x,
// Buildroot's.
//
// Sound is 48 kHz, one channel, int16, in frames of 480 samples (10 ms).
//
// A Canceller wants both sides of one clock: with each captured frame, what the loudspeaker played at that time. Package sound's
// Duplex delivers that, however many clocks the cards have; Over puts a Canceller over one.
//
// Guarantees:
//   - Until the canceller knows the room, what is captured while the far end is heard is attenuated by 30 dB: nobody hears himself,
//     and nothing howls, in a call's first second. It lasts 1.5 s of the far end's speech at most.
//   - A frame that cannot be processed is passed on as it came, and counted.
//   - Process allocates nothing.
package echo

/*
#cgo noescape ve_process
#cgo nocallback ve_process
#include "apm.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"vindu/media/sound"
)

// FrameSamples is the length of every frame: 10 ms.
const FrameSamples = sound.FrameSamples

var (
	// ErrClosed: the Canceller was closed.
	ErrClosed = errors.New("echo canceller is closed")
	// ErrFrame: a frame is not of FrameSamples samples.
	ErrFrame = errors.New("frame is not of 480 samples")
)

// Canceller cleans what a microphone hears.
type Canceller interface {
	// Process cleans near in place. far is what the loudspeaker played while near was captured. For one goroutine. Errors wrap
	// ErrClosed or ErrFrame.
	Process(near, far []int16) error
	// Stats may be called from any goroutine.
	Stats() Stats
	// Close may be called again, but not while Process runs.
	Close() error
}

// Stats is what a Canceller measured.
type Stats struct {
	Frames, Failed uint64 // processed, and passed on as they came
	// ERLE is by how many dB what is captured while the far end speaks is quieter afterwards, over the last seconds of that (ITU-T
	// G.168 calls it the echo return loss enhancement); speech of both at once makes it smaller. 0 before there was any.
	ERLE float64
	// Late is how much later the far end is handed to the canceller, so that it comes with its echo.
	Late time.Duration
	// Learning says that the room is not known yet, and the microphone is attenuated while the far end is heard.
	Learning bool
}

// Config says what a Canceller does besides cancelling. The zero value is what a call wants.
type Config struct {
	KeepNoise bool // do not suppress noise
	KeepLevel bool // do not change the level of speech
}

// canceller is the Canceller of WebRTC's audio processing.
type canceller struct {
	apm    *C.ve
	finder finder
	line   delayLine
	far    [FrameSamples]int16 // as late as its echo
	room   learner

	mu    sync.Mutex
	stats Stats
}

// New makes a Canceller.
func New(cfg Config) (Canceller, error) {
	apm := C.ve_new(cBool(!cfg.KeepNoise), cBool(!cfg.KeepLevel))
	if apm == nil {
		return nil, errors.New("make echo canceller: the library refused")
	}
	return &canceller{apm: apm, room: newLearner()}, nil
}

func cBool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// Process implements Canceller.
func (c *canceller) Process(near, far []int16) error {
	if err := check(near, far); err != nil {
		return err
	}
	if c.apm == nil {
		return fmt.Errorf("cancel echo: %w", ErrClosed)
	}
	if late, found := c.finder.find(near, far); found && c.line.follow(late) {
		c.room.again()
	}
	c.line.shift(c.far[:], far)
	before := power(near)
	rc := C.ve_process(c.apm, (*C.int16_t)(&c.far[0]), (*C.int16_t)(&near[0]))
	c.room.hear(power(far), before, power(near))
	c.room.attenuate(near)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Frames++
	if rc != 0 {
		c.stats.Failed++
	}
	c.stats.ERLE, c.stats.Learning = c.room.erle(), c.room.learning
	c.stats.Late = time.Duration(c.line.late) * time.Second / sound.Rate
	return nil
}

func check(near, far []int16) error {
	if len(near) != FrameSamples || len(far) != FrameSamples {
		return fmt.Errorf("cancel echo in frames of %d and %d samples: %w", len(near), len(far), ErrFrame)
	}
	return nil
}

// Stats implements Canceller.
func (c *canceller) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Close implements Canceller.
func (c *canceller) Close() error {
	if c.apm != nil {
		C.ve_free(c.apm)
		c.apm = nil
	}
	return nil
}

// PassThrough returns a Canceller that changes nothing.
func PassThrough() Canceller { return &passThrough{} }

type passThrough struct {
	mu    sync.Mutex
	stats Stats
}

func (p *passThrough) Process(near, far []int16) error {
	if err := check(near, far); err != nil {
		return err
	}
	p.mu.Lock()
	p.stats.Frames++
	p.mu.Unlock()
	return nil
}

func (p *passThrough) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *passThrough) Close() error { return nil }
