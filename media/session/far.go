package session

import (
	"context"
	"image"
	"sync"
	"time"

	"vindu/media/codec"
	"vindu/media/peer"
)

const (
	farQueue = 8 // frames that wait to be decoded

	// A pause between pictures is a freeze if it is as long as three mean intervals of the last 30, and as the mean and this (W3C webrtc-stats,
	// freezeCount). As in libwebrtc the mean has the pause itself in it, and takes five intervals.
	freezeOver = 150 * time.Millisecond
	freezeMean = 30
	freezeFrom = 5
)

// freezes finds the pauses that are freezes. The zero value is ready.
type freezes struct {
	last   time.Time
	spans  [freezeMean]time.Duration
	n, at  int
	sum    time.Duration
	number uint64
	whole  time.Duration // of pauses that were freezes (webrtc-stats, totalFreezesDuration)
}

func (f *freezes) shown(now time.Time) {
	if last := f.last; !last.IsZero() {
		gap := now.Sub(last)
		f.sum += gap - f.spans[f.at]
		f.spans[f.at] = gap
		f.at, f.n = (f.at+1)%freezeMean, min(f.n+1, freezeMean)
		if mean := f.sum / time.Duration(f.n); f.n >= freezeFrom && gap >= max(3*mean, mean+freezeOver) {
			f.number++
			f.whole += gap
		}
	}
	f.last = now
}

// farVideo takes frames from the peer and decodes them in a goroutine of its own, so that reading packets is never held up.
type farVideo struct {
	mu      sync.Mutex
	queue   [farQueue]farFrame
	head, n int
	needKey bool
	wake    chan struct{}
	stats   FarStats

	spare []byte  // belongs to run
	still freezes // guarded by mu
}

type farFrame struct {
	data []byte
	kind codec.Kind
	key  bool
}

// FarStats counts the caller's picture.
type FarStats struct {
	Frames        uint64 // shown
	Dropped       uint64 // because decoding was too slow
	Broken        uint64 // could not be decoded
	Freezes       uint64
	Frozen        time.Duration
	Width, Height int
	Decoding      time.Duration // in all
	Codec         codec.Kind    // of the last picture
}

func newFarVideo() *farVideo {
	return &farVideo{wake: make(chan struct{}, 1), needKey: true}
}

// put queues a frame and reports whether the stream can go on with it. If not, a keyframe is needed.
func (v *farVideo) put(f peer.VideoFrame) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.needKey && !f.Keyframe {
		v.stats.Dropped++
		return false
	}
	if v.n == farQueue {
		// Too slow: what waits is old anyway.
		v.stats.Dropped += uint64(v.n)
		v.n, v.needKey = 0, true
		if !f.Keyframe {
			v.stats.Dropped++
			return false
		}
	}
	v.needKey = false
	q := &v.queue[(v.head+v.n)%farQueue]
	v.n++
	q.data, q.kind, q.key = append(q.data[:0], f.Data...), f.Codec, f.Keyframe
	select {
	case v.wake <- struct{}{}:
	default:
	}
	return true
}

func (v *farVideo) take() ([]byte, codec.Kind, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.n == 0 {
		return nil, 0, false
	}
	q := &v.queue[v.head]
	v.head = (v.head + 1) % farQueue
	v.n--
	// The buffers change places, so that put can go on while this one is decoded.
	q.data, v.spare = v.spare, q.data
	return v.spare, q.kind, true
}

// run decodes and shows until ctx ends.
func (v *farVideo) run(ctx context.Context, s *Session) {
	var dec decoders
	defer dec.close()
	// What is expected is made before it comes.
	if _, err := dec.of(s.peer.VideoCodec()); err != nil {
		s.log.Error("cannot decode video", "error", err)
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		for ctx.Err() == nil {
			data, kind, ok := v.take()
			if !ok {
				break
			}
			began := time.Now()
			img, err := dec.decode(kind, data)
			now := time.Now()
			if err != nil {
				v.broken()
				s.peer.RequestKeyframe()
				continue
			}
			if img == nil || !s.veil.try() {
				continue
			}
			s.dev.Screen.Far(img)
			s.veil.leave()
			if v.shown(now, now.Sub(began), img.Rect.Dx(), img.Rect.Dy(), kind) {
				s.stage(&s.times.FarVideo)
				s.emit(Event{Kind: FarVideo})
			}
		}
	}
}

// decoders are one for each codec that the far end sends.
type decoders [2]codec.VideoDecoder

func (d *decoders) of(k codec.Kind) (codec.VideoDecoder, error) {
	if d[k] == nil {
		made, err := codec.NewDecoder(k)
		if err != nil {
			return nil, err
		}
		d[k] = made
	}
	return d[k], nil
}

func (d *decoders) decode(k codec.Kind, data []byte) (*image.YCbCr, error) {
	dec, err := d.of(k)
	if err != nil {
		return nil, err
	}
	return dec.Decode(data)
}

func (d *decoders) close() {
	for _, dec := range d {
		if dec != nil {
			_ = dec.Close()
		}
	}
}

func (v *farVideo) broken() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stats.Broken++
	v.n, v.needKey = 0, true
}

// clear forgets what waits, as nobody will see it.
func (v *farVideo) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n, v.needKey = 0, true
}

// resume begins anew after a pause that was meant: it is no freeze.
func (v *farVideo) resume() {
	v.clear()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.still.last = time.Time{}
}

// shown counts a picture and reports whether it was the first.
func (v *farVideo) shown(now time.Time, took time.Duration, w, h int, kind codec.Kind) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stats.Frames++
	v.stats.Decoding += took
	v.stats.Width, v.stats.Height, v.stats.Codec = w, h, kind
	v.still.shown(now)
	v.stats.Freezes, v.stats.Frozen = v.still.number, v.still.whole
	return v.stats.Frames == 1
}

func (v *farVideo) snapshot() FarStats {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stats
}
