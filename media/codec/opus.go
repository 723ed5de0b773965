package codec

/*
#cgo pkg-config: opus
#include <opus.h>

// opus_encoder_ctl takes variable arguments, which cgo cannot call.
static int vindu_opus_set(OpusEncoder *e, int bitrate, int complexity, int loss, int fec, int dtx) {
	int rc;
	if ((rc = opus_encoder_ctl(e, OPUS_SET_BITRATE(bitrate))) != OPUS_OK) return rc;
	if ((rc = opus_encoder_ctl(e, OPUS_SET_COMPLEXITY(complexity))) != OPUS_OK) return rc;
	if ((rc = opus_encoder_ctl(e, OPUS_SET_PACKET_LOSS_PERC(loss))) != OPUS_OK) return rc;
	if ((rc = opus_encoder_ctl(e, OPUS_SET_INBAND_FEC(fec))) != OPUS_OK) return rc;
	if ((rc = opus_encoder_ctl(e, OPUS_SET_DTX(dtx))) != OPUS_OK) return rc;
	return opus_encoder_ctl(e, OPUS_SET_SIGNAL(OPUS_SIGNAL_VOICE));
}
static int vindu_opus_reset(OpusDecoder *d) { return opus_decoder_ctl(d, OPUS_RESET_STATE); }

#cgo noescape opus_encode
#cgo nocallback opus_encode
#cgo noescape opus_decode
#cgo nocallback opus_decode
#cgo noescape opus_packet_get_nb_samples
#cgo nocallback opus_packet_get_nb_samples
*/
import "C"

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

const (
	// SampleRate is the rate of all sound here.
	SampleRate = 48000

	// maxOpusPacket bounds a packet: 1275 bytes per frame, at most 20 ms frames are sent, browsers send no more than 120 ms
	// (RFC 6716 §3.2.1, §3.4).
	maxOpusPacket = 1500
	// MaxOpusSamples is the longest that an Opus packet can be: 120 ms (RFC 6716 §3.2.5).
	MaxOpusSamples = SampleRate * 120 / 1000
)

// OpusConfig says how an OpusEncoder works. Zero values take the default that is named.
type OpusConfig struct {
	FrameSamples int  // 480 (10 ms) or 960 (20 ms). 960
	Bitrate      int  // bit/s. 32,000
	Complexity   int  // 1 to 10. 5
	NoFEC        bool // leave out the copy of the last frame in each packet that a lossy line wants
	DTX          bool // send next to nothing while nobody speaks; see SetDTX
}

// OpusEncoder codes 48 kHz mono speech (RFC 6716).
type OpusEncoder struct {
	c   *C.OpusEncoder
	cfg OpusConfig
	out [maxOpusPacket]byte

	bitrate, loss         int
	dtx                   bool
	wantBitrate, wantLoss atomic.Int64
	wantDTX               atomic.Bool
}

// NewOpusEncoder makes an encoder.
func NewOpusEncoder(cfg OpusConfig) (*OpusEncoder, error) {
	if cfg.FrameSamples == 0 {
		cfg.FrameSamples = 960
	}
	if cfg.FrameSamples != 480 && cfg.FrameSamples != 960 {
		return nil, fmt.Errorf("make Opus encoder: frames of %d samples, want 480 or 960", cfg.FrameSamples)
	}
	if cfg.Bitrate == 0 {
		cfg.Bitrate = 32_000
	}
	if cfg.Complexity == 0 {
		cfg.Complexity = 5
	}
	var rc C.int
	c := C.opus_encoder_create(SampleRate, 1, C.OPUS_APPLICATION_VOIP, &rc)
	if rc != C.OPUS_OK {
		return nil, fmt.Errorf("make Opus encoder: %w", opusErr(rc))
	}
	e := &OpusEncoder{c: c, cfg: cfg}
	e.SetBitrate(cfg.Bitrate)
	e.SetLoss(5)
	e.SetDTX(cfg.DTX)
	if err := e.follow(); err != nil {
		C.opus_encoder_destroy(c)
		return nil, err
	}
	return e, nil
}

// SetBitrate sets the target in bit/s from the next frame on, within 6 and 128 kbit/s. Any goroutine.
func (e *OpusEncoder) SetBitrate(bitrate int) {
	e.wantBitrate.Store(int64(min(max(bitrate, 6_000), 128_000)))
}

// SetLoss says how many percent of the packets are expected to be lost, which decides how much the copy
// for error correction is worth. Any goroutine.
func (e *OpusEncoder) SetLoss(percent int) { e.wantLoss.Store(int64(min(max(percent, 0), 100))) }

// SetDTX says whether next to nothing is to be sent while nobody speaks, from the next frame on (RFC 7587 §3.1.3). What is speech libopus
// decides, and takes a steady tone for noise. Any goroutine.
func (e *OpusEncoder) SetDTX(on bool) { e.wantDTX.Store(on) }

func (e *OpusEncoder) follow() error {
	bitrate, loss, dtx := int(e.wantBitrate.Load()), int(e.wantLoss.Load()), e.wantDTX.Load()
	if bitrate == e.bitrate && loss == e.loss && dtx == e.dtx {
		return nil
	}
	if rc := C.vindu_opus_set(e.c, C.int(bitrate), C.int(e.cfg.Complexity), C.int(loss),
		cBool(!e.cfg.NoFEC), cBool(dtx)); rc != C.OPUS_OK {
		return fmt.Errorf("set Opus encoder: %w", opusErr(rc))
	}
	e.bitrate, e.loss, e.dtx = bitrate, loss, dtx
	return nil
}

