package codec

/*
#cgo pkg-config: vpx
#include <stdlib.h>
#include "vpx.h"

#cgo noescape vindu_vp8_encode
#cgo nocallback vindu_vp8_encode
#cgo noescape vindu_vp8_decode
#cgo nocallback vindu_vp8_decode
*/
import "C"

import (
	"fmt"
	"image"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"
)

const (
	videoClock = 90000
	pause      = videoClock / 2

	// maxIntraMS bounds a keyframe to this much of the target bitrate, so that it does not stand in the line
	// for longer: half of the rate control's optimal buffer, as libwebrtc does for VP8.
	maxIntraMS = 300

	minBitrate = 30_000
	maxBitrate = 20_000_000

	// maxCoded bounds a coded frame handed to a decoder.
	maxCoded = 2 << 20
)

// VP8Config says how a VP8Encoder works. Zero values take the default that is named.
type VP8Config struct {
	Width, Height int     // of the largest picture; the encoder follows smaller ones without being made anew
	FPS           float64 // nominal; the real rate is learnt from the time stamps. 30
	Bitrate       int     // bit/s. 800,000
	CPUUsed       int     // libvpx's speed, −16 (fastest) to −1. −10; −12 on ARM, as libwebrtc
	// StaticThreshold lets blocks be skipped that differ from the last picture by less than this. 1 as in
	// libwebrtc, which makes the encoder skip what does not move; a noisy camera gains from 100.
	StaticThreshold int
	// ErrorResilient makes frames decodable on their own probabilities after a loss. It costs bits, and since
	// a lost frame is asked for again (NACK) and a decoder that misses one waits for a keyframe, it gains nothing.
	ErrorResilient bool
}

// VP8Encoder is a VideoEncoder by libvpx: real time, constant bitrate, one thread, keyframes on request only.
type VP8Encoder struct {
	c       *C.vindu_vp8_encoder
	cfg     VP8Config
	out     []byte
	w, h    int
	bitrate int // that the library was told
	steer   steer
	timing  timing
	intra   uint // keyframe limit now set, percent of a frame's share

	wantBitrate  atomic.Int64
	wantKeyframe atomic.Bool
}

var _ VideoEncoder = (*VP8Encoder)(nil)

// NewVP8Encoder makes an encoder for pictures of up to cfg.Width×cfg.Height.
func NewVP8Encoder(cfg VP8Config) (*VP8Encoder, error) {
	if cfg.Width <= 0 || cfg.Height <= 0 || cfg.Width%2 != 0 || cfg.Height%2 != 0 {
		return nil, fmt.Errorf("make VP8 encoder of %d×%d: %w", cfg.Width, cfg.Height, ErrPicture)
	}
	if cfg.Width > maxSide || cfg.Height > maxSide {
		return nil, fmt.Errorf("make VP8 encoder of %d×%d: %w", cfg.Width, cfg.Height, ErrTooLarge)
	}
	if cfg.FPS <= 0 {
		cfg.FPS = 30
	}
	if cfg.Bitrate <= 0 {
		cfg.Bitrate = 800_000
	}
	if cfg.CPUUsed == 0 {
		cfg.CPUUsed = -10
		if strings.HasPrefix(runtime.GOARCH, "arm") {
			cfg.CPUUsed = -12
		}
	}
	if cfg.StaticThreshold == 0 {
		cfg.StaticThreshold = 1
	}
	e := &VP8Encoder{cfg: cfg}
	e.SetBitrate(cfg.Bitrate)
	if err := e.open(cfg.Width, cfg.Height); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *VP8Encoder) open(w, h int) error {
	e.bitrate = int(e.wantBitrate.Load())
	resilient := C.int(0)
	if e.cfg.ErrorResilient {
		resilient = 1
	}
	var c *C.vindu_vp8_encoder
	rc := C.vindu_vp8_encoder_new(&c, C.uint(w), C.uint(h), C.uint(e.bitrate/1000),
		C.int(e.cfg.CPUUsed), resilient, C.int(e.cfg.StaticThreshold), dropThreshold)
	if rc != 0 {
		return fmt.Errorf("make VP8 encoder of %d×%d: %w", w, h, vpxError(rc))
	}
	e.c, e.w, e.h = c, w, h
	e.cfg.Width, e.cfg.Height = w, h
	e.timing = timing{tick: videoClock / e.cfg.FPS}
	e.intra = 0
	return e.limitKeyframes()
}

