// Package screen draws what the person in front of the terminal sees. There is one thing to see at a time: a day clock, who is
// calling and why, who one is talking with, and that it has ended and the camera is off. Nothing has to be done.
//
// A Screen composes scenes into an image of the display's size and says which parts changed; it paints only when something changes,
// in the ready scene once a minute, while it rings once a second. In quiet hours it is dim by day and gives no light by night, until
// somebody calls who may. Moving pictures are the display's
// business: a scene only says where they go. Words never lie over a picture.
//
// The typeface is Atkinson Hyperlegible Next. Sizes follow the shorter side of the screen, from 800×480 to 1920×1080, upright too;
// text on the ground has a contrast of at least 7:1. From three metres the sentence that matters is read on a screen of some 13 inches. What it says is in the folder language, in
// each language, and beside package protocol (see Language).
package screen

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vindu/device/progress"
)

// Display is where scenes go. media/display implements it.
type Display interface {
	Size() (w, h int)
	// SetScene shows img with the pictures in far and self (empty: no picture). dirty names what differs from the scene before;
	// none means all. img may be painted again when it returns.
	SetScene(img *image.RGBA, far, self image.Rectangle, dirty ...image.Rectangle) error
}

// Screen shows scenes on a Display. Show may be called from any goroutine; Run's goroutine alone paints.
type Screen struct {
	display Display
	paint   *painter
	now     func() time.Time
	log     *slog.Logger
	wake    chan struct{}
	root    *progress.Root
	quiet   func(time.Time) bool // nil: never
	coming  func() Coming        // nil: none is announced
	light   Light                // nil: there is none to set
	lit     Brightness           // Run's; 0: not known
	unlit   bool                 // Run's: that the light cannot be set was said

	mu    sync.Mutex
	scene Scene
	lang  *Language // to speak from now on; nil: no change
}

// New makes a Screen that shows Starting. It paints nothing yet. now is the time that the clock shows, in the terminal's zone.
func New(d Display, lang *Language, now func() time.Time, log *slog.Logger) (*Screen, error) {
	w, h := d.Size()
	if w < 160 || h < 120 {
		return nil, fmt.Errorf("screen of %d×%d pixels: too small for any scene", w, h)
	}
	p, err := newPainter(lang, w, h)
	if err != nil {
		return nil, err
	}
	return &Screen{display: d, paint: p, now: now, log: log, wake: make(chan struct{}, 1)}, nil
}