// Encode codes one frame of cfg.FrameSamples. The packet is valid until the next Encode. With DTX, a packet
// of two bytes or fewer need not be sent.
func (e *OpusEncoder) Encode(pcm []int16) ([]byte, error) {
	if e.c == nil {
		return nil, fmt.Errorf("encode Opus: %w", ErrClosed)
	}
	if len(pcm) != e.cfg.FrameSamples {
		return nil, fmt.Errorf("encode Opus: %d samples, want %d", len(pcm), e.cfg.FrameSamples)
	}
	if err := e.follow(); err != nil {
		return nil, err
	}
	n := C.opus_encode(e.c, (*C.opus_int16)(unsafe.Pointer(&pcm[0])), C.int(len(pcm)),
		(*C.uchar)(unsafe.Pointer(&e.out[0])), maxOpusPacket)
	if n < 0 {
		return nil, fmt.Errorf("encode Opus: %w", opusErr(n))
	}
	return e.out[:n], nil
}

// Close frees the encoder. It may be called again.
func (e *OpusEncoder) Close() error {
	if e.c != nil {
		C.opus_encoder_destroy(e.c)
		e.c = nil
	}
	return nil
}

// OpusDecoder decodes to 48 kHz mono.
type OpusDecoder struct{ c *C.OpusDecoder }

// NewOpusDecoder makes a decoder.
func NewOpusDecoder() (*OpusDecoder, error) {
	var rc C.int
	c := C.opus_decoder_create(SampleRate, 1, &rc)
	if rc != C.OPUS_OK {
		return nil, fmt.Errorf("make Opus decoder: %w", opusErr(rc))
	}
	return &OpusDecoder{c: c}, nil
}

// OpusSamples returns how many 48 kHz samples a packet holds. Errors wrap ErrCorrupt or ErrTooLarge.
func OpusSamples(packet []byte) (int, error) {
	if len(packet) == 0 {
		return 0, fmt.Errorf("empty Opus packet: %w", ErrCorrupt)
	}
	if len(packet) > maxOpusPacket {
		return 0, fmt.Errorf("Opus packet of %d bytes: %w", len(packet), ErrTooLarge)
	}
	n := C.opus_packet_get_nb_samples((*C.uchar)(unsafe.Pointer(&packet[0])), C.opus_int32(len(packet)), SampleRate)
	if n <= 0 || n > MaxOpusSamples {
		return 0, fmt.Errorf("length of Opus packet: %w", ErrCorrupt)
	}
	return int(n), nil
}

// Decode decodes packet into pcm and returns the number of samples. pcm should hold MaxOpusSamples.
// Errors wrap ErrCorrupt, ErrTooLarge or ErrClosed.
func (d *OpusDecoder) Decode(packet []byte, pcm []int16) (int, error) {
	n, err := OpusSamples(packet)
	if err != nil {
		return 0, fmt.Errorf("decode: %w", err)
	}
	if n > len(pcm) {
		return 0, fmt.Errorf("decode Opus packet of %d samples into %d: %w", n, len(pcm), ErrTooLarge)
	}
	return d.decode(packet, pcm, 0)
}

// DecodeFEC recovers the frame before packet, of len(pcm) samples, from the copy that packet carries, and
// conceals it if there is none.
func (d *OpusDecoder) DecodeFEC(packet []byte, pcm []int16) (int, error) {
	if _, err := OpusSamples(packet); err != nil {
		return 0, fmt.Errorf("decode copy: %w", err)
	}
	return d.decode(packet, pcm, 1)
}

// Conceal fills pcm (a multiple of 120 samples) with what a lost packet may have held.
func (d *OpusDecoder) Conceal(pcm []int16) (int, error) { return d.decode(nil, pcm, 0) }

func (d *OpusDecoder) decode(packet []byte, pcm []int16, fec C.int) (int, error) {
	if d.c == nil {
		return 0, fmt.Errorf("decode Opus: %w", ErrClosed)
	}
	if len(pcm) == 0 {
		return 0, fmt.Errorf("decode Opus into nothing: %w", ErrTooLarge)
	}
	n := C.opus_decode(d.c, (*C.uchar)(unsafe.Pointer(unsafe.SliceData(packet))), C.opus_int32(len(packet)),
		(*C.opus_int16)(unsafe.Pointer(&pcm[0])), C.int(min(len(pcm), MaxOpusSamples)), fec)
	if n < 0 {
		return 0, fmt.Errorf("decode Opus: %w: %w", ErrCorrupt, opusErr(n))
	}
	return int(n), nil
}

// Reset forgets what was decoded before, for a new stream.
func (d *OpusDecoder) Reset() {
	if d.c != nil {
		C.vindu_opus_reset(d.c)
	}
}

// Close frees the decoder. It may be called again.
func (d *OpusDecoder) Close() error {
	if d.c != nil {
		C.opus_decoder_destroy(d.c)
		d.c = nil
	}
	return nil
}

func cBool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

type opusErr C.int

func (e opusErr) Error() string { return "libopus: " + C.GoString(C.opus_strerror(C.int(e))) }
