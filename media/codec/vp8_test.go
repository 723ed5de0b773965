package codec_test

import (
	"errors"
	"image"
	"math/rand/v2"
	"testing"

	"vindu/media/codec"
	"vindu/media/codec/codectest"
)

func TestVP8Contract(t *testing.T) {
	codectest.Run(t, codectest.Subject{
		New: func(t testing.TB, c codectest.Config) codec.VideoEncoder {
			e, err := codec.NewVP8Encoder(codec.VP8Config{Width: c.Width, Height: c.Height, FPS: c.FPS, Bitrate: c.Bitrate})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		Decoder: func(t testing.TB) codec.VideoDecoder {
			d, err := codec.NewVP8Decoder()
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}

func newVP8(t testing.TB, cfg codec.VP8Config) (*codec.VP8Encoder, *codec.VP8Decoder) {
	t.Helper()
	e, err := codec.NewVP8Encoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := codec.NewVP8Decoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); d.Close() })
	return e, d
}

// A noisy 720p picture at the bitrate of a usual line becomes coarse, not jerky.
func TestVP8CoarseRatherThanMissing(t *testing.T) {
	const w, h, bitrate = 1280, 720, 1_250_000
	e, _ := newVP8(t, codec.VP8Config{Width: w, Height: h, Bitrate: bitrate})
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

func TestVP8DecoderRefuses(t *testing.T) {
	e, d := newVP8(t, codec.VP8Config{Width: 64, Height: 64})
	p := codectest.NewPainter(64, 64)
	var frames [][]byte
	for i := range 2 {
		f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
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
		{"nothing", nil, codec.ErrCorrupt},
		{"delta first", frames[1], codec.ErrNotKeyframe},
		{"16383 wide", huge, codec.ErrTooLarge},
		{"no start code", []byte{0x10, 0, 0, 1, 2, 3, 4, 5, 6, 7}, codec.ErrCorrupt},
		{"torn keyframe", torn, codec.ErrCorrupt},
		{"3 MB", make([]byte, 3<<20), codec.ErrTooLarge},
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

func FuzzVP8Decode(f *testing.F) {
	e, err := codec.NewVP8Encoder(codec.VP8Config{Width: 64, Height: 48})
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	p := codectest.NewPainter(64, 48)
	var key []byte
	for i := range 3 {
		fr, err := e.Encode(p.Paint(i), int64(i+1)*3000)
		if err != nil {
			f.Fatal(err)
		}
		if i == 0 {
			key = append([]byte(nil), fr.Data...)
		}
		f.Add(fr.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := codec.NewVP8Decoder()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		// Once as the first frame, once after a good one; then a good one must still decode.
		_, _ = d.Decode(data)
		_, _ = d.Decode(key)
		if img, err := d.Decode(data); err == nil && img != nil {
			if err := codec.CheckPicture(img); err != nil {
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
