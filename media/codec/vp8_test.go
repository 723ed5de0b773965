package codec

import (
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"testing"
)

// painter draws a moving picture: a texture that slides, with noise in part of it, under a bar of flat colour.
type painter struct {
	tile []byte
	img  *image.YCbCr
}

func newPainter(w, h int) *painter {
	p := &painter{tile: make([]byte, 256*256), img: image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)}
	seed := uint32(1)
	for i := range p.tile {
		seed = seed*1664525 + 1013904223
		x, y := float64(i%256), float64(i/256)
		p.tile[i] = byte(128 + 50*math.Sin(x/9) + 40*math.Cos(y/13) + float64(seed>>28))
	}
	return p
}

func (p *painter) paint(n int) *image.YCbCr {
	w, h := p.img.Rect.Dx(), p.img.Rect.Dy()
	for y := range h {
		row := p.img.Y[y*p.img.YStride:][:w]
		src := p.tile[((y+n)&255)*256:][:256]
		for x := range row {
			row[x] = src[(x+3*n)&255]
		}
	}
	for y := range h / 2 {
		for x := range w / 2 {
			p.img.Cb[y*p.img.CStride+x] = byte(100 + (x+n)/8%40)
			p.img.Cr[y*p.img.CStride+x] = byte(110 + (y+n)/8%40)
		}
	}
	for y := h / 4; y < h/2; y++ {
		for x := w / 4; x < w/2; x++ {
			p.img.Y[y*p.img.YStride+x] = 81
			p.img.Cb[y/2*p.img.CStride+x/2] = 90
			p.img.Cr[y/2*p.img.CStride+x/2] = 240
		}
	}
	return p.img
}

func newVP8(t testing.TB, cfg VP8Config) (*VP8Encoder, *VP8Decoder) {
	t.Helper()
	e, err := NewVP8Encoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewVP8Decoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); d.Close() })
	return e, d
}

func TestVP8KeepsColours(t *testing.T) {
	for _, size := range []image.Point{{320, 240}, {640, 480}, {322, 182}, {16, 16}} {
		t.Run(size.String(), func(t *testing.T) {
			e, d := newVP8(t, VP8Config{Width: size.X, Height: size.Y})
			p := newPainter(size.X, size.Y)
			for i := range 10 {
				f, err := e.Encode(p.paint(i), int64(i+1)*3000)
				if err != nil {
					t.Fatal(err)
				}
				if f.Keyframe != (i == 0) {
					t.Fatalf("frame %d: keyframe %v", i, f.Keyframe)
				}
				if len(f.Data) == 0 {
					continue
				}
				img, err := d.Decode(f.Data)
				if err != nil {
					t.Fatal(err)
				}
				if img.Rect.Size() != size {
					t.Fatalf("decoded %v, want %v", img.Rect.Size(), size)
				}
				x, y := size.X*3/8, size.Y*3/8
				got := img.YCbCrAt(x, y)
				if absDiff(uint(got.Y), 81) > 20 || absDiff(uint(got.Cb), 90) > 20 || absDiff(uint(got.Cr), 240) > 25 {
					t.Fatalf("frame %d: bar is %v, want about 81 90 240", i, got)
				}
			}
		})
	}
}

