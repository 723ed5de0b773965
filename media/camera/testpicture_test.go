package camera

import (
	"errors"
	"image"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/media/yuv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func read(t *testing.T, s Source) (*image.YCbCr, func()) {
	t.Helper()
	img, release, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	return img.(*image.YCbCr), release
}

func TestTestPictureShowsBarsClockAndMovement(t *testing.T) {
	for name, cfg := range map[string]Config{
		"default": {}, "320x240": {Width: 320, Height: 240, FPS: 15},
		"720p": {Width: 1280, Height: 720}, "tiny": {Width: 16, Height: 16}, "tall": {Width: 240, Height: 640},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := TestPicture(cfg)
				defer s.Close()
				info := s.Info()
				if !info.Synthetic {
					t.Error("Info does not say that the picture is synthetic")
				}
				first, release := read(t, s)
				w, h := first.Rect.Dx(), first.Rect.Dy()
				if w != info.Width || h != info.Height {
					t.Fatalf("picture is %d×%d, Info says %d×%d", w, h, info.Width, info.Height)
				}
				for i, want := range Bars {
					if got := first.YCbCrAt((2*i+1)*w/16, h/4); got != want {
						t.Errorf("bar %d is %v, want %v", i, got, want)
					}
				}
				before := append([]byte(nil), first.Y...)
				release()
				for range int(info.FPS) { // a second later clock and square differ
					_, release := read(t, s)
					release()
				}
				after, release := read(t, s)
				defer release()
				changed := func(r image.Rectangle) bool {
					for y := r.Min.Y; y < r.Max.Y; y++ {
						for x := r.Min.X; x < r.Max.X; x++ {
							if before[y*after.YStride+x] != after.Y[y*after.YStride+x] {
								return true
							}
						}
					}
					return false
				}
				if w >= 64 && !changed(image.Rect(0, h/2, w, h*8/10)) {
					t.Error("the clock stands still")
				}
				if !changed(image.Rect(0, h*8/10, w, h)) {
					t.Error("the square stands still")
				}
				if changed(image.Rect(0, 0, w, h/2)) {
					t.Error("the bars move")
				}
			})
		})
	}
}

// The clock must be legible: every digit's dots are found where its glyph says.
func TestTestPictureClockIsRight(t *testing.T) {
	s := TestPicture(Config{Width: 640, Height: 480}).(*testPicture)
	defer s.Close()
	img := yuv.New(640, 480)
	s.draw(img, time.Date(2026, 1, 2, 13, 47, 58, 0, time.Local))
	x := s.clock.X
	for _, c := range []byte("13:47:58") {
		for row, bits := range glyphs[c] {
			for col := range 5 {
				lit := img.YCbCrAt(x+col*s.cell+s.cell/2, s.clock.Y+row*s.cell+s.cell/2).Y > 128
				if want := bits&(0x10>>col) != 0; lit != want {
					t.Fatalf("%c: dot %d,%d lit %v, want %v", c, col, row, lit, want)
				}
			}
		}
		x += 6 * s.cell
	}
	if s.cell < 8 {
		t.Errorf("dots of %d pixels at 640×480: too small to read across a room", s.cell)
	}
}

func TestTestPictureIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := TestPicture(Config{Width: 64, Height: 48, FPS: 25})
		defer s.Close()
		start := time.Now()
		for range 26 {
			_, release := read(t, s)
			release()
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("26 pictures at 25 per second took %v, want 1s", got)
		}
		<-time.After(2 * time.Second) // a reader that stalls
		late := time.Now()
		read(t, s)
		if got := time.Since(late); got != 0 {
			t.Errorf("a late reader waited %v for its picture", got)
		}
		read(t, s)
		if got := time.Since(late); got > 40*time.Millisecond {
			t.Errorf("the picture after it came after %v: the pace was lost", got)
		}
		if st := s.(Counter).Stats(); st.Frames != 28 || st.Skipped != 49 {
			t.Errorf("stats %+v, want 28 frames and 49 skipped", st)
		}
	})
}

func TestTestPictureCloseUnblocksRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := TestPicture(Config{FPS: 1, Width: 64, Height: 48})
		read(t, s)
		failed := make(chan error)
		go func() {
			_, _, err := s.Read()
			failed <- err
		}()
		synctest.Wait()
		s.Close()
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("waiting Read returned %v, want ErrClosed", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if _, _, err := s.Read(); !errors.Is(err, ErrClosed) {
			t.Errorf("Read after Close returned %v", err)
		}
	})
}

func TestTestPictureAllocatesNothing(t *testing.T) {
	s := TestPicture(Config{Width: 640, Height: 480, FPS: 120}).(*testPicture)
	defer s.Close()
	s.start = time.Now().Add(-time.Hour) // always late: no waiting
	if n := testing.AllocsPerRun(50, func() {
		s.start = s.start.Add(-time.Second)
		_, release, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		release()
	}); n != 0 {
		t.Errorf("%v allocations for each picture, want 0", n)
	}
}

func TestConfigNormal(t *testing.T) {
	for name, c := range map[string]struct{ in, want Config }{
		"zero":     {Config{}, Config{"auto", 640, 480, 30}},
		"odd":      {Config{"/dev/video0", 641, 481, 15}, Config{"/dev/video0", 640, 480, 15}},
		"too much": {Config{"auto", 1 << 20, 1 << 20, 1000}, Config{"auto", 4096, 4096, 120}},
		"negative": {Config{"auto", -1, -1, -1}, Config{"auto", 640, 480, 30}},
	} {
		if got := c.in.normal(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func BenchmarkTestPicture640x480(b *testing.B) {
	s := TestPicture(Config{}).(*testPicture)
	img := yuv.New(640, 480)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.draw(img, now)
	}
}
