package session

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/codec"
	"vindu/media/grade"
	"vindu/media/jitter"
	"vindu/media/peer"
)

// Times says when each stage of a call was first reached; zero if it was not.
type Times struct {
	Offer      time.Time // Prepare was called
	Answer     time.Time // Prepare returned
	Path       time.Time // ICE had a working pair
	Connected  time.Time // DTLS was done
	FarVideo   time.Time // the caller's first picture was shown
	Opened     time.Time // Open was called
	CameraOpen time.Time
	SoundOpen  time.Time
	Sending    time.Time // our first picture left
	FarSound   time.Time // the caller's first sound was played
}

// NearStats counts our own picture and sound.
type NearStats struct {
	Captured  uint64 // pictures
	Encoded   uint64 // and sent
	Dropped   uint64 // because coding was slower than the camera
	Skipped   uint64 // because fewer frames are sent than captured
	TooMuch   uint64 // because the rate control or the queue had no room
	Keyframes uint64
	Bytes     uint64
	Encoding  time.Duration // in all
	// What is sent now.
	Bitrate, Width, Height, FPS int
	Coder                       string // what codes the picture: a library or a driver
	Codec                       codec.Kind
	Paused                      bool // no picture is sent, because the line is too weak for one

	SoundFrames uint64 // of 10 ms, captured and coded
}

// Stats is everything a call counts.
type Stats struct {
	Times         Times
	Near          NearStats
	Far           FarStats
	Sound         jitter.Stats // the caller's
	Connection    peer.Stats
	CameraOpen    bool // now
	SoundOpen     bool
	EventsDropped uint64
	Second        grade.Second // the last
	Call          grade.Call   // since the call was connected
}

// Tried returns the pairs of candidates that were tried until there was a path. Any goroutine, also after Close.
func (s *Session) Tried() []peer.Pair { return s.peer.Tried() }

// Stats returns the call's numbers. Any goroutine, also after Close.
func (s *Session) Stats() Stats {
	out := Stats{
		Near: NearStats{
			Captured: s.near.captured.Load(), Encoded: s.near.encoded.Load(), Dropped: s.slot.dropped.Load(),
			Skipped: s.near.skipped.Load(), TooMuch: s.near.tooFast.Load(), Keyframes: s.near.keyframes.Load(),
			Bytes: s.near.bytes.Load(), Encoding: time.Duration(s.near.encoding.Load()),
			Bitrate: int(s.near.bitrate.Load()), Width: int(s.near.width.Load()), Height: int(s.near.height.Load()),
			FPS: int(s.near.fps.Load()), Paused: s.near.paused.Load(), SoundFrames: s.near.soundFrames.Load(),
		},
		Far:           s.far.snapshot(),
		Sound:         s.jitter.Stats(),
		Connection:    s.peer.Stats(),
		CameraOpen:    s.camera.now(),
		SoundOpen:     s.sound.now(),
		EventsDropped: s.eventsDropped.Load(),
	}
	if name := s.near.coder.Load(); name != nil {
		out.Near.Coder, out.Near.Codec = *name, s.peer.VideoCodec()
	}
	s.mu.Lock()
	out.Times = s.times
	out.Second, out.Call = s.now, s.meter.Call()
	s.mu.Unlock()
	return out
}

func (d *device) now() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.isOpen
}

// deviceDelay is what the ways to coder and ear take besides the jitter buffer and the line: a packet of 20 ms, Opus's look-ahead of 6.5 ms (RFC 6716
// §2), and a period of the sound card at either end.
const deviceDelay = 20*time.Millisecond + 6500*time.Microsecond + 2*10*time.Millisecond

// measure notes the call's numbers every second from when it is connected until ctx ends.
func (s *Session) measure(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.secure:
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		t := s.totals()
		s.mu.Lock()
		if second, ok := s.meter.Note(time.Now(), t); ok {
			s.now = second
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// totals are the counters that the grade is made of.
func (s *Session) totals() grade.Totals {
	c, sound, far := s.peer.Stats(), s.jitter.Stats(), s.far.snapshot()
	const frame = 10 * time.Millisecond
	t := grade.Totals{
		Packets: c.VideoIn.Packets + c.AudioIn.Packets, Lost: c.VideoIn.Lost + c.AudioIn.Lost,
		BytesIn: c.VideoIn.Bytes + c.AudioIn.Bytes, BytesOut: c.VideoOut.Bytes + c.AudioOut.Bytes,
		Sound: time.Duration(sound.Played) * frame, Concealed: time.Duration(sound.Concealed) * frame,
		Pictures: far.Frames, Freezes: far.Freezes, Frozen: far.Frozen,
		RTT: c.RTT, Jitter: c.AudioIn.Jitter, Buffered: sound.Delay, Devices: deviceDelay,
	}
	if m, ok := s.echo.Load().(meter); ok {
		t.ERLE = m.ERLE()
	}
	if s.dev.Heat != nil {
		t.Heat = s.dev.Heat()
	}
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) == nil {
		t.CPU = time.Duration(use.Utime.Nano() + use.Stime.Nano())
	}
	return t
}
