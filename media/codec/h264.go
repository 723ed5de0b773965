package codec

/*
#cgo pkg-config: openh264
#include <stdlib.h>
#include "openh264.h"

#cgo noescape vindu_h264_encode
#cgo nocallback vindu_h264_encode
#cgo noescape vindu_h264_encoded
#cgo nocallback vindu_h264_encoded
#cgo noescape vindu_h264_decode
#cgo nocallback vindu_h264_decode
*/
import "C"

import (
	"fmt"
	"image"
	"slices"
	"sync/atomic"
	"unsafe"
)

// H264Config says how an H264Encoder works. Zero values take the default that is named.
type H264Config struct {
	Width, Height int     // of the pictures; the encoder follows others
	FPS           float64 // nominal; the real rate is learnt from the time stamps. 30
	Bitrate       int     // bit/s. 800,000
	Threads       int     // 1. Two take as much of the processors' time (docs/benchmarks.md)
}

// H264Encoder is a VideoEncoder by openh264: constrained baseline, one slice, constant bitrate, keyframes on request only. What it
// returns is in Annex B's byte stream (ITU-T H.264); a keyframe brings its parameter sets along.
type H264Encoder struct {
	c       *C.vindu_h264_encoder
	cfg     H264Config
	out     []byte
	w, h    int
	bitrate int     // that the library was told
	fps     float64 // that the library was told
	steer   steer
	timing  timing

	wantBitrate  atomic.Int64
	wantKeyframe atomic.Bool
}

var _ VideoEncoder = (*H264Encoder)(nil)

// openh264 goes from one picture a second to 60.
const minFPS, maxFPS = 1, 60

// NewH264Encoder makes an encoder.
func NewH264Encoder(cfg H264Config) (*H264Encoder, error) {
	if cfg.Width < 16 || cfg.Height < 16 || cfg.Width%2 != 0 || cfg.Height%2 != 0 {
		return nil, fmt.Errorf("make H.264 encoder of %d×%d: %w", cfg.Width, cfg.Height, ErrPicture)
	}
	if cfg.Width > maxSide || cfg.Height > maxSide {
		return nil, fmt.Errorf("make H.264 encoder of %d×%d: %w", cfg.Width, cfg.Height, ErrTooLarge)
	}
	if cfg.FPS <= 0 {
		cfg.FPS = 30
	}
	if cfg.Bitrate <= 0 {
		cfg.Bitrate = 800_000
	}
	if cfg.Threads <= 0 {
		cfg.Threads = 1
	}
	e := &H264Encoder{cfg: cfg, w: cfg.Width, h: cfg.Height, fps: min(max(cfg.FPS, minFPS), maxFPS)}
	e.SetBitrate(cfg.Bitrate)
	e.bitrate = int(e.wantBitrate.Load())
	e.timing.tick = videoClock / e.fps
	if rc := C.vindu_h264_encoder_new(&e.c, C.int(e.w), C.int(e.h), C.int(e.bitrate), C.float(e.fps), C.int(cfg.Threads)); rc != 0 {
		return nil, fmt.Errorf("make H.264 encoder of %d×%d: %w", e.w, e.h, openh264Error(rc))
	}
	return e, nil
}

// SetBitrate implements VideoEncoder. The target is held within 30 kbit/s and 20 Mbit/s.
func (e *H264Encoder) SetBitrate(bitrate int) {
	e.wantBitrate.Store(int64(min(max(bitrate, minBitrate), maxBitrate)))
}

// ForceKeyframe implements VideoEncoder.
func (e *H264Encoder) ForceKeyframe() { e.wantKeyframe.Store(true) }

// Encode implements VideoEncoder.
func (e *H264Encoder) Encode(img *image.YCbCr, pts int64) (Frame, error) {
	if e.c == nil {
		return Frame{}, fmt.Errorf("encode H.264: %w", ErrClosed)
	}
	if err := checkPicture(img); err != nil {
		return Frame{}, fmt.Errorf("encode H.264: %w", err)
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if w < 16 || h < 16 {
		return Frame{}, fmt.Errorf("encode H.264 picture of %d×%d: %w", w, h, ErrPicture)
	}
	ticks, err := e.timing.step(pts)
	if err != nil {
		return Frame{}, fmt.Errorf("encode H.264: %w", err)
	}
	if err := e.follow(w, h); err != nil {
		return Frame{}, err
	}
	key := C.int(0)
	if e.wantKeyframe.Swap(false) {
		key = 1
	}
	rc := C.vindu_h264_encode(e.c,
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(img.Y))),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(img.Cb))),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(img.Cr))),
		C.int(img.YStride), C.int(img.CStride), C.int64_t(e.timing.clock/(videoClock/1000)), key)
	size := int(e.c.size)
	if key != 0 && (rc != 0 || size == 0) { // the wish stands
		e.wantKeyframe.Store(true)
	}
	if rc != 0 {
		return Frame{}, fmt.Errorf("encode H.264: %w", openh264Error(rc))
	}
	e.steer.note(8*size, ticks)
	if size == 0 {
		return Frame{}, nil
	}
	e.out = slices.Grow(e.out[:0], size)[:size]
	C.vindu_h264_encoded(e.c, (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(e.out))))
	return Frame{Data: e.out, Keyframe: e.c.keyframe != 0}, nil
}

