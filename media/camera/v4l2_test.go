package camera_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/camera"
	"vindu/media/camera/cameratest"
	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

// webcam is what a common USB camera offers.
func webcam() *cameratest.Camera {
	return &cameratest.Camera{Name: "Webcam", Modes: []cameratest.Mode{
		{Format: yuv.YUYV, Width: 640, Height: 480, FPS: []int{30, 15}},
		{Format: yuv.YUYV, Width: 320, Height: 240, FPS: []int{30, 15, 5}},
		{Format: yuv.YUYV, Width: 1280, Height: 720, FPS: []int{10, 5}},
		{Format: yuv.MJPG, Width: 640, Height: 480, FPS: []int{30}},
		{Format: yuv.MJPG, Width: 1280, Height: 720, FPS: []int{30}},
		{Format: yuv.MJPG, Width: 1920, Height: 1080, FPS: []int{30}},
	}}
}

// vivid is what the kernel's virtual camera offers as a webcam.
func vivid() *cameratest.Camera {
	c := &cameratest.Camera{Name: "vivid"}
	for _, f := range []yuv.Format{yuv.YUYV, yuv.UYVY, 0x50424752 /* RGBP */, yuv.NV12, yuv.NV21, yuv.YU12} {
		c.Modes = append(c.Modes,
			cameratest.Mode{Format: f, Width: 320, Height: 180, FPS: []int{30, 25, 15, 10, 5}},
			cameratest.Mode{Format: f, Width: 640, Height: 480, FPS: []int{25, 15, 10, 5}})
	}
	return c
}

func sensor() *cameratest.Camera {
	return &cameratest.Camera{Name: "sensor", Stepwise: true, Padding: 32, Modes: []cameratest.Mode{
		{Format: yuv.NV12, Width: 1920, Height: 1080},
	}}
}

func bubble(t *testing.T, f func(*testing.T)) { synctest.Test(t, f) }

func TestContract(t *testing.T) {
	for name, c := range map[string]*cameratest.Camera{"vivid": vivid(), "sensor": sensor(), "webcam": webcam()} {
		t.Run(name, func(t *testing.T) {
			k := cameratest.New()
			k.Plug("/dev/video0", c)
			cameratest.Contract(t, k, "/dev/video0", k.Opened, bubble)
			if k.Mapped() != 0 {
				t.Errorf("%d buffers are still mapped", k.Mapped())
			}
		})
	}
}

