package session

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"vindu/media/camera"
	"vindu/media/codec"
	"vindu/media/yuv"
)

const (
	rateEvery   = 200 * time.Millisecond
	keyframeGap = 300 * time.Millisecond // at least, between keyframes that the far end asks for
	videoClock  = 90000
)

// picture is a camera's picture on its way to the encoder.
type picture struct {
	img     *image.YCbCr
	release func()
	at      time.Time
}

// slot holds the newest picture. Putting another one in releases the one before.
type slot struct {
	mu   sync.Mutex
	pic  picture
	full bool
	wake chan struct{}

	dropped atomic.Uint64
}

func newSlot() *slot { return &slot{wake: make(chan struct{}, 1)} }

func (s *slot) put(p picture) {
	s.mu.Lock()
	old, full := s.pic, s.full
	s.pic, s.full = p, true
	s.mu.Unlock()
	if full {
		old.release()
		s.dropped.Add(1)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *slot) take() (picture, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, full := s.pic, s.full
	s.pic, s.full = picture{}, false
	return p, full
}

func (s *slot) empty() {
	if p, ok := s.take(); ok {
		p.release()
	}
}

// nearStats counts our own picture and sound.
type nearStats struct {
	captured, encoded, skipped, keyframes, bytes, tooFast atomic.Uint64
	encoding                                              atomic.Int64
	bitrate, width, height, fps                           atomic.Int64
	soundFrames                                           atomic.Uint64
	soundBits                                             atomic.Uint64 // that left, with the packets' heads
	paused                                                atomic.Bool
	coder                                                 atomic.Pointer[string]
}

// answeredOr waits until Open was called; false if ctx ends first.
func (s *Session) answeredOr(ctx context.Context) bool {
	select {
	case <-s.opened:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// retry waits before a lost device is tried again; false if ctx ends first.
func (s *Session) retry(ctx context.Context) bool {
	t := time.NewTimer(s.cfg.RetryEvery*3/4 + rand.N(s.cfg.RetryEvery/2))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// runCamera keeps a camera open from Open until ctx ends. It returns when every Read has, also one that hangs in a driver.
func (s *Session) runCamera(ctx context.Context) {
	defer s.camera.attempted()
	if !s.answeredOr(ctx) || s.dev.OpenCamera == nil {
		return
	}
	var reads sync.WaitGroup
	defer func() {
		reads.Wait()
		s.slot.empty()
	}()
	lost := false
	for ctx.Err() == nil {
		open, leave, ok := s.veil.enter(ctx)
		if !ok {
			return
		}
		err := errHopeless
		if s.camera.hanging() < mostHanging {
			var cam Camera
			if cam, err = s.dev.OpenCamera(open); err == nil {
				s.camera.open(time.Now())
				s.stage(&s.times.CameraOpen)
				s.keys.Store(true)
				s.emit(Event{Kind: CameraOpened})
				s.camera.attempted()
				lost = false
				err = s.film(open, cam, &reads)
				s.slot.empty()
				s.camera.shut(time.Now())
			}
		}
		drawn := open.Err() != nil
		leave()
		if ctx.Err() != nil {
			return
		}
		if drawn {
			continue
		}
		if !lost {
			lost = true
			s.log.Warn("camera lost", "error", err)
			s.emit(Event{Kind: CameraLost, Err: err})
		}
		s.camera.attempted()
		if !s.retry(ctx) {
			return
		}
	}
}

const (
	// stuckAfter is how long a Read may take: longer than a camera needs to know by itself that no picture comes, and so that a stuck one is
	// closed, and opened again, within 10 s.
	stuckAfter = 6 * time.Second
	// mostHanging is how many Reads may hang in a driver at once. Then the camera is not opened again before one of them returns.
	mostHanging = 3
)

// film has cam read in a goroutine of its own, and closes it when that ends, when a Read gets stuck, or when ctx ends.
func (s *Session) film(ctx context.Context, cam Camera, reads *sync.WaitGroup) error {
	own, stop := context.WithCancel(ctx)
	defer stop()
	beat := make(chan struct{}, 1)
	ended := make(chan error, 1)
	s.camera.enter()
	reads.Go(func() {
		err := s.readCamera(own, cam, beat)
		s.camera.leave(time.Now())
		ended <- err
	})
	shut := func() {
		if err := cam.Close(); err != nil {
			s.log.Warn("camera closed with an error", "error", err)
		}
	}
	timer := time.NewTimer(stuckAfter)
	defer timer.Stop()
	for {
		select {
		case <-beat:
			timer.Reset(stuckAfter)
		case err := <-ended:
			shut()
			return err
		case <-ctx.Done():
			shut()
			<-ended // closed is closed: not before nobody reads
			return ctx.Err()
		case <-timer.C:
			stop()
			shut()
			return errStuckRead
		}
	}
}

var (
	errStuckRead = fmt.Errorf("no picture and no error for %s: the driver hangs: %w", stuckAfter, camera.ErrTimeout)
	errHopeless  = fmt.Errorf("%d reads hang in the driver: %w", mostHanging, camera.ErrTimeout)
)

// readCamera hands pictures to screen and encoder until the camera fails or ctx ends.
func (s *Session) readCamera(ctx context.Context, cam Camera, beat chan<- struct{}) error {
	for {
		raw, release, err := cam.Read()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			release()
			return ctx.Err()
		}
		select {
		case beat <- struct{}{}:
		default:
		}
		img, ok := raw.(*image.YCbCr)
		if !ok || img.SubsampleRatio != image.YCbCrSubsampleRatio420 {
			release()
			return errors.New("camera delivers pictures that are not I420")
		}
		s.near.captured.Add(1)
		s.dev.Screen.Self(img)
		s.slot.put(picture{img: img, release: release, at: time.Now()})
	}
}

// runEncoder codes the newest picture and sends it, until ctx ends. The encoder is made and warmed before the call is answered.
func (s *Session) runEncoder(ctx context.Context) {
	_, wanted := s.peer.Offers()
	if !wanted {
		s.discard(ctx)
		return
	}
	e, err := newEncoder(s)
	if err != nil {
		s.log.Error("cannot encode video", "error", err)
		s.discard(ctx)
		return
	}
	defer e.close()
	// A picture that comes before the connection waits in the slot until a newer one does, and leaves at once.
	select {
	case <-ctx.Done():
		return
	case <-s.secure:
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.slot.wake:
		}
		if p, ok := s.slot.take(); ok {
			var err error
			if s.veil.try() {
				err = e.send(p)
				s.veil.leave()
			}
			p.release()
			if err != nil && ctx.Err() == nil {
				s.log.Debug("picture not sent", "error", err)
			}
		}
	}
}

// discard lets pictures go that nobody wants.
func (s *Session) discard(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.slot.wake:
			s.slot.empty()
		}
	}
}

