package codec_test

import (
	"errors"
	"image"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"vindu/media/codec"
	"vindu/media/codec/codectest"
)

func TestH264Contract(t *testing.T) {
	codectest.Run(t, codectest.Subject{
		New: func(t testing.TB, c codectest.Config) codec.VideoEncoder {
			e, err := codec.NewH264Encoder(codec.H264Config{Width: c.Width, Height: c.Height, FPS: c.FPS, Bitrate: c.Bitrate})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		Decoder: func(t testing.TB) codec.VideoDecoder {
			d, err := codec.NewH264Decoder()
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}

func newH264(t testing.TB, cfg codec.H264Config) (*codec.H264Encoder, *codec.H264Decoder) {
	t.Helper()
	e, err := codec.NewH264Encoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := codec.NewH264Decoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); d.Close() })
	return e, d
}

// A noisy 720p picture at the bitrate of a usual line becomes coarse, not jerky.
func TestH264CoarseRatherThanMissing(t *testing.T) {
	const w, h, bitrate = 1280, 720, 1_250_000
	e, _ := newH264(t, codec.H264Config{Width: w, Height: h, Bitrate: bitrate})
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

func TestH264DecoderRefuses(t *testing.T) {
	e, d := newH264(t, codec.H264Config{Width: 64, Height: 64})
	p := codectest.NewPainter(64, 64)
	var frames [][]byte
	for i := range 2 {
		f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, append([]byte(nil), f.Data...))
	}
	replaced := func(sps []byte) (out []byte) {
		for nal, rest := codec.NextNAL(frames[0]); nal != nil; nal, rest = codec.NextNAL(rest) {
			if nal[0]&0x1f == 7 {
				nal = sps
			}
			out = append(append(out, 0, 0, 0, 1), nal...)
		}
		return out
	}
	torn := append([]byte(nil), frames[0][:12]...)
	for _, tt := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, codec.ErrCorrupt},
		{"delta first", frames[1], codec.ErrNotKeyframe},
		{"32768 wide", replaced(sps(66, 2047, 3, 1)), codec.ErrTooLarge},
		{"16 of 1080 lines to refer to", replaced(sps(66, 119, 67, 16)), codec.ErrTooLarge},
		{"4:2:2", replaced(sps(122, 3, 3, 1)), codec.ErrCorrupt},
		{"torn parameters", replaced([]byte{0x67, 66, 0xc0}), codec.ErrCorrupt},
		{"no picture", []byte{0, 0, 0, 1, 9, 0x10}, codec.ErrCorrupt},
		{"scalable", []byte{0, 0, 1, 0x74, 1, 2, 3}, codec.ErrCorrupt},
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

// sps makes a sequence parameter set (ITU-T H.264 §7.3.2.1.1).
func sps(profile byte, widthMinus1, heightMinus1, refs uint32) []byte {
	out, free := []byte{0x67, profile, 0xc0, 31}, 0
	bit := func(v uint32) {
		if free == 0 {
			out, free = append(out, 0), 8
		}
		free--
		out[len(out)-1] |= byte(v&1) << free
	}
	ue := func(v uint32) {
		n := bits.Len32(v + 1)
		for range n - 1 {
			bit(0)
		}
		for i := n - 1; i >= 0; i-- {
			bit((v + 1) >> i)
		}
	}
	for _, v := range []uint32{0, 0, 2, refs} {
		ue(v)
	}
	bit(0)
	ue(widthMinus1)
	ue(heightMinus1)
	for _, v := range []uint32{1, 1, 0, 0, 1} {
		bit(v)
	}
	return out
}

func TestParseH264(t *testing.T) {
	picture := []byte{0, 0, 1, 0x65, 0x88, 0}
	stream := append(append([]byte{0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1}, sps(66, 39, 29, 1)...), picture...)
	head, err := codec.ParseH264(stream)
	if err != nil || head != (codec.H264Header{Keyframe: true, Width: 640, Height: 480}) {
		t.Errorf("%+v, %v", head, err)
	}
	if head, err = codec.ParseH264(picture); err != nil || head.Keyframe {
		t.Errorf("a picture without its parameters: %+v, %v", head, err)
	}
	if head, err = codec.ParseH264([]byte{0, 0, 1, 0x41, 0x9a}); err != nil || head.Keyframe {
		t.Errorf("a slice: %+v, %v", head, err)
	}
}

// TestH264ParametersComeWithKeyframes: what a stream's pictures are comes with a keyframe, before it, and once. A set that comes otherwise would have openh264 take slices for pictures of
// another size than it has made room for (CVE-2025-27091 was one of that kind).
func TestH264ParametersComeWithKeyframes(t *testing.T) {
	e, d := newH264(t, codec.H264Config{Width: 64, Height: 64})
	other, _ := newH264(t, codec.H264Config{Width: 320, Height: 240})
	units := func(e *codec.H264Encoder, w, h, n int) (out [][]byte) {
		p := codectest.NewPainter(w, h)
		for i := range n {
			f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
			if err != nil {
				t.Fatal(err)
			}
			for nal, rest := codec.NextNAL(f.Data); nal != nil; nal, rest = codec.NextNAL(rest) {
				out = append(out, append([]byte{0, 0, 0, 1}, nal...))
			}
		}
		return out
	}
	small, large := units(e, 64, 64, 2), units(other, 320, 240, 1) // a set, its picture's, a keyframe; and a slice
	if len(small) != 4 || len(large) != 3 {
		t.Fatalf("%d and %d units", len(small), len(large))
	}
	key, slice := slices.Concat(small[:3]...), small[3]
	good := func(frame []byte, w int) {
		t.Helper()
		if img, err := d.Decode(frame); err != nil || img == nil || img.Rect.Dx() != w {
			t.Fatalf("a good keyframe: %v", err)
		}
	}
	for name, frame := range map[string][]byte{
		"before a slice":           slices.Concat(large[0], large[1], slice),
		"of its own size, so, too": slices.Concat(small[0], small[1], slice),
		"behind a keyframe":        slices.Concat(key, large[0]),
		"two for a keyframe":       slices.Concat(large[0], key),
		"a million to refer to":    slices.Concat(append([]byte{0, 0, 0, 1}, sps(66, 63, 63, 1<<20)...), small[1], small[2]),
	} {
		good(key, 64)
		if _, err := codec.ParseH264(frame); !errors.Is(err, codec.ErrCorrupt) && !errors.Is(err, codec.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := d.Decode(frame); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	good(slices.Concat(large...), 320)
	good(key, 64)
	if _, err := d.Decode(slice); err != nil {
		t.Errorf("and goes on: %v", err)
	}
}

func TestNextNAL(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream string
		want   []string
	}{
		{"nothing", "", nil},
		{"no start code", "\x01\x02\x03\x04", nil},
		{"one", "\x00\x00\x01\x09\x10", []string{"\x09\x10"}},
		{"long and short codes", "\x00\x00\x00\x01ab\x00\x00\x01c\x00\x00\x00\x01d", []string{"ab", "c", "d"}},
		{"trailing zeros", "\x00\x00\x01ab\x00\x00\x00\x00\x01c", []string{"ab", "c"}},
		{"empty ones", "\x00\x00\x01\x00\x00\x01\x00\x00\x01c", []string{"c"}},
		{"a code at the end", "\x00\x00\x01c\x00\x00\x01", []string{"c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for nal, rest := codec.NextNAL([]byte(tt.stream)); nal != nil; nal, rest = codec.NextNAL(rest) {
				got = append(got, string(nal))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// After a damaged picture nothing is shown until a keyframe comes.
func TestH264WaitsForKeyframe(t *testing.T) {
	e, d := newH264(t, codec.H264Config{Width: 320, Height: 240})
	p := codectest.NewPainter(320, 240)
	var errs []error
	for i := range 5 {
		if i == 4 {
			e.ForceKeyframe()
		}
		f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		data := append([]byte(nil), f.Data...)
		if i == 1 {
			data = data[:len(data)/2]
		}
		_, err = d.Decode(data)
		errs = append(errs, err)
	}
	for i, want := range []error{nil, codec.ErrCorrupt, codec.ErrNotKeyframe, codec.ErrNotKeyframe, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("picture %d: %v, want %v", i, errs[i], want)
		}
	}
}

func FuzzH264Decode(f *testing.F) {
	e, err := codec.NewH264Encoder(codec.H264Config{Width: 64, Height: 48})
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
		d, err := codec.NewH264Decoder()
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
