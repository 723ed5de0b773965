package m2m

import (
	"unsafe"

	"vindu/media/camera/v4l2"
)

// What package v4l2 has not, since cameras need it not (linux/videodev2.h, linux/v4l2-controls.h).
const (
	bufTypeCapture       = 1
	bufTypeOutput        = 2
	bufTypeCaptureMPlane = 9
	bufTypeOutputMPlane  = 10

	capM2MMPlane = 0x00004000

	targetCrop  = 0
	maxPlanes   = 8
	profileCBP  = 1 // V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_BASELINE
	modeCBR     = 1
	headerFirst = 1 // V4L2_MPEG_VIDEO_HEADER_MODE_JOINED_WITH_1ST_FRAME

	codecBase      = 0x00990900
	cidBFrames     = codecBase + 202
	cidGOPSize     = codecBase + 203
	cidBitrateMode = codecBase + 206
	cidBitrate     = codecBase + 207
	cidFrameRC     = codecBase + 215
	cidHeaderMode  = codecBase + 216
	cidRepeatSeq   = codecBase + 226
	cidForceKey    = codecBase + 229
	cidIPeriod     = codecBase + 358
	cidProfile     = codecBase + 363
)

// fourcc is a pixel format's number.
func fourcc(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

var (
	fmtH264 = fourcc("H264")
	fmtI420 = fourcc("YU12")
	fmtNV12 = fourcc("NV12")
)

// planeFormat is struct v4l2_plane_pix_format.
type planeFormat struct {
	SizeImage    uint32
	BytesPerLine uint32
	_            [6]uint16
}

// mpFormat is struct v4l2_pix_format_mplane. It lies where v4l2.Format has Pix.
type mpFormat struct {
	Width, Height uint32
	PixelFormat   uint32
	Field         uint32
	Colorspace    uint32
	Planes        [maxPlanes]planeFormat
	NumPlanes     uint8
	Flags         uint8
	YCbCrEnc      uint8
	Quantization  uint8
	XferFunc      uint8
	_             [7]uint8
}

func mplane(f *v4l2.Format) *mpFormat { return (*mpFormat)(unsafe.Pointer(&f.Pix)) }

// plane is struct v4l2_plane.
type plane struct {
	BytesUsed  uint32
	Length     uint32
	Offset     uint32 // in a union of a pointer's size
	_          [unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(uint32(0))]byte
	DataOffset uint32
	_          [11]uint32
}

// mpBuffer is v4l2.Buffer with the union holding the planes.
type mpBuffer struct {
	Index     uint32
	Type      uint32
	BytesUsed uint32
	Flags     uint32
	Field     uint32
	_         uint32
	Seconds   int64
	Micros    int64
	Timecode  v4l2.Timecode
	Sequence  uint32
	Memory    uint32
	Planes    unsafe.Pointer
	Length    uint32 // how many planes
	_         [unsafe.Sizeof(v4l2.Buffer{}) - 68 - unsafe.Sizeof(uintptr(0))]byte
}

type control struct {
	ID    uint32
	Value int32
}

type selection struct {
	Type, Target, Flags uint32
	Left, Top           int32
	Width, Height       uint32
	_                   [9]uint32
}

const readWrite = uint32(3 << 30)

const (
	setCtrl      = readWrite | uint32(unsafe.Sizeof(control{}))<<16 | 'V'<<8 | 28
	setSelection = readWrite | uint32(unsafe.Sizeof(selection{}))<<16 | 'V'<<8 | 95
)

// Sizes, checked by the compiler.
var (
	_ [20]byte                                    = [unsafe.Sizeof(planeFormat{})]byte{}
	_ [192]byte                                   = [unsafe.Sizeof(mpFormat{})]byte{}
	_ [56 + unsafe.Sizeof(uintptr(0))]byte        = [unsafe.Sizeof(plane{})]byte{}
	_ [unsafe.Sizeof(v4l2.Buffer{})]byte          = [unsafe.Sizeof(mpBuffer{})]byte{}
	_ [unsafe.Offsetof(v4l2.Buffer{}.Offset)]byte = [unsafe.Offsetof(mpBuffer{}.Planes)]byte{}
	_ [unsafe.Offsetof(v4l2.Buffer{}.Length)]byte = [unsafe.Offsetof(mpBuffer{}.Length)]byte{}
	_ [64]byte                                    = [unsafe.Sizeof(selection{})]byte{}
)
