package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"os/exec"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"

	"vindu/media/camera"
	"vindu/media/codec"
	"vindu/media/sound"
	"vindu/media/yuv"
)

// floor has a process of its own do nothing but what no terminal can leave out, at the pace of a call: coding and decoding picture and sound, and
// protecting and unprotecting the packets.
func floor(ctx context.Context, z size, kind string, d time.Duration) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, self, "-floor", z.String(), "-codec", kind, "-for", d.String()).Output()
	if err != nil {
		return 0, fmt.Errorf("the floor of %s: %w", z, err)
	}
	var v float64
	if err := json.Unmarshal(out, &v); err != nil {
		return 0, fmt.Errorf("the floor of %s: %w", z, err)
	}
	return v, nil
}

// atFloor is that process. It returns the processor seconds per second that the work took. The camera's pictures are painted beforehand; what is decoded is
// what was coded, since both directions have the same size and bitrate.
func atFloor(z size, kind string, d time.Duration) (float64, error) {
	pictures, err := painted(z, 3*z.fps)
	if err != nil {
		return 0, err
	}
	coder := codec.Libvpx()
	if kind == codec.H264.String() {
		coder = codec.OpenH264()
	}
	enc, err := coder.NewEncoder(codec.VideoConfig{Width: z.width, Height: z.height, FPS: float64(z.fps), Bitrate: z.bitrate})
	if err != nil {
		return 0, err
	}
	defer enc.Close()
	dec, err := codec.NewDecoder(coder.Kind)
	if err != nil {
		return 0, err
	}
	defer dec.Close()
	say, err := codec.NewOpusEncoder(codec.OpusConfig{Bitrate: 32_000})
	if err != nil {
		return 0, err
	}
	defer say.Close()
	hear, err := codec.NewOpusDecoder()
	if err != nil {
		return 0, err
	}
	defer hear.Close()
	line, err := newLocked()
	if err != nil {
		return 0, err
	}
	voice := sound.NewVoice()
	var pcm, heard [2 * sound.FrameSamples]int16

	sight := func(n int) error {
		f, err := enc.Encode(pictures[n%len(pictures)], int64(n)*90_000/int64(z.fps))
		if err != nil || len(f.Data) == 0 {
			return err
		}
		if err := line.pass(f.Data); err != nil {
			return err
		}
		_, err = dec.Decode(f.Data)
		return err
	}
	speech := func() error {
		voice.Fill(pcm[:sound.FrameSamples])
		voice.Fill(pcm[sound.FrameSamples:])
		packet, err := say.Encode(pcm[:])
		if err != nil {
			return err
		}
		if err := line.pass(packet); err != nil {
			return err
		}
		_, err = hear.Decode(packet, heard[:])
		return err
	}
	const warm = time.Second
	began := time.Now()
	var from time.Time
	var before time.Duration
	for n, spoken := 0, 0; ; n++ {
		due := time.Duration(n) * time.Second / time.Duration(z.fps)
		time.Sleep(due - time.Since(began))
		if from.IsZero() && due >= warm {
			from, before = time.Now(), spent()
		}
		if due >= warm+d {
			return (spent() - before).Seconds() / time.Since(from).Seconds(), nil
		}
		if err := sight(n); err != nil {
			return 0, err
		}
		for ; time.Duration(spoken)*20*time.Millisecond < due; spoken++ {
			if err := speech(); err != nil {
				return 0, err
			}
		}
	}
}

func spent() time.Duration {
	var use unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &use) // cannot fail for this process
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// painted are pictures of the terminal's test camera, a moment apart.
func painted(z size, n int) ([]*image.YCbCr, error) {
	film := camera.TestPicture(camera.Config{Width: z.width, Height: z.height, FPS: 60})
	defer film.Close()
	var all []*image.YCbCr
	for range n {
		img, release, err := film.Read()
		if err != nil {
			return nil, err
		}
		own := yuv.New(z.width, z.height)
		err = yuv.Copy(own, img.(*image.YCbCr))
		release()
		if err != nil {
			return nil, err
		}
		all = append(all, own)
	}
	return all, nil
}

// locked protects packets and takes the protection off again.
type locked struct {
	out, in *srtp.Context
	header  rtp.Header
	buf     []byte
	plain   []byte
}

func newLocked() (*locked, error) {
	const profile = srtp.ProtectionProfileAeadAes256Gcm
	key, salt := make([]byte, 32), make([]byte, 12)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	l := &locked{header: rtp.Header{Version: 2, PayloadType: 96, SSRC: 1}}
	var err error
	if l.out, err = srtp.CreateContext(key, salt, profile); err == nil {
		l.in, err = srtp.CreateContext(key, salt, profile)
	}
	return l, err
}

// pass sends data in packets as the terminal does, of 1,200 bytes at most.
func (l *locked) pass(data []byte) error {
	for len(data) > 0 {
		part := data[:min(len(data), 1200)]
		data = data[len(part):]
		l.header.SequenceNumber++
		raw, err := (&rtp.Packet{Header: l.header, Payload: part}).Marshal()
		if err != nil {
			return err
		}
		if l.buf, err = l.out.EncryptRTP(l.buf, raw, nil); err != nil {
			return err
		}
		if l.plain, err = l.in.DecryptRTP(l.plain, l.buf, nil); err != nil {
			return err
		}
	}
	return nil
}
