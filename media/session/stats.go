package session

import (
	"time"

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
}

// Stats returns the call's numbers. Any goroutine, also after Close.
func (s *Session) Stats() Stats {
	out := Stats{
		Near: NearStats{
			Captured: s.near.captured.Load(), Encoded: s.near.encoded.Load(), Dropped: s.slot.dropped.Load(),
			Skipped: s.near.skipped.Load(), TooMuch: s.near.tooFast.Load(), Keyframes: s.near.keyframes.Load(),
			Bytes: s.near.bytes.Load(), Encoding: time.Duration(s.near.encoding.Load()),
			Bitrate: int(s.near.bitrate.Load()), Width: int(s.near.width.Load()), Height: int(s.near.height.Load()),
			FPS: int(s.near.fps.Load()), SoundFrames: s.near.soundFrames.Load(),
		},
		Far:           s.far.snapshot(),
		Sound:         s.jitter.Stats(),
		Connection:    s.peer.Stats(),
		CameraOpen:    s.camera.now(),
		SoundOpen:     s.sound.now(),
		EventsDropped: s.eventsDropped.Load(),
	}
	s.mu.Lock()
	out.Times = s.times
	s.mu.Unlock()
	return out
}

func (d *device) now() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.isOpen
}