// dropThreshold lets the rate control drop a picture when its buffer is under this many percent full. As libwebrtc.
const dropThreshold = 30

// limitKeyframes keeps the keyframe limit at maxIntraMS of the target, whatever the frame rate is.
func (e *VP8Encoder) limitKeyframes() error {
	fps := videoClock / e.timing.tick
	pct := uint(math.Max(300, math.Round(maxIntraMS*fps/10)))
	if e.intra != 0 && absDiff(pct, e.intra)*5 < e.intra {
		return nil
	}
	if rc := C.vindu_vp8_encoder_set_max_intra(e.c, C.uint(pct)); rc != 0 {
		return fmt.Errorf("limit VP8 keyframes: %w", vpxError(rc))
	}
	e.intra = pct
	return nil
}

func absDiff(a, b uint) uint {
	if a > b {
		return a - b
	}
	return b - a
}

// SetBitrate implements VideoEncoder. The target is held within 30 kbit/s and 20 Mbit/s.
func (e *VP8Encoder) SetBitrate(bitrate int) {
	e.wantBitrate.Store(int64(min(max(bitrate, minBitrate), maxBitrate)))
}

// ForceKeyframe implements VideoEncoder.
func (e *VP8Encoder) ForceKeyframe() { e.wantKeyframe.Store(true) }

// Encode implements VideoEncoder.
func (e *VP8Encoder) Encode(img *image.YCbCr, pts int64) (Frame, error) {
	if e.c == nil {
		return Frame{}, fmt.Errorf("encode VP8: %w", ErrClosed)
	}
	if err := checkPicture(img); err != nil {
		return Frame{}, fmt.Errorf("encode VP8: %w", err)
	}
	if err := e.follow(img.Rect.Dx(), img.Rect.Dy()); err != nil {
		return Frame{}, err
	}
	ticks, err := e.timing.step(pts)
	if err != nil {
		return Frame{}, fmt.Errorf("encode VP8: %w", err)
	}
	if err := e.limitKeyframes(); err != nil {
		return Frame{}, err
	}
	key := C.int(0)
	if e.wantKeyframe.Swap(false) {
		key = 1
	}
	rc := C.vindu_vp8_encode(e.c,
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(img.Y))),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(img.Cb))),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(img.Cr))),
		C.int(img.YStride), C.int(img.CStride), C.int64_t(e.timing.clock), C.ulong(e.timing.tick), key)
	if rc != 0 {
		if key != 0 {
			e.wantKeyframe.Store(true)
		}
		return Frame{}, fmt.Errorf("encode VP8: %w", vpxError(rc))
	}
	if e.c.data == nil {
		e.steer.note(0, ticks)
		if key != 0 { // dropped by the rate control: the wish stands
			e.wantKeyframe.Store(true)
		}
		return Frame{}, nil
	}
	e.out = append(e.out[:0], unsafe.Slice((*byte)(unsafe.Pointer(e.c.data)), int(e.c.size))...)
	e.steer.note(8*len(e.out), ticks)
	return Frame{Data: e.out, Keyframe: e.c.keyframe != 0}, nil
}

// follow takes over a new size or bitrate.
func (e *VP8Encoder) follow(w, h int) error {
	bitrate := e.steer.rate(int(e.wantBitrate.Load()))
	if w == e.w && h == e.h && bitrate == e.bitrate {
		return nil
	}
	if w > e.cfg.Width || h > e.cfg.Height {
		// libvpx cannot grow beyond the size that it was made for.
		C.vindu_vp8_encoder_free(e.c)
		e.c = nil
		return e.open(w, h)
	}
	if rc := C.vindu_vp8_encoder_set(e.c, C.uint(w), C.uint(h), C.uint(bitrate/1000)); rc != 0 {
		return fmt.Errorf("set VP8 encoder to %d×%d at %d bit/s: %w", w, h, bitrate, vpxError(rc))
	}
	if w != e.w || h != e.h {
		e.wantKeyframe.Store(true)
	}
	e.w, e.h, e.bitrate = w, h, bitrate
	return nil
}

// Close frees the encoder. It may be called again.
func (e *VP8Encoder) Close() error {
	C.vindu_vp8_encoder_free(e.c)
	e.c = nil
	return nil
}

