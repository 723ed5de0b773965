package display

import (
	"context"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/media/yuv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	red   = color.RGBA{R: 255, A: 255}
	green = color.RGBA{G: 255, A: 255}
	blue  = color.RGBA{B: 255, A: 255}
	white = color.RGBA{R: 255, G: 255, B: 255, A: 255}
	black = color.RGBA{A: 255}
)

func scene(w, h int, c color.Color) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(img, img.Rect, image.NewUniform(c), image.Point{}, draw.Src)
	return img
}

// picture is white on the left half, black on the right.
func picture(w, h int) *image.YCbCr {
	img := yuv.New(w, h)
	_ = yuv.Fill(img, image.Rect(0, 0, w/2, h), 235, 128, 128)
	return img
}

func plain(w, h int, y uint8) *image.YCbCr {
	img := yuv.New(w, h)
	_ = yuv.Fill(img, img.Rect, y, 128, 128)
	return img
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, m *Memory, x, y int, c color.RGBA) {
	t.Helper()
	got := m.Snapshot().RGBAAt(x, y)
	if far(got.R, c.R) || far(got.G, c.G) || far(got.B, c.B) || got.A != 255 {
		t.Errorf("pixel (%d,%d) is %v, want %v", x, y, got, c)
	}
}

func far(a, b uint8) bool { return max(int(a)-int(b), int(b)-int(a)) > 3 }

func TestLayers(t *testing.T) {
	m := NewMemory(320, 180)
	d := New(m)
	ok(t, d.Paint())
	want(t, m, 0, 0, black)

	// Scene alone; far and self have rectangles but no pictures yet.
	farRect, selfRect := image.Rect(20, 10, 300, 170), image.Rect(220, 100, 300, 160)
	ok(t, d.SetScene(scene(320, 180, red), farRect, selfRect))
	ok(t, d.Paint())
	want(t, m, 0, 0, red)
	want(t, m, 160, 90, red)

	// Far is letterboxed: 4:3 in 280×160 is 212×160 or so.
	ok(t, d.Far(picture(64, 48)))
	ok(t, d.Paint())
	want(t, m, 0, 0, red)
	want(t, m, 22, 90, black)  // bar
	want(t, m, 60, 90, white)  // left half
	want(t, m, 250, 90, black) // right half

	// Self lies above, mirrored.
	ok(t, d.Self(picture(64, 48)))
	ok(t, d.Paint())
	want(t, m, 225, 130, black)
	want(t, m, 295, 130, white)

	// A new far picture does not cover self.
	ok(t, d.Far(plain(64, 48, 235)))
	ok(t, d.Paint())
	want(t, m, 225, 130, black)
	want(t, m, 180, 90, white)

	// A changed scene does not cover either, even under them.
	ok(t, d.SetScene(scene(320, 180, blue), farRect, selfRect))
	ok(t, d.Paint())
	want(t, m, 0, 0, blue)
	want(t, m, 60, 90, white)
	want(t, m, 22, 90, black)
	want(t, m, 225, 130, black)

	// Without self, the far picture is whole again.
	ok(t, d.Self(nil))
	ok(t, d.Paint())
	want(t, m, 225, 130, white)

	// Without rectangles, pictures are dropped.
	ok(t, d.SetScene(scene(320, 180, green), image.Rectangle{}, image.Rectangle{}))
	ok(t, d.Far(plain(64, 48, 235)))
	ok(t, d.Self(plain(64, 48, 235)))
	ok(t, d.Paint())
	want(t, m, 60, 90, green)
	want(t, m, 225, 130, green)

	if c := d.Frames(); c.FarIn != 3 || c.FarShown != 2 || c.SelfIn != 3 || c.SelfShown != 1 {
		t.Errorf("counters %+v", c)
	}
}

// The face of one call must not be seen at the start of the next.
func TestPicturesAreForgottenWithTheirRectangle(t *testing.T) {
	m := NewMemory(320, 180)
	d := New(m)
	full := image.Rect(0, 0, 320, 180)
	ok(t, d.SetScene(scene(320, 180, red), full, image.Rectangle{}))
	ok(t, d.Far(plain(320, 180, 235)))
	ok(t, d.Paint())
	want(t, m, 160, 90, white)
	ok(t, d.SetScene(scene(320, 180, red), image.Rectangle{}, image.Rectangle{}))
	ok(t, d.SetScene(scene(320, 180, red), full, image.Rectangle{}))
	ok(t, d.Paint())
	want(t, m, 160, 90, red)
	if d.far.next != nil || d.far.shown != nil {
		t.Error("the picture is still in memory")
	}
}