func TestNegotiation(t *testing.T) {
	type want struct {
		format        string
		width, height int
		fps           float64
	}
	small := &cameratest.Camera{Name: "small", Modes: []cameratest.Mode{{Format: yuv.YU12, Width: 320, Height: 240, FPS: []int{30}}}}
	wide := &cameratest.Camera{Name: "wide", Modes: []cameratest.Mode{{Format: yuv.NV12, Width: 1280, Height: 720, FPS: []int{30}}}}
	odd := &cameratest.Camera{Name: "odd", Modes: []cameratest.Mode{{Format: yuv.YUYV, Width: 642, Height: 482, FPS: []int{30}}}}
	for name, c := range map[string]struct {
		camera *cameratest.Camera
		w, h   int
		fps    int
		want   want
	}{
		"raw before compressed":             {webcam(), 640, 480, 30, want{"YUYV", 640, 480, 30}},
		"compressed where raw is slow":      {webcam(), 1280, 720, 30, want{"MJPG", 1280, 720, 30}},
		"the exact small size":              {webcam(), 320, 240, 30, want{"YUYV", 320, 240, 30}},
		"the rate asked for":                {webcam(), 640, 480, 15, want{"YUYV", 640, 480, 15}},
		"cheapest conversion":               {vivid(), 640, 480, 25, want{"YU12", 640, 480, 25}},
		"halved rather than another shape":  {vivid(), 320, 240, 15, want{"YU12", 320, 240, 15}},
		"a little slower rather than small": {vivid(), 640, 480, 30, want{"YU12", 640, 480, 25}},
		"steps":                             {sensor(), 640, 480, 20, want{"NV12", 640, 480, 20}},
		"never enlarged":                    {small, 1280, 720, 30, want{"YU12", 320, 240, 30}},
		"reduced, aspect kept":              {wide, 640, 480, 30, want{"NV12", 640, 360, 30}},
		"pictures passed over":              {wide, 1280, 720, 10, want{"NV12", 1280, 720, 10}},
		"a hair larger":                     {odd, 640, 480, 30, want{"YUYV", 640, 480, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			k := cameratest.New()
			k.Plug("/dev/video0", c.camera)
			s, err := camera.OpenOn(t.Context(), k, camera.Config{Width: c.w, Height: c.h, FPS: c.fps})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			info := s.Info()
			if got := (want{info.Format, info.Width, info.Height, info.FPS}); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Every format must arrive with its colours in the right places.
func TestColours(t *testing.T) {
	picture := func(n int, m cameratest.Mode, stride int) []byte {
		const y, cb, cr = 100, 60, 200
		data := make([]byte, m.Format.Size(stride, m.Width, m.Height))
		fill := func(part []byte, pattern ...byte) {
			for i := range part {
				part[i] = pattern[i%len(pattern)]
			}
		}
		luma := stride * m.Height
		switch m.Format {
		case yuv.YUYV:
			fill(data, y, cb, y, cr)
		case yuv.UYVY:
			fill(data, cb, y, cr, y)
		case yuv.NV12:
			fill(data[:luma], y)
			fill(data[luma:], cb, cr)
		case yuv.NV21:
			fill(data[:luma], y)
			fill(data[luma:], cr, cb)
		case yuv.YU12, yuv.YV12:
			half := (len(data) - luma) / 2
			fill(data[:luma], y)
			first, second := byte(cb), byte(cr)
			if m.Format == yuv.YV12 {
				first, second = second, first
			}
			fill(data[luma:luma+half], first)
			fill(data[luma+half:], second)
		case yuv.MJPG:
			img := image.NewYCbCr(image.Rect(0, 0, m.Width, m.Height), image.YCbCrSubsampleRatio420)
			fill(img.Y, 98) // full range, so 16 + 98×219/255 = 100
			fill(img.Cb, 51)
			fill(img.Cr, 210)
			var b bytes.Buffer
			if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 100}); err != nil {
				panic(err)
			}
			return b.Bytes()
		}
		return data
	}
	for _, format := range []yuv.Format{yuv.YUYV, yuv.UYVY, yuv.NV12, yuv.NV21, yuv.YU12, yuv.YV12, yuv.MJPG} {
		for name, c := range map[string]struct{ w, h, padding int }{
			"as is": {320, 240, 0}, "padded": {320, 240, 64}, "halved": {160, 120, 0},
		} {
			t.Run(format.String()+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := cameratest.New()
					k.Plug("/dev/video0", &cameratest.Camera{
						Name: "one", Picture: picture, Padding: c.padding,
						Modes: []cameratest.Mode{{Format: format, Width: 320, Height: 240, FPS: []int{30}}},
					})
					s, err := camera.OpenOn(t.Context(), k, camera.Config{Width: c.w, Height: c.h})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					img, _, err := s.Read()
					if err != nil {
						t.Fatal(err)
					}
					for _, at := range []image.Point{{0, 0}, {c.w - 1, c.h - 1}, {c.w / 2, 3}} {
						got := img.At(at.X, at.Y).(color.YCbCr)
						if got.Y < 99 || got.Y > 101 || got.Cb < 59 || got.Cb > 61 || got.Cr < 199 || got.Cr > 201 {
							t.Errorf("pixel %v is %v", at, got)
						}
					}
				})
			})
		}
	}
}