// The target must hold at every frame rate, though nobody tells the encoder what the rate is.
func TestVP8HoldsBitrate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fps     int
		bitrate int
		jitter  int64 // of the time stamps, 90 kHz
		off     int   // percent
	}{
		{"30 fps", 30, 500_000, 0, 5},
		{"15 fps", 15, 300_000, 0, 5},
		{"8 fps", 8, 150_000, 0, 5},
		// libvpx takes some of it for another frame rate, and sends less for a second.
		{"30 fps with jitter", 30, 500_000, 900, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := newVP8(t, VP8Config{Width: 320, Height: 240, Bitrate: tt.bitrate})
			p := newPainter(320, 240)
			const warm, seconds = 3, 5
			bits := 0
			for i := range tt.fps * (warm + seconds) {
				pts := int64(i+1) * videoClock / int64(tt.fps)
				pts += tt.jitter * int64(i%3-1)
				f, err := e.Encode(p.paint(i), pts)
				if err != nil {
					t.Fatal(err)
				}
				if i >= tt.fps*warm {
					bits += 8 * len(f.Data)
				}
			}
			got := bits / seconds
			t.Logf("%d bit/s for %d", got, tt.bitrate)
			if got < tt.bitrate*(100-tt.off)/100 || got > tt.bitrate*(100+tt.off)/100 {
				t.Errorf("%d bit/s, want %d ±%d %%", got, tt.bitrate, tt.off)
			}
		})
	}
}

