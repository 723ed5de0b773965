package display

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/display/drm"
)

// Config names the screen.
type Config struct {
	// Device is a path such as /dev/dri/card0, or "auto" (or empty) for the first card with a
	// connected screen.
	Device string
	// Connector is the plug's name, such as HDMI-A-1; empty is the first that is connected.
	Connector string
	// Width and Height ask for a mode. Zero takes what the screen prefers; if that is larger
	// than 1920×1200, the largest mode up to 1920×1080, since the processor paints.
	Width, Height int
}

const (
	// flipTimeout is how long a screen may take for one refresh.
	flipTimeout        = time.Second
	maxWidth           = 1920
	maxHeight          = 1200
	preferredMaxHeight = 1080
)

// copying names the drivers that copy from the buffer to the screen when told what is dirty: for them one
// buffer and small updates are best. The others scan the buffer out, and flip between two.
var copying = map[string]bool{
	"virtio_gpu": true, "qxl": true, "udl": true, "gud": true, "hyperv_drm": true, "simpledrm": true, "ofdrm": true,
	"vboxvideo": true, "vmwgfx": true, "mgag200": true, "ast": true, "panel-mipi-dbi": true,
}

// kms is a Device on a DRM card. It belongs to the goroutine that paints, but for closed.
type kms struct {
	path, connector string
	card            drm.Card
	w, h            int
	crtc            uint32
	setMode         func(*drm.Buffer) error
	buffers         []*drm.Buffer
	shownAt         []int // the number of the Present that each buffer was shown by; 0 is never
	presents        int
	flips           bool // two buffers, exchanged at the refresh
	flipping        bool // an exchange is under way
	mute            bool // the driver needs no telling: it scans out all the time
	clips           []drm.Clip
	failed          error

	mu     sync.Mutex // held during Frame, Present and Close
	closed bool
}

// OpenDRM takes a screen by DRM/KMS and makes it black. Errors wrap ErrNotFound, ErrBusy,
// ErrUnsupported, fs.ErrPermission or ctx's error.
func OpenDRM(ctx context.Context, cfg Config) (Device, error) {
	return OpenDRMOn(ctx, drm.System{}, cfg)
}

// OpenDRMOn is OpenDRM on another Kernel.
func OpenDRMOn(ctx context.Context, k drm.Kernel, cfg Config) (Device, error) {
	if cfg.Device != "" && cfg.Device != "auto" {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("open screen: %w", err)
		}
		return openCard(k, cfg.Device, cfg)
	}
	var first error
	for _, path := range k.Paths() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("open screen: %w", err)
		}
		d, err := openCard(k, path, cfg)
		if err == nil {
			return d, nil
		}
		// A card without a screen, or for rendering alone, says less than one that is busy.
		if first == nil || errors.Is(first, ErrNotFound) || errors.Is(first, ErrUnsupported) {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("open screen: no graphics card in /dev/dri: %w", ErrNotFound)
	}
	return nil, first
}

func openCard(k drm.Kernel, path string, cfg Config) (Device, error) {
	card, err := k.Open(path)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
			err = fmt.Errorf("%w (%w)", ErrNotFound, err)
		case errors.Is(err, fs.ErrPermission):
			err = fmt.Errorf("add the user to the group video: %w", err)
		}
		return nil, fmt.Errorf("open screen %s: %w", path, err)
	}
	d := &kms{path: path, card: card, clips: make([]drm.Clip, 0, 64)}
	if err := d.start(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open screen %s: %w", path, classify(err)), d.Close())
	}
	return d, nil
}

// classify puts the sentinel that an errno stands for into its error.
func classify(err error) error {
	for errno, sentinel := range map[unix.Errno]error{
		unix.ENODEV: ErrGone, unix.ENXIO: ErrGone, unix.EBUSY: ErrBusy,
		unix.ENOTTY: ErrUnsupported, unix.EOPNOTSUPP: ErrUnsupported, unix.EINVAL: ErrUnsupported,
	} {
		if errors.Is(err, errno) && !errors.Is(err, sentinel) {
			return fmt.Errorf("%w (%w)", sentinel, err)
		}
	}
	return err
}