func TestOpenErrors(t *testing.T) {
	metadata := &cameratest.Camera{Name: "metadata", Index: 1, Modes: webcam().Modes}
	encoder := &cameratest.Camera{Name: "encoder", Modes: webcam().Modes, Capabilities: v4l2.CapVideoM2M | v4l2.CapStreaming}
	bayer := &cameratest.Camera{Name: "bayer", Modes: []cameratest.Mode{{Format: 0x31384142, Width: 640, Height: 480}}}
	for name, c := range map[string]struct {
		plug   map[string]*cameratest.Camera
		fail   map[uint32]error
		device string
		want   error
	}{
		"no camera at all":         {nil, nil, "auto", camera.ErrNotFound},
		"no such device":           {map[string]*cameratest.Camera{"/dev/video0": webcam()}, nil, "/dev/video7", camera.ErrNotFound},
		"metadata only":            {map[string]*cameratest.Camera{"/dev/video1": metadata}, nil, "auto", camera.ErrNotFound},
		"an encoder":               {map[string]*cameratest.Camera{"/dev/video0": encoder}, nil, "auto", camera.ErrUnsupported},
		"no format understood":     {map[string]*cameratest.Camera{"/dev/video0": bayer}, nil, "/dev/video0", camera.ErrUnsupported},
		"forbidden":                {map[string]*cameratest.Camera{"/dev/video0": {Name: "x", OpenError: unix.EACCES}}, nil, "/dev/video0", fs.ErrPermission},
		"busy at open":             {map[string]*cameratest.Camera{"/dev/video0": {Name: "x", OpenError: unix.EBUSY}}, nil, "auto", camera.ErrBusy},
		"busy at buffers":          {map[string]*cameratest.Camera{"/dev/video0": webcam()}, map[uint32]error{v4l2.ReqBufs: unix.EBUSY}, "auto", camera.ErrBusy},
		"busy at start":            {map[string]*cameratest.Camera{"/dev/video0": webcam()}, map[uint32]error{v4l2.StreamOn: unix.EBUSY}, "auto", camera.ErrBusy},
		"no V4L2 device":           {map[string]*cameratest.Camera{"/dev/video0": webcam()}, map[uint32]error{v4l2.QueryCap: unix.ENOTTY}, "/dev/video0", camera.ErrUnsupported},
		"unplugged while it opens": {map[string]*cameratest.Camera{"/dev/video0": webcam()}, map[uint32]error{v4l2.QBuf: unix.ENODEV}, "/dev/video0", camera.ErrGone},
	} {
		t.Run(name, func(t *testing.T) {
			k := cameratest.New()
			for path, cam := range c.plug {
				k.Plug(path, cam)
				for request, err := range c.fail {
					cam.SetFail(request, err)
				}
			}
			s, err := camera.OpenOn(t.Context(), k, camera.Config{Device: c.device})
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if k.Opened() != 0 || k.Mapped() != 0 {
				t.Errorf("%d devices open, %d buffers mapped after the failure", k.Opened(), k.Mapped())
			}
		})
	}
}

func TestAutoPassesOverWhatIsNoCamera(t *testing.T) {
	k := cameratest.New()
	k.Plug("/dev/video0", &cameratest.Camera{Name: "encoder", Modes: webcam().Modes, Capabilities: v4l2.CapVideoM2M | v4l2.CapStreaming})
	k.Plug("/dev/video1", webcam())
	k.Plug("/dev/video2", &cameratest.Camera{Name: "metadata", Index: 1})
	s, err := camera.OpenOn(t.Context(), k, camera.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Info().Path; got != "/dev/video1" {
		t.Errorf("opened %s", got)
	}
	var listed []string
	for _, info := range camera.ListOn(k) {
		listed = append(listed, info.Path)
	}
	if !slices.Equal(listed, []string{"/dev/video0", "/dev/video1"}) {
		t.Errorf("listed %v", listed)
	}
}

// Promise 1: nothing but Open opens a camera.
func TestListOpensNothing(t *testing.T) {
	k := cameratest.New()
	k.Plug("/dev/video0", webcam())
	camera.ListOn(k)
	if n := k.Opens(); n != 0 {
		t.Errorf("List opened %d devices", n)
	}
}

// running starts a fake webcam inside the caller's bubble.
func running(t *testing.T, c *cameratest.Camera) (*cameratest.Kernel, camera.Source) {
	t.Helper()
	k := cameratest.New()
	k.Plug("/dev/video0", c)
	s, err := camera.OpenOn(t.Context(), k, camera.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, release, err := s.Read(); err != nil {
		t.Fatal(err)
	} else {
		release()
	}
	return k, s
}

func closed(t *testing.T, k *cameratest.Kernel, s camera.Source) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if k.Opened() != 0 || k.Mapped() != 0 {
		t.Errorf("%d devices open, %d buffers mapped after Close", k.Opened(), k.Mapped())
	}
}

func TestUnplugged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := webcam()
		k, s := running(t, c)
		failed := make(chan error)
		c.Stall(true)
		go func() {
			_, _, err := s.Read()
			failed <- err
		}()
		synctest.Wait()
		c.Unplug()
		if err := <-failed; !errors.Is(err, camera.ErrGone) {
			t.Errorf("error %v, want ErrGone", err)
		}
		closed(t, k, s)
		if _, err := camera.OpenOn(t.Context(), k, camera.Config{}); !errors.Is(err, camera.ErrNotFound) {
			t.Errorf("open again: %v, want ErrNotFound", err)
		}
		k.Plug("/dev/video0", webcam())
		again, err := camera.OpenOn(t.Context(), k, camera.Config{})
		if err != nil {
			t.Fatalf("plugged in again: %v", err)
		}
		closed(t, k, again)
	})
}

func TestStalledCameraTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := webcam()
		k, s := running(t, c)
		c.Stall(true)
		start := time.Now()
		if _, _, err := s.Read(); !errors.Is(err, camera.ErrTimeout) {
			t.Errorf("error %v, want ErrTimeout", err)
		}
		if got := time.Since(start); got < time.Second || got > 3*time.Second {
			t.Errorf("gave up after %v", got)
		}
		closed(t, k, s)
	})
}

func TestSignalLossIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := webcam()
		k, s := running(t, c)
		c.SetFail(v4l2.DQBuf, unix.EIO)
		time.AfterFunc(time.Second, func() { c.SetFail(v4l2.DQBuf, nil) })
		if _, _, err := s.Read(); err != nil {
			t.Errorf("a second of EIO ended the stream: %v", err)
		}
		c.SetFail(v4l2.DQBuf, unix.EIO)
		if _, _, err := s.Read(); !errors.Is(err, camera.ErrTimeout) {
			t.Errorf("EIO for good: %v, want ErrTimeout", err)
		}
		closed(t, k, s)
	})
}

// Close must give the camera back even when the driver never returns.
func TestCloseWhileDriverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := webcam()
		k, s := running(t, c)
		release := c.Hang()
		failed := make(chan error)
		go func() {
			_, _, err := s.Read()
			failed <- err
		}()
		synctest.Wait()
		if err := s.Close(); !errors.Is(err, camera.ErrTimeout) {
			t.Errorf("Close: %v, want ErrTimeout", err)
		}
		if n := k.Opened(); n != 0 {
			t.Fatalf("the camera is open %d times after Close", n)
		}
		if k.Mapped() == 0 {
			t.Error("buffers were unmapped under a running Read")
		}
		release()
		if err := <-failed; !errors.Is(err, camera.ErrClosed) {
			t.Errorf("Read: %v, want ErrClosed", err)
		}
		if n := k.Mapped(); n != 0 {
			t.Errorf("%d buffers are mapped after Read came back", n)
		}
	})
}

func TestOpenWhileDriverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &slowKernel{Kernel: cameratest.New(), release: make(chan struct{})}
		k.Plug("/dev/video0", webcam())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := camera.OpenOn(ctx, k, camera.Config{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
		close(k.release)
		synctest.Wait()
		if k.Opens() != 1 || k.Opened() != 0 {
			t.Errorf("opened %d times, %d of them still open", k.Opens(), k.Opened())
		}
	})
}

type slowKernel struct {
	*cameratest.Kernel
	release chan struct{}
}

func (k *slowKernel) Open(path string) (v4l2.Handle, error) {
	<-k.release
	return k.Kernel.Open(path)
}

func TestDamagedPicturesAreDropped(t *testing.T) {
	short := func(n int, m cameratest.Mode, stride int) []byte {
		size := m.Format.Size(stride, m.Width, m.Height)
		if n%3 == 1 {
			return make([]byte, size/2)
		}
		return make([]byte, size)
	}
	for name, c := range map[string]func(*cameratest.Camera){
		"cut short": func(c *cameratest.Camera) { c.Picture = short },
		"flagged": func(c *cameratest.Camera) {
			c.Mangle = func(b *v4l2.Buffer) {
				if b.Sequence%3 == 1 {
					b.Flags |= v4l2.BufFlagError
				}
			}
		},
		"empty": func(c *cameratest.Camera) {
			c.Mangle = func(b *v4l2.Buffer) {
				if b.Sequence%3 == 1 {
					b.BytesUsed = 0
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cam := webcam()
				c(cam)
				k, s := running(t, cam)
				for range 9 {
					if _, release, err := s.Read(); err != nil {
						t.Fatal(err)
					} else {
						release()
					}
				}
				if st := s.(camera.Counter).Stats(); st.Frames != 10 || st.Damaged != 5 || st.Lost != 0 {
					t.Errorf("stats %+v, want 10 frames, 5 damaged", st)
				}
				closed(t, k, s)
			})
		})
	}
}

