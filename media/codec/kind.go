package codec

import "fmt"

// Kind is a way of coding pictures, as the far end knows it.
type Kind uint8

// The kinds.
const (
	VP8  Kind = iota // RFC 6386
	H264             // ITU-T H.264, constrained baseline
)

// String returns the name that RTP has for it (RFC 7741 §6.1, RFC 6184 §8.1).
func (k Kind) String() string {
	if k == H264 {
		return "H264"
	}
	return "VP8"
}

// VideoConfig says what a Coder's encoder is made for. Zero values take the default of the encoder.
type VideoConfig struct {
	Width, Height int
	FPS           float64
	Bitrate       int
}

// Coder is something that codes pictures on this board: a library, or hardware.
type Coder struct {
	Name       string // of the library or the driver
	Kind       Kind
	NewEncoder func(VideoConfig) (VideoEncoder, error)
}

// Libvpx codes VP8.
func Libvpx() Coder {
	return Coder{"libvpx", VP8, func(c VideoConfig) (VideoEncoder, error) {
		return NewVP8Encoder(VP8Config{Width: c.Width, Height: c.Height, FPS: c.FPS, Bitrate: c.Bitrate})
	}}
}

// OpenH264 codes H.264.
func OpenH264() Coder {
	return Coder{"openh264", H264, func(c VideoConfig) (VideoEncoder, error) {
		return NewH264Encoder(H264Config{Width: c.Width, Height: c.Height, FPS: c.FPS, Bitrate: c.Bitrate})
	}}
}

// NewDecoder makes a decoder of what k codes.
func NewDecoder(k Kind) (VideoDecoder, error) {
	switch k {
	case VP8:
		return NewVP8Decoder()
	case H264:
		return NewH264Decoder()
	}
	return nil, fmt.Errorf("make decoder of kind %d: there is none", k)
}
