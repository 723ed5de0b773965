// Command robotmedia makes what the clinic's robot shows and plays in test calls, since the clinic itself has no encoders: three seconds,
// made so that their end goes over into their beginning. The picture is VP8 in IVF, a light that goes round; the sound is Opus in Ogg
// (RFC 7845), three soft bells.
//
//	go run ./scripts/robotmedia clinic/robot/assets
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"

	"vindu/media/codec"
)

const (
	width, height = 320, 240
	fps           = 15
	seconds       = 3
	bitrate       = 120_000
	soundBitrate  = 24_000
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: robotmedia FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "robotmedia:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	for name, write := range map[string]func(io.Writer) error{"picture.ivf": picture, "sound.ogg": sound} {
		f, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func picture(w io.Writer) error {
	e, err := codec.NewVP8Encoder(codec.VP8Config{Width: width, Height: height, FPS: fps, Bitrate: bitrate})
	if err != nil {
		return err
	}
	defer e.Close()
	// https://wiki.multimedia.cx/index.php/IVF
	head := []byte("DKIF\x00\x00\x20\x00VP80")
	head = binary.LittleEndian.AppendUint16(head, width)
	head = binary.LittleEndian.AppendUint16(head, height)
	for _, v := range []uint32{fps, 1, fps * seconds, 0} {
		head = binary.LittleEndian.AppendUint32(head, v)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	img := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	for n := range fps * seconds {
		paint(img, float64(n)/(fps*seconds))
		f, err := e.Encode(img, int64(n+1)*90000/fps)
		if err != nil {
			return err
		}
		if len(f.Data) == 0 || f.Keyframe != (n == 0) {
			return fmt.Errorf("picture %d of %d bytes, keyframe %v", n, len(f.Data), f.Keyframe)
		}
		frame := binary.LittleEndian.AppendUint32(nil, uint32(len(f.Data)))
		frame = binary.LittleEndian.AppendUint64(frame, uint64(n))
		if _, err := w.Write(append(frame, f.Data...)); err != nil {
			return err
		}
	}
	return nil
}

// paint draws the light at a part of its way round.
func paint(img *image.YCbCr, part float64) {
	sin, cos := math.Sincos(2 * math.Pi * part)
	x0, y0 := width/2+70*cos, height/2+70*sin
	for y := range height {
		for x := range width {
			far := math.Hypot(float64(x)-x0, float64(y)-y0) / 28
			img.Y[img.YOffset(x, y)] = uint8(40 + 20*float64(y)/height + 150/(1+math.Pow(far, 6)))
			img.Cb[img.COffset(x, y)], img.Cr[img.COffset(x, y)] = 150, 112
		}
	}
}

func sound(w io.Writer) error {
	e, err := codec.NewOpusEncoder(codec.OpusConfig{Bitrate: soundBitrate})
	if err != nil {
		return err
	}
	defer e.Close()
	ogg, err := oggwriter.NewWith(struct{ io.Writer }{w}, codec.SampleRate, 1) // it would close w
	if err != nil {
		return err
	}
	const samples = 960 // 20 ms
	pcm := make([]int16, samples)
	for n := range seconds * codec.SampleRate / samples {
		for i := range pcm {
			pcm[i] = int16(bells(float64(n*samples+i) / codec.SampleRate))
		}
		p, err := e.Encode(pcm)
		if err != nil {
			return err
		}
		packet := &rtp.Packet{Header: rtp.Header{Version: 2, Timestamp: uint32(n * samples), SequenceNumber: uint16(n)}, Payload: p}
		if err := ogg.WriteRTP(packet); err != nil {
			return err
		}
	}
	return ogg.Close()
}

// bells strikes one each second.
func bells(t float64) float64 {
	notes := []float64{523.25, 659.25, 783.99}
	since := t - math.Floor(t)
	hz := notes[int(t)%len(notes)]
	loud := 4000 * math.Exp(-4*since) * min(since/0.01, 1) * min((1-since)/0.05, 1)
	return loud * (math.Sin(2*math.Pi*hz*t) + 0.3*math.Sin(2*math.Pi*2*hz*t))
}
