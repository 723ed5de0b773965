package display

import (
	"context"
	"errors"
	"fmt"
	"image"
	"sync"
	"time"

	"vindu/media/yuv"
)

// selfDelay is how long a new self picture waits for a far picture to be painted together
// with it, which halves the work of a call.
const selfDelay = 40 * time.Millisecond

// Counters count pictures since New. Handed in minus Shown are those that came faster than
// the screen could show them, or had no rectangle.
type Counters struct {
	FarIn, FarShown   int64
	SelfIn, SelfShown int64
	Presented         int64 // pictures of the whole screen
}

// Display composes what a Device shows. One goroutine paints (Run); the others hand in.
type Display struct {
	dev    Device
	bounds image.Rectangle
	now    chan struct{} // capacity 1: paint at once
	soon   chan struct{} // capacity 1: paint within selfDelay

	mu       sync.Mutex // guards what follows, never held while waiting
	scene    *still
	pending  damage // not yet painted
	far      layer
	self     layer
	counters Counters

	painting sync.Mutex // held by the one who paints; guards what follows
	history  [3]damage  // of the pictures presented before, the latest first
	list     []image.Rectangle
}

// layer is one moving picture. rect, next, fresh and fit are guarded by Display.mu;
// shown and the painter belong to the one who paints.
type layer struct {
	rect    image.Rectangle // where it lies on the screen; empty: it is not shown
	fit     image.Rectangle // the part of rect that the picture covers
	has     bool            // there is a picture
	fresh   bool            // next is newer than shown
	next    *image.YCbCr
	shown   *image.YCbCr
	small   *image.YCbCr // what was handed in last, as small as it is shown
	painter yuv.Painter
}

// damage is what a painting changes. It is bounded: more rectangles than fit become one.
type damage struct {
	rects [16]image.Rectangle // scene, or edges of a moving picture, changed
	n     int
	far   bool // a new far picture
	self  bool // a new self picture
}

func (d *damage) add(r image.Rectangle) {
	if r.Empty() {
		return
	}
	for i := range d.n {
		if r.In(d.rects[i]) {
			return
		}
	}
	if d.n == len(d.rects) {
		for _, old := range d.rects[:d.n] {
			r = r.Union(old)
		}
		d.n = 0
	}
	d.rects[d.n] = r
	d.n++
}

func (d *damage) empty() bool { return d.n == 0 && !d.far && !d.self }

func (d *damage) merge(o *damage) {
	for _, r := range o.rects[:o.n] {
		d.add(r)
	}
	d.far = d.far || o.far
	d.self = d.self || o.self
}

// New returns a Display that shows an all-black scene on dev. It starts nothing: call Run.
func New(dev Device) *Display {
	w, h := dev.Size()
	d := &Display{
		dev:    dev,
		bounds: image.Rect(0, 0, w, h),
		now:    make(chan struct{}, 1),
		soon:   make(chan struct{}, 1),
		scene:  newStill(w, h),
		list:   make([]image.Rectangle, 0, len(damage{}.rects)+4),
	}
	d.pending.add(d.bounds)
	d.now <- struct{}{}
	return d
}

// Size returns width and height of the screen in pixels.
func (d *Display) Size() (w, h int) { return d.bounds.Dx(), d.bounds.Dy() }

// Run paints until ctx ends, then returns nil, or until the screen fails.
// It owns no other goroutine.
func (d *Display) Run(ctx context.Context) error {
	timer := time.NewTimer(selfDelay)
	defer timer.Stop()
	timer.Stop()
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.soon:
			if !waiting {
				timer.Reset(selfDelay)
				waiting = true
			}
			continue
		case <-timer.C:
		case <-d.now:
			timer.Stop()
		}
		waiting = false
		if err := d.Paint(); err != nil {
			return fmt.Errorf("show a picture: %w", err)
		}
	}
}

func (d *Display) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // a painting is due already and will show the newest
	}
}

