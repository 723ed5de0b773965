package camera

import (
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
