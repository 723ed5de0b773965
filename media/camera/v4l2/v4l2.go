// Package v4l2 is the kernel's video capture interface as package camera uses it: the structures and
// ioctl numbers of linux/videodev2.h for single-planar capture with memory-mapped
// buffers, and Kernel, the seam between the driver and the operating system.
//
// The structures have the kernel's layout on 64-bit machines and on 32-bit ARM, where the
// 64-bit time stamps of Linux 5.6 and later are used. Sizes are checked at compile time
// wherever they enter an ioctl number.
//
// System is the real Kernel; package cameratest has one for tests.
package v4l2

import (
	"time"
	"unsafe"
)

// Kernel finds and opens video devices.
type Kernel interface {
	// Nodes lists the video devices in order of their numbers, from sysfs. It opens none.
	Nodes() []Node
	// Open opens a device for reading and writing, without blocking. Errors are those
	// of open(2), as *fs.PathError.
	Open(path string) (Handle, error)
}

// Node is a video device that exists.
type Node struct {
	Path string // /dev/video0
	Name string // what the driver calls it
	// Index is 0 for the first device of a piece of hardware. Further ones carry metadata
	// or the like.
	Index int
}

// Handle is an open device. Wait, Ioctl, Map and Unmap are for one goroutine; Cancel and Close may be called
// from another one.
type Handle interface {
	// Ioctl returns the bare errno of ioctl(2). It repeats a call that a signal interrupted.
	// arg points to the structure that belongs to request.
	Ioctl(request uint32, arg unsafe.Pointer) error
	// Map maps length bytes of the device at offset, as QUERYBUF gave it.
	Map(offset uint32, length uint32) ([]byte, error)
	Unmap(memory []byte) error
	// Wait blocks until a picture is ready or something is wrong (nil: DQBUF will tell), until
	// the timeout is over (os.ErrDeadlineExceeded) or Cancel was called (ErrCancelled).
	Wait(timeout time.Duration) error
	// Cancel ends the waiting Wait and all later ones.
	Cancel()
	// Close closes the file descriptor. Closing twice is harmless.
	Close() error
}

// Values of the fields below.
const (
	BufTypeVideoCapture = 1
	MemoryMmap          = 1
	FieldAny            = 0
	FieldNone           = 1

	CapVideoCapture = 0x00000001
	CapVideoM2M     = 0x00008000
	CapStreaming    = 0x04000000
	CapDeviceCaps   = 0x80000000

	BufFlagError          = 0x00000040
	BufFlagTimestampMask  = 0x0000e000
	BufFlagTimestampMono  = 0x00002000
	CapTimePerFrame       = 0x1000
	FrameSizeDiscrete     = 1
	FrameSizeContinuous   = 2
	FrameSizeStepwise     = 3
	FrameIntervalDiscrete = 1

	ColorspaceJPEG        = 7
	QuantizationFullRange = 1
)

// Capability is struct v4l2_capability.
type Capability struct {
	Driver       [16]byte
	Card         [32]byte
	BusInfo      [32]byte
	Version      uint32
	Capabilities uint32
	DeviceCaps   uint32
	_            [3]uint32
}

// FmtDesc is struct v4l2_fmtdesc.
type FmtDesc struct {
	Index       uint32
	Type        uint32
	Flags       uint32
	Description [32]byte
	PixelFormat uint32
	MbusCode    uint32
	_           [3]uint32
}

// PixFormat is struct v4l2_pix_format.
type PixFormat struct {
	Width, Height uint32
	PixelFormat   uint32
	Field         uint32
	BytesPerLine  uint32
	SizeImage     uint32
	Colorspace    uint32
	Priv          uint32
	Flags         uint32
	YCbCrEnc      uint32
	Quantization  uint32
	XferFunc      uint32
}

// PixFormatMagic in Priv says that the fields from Flags on are valid.
const PixFormatMagic = 0xfeedcafe

// Fract is struct v4l2_fract.
type Fract struct{ Numerator, Denominator uint32 }

// FrameSize is struct v4l2_frmsizeenum. For a discrete size only MinWidth and MaxWidth are
// set, to width and height: see Discrete.
type FrameSize struct {
	Index       uint32
	PixelFormat uint32
	Type        uint32
	MinWidth    uint32
	MaxWidth    uint32
	StepWidth   uint32
	MinHeight   uint32
	MaxHeight   uint32
	StepHeight  uint32
	_           [2]uint32
}

