package session_test

import (
	"errors"
	"image"
	"image/color"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"vindu/media/peer/peertest"
	"vindu/media/sound"
)

// camera delivers a green picture.
type camera struct {
	img    *image.YCbCr
	period time.Duration
	n      int
	done   chan struct{}
	pulled chan struct{}
	once   sync.Once
	pull   sync.Once
	closed atomic.Bool
	lent   atomic.Int64
}

func newCamera(w, h, fps int) *camera {
	return &camera{
		img: peertest.Picture(w, h, green), period: time.Second / time.Duration(fps),
		done: make(chan struct{}), pulled: make(chan struct{}),
	}
}

func (c *camera) Read() (image.Image, func(), error) {
	t := time.NewTimer(c.period)
	defer t.Stop()
	select {
	case <-c.done:
		return nil, nil, errors.New("camera is closed")
	case <-c.pulled:
		return nil, nil, errPulled
	case <-t.C:
	}
	c.n++
	img := *c.img
	img.Y = append([]byte(nil), c.img.Y...)
	peertest.Move(&img, c.n)
	c.lent.Add(1)
	return &img, func() { c.lent.Add(-1) }, nil
}

func (c *camera) Close() error {
	c.once.Do(func() { close(c.done) })
	c.closed.Store(true)
	return nil
}

// card captures a 500 Hz tone and keeps what is played.
type card struct {
	noMic, noSpeaker bool
	in, out          *time.Ticker
	n                int
	done             chan struct{}
	pulled           chan struct{}
	once             sync.Once
	closed           atomic.Bool
	mu               sync.Mutex
	pcm              []int16
}

func newCard() *card {
	return &card{
		in: time.NewTicker(10 * time.Millisecond), out: time.NewTicker(10 * time.Millisecond),
		done: make(chan struct{}), pulled: make(chan struct{}),
	}
}

func (c *card) wait(t *time.Ticker) error {
	select {
	case <-c.done:
		return sound.ErrClosed
	case <-c.pulled:
		return sound.ErrGone
	case <-t.C:
		return nil
	}
}

func (c *card) Read(f []int16) error {
	if c.noMic {
		return sound.ErrNotFound
	}
	peertest.Tone(f, 500, c.n)
	c.n += len(f)
	return c.wait(c.in)
}

func (c *card) Write(f []int16) error {
	if c.noSpeaker {
		return sound.ErrNotFound
	}
	c.mu.Lock()
	c.pcm = append(c.pcm, f...)
	c.mu.Unlock()
	return c.wait(c.out)
}

func (c *card) Close() error {
	c.once.Do(func() { close(c.done); c.in.Stop(); c.out.Stop() })
	c.closed.Store(true)
	return nil
}

func (c *card) heard(hz float64) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pcm) < 24000 {
		return 0
	}
	return peertest.Power(c.pcm[len(c.pcm)-24000:], hz)
}

// level is the RMS of the last half second that was played, in decibels below full scale.
func (c *card) level() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.pcm[max(len(c.pcm)-24000, 0):]
	sum := 0.0
	for _, s := range last {
		sum += float64(s) * float64(s)
	}
	return 10 * math.Log10(sum/float64(max(len(last), 1))/math.MaxInt16/math.MaxInt16)
}

// screen keeps the middle's colour.
type screen struct {
	mu              sync.Mutex
	farCol, selfCol color.YCbCr
	far, self       atomic.Int64
	covered         [2]atomic.Bool // far, self: nothing is shown
}

func middle(img *image.YCbCr) color.YCbCr {
	return img.YCbCrAt(img.Rect.Dx()/2, img.Rect.Dy()/4)
}

func (s *screen) Far(img *image.YCbCr) {
	if s.covered[0].Store(img == nil); img == nil {
		return
	}
	s.mu.Lock()
	s.farCol = middle(img)
	s.mu.Unlock()
	s.far.Add(1)
}

func (s *screen) Self(img *image.YCbCr) {
	if s.covered[1].Store(img == nil); img == nil {
		return
	}
	s.mu.Lock()
	s.selfCol = middle(img)
	s.mu.Unlock()
	s.self.Add(1)
}
