// Package sound captures and plays sound by ALSA, or generates it.
//
// Sound is 48 kHz, one channel, signed 16-bit, in frames of 480 samples (10 ms),
// as RFC 7874 §3 wants it for Opus. Cards that cannot do that are converted by ALSA's
// plug layer.
//
// Capture and playback of one card are linked where ALSA can (snd_pcm_link), so that both
// start on the same sample and run on one clock; the echo canceller needs that.
//
// Promises:
//   - Importing the package and List open no device. Only Open and OpenPlayback do, and
//     OpenPlayback never touches a microphone.
//   - When Close returns no file descriptor of a card is left.
//   - What is to be played never waits longer than 60 ms; Write blocks instead.
//   - Overruns and underruns are recovered from and counted, never fatal.
//   - A running stream allocates nothing.
package sound

import (
	"errors"
	"strings"
)

// The format of all sound in this package.
const (
	Rate         = 48000 // samples per second
	FrameSamples = 480   // samples per frame: 10 ms
)

var (
	// ErrNotFound: there is no such card, or the Device has no such direction.
	ErrNotFound = errors.New("no sound device found")
	// ErrBusy: another program is using the card.
	ErrBusy = errors.New("sound device is in use by another program")
	// ErrUnsupported: the card cannot be brought to 48 kHz, one channel, 16 bit.
	ErrUnsupported = errors.New("sound device is not supported")
	// ErrGone: the card was unplugged while it was open, or stopped moving samples.
	ErrGone = errors.New("sound device was disconnected")
	// ErrClosed: the Device was closed.
	ErrClosed = errors.New("sound device is closed")
)

// Config names the cards to use.
type Config struct {
	// Capture and Playback are ALSA names, best by the card's identity
	// ("hw:CARD=Loopback,DEV=1"; the plug layer is always put before "hw:"),
	// "usb:" and the port that the card hangs on, whatever it is called when it
	// comes back ("usb:1-1.2"),
	// "auto" (or empty) for the first hardware card that has the direction,
	// or "none".
	Capture, Playback string
}

// Info describes an open Device.
type Info struct {
	// Capture and Playback are the ALSA names in use. Empty means that the direction
	// is missing: Read or Write then return ErrNotFound.
	Capture, Playback string
	// CaptureName and PlaybackName are what the drivers call them, for people.
	CaptureName, PlaybackName string
	// Linked is true if both directions start and run on one clock.
	Linked bool
	// Synthetic is true if what is captured is generated.
	Synthetic bool
}

// Card is one direction of one sound card that List found.
type Card struct {
	Device string // for Config: "hw:CARD=Loopback,DEV=1"
	USB    string // for Config, of a card on USB: "usb:1-1.2"
	Name   string // for people: "Loopback: Loopback PCM"
}

// Find returns the card that a name of Config means. known is false for names that only ALSA can resolve.
func Find(cards []Card, name string) (card Card, known, found bool) {
	auto := name == "" || name == "auto"
	if strings.HasPrefix(name, "hw:CARD=") && !strings.Contains(name, ",") {
		name += ",DEV=0"
	}
	if !auto && !strings.HasPrefix(name, usbPrefix) && !(strings.HasPrefix(name, "hw:CARD=") && strings.Contains(name, ",DEV=")) {
		return Card{}, false, false
	}
	for _, c := range cards {
		if auto || name == c.USB || name == c.Device || strings.HasPrefix(name, c.Device+",SUBDEV=") {
			return c, true, true
		}
	}
	return Card{}, true, false
}

const usbPrefix = "usb:"

// Player plays.
type Player interface {
	// Write plays one frame of FrameSamples samples. It blocks while 60 ms are waiting
	// to be played, so usually for a period, and never longer than a second. For one
	// goroutine. Errors wrap ErrGone or ErrClosed, or ErrNotFound without playback.
	Write(frame []int16) error
	Info() Info
	// Close drops what is still to be played and makes waiting calls return ErrClosed.
	// It may be called at any time, more than once, from any goroutine.
	Close() error
}

// Device captures and plays. A Device may have only one of the two: see Info.
type Device interface {
	Player
	// Read waits for and fills one frame of FrameSamples samples. For one goroutine,
	// which need not be the one that calls Write. Errors are as for Write.
	Read(frame []int16) error
}

// Stats counts what happened since Open.
type Stats struct {
	Captured, Played int64 // frames
	// Overruns: nobody read in time, captured sound was lost.
	// Underruns: nobody wrote in time, a gap was heard.
	Overruns, Underruns int64
}

// Counter is implemented by all Devices of this package.
type Counter interface{ Stats() Stats }
