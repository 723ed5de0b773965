// Package soundtest has a Host with sound cards that exist only in memory, and the contract that
// every sound device must keep, whether in memory or real.
//
// The fake cards run by the clock, so that tests run in a synctest bubble. What is
// played can be led back to what is captured by a Cable, as the kernel's snd-aloop does.
package soundtest

import (
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/sound/alsa"
)

// Card is one device of a Host. Set its fields before it is opened.
type Card struct {
	ID                string
	USB               string // its port
	Device            int
	Playback, Capture bool
	// In is where captured sound comes from, Out where played sound goes. nil is silence.
	In, Out *Cable
	// OpenError is returned when it is opened.
	OpenError error
	// NoLink makes Link fail.
	NoLink bool
	// Fast is by how much the card's clock is fast: 0.0002 is 200 ppm.
	Fast float64

	h       *Host
	gone    bool
	stopped bool
	hang    chan struct{}
	inUse   [2]bool
}

// Cable leads played samples to a capture side, which hears them when they are played.
type Cable struct {
	samples []int16 // since started
	started time.Time
	fast    float64
	off     bool
}

// heard is what is on the cable at a time; each of its samples is there until the next is.
func (c *Cable) heard(at time.Time) int16 {
	n := ticks(at.Sub(c.started), c.fast)
	if c.off || n < 0 || n >= int64(len(c.samples)) {
		return 0
	}
	return c.samples[n]
}

// ticks is how many samples a clock makes in d.
func ticks(d time.Duration, fast float64) int64 {
	return int64(d)*alsa.Rate/second + int64(float64(d)*alsa.Rate/float64(second)*fast)
}

// Host is an alsa.Host.
type Host struct {
	mu    sync.Mutex
	cards []*Card
	opens map[alsa.Direction]int
	open  int
}

// New returns a Host with cards.
func New(cards ...*Card) *Host {
	h := &Host{cards: cards, opens: map[alsa.Direction]int{}}
	for _, c := range cards {
		c.h = h
	}
	return h
}

// Opens returns how often a direction of any card was opened.
func (h *Host) Opens(d alsa.Direction) int { h.mu.Lock(); defer h.mu.Unlock(); return h.opens[d] }

// Opened returns how many directions are open now.
func (h *Host) Opened() int { h.mu.Lock(); defer h.mu.Unlock(); return h.open }

// Unplug takes the card away.
func (c *Card) Unplug() {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.gone = true
	for i, other := range c.h.cards {
		if other == c {
			c.h.cards = append(c.h.cards[:i], c.h.cards[i+1:]...)
			break
		}
	}
}

// Plug adds a card.
func (h *Host) Plug(c *Card) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.h = h
	h.cards = append(h.cards, c)
}

// Stop makes the card move nothing any more, without an error.
func (c *Card) Stop() { c.h.mu.Lock(); defer c.h.mu.Unlock(); c.stopped = true }

// Hang makes Read and Write hang until the returned function is called.
func (c *Card) Hang() (release func()) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	hang := make(chan struct{})
	c.hang = hang
	return func() { close(hang) }
}

// Cards implements alsa.Host.
func (h *Host) Cards() []alsa.Card {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []alsa.Card
	for _, c := range h.cards {
		found = append(found, c.card())
	}
	return found
}

func (c *Card) card() alsa.Card {
	return alsa.Card{ID: c.ID, USB: c.USB, Device: c.Device, Name: c.ID + ": fake", Playback: c.Playback, Capture: c.Capture}
}

// Open implements alsa.Host.
func (h *Host) Open(device string, d alsa.Direction) (alsa.PCM, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opens[d]++
	for _, c := range h.cards {
		if path := c.card().Path(); path != device && path != device+",DEV=0" || d == alsa.Capture && !c.Capture || d == alsa.Playback && !c.Playback {
			continue
		}
		if c.OpenError != nil {
			return nil, c.OpenError
		}
		if c.inUse[d] {
			return nil, unix.EBUSY
		}
		c.inUse[d] = true
		h.open++
		return &pcm{h: h, c: c, d: d, cancel: make(chan struct{})}, nil
	}
	return nil, unix.ENOENT
}

const (
	captureBuffer = 12 * alsa.Period
	second        = int64(time.Second)
)

// pcm is an open direction. All of it is guarded by Host.mu.
type pcm struct {
	h      *Host
	c      *Card
	d      alsa.Direction
	linked *pcm

	running bool
	xrun    bool
	started time.Time
	moved   int64 // samples since started
	ahead   int64 // samples written before the start

	cancel    chan struct{}
	cancelled bool
	closed    bool
}

