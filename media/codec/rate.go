package codec

import (
	"image"
	"sync/atomic"
)

// Rate has an encoder of another package send what it was asked to, whatever the frame rate is: it learns the rate from the time stamps of
// pictures, and corrects what the encoder's own rate control errs. It belongs to the encoder's goroutine, but for Set.
type Rate struct {
	steer  steer
	timing timing
	want   atomic.Int64
}

// NewRate makes a Rate for a nominal frame rate and a target in bit/s. Zero values take those of the libraries' encoders.
func NewRate(fps float64, bitrate int) *Rate {
	if fps <= 0 {
		fps = 30
	}
	if bitrate <= 0 {
		bitrate = 800_000
	}
	r := &Rate{timing: timing{tick: videoClock / fps}}
	r.Set(bitrate)
	return r
}

// Set sets the target, held within what encoders take. Any goroutine.
func (r *Rate) Set(bitrate int) { r.want.Store(int64(min(max(bitrate, minBitrate), maxBitrate))) }

// Step takes the next picture's time stamp and returns the time since the one before, without pauses; both 90 kHz.
func (r *Rate) Step(pts int64) (ticks float64, err error) { return r.timing.step(pts) }

// Targets are what the encoder is to be told now.
func (r *Rate) Targets() (bitrate int, fps float64) {
	return r.steer.rate(int(r.want.Load())), videoClock / r.timing.tick
}

// Clock is the time of the last picture as a rate control is to see it, 90 kHz.
func (r *Rate) Clock() int64 { return r.timing.clock }

// Note takes what a picture became, 0 bits if it was dropped.
func (r *Rate) Note(bits int, ticks float64) { r.steer.note(bits, ticks) }

// CheckPicture says what is wrong with a picture that is to be coded: the error wraps ErrPicture or ErrTooLarge.
func CheckPicture(img *image.YCbCr) error { return checkPicture(img) }