// Discrete returns the size of type FrameSizeDiscrete; the union overlays it.
func (f *FrameSize) Discrete() (w, h uint32) { return f.MinWidth, f.MaxWidth }

// SetDiscrete makes f a discrete size.
func (f *FrameSize) SetDiscrete(w, h uint32) {
	f.Type, f.MinWidth, f.MaxWidth = FrameSizeDiscrete, w, h
}

// FrameInterval is struct v4l2_frmivalenum. A discrete interval is in Min; of a range,
// Min is the shortest.
type FrameInterval struct {
	Index         uint32
	PixelFormat   uint32
	Width, Height uint32
	Type          uint32
	Min           Fract
	Max           Fract
	Step          Fract
	_             [2]uint32
}

// StreamParm is struct v4l2_streamparm for capture.
type StreamParm struct {
	Type         uint32
	Capability   uint32
	CaptureMode  uint32
	TimePerFrame Fract
	ExtendedMode uint32
	ReadBuffers  uint32
	_            [4]uint32
	_            [160]byte
}

// RequestBuffers is struct v4l2_requestbuffers.
type RequestBuffers struct {
	Count        uint32
	Type         uint32
	Memory       uint32
	Capabilities uint32
	Flags        uint8
	_            [3]uint8
}

// Timecode is struct v4l2_timecode.
type Timecode struct {
	Type, Flags                     uint32
	Frames, Seconds, Minutes, Hours uint8
	UserBits                        [4]uint8
}

// direction bits of an ioctl number (asm-generic/ioctl.h; the same on all supported machines).
const (
	dirWrite = 1 << 30
	dirRead  = 2 << 30
)

// Ioctl numbers.
const (
	QueryCap       = uint32(dirRead | unsafe.Sizeof(Capability{})<<16 | 'V'<<8 | 0)
	EnumFmt        = uint32(dirRead | dirWrite | unsafe.Sizeof(FmtDesc{})<<16 | 'V'<<8 | 2)
	SetFmt         = uint32(dirRead | dirWrite | unsafe.Sizeof(Format{})<<16 | 'V'<<8 | 5)
	ReqBufs        = uint32(dirRead | dirWrite | unsafe.Sizeof(RequestBuffers{})<<16 | 'V'<<8 | 8)
	QueryBuf       = uint32(dirRead | dirWrite | unsafe.Sizeof(Buffer{})<<16 | 'V'<<8 | 9)
	QBuf           = uint32(dirRead | dirWrite | unsafe.Sizeof(Buffer{})<<16 | 'V'<<8 | 15)
	DQBuf          = uint32(dirRead | dirWrite | unsafe.Sizeof(Buffer{})<<16 | 'V'<<8 | 17)
	StreamOn       = uint32(dirWrite | 4<<16 | 'V'<<8 | 18)
	StreamOff      = uint32(dirWrite | 4<<16 | 'V'<<8 | 19)
	SetParm        = uint32(dirRead | dirWrite | unsafe.Sizeof(StreamParm{})<<16 | 'V'<<8 | 22)
	EnumFrameSizes = uint32(dirRead | dirWrite | unsafe.Sizeof(FrameSize{})<<16 | 'V'<<8 | 74)
	EnumIntervals  = uint32(dirRead | dirWrite | unsafe.Sizeof(FrameInterval{})<<16 | 'V'<<8 | 75)
)

// Sizes that are the same on every machine, checked by the compiler.
var (
	_ [104]byte = [unsafe.Sizeof(Capability{})]byte{}
	_ [64]byte  = [unsafe.Sizeof(FmtDesc{})]byte{}
	_ [48]byte  = [unsafe.Sizeof(PixFormat{})]byte{}
	_ [44]byte  = [unsafe.Sizeof(FrameSize{})]byte{}
	_ [52]byte  = [unsafe.Sizeof(FrameInterval{})]byte{}
	_ [204]byte = [unsafe.Sizeof(StreamParm{})]byte{}
	_ [20]byte  = [unsafe.Sizeof(RequestBuffers{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(Timecode{})]byte{}
)