// follow takes over a new size, bitrate or frame rate.
func (e *H264Encoder) follow(w, h int) error {
	bitrate := e.steer.rate(int(e.wantBitrate.Load()))
	fps := min(max(videoClock/e.timing.tick, minFPS), maxFPS)
	if w != e.w || h != e.h {
		if rc := C.vindu_h264_encoder_resize(e.c, C.int(w), C.int(h), C.int(bitrate), C.float(fps)); rc != 0 {
			return fmt.Errorf("set H.264 encoder to %d×%d at %d bit/s: %w", w, h, bitrate, openh264Error(rc))
		}
		e.wantKeyframe.Store(true)
		e.w, e.h, e.bitrate, e.fps = w, h, bitrate, fps
		return nil
	}
	if bitrate != e.bitrate {
		if rc := C.vindu_h264_encoder_set_bitrate(e.c, C.int(bitrate)); rc != 0 {
			return fmt.Errorf("set H.264 encoder to %d bit/s: %w", bitrate, openh264Error(rc))
		}
		e.bitrate = bitrate
	}
	if fps > e.fps*1.1 || fps < e.fps*0.9 {
		if rc := C.vindu_h264_encoder_set_fps(e.c, C.float(fps)); rc != 0 {
			return fmt.Errorf("set H.264 encoder to %.1f pictures a second: %w", fps, openh264Error(rc))
		}
		e.fps = fps
	}
	return nil
}

// Close frees the encoder. It may be called again.
func (e *H264Encoder) Close() error {
	C.vindu_h264_encoder_free(e.c)
	e.c = nil
	return nil
}

// H264Decoder is a VideoDecoder by openh264, one thread. It takes access units in Annex B's byte stream.
type H264Decoder struct {
	c   *C.vindu_h264_decoder
	img image.YCbCr
	key bool // a keyframe has been decoded, and everything since
	old bool // something has been decoded
	set sps  // of the last keyframe that it was given
}

var _ VideoDecoder = (*H264Decoder)(nil)

// NewH264Decoder makes a decoder.
func NewH264Decoder() (*H264Decoder, error) {
	d := &H264Decoder{}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *H264Decoder) open() error {
	if rc := C.vindu_h264_decoder_new(&d.c); rc != 0 {
		return fmt.Errorf("make H.264 decoder: %w", openh264Error(rc))
	}
	return nil
}

// Decode implements VideoDecoder. A damaged picture is an error, never a picture that is made up.
func (d *H264Decoder) Decode(frame []byte) (*image.YCbCr, error) {
	if d.c == nil {
		return nil, fmt.Errorf("decode H.264: %w", ErrClosed)
	}
	if len(frame) > maxCoded {
		return nil, fmt.Errorf("decode H.264 frame of %d bytes: %w", len(frame), ErrTooLarge)
	}
	head, set, err := parseUnit(frame)
	if err != nil {
		return nil, fmt.Errorf("decode H.264: %w", err)
	}
	if !head.Keyframe && !d.key {
		return nil, fmt.Errorf("decode H.264: %w", ErrNotKeyframe)
	}
	if d.old && (!d.key || head.Keyframe && set != d.set) {
		// What is left of a damaged picture would damage this one, too: openh264 keeps it until the slices that are missing come. And
		// so that no picture is decoded by what another size has left: it keeps parameter sets of several names.
		C.vindu_h264_decoder_free(d.c)
		d.c, d.img = nil, image.YCbCr{}
		if err := d.open(); err != nil {
			return nil, err
		}
	}
	if d.old = true; head.Keyframe {
		d.set = set
	}
	state := C.vindu_h264_decode(d.c, (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(frame))), C.int(len(frame)))
	if state != 0 {
		d.key = false
		return nil, fmt.Errorf("decode H.264: %w: openh264's state is %#x", ErrCorrupt, int(state))
	}
	// A picture of which slices are missing gives nothing, and no error before the next one.
	w, h := int(d.c.width)&^1, int(d.c.height)&^1
	if d.c.y == nil || w <= 0 || h <= 0 {
		d.key = false
		return nil, fmt.Errorf("decode H.264: %w: it makes no whole picture", ErrCorrupt)
	}
	d.key = true
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
func (d *H264Decoder) Close() error {
	C.vindu_h264_decoder_free(d.c)
	d.c, d.img = nil, image.YCbCr{}
	return nil
}

type openh264Err C.int

func openh264Error(rc C.int) error { return openh264Err(rc) }

func (e openh264Err) Error() string {
	switch C.int(e) {
	case C.cmInitParaError:
		return "openh264: parameters are refused"
	case C.cmMallocMemeError:
		return "openh264: out of memory"
	case C.cmUnsupportedData:
		return "openh264: data is not supported"
	}
	return fmt.Sprintf("openh264: error %d", int(e))
}
