package codec_test

import (
	"fmt"
	"image"
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"vindu/media/codec"
	"vindu/media/codec/codectest"
)

// libraries are the encoders and decoders that are measured beside one another.
var libraries = []struct {
	name    string
	encoder func(w, h, bitrate int) (codec.VideoEncoder, error)
	decoder func() (codec.VideoDecoder, error)
}{
	{"VP8", func(w, h, bitrate int) (codec.VideoEncoder, error) {
		return codec.NewVP8Encoder(codec.VP8Config{Width: w, Height: h, Bitrate: bitrate})
	}, func() (codec.VideoDecoder, error) { return codec.NewVP8Decoder() }},
	{"H264", func(w, h, bitrate int) (codec.VideoEncoder, error) {
		return codec.NewH264Encoder(codec.H264Config{Width: w, Height: h, Bitrate: bitrate})
	}, func() (codec.VideoDecoder, error) { return codec.NewH264Decoder() }},
	{"H264of2", func(w, h, bitrate int) (codec.VideoEncoder, error) {
		return codec.NewH264Encoder(codec.H264Config{Width: w, Height: h, Bitrate: bitrate, Threads: 2})
	}, func() (codec.VideoDecoder, error) { return codec.NewH264Decoder() }},
}

var benchSizes = []struct{ w, h, bitrate int }{
	{320, 240, 400_000}, {640, 480, 300_000}, {640, 480, 1_000_000}, {1280, 720, 2_000_000},
}

func BenchmarkEncode(b *testing.B) {
	for _, s := range benchSizes {
		for _, l := range libraries {
			b.Run(fmt.Sprintf("%dx%d/%dk/%s", s.w, s.h, s.bitrate/1000, l.name), func(b *testing.B) {
				e, err := l.encoder(s.w, s.h, s.bitrate)
				if err != nil {
					b.Fatal(err)
				}
				defer e.Close()
				pics := codectest.Loop(s.w, s.h)
				bytes, n := 0, 0
				began := processor(b)
				for b.Loop() {
					f, err := e.Encode(pics[n%len(pics)], int64(n+1)*3000)
					if err != nil {
						b.Fatal(err)
					}
					bytes += len(f.Data)
					n++
				}
				b.ReportMetric(float64(processor(b)-began)/float64(n)/1e6, "cpu-ms/op")
				b.ReportMetric(float64(bytes*8*30)/float64(n)/1000, "kbit/s@30")
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range benchSizes {
		for _, l := range libraries[:2] {
			b.Run(fmt.Sprintf("%dx%d/%dk/%s", s.w, s.h, s.bitrate/1000, l.name), func(b *testing.B) {
				e, err := l.encoder(s.w, s.h, s.bitrate)
				if err != nil {
					b.Fatal(err)
				}
				defer e.Close()
				d, err := l.decoder()
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				pics := codectest.Loop(s.w, s.h)
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
				began := processor(b)
				for b.Loop() {
					if _, err := d.Decode(frames[n%len(frames)]); err != nil {
						b.Fatal(err)
					}
					n++
				}
				b.ReportMetric(float64(processor(b)-began)/float64(n)/1e6, "cpu-ms/op")
			})
		}
	}
}

// processor is the time that this process has had of the processors: what else runs on the machine does not count.
func processor(b *testing.B) int64 {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// psnr is the likeness of two pictures' brightness, in dB.
func psnr(a, b *image.YCbCr) float64 {
	sum := 0.0
	w, h := a.Rect.Dx(), a.Rect.Dy()
	for y := range h {
		ra, rb := a.Y[y*a.YStride:][:w], b.Y[y*b.YStride:][:w]
		for x := range ra {
			d := float64(ra[x]) - float64(rb[x])
			sum += d * d
		}
	}
	return 10 * math.Log10(255*255/max(sum/float64(w*h), 1e-9))
}

// A codec that is cheaper must not be worse for who looks at it: at the same rate its picture is about as good.
func TestCheaperIsNotWorse(t *testing.T) {
	for _, s := range []struct{ w, h, bitrate, seconds int }{
		{640, 480, 300_000, 4}, {640, 480, 1_000_000, 3}, {1280, 720, 2_000_000, 2},
	} {
		var first float64
		for i, l := range libraries[:2] {
			e, err := l.encoder(s.w, s.h, s.bitrate)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			d, err := l.decoder()
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			p := codectest.NewPainter(s.w, s.h)
			sum, shown, missing, bytes := 0.0, 0, 0, 0
			var last *image.YCbCr
			for n := range 30 * s.seconds {
				f, err := e.Encode(p.Paint(n), int64(n+1)*3000)
				if err != nil {
					t.Fatal(err)
				}
				bytes += len(f.Data)
				if len(f.Data) == 0 {
					missing++
				} else if last, err = d.Decode(f.Data); err != nil {
					t.Fatal(err)
				}
				if n >= 30 && last != nil { // a picture that is missing is the one before, shown again
					sum, shown = sum+psnr(p.Image(), last), shown+1
				}
			}
			got := sum / float64(shown)
			t.Logf("%s %d×%d: %.1f dB at %d kbit/s, %d of %d pictures dropped", l.name, s.w, s.h, got, bytes*8/s.seconds/1000, missing, 30*s.seconds)
			if i == 0 {
				first = got
			} else if got < first-1.5 {
				t.Errorf("%s at %d×%d and %d bit/s is %.1f dB, %s %.1f", l.name, s.w, s.h, s.bitrate, got, libraries[0].name, first)
			}
		}
	}
}
