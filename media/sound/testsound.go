package sound

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	period = 10 * time.Millisecond
	// captureBacklog is how much captured sound waits for a reader, playbackBuffer how
	// much written sound waits to be played.
	captureBacklog = 120 * time.Millisecond
	playbackBuffer = 60 * time.Millisecond
)

// testSound is the synthetic Device. in belongs to the goroutine that reads, out to the one that writes.
type testSound struct {
	voice   *Voice
	in, out pacer
	tap     func([]int16)
	closing sync.Once
	done    chan struct{}

	captured, played, overruns, underruns atomic.Int64
}

// pacer stands for the clock of a sound card.
type pacer struct {
	next  time.Time // when the next frame is due
	timer *time.Timer
}

// wait blocks until at; false if done was closed before.
func (p *pacer) wait(at time.Time, done <-chan struct{}) bool {
	d := time.Until(at)
	if d <= 0 {
		return true
	}
	if p.timer == nil {
		p.timer = time.NewTimer(d)
	} else {
		p.timer.Reset(d)
	}
	select {
	case <-p.timer.C:
		return true
	case <-done:
		p.timer.Stop()
		return false
	}
}

// TestSound returns a Device that opens no card: it captures the speech-like sound of a Voice
// and hands what is played to tap (which may be nil) from the goroutine that calls Write;
// tap must not keep the frame. Both directions keep the pace and the buffer sizes of a real
// card. Its Info says that it is synthetic.
func TestSound(tap func(frame []int16)) Device {
	return &testSound{voice: NewVoice(), tap: tap, done: make(chan struct{})}
}

func (s *testSound) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *testSound) Read(frame []int16) error {
	if err := checkFrame(frame); err != nil {
		return err
	}
	if s.closed() {
		return ErrClosed
	}
	now := time.Now()
	if s.in.next.IsZero() {
		s.in.next = now.Add(period)
	}
	if now.Sub(s.in.next) > captureBacklog {
		s.overruns.Add(1)
		s.in.next = now
	}
	if !s.in.wait(s.in.next, s.done) {
		return ErrClosed
	}
	s.in.next = s.in.next.Add(period)
	s.voice.Fill(frame)
	s.captured.Add(1)
	return nil
}

func (s *testSound) Write(frame []int16) error {
	if err := checkFrame(frame); err != nil {
		return err
	}
	if s.closed() {
		return ErrClosed
	}
	// next is when what was written will have been played to its end.
	now := time.Now()
	if s.out.next.Before(now) {
		if !s.out.next.IsZero() {
			s.underruns.Add(1)
		}
		s.out.next = now
	}
	if !s.out.wait(s.out.next.Add(period-playbackBuffer), s.done) {
		return ErrClosed
	}
	s.out.next = s.out.next.Add(period)
	if s.tap != nil {
		s.tap(frame)
	}
	s.played.Add(1)
	return nil
}

func (s *testSound) Info() Info {
	return Info{
		Capture: "test", Playback: "test", CaptureName: "test voice", PlaybackName: "nowhere",
		Linked: true, Synthetic: true,
	}
}

func (s *testSound) Stats() Stats {
	return Stats{
		Captured: s.captured.Load(), Played: s.played.Load(),
		Overruns: s.overruns.Load(), Underruns: s.underruns.Load(),
	}
}

func (s *testSound) Close() error {
	s.closing.Do(func() { close(s.done) })
	return nil
}

func checkFrame(frame []int16) error {
	if len(frame) != FrameSamples {
		return fmt.Errorf("frame of %d samples, want %d: %w", len(frame), FrameSamples, ErrUnsupported)
	}
	return nil
}
