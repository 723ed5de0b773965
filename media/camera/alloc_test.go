package camera

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

// readyHandle has a picture ready in buffer 0 after each Wait, without allocating.
type readyHandle struct {
	v4l2.Handle
	size  uint32
	ready bool
}

func (h *readyHandle) Wait(time.Duration) error { h.ready = true; return nil }

func (h *readyHandle) Ioctl(request uint32, arg unsafe.Pointer) error {
	if request == v4l2.DQBuf {
		if !h.ready {
			return unix.EAGAIN
		}
		h.ready = false
		(*v4l2.Buffer)(arg).BytesUsed = h.size
	}
	return nil
}

func TestStreamAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		format yuv.Format
		w, h   int
	}{
		"YUYV": {yuv.YUYV, 640, 480}, "NV12 halved": {yuv.NV12, 320, 240}, "YU12": {yuv.YU12, 640, 480},
	} {
		t.Run(name, func(t *testing.T) {
			size := c.format.Size(0, 640, 480)
			s := &stream{
				handle: &readyHandle{size: uint32(size)}, format: c.format, memory: [][]byte{make([]byte, size)},
				pool: yuv.NewPool(c.w, c.h, 4), idle: make(chan struct{}),
			}
			if c.w != 640 {
				s.raw = yuv.New(640, 480)
			}
			if n := testing.AllocsPerRun(50, func() {
				_, release, err := s.Read()
				if err != nil {
					t.Fatal(err)
				}
				release()
			}); n != 0 {
				t.Errorf("%v allocations for each picture, want 0", n)
			}
		})
	}
}

// From the driver's buffer to the picture that the encoder gets there is one pass, whatever the camera's format is: the conversion, or for
// MJPEG the decoding, to the right size at once. An uncompressed picture of another size is scaled besides.
func TestStreamConvertsOnce(t *testing.T) {
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, image.NewYCbCr(image.Rect(0, 0, 640, 480), image.YCbCrSubsampleRatio422), nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		format yuv.Format
		w, h   int
		passes uint64
	}{
		"YUYV": {yuv.YUYV, 640, 480, 1}, "UYVY": {yuv.UYVY, 640, 480, 1}, "NV12": {yuv.NV12, 640, 480, 1}, "YU12": {yuv.YU12, 640, 480, 1},
		"MJPG": {yuv.MJPG, 640, 480, 1}, "MJPG halved": {yuv.MJPG, 320, 240, 1}, "YUYV halved": {yuv.YUYV, 320, 240, 2},
	} {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, c.format.Size(0, 640, 480))
			s := &stream{format: c.format, pool: yuv.NewPool(c.w, c.h, 4), idle: make(chan struct{})}
			if c.format.Compressed() {
				data = photo.Bytes()
				dec, err := yuv.NewDecoder()
				if err != nil {
					t.Fatal(err)
				}
				defer dec.Close()
				s.dec = dec
			} else if c.w != 640 {
				s.raw = yuv.New(640, 480)
			}
			s.handle, s.memory = &readyHandle{size: uint32(len(data))}, [][]byte{data}
			before := yuv.Passes()
			for range 5 {
				_, release, err := s.Read()
				if err != nil {
					t.Fatal(err)
				}
				release()
			}
			if got := yuv.Passes() - before; got != 5*c.passes {
				t.Errorf("%d passes for 5 pictures, want %d each", got, c.passes)
			}
		})
	}
}
