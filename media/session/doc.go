// Package session is one call's media: camera to wire, wire to screen, microphone to wire, wire to loudspeaker.
//
// A Factory prepares Sessions. Prepare answers the caller's offer and opens no device. While Run serves, the connection
// is made and the caller's picture is shown, so that the patient sees first; nothing of the home is
// captured and the caller is not heard. Open says that the call was answered: camera and sound are
// opened, and the first picture leaves as a keyframe at once, because the encoder was made and warmed while it rang.
//
// Guarantees:
//   - No device is open before Open or after Close; Close says at which instant each was closed, and closes
//     them first, whatever the connection does. A connection that fails closes them too.
//   - A camera or sound card that is missing, busy or pulled out does not end the call: the rest goes on, an event tells
//     why, and it is tried again every 2 s (with jitter) until it is back.
//   - Sound goes before picture: the picture gets what the bandwidth estimate leaves over, and gives up
//     sharpness, then size, then frames, then all; it comes back by itself.
//   - A slow consumer never holds anything up: of pictures the newest wins, the others are dropped and counted.
//   - Coding a picture allocates nothing.
//
// Pictures are I420, even sides; sound is 48 kHz mono int16 in frames of 480. Devices come through the small interfaces here, which
// the types of packages camera, sound and display satisfy.
package session

import (
	"context"
	"errors"
	"image"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/net/proxy"

	"vindu/media/codec"
	"vindu/media/peer"
)

// Errors that callers tell apart. Prepare's may also wrap those of package peer: ErrOffer, ErrFingerprint.
var (
	// ErrClosed says that the session was closed, or has ended.
	ErrClosed = errors.New("session is closed")
	// ErrStuck says that a device or the connection did not let go in time.
	ErrStuck = errors.New("did not close in time")
)

// Camera delivers pictures.
type Camera interface {
	// Read waits for the next picture, an *image.YCbCr 4:2:0 that stays the reader's until release is called.
	Read() (img image.Image, release func(), err error)
	// Close may be called at any time from any goroutine, more than once, and ends a waiting Read.
	Close() error
}

// Sound captures and plays frames of 480 samples. Either direction may be missing: then its method returns an error that wraps
// sound.ErrNotFound.
type Sound interface {
	Read(frame []int16) error
	Write(frame []int16) error
	// Close is as Camera's.
	Close() error
}

// EchoMeter is what a Sound that cancels echo is, too.
type EchoMeter interface {
	// ERLE is by how many dB what is captured while the far end speaks is quieter afterwards. Any goroutine.
	ERLE() float64
}

// Screen shows pictures. Its methods copy and return at once.
type Screen interface {
	Far(*image.YCbCr)
	Self(*image.YCbCr)
}

// Devices are the ways to the devices of the terminal. Opening and closing through them is what the ledger records.
type Devices struct {
	OpenCamera func(context.Context) (Camera, error)
	OpenSound  func(context.Context) (Sound, error)
	Screen     Screen // nil shows nothing
	// Heat returns the board's temperature in °C, 0 if it is not known; it is asked every second of a call. nil: not known.
	Heat func() float64
}

// Config says how calls are made. Zero values take the default that is named.
type Config struct {
	Width, Height int     // of the picture that is sent at best. 640×480
	FPS           float64 // at most. 30
	// Bit/s of all that is sent. 500,000, 80,000, 1,500,000
	StartBitrate, MinBitrate, MaxBitrate int
	MaxVideoIn                           int // what the caller is asked to send at most. 1,500,000; negative asks for nothing
	AudioBitrate                         int // 32,000
	Complexity                           int // Opus's; see package codec
	// Video is what codes our picture, what we had rather first: the order of the codecs in the answer, which both ends go by, and of what
	// takes the place of one that fails. libvpx, openh264
	Video []codec.Coder

	TURNDialer      proxy.Dialer // see peer.Config
	IncludeLoopback bool
	Interfaces      func(name string) bool

	CloseLimit time.Duration // for letting go of devices and connection. 3 s
	RetryEvery time.Duration // how often a lost device is tried, ±25 %. 2 s
}

