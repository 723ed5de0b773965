package peer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"vindu/media/codec"
)

const (
	// maxPayload keeps a packet under 1200 bytes of UDP payload: 12 header, 8 extension, 16 tag, and 4 in front of a
	// retransmission, so that it passes a TURN relay over any path that passes 1280 (RFC 8200 §5).
	maxPayload = 1150

	vp8Head = 4 // descriptor with 15-bit picture ID

	// Pacing: what exceeds the burst leaves at paceFactor times the target, so that a keyframe makes no long queue for sound to wait in; sound does not
	// wait here. The burst is what packet pairs are found by. The first keyframe of a call is let through at once.
	paceFactor = 1.5
	paceBurst  = 3 * 1200
	firstBurst = 24_000
	paceQueue  = 512 // packets
)

// track is a webrtc.TrackLocal that takes packets from its owner without copying or allocating.
type track struct {
	id   string
	kind webrtc.RTPCodecType
	mime string

	mu     sync.Mutex
	writer webrtc.TrackLocalWriter
	header rtp.Header

	packets, bytes uint64
}

var _ webrtc.TrackLocal = (*track)(nil)

func newTrack(kind webrtc.RTPCodecType, mime string) *track {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return &track{
		id: kind.String(), kind: kind, mime: mime,
		// Room for wrapping is left: SRTP's roll-over counter starts safest from the lower half (RFC 3711 §3.3.1).
		header: rtp.Header{Version: 2, SequenceNumber: binary.BigEndian.Uint16(b[:]) >> 1},
	}
}

func (t *track) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, codec := range c.CodecParameters() {
		if !strings.EqualFold(codec.MimeType, t.mime) {
			continue
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.writer = c.WriteStream()
		t.header.SSRC, t.header.PayloadType = uint32(c.SSRC()), uint8(codec.PayloadType)
		return codec, nil
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

func (t *track) Unbind(webrtc.TrackLocalContext) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writer = nil
	return nil
}

func (t *track) ID() string                { return t.id }
func (t *track) RID() string               { return "" }
func (t *track) StreamID() string          { return "terminal" }
func (t *track) Kind() webrtc.RTPCodecType { return t.kind }

// write sends one packet. The caller holds t.mu.
func (t *track) write(ts uint32, marker bool, payload []byte) error {
	if t.writer == nil {
		return nil // the far end does not want this kind
	}
	h := &t.header
	h.Timestamp, h.Marker = ts, marker
	h.Extension, h.Extensions = false, h.Extensions[:0]
	n, err := t.writer.WriteRTP(h, payload)
	h.SequenceNumber++
	if err != nil {
		return err
	}
	t.packets++
	t.bytes += uint64(n)
	return nil
}

func (t *track) counts() (packets, bytes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.packets, t.bytes
}

// queued is a packet that waits for its turn.
type queued struct {
	ts     uint32
	marker bool
	n      int
	data   [maxPayload]byte
}

// videoSender cuts frames into packets and paces them with a token bucket. All of it is under track.mu.
type videoSender struct {
	track  *track
	cut    cutter
	offset uint32
	buf    [maxPayload]byte

	rate   float64 // bytes per second
	tokens float64
	last   time.Time
	queue  []queued // ring, made when first needed
	head   int
	held   int
	wake   chan struct{}

	dropped uint64 // frames for which the queue had no room
}

func newVideoSender(t *track) *videoSender {
	return &videoSender{track: t, cut: newCutter(codec.VP8), offset: randomUint32(), tokens: firstBurst, wake: make(chan struct{}, 1)}
}

func randomUint32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// setRate sets the target in bit/s that pacing goes by.
func (v *videoSender) setRate(bitrate int) {
	v.track.mu.Lock()
	v.rate = float64(bitrate) / 8 * paceFactor
	v.track.mu.Unlock()
}

// write sends a frame, or queues what is too much at once. It reports whether the whole frame was taken: if not, none of it
// was, and the next frame should be a keyframe.
func (v *videoSender) write(frame []byte, ts uint32, now time.Time) (bool, error) {
	if len(frame) == 0 {
		return true, nil
	}
	v.track.mu.Lock()
	defer v.track.mu.Unlock()
	count := v.cut.begin(frame)
	if v.held+count > paceQueue {
		v.dropped++
		return false, nil
	}
	v.refill(now)
	var first error
	for i := range count {
		last := i == count-1
		if v.held > 0 || v.tokens <= 0 {
			q := v.hold()
			q.ts, q.marker = ts+v.offset, last
			q.n = v.cut.next(q.data[:])
			continue
		}
		n := v.cut.next(v.buf[:])
		v.tokens -= float64(n)
		if err := v.track.write(ts+v.offset, last, v.buf[:n]); err != nil && first == nil {
			first = err
		}
	}
	if v.held > 0 {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
	return true, first
}

// hold makes room for one more packet that waits.
func (v *videoSender) hold() *queued {
	if v.queue == nil {
		v.queue = make([]queued, paceQueue)
	}
	v.held++
	return &v.queue[(v.head+v.held-1)%paceQueue]
}

func (v *videoSender) refill(now time.Time) {
	if !v.last.IsZero() {
		// The first burst stands until it is used.
		gain := now.Sub(v.last).Seconds() * v.rate
		v.tokens = max(v.tokens, min(v.tokens+gain, paceBurst))
	}
	v.last = now
}

// drain sends what has waited long enough and returns how long the next packet has to wait; 0 if none does.
func (v *videoSender) drain(now time.Time) (time.Duration, error) {
	v.track.mu.Lock()
	defer v.track.mu.Unlock()
	v.refill(now)
	for v.held > 0 {
		if v.tokens <= 0 {
			return max(time.Duration(-v.tokens/max(v.rate, 1)*float64(time.Second)), time.Millisecond), nil
		}
		q := &v.queue[v.head]
		v.head = (v.head + 1) % paceQueue
		v.held--
		v.tokens -= float64(q.n)
		if err := v.track.write(q.ts, q.marker, q.data[:q.n]); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// run sends what write has queued.
func (v *videoSender) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-timer.C:
		}
		if pause, _ := v.drain(time.Now()); pause > 0 {
			timer.Reset(pause)
		}
	}
}

func (v *videoSender) drops() uint64 {
	v.track.mu.Lock()
	defer v.track.mu.Unlock()
	return v.dropped
}

// WriteVideo sends one frame, coded as VideoCodec says, captured at ts (90 kHz). It reports false if the frame was not taken because too much
// waits to be sent; the frame after it must then be a keyframe. For one goroutine.
func (p *Peer) WriteVideo(frame []byte, ts uint32) (bool, error) {
	ok, err := p.video.write(frame, ts, time.Now())
	if err != nil {
		return ok, fmt.Errorf("send video: %w", err)
	}
	return ok, nil
}

// WriteAudio sends one Opus packet whose first sample is number ts (48 kHz). For one goroutine.
func (p *Peer) WriteAudio(packet []byte, ts uint32) error {
	p.audio.mu.Lock()
	defer p.audio.mu.Unlock()
	if err := p.audio.write(ts+p.audioOffset, false, packet); err != nil {
		return fmt.Errorf("send audio: %w", err)
	}
	return nil
}

// SetVideoRate tells the pacing what the encoder's target is, in bit/s.
func (p *Peer) SetVideoRate(bitrate int) { p.video.setRate(bitrate) }
