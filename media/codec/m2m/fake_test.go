package m2m

import (
	"errors"
	"image"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/codec"
)

// chip is an encoder in hardware that exists only in memory: it answers ioctls as dev-encoder.rst says that drivers do, and codes by openh264.
type chip struct {
	planar, nv12  bool // its interface, and what pictures it takes
	align         int  // of a picture's sides
	headAlone     bool // parameter sets come in a buffer of their own
	headOnce      bool // and never again
	headNever     bool // not even once
	headFirst     bool // with the first size alone, if headOnce
	lacks         map[uint32]bool
	profile       byte // in the place of what openh264 says
	pieces        uint8
	fail          map[uint32]error
	headAlways    bool // and nothing else comes
	backAlways    bool // pictures come back that are not with it
	shortSecond   bool // of the buffers of pictures
	silentFrom    int  // the picture from which on none comes out
	mu            sync.Mutex
	hang          chan struct{} // while set, queueing a picture hangs
	open, mapped  int
	opened        int
	bitrate       int32
	coded, forced int
}

func (c *chip) Nodes() []v4l2.Node { return nil }

func (c *chip) Open(string) (v4l2.Handle, error) {
	if err := c.fail[0]; err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.opened++
	return &line{c: c, wake: make(chan struct{}, 8), cancel: make(chan struct{})}, nil
}

// line is an open chip.
type line struct {
	c       *chip
	w, h    int // visible
	fw, fh  int // of the buffers
	in, out [][]byte
	done    []uint32 // pictures that were coded
	ready   []coded
	free    []uint32
	on      map[uint32]bool
	enc     codec.VideoEncoder
	img     *image.YCbCr
	pts     int64
	wake    chan struct{}
	cancel  chan struct{}
	once    sync.Once
	closed  bool
	headed  bool // parameter sets have come
	buf     []byte
}

type coded struct {
	index uint32
	used  int
}

func (l *line) round(v uint32) int {
	a := max(l.c.align, 2)
	return (int(v) + a - 1) / a * a
}

func (l *line) output(typ uint32) bool { return typ == bufTypeOutput || typ == bufTypeOutputMPlane }

func (l *line) Ioctl(request uint32, arg unsafe.Pointer) error {
	if l.closed {
		return unix.EBADF
	}
	if err := l.c.fail[request]; err != nil {
		return err
	}
	switch request {
	case v4l2.QueryCap:
		c := (*v4l2.Capability)(arg)
		copy(c.Driver[:], "chip")
		c.Capabilities, c.DeviceCaps = v4l2.CapDeviceCaps|v4l2.CapStreaming, v4l2.CapStreaming|v4l2.CapVideoM2M
		if l.c.planar {
			c.DeviceCaps = v4l2.CapStreaming | capM2MMPlane
		}
		if l.c.lacks[request] {
			c.DeviceCaps = v4l2.CapVideoCapture | v4l2.CapStreaming
		}
	case v4l2.EnumFmt:
		d := (*v4l2.FmtDesc)(arg)
		formats := []uint32{fourcc("MJPG"), fmtH264}
		if l.output(d.Type) {
			formats = []uint32{fourcc("RGB3"), fmtI420}
			if l.c.nv12 {
				formats = []uint32{fmtNV12}
			}
		}
		if int(d.Index) >= len(formats) {
			return unix.EINVAL
		}
		d.PixelFormat = formats[d.Index]
	case v4l2.SetFmt:
		return l.setFormat((*v4l2.Format)(arg))
	case setSelection:
		s := (*selection)(arg)
		l.w, l.h = int(s.Width), int(s.Height)
	case v4l2.SetParm:
	case setCtrl:
		k := (*control)(arg)
		switch {
		case l.c.lacks[k.ID]:
			return unix.EINVAL
		case k.ID == cidBitrate:
			l.c.bitrate = k.Value
			if l.enc != nil {
				l.enc.SetBitrate(int(k.Value))
			}
		case k.ID == cidForceKey:
			l.c.forced++
			l.enc.ForceKeyframe()
		}
	case v4l2.ReqBufs:
		r := (*v4l2.RequestBuffers)(arg)
		size := l.fw * l.fh * 3 / 2
		made := make([][]byte, r.Count)
		for i := range made {
			made[i] = make([]byte, size)
			if i == 1 && l.c.shortSecond && l.output(r.Type) {
				made[i] = made[i][:size/2]
			}
		}
		if l.output(r.Type) {
			l.in, l.done = made, nil
		} else {
			l.out, l.ready, l.free = made, nil, nil
		}
	case v4l2.QueryBuf:
		b := (*v4l2.Buffer)(arg)
		if l.c.planar {
			p := (*plane)((*mpBuffer)(arg).Planes)
			p.Length, p.Offset = uint32(l.fw*l.fh*3/2), l.offset(b.Type, b.Index)
		} else {
			b.Length, b.Offset = uint32(l.fw*l.fh*3/2), l.offset(b.Type, b.Index)
			if l.output(b.Type) {
				b.Length = uint32(len(l.in[b.Index]))
			}
		}
	case v4l2.StreamOn, v4l2.StreamOff:
		if request == v4l2.StreamOff && l.enc != nil && l.output(*(*uint32)(arg)) {
			l.enc.Close()
			l.enc, l.headed = nil, l.headed && l.c.headFirst
		}
	case v4l2.QBuf:
		return l.queue(arg)
	case v4l2.DQBuf:
		return l.dequeue(arg)
	default:
		return unix.ENOTTY
	}
	return nil
}