// encoder sends pictures. It belongs to one goroutine.
type encoder struct {
	s      *Session
	coders []codec.Coder // of the codec that was negotiated; the one at work is first
	enc    codec.VideoEncoder
	gov    *governor
	want   quality
	scaled *image.YCbCr

	began   time.Time
	updated time.Time
	lastKey time.Time
	due     time.Time // when the next picture should come
	bits    uint64    // of sound that had left by then
	sound   float64   // bit/s of sound that leave, smoothed
	load    float64   // share of the time between pictures that scaling and coding takes, smoothed
	pts     int64
	sent    bool
}

func newEncoder(s *Session) (*encoder, error) {
	e := &encoder{s: s, began: s.start}
	e.gov = newGovernor(image.Pt(s.cfg.Width, s.cfg.Height), s.cfg.FPS, s.cfg.StartBitrate, s.cfg.MaxBitrate, s.cfg.AudioBitrate)
	e.scaled = yuv.New(2, 2) // most calls never scale
	for _, c := range s.cfg.Video {
		if c.Kind == s.peer.VideoCodec() {
			e.coders = append(e.coders, c)
		}
	}
	if err := e.open(s.cfg.StartBitrate); err != nil {
		return nil, err
	}
	e.govern(time.Now())
	return e, nil
}

// open makes an encoder by the first coder that makes one and codes a picture; those before it are left out.
func (e *encoder) open(bitrate int) error {
	var errs []error
	for ; len(e.coders) > 0; e.coders = e.coders[1:] {
		c := e.coders[0]
		enc, err := c.NewEncoder(codec.VideoConfig{Width: e.s.cfg.Width, Height: e.s.cfg.Height, FPS: e.s.cfg.FPS, Bitrate: bitrate})
		if err == nil {
			// The first picture touches all of the encoder's memory. It goes nowhere.
			if _, err = enc.Encode(yuv.New(e.s.cfg.Width, e.s.cfg.Height), 1); err == nil {
				enc.ForceKeyframe()
				e.enc, e.pts = enc, max(e.pts, 1)
				e.s.near.coder.Store(&c.Name)
				return nil
			}
			_ = enc.Close()
		}
		e.s.log.Warn("cannot encode with this", "coder", c.Name, "error", err)
		errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
	}
	return fmt.Errorf("nothing encodes %s: %w", e.s.peer.VideoCodec(), errors.Join(errs...))
}

