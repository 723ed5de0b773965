package m2m

import (
	"fmt"
	"image"
	"math"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"vindu/media/camera/v4l2"
	"vindu/media/codec"
)

const (
	waitFor = 700 * time.Millisecond // for a picture; less than stuckAfter, so that a driver that only is slow is told from one that hangs
	waitSet = 5 * time.Millisecond
	buffers = 2 // of either side

	mostSets = 8 // buffers of parameter sets before a picture
)

// device makes all calls into the driver, in its own goroutine; place is called while that has nothing to do.
type device struct {
	kernel v4l2.Kernel
	path   string
	format uint32 // that comes out

	mu    sync.Mutex
	h     v4l2.Handle
	given bool // up

	size    image.Point
	raw     uint32 // format of pictures
	in      *queue
	coded   *queue
	spare   []uint32 // buffers of in that are ours
	handed  int      // the buffer of coded of which data was handed out; −1: none
	head    []byte   // parameter sets that came before their picture
	bitrate int
	fps     float64
}

// serve does jobs until there will be no more, or the device was given up.
func (d *device) serve(jobs <-chan job, done chan<- result, ended chan<- struct{}) {
	defer close(ended)
	defer func() {
		d.close()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.given {
			hanging.Add(-1)
		}
	}()
	for j := range jobs {
		var r result
		if j.do != nil {
			r.err = j.do(d)
		} else {
			r.data, r.err = d.code(j)
		}
		done <- r // there is room for one
	}
}

// giveUp ends a waiting call, if it is one that can be ended.
func (d *device) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given = true
	hanging.Add(1)
	if d.h != nil {
		d.h.Cancel()
	}
}

// open opens the device and sees what it can do.
func (d *device) open(w, h, bitrate int, fps float64) error {
	handle, err := d.kernel.Open(d.path)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.h = handle
	d.mu.Unlock()
	c, err := capabilities(handle)
	if err != nil {
		return err
	}
	planar := c.DeviceCaps&capM2MMPlane != 0
	d.in, d.coded = newQueue(handle, true, planar), newQueue(handle, false, planar)
	switch {
	case !d.coded.has(d.format):
		return fmt.Errorf("%w: it makes no such pictures", ErrUnfit)
	case d.in.has(fmtI420):
		d.raw = fmtI420
	case d.in.has(fmtNV12):
		d.raw = fmtNV12
	default:
		return fmt.Errorf("%w: it takes neither I420 nor NV12", ErrUnfit)
	}
	return d.begin(w, h, bitrate, fps)
}

// capabilities asks what a device is. The error wraps ErrUnfit if it is no such thing.
func capabilities(h v4l2.Handle) (c v4l2.Capability, err error) {
	if err := h.Ioctl(v4l2.QueryCap, unsafe.Pointer(&c)); err != nil {
		return c, fmt.Errorf("ask what it is: %w", err)
	}
	if c.Capabilities&v4l2.CapDeviceCaps == 0 || c.DeviceCaps&(v4l2.CapVideoM2M|capM2MMPlane) == 0 || c.DeviceCaps&v4l2.CapStreaming == 0 {
		return c, fmt.Errorf("%w: it takes no pictures in memory", ErrUnfit)
	}
	return c, nil
}

// begin sets the device up for a size, in the order that the kernel's documentation gives (dev-encoder.rst, "Initialization").
func (d *device) begin(w, h, bitrate int, fps float64) error {
	d.spare, d.handed, d.head = d.spare[:0], -1, d.head[:0]
	if err := d.coded.setFormat(d.format, w, h, max(w*h, 64<<10)); err != nil {
		return err
	}
	if err := d.in.setFormat(d.raw, w, h, 0); err != nil {
		return err
	}
	if err := d.in.crop(w, h); err != nil {
		return err
	}
	d.fps, d.bitrate = 0, 0
	if err := d.follow(bitrate, fps); err != nil {
		return err
	}
	// What a driver has not got of these shows in what it makes, or does no harm.
	for _, c := range []control{
		{cidFrameRC, 1}, {cidBitrateMode, modeCBR}, {cidProfile, profileCBP}, {cidBFrames, 0}, {cidHeaderMode, headerFirst},
		{cidRepeatSeq, 1}, {cidGOPSize, math.MaxInt32}, {cidIPeriod, math.MaxInt32},
	} {
		_ = d.set(c)
	}
	for _, q := range []*queue{d.in, d.coded} {
		if err := q.make(buffers); err != nil {
			return err
		}
	}
	for i, mem := range d.in.bufs {
		if need := d.in.stride * d.in.height * 3 / 2; len(mem) < need {
			return fmt.Errorf("%w: a picture of %d bytes has room for %d", ErrUnfit, need, len(mem))
		}
		d.spare = append(d.spare, uint32(i))
	}
	for i := range d.coded.bufs {
		if err := d.coded.put(uint32(i), 0, 0); err != nil {
			return err
		}
	}
	for _, q := range []*queue{d.in, d.coded} {
		if err := q.start(); err != nil {
			return err
		}
	}
	d.size = image.Pt(w, h)
	return nil
}

func (d *device) set(c control) error {
	if err := d.h.Ioctl(setCtrl, unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("set control %#x: %w", c.ID, err)
	}
	return nil
}

