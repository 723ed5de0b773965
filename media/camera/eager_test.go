package camera

import (
	"testing"
	"time"
	"unsafe"

	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

// eagerHandle is a camera that always has another picture.
type eagerHandle struct {
	queued []uint32
	taken  int
	t      *testing.T
}

func (h *eagerHandle) Ioctl(request uint32, arg unsafe.Pointer) error {
	switch request {
	case v4l2.ReqBufs:
		(*v4l2.RequestBuffers)(arg).Count = buffers
	case v4l2.QueryBuf:
		b := (*v4l2.Buffer)(arg)
		b.Length, b.Offset = uint32(yuv.YU12.Size(0, 64, 48)), b.Index<<16
	case v4l2.QBuf:
		h.queued = append(h.queued, (*v4l2.Buffer)(arg).Index)
	case v4l2.DQBuf:
		if h.taken++; h.taken > 1000 {
			h.t.Fatal("1000 pictures were taken for one Read")
		}
		b := (*v4l2.Buffer)(arg)
		b.Index, h.queued = h.queued[0], h.queued[1:]
		b.BytesUsed, b.Sequence = uint32(yuv.YU12.Size(0, 64, 48)), uint32(h.taken)
	}
	return nil
}

func (h *eagerHandle) Map(_, length uint32) ([]byte, error) { return make([]byte, length), nil }
func (h *eagerHandle) Unmap([]byte) error                   { return nil }
func (h *eagerHandle) Wait(time.Duration) error             { return nil }
func (h *eagerHandle) Cancel()                              {}
func (h *eagerHandle) Close() error                         { return nil }

// Read takes the newest picture, but a driver that never runs out of newer ones must not keep it, and so Close, for ever.
func TestReadOfACameraThatIsAlwaysReady(t *testing.T) {
	h := &eagerHandle{t: t}
	s, err := newStream(h, Info{}, mode{yuv.YU12, 64, 48, 30}, v4l2.PixFormat{BytesPerLine: 64}, Config{Width: 64, Height: 48, FPS: 30})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		_, release, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	if n := len(h.queued); n != buffers {
		t.Errorf("the driver has %d of %d buffers", n, buffers)
	}
}
