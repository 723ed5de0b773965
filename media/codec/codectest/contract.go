// Package codectest says what every encoder of package codec does, whoever made it, and paints what such tests encode.
package codectest

import (
	"errors"
	"image"
	"testing"

	"vindu/media/codec"
)

const videoClock = 90000

// maxIntraMS is how much of the target bitrate a keyframe may be, in ms of it.
const maxIntraMS = 300

// Config is what an encoder is made for.
type Config struct {
	Width, Height int
	FPS           float64
	Bitrate       int
}

// Subject is an encoder, and a decoder of what it makes.
type Subject struct {
	New     func(t testing.TB, cfg Config) codec.VideoEncoder
	Decoder func(t testing.TB) codec.VideoDecoder
	// Brief leaves out what takes long: the rate, where another Subject has shown it of the same encoder.
	Brief bool
}

// Run holds an encoder to the contract of codec.VideoEncoder.
func Run(t *testing.T, s Subject) {
	t.Run("keeps colours", s.keepsColours)
	t.Run("follows size", s.followsSize)
	t.Run("forces keyframes", s.forcesKeyframes)
	t.Run("refuses pictures", s.refusesPictures)
	t.Run("closes", s.closes)
	t.Run("does not allocate", s.doesNotAllocate)
	if s.Brief {
		return
	}
	t.Run("holds bitrate", s.holdsBitrate)
	t.Run("follows bitrate", s.followsBitrate)
	t.Run("saves no bits in a pause", s.savesNoBits)
}

func (s Subject) make(t testing.TB, cfg Config) (codec.VideoEncoder, codec.VideoDecoder) {
	t.Helper()
	e, d := s.New(t, cfg), s.Decoder(t)
	t.Cleanup(func() { e.Close(); d.Close() })
	return e, d
}

func off(got uint8, want, most int) bool { return int(got) < want-most || int(got) > want+most }

func (s Subject) keepsColours(t *testing.T) {
	for _, size := range []image.Point{{320, 240}, {640, 480}, {322, 182}, {16, 16}} {
		t.Run(size.String(), func(t *testing.T) {
			e, d := s.make(t, Config{Width: size.X, Height: size.Y})
			p := NewPainter(size.X, size.Y)
			for i := range 10 {
				f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
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
				if img == nil {
					t.Fatalf("frame %d gave no picture", i)
				}
				if img.Rect.Size() != size {
					t.Fatalf("decoded %v, want %v", img.Rect.Size(), size)
				}
				got := img.YCbCrAt(size.X*3/8, size.Y*3/8)
				if off(got.Y, 81, 20) || off(got.Cb, 90, 20) || off(got.Cr, 240, 25) {
					t.Fatalf("frame %d: bar is %v, want about 81 90 240", i, got)
				}
			}
		})
	}
}

// The target must hold at every frame rate, though nobody tells the encoder what the rate is.
func (s Subject) holdsBitrate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		w, h    int // so that the best picture would take more, and the worst less
		fps     int
		bitrate int
		jitter  int64 // of the time stamps, 90 kHz
		off     int   // percent
	}{
		{"30 fps", 640, 480, 30, 500_000, 0, 5},
		{"15 fps", 640, 480, 15, 300_000, 0, 5},
		{"8 fps", 320, 240, 8, 150_000, 0, 5},
		// libvpx takes some of it for another frame rate, and sends less for a second.
		{"30 fps with jitter", 320, 240, 30, 500_000, 900, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := s.make(t, Config{Width: tt.w, Height: tt.h, Bitrate: tt.bitrate})
			p := NewPainter(tt.w, tt.h)
			const warm, seconds = 3, 5
			bits, missing := 0, 0
			for i := range tt.fps * (warm + seconds) {
				pts := int64(i+1) * videoClock / int64(tt.fps)
				pts += tt.jitter * int64(i%3-1)
				f, err := e.Encode(p.Paint(i), pts)
				if err != nil {
					t.Fatal(err)
				}
				if i >= tt.fps*warm {
					bits += 8 * len(f.Data)
					if len(f.Data) == 0 {
						missing++
					}
				}
			}
			got := bits / seconds
			t.Logf("%d bit/s for %d, %d of %d pictures dropped", got, tt.bitrate, missing, tt.fps*seconds)
			if got < tt.bitrate*(100-tt.off)/100 || got > tt.bitrate*(100+tt.off)/100 {
				t.Errorf("%d bit/s, want %d ±%d %%", got, tt.bitrate, tt.off)
			}
			if missing*10 > tt.fps*seconds {
				t.Errorf("%d of %d pictures were dropped", missing, tt.fps*seconds)
			}
		})
	}
}