func TestMovedRectangleKeepsPicture(t *testing.T) {
	m := NewMemory(320, 180)
	d := New(m)
	ok(t, d.SetScene(scene(320, 180, red), image.Rect(0, 0, 160, 90), image.Rectangle{}))
	ok(t, d.Far(plain(160, 90, 235)))
	ok(t, d.Paint())
	ok(t, d.SetScene(scene(320, 180, red), image.Rect(160, 90, 320, 180), image.Rectangle{}, image.Rect(0, 0, 1, 1)))
	ok(t, d.Paint())
	want(t, m, 80, 45, red)
	want(t, m, 240, 135, white)
}

// oldBuffers is a Device that hands out its buffers in turn, as a page-flipping one does, and shows
// nothing but the dirty parts of what is presented.
type oldBuffers struct {
	*Memory
	buffers [][]byte
	n       int
	lie     bool // say that content is undefined, and make it so
}

func (o *oldBuffers) Frame() ([]byte, int, int) {
	w, _ := o.Size()
	i, age := o.n%len(o.buffers), len(o.buffers)
	if o.lie || o.n < len(o.buffers) {
		for k := range o.buffers[i] {
			o.buffers[i][k] = 0x5A
		}
		age = 0
	}
	return o.buffers[i], w * 4, age
}

func (o *oldBuffers) Present(dirty []image.Rectangle) error {
	w, h := o.Size()
	from := o.buffers[o.n%len(o.buffers)]
	to, _, _ := o.Memory.Frame()
	for _, r := range dirty {
		r = r.Intersect(image.Rect(0, 0, w, h))
		for y := r.Min.Y; y < r.Max.Y; y++ {
			copy(to[(y*w+r.Min.X)*4:(y*w+max(r.Min.X, r.Max.X))*4], from[(y*w+r.Min.X)*4:])
		}
	}
	o.n++
	return o.Memory.Present(dirty)
}

// Whatever happens in whatever order, every kind of Device shows the same as one that is
// repainted from nothing each time.
func TestAllBufferingsShowTheSame(t *testing.T) {
	const w, h = 96, 64
	random := rand.New(rand.NewPCG(1, 2))
	memories := map[string]*Memory{}
	displays := map[string]*Display{}
	for name, n := range map[string]int{"memory": 0, "single": 1, "double": 2, "triple": 3, "undefined": 1, "many": 6} {
		m := NewMemory(w, h)
		memories[name] = m
		var dev Device = m
		if n > 0 {
			o := &oldBuffers{Memory: m, lie: name == "undefined"}
			for range n {
				o.buffers = append(o.buffers, make([]byte, w*h*4))
			}
			dev = o
		}
		displays[name] = New(dev)
	}
	rect := func() image.Rectangle {
		if random.IntN(4) == 0 {
			return image.Rectangle{}
		}
		x, y := random.IntN(w), random.IntN(h)
		return image.Rect(x, y, x+random.IntN(w), y+random.IntN(h))
	}
	back := scene(w, h, red)
	farRect, selfRect := rect(), rect()
	all := func(step int, f func(*Display) error) {
		for name, d := range displays {
			if err := f(d); err != nil {
				t.Fatalf("step %d, %s: %v", step, name, err)
			}
		}
	}
	for step := range 600 {
		switch random.IntN(7) {
		case 0, 1:
			var dirty []image.Rectangle
			for range random.IntN(20) {
				r := rect()
				c := color.RGBA{uint8(random.IntN(256)), uint8(random.IntN(256)), uint8(random.IntN(256)), 255}
				draw.Draw(back, r, image.NewUniform(c), image.Point{}, draw.Src)
				dirty = append(dirty, r)
			}
			all(step, func(d *Display) error { return d.SetScene(back, farRect, selfRect, dirty...) })
		case 2:
			farRect, selfRect = rect(), rect()
			all(step, func(d *Display) error { return d.SetScene(back, farRect, selfRect, image.Rect(0, 0, 1, 1)) })
		case 3, 4:
			img := plain(16+2*random.IntN(9), 16, uint8(16+random.IntN(220)))
			all(step, func(d *Display) error { return d.Far(img) })
		case 5:
			img := picture(16, 12+2*random.IntN(3))
			all(step, func(d *Display) error { return d.Self(img) })
		case 6:
			if random.IntN(4) == 0 {
				all(step, func(d *Display) error { return d.Far(nil) })
			}
		}
		if random.IntN(2) == 0 {
			continue // let changes pile up
		}
		all(step, (*Display).Paint)
		reference := memories["undefined"].Snapshot()
		for name, m := range memories {
			got := m.Snapshot()
			for i := range got.Pix {
				if got.Pix[i] != reference.Pix[i] {
					t.Fatalf("step %d: %s differs at pixel (%d,%d)", step, name, i/4%w, i/4/w)
				}
			}
		}
	}
}

func TestRunPaintsAndJoinsFarAndSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(64, 48)
		d := New(m)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		full := image.Rect(0, 0, 64, 48)
		ok(t, d.SetScene(scene(64, 48, red), full, image.Rect(0, 0, 16, 12)))
		synctest.Wait()
		before := d.Frames().Presented
		if before < 1 {
			t.Fatal("the scene was not painted")
		}
		ok(t, d.Self(plain(16, 12, 16)))
		synctest.Wait()
		if got := d.Frames().Presented; got != before {
			t.Error("self was painted without waiting for far")
		}
		ok(t, d.Far(plain(64, 48, 235)))
		synctest.Wait()
		if c := d.Frames(); c.Presented != before+1 || c.SelfShown != 1 || c.FarShown != 1 {
			t.Errorf("self and far were not painted together: %+v, before %d", c, before)
		}
		ok(t, d.Self(plain(16, 12, 16)))
		<-time.After(selfDelay)
		synctest.Wait()
		if c := d.Frames(); c.SelfShown != 2 {
			t.Errorf("self alone was not painted: %+v", c)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestRunEndsWhenTheScreenFails(t *testing.T) {
	d := New(NewMemory(64, 48))
	ok(t, d.Close())
	if err := d.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

func TestWrongPicturesAreRefused(t *testing.T) {
	d := New(NewMemory(64, 48))
	ok(t, d.SetScene(scene(64, 48, red), image.Rect(0, 0, 64, 48), image.Rectangle{}))
	small := scene(63, 48, red)
	if err := d.SetScene(small, image.Rectangle{}, image.Rectangle{}); !errors.Is(err, yuv.ErrShape) {
		t.Errorf("scene of another size: %v", err)
	}
	if err := d.Far(&image.YCbCr{}); !errors.Is(err, yuv.ErrShape) {
		t.Errorf("empty picture: %v", err)
	}
}

func TestMemoryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(8, 8)
		result := make(chan error)
		wait := func(ctx context.Context, seen uint64) {
			_, err := m.Wait(ctx, seen)
			result <- err
		}
		go wait(t.Context(), 0)
		synctest.Wait()
		ok(t, m.Present(nil))
		ok(t, <-result)

		ctx, cancel := context.WithCancel(t.Context())
		go wait(ctx, 1)
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		go wait(t.Context(), 1)
		synctest.Wait()
		ok(t, m.Close())
		ok(t, m.Close())
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

func call(tb testing.TB) (*Display, func()) {
	m := NewMemory(1280, 720)
	d := New(m)
	if err := d.SetScene(scene(1280, 720, red), image.Rect(0, 0, 1280, 720), image.Rect(1000, 540, 1240, 720)); err != nil {
		tb.Fatal(err)
	}
	farImg, selfImg := picture(640, 480), picture(640, 480)
	return d, func() {
		if err := errors.Join(d.Far(farImg), d.Self(selfImg), d.Paint()); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestNothingIsAllocatedForAFrame(t *testing.T) {
	_, frame := call(t)
	if n := testing.AllocsPerRun(20, frame); n != 0 {
		t.Errorf("%v allocations for each frame, want 0", n)
	}
}

func BenchmarkCall640x480On1280x720(b *testing.B) {
	_, frame := call(b)
	b.ReportAllocs()
	for b.Loop() {
		frame()
	}
}

func BenchmarkFar640x480On1280x720(b *testing.B) {
	d, _ := call(b)
	img := picture(640, 480)
	b.ReportAllocs()
	for b.Loop() {
		if err := errors.Join(d.Far(img), d.Paint()); err != nil {
			b.Fatal(err)
		}
	}
}