// SetScene shows img behind the moving pictures, and puts these into far and self (empty: not
// shown). img has the screen's size and starts at (0,0); its alpha is ignored. dirty
// names the parts that differ from the scene before; none means all of it. What img holds
// is copied before SetScene returns.
func (d *Display) SetScene(img *image.RGBA, far, self image.Rectangle, dirty ...image.Rectangle) error {
	if img == nil || img.Rect != d.bounds || len(img.Pix) < (d.bounds.Dy()-1)*img.Stride+d.bounds.Dx()*4 {
		return fmt.Errorf("set scene: picture is not of the screen's size %v: %w", d.bounds.Max, yuv.ErrShape)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(dirty) == 0 {
		dirty = []image.Rectangle{d.bounds}
	}
	for _, r := range dirty {
		if r = r.Intersect(d.bounds); !r.Empty() {
			d.scene.set(img, r)
			d.pending.add(r)
		}
	}
	d.place(&d.far, far.Intersect(d.bounds))
	d.place(&d.self, self.Intersect(d.bounds))
	d.signal(d.now)
	return nil
}

func (d *Display) place(l *layer, r image.Rectangle) {
	if r == l.rect {
		return
	}
	d.pending.add(l.rect)
	d.pending.add(r)
	l.rect = r
	if r.Empty() {
		forget(l)
	} else if l.has {
		l.fit = yuv.Fit(l.next.Rect.Dx(), l.next.Rect.Dy(), r)
	}
}

// forget drops a layer's picture, and blackens the memory that held it.
func forget(l *layer) {
	l.has, l.fresh = false, false
	for _, p := range []**image.YCbCr{&l.next, &l.small} {
		if *p != nil {
			_ = yuv.Black(*p)
			*p = nil
		}
	}
}

// Far shows the other party's picture, I420 of any size. It is copied before Far returns and dropped
// if the far rectangle is empty. nil takes the picture away, and the scene is seen in its place.
func (d *Display) Far(img *image.YCbCr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counters.FarIn++
	return d.hand(&d.far, img, false, d.now, &d.pending.far)
}

// Self shows the camera's picture as a mirror would, above the far picture. As Far otherwise.
func (d *Display) Self(img *image.YCbCr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counters.SelfIn++
	return d.hand(&d.self, img, true, d.soon, &d.pending.self)
}

func (d *Display) hand(l *layer, img *image.YCbCr, mirror bool, when chan struct{}, mark *bool) error {
	if img == nil {
		if l.has {
			forget(l)
			d.pending.add(l.rect)
			d.signal(d.now)
		}
		return nil
	}
	if err := yuv.Check(img); err != nil {
		return err
	}
	if l.rect.Empty() {
		return nil
	}
	size := img.Rect.Size()
	fit := yuv.Fit(size.X, size.Y, l.rect)
	if mirror && fit.Dx() > 0 && fit.Dx() < size.X && fit.Dy() < size.Y {
		// The own picture is much smaller on the screen than from the camera: what is kept of it is as small, and not made small anew with each painting.
		if l.small == nil || l.small.Rect.Size() != fit.Size() {
			l.small = yuv.New(fit.Dx(), fit.Dy())
		}
		if err := yuv.Scale(l.small, img, yuv.Box); err != nil {
			return err
		}
		img, size = l.small, fit.Size()
	}
	if l.next == nil || l.next.Rect.Size() != size {
		l.next = yuv.New(size.X, size.Y)
		l.has = false
	}
	var err error
	if mirror {
		err = yuv.Mirror(l.next, img)
	} else {
		err = yuv.Copy(l.next, img)
	}
	if err != nil {
		return err
	}
	if !l.has { // first picture, or another shape: its edges change too
		l.has = true
		l.fit = fit
		d.pending.add(l.rect)
	}
	l.fresh = true
	*mark = true
	d.signal(when)
	return nil
}

// view is what the painter needs of a layer, taken under the lock.
type view struct {
	rect, fit image.Rectangle
	has       bool
}

// take makes the newest picture the shown one.
func (l *layer) take() view {
	if l.fresh {
		if l.shown == nil || l.shown.Rect != l.next.Rect {
			l.shown = yuv.New(l.next.Rect.Dx(), l.next.Rect.Dy())
		}
		l.shown, l.next = l.next, l.shown
		l.fresh = false
	} else if !l.has && l.shown != nil {
		_ = yuv.Black(l.shown)
		l.shown = nil
		l.painter.Forget()
	}
	return view{l.rect, l.fit, l.has}
}

// Paint paints and presents what has changed since the last call, if anything. Run calls it;
// a program without Run may.
func (d *Display) Paint() error {
	d.painting.Lock()
	defer d.painting.Unlock()

	d.mu.Lock()
	nothing := d.pending.empty()
	d.mu.Unlock()
	if nothing {
		return nil
	}
	pix, stride, age := d.dev.Frame() // may wait for the screen, so not under the lock

	d.mu.Lock()
	current := d.pending
	d.pending = damage{}
	newFar, newSelf := d.far.fresh, d.self.fresh
	far, self := d.far.take(), d.self.take()

	todo := current
	switch {
	case age < 1 || age > len(d.history)+1:
		todo = damage{far: true, self: true}
		todo.add(d.bounds)
	default:
		for i := range age - 1 {
			todo.merge(&d.history[i])
		}
	}
	for _, r := range todo.rects[:todo.n] {
		if far.has && r.In(far.rect) || self.has && r.In(self.fit) {
			continue // covered all over
		}
		d.scene.copyTo(pix, stride, r)
	}
	d.mu.Unlock()

	var err error
	touched := func(v view) bool {
		for _, r := range todo.rects[:todo.n] {
			if r.Overlaps(v.rect) {
				return true
			}
		}
		return false
	}
	farTouched := touched(far)
	farPainted := far.has && (todo.far || farTouched)
	if farPainted {
		if farTouched {
			surround(pix, stride, far.rect, far.fit)
		}
		err = paint(&d.far, far, pix, stride)
	}
	if err == nil && self.has && (todo.self || touched(self) || farPainted && self.rect.Overlaps(far.rect)) {
		err = paint(&d.self, self, pix, stride)
	}
	if err != nil {
		return errors.Join(err, d.dev.Present(nil))
	}

	d.list = append(d.list[:0], current.rects[:current.n]...)
	if current.far && far.has {
		d.list = append(d.list, far.rect)
	}
	if current.self && self.has {
		d.list = append(d.list, self.rect)
	}
	if err := d.dev.Present(d.list); err != nil {
		return err
	}
	copy(d.history[1:], d.history[:])
	d.history[0] = current

	d.mu.Lock()
	d.counters.Presented++
	if newFar && far.has {
		d.counters.FarShown++
	}
	if newSelf && self.has {
		d.counters.SelfShown++
	}
	d.mu.Unlock()
	return nil
}

func paint(l *layer, v view, pix []byte, stride int) error {
	if v.fit.Empty() || l.shown == nil {
		return nil
	}
	return l.painter.Paint(pix[v.fit.Min.Y*stride+v.fit.Min.X*4:], stride, v.fit.Dx(), v.fit.Dy(), l.shown, yuv.Box)
}

// surround blackens what of r lies outside inner.
func surround(pix []byte, stride int, r, inner image.Rectangle) {
	if inner.Empty() {
		inner = image.Rectangle{r.Min, r.Min}
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := pix[y*stride : y*stride+r.Max.X*4]
		if y < inner.Min.Y || y >= inner.Max.Y {
			clear(row[r.Min.X*4:])
			continue
		}
		clear(row[r.Min.X*4 : inner.Min.X*4])
		clear(row[inner.Max.X*4:])
	}
}

// Frames returns what was counted since New.
func (d *Display) Frames() Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counters
}

// Close forgets all pictures and closes the Device, once a painting that is under way has ended: the Device's memory must not go
// away under it. A running Run then fails with ErrClosed when it next paints; end its context first.
func (d *Display) Close() error {
	d.painting.Lock()
	defer d.painting.Unlock()
	d.mu.Lock()
	for _, l := range []*layer{&d.far, &d.self} {
		forget(l)
		l.take()
	}
	d.mu.Unlock()
	return d.dev.Close()
}
