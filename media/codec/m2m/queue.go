package m2m

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
)

// queue is one side of a device: pictures go into its output, coded ones come out of its capture. It hides which of the kernel's two
// interfaces the driver has.
type queue struct {
	h      v4l2.Handle
	typ    uint32
	mplane bool
	bufs   [][]byte
	// Of a picture: what the driver made of the size that was asked for.
	width, height, stride int

	// Arguments of ioctls, so that none is allocated.
	buf    v4l2.Buffer
	mp     mpBuffer
	planes [1]plane
	kind   uint32
}

func newQueue(h v4l2.Handle, output, mplane bool) *queue {
	q := &queue{h: h, mplane: mplane}
	switch {
	case output && mplane:
		q.typ = bufTypeOutputMPlane
	case output:
		q.typ = bufTypeOutput
	case mplane:
		q.typ = bufTypeCaptureMPlane
	default:
		q.typ = bufTypeCapture
	}
	q.kind = q.typ
	return q
}

func (q *queue) ioctl(what string, request uint32, arg unsafe.Pointer) error {
	if err := q.h.Ioctl(request, arg); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// has reports whether the driver lists a format.
func (q *queue) has(format uint32) bool {
	for i := range uint32(64) {
		d := v4l2.FmtDesc{Index: i, Type: q.typ}
		if q.h.Ioctl(v4l2.EnumFmt, unsafe.Pointer(&d)) != nil {
			return false
		}
		if d.PixelFormat == format {
			return true
		}
	}
	return false
}

// setFormat asks for a format and takes over what the driver makes of it. size is that of a coded picture at most, 0 for raw ones.
func (q *queue) setFormat(format uint32, w, h, size int) error {
	f := v4l2.Format{Type: q.typ}
	var got, lines uint32
	if q.mplane {
		p := mplane(&f)
		p.Width, p.Height, p.PixelFormat, p.Field, p.NumPlanes = uint32(w), uint32(h), format, v4l2.FieldNone, 1
		p.Planes[0].SizeImage = uint32(size)
		if err := q.ioctl("set format", v4l2.SetFmt, unsafe.Pointer(&f)); err != nil {
			return err
		}
		if p.NumPlanes != 1 {
			return fmt.Errorf("%w: pictures in %d pieces", ErrUnfit, p.NumPlanes)
		}
		got, lines, q.width, q.height = p.PixelFormat, p.Planes[0].BytesPerLine, int(p.Width), int(p.Height)
	} else {
		f.Pix = v4l2.PixFormat{Width: uint32(w), Height: uint32(h), PixelFormat: format, Field: v4l2.FieldNone, SizeImage: uint32(size)}
		if err := q.ioctl("set format", v4l2.SetFmt, unsafe.Pointer(&f)); err != nil {
			return err
		}
		got, lines, q.width, q.height = f.Pix.PixelFormat, f.Pix.BytesPerLine, int(f.Pix.Width), int(f.Pix.Height)
	}
	if got != format {
		return fmt.Errorf("%w: another format was set than was asked for", ErrUnfit)
	}
	if q.stride = int(lines); size > 0 {
		return nil
	}
	if q.stride == 0 {
		q.stride = q.width
	}
	if q.width < w || q.height < h || q.width > 2*maxSide || q.height > 2*maxSide || q.stride < q.width || q.stride > 4*maxSide {
		return fmt.Errorf("%w: pictures of %d×%d became %d×%d", ErrUnfit, w, h, q.width, q.height)
	}
	return nil
}

// crop says which part of a picture counts, where the driver has made it larger.
func (q *queue) crop(w, h int) error {
	if q.width == w && q.height == h {
		return nil
	}
	typ := uint32(bufTypeOutput) // for either interface (VIDIOC_S_SELECTION)
	s := selection{Type: typ, Target: targetCrop, Width: uint32(w), Height: uint32(h)}
	if err := q.ioctl("crop", setSelection, unsafe.Pointer(&s)); err != nil {
		return err
	}
	if int(s.Width) != w || int(s.Height) != h || s.Left != 0 || s.Top != 0 {
		return fmt.Errorf("%w: it does not crop to %d×%d", ErrUnfit, w, h)
	}
	return nil
}

// make has the driver make buffers, and maps them.
func (q *queue) make(count int) error {
	r := v4l2.RequestBuffers{Count: uint32(count), Type: q.typ, Memory: v4l2.MemoryMmap}
	if err := q.ioctl("request buffers", v4l2.ReqBufs, unsafe.Pointer(&r)); err != nil {
		return err
	}
	if r.Count == 0 || r.Count > 32 {
		return fmt.Errorf("%w: %d buffers", ErrUnfit, r.Count)
	}
	for i := range r.Count {
		var offset, length uint32
		if err := q.ioctl("query buffer", v4l2.QueryBuf, q.arg(i, 0)); err != nil {
			return err
		}
		if q.mplane {
			offset, length = q.planes[0].Offset, q.planes[0].Length
		} else {
			offset, length = q.buf.Offset, q.buf.Length
		}
		if length == 0 || length > 64<<20 {
			return fmt.Errorf("%w: a buffer of %d bytes", ErrUnfit, length)
		}
		mem, err := q.h.Map(offset, length)
		if err != nil {
			return fmt.Errorf("map buffer: %w", err)
		}
		q.bufs = append(q.bufs, mem)
	}
	return nil
}

// arg fills the structure that goes with ioctls on buffers.
func (q *queue) arg(index uint32, used int) unsafe.Pointer {
	if q.mplane {
		q.planes[0] = plane{BytesUsed: uint32(used)}
		if int(index) < len(q.bufs) {
			q.planes[0].Length = uint32(len(q.bufs[index]))
		}
		q.mp = mpBuffer{Index: index, Type: q.typ, Field: v4l2.FieldNone, Memory: v4l2.MemoryMmap, Planes: unsafe.Pointer(&q.planes[0]), Length: 1}
		return unsafe.Pointer(&q.mp)
	}
	q.buf = v4l2.Buffer{Index: index, Type: q.typ, BytesUsed: uint32(used), Field: v4l2.FieldNone, Memory: v4l2.MemoryMmap}
	return unsafe.Pointer(&q.buf)
}

// put queues a buffer of which used bytes count.
func (q *queue) put(index uint32, used int, pts int64) error {
	a := q.arg(index, used)
	seconds, micros := pts/90000, pts%90000*100/9
	if q.mplane {
		q.mp.Seconds, q.mp.Micros = seconds, micros
	} else {
		q.buf.Seconds, q.buf.Micros = seconds, micros
	}
	return q.ioctl("queue buffer", v4l2.QBuf, a)
}

// take takes a buffer that the driver is done with. ok is false if there is none yet.
func (q *queue) take() (index uint32, data []byte, ok bool, err error) {
	a := q.arg(0, 0)
	if err := q.h.Ioctl(v4l2.DQBuf, a); err == unix.EAGAIN {
		return 0, nil, false, nil
	} else if err != nil {
		return 0, nil, false, fmt.Errorf("take buffer: %w", err)
	}
	if q.mplane && q.mp.Planes != unsafe.Pointer(&q.planes[0]) {
		return 0, nil, false, fmt.Errorf("%w: it moved its planes", ErrUnfit)
	}
	var used, from, flags uint32
	if q.mplane {
		index, flags, used, from = q.mp.Index, q.mp.Flags, q.planes[0].BytesUsed, q.planes[0].DataOffset
	} else {
		index, flags, used = q.buf.Index, q.buf.Flags, q.buf.BytesUsed
	}
	if int(index) >= len(q.bufs) || from > used || int(used) > len(q.bufs[index]) {
		return 0, nil, false, fmt.Errorf("%w: it gave buffer %d of %d with %d bytes", ErrUnfit, index, len(q.bufs), used)
	}
	if flags&v4l2.BufFlagError != 0 {
		return 0, nil, false, fmt.Errorf("%w: a picture was damaged", ErrUnfit)
	}
	return index, q.bufs[index][from:used], true, nil
}

func (q *queue) start() error {
	return q.ioctl("start", v4l2.StreamOn, unsafe.Pointer(&q.kind))
}

// stop gives all buffers back.
func (q *queue) stop() error {
	err := q.ioctl("stop", v4l2.StreamOff, unsafe.Pointer(&q.kind))
	for _, mem := range q.bufs {
		if uerr := q.h.Unmap(mem); uerr != nil && err == nil {
			err = fmt.Errorf("unmap buffer: %w", uerr)
		}
	}
	q.bufs = nil
	r := v4l2.RequestBuffers{Type: q.typ, Memory: v4l2.MemoryMmap}
	if rerr := q.ioctl("free buffers", v4l2.ReqBufs, unsafe.Pointer(&r)); rerr != nil && err == nil {
		err = rerr
	}
	return err
}
