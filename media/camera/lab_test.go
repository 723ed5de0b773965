//go:build lab

package camera_test

import (
	"errors"
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

// TestRealUnplugged takes the camera from its driver while it films, and gives it back, two hundred times: each time reading ends by ErrGone, nothing stays open, and
// the camera films again.
func TestRealUnplugged(t *testing.T) {
	path := realCamera(t)
	plug := func(file string) {
		t.Helper()
		if err := os.WriteFile("/sys/bus/platform/drivers/vivid/"+file, []byte("vivid.0"), 0o200); err != nil {
			t.Fatal(err)
		}
	}
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := 0
	for n := range 200 {
		s, err := camera.Open(t.Context(), camera.Config{Device: path, Width: 320, Height: 240, FPS: 15})
		if err != nil {
			t.Fatalf("plugged in %d times: %v", n, err)
		}
		_, release, err := s.Read()
		if err != nil {
			t.Fatalf("plugged in %d times: %v", n, err)
		}
		release()
		plug("unbind")
		for err == nil {
			if _, release, err = s.Read(); err == nil {
				release()
			}
		}
		if !errors.Is(err, camera.ErrGone) {
			t.Errorf("pulled out %d times: %v, want ErrGone", n+1, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("pulled out %d times: close: %v", n+1, err)
		}
		if held := cameratest.Held(path); held != 0 {
			t.Errorf("pulled out %d times: %d hold it", n+1, held)
		}
		plug("bind")
		if t.Failed() {
			return
		}
		if n == 0 {
			before = open()
		}
	}
	if now := open(); now > before {
		t.Errorf("%d files are open, after the first time %d", now, before)
	}
}
