package session

import (
	"errors"
	"image"
	"testing"
	"testing/synctest"
	"time"

	"vindu/media/camera"
	"vindu/media/camera/cameratest"
	"vindu/media/yuv"
)

// plugged is a camera of the kernel's stand-in as a session sees it.
type plugged struct{ camera.Source }

// Read implements Camera.
func (p plugged) Read() (image.Image, func(), error) { return p.Source.Read() }

// A camera that is pulled out in a call two hundred times is back in it each time, within 3 s of being plugged in, and nothing is left open for it.
func TestCameraUnpluggedTwoHundredTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const times = 200
		kernel := cameratest.New()
		webcam := func() *cameratest.Camera {
			return &cameratest.Camera{Name: "Webcam", Modes: []cameratest.Mode{{Format: yuv.YUYV, Width: 320, Height: 240, FPS: []int{15}}}}
		}
		now := kernel.Plug("/dev/video0", webcam())
		filming(t, func(int) (Camera, error) {
			source, err := camera.OpenOn(t.Context(), kernel, camera.Config{})
			if err != nil {
				return nil, err
			}
			return plugged{source}, nil
		}, func(s *Session, screen *shown) {
			pictures := func() int64 { <-time.After(3 * time.Second); synctest.Wait(); return screen.n.Load() }
			pictures()
			for n := range times {
				now.Unplug()
				synctest.Wait()
				if kernel.Opened() != 0 || kernel.Mapped() != 0 {
					t.Fatalf("pulled out %d times: %d devices open, %d buffers mapped", n+1, kernel.Opened(), kernel.Mapped())
				}
				<-time.After(time.Duration(n%7) * time.Second) // it is away for a while
				away := screen.n.Load()
				now = kernel.Plug("/dev/video0", webcam())
				if pictures() <= away {
					t.Fatalf("plugged in %d times: no picture within 3 s", n+1)
				}
			}
			for len(s.events) > 0 {
				e := <-s.events
				if e.Kind == CameraLost && !errors.Is(e.Err, camera.ErrGone) && !errors.Is(e.Err, camera.ErrNotFound) {
					t.Errorf("lost by %v", e.Err)
				}
			}
		})
		if kernel.Opened() != 0 || kernel.Mapped() != 0 {
			t.Errorf("afterwards %d devices open, %d buffers mapped", kernel.Opened(), kernel.Mapped())
		}
	})
}
