//go:build lab

package camera_test

import (
	"os"
	"testing"

	"vindu/media/camera"
	"vindu/media/camera/cameratest"
	"vindu/media/camera/v4l2"
)

// realCamera is the device that the lab names, such as /dev/video0.
func realCamera(t *testing.T) string {
	path := os.Getenv("VINDU_LAB_CAMERA")
	if path == "" {
		t.Fatal("VINDU_LAB_CAMERA does not name a camera")
	}
	return path
}

func TestRealContract(t *testing.T) {
	path := realCamera(t)
	cameratest.Contract(t, v4l2.System{}, path, func() int { return cameratest.Held(path) },
		func(t *testing.T, f func(*testing.T)) { f(t) })
}

func TestRealStreamAllocatesNothing(t *testing.T) {
	s, err := camera.Open(t.Context(), camera.Config{Device: realCamera(t), Width: 320, Height: 240, FPS: 15})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := testing.AllocsPerRun(30, func() {
		_, release, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		release()
	}); n != 0 {
		t.Errorf("%v allocations for each picture, want 0", n)
	}
}
