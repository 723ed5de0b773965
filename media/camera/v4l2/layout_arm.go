package v4l2

import "unsafe"

// Format is struct v4l2_format.
type Format struct {
	Type uint32
	Pix  PixFormat
	_    [152]byte
}

// Buffer is struct v4l2_buffer with 64-bit time stamps (Linux 5.6), which the ABI aligns to eight
// bytes while Go would align them to four: hence the explicit gap.
type Buffer struct {
	Index     uint32
	Type      uint32
	BytesUsed uint32
	Flags     uint32
	Field     uint32
	_         uint32
	Seconds   int64
	Micros    int64
	Timecode  Timecode
	Sequence  uint32
	Memory    uint32
	Offset    uint32
	Length    uint32
	_         [2]uint32
}

var (
	_ [204]byte = [unsafe.Sizeof(Format{})]byte{}
	_ [80]byte  = [unsafe.Sizeof(Buffer{})]byte{}
	_ [56]byte  = [unsafe.Offsetof(Buffer{}.Sequence)]byte{}
	_ [64]byte  = [unsafe.Offsetof(Buffer{}.Offset)]byte{}
	_ [68]byte  = [unsafe.Offsetof(Buffer{}.Length)]byte{}
)