// Show shows s from now on. It does not wait for the paint.
func (s *Screen) Show(scene Scene) {
	scene.Parties, scene.Faults = slices.Clone(scene.Parties), slices.Clone(scene.Faults)
	s.mu.Lock()
	s.scene = scene
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// SetLanguage has the screen speak lang from now on.
func (s *Screen) SetLanguage(lang *Language) {
	s.mu.Lock()
	s.lang = lang
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run paints until ctx ends, then returns nil, or until the display fails.
func (s *Screen) Run(ctx context.Context) error {
	if err := s.paint.mapImage(); err != nil {
		return err
	}
	defer s.paint.unmap()
	alive, stop := s.root.Tick(progress.Every)
	defer stop()
	defer s.root.End()
	defer s.shine(Bright) // whoever shows something next finds a screen that is on
	for {
		s.root.Alive()
		s.mu.Lock()
		scene, lang := s.scene, s.lang
		s.lang = nil
		s.mu.Unlock()
		if lang != nil {
			s.paint.c.lang = lang
		}
		now := s.now()
		scene = s.atRest(scene, now)
		img, l, dirty := s.paint.paint(scene, now)
		if len(dirty) > 0 {
			if err := s.display.SetScene(img, l.far, l.self, dirty...); err != nil {
				return fmt.Errorf("show scene: %w", err)
			}
			s.paint.release()
		}
		s.shine(brightness(scene, now))
		var tick <-chan time.Time
		if d := next(scene, now); d > 0 {
			tick = time.After(d)
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-alive:
				s.root.Alive()
			case <-s.wake:
				break wait
			case <-tick:
				break wait
			}
		}
	}
}

// Watch has Run report to root. It is called before Run.
func (s *Screen) Watch(root *progress.Root) { s.root = root }

// next is how long a scene looks as it does; 0 is for ever.
func next(s Scene, now time.Time) time.Duration {
	switch s.Kind {
	case Ready, Resting:
		// A little late rather than a little early, or the minute would be painted twice.
		return now.Truncate(time.Minute).Add(time.Minute + time.Millisecond).Sub(now)
	case Ringing:
		if left := s.NoticeEnds.Sub(now); left > 0 && s.Notice >= cardCount {
			return (left-1)%(s.Notice/cardCount) + 1 + time.Millisecond
		}
		if left := s.AnswersAt.Sub(now); left > 0 {
			return (left-1)%time.Second + 1 + time.Millisecond
		}
	case Pressing, Starting, NotSetUp, InCall, Ended, Returned, Lost:
	}
	return 0
}

// painter paints into an image that it keeps, but whose content it needs only until it was shown: release gives its memory
// back between paintings, which are a minute apart at rest. For one goroutine.
type painter struct {
	c      *composer
	img    *image.RGBA
	on     layout
	any    bool
	mapped []byte // img's memory; nil if it is the garbage collector's
}

// mapImage moves the image out of the garbage collector's memory, which keeps room for twice what is in use.
func (p *painter) mapImage() error {
	mapped, err := unix.Mmap(-1, 0, 4*p.img.Rect.Dx()*p.img.Rect.Dy(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("memory for the screen's picture: %w", err)
	}
	p.mapped, p.img.Pix, p.any = mapped, mapped, false
	return nil
}

func (p *painter) release() {
	_ = unix.Madvise(p.mapped, unix.MADV_DONTNEED) // or it stays in use: no harm
}

func (p *painter) unmap() {
	p.img.Pix = nil
	_ = unix.Munmap(p.mapped)
}

func newPainter(lang *Language, w, h int) (*painter, error) {
	c, err := newComposer(lang, w, h)
	if err != nil {
		return nil, err
	}
	return &painter{c: c, img: image.NewRGBA(image.Rect(0, 0, w, h))}, nil
}

// paint brings the image up to date and returns what changed of it; nothing if it looks as before.
func (p *painter) paint(s Scene, now time.Time) (*image.RGBA, layout, []image.Rectangle) {
	l := p.c.compose(s, now)
	was, first := p.on, !p.any
	p.on, p.any = l, true
	if first || was.kind != l.kind || was.ground != l.ground || was.far != l.far || was.self != l.self || len(was.elements) != len(l.elements) {
		fillRect(p.img, p.img.Rect, l.ground)
		for _, e := range l.elements {
			p.draw(e)
		}
		return p.img, l, []image.Rectangle{p.img.Rect}
	}
	var dirty []image.Rectangle
	for i, e := range l.elements {
		old := was.elements[i]
		if old.key != e.key || old.rect != e.rect {
			fillRect(p.img, old.rect, l.ground)
			dirty = append(dirty, old.rect, e.rect)
		}
	}
	for i, e := range l.elements {
		if old := was.elements[i]; old.key != e.key || old.rect != e.rect {
			fillRect(p.img, e.rect, l.ground)
			p.draw(e)
		}
	}
	return p.img, l, dirty
}

// draw draws e and nothing outside its rectangle.
func (p *painter) draw(e element) {
	if clip, ok := p.img.SubImage(e.rect).(*image.RGBA); ok && !clip.Rect.Empty() {
		e.draw(clip)
	}
}

func fillRect(img *image.RGBA, r image.Rectangle, c color.RGBA) {
	draw.Draw(img, r, image.NewUniform(c), image.Point{}, draw.Src)
}

// disc draws a filled circle with soft edges.
func disc(img *image.RGBA, cx, cy, radius int, c color.RGBA) {
	for y := cy - radius - 1; y <= cy+radius+1; y++ {
		for x := cx - radius - 1; x <= cx+radius+1; x++ {
			d := float64(radius) - math.Hypot(float64(x-cx), float64(y-cy)) + 0.5
			if d <= 0 || !(image.Point{X: x, Y: y}).In(img.Rect) {
				continue
			}
			if d >= 1 {
				img.SetRGBA(x, y, c)
				continue
			}
			under := img.RGBAAt(x, y)
			mix := func(a, b uint8) uint8 { return uint8(float64(a)*d + float64(b)*(1-d)) }
			img.SetRGBA(x, y, color.RGBA{mix(c.R, under.R), mix(c.G, under.G), mix(c.B, under.B), 0xff})
		}
	}
}
