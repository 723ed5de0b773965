package inspect_test

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"vindu/media/camera"
	"vindu/media/inspect"
)

// picture makes one of w×h whose luma is as told.
func picture(w, h int, luma func(x, y int) uint8) *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	for y := range h {
		for x := range w {
			img.Y[img.YOffset(x, y)] = luma(x, y)
		}
	}
	return img
}

func plain(v uint8) func(x, y int) uint8 { return func(int, int) uint8 { return v } }

// checks is a chequered pattern whose edges are blurred over soft pixels.
func checks(side int, soft float64) func(x, y int) uint8 {
	wave := make([]float64, 2*side)
	for i := range wave {
		wave[i] = math.Tanh(math.Sin(math.Pi*float64(i)/float64(side)) * float64(side) / (math.Pi * soft))
	}
	return func(x, y int) uint8 { return uint8(125 + 80*wave[x%len(wave)]*wave[y%len(wave)]) }
}

func noisy(of func(x, y int) uint8, amount float64, seed uint64) func(x, y int) uint8 {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(x, y int) uint8 {
		return uint8(min(max(float64(of(x, y))+amount*random.NormFloat64(), 0), 255))
	}
}

func watch(pictures ...*image.YCbCr) inspect.Sight {
	var w inspect.Watcher
	for _, p := range pictures {
		w.Add(p)
	}
	return w.Sight()
}

func TestBrightness(t *testing.T) {
	for _, c := range []struct {
		name string
		luma uint8
		want float64
	}{
		{"black", 16, 0}, {"blacker than black", 0, 0}, {"middle", 125, 0.498}, {"white", 235, 1}, {"whiter than white", 255, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := watch(picture(640, 480, plain(c.luma)), picture(640, 480, plain(c.luma))).Brightness; math.Abs(got-c.want) > 0.01 {
				t.Errorf("%.3f, want %.3f", got, c.want)
			}
		})
	}
	if got := watch(picture(64, 48, plain(16)), picture(64, 48, plain(235))).Brightness; math.Abs(got-0.5) > 0.01 {
		t.Errorf("of a black and a white picture %.3f, want 0.5", got)
	}
}

func TestSharpness(t *testing.T) {
	for _, size := range []image.Point{{320, 240}, {640, 480}, {1280, 720}} {
		side := size.X / 16 // the same scene
		sharp := watch(picture(size.X, size.Y, checks(side, 0.3))).Sharpness
		blurred := watch(picture(size.X, size.Y, checks(side, float64(size.X)/40))).Sharpness
		through := watch(picture(size.X, size.Y, noisy(checks(side, float64(size.X)/40), 3, 1))).Sharpness
		if sharp < 20*blurred || sharp < 300 {
			t.Errorf("%v: sharp %.1f, blurred %.1f", size, sharp, blurred)
		}
		if size.X >= 640 && sharp < 5*through {
			t.Errorf("%v: sharp %.1f, blurred with noise %.1f", size, sharp, through)
		}
	}
	if got := watch(picture(640, 480, plain(125))).Sharpness; got != 0 {
		t.Errorf("of a plain picture %.3f", got)
	}
}

func TestMotion(t *testing.T) {
	shifted := checks(40, 1)
	still := picture(640, 480, shifted)
	for _, c := range []struct {
		name     string
		pictures []*image.YCbCr
		least    float64
		most     float64
	}{
		{"one picture", []*image.YCbCr{still}, 0, 0},
		{"a picture that hangs", []*image.YCbCr{still, still, still}, 0, 0},
		{"a still scene and a live sensor", []*image.YCbCr{picture(640, 480, noisy(checks(40, 1), 1.5, 1)), picture(640, 480, noisy(checks(40, 1), 1.5, 2))}, 0.5, 4},
		{"something moves once", []*image.YCbCr{still, still, picture(640, 480, func(x, y int) uint8 { return shifted(x+7, y) }), still}, 10, 100},
		{"another size is no motion", []*image.YCbCr{still, picture(320, 240, plain(16))}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := watch(c.pictures...).Motion; got < c.least || got > c.most {
				t.Errorf("%.2f, want %.2f to %.2f", got, c.least, c.most)
			}
		})
	}
}

// TestParts looks at a part of a picture, which lies in the whole one's memory, and at the smallest ones.
func TestParts(t *testing.T) {
	whole := picture(640, 480, func(x, _ int) uint8 {
		if x < 320 {
			return 16
		}
		return 235
	})
	right, ok := whole.SubImage(image.Rect(320, 100, 640, 300)).(*image.YCbCr)
	if !ok {
		t.Fatal("no part")
	}
	if got := watch(right); got.Brightness != 1 || got.Sharpness != 0 || got.Width != 320 || got.Height != 200 {
		t.Errorf("%+v", got)
	}
	for _, size := range []int{0, 1, 2, 3} {
		got := watch(picture(size, size, plain(125)), picture(size, size, plain(125)))
		if got.Sharpness != 0 || got.Motion != 0 || math.IsNaN(got.Brightness) {
			t.Errorf("%d×%d: %+v", size, size, got)
		}
	}
	if got := watch(); got != (inspect.Sight{}) {
		t.Errorf("nothing seen: %+v", got)
	}
}

// TestTestPicture: the picture that stands in for a camera looks like one.
func TestTestPicture(t *testing.T) {
	source := camera.TestPicture(camera.Config{Width: 640, Height: 480, FPS: 120})
	defer source.Close()
	var w inspect.Watcher
	for range 5 {
		img, release, err := source.Read()
		if err != nil {
			t.Fatal(err)
		}
		w.Add(img.(*image.YCbCr))
		release()
	}
	s := w.Sight()
	t.Logf("%+v", s)
	if s.Brightness < 0.1 || s.Brightness > 0.9 || s.Sharpness < 50 || s.Motion <= 0 || s.Pictures != 5 {
		t.Errorf("%+v", s)
	}
}

func TestMeasure(t *testing.T) {
	tone := func(amplitude, offset float64) []int16 {
		s := make([]int16, 48000)
		for i := range s {
			s[i] = int16(min(max(offset+amplitude*math.Sin(2*math.Pi*1000*float64(i)/48000), math.MinInt16), math.MaxInt16))
		}
		return s
	}
	for _, c := range []struct {
		name      string
		samples   []int16
		rms, peak float64
		clips     bool
	}{
		{"nothing", nil, inspect.Silence, inspect.Silence, false},
		{"zeros", make([]int16, 480), inspect.Silence, inspect.Silence, false},
		{"a constant", tone(0, 2000), inspect.Silence, inspect.Silence, false},
		{"full scale", tone(32767, 0), -3.01, 0, true},
		{"a tenth", tone(3276.8, 0), -23.01, -20, false},
		{"a tenth with an offset", tone(3276.8, 5000), -23.01, -20, false},
		{"overdriven", tone(100000, 0), -0.67, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := inspect.Measure(c.samples)
			if math.Abs(got.RMS-c.rms) > 0.1 || math.Abs(got.Peak-c.peak) > 0.1 || (got.Clipped > 0) != c.clips {
				t.Errorf("%+v, want %.2f and %.2f", got, c.rms, c.peak)
			}
		})
	}
}