// follow takes over another bitrate or frame rate.
func (d *device) follow(bitrate int, fps float64) error {
	if fps > d.fps*1.1 || fps < d.fps*0.9 {
		p := v4l2.StreamParm{Type: d.in.typ, TimePerFrame: v4l2.Fract{Numerator: 1000, Denominator: uint32(1000 * fps)}}
		_ = d.h.Ioctl(v4l2.SetParm, unsafe.Pointer(&p)) // some go by the time stamps alone
		d.fps = fps
	}
	if bitrate != d.bitrate {
		if err := d.set(control{cidBitrate, int32(bitrate)}); err != nil {
			return err
		}
		d.bitrate = bitrate
	}
	return nil
}

// resize sets the device up anew.
func (d *device) resize(w, h, bitrate int, fps float64) error {
	for _, q := range []*queue{d.in, d.coded} {
		if err := q.stop(); err != nil {
			return err
		}
	}
	return d.begin(w, h, bitrate, fps)
}

// place copies a picture into a buffer that is ours: the only copy on its way.
func (d *device) place(img *image.YCbCr) error {
	if len(d.spare) == 0 {
		return fmt.Errorf("%w: it keeps its pictures", ErrUnfit)
	}
	mem, w, h := d.in.bufs[d.spare[0]], d.size.X, d.size.Y
	stride := d.in.stride
	for y := range h {
		copy(mem[y*stride:][:w], img.Y[y*img.YStride:])
	}
	chroma := mem[stride*d.in.height:]
	if d.raw == fmtI420 {
		half := stride / 2
		second := chroma[half*(d.in.height/2):]
		for y := range h / 2 {
			copy(chroma[y*half:][:w/2], img.Cb[y*img.CStride:])
			copy(second[y*half:][:w/2], img.Cr[y*img.CStride:])
		}
		return nil
	}
	for y := range h / 2 {
		row, cb, cr := chroma[y*stride:][:w], img.Cb[y*img.CStride:][:w/2], img.Cr[y*img.CStride:][:w/2]
		for x := range cb {
			row[2*x], row[2*x+1] = cb[x], cr[x]
		}
	}
	return nil
}

// code codes the picture that is in place.
func (d *device) code(j job) ([]byte, error) {
	if d.handed >= 0 {
		if err := d.coded.put(uint32(d.handed), 0, 0); err != nil {
			return nil, err
		}
		d.handed = -1
	}
	if err := d.follow(j.bitrate, j.fps); err != nil {
		return nil, err
	}
	if j.key {
		if err := d.set(control{cidForceKey, 1}); err != nil {
			return nil, err
		}
	}
	if err := d.in.put(d.spare[0], d.in.stride*d.in.height*3/2, j.pts); err != nil {
		return nil, err
	}
	d.spare = append(d.spare[:0], d.spare[1:]...)
	until := time.Now().Add(waitFor)
	data, err := d.take(until)
	if err != nil {
		return nil, err
	}
	// A driver gives the picture back when it has coded it, or a moment later.
	for {
		index, _, ok, err := d.in.take()
		switch {
		case err != nil:
			return nil, err
		case ok && slices.Contains(d.spare, index):
			return nil, fmt.Errorf("%w: it gives a picture back that it has not got", ErrUnfit)
		case ok:
			d.spare = append(d.spare, index)
		case len(d.spare) > 0:
			return data, nil
		case time.Now().After(until):
			return nil, fmt.Errorf("%w: it keeps its pictures", ErrUnfit)
		default:
			if err := d.h.Wait(waitSet); err != nil && err != os.ErrDeadlineExceeded {
				return nil, fmt.Errorf("wait for a picture back: %w", err)
			}
		}
	}
}

// take waits for a coded picture.
func (d *device) take(until time.Time) ([]byte, error) {
	for sets := 0; ; {
		index, data, ok, err := d.coded.take()
		if err != nil {
			return nil, err
		}
		if !ok {
			left := time.Until(until)
			if left <= 0 {
				return nil, fmt.Errorf("%w: no picture came for %s", ErrUnfit, waitFor)
			}
			if err := d.h.Wait(left); err != nil {
				return nil, fmt.Errorf("wait for a picture: %w", err)
			}
			continue
		}
		if d.format == fmtH264 && len(data) > 0 && !pictured(data) {
			// Parameter sets by themselves: kept for the picture that they belong to.
			if sets++; sets > mostSets {
				return nil, fmt.Errorf("%w: parameter sets and no picture", ErrUnfit)
			}
			d.head = append(d.head[:0], data...)
			if err := d.coded.put(index, 0, 0); err != nil {
				return nil, err
			}
			continue
		}
		d.handed = int(index)
		if len(d.head) > 0 {
			d.head = append(d.head, data...)
			data, d.head = d.head, d.head[:0]
		}
		return data, nil
	}
}

// pictured reports whether there is a slice in a byte stream.
func pictured(data []byte) bool {
	for nal, rest := codec.NextNAL(data); nal != nil; nal, rest = codec.NextNAL(rest) {
		if t := nal[0] & 0x1f; t >= 1 && t <= 5 {
			return true
		}
	}
	return false
}

// close lets go of everything.
func (d *device) close() {
	if d.h == nil {
		return
	}
	for _, q := range []*queue{d.in, d.coded} {
		if q != nil {
			_ = q.stop()
		}
	}
	_ = d.h.Close() // nothing is lost by it
}