func (d *kms) start(cfg Config) error {
	driver, err := d.card.Driver()
	if err != nil {
		return err
	}
	if dumb, err := d.card.Dumb(); err != nil {
		return err
	} else if !dumb {
		return fmt.Errorf("driver %s has no plain buffers: %w", driver, ErrUnsupported)
	}
	if err := d.card.SetMaster(); errors.Is(err, unix.EBUSY) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("stop the desktop or the other program that has the screen: %w (%w)", ErrBusy, err)
	} else if err != nil {
		return fmt.Errorf("take the screen: %w", err)
	}
	connector, crtc, err := d.find(cfg.Connector)
	if err != nil {
		return err
	}
	mode, err := choose(connector, cfg)
	if err != nil {
		return err
	}
	d.connector, d.crtc, d.w, d.h = connector.Name(), crtc, int(mode.Width), int(mode.Height)
	d.flips = !copying[driver]
	n := 1
	if d.flips {
		n = 2
	}
	for range n {
		b, err := d.card.CreateBuffer(d.w, d.h)
		if err != nil {
			return err
		}
		d.buffers = append(d.buffers, b)
		d.shownAt = append(d.shownAt, 0)
	}
	d.setMode = func(b *drm.Buffer) error {
		if err := d.card.SetCrtc(crtc, b, connector.ID, mode); err != nil {
			return fmt.Errorf("set mode %v on %s: %w", mode, d.connector, err)
		}
		return nil
	}
	// The last one is shown now, black; the first one is painted next.
	return d.setMode(d.buffers[n-1])
}

// find returns the connector to use and a crtc that can drive it.
func (d *kms) find(name string) (drm.Connector, uint32, error) {
	resources, err := d.card.Resources()
	if err != nil {
		return drm.Connector{}, 0, err
	}
	var seen []string
	for _, id := range resources.Connectors {
		c, err := d.card.Connector(id)
		if err != nil {
			return c, 0, err
		}
		seen = append(seen, c.Name())
		if name != "" && c.Name() != name || !c.Connected || len(c.Modes) == 0 {
			continue
		}
		crtc, err := d.crtcFor(c, resources.Crtcs)
		return c, crtc, err
	}
	if name != "" {
		return drm.Connector{}, 0, fmt.Errorf("no screen on connector %s (there are %v): %w", name, seen, ErrNotFound)
	}
	return drm.Connector{}, 0, fmt.Errorf("no screen is connected to any of %v: %w", seen, ErrNotFound)
}

func (d *kms) crtcFor(c drm.Connector, crtcs []uint32) (uint32, error) {
	encoders := c.Encoders
	if c.Encoder != 0 { // what runs already needs no change
		encoders = append([]uint32{c.Encoder}, encoders...)
	}
	for _, id := range encoders {
		e, err := d.card.Encoder(id)
		if err != nil {
			return 0, err
		}
		if id == c.Encoder && e.Crtc != 0 {
			return e.Crtc, nil
		}
		for i, crtc := range crtcs {
			if i < 32 && e.Possible&(1<<i) != 0 {
				return crtc, nil
			}
		}
	}
	return 0, fmt.Errorf("nothing can drive connector %s: %w", c.Name(), ErrUnsupported)
}