func TestLyingDriverIsNotBelieved(t *testing.T) {
	for name, mangle := range map[string]func(*v4l2.Buffer){
		"index":  func(b *v4l2.Buffer) { b.Index = 77 },
		"length": func(b *v4l2.Buffer) { b.BytesUsed = 1 << 30 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := webcam()
				k, s := running(t, c)
				c.Mangle = mangle
				if _, _, err := s.Read(); !errors.Is(err, camera.ErrUnsupported) {
					t.Errorf("error %v, want ErrUnsupported", err)
				}
				closed(t, k, s)
			})
		})
	}
}

// A slow reader must see what is now, not what was.
func TestSlowReaderGetsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cameratest.Camera{Name: "one", Modes: []cameratest.Mode{{Format: yuv.YU12, Width: 64, Height: 48, FPS: []int{30}}}}
		_, s := running(t, c)
		defer s.Close()
		<-time.After(95 * time.Millisecond) // pictures 1 and 2 are ready, 3 is due in 5 ms
		img, _, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		if got := img.(*image.YCbCr).Y[0]; got != 2 {
			t.Errorf("got picture %d, want 2, the newest", got)
		}
		if st := s.(camera.Counter).Stats(); st.Skipped != 1 || st.Lost != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// The same on this machine's kernel: what is no camera is refused and not kept open.
func TestRealKernelRefusesWhatIsNoCamera(t *testing.T) {
	path := filepath.Join(t.TempDir(), "video0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{"a pipe": {path, camera.ErrUnsupported}, "nothing": {path + "x", camera.ErrNotFound}} {
		if _, err := camera.Open(t.Context(), camera.Config{Device: c.path}); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if n := cameratest.Held(c.path); n != 0 {
			t.Errorf("%s is open %d times", name, n)
		}
	}
}

// A camera that only knows 30 pictures a second must not flood a reader who asked for 10.
func TestTooFastCameraIsThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := cameratest.New()
		k.Plug("/dev/video0", &cameratest.Camera{
			Name: "fast", Modes: []cameratest.Mode{{Format: yuv.YU12, Width: 64, Height: 48, FPS: []int{30}}},
		})
		s, err := camera.OpenOn(t.Context(), k, camera.Config{FPS: 10})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 31 {
			if _, release, err := s.Read(); err != nil {
				t.Fatal(err)
			} else {
				release()
			}
		}
		if got := time.Since(start).Round(100 * time.Millisecond); got != 3*time.Second {
			t.Errorf("31 pictures at 10 per second took %v", got)
		}
		if st := s.(camera.Counter).Stats(); st.Skipped != 60 || st.Lost != 0 {
			t.Errorf("stats %+v, want 60 skipped", st)
		}
		closed(t, k, s)
	})
}

func TestCloseDoesNotWaitForAPicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := webcam()
		k, s := running(t, c)
		c.Stall(true)
		ended := make(chan error)
		go func() {
			_, _, err := s.Read()
			ended <- err
		}()
		synctest.Wait()
		start := time.Now()
		closed(t, k, s)
		if got := time.Since(start); got != 0 {
			t.Errorf("Close took %v", got)
		}
		if err := <-ended; !errors.Is(err, camera.ErrClosed) {
			t.Errorf("Read: %v, want ErrClosed", err)
		}
	})
}

func TestPicturesThatTheDriverLostAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := webcam()
		c.Mangle = func(b *v4l2.Buffer) { b.Sequence = b.Sequence * 3 }
		k, s := running(t, c)
		for range 5 {
			if _, release, err := s.Read(); err != nil {
				t.Fatal(err)
			} else {
				release()
			}
		}
		if st := s.(camera.Counter).Stats(); st.Lost != 10 {
			t.Errorf("stats %+v, want 10 lost", st)
		}
		closed(t, k, s)
	})
}
