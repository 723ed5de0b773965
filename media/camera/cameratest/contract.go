package cameratest

import (
	"errors"
	"image"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vindu/media/camera"
	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

// Held returns how often this process has path open, by /proc/self/fd.
func Held(path string) int {
	links, _ := filepath.Glob("/proc/self/fd/*")
	n := 0
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == path {
			n++
		}
	}
	return n
}

// Contract checks what every camera must do. run makes it run where time is right: in a bubble
// for a fake, as it is for a real one. held says how often the camera is open now.
func Contract(t *testing.T, k v4l2.Kernel, path string, held func() int, run func(*testing.T, func(*testing.T))) {
	cfg := camera.Config{Device: path, Width: 320, Height: 240, FPS: 15}
	open := func(t *testing.T, cfg camera.Config) camera.Source {
		t.Helper()
		s, err := camera.OpenOn(t.Context(), k, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	part := func(name string, f func(*testing.T)) {
		t.Run(name, func(t *testing.T) {
			run(t, f)
			if n := held(); n != 0 {
				t.Errorf("the camera is still open %d times afterwards", n)
			}
		})
	}

	part("is listed and not opened", func(t *testing.T) {
		found := false
		for _, info := range camera.ListOn(k) {
			found = found || info.Path == path
		}
		if !found {
			t.Errorf("%s is not in the list", path)
		}
		if n := held(); n != 0 {
			t.Errorf("List left the camera open %d times", n)
		}
	})
	part("delivers what Info says", func(t *testing.T) {
		s := open(t, cfg)
		defer s.Close()
		info := s.Info()
		if info.Path != path || info.Name == "" || info.Format == "" || info.Synthetic || info.FPS <= 0 || info.FPS > 15 {
			t.Errorf("Info %+v", info)
		}
		if info.Width > 320 || info.Height > 240 {
			t.Errorf("pictures of %d×%d are larger than asked", info.Width, info.Height)
		}
		if n := held(); n != 1 {
			t.Errorf("the camera is open %d times, want once", n)
		}
		for range 5 {
			img, release, err := s.Read()
			if err != nil {
				t.Fatal(err)
			}
			if size := img.Bounds().Size(); size != image.Pt(info.Width, info.Height) {
				t.Errorf("picture of %v, Info says %d×%d", size, info.Width, info.Height)
			}
			if err := yuv.Check(img.(*image.YCbCr)); err != nil {
				t.Error(err)
			}
			release()
		}
		if st := s.(camera.Counter).Stats(); st.Frames != 5 || st.Damaged != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	part("never delivers more than the rate", func(t *testing.T) {
		slow := cfg
		slow.FPS = 5
		s := open(t, slow)
		defer s.Close()
		var first time.Time
		for i := range 6 {
			_, release, err := s.Read()
			if err != nil {
				t.Fatal(err)
			}
			release()
			if i == 0 {
				first = time.Now()
			}
		}
		if got := time.Since(first); got < 800*time.Millisecond {
			t.Errorf("five pictures at 5 per second came within %v", got)
		}
	})
	part("is busy for a second user", func(t *testing.T) {
		s := open(t, cfg)
		defer s.Close()
		if second, err := camera.OpenOn(t.Context(), k, cfg); !errors.Is(err, camera.ErrBusy) {
			if err == nil {
				second.Close()
			}
			t.Errorf("error %v, want ErrBusy", err)
		}
		if n := held(); n != 1 {
			t.Errorf("the camera is open %d times, want once", n)
		}
	})
	part("lets a waiting Read go when closed", func(t *testing.T) {
		s := open(t, cfg)
		ended := make(chan error)
		go func() {
			for {
				_, release, err := s.Read()
				if err != nil {
					ended <- err
					return
				}
				release()
			}
		}()
		<-time.After(200 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := held(); n != 0 {
			t.Errorf("the camera is open %d times after Close", n)
		}
		if err := <-ended; !errors.Is(err, camera.ErrClosed) {
			t.Errorf("Read ended with %v, want ErrClosed", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if _, _, err := s.Read(); !errors.Is(err, camera.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
	})
	part("opens again and again", func(t *testing.T) {
		for range 5 {
			s := open(t, cfg)
			if _, release, err := s.Read(); err != nil {
				t.Fatal(err)
			} else {
				release()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	part("survives a reader that stalls and keeps pictures", func(t *testing.T) {
		s := open(t, cfg)
		defer s.Close()
		for range 8 { // more than there are buffers, none released
			if _, _, err := s.Read(); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Second)
		for range 3 {
			if _, _, err := s.Read(); err != nil {
				t.Fatal(err)
			}
		}
		st := s.(camera.Counter).Stats()
		if st.Lost+st.Skipped == 0 {
			t.Errorf("a second without reading lost nothing: %+v", st)
		}
	})
}