// elapsed returns how many samples the card's clock has ticked since the start.
func (p *pcm) elapsed() int64 {
	if !p.running {
		return 0
	}
	return ticks(time.Since(p.started), p.c.Fast)
}

// room returns how many samples can be moved now.
func (p *pcm) room() int64 {
	if p.d == alsa.Capture {
		return p.elapsed() - p.moved
	}
	return alsa.PlaybackLimit - (p.ahead + p.moved - p.elapsed())
}

func (p *pcm) check() error {
	switch {
	case p.c.gone:
		return unix.ENODEV
	case p.xrun:
		return unix.EPIPE
	case p.c.stopped:
		return unix.EAGAIN
	}
	limit := int64(captureBuffer)
	if p.d == alsa.Playback {
		limit = alsa.PlaybackLimit
	}
	if p.running && p.room() > limit {
		p.xrun, p.running = true, false
		return unix.EPIPE
	}
	return nil
}

func (p *pcm) Link(other alsa.PCM) error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	o, ok := other.(*pcm)
	if !ok || p.c != o.c || p.c.NoLink {
		return unix.ENOSYS
	}
	p.linked, o.linked = o, p
	return nil
}

func (p *pcm) Unlink() error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if p.linked == nil {
		return unix.EALREADY
	}
	p.linked.linked = nil
	p.linked = nil
	return nil
}

func (p *pcm) Prepare() error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if p.c.gone {
		return unix.ENODEV
	}
	p.running, p.xrun, p.moved, p.ahead = false, false, 0, 0
	if out := p.c.Out; out != nil && p.d == alsa.Playback {
		out.samples, out.off = nil, true
	}
	return nil
}

func (p *pcm) Start() error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if p.c.gone {
		return unix.ENODEV
	}
	if p.running || p.xrun {
		return unix.EBADFD
	}
	p.start(time.Now())
	if p.linked != nil {
		p.linked.start(p.started)
	}
	return nil
}

func (p *pcm) start(at time.Time) {
	p.running, p.started = true, at
	if out := p.c.Out; out != nil && p.d == alsa.Playback {
		out.started, out.fast, out.off = at, p.c.Fast, false
	}
}

// Delay implements alsa.PCM.
func (p *pcm) Delay() (int, error) {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if err := p.check(); err != nil {
		return 0, err
	}
	if p.d == alsa.Capture {
		return int(p.elapsed() - p.moved), nil
	}
	return int(p.ahead + p.moved - p.elapsed()), nil
}

func (p *pcm) hang() {
	p.h.mu.Lock()
	hang := p.c.hang
	p.h.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

func (p *pcm) Read(samples []int16) (int, error) {
	p.hang()
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if err := p.check(); err != nil {
		return 0, err
	}
	n := int(min(p.room(), int64(len(samples))))
	if n <= 0 {
		return 0, unix.EAGAIN
	}
	clear(samples[:n])
	if in := p.c.In; in != nil {
		for i := range samples[:n] {
			since := float64(p.moved+int64(i)) / (1 + p.c.Fast) * float64(second) / alsa.Rate
			samples[i] = in.heard(p.started.Add(time.Duration(math.Ceil(since))))
		}
	}
	p.moved += int64(n)
	return n, nil
}

func (p *pcm) Write(samples []int16) (int, error) {
	p.hang()
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if err := p.check(); err != nil {
		return 0, err
	}
	n := int(min(p.room(), int64(len(samples))))
	if n <= 0 {
		return 0, unix.EAGAIN
	}
	if out := p.c.Out; out != nil {
		out.samples = append(out.samples, samples[:n]...)
	}
	if p.running {
		p.moved += int64(n)
	} else {
		p.ahead += int64(n)
	}
	return n, nil
}

func (p *pcm) Wait(timeout time.Duration) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		p.h.mu.Lock()
		err := p.check()
		ready := err != nil && err != unix.EAGAIN || err == nil && p.room() >= alsa.Period
		cancelled := p.cancelled
		next := max(time.Duration(alsa.Period-p.room())*time.Second/alsa.Rate, time.Millisecond)
		p.h.mu.Unlock()
		if cancelled {
			return alsa.ErrCancelled
		}
		if ready {
			return nil
		}
		tick.Reset(min(next, 10*time.Millisecond))
		select {
		case <-tick.C:
		case <-p.cancel:
		case <-deadline.C:
			return os.ErrDeadlineExceeded
		}
	}
}

func (p *pcm) Cancel() {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if !p.cancelled {
		p.cancelled = true
		close(p.cancel)
	}
}

func (p *pcm) Close() error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if p.closed {
		return unix.EBADF
	}
	p.closed = true
	p.h.open--
	p.c.inUse[p.d] = false
	return nil
}