// A noisy 720p picture at the bitrate of a usual line becomes coarse, not jerky.
func TestVP8CoarseRatherThanMissing(t *testing.T) {
	const w, h, bitrate = 1280, 720, 1_250_000
	e, _ := newVP8(t, VP8Config{Width: w, Height: h, Bitrate: bitrate})
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	random := rand.New(rand.NewPCG(5, 6))
	missing := 0
	for i := range 120 {
		for y := h * 92 / 100; y < h; y++ {
			for x := w / 2; x < w; x++ {
				img.Y[y*img.YStride+x] = byte(16 + random.IntN(220))
			}
		}
		f, err := e.Encode(img, int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		if i >= 30 && len(f.Data) == 0 {
			missing++
		}
	}
	if missing > 3 {
		t.Errorf("%d of 90 pictures were dropped", missing)
	}
}

func TestVP8FollowsBitrate(t *testing.T) {
	e, _ := newVP8(t, VP8Config{Width: 320, Height: 240, Bitrate: 800_000})
	p := newPainter(320, 240)
	run := func(from int) (bits int) {
		for i := from; i < from+90; i++ {
			f, err := e.Encode(p.paint(i), int64(i+1)*3000)
			if err != nil {
				t.Fatal(err)
			}
			if f.Keyframe && i > 0 {
				t.Errorf("frame %d: a change of bitrate made a keyframe", i)
			}
			bits += 8 * len(f.Data)
		}
		return bits / 3
	}
	run(0)
	e.SetBitrate(250_000)
	run(90)
	if got := run(180); got > 280_000 {
		t.Errorf("%d bit/s after SetBitrate(250000)", got)
	}
	e.SetBitrate(800_000)
	run(270)
	if got := run(360); got < 600_000 {
		t.Errorf("%d bit/s after SetBitrate(800000)", got)
	}
}

func TestVP8FollowsSize(t *testing.T) {
	e, d := newVP8(t, VP8Config{Width: 320, Height: 240})
	pts := int64(0)
	for _, size := range []image.Point{{320, 240}, {160, 120}, {320, 240}, {640, 480}, {240, 180}} {
		p := newPainter(size.X, size.Y)
		for i := range 3 {
			pts += 3000
			f, err := e.Encode(p.paint(i), pts)
			if err != nil {
				t.Fatalf("%v: %v", size, err)
			}
			if f.Keyframe != (i == 0) {
				t.Fatalf("%v: frame %d is keyframe: %v", size, i, f.Keyframe)
			}
			img, err := d.Decode(f.Data)
			if err != nil {
				t.Fatalf("%v: %v", size, err)
			}
			if img.Rect.Size() != size {
				t.Fatalf("decoded %v, want %v", img.Rect.Size(), size)
			}
		}
	}
}

func TestVP8ForceKeyframe(t *testing.T) {
	e, _ := newVP8(t, VP8Config{Width: 320, Height: 240, Bitrate: 300_000})
	p := newPainter(320, 240)
	keys := 0
	for i := range 60 {
		if i == 30 {
			e.ForceKeyframe()
		}
		f, err := e.Encode(p.paint(i), int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		if f.Keyframe {
			keys++
			// 300 ms of the target, and what a rate control may err.
			if limit := 300_000 * maxIntraMS / 1000 / 8 * 3 / 2; i > 0 && len(f.Data) > limit {
				t.Errorf("keyframe of %d bytes, want at most %d", len(f.Data), limit)
			}
		}
	}
	if keys != 2 {
		t.Errorf("%d keyframes, want the first and the one asked for", keys)
	}
}

// The bits of a pause must not all go into the picture after it: that one would stand in the line for seconds.
func TestVP8PauseSavesNoBits(t *testing.T) {
	e, _ := newVP8(t, VP8Config{Width: 320, Height: 240, Bitrate: 300_000})
	p := newPainter(320, 240)
	if _, err := e.Encode(p.paint(0), 1); err != nil {
		t.Fatal(err)
	}
	e.ForceKeyframe()
	f, err := e.Encode(p.paint(1), 10*videoClock)
	if err != nil {
		t.Fatal(err)
	}
	if limit := 300_000 * maxIntraMS / 1000 / 8 * 3 / 2; len(f.Data) > limit {
		t.Errorf("keyframe of %d bytes after a pause, want at most %d", len(f.Data), limit)
	}
}

func TestVP8RefusesPictures(t *testing.T) {
	e, _ := newVP8(t, VP8Config{Width: 64, Height: 64})
	short := image.NewYCbCr(image.Rect(0, 0, 64, 64), image.YCbCrSubsampleRatio420)
	short.Cr = short.Cr[:100]
	for _, tt := range []struct {
		name string
		img  *image.YCbCr
		want error
	}{
		{"nil", nil, ErrPicture},
		{"4:4:4", image.NewYCbCr(image.Rect(0, 0, 64, 64), image.YCbCrSubsampleRatio444), ErrPicture},
		{"odd", image.NewYCbCr(image.Rect(0, 0, 63, 64), image.YCbCrSubsampleRatio420), ErrPicture},
		{"empty", &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, ErrPicture},
		{"short plane", short, ErrPicture},
		{"huge", image.NewYCbCr(image.Rect(0, 0, 4096, 16), image.YCbCrSubsampleRatio420), ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := e.Encode(tt.img, 3000); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	p := newPainter(64, 64)
	if _, err := e.Encode(p.paint(0), 3000); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(p.paint(1), 3000); err == nil {
		t.Error("a time stamp that stands still was taken")
	}
	e.Close()
	if _, err := e.Encode(p.paint(2), 9000); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestVP8DecoderRefuses(t *testing.T) {
	e, d := newVP8(t, VP8Config{Width: 64, Height: 64})
	p := newPainter(64, 64)
	var frames [][]byte
	for i := range 2 {
		f, err := e.Encode(p.paint(i), int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, append([]byte(nil), f.Data...))
	}
	huge := append([]byte(nil), frames[0]...)
	huge[6], huge[7] = 0xff, 0x3f
	torn := append([]byte(nil), frames[0][:12]...)
	for _, tt := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, ErrCorrupt},
		{"delta first", frames[1], ErrNotKeyframe},
		{"16383 wide", huge, ErrTooLarge},
		{"no start code", []byte{0x10, 0, 0, 1, 2, 3, 4, 5, 6, 7}, ErrCorrupt},
		{"torn keyframe", torn, ErrCorrupt},
		{"3 MB", make([]byte, 3<<20), ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := d.Decode(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	// And it recovers.
	for i, f := range frames {
		if img, err := d.Decode(f); err != nil || img == nil {
			t.Fatalf("frame %d after refusals: %v, %v", i, img, err)
		}
	}
}

func TestVP8DoesNotAllocate(t *testing.T) {
	e, d := newVP8(t, VP8Config{Width: 160, Height: 120})
	p := newPainter(160, 120)
	n := 0
	step := func() {
		n++
		p.paint(n)
		if n%7 == 0 {
			e.SetBitrate(300_000 + n*1000)
		}
		f, err := e.Encode(p.img, int64(n)*3000)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Data) == 0 {
			return
		}
		if _, err := d.Decode(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		step()
	}
	if got := testing.AllocsPerRun(100, step); got != 0 {
		t.Errorf("%v allocations per frame", got)
	}
}

func FuzzVP8Decode(f *testing.F) {
	e, err := NewVP8Encoder(VP8Config{Width: 64, Height: 48})
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	p := newPainter(64, 48)
	var key []byte
	for i := range 3 {
		fr, err := e.Encode(p.paint(i), int64(i+1)*3000)
		if err != nil {
			f.Fatal(err)
		}
		if i == 0 {
			key = append([]byte(nil), fr.Data...)
		}
		f.Add(fr.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := NewVP8Decoder()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		// Once as the first frame, once after a good one; then a good one must still decode.
		_, _ = d.Decode(data)
		_, _ = d.Decode(key)
		if img, err := d.Decode(data); err == nil && img != nil {
			if err := checkPicture(img); err != nil {
				t.Fatalf("picture %v: %v", img.Rect, err)
			}
			sum := 0
			for _, plane := range [][]byte{img.Y, img.Cb, img.Cr} {
				sum += int(plane[0]) + int(plane[len(plane)-1])
			}
			_ = sum
		}
		if img, err := d.Decode(key); err != nil || img == nil || img.Rect.Dx() != 64 {
			t.Fatalf("good keyframe after this one: %v", err)
		}
	})
}

func benchSizes(b *testing.B, f func(b *testing.B, w, h, bitrate int)) {
	for _, s := range []struct{ w, h, bitrate int }{{320, 240, 400_000}, {640, 480, 1_000_000}, {1280, 720, 1_800_000}} {
		b.Run(fmt.Sprintf("%dx%d", s.w, s.h), func(b *testing.B) { f(b, s.w, s.h, s.bitrate) })
	}
}

// loop is pictures painted beforehand, so that painting is not measured.
func loop(w, h int) []*image.YCbCr {
	p := newPainter(w, h)
	var out []*image.YCbCr
	for i := range 16 {
		// There and back, so that the loop has no cut.
		img := *p.paint(8 - max(i-8, 8-i))
		img.Y = append([]byte(nil), img.Y...)
		img.Cb = append([]byte(nil), img.Cb...)
		img.Cr = append([]byte(nil), img.Cr...)
		out = append(out, &img)
	}
	return out
}

func BenchmarkVP8Encode(b *testing.B) {
	benchSizes(b, func(b *testing.B, w, h, bitrate int) {
		e, _ := newVP8(b, VP8Config{Width: w, Height: h, Bitrate: bitrate})
		pics := loop(w, h)
		bytes, n := 0, 0
		for b.Loop() {
			f, err := e.Encode(pics[n%len(pics)], int64(n+1)*3000)
			if err != nil {
				b.Fatal(err)
			}
			bytes += len(f.Data)
			n++
		}
		b.ReportMetric(float64(bytes*8*30)/float64(n)/1000, "kbit/s@30")
	})
}

func BenchmarkVP8Decode(b *testing.B) {
	benchSizes(b, func(b *testing.B, w, h, bitrate int) {
		e, d := newVP8(b, VP8Config{Width: w, Height: h, Bitrate: bitrate})
		pics := loop(w, h)
		var frames [][]byte
		for i := range 64 {
			f, err := e.Encode(pics[i%len(pics)], int64(i+1)*3000)
			if err != nil {
				b.Fatal(err)
			}
			if len(f.Data) > 0 {
				frames = append(frames, append([]byte(nil), f.Data...))
			}
		}
		n := 0
		for b.Loop() {
			if _, err := d.Decode(frames[n%len(frames)]); err != nil {
				b.Fatal(err)
			}
			n++
		}
	})
}
