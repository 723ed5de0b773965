// Package m2m codes pictures by an H.264 encoder in hardware, through the kernel's interface for stateful encoders (V4L2 memory-to-memory,
// Documentation/userspace-api/media/v4l/dev-encoder.rst): raw pictures are queued on one side of a video device, coded ones taken from the other.
//
// A device is found by what it says that it can do, never by its name, and without opening a camera: only devices of media controllers that have an
// encoder and no sensor are looked at. What it makes is checked: constrained baseline, parameter sets with each keyframe (they are put there if
// the driver does not), no keyframe but those that were asked for.
//
// Drivers hang. Every call into one is made by a goroutine of the encoder's own; one that takes longer than a second is given up, with ErrStuck,
// and what it holds is let go when it returns. An error of Encode other than codec.ErrPicture and codec.ErrTooLarge means that another coder has to take over.
package m2m

import (
	"errors"
	"fmt"
	"image"
	"sync/atomic"
	"time"

	"vindu/media/camera/v4l2"
	"vindu/media/codec"
)

// Errors that callers tell apart.
var (
	// ErrUnfit says that a device is no encoder that can be used, or broke its promises.
	ErrUnfit = errors.New("device is not fit for coding")
	// ErrStuck says that the driver hangs.
	ErrStuck = errors.New("driver of the encoder hangs")
)

const (
	minSide, maxSide = 16, 1920
	stuckAfter       = time.Second
	mostHanging      = 2 // drivers' calls that have not returned; then no encoder is made
)

// hanging counts the drivers' calls that were given up and have not returned.
var hanging atomic.Int32

// Config says what an Encoder is made for.
type Config struct {
	codec.VideoConfig
	Path string // of the device
	// Format is what comes out. H264; the tests of the mechanics on drivers that have none take another one, of which nothing is checked.
	Format uint32
}

// Encoder is a codec.VideoEncoder in hardware.
type Encoder struct {
	cfg          Config
	rate         *codec.Rate
	wantKeyframe atomic.Bool
	closed       bool
	broken       error // what ended it

	out    []byte
	params []byte // the parameter sets that came last

	jobs   chan job
	done   chan result
	ended  chan struct{}
	timer  *time.Timer
	device *device // while no job runs; else its goroutine's
}

// job is something that the device has to do: do, or code the picture that was put in place.
type job struct {
	do      func(*device) error
	pts     int64
	key     bool
	bitrate int
	fps     float64
}

type result struct {
	data []byte // in the driver's buffer, until the next job
	err  error
}

var _ codec.VideoEncoder = (*Encoder)(nil)

// New makes an encoder on a device.
func New(kernel v4l2.Kernel, cfg Config) (*Encoder, error) {
	fail := func(err error) (*Encoder, error) {
		return nil, fmt.Errorf("make hardware encoder of %d×%d: %w", cfg.Width, cfg.Height, err)
	}
	switch {
	case cfg.Width < minSide || cfg.Height < minSide || cfg.Width%2 != 0 || cfg.Height%2 != 0:
		return fail(codec.ErrPicture)
	case cfg.Width > maxSide || cfg.Height > maxSide:
		return fail(codec.ErrTooLarge)
	case hanging.Load() >= mostHanging:
		return fail(ErrStuck)
	}
	if cfg.Format == 0 {
		cfg.Format = fmtH264
	}
	e := &Encoder{
		cfg: cfg, rate: codec.NewRate(cfg.FPS, cfg.Bitrate),
		jobs: make(chan job), done: make(chan result, 1), ended: make(chan struct{}), timer: time.NewTimer(time.Hour),
		device: &device{kernel: kernel, path: cfg.Path, format: cfg.Format},
	}
	e.timer.Stop()
	go e.device.serve(e.jobs, e.done, e.ended)
	bitrate, fps := e.rate.Targets()
	if _, err := e.ask(job{do: func(d *device) error { return d.open(cfg.Width, cfg.Height, bitrate, fps) }}); err != nil {
		_ = e.Close()
		return fail(err)
	}
	return e, nil
}

// ask has the device do a job, and gives it up if that takes too long. An error is for good.
func (e *Encoder) ask(j job) ([]byte, error) {
	if e.broken != nil {
		return nil, e.broken
	}
	e.timer.Reset(stuckAfter)
	defer e.timer.Stop()
	e.jobs <- j
	select {
	case r := <-e.done:
		e.broken = r.err
		return r.data, r.err
	case <-e.timer.C:
		e.broken = ErrStuck
		e.device.giveUp()
		return nil, ErrStuck
	}
}

