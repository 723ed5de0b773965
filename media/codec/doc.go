// Package codec turns pictures and sound into coded frames and back: VP8 by libvpx (RFC 6386),
// H.264 by openh264 (ITU-T H.264, constrained baseline) and Opus by libopus (RFC 6716), each behind a cgo wrapper of one C call per frame.
//
// Pictures are *image.YCbCr with 4:2:0 subsampling (I420) of even width and height. Time stamps of pictures are
// in the 90 kHz clock of RTP (RFC 7741 §4.1), so that the rate control sees the real frame intervals and the
// target bitrate holds at 30, 15 or 8 frames per second alike. Sound is 48 kHz, mono, int16.
//
// Guarantees:
//   - Encode and Decode do not allocate once the first frame has passed; a test keeps it so.
//   - What Encode returns is valid until the next Encode; what a VideoDecoder returns is a view into the
//     decoder's own frame buffer, without a copy, valid until the next Decode or Close.
//   - Coded input is hostile: its size and the size of the picture it announces are limited before the C
//     library sees it, and a decoder that refused a frame can go on with the next keyframe.
//
// An encoder or decoder belongs to one goroutine; only SetBitrate, SetLoss, SetDTX and ForceKeyframe may be called from others.
// Package codectest has the contract of every VideoEncoder.
package codec

import (
	"errors"
	"image"
)

// Errors that callers tell apart.
var (
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("codec is closed")
	// ErrCorrupt says that coded input could not be decoded. For video, ask the far end for a keyframe.
	ErrCorrupt = errors.New("coded data is corrupt")
	// ErrTooLarge says that a coded frame, or the picture that it announces, is over the limit.
	ErrTooLarge = errors.New("frame is over the size limit")
	// ErrNotKeyframe says that the decoder needs a keyframe first and got something else.
	ErrNotKeyframe = errors.New("decoder needs a keyframe first")
	// ErrPicture says that a picture is not I420 with even, non-zero sides.
	ErrPicture = errors.New("picture is not I420 with even sides")
)

// Frame is one coded picture.
type Frame struct {
	Data     []byte // empty if the rate control dropped the picture
	Keyframe bool
}

// VideoEncoder codes the pictures of one stream.
type VideoEncoder interface {
	// Encode codes img, captured at pts (90 kHz, strictly increasing). Another size than the last picture's
	// is followed at once, with a keyframe. Frame.Data is valid until the next Encode or Close.
	Encode(img *image.YCbCr, pts int64) (Frame, error)
	// SetBitrate sets the target in bit/s from the next picture on. Any goroutine.
	SetBitrate(bitrate int)
	// ForceKeyframe makes the next picture a keyframe. Any goroutine.
	ForceKeyframe()
	Close() error
}

// VideoDecoder decodes the frames of one stream.
type VideoDecoder interface {
	// Decode decodes one frame. The picture is valid until the next Decode or Close; it is nil for a frame
	// that is not to be shown. Errors wrap ErrCorrupt, ErrTooLarge, ErrNotKeyframe or ErrClosed.
	Decode(frame []byte) (*image.YCbCr, error)
	Close() error
}

// maxSide bounds a picture's sides, coded or not. 1920×1088 is the largest that a terminal's panel shows.
const maxSide = 1920

func checkPicture(img *image.YCbCr) error {
	if img == nil || img.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return ErrPicture
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	switch {
	case w <= 0 || h <= 0 || w%2 != 0 || h%2 != 0 || img.Rect.Min.X%2 != 0 || img.Rect.Min.Y%2 != 0:
		return ErrPicture
	case w > maxSide || h > maxSide:
		return ErrTooLarge
	case img.YStride < w || img.CStride < w/2:
		return ErrPicture
	// The last row need not be padded to the stride.
	case len(img.Y) < img.YStride*(h-1)+w,
		len(img.Cb) < img.CStride*(h/2-1)+w/2,
		len(img.Cr) < img.CStride*(h/2-1)+w/2:
		return ErrPicture
	}
	return nil
}