func (l *line) offset(typ, index uint32) uint32 {
	if l.output(typ) {
		return index
	}
	return 16 + index
}

func (l *line) setFormat(f *v4l2.Format) error {
	if l.c.planar {
		p := mplane(f)
		w, h := l.round(p.Width), l.round(p.Height)
		if l.output(f.Type) {
			l.w, l.h, l.fw, l.fh = int(p.Width), int(p.Height), w, h
			p.Width, p.Height = uint32(w), uint32(h)
			p.Planes[0].BytesPerLine = uint32(w)
		}
		p.NumPlanes = 1 + l.c.pieces
		return nil
	}
	w, h := l.round(f.Pix.Width), l.round(f.Pix.Height)
	if l.output(f.Type) {
		l.w, l.h, l.fw, l.fh = int(f.Pix.Width), int(f.Pix.Height), w, h
		f.Pix.Width, f.Pix.Height, f.Pix.BytesPerLine = uint32(w), uint32(h), uint32(w)
	}
	return nil
}

func (l *line) queue(arg unsafe.Pointer) error {
	b := (*v4l2.Buffer)(arg)
	if !l.output(b.Type) {
		l.free = append(l.free, b.Index)
		return nil
	}
	l.c.mu.Lock()
	hang := l.c.hang
	l.c.mu.Unlock()
	if hang != nil {
		<-hang
		return unix.EIO
	}
	l.done = append(l.done, b.Index)
	l.c.coded++
	if l.c.silentFrom > 0 && l.c.coded >= l.c.silentFrom {
		return nil
	}
	if l.enc == nil {
		e, err := codec.NewH264Encoder(codec.H264Config{Width: l.w, Height: l.h, Bitrate: int(l.c.bitrate)})
		if err != nil {
			return unix.EINVAL
		}
		l.enc, l.img, l.pts = e, image.NewYCbCr(image.Rect(0, 0, l.w, l.h), image.YCbCrSubsampleRatio420), 0
	}
	l.read(l.in[b.Index])
	f, err := l.enc.Encode(l.img, max(b.Seconds*90000+b.Micros*9/100, l.pts+1))
	l.pts = max(b.Seconds*90000+b.Micros*9/100, l.pts+1)
	if err != nil {
		return unix.EIO
	}
	l.buf = l.buf[:0]
	for nal, rest := codec.NextNAL(f.Data); nal != nil; nal, rest = codec.NextNAL(rest) {
		if t := nal[0] & 0x1f; t == 7 || t == 8 {
			if l.c.headNever || l.c.headOnce && l.headed {
				continue
			}
			if t == 7 && l.c.profile != 0 {
				nal[1] = l.c.profile
			}
		} else if len(l.buf) > 0 && l.c.headAlone {
			l.give(l.buf)
			l.buf = l.buf[:0]
		}
		l.buf = append(append(l.buf, 0, 0, 0, 1), nal...)
	}
	l.give(l.buf)
	l.headed = true
	return nil
}

// read takes the visible part of a picture.
func (l *line) read(mem []byte) {
	for y := range l.h {
		copy(l.img.Y[y*l.img.YStride:][:l.w], mem[y*l.fw:])
	}
	chroma := mem[l.fw*l.fh:]
	for y := range l.h / 2 {
		cb, cr := l.img.Cb[y*l.img.CStride:][:l.w/2], l.img.Cr[y*l.img.CStride:][:l.w/2]
		if l.c.nv12 {
			for x := range cb {
				cb[x], cr[x] = chroma[y*l.fw+2*x], chroma[y*l.fw+2*x+1]
			}
			continue
		}
		copy(cb, chroma[y*l.fw/2:])
		copy(cr, chroma[l.fw/2*(l.fh/2)+y*l.fw/2:])
	}
}

func (l *line) give(data []byte) {
	index := l.free[0]
	l.free = append(l.free[:0], l.free[1:]...)
	l.ready = append(l.ready, coded{index, copy(l.out[index], data)})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *line) dequeue(arg unsafe.Pointer) error {
	b := (*v4l2.Buffer)(arg)
	if l.output(b.Type) {
		if l.c.backAlways {
			b.Index = 1
			return nil
		}
		if len(l.done) == 0 {
			return unix.EAGAIN
		}
		b.Index = l.done[0]
		l.done = append(l.done[:0], l.done[1:]...)
		return nil
	}
	if l.c.headAlways {
		b.BytesUsed = uint32(copy(l.out[0], "\x00\x00\x01\x67\x42\xc0\x1f"))
		return nil
	}
	if len(l.ready) == 0 {
		return unix.EAGAIN
	}
	r := l.ready[0]
	l.ready = append(l.ready[:0], l.ready[1:]...)
	b.Index = r.index
	if l.c.planar {
		(*plane)((*mpBuffer)(arg).Planes).BytesUsed = uint32(r.used)
	} else {
		b.BytesUsed = uint32(r.used)
	}
	return nil
}

func (l *line) Map(offset, length uint32) ([]byte, error) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.c.mapped++
	if offset >= 16 {
		return l.out[offset-16][:length], nil
	}
	return l.in[offset][:length], nil
}

func (l *line) Unmap([]byte) error {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.c.mapped--
	return nil
}

func (l *line) Wait(timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-l.wake:
		return nil
	case <-l.cancel:
		return v4l2.ErrCancelled
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (l *line) Cancel() { l.once.Do(func() { close(l.cancel) }) }

func (l *line) Close() error {
	if l.closed {
		return errors.New("closed twice")
	}
	l.closed = true
	l.Cancel()
	if l.enc != nil {
		l.enc.Close()
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.c.open--
	return nil
}