// SetBitrate implements codec.VideoEncoder.
func (e *Encoder) SetBitrate(bitrate int) { e.rate.Set(bitrate) }

// ForceKeyframe implements codec.VideoEncoder.
func (e *Encoder) ForceKeyframe() { e.wantKeyframe.Store(true) }

// Encode implements codec.VideoEncoder.
func (e *Encoder) Encode(img *image.YCbCr, pts int64) (codec.Frame, error) {
	f, err := e.encode(img, pts)
	if err != nil {
		return codec.Frame{}, fmt.Errorf("encode by hardware: %w", err)
	}
	return f, nil
}

func (e *Encoder) encode(img *image.YCbCr, pts int64) (codec.Frame, error) {
	if e.closed {
		return codec.Frame{}, codec.ErrClosed
	}
	if err := codec.CheckPicture(img); err != nil {
		return codec.Frame{}, err
	}
	size := img.Rect.Size()
	if size.X < minSide || size.Y < minSide {
		return codec.Frame{}, codec.ErrPicture
	}
	if e.broken != nil {
		return codec.Frame{}, e.broken
	}
	ticks, err := e.rate.Step(pts)
	if err != nil {
		return codec.Frame{}, err
	}
	bitrate, fps := e.rate.Targets()
	if size != e.device.size {
		if _, err := e.ask(job{do: func(d *device) error { return d.resize(size.X, size.Y, bitrate, fps) }}); err != nil {
			return codec.Frame{}, err
		}
		e.params = e.params[:0] // they were another size's
	}
	// The picture is copied here and not by the device's goroutine: a driver's call that comes back late would read one that is somebody else's by then.
	if err := e.device.place(img); err != nil {
		e.broken = err
		return codec.Frame{}, err
	}
	key := e.wantKeyframe.Swap(false)
	data, err := e.ask(job{pts: e.rate.Clock(), key: key, bitrate: bitrate, fps: fps})
	if err != nil {
		return codec.Frame{}, err
	}
	f, err := e.frame(data)
	if err != nil {
		e.broken = err
		return codec.Frame{}, err
	}
	if key && !f.Keyframe {
		e.wantKeyframe.Store(true) // the wish stands
	}
	e.rate.Note(8*len(f.Data), ticks)
	return f, nil
}

// frame makes a whole frame of what the driver gave: a keyframe has its parameter sets.
func (e *Encoder) frame(data []byte) (codec.Frame, error) {
	e.out = e.out[:0]
	if len(data) == 0 {
		return codec.Frame{}, nil // dropped by the rate control
	}
	if e.cfg.Format != fmtH264 {
		e.out = append(e.out, data...)
		return codec.Frame{Data: e.out}, nil
	}
	var sps, idr bool
	for nal, rest := codec.NextNAL(data); nal != nil; nal, rest = codec.NextNAL(rest) {
		kind := nal[0] & 0x1f
		if kind == 7 {
			// Constraint set 1 of profile 66 is constrained baseline (ITU-T H.264 §A.2.1.1).
			if len(nal) < 4 || nal[1] != 66 || nal[2]&0x40 == 0 {
				return codec.Frame{}, fmt.Errorf("%w: it codes another profile than constrained baseline", ErrUnfit)
			}
			sps, e.params = true, e.params[:0]
		}
		if sps && (kind == 7 || kind == 8) {
			e.params = append(append(e.params, 0, 0, 0, 1), nal...)
		}
		idr = idr || kind == 5
	}
	if idr && !sps {
		if len(e.params) == 0 {
			return codec.Frame{}, fmt.Errorf("%w: a keyframe without parameter sets", ErrUnfit)
		}
		e.out = append(e.out, e.params...)
	}
	e.out = append(e.out, data...)
	return codec.Frame{Data: e.out, Keyframe: idr}, nil
}

// Close frees the encoder. It may be called again. What a driver that hangs holds is let go when it returns.
func (e *Encoder) Close() error {
	if e.closed {
		return nil
	}
	e.closed = true
	close(e.jobs)
	if errors.Is(e.broken, ErrStuck) {
		return nil
	}
	e.timer.Reset(stuckAfter)
	defer e.timer.Stop()
	select {
	case <-e.ended:
		return nil
	case <-e.timer.C:
		e.device.giveUp()
		return fmt.Errorf("close hardware encoder: %w", ErrStuck)
	}
}