func (s Subject) followsBitrate(t *testing.T) {
	e, _ := s.make(t, Config{Width: 640, Height: 480, Bitrate: 800_000})
	p := NewPainter(640, 480)
	run := func(from int) (bits int) {
		for i := from; i < from+90; i++ {
			f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
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

func (s Subject) followsSize(t *testing.T) {
	e, d := s.make(t, Config{Width: 320, Height: 240})
	pts := int64(0)
	for _, size := range []image.Point{{320, 240}, {160, 120}, {320, 240}, {640, 480}, {240, 180}} {
		p := NewPainter(size.X, size.Y)
		for i := range 3 {
			pts += 3000
			f, err := e.Encode(p.Paint(i), pts)
			if err != nil {
				t.Fatalf("%v: %v", size, err)
			}
			if f.Keyframe != (i == 0) {
				t.Fatalf("%v: frame %d is keyframe: %v", size, i, f.Keyframe)
			}
			if len(f.Data) == 0 && i > 0 {
				continue
			}
			img, err := d.Decode(f.Data)
			if err != nil {
				t.Fatalf("%v: frame %d: %v", size, i, err)
			}
			if img == nil || img.Rect.Size() != size {
				t.Fatalf("decoded %v, want %v", img, size)
			}
		}
	}
}

func (s Subject) forcesKeyframes(t *testing.T) {
	e, _ := s.make(t, Config{Width: 320, Height: 240, Bitrate: 300_000})
	p := NewPainter(320, 240)
	keys, asked := 0, -1
	for i := range 60 {
		if i == 30 {
			e.ForceKeyframe()
			asked = i
		}
		f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		if asked >= 0 && len(f.Data) > 0 {
			if !f.Keyframe {
				t.Errorf("frame %d is no keyframe, though one was asked for", i)
			}
			asked = -1
		}
		if f.Keyframe {
			keys++
			// And what a rate control may err.
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
func (s Subject) savesNoBits(t *testing.T) {
	e, _ := s.make(t, Config{Width: 320, Height: 240, Bitrate: 300_000})
	p := NewPainter(320, 240)
	if _, err := e.Encode(p.Paint(0), 1); err != nil {
		t.Fatal(err)
	}
	e.ForceKeyframe()
	f, err := e.Encode(p.Paint(1), 10*videoClock)
	if err != nil {
		t.Fatal(err)
	}
	if limit := 300_000 * maxIntraMS / 1000 / 8 * 3 / 2; len(f.Data) > limit {
		t.Errorf("keyframe of %d bytes after a pause, want at most %d", len(f.Data), limit)
	}
}

func (s Subject) refusesPictures(t *testing.T) {
	e, _ := s.make(t, Config{Width: 64, Height: 64})
	short := image.NewYCbCr(image.Rect(0, 0, 64, 64), image.YCbCrSubsampleRatio420)
	short.Cr = short.Cr[:100]
	for _, tt := range []struct {
		name string
		img  *image.YCbCr
		want error
	}{
		{"nil", nil, codec.ErrPicture},
		{"4:4:4", image.NewYCbCr(image.Rect(0, 0, 64, 64), image.YCbCrSubsampleRatio444), codec.ErrPicture},
		{"odd", image.NewYCbCr(image.Rect(0, 0, 63, 64), image.YCbCrSubsampleRatio420), codec.ErrPicture},
		{"empty", &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, codec.ErrPicture},
		{"short plane", short, codec.ErrPicture},
		{"huge", image.NewYCbCr(image.Rect(0, 0, 4096, 16), image.YCbCrSubsampleRatio420), codec.ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := e.Encode(tt.img, 3000); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	p := NewPainter(64, 64)
	if _, err := e.Encode(p.Paint(0), 3000); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(p.Paint(1), 3000); err == nil {
		t.Error("a time stamp that stands still was taken")
	}
}

func (s Subject) closes(t *testing.T) {
	e, _ := s.make(t, Config{Width: 64, Height: 64})
	p := NewPainter(64, 64)
	if _, err := e.Encode(p.Paint(0), 3000); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Encode(p.Paint(2), 9000); !errors.Is(err, codec.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func (s Subject) doesNotAllocate(t *testing.T) {
	e, d := s.make(t, Config{Width: 160, Height: 120})
	p := NewPainter(160, 120)
	n := 0
	step := func() {
		n++
		p.Paint(n)
		if n%7 == 0 {
			e.SetBitrate(300_000 + n*1000)
		}
		f, err := e.Encode(p.Image(), int64(n)*3000)
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