// replace puts the next coder in the place of one that failed, and reports whether there was one.
func (e *encoder) replace(err error) bool {
	if len(e.coders) < 2 || errors.Is(err, codec.ErrPicture) || errors.Is(err, codec.ErrTooLarge) {
		return false
	}
	e.s.log.Warn("encoder failed, another one takes its place", "coder", e.coders[0].Name, "error", err)
	failed, left := e.enc, e.coders
	e.coders = e.coders[1:]
	if err := e.open(e.want.bitrate); err != nil {
		e.coders = left[:1]
		return false
	}
	_ = failed.Close()
	return true
}

func (e *encoder) close() { _ = e.enc.Close() }

// govern follows the bandwidth estimate.
func (e *encoder) govern(now time.Time) {
	if now.Sub(e.updated) < rateEvery {
		return
	}
	dt := now.Sub(e.updated)
	e.updated = now
	target := e.s.peer.TargetBitrate()
	lost, _ := e.s.peer.LossNow()
	sound := soundBitrate(e.s.cfg.AudioBitrate, target)
	bits := e.s.near.soundBits.Load()
	e.sound += (float64(bits-e.bits)/max(dt.Seconds(), rateEvery.Seconds()) - e.sound) / 4
	e.bits = bits
	q := e.gov.update(usable(target, sound, e.sound, lost), sound, e.load, now)
	if q.paused != e.want.paused {
		kind := PicturePaused
		if !q.paused {
			kind = PictureResumed
			e.enc.ForceKeyframe()
		}
		e.s.near.paused.Store(q.paused)
		e.s.log.Info("picture and line", "paused", q.paused, "target", target)
		e.s.emit(Event{Kind: kind})
	}
	if q.bitrate != e.want.bitrate {
		e.enc.SetBitrate(q.bitrate)
		e.s.peer.SetVideoRate(q.bitrate)
		e.s.near.bitrate.Store(int64(q.bitrate))
	}
	if q.size != e.want.size || q.fps != e.want.fps {
		e.s.near.width.Store(int64(q.size.X))
		e.s.near.height.Store(int64(q.size.Y))
		e.s.near.fps.Store(int64(q.fps))
	}
	e.want = q
}

// send codes p and sends it.
func (e *encoder) send(p picture) error {
	s := e.s
	e.govern(p.at)
	if e.want.paused {
		s.near.skipped.Add(1)
		return nil
	}
	// Pictures come with jitter, so that one is taken that is early by up to a third of the interval.
	interval := time.Duration(float64(time.Second) / e.want.fps)
	if p.at.Before(e.due.Add(-interval / 3)) {
		s.near.skipped.Add(1)
		return nil
	}
	e.due = maxTime(e.due.Add(interval), p.at.Add(interval*2/3))

	began := time.Now()
	img, err := e.fit(p.img)
	if err != nil {
		return err
	}
	if s.keys.Load() && p.at.Sub(e.lastKey) >= keyframeGap {
		s.keys.Store(false)
		e.enc.ForceKeyframe()
	}
	pts := max(int64(p.at.Sub(e.began))*9/100_000, e.pts+1)
	e.pts = pts
	f, err := e.enc.Encode(img, pts)
	if err != nil && e.replace(err) {
		f, err = e.enc.Encode(img, pts)
	}
	took := time.Since(began)
	s.near.encoding.Add(int64(took))
	e.load += (float64(took)/float64(interval) - e.load) / 16
	if err != nil {
		return err
	}
	e.gov.coded(len(f.Data) == 0)
	if len(f.Data) == 0 {
		s.near.tooFast.Add(1)
		return nil
	}
	ok, err := s.peer.WriteVideo(f.Data, uint32(pts))
	if err != nil {
		return err
	}
	if !ok {
		s.near.tooFast.Add(1)
		e.enc.ForceKeyframe()
		return nil
	}
	if f.Keyframe {
		e.lastKey = p.at
		s.near.keyframes.Add(1)
	}
	s.near.encoded.Add(1)
	s.near.bytes.Add(uint64(len(f.Data)))
	if !e.sent {
		e.sent = true
		s.stage(&s.times.Sending)
		s.emit(Event{Kind: Sending})
	}
	return nil
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fit scales img to the size that is wanted, keeping its shape. A picture that is small enough is taken as it is.
func (e *encoder) fit(img *image.YCbCr) (*image.YCbCr, error) {
	in, out := img.Rect.Size(), e.want.size
	if in.X <= out.X && in.Y <= out.Y {
		return img, nil
	}
	if in.X*out.Y > in.Y*out.X {
		out.Y = max(in.Y*out.X/in.X&^1, 2)
	} else {
		out.X = max(in.X*out.Y/in.Y&^1, 2)
	}
	if e.scaled.Rect.Size() != out {
		e.scaled = yuv.New(out.X, out.Y)
	}
	return e.scaled, yuv.Scale(e.scaled, img, yuv.Box)
}