// VP8Decoder is a VideoDecoder by libvpx, one thread.
type VP8Decoder struct {
	c   *C.vindu_vp8_decoder
	img image.YCbCr
	key bool // a keyframe has been decoded
}

var _ VideoDecoder = (*VP8Decoder)(nil)

// NewVP8Decoder makes a decoder.
func NewVP8Decoder() (*VP8Decoder, error) {
	d := &VP8Decoder{}
	if rc := C.vindu_vp8_decoder_new(&d.c); rc != 0 {
		return nil, fmt.Errorf("make VP8 decoder: %w", vpxError(rc))
	}
	return d, nil
}

// Decode implements VideoDecoder. Pictures of odd size lose their last column or row.
func (d *VP8Decoder) Decode(frame []byte) (*image.YCbCr, error) {
	if d.c == nil {
		return nil, fmt.Errorf("decode VP8: %w", ErrClosed)
	}
	if len(frame) > maxCoded {
		return nil, fmt.Errorf("decode VP8 frame of %d bytes: %w", len(frame), ErrTooLarge)
	}
	head, err := ParseVP8(frame)
	if err != nil {
		return nil, fmt.Errorf("decode VP8: %w", err)
	}
	if !head.Keyframe && !d.key {
		return nil, fmt.Errorf("decode VP8: %w", ErrNotKeyframe)
	}
	if head.Keyframe && (head.Width > maxSide || head.Height > maxSide) {
		return nil, fmt.Errorf("decode VP8 picture of %d×%d: %w", head.Width, head.Height, ErrTooLarge)
	}
	rc := C.vindu_vp8_decode(d.c, (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(frame))), C.uint(len(frame)))
	if rc != 0 {
		d.key = false
		return nil, fmt.Errorf("decode VP8: %w: %w", ErrCorrupt, vpxError(rc))
	}
	d.key = true
	if d.c.y == nil {
		return nil, nil
	}
	w, h := int(d.c.width)&^1, int(d.c.height)&^1
	if w == 0 || h == 0 {
		return nil, nil
	}
	ys, cs := int(d.c.ystride), int(d.c.cstride)
	d.img = image.YCbCr{
		Y:              unsafe.Slice((*byte)(unsafe.Pointer(d.c.y)), ys*(h-1)+w),
		Cb:             unsafe.Slice((*byte)(unsafe.Pointer(d.c.u)), cs*(h/2-1)+w/2),
		Cr:             unsafe.Slice((*byte)(unsafe.Pointer(d.c.v)), cs*(h/2-1)+w/2),
		YStride:        ys,
		CStride:        cs,
		SubsampleRatio: image.YCbCrSubsampleRatio420,
		Rect:           image.Rect(0, 0, w, h),
	}
	return &d.img, nil
}

// Close frees the decoder and the picture that it returned last. It may be called again.
func (d *VP8Decoder) Close() error {
	C.vindu_vp8_decoder_free(d.c)
	d.c, d.img = nil, image.YCbCr{}
	return nil
}

// VP8Header is what a VP8 frame says about itself (RFC 6386 §9.1).
type VP8Header struct {
	Keyframe      bool
	Width, Height int // of a keyframe
}

// ParseVP8 reads the uncompressed head of a VP8 frame. Errors wrap ErrCorrupt.
func ParseVP8(frame []byte) (VP8Header, error) {
	if len(frame) < 3 {
		return VP8Header{}, fmt.Errorf("VP8 frame of %d bytes: %w", len(frame), ErrCorrupt)
	}
	if frame[0]&1 != 0 {
		return VP8Header{}, nil
	}
	if len(frame) < 10 || frame[3] != 0x9d || frame[4] != 0x01 || frame[5] != 0x2a {
		return VP8Header{}, fmt.Errorf("VP8 keyframe without its start code: %w", ErrCorrupt)
	}
	return VP8Header{
		Keyframe: true,
		Width:    (int(frame[6]) | int(frame[7])<<8) & 0x3fff,
		Height:   (int(frame[8]) | int(frame[9])<<8) & 0x3fff,
	}, nil
}

type vpxErr C.int

func vpxError(rc C.int) error { return vpxErr(rc) }

func (e vpxErr) Error() string {
	return "libvpx: " + C.GoString(C.vpx_codec_err_to_string(C.vpx_codec_err_t(e)))
}
