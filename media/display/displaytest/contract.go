package displaytest

import (
	"errors"
	"image"
	"os"
	"path/filepath"
	"testing"

	"vindu/media/display"
	"vindu/media/display/drm"
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

// Contract checks what every screen must do. held says how often the card is open now. look,
// if not nil, returns the colour that the screen shows at a point.
func Contract(t *testing.T, k drm.Kernel, cfg display.Config, held func() int, look func(x, y int) (r, g, b uint8)) {
	open := func(t *testing.T) display.Device {
		t.Helper()
		d, err := display.OpenDRMOn(t.Context(), k, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(d.Close(), d.Close()); err != nil {
				t.Errorf("Close: %v", err)
			}
			if n := held(); n != 0 {
				t.Errorf("the card is open %d times after Close", n)
			}
			if err := d.Present(nil); !errors.Is(err, display.ErrClosed) {
				t.Errorf("Present after Close: %v, want ErrClosed", err)
			}
		})
		return d
	}
	t.Run("has a size", func(t *testing.T) {
		d := open(t)
		if w, h := d.Size(); w < 320 || h < 200 || w > 1920 || h > 1200 {
			t.Errorf("%d×%d", w, h)
		}
		if n := held(); n != 1 {
			t.Errorf("the card is open %d times, want once", n)
		}
	})
	t.Run("is busy for a second user", func(t *testing.T) {
		open(t)
		if second, err := display.OpenDRMOn(t.Context(), k, cfg); !errors.Is(err, display.ErrBusy) {
			if err == nil {
				second.Close()
			}
			t.Errorf("error %v, want ErrBusy", err)
		}
	})
	t.Run("shows what is composed", func(t *testing.T) {
		dev := open(t)
		w, h := dev.Size()
		d := display.New(dev)
		scene := image.NewRGBA(image.Rect(0, 0, w, h))
		for i := 0; i < len(scene.Pix); i += 4 {
			scene.Pix[i], scene.Pix[i+3] = 200, 255
		}
		far := image.Rect(w/4, h/4, 3*w/4, 3*h/4)
		if err := d.SetScene(scene, far, image.Rectangle{}); err != nil {
			t.Fatal(err)
		}
		img := yuv.New(far.Dx()&^1, far.Dy()&^1)
		for i := range 12 { // more than there are buffers
			y := uint8(16)
			if i%2 == 1 {
				y = 235
			}
			if err := errors.Join(yuv.Fill(img, img.Rect, y, 128, 128), d.Far(img), d.Paint()); err != nil {
				t.Fatal(err)
			}
		}
		dev.Frame() // the last picture is on the screen once the next can be painted
		if look == nil {
			return
		}
		if r, g, b := look(2, 2); r < 195 || r > 205 || g > 5 || b > 5 {
			t.Errorf("the scene is (%d,%d,%d), want (200,0,0)", r, g, b)
		}
		if r, g, b := look(w/2, h/2); r < 250 || g < 250 || b < 250 {
			t.Errorf("the far picture is (%d,%d,%d), want white", r, g, b)
		}
		if c := d.Frames(); c.Presented != 12 || c.FarShown != 12 {
			t.Errorf("counters %+v", c)
		}
	})
	t.Run("opens again and again", func(t *testing.T) {
		for range 4 {
			d, err := display.OpenDRMOn(t.Context(), k, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("allocates nothing", func(t *testing.T) {
		d := display.New(open(t))
		w, h := d.Size()
		if err := d.SetScene(image.NewRGBA(image.Rect(0, 0, w, h)), image.Rect(0, 0, w, h), image.Rectangle{}); err != nil {
			t.Fatal(err)
		}
		img := yuv.New(320, 240)
		if n := testing.AllocsPerRun(10, func() {
			if err := errors.Join(d.Far(img), d.Paint()); err != nil {
				t.Fatal(err)
			}
		}); n != 0 && look == nil { // the fake's own clock allocates
			t.Errorf("%v allocations for each picture, want 0", n)
		}
	})
}