func (c Config) defaults() Config {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if c.Width <= 0 || c.Height <= 0 {
		c.Width, c.Height = 640, 480
	}
	c.Width, c.Height = c.Width&^1, c.Height&^1
	if c.FPS <= 0 {
		c.FPS = 30
	}
	set(&c.StartBitrate, 500_000)
	set(&c.MinBitrate, 80_000)
	set(&c.MaxBitrate, 1_500_000)
	set(&c.MaxVideoIn, 1_500_000)
	set(&c.AudioBitrate, 32_000)
	if len(c.Video) == 0 {
		c.Video = []codec.Coder{codec.Libvpx(), codec.OpenH264()}
	}
	if c.CloseLimit <= 0 {
		c.CloseLimit = 3 * time.Second
	}
	if c.RetryEvery <= 0 {
		c.RetryEvery = 2 * time.Second
	}
	return c
}

// kinds are the codecs of Video, in its order.
func (c Config) kinds() (out []codec.Kind) {
	for _, coder := range c.Video {
		if !slices.Contains(out, coder.Kind) {
			out = append(out, coder.Kind)
		}
	}
	return out
}

// Offer is what a caller wants.
type Offer struct {
	SDP        peer.SDP
	ICEServers []peer.ICEServer
	RelayOnly  bool
	Volume     int // of the caller's sound, percent on the curve of sound.Volume; 0: as it comes
}

// Kind says what an Event is.
type Kind int

// The kinds of events.
const (
	// LocalCandidate: Event.Candidate is to be sent to the caller.
	LocalCandidate Kind = iota + 1
	// EndOfCandidates: no further local candidates.
	EndOfCandidates
	// PathFound: ICE has a working pair.
	PathFound
	// Connected: DTLS is done; media can flow.
	Connected
	// FarVideo: the first picture of the caller is on the screen.
	FarVideo
	// FarSound: the first sound of the caller is being played. Only after Open.
	FarSound
	// CameraOpened and SoundOpened follow Open, and CameraLost or SoundLost when the device is back.
	CameraOpened
	SoundOpened
	// CameraLost: there is no camera, or no longer; Event.Err says why. It is being tried again. Said once until it is back.
	CameraLost
	// SoundLost is the same for the sound card.
	SoundLost
	// Sending: the first picture has left.
	Sending
	// PicturePaused: the line is too weak for a picture and our own is left out; sound goes on.
	PicturePaused
	// PictureResumed: it is being sent again.
	PictureResumed
	// Interrupted: the caller has not been heard for 3 s. Resumed or Failed follows.
	Interrupted
	// Resumed: it is heard again.
	Resumed
	// Failed: the connection does not work (any more); Event.Stage and Event.Err say why. The last event.
	Failed
)

var kindNames = [...]string{
	"", "local_candidate", "end_of_candidates", "path_found", "connected", "far_video", "far_sound",
	"camera_opened", "sound_opened", "camera_lost", "sound_lost", "sending", "picture_paused", "picture_resumed", "interrupted", "resumed", "failed",
}

// String returns the kind's name.
func (k Kind) String() string {
	if k <= 0 || int(k) >= len(kindNames) {
		return "unknown"
	}
	return kindNames[k]
}

// Event is something that happened in a Session.
type Event struct {
	Kind      Kind
	At        time.Time
	Candidate peer.Candidate // LocalCandidate
	Stage     peer.Stage     // Failed
	Err       error          // Failed, CameraLost, SoundLost
}

// Closed says when the devices were closed. A zero time means that the device was never open.
type Closed struct {
	CameraClosed, MicrophoneClosed time.Time
	// Err wraps ErrStuck if something did not let go in time; then the time of that device is zero.
	Err error
}

// Factory prepares sessions. It holds nothing open between calls.
type Factory struct {
	cfg Config
	dev Devices
	log *slog.Logger
}

// NewFactory makes a Factory. log may be nil.
func NewFactory(cfg Config, dev Devices, log *slog.Logger) *Factory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if dev.Screen == nil {
		dev.Screen = blank{}
	}
	return &Factory{cfg: cfg.defaults(), dev: dev, log: log}
}

type blank struct{}

func (blank) Far(*image.YCbCr)  {}
func (blank) Self(*image.YCbCr) {}