func choose(c drm.Connector, cfg Config) (drm.Mode, error) {
	better := func(a, b drm.Mode) bool { // larger, then faster
		pa, pb := int(a.Width)*int(a.Height), int(b.Width)*int(b.Height)
		return pa > pb || pa == pb && a.Refresh > b.Refresh
	}
	if cfg.Width > 0 && cfg.Height > 0 {
		var best drm.Mode
		for _, m := range c.Modes {
			if int(m.Width) == cfg.Width && int(m.Height) == cfg.Height && (best.Width == 0 || better(m, best)) {
				best = m
			}
		}
		if best.Width == 0 {
			return best, fmt.Errorf("screen on %s has no mode of %d×%d, only %v: %w",
				c.Name(), cfg.Width, cfg.Height, c.Modes, ErrUnsupported)
		}
		return best, nil
	}
	preferred := c.Modes[0]
	for _, m := range c.Modes {
		if m.Type&drm.TypePreferred != 0 {
			preferred = m
			break
		}
	}
	if int(preferred.Width) <= maxWidth && int(preferred.Height) <= maxHeight {
		return preferred, nil
	}
	best := preferred
	for _, m := range c.Modes {
		if int(m.Width) <= maxWidth && int(m.Height) <= preferredMaxHeight && (best == preferred || better(m, best)) {
			best = m
		}
	}
	return best, nil
}

func (d *kms) Size() (w, h int) { return d.w, d.h }

// back is the buffer that is not shown.
func (d *kms) back() int { return d.presents % len(d.buffers) }

// Frame implements Device. With two buffers it waits until the back one is free.
func (d *kms) Frame() (pix []byte, stride, age int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		// Painted into and thrown away: Present will say that the screen is closed.
		return make([]byte, d.w*d.h*4), d.w * 4, 0
	}
	if d.flipping {
		d.flipping = false
		if err := d.card.WaitFlip(flipTimeout); err != nil {
			d.failed = fmt.Errorf("wait for the refresh of %s: %w", d.connector, err)
		}
	}
	b := d.buffers[d.back()]
	if at := d.shownAt[d.back()]; at > 0 {
		age = d.presents - at + 1
	}
	return b.Pix, b.Stride, age
}

// Present implements Device.
func (d *kms) Present(dirty []image.Rectangle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if d.failed == nil {
		d.failed = d.present(dirty)
	}
	if d.failed != nil {
		if errors.Is(d.failed, os.ErrDeadlineExceeded) {
			return fmt.Errorf("show on %s: %w (%w)", d.path, ErrGone, d.failed)
		}
		return fmt.Errorf("show on %s: %w", d.path, classify(d.failed))
	}
	d.presents++
	return nil
}

func (d *kms) present(dirty []image.Rectangle) error {
	b := d.buffers[d.back()]
	if d.flips {
		err := d.card.Flip(d.crtc, b)
		d.flipping = err == nil
		if d.presents == 0 && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
			// The driver cannot: the buffer that was just painted becomes the only one.
			d.flips = false
			if err = d.setMode(b); err == nil {
				err = d.card.DestroyBuffer(d.buffers[1])
				d.buffers = d.buffers[:1]
			}
		}
		if err != nil {
			return fmt.Errorf("flip: %w", err)
		}
	}
	if !d.flips && !d.mute {
		d.clips = d.clips[:0]
		for _, r := range dirty {
			if r = r.Intersect(image.Rect(0, 0, d.w, d.h)); !r.Empty() {
				d.clips = append(d.clips, drm.Clip{
					X1: uint16(r.Min.X), Y1: uint16(r.Min.Y), X2: uint16(r.Max.X), Y2: uint16(r.Max.Y),
				})
			}
		}
		if len(d.clips) > 0 {
			err := d.card.Dirty(b, d.clips)
			if errors.Is(err, unix.ENOSYS) {
				d.mute = true
			} else if err != nil {
				return fmt.Errorf("update: %w", err)
			}
		}
	}
	d.shownAt[d.back()] = d.presents + 1
	return nil
}

// Close implements Device. The console appears again.
func (d *kms) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	if d.flipping {
		// Of no consequence: the buffer goes away in any case.
		_ = d.card.WaitFlip(flipTimeout)
	}
	for _, b := range d.buffers {
		if err := d.card.DestroyBuffer(b); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("give buffer back: %w", err))
		}
	}
	d.buffers = nil
	// Fails if we never became master; closing drops it too.
	_ = d.card.DropMaster()
	errs = append(errs, d.card.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close screen %s: %w", d.path, err)
	}
	return nil
}
