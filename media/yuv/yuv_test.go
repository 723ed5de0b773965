package yuv

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"testing"
)

// halves returns a picture whose left half is (200, 100, 150) and whose right half is (60, 160, 90).
func halves(w, h int) *image.YCbCr {
	img := New(w, h)
	must(Fill(img, image.Rect(0, 0, w/2, h), 200, 100, 150))
	must(Fill(img, image.Rect(w/2, 0, w, h), 60, 160, 90))
	return img
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func wantAt(t *testing.T, img *image.YCbCr, x, y int, want color.YCbCr, tolerance int) {
	t.Helper()
	got := img.YCbCrAt(img.Rect.Min.X+x, img.Rect.Min.Y+y)
	if far(got.Y, want.Y, tolerance) || far(got.Cb, want.Cb, tolerance) || far(got.Cr, want.Cr, tolerance) {
		t.Errorf("pixel (%d,%d) = %v, want %v ±%d", x, y, got, want, tolerance)
	}
}

func far(a, b uint8, tolerance int) bool { return max(int(a)-int(b), int(b)-int(a)) > tolerance }

var (
	left  = color.YCbCr{Y: 200, Cb: 100, Cr: 150}
	right = color.YCbCr{Y: 60, Cb: 160, Cr: 90}
)

func TestScaleKeepsContent(t *testing.T) {
	for name, c := range map[string]struct {
		w, h int
		f    Filter
	}{
		"half, box":          {320, 240, Box},
		"up, bilinear":       {1280, 720, Bilinear},
		"odd size, bilinear": {333, 201, Bilinear},
		"tiny, fast":         {8, 6, Fast},
		"same":               {640, 480, Box},
	} {
		t.Run(name, func(t *testing.T) {
			dst := New(c.w, c.h)
			if err := Scale(dst, halves(640, 480), c.f); err != nil {
				t.Fatal(err)
			}
			for _, y := range []int{0, c.h / 2, c.h - 1} {
				wantAt(t, dst, 0, y, left, 1)
				wantAt(t, dst, c.w-1, y, right, 1)
			}
		})
	}
}

func TestMirror(t *testing.T) {
	dst := New(64, 48)
	must(Mirror(dst, halves(64, 48)))
	wantAt(t, dst, 0, 10, right, 0)
	wantAt(t, dst, 63, 10, left, 0)
}

func TestSubImagesAreWrittenInPlace(t *testing.T) {
	whole := New(640, 480)
	part := whole.SubImage(image.Rect(100, 50, 420, 290)).(*image.YCbCr)
	must(Scale(part, halves(64, 48), Bilinear))
	wantAt(t, whole, 99, 60, color.YCbCr{Y: 16, Cb: 128, Cr: 128}, 0)
	wantAt(t, whole, 100, 60, left, 0)
	wantAt(t, whole, 419, 60, right, 0)
	wantAt(t, whole, 420, 60, color.YCbCr{Y: 16, Cb: 128, Cr: 128}, 0)
	wantAt(t, whole, 200, 290, color.YCbCr{Y: 16, Cb: 128, Cr: 128}, 0)
}

func TestFillCutsToPicture(t *testing.T) {
	img := New(64, 48)
	must(Fill(img, image.Rect(-10, -10, 9, 9), 100, 90, 80))
	wantAt(t, img, 9, 9, color.YCbCr{Y: 100, Cb: 90, Cr: 80}, 0)
	wantAt(t, img, 10, 9, color.YCbCr{Y: 16, Cb: 128, Cr: 128}, 0)
	must(Fill(img, image.Rect(500, 500, 600, 600), 1, 2, 3))
	odd := New(7, 5)
	must(Fill(odd, odd.Rect, 77, 78, 79))
	wantAt(t, odd, 6, 4, color.YCbCr{Y: 77, Cb: 78, Cr: 79}, 0)
}

func TestToBGRXUsesLimitedRange(t *testing.T) {
	for name, c := range map[string]struct {
		in      color.YCbCr
		r, g, b uint8
	}{
		"black": {color.YCbCr{Y: 16, Cb: 128, Cr: 128}, 0, 0, 0},
		"white": {color.YCbCr{Y: 235, Cb: 128, Cr: 128}, 255, 255, 255},
		"red":   {color.YCbCr{Y: 81, Cb: 90, Cr: 240}, 254, 0, 0},
		"blue":  {color.YCbCr{Y: 41, Cb: 240, Cr: 110}, 0, 0, 255},
	} {
		t.Run(name, func(t *testing.T) {
			img := New(16, 8)
			must(Fill(img, img.Rect, c.in.Y, c.in.Cb, c.in.Cr))
			buf := make([]byte, 80*8)
			if err := ToBGRX(buf, 80, img); err != nil {
				t.Fatal(err)
			}
			px := buf[3*80+4*15:]
			if far(px[0], c.b, 3) || far(px[1], c.g, 3) || far(px[2], c.r, 3) || px[3] != 255 {
				t.Errorf("B G R X = %v, want %d %d %d 255", px[:4], c.b, c.g, c.r)
			}
			if buf[64] != 0 {
				t.Error("wrote beyond the row")
			}
		})
	}
}

// As large as it is, enlarged, to exactly twice the size, and reduced: the same picture, and nothing beyond its rows.
func TestPainter(t *testing.T) {
	var pt Painter
	src := halves(64, 48)
	for _, size := range []image.Point{{64, 48}, {160, 120}, {128, 96}, {64, 100}, {33, 21}} {
		stride := size.X*4 + 12
		buf := bytes.Repeat([]byte{0x5A}, size.Y*stride)
		if err := pt.Paint(buf, stride, size.X, size.Y, src, Bilinear); err != nil {
			t.Fatal(err)
		}
		for y := range size.Y {
			row := buf[y*stride:][:stride]
			if l, r := row[4*(size.X/4)+1], row[4*(size.X*3/4)+1]; l < 150 || r > 100 {
				t.Errorf("%v, row %d: green is %d on the left and %d on the right", size, y, l, r)
			}
			if beyond := row[size.X*4:]; !bytes.Equal(beyond, buf[size.X*4:][:12]) || beyond[0] != 0x5A {
				t.Fatalf("%v: wrote beyond row %d", size, y)
			}
		}
	}
	pt.Forget()
	if pt.tmp != nil || pt.pixels != nil {
		t.Error("the last picture is kept")
	}
}

func TestSwapRB(t *testing.T) {
	src := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	must(SwapRB(src, 8, src, 8, 2, 1))
	if want := [8]byte{3, 2, 1, 4, 7, 6, 5, 8}; [8]byte(src) != want {
		t.Errorf("got %v, want %v", src, want)
	}
}

func TestWrongShapesAreRefused(t *testing.T) {
	good := New(64, 48)
	shifted := *good
	shifted.Rect = shifted.Rect.Add(image.Pt(1, 0))
	short := *good
	short.Cr = short.Cr[:len(short.Cr)-40]
	narrow := *good
	narrow.YStride = 63
	wide := image.NewYCbCr(image.Rect(0, 0, 64, 48), image.YCbCrSubsampleRatio422)
	for name, bad := range map[string]*image.YCbCr{
		"nil": nil, "zero": {}, "odd origin": &shifted, "short plane": &short, "stride": &narrow, "4:2:2": wide,
	} {
		t.Run(name, func(t *testing.T) {
			buf := make([]byte, 64*48*4)
			for op, err := range map[string]error{
				"scale to": Scale(bad, good, Box), "scale from": Scale(good, bad, Box), "copy": Copy(good, bad),
				"mirror": Mirror(bad, good), "fill": Fill(bad, good.Rect, 0, 0, 0), "bgrx": ToBGRX(buf, 256, bad),
				"raw": FromRaw(bad, YUYV, buf, 0), "limit": Limit(bad),
			} {
				if !errors.Is(err, ErrShape) {
					t.Errorf("%s: error %v, want ErrShape", op, err)
				}
			}
		})
	}
	if err := ToBGRX(make([]byte, 64*48*4-1), 256, good); !errors.Is(err, ErrShape) {
		t.Errorf("short BGRX buffer: error %v", err)
	}
	if err := Copy(New(66, 48), good); !errors.Is(err, ErrShape) {
		t.Errorf("copy to another size: error %v", err)
	}
}

func TestFit(t *testing.T) {
	for name, c := range map[string]struct {
		w, h int
		in   image.Rectangle
		want image.Rectangle
	}{
		"4:3 in 16:9":       {640, 480, image.Rect(0, 0, 1280, 720), image.Rect(160, 0, 1120, 720)},
		"16:9 in 4:3":       {1280, 720, image.Rect(0, 0, 640, 480), image.Rect(0, 60, 640, 420)},
		"same":              {640, 480, image.Rect(8, 8, 648, 488), image.Rect(8, 8, 648, 488)},
		"empty":             {640, 480, image.Rectangle{}, image.Rectangle{}},
		"too small":         {640, 480, image.Rect(0, 0, 1, 1), image.Rectangle{}},
		"odd edges":         {640, 480, image.Rect(3, 3, 7, 7), image.Rect(3, 4, 7, 6)},
		"odd edges, filled": {2, 2, image.Rect(3, 3, 5, 5), image.Rect(3, 3, 5, 5)},
	} {
		t.Run(name, func(t *testing.T) {
			got := Fit(c.w, c.h, c.in)
			if got != c.want || !got.In(c.in) {
				t.Errorf("Fit(%d, %d, %v) = %v, want %v", c.w, c.h, c.in, got, c.want)
			}
		})
	}
}

func TestPool(t *testing.T) {
	pool := NewPool(64, 48, 2)
	a, releaseA := pool.Get()
	b, releaseB := pool.Get()
	if a == b {
		t.Fatal("the same picture was lent twice")
	}
	releaseA()
	releaseA()
	c, releaseC := pool.Get()
	d, releaseD := pool.Get()
	if c != a || d == a || d == b {
		t.Fatal("a picture given back twice was lent twice")
	}
	for _, release := range []func(){releaseB, releaseC, releaseD} {
		release()
	}
	if n := len(pool.free); n != 2 {
		t.Errorf("pool keeps %d pictures, want its limit of 2", n)
	}
	if err := Check(a); err != nil {
		t.Error(err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	src, same, half := halves(640, 480), New(640, 480), New(320, 240)
	raw := make([]byte, 640*480*2)
	bgrx := make([]byte, 1280*720*4)
	pool := NewPool(640, 480, 4)
	data := encode(t, 640, 480)
	dec := decoder(t)
	var pt Painter
	for name, f := range map[string]func(){
		"scale":   func() { must(Scale(half, src, Box)) },
		"copy":    func() { must(Copy(same, src)) },
		"mirror":  func() { must(Mirror(same, src)) },
		"yuyv":    func() { must(FromRaw(same, YUYV, raw, 0)) },
		"nv12":    func() { must(FromRaw(same, NV12, raw, 0)) },
		"jpeg":    func() { must(dec.Decode(same, data)) },
		"to bgrx": func() { must(ToBGRX(bgrx, 1280*4, src)) },
		"paint":   func() { must(pt.Paint(bgrx, 1280*4, 960, 720, src, Bilinear)) },
		"pool":    func() { _, release := pool.Get(); release() },
	} {
		if n := testing.AllocsPerRun(20, f); n != 0 {
			t.Errorf("%s: %v allocations for each frame, want 0", name, n)
		}
	}
}

func benchSizes(b *testing.B, f func(b *testing.B, w, h int)) {
	b.Run("640x480", func(b *testing.B) { f(b, 640, 480) })
	b.Run("1280x720", func(b *testing.B) { f(b, 1280, 720) })
}

func BenchmarkFromYUYV(b *testing.B) { benchRaw(b, YUYV) }
func BenchmarkFromNV12(b *testing.B) { benchRaw(b, NV12) }
func BenchmarkFromYU12(b *testing.B) { benchRaw(b, YU12) }

func benchRaw(b *testing.B, f Format) {
	benchSizes(b, func(b *testing.B, w, h int) {
		dst, raw := New(w, h), make([]byte, f.Size(0, w, h))
		b.ReportAllocs()
		for b.Loop() {
			must(FromRaw(dst, f, raw, 0))
		}
	})
}

func BenchmarkDecodeJPEG(b *testing.B) {
	benchSizes(b, func(b *testing.B, w, h int) {
		dst, data, dec := New(w, h), encode(b, w, h), decoder(b)
		b.ReportAllocs()
		for b.Loop() {
			must(dec.Decode(dst, data))
		}
	})
}

func BenchmarkDecodeJPEGHalved(b *testing.B) {
	dst, data, dec := New(640, 360), encode(b, 1280, 720), decoder(b)
	b.ReportAllocs()
	for b.Loop() {
		must(dec.Decode(dst, data))
	}
}

func BenchmarkToBGRX(b *testing.B) {
	benchSizes(b, func(b *testing.B, w, h int) {
		src, dst := halves(w, h), make([]byte, w*h*4)
		b.ReportAllocs()
		for b.Loop() {
			must(ToBGRX(dst, w*4, src))
		}
	})
}

func BenchmarkPaint640x480To960x720(b *testing.B) {
	var pt Painter
	src, dst := halves(640, 480), make([]byte, 1280*720*4)
	b.ReportAllocs()
	for b.Loop() {
		must(pt.Paint(dst, 1280*4, 960, 720, src, Bilinear))
	}
}

func BenchmarkHalve640x480(b *testing.B) {
	src, dst := halves(640, 480), New(320, 240)
	b.ReportAllocs()
	for b.Loop() {
		must(Scale(dst, src, Box))
	}
}

// What is enlarged row by row has its corners in the corners, and in between is what lies between, for odd sizes as well.
func TestEnlarge(t *testing.T) {
	for _, size := range [][4]int{{640, 480, 960, 720}, {5, 3, 17, 11}, {2, 2, 3, 9}, {1, 1, 7, 5}, {3, 8, 3, 9}, {63, 35, 64, 36}} {
		sw, sh, w, h := size[0], size[1], size[2], size[3]
		src := New(sw, sh)
		for y := range sh {
			for x := range sw {
				src.Y[y*src.YStride+x] = byte(30 + 180*x/max(sw-1, 1)/2 + 180*y/max(sh-1, 1)/2)
			}
		}
		stride := w*4 + 8
		dst, small := bytes.Repeat([]byte{77}, stride*h), make([]byte, sw*sh*4)
		must(ToBGRX(small, sw*4, src))
		var pt Painter
		must(pt.Paint(dst, stride, w, h, src, Box))
		at := func(n, from, to int) int { return (n*(from-1) + (to-1)/2) / max(to-1, 1) }
		for y := range h {
			for x := range w {
				got, want := int(dst[y*stride+4*x+1]), int(small[at(y, sh, h)*sw*4+4*at(x, sw, w)+1])
				if limit := 6 + 120/min(max(sw-1, 1), max(sh-1, 1)); got < want-limit || got > want+limit {
					t.Fatalf("%v: %d at %d, %d, want about %d", size, got, x, y, want)
				}
			}
			if !bytes.Equal(dst[y*stride+4*w:(y+1)*stride], bytes.Repeat([]byte{77}, 8)) {
				t.Fatalf("%v: row %d goes beyond its end", size, y)
			}
		}
	}
}
