//go:build amd64 || arm64 || riscv64 || loong64 || ppc64le

package v4l2

import "unsafe"

// Format is struct v4l2_format. The union is aligned as a pointer.
type Format struct {
	Type uint32
	_    uint32
	Pix  PixFormat
	_    [152]byte
}

// Buffer is struct v4l2_buffer.
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
	_         uint32
	Length    uint32
	_         [3]uint32
}

var (
	_ [208]byte = [unsafe.Sizeof(Format{})]byte{}
	_ [88]byte  = [unsafe.Sizeof(Buffer{})]byte{}
	_ [56]byte  = [unsafe.Offsetof(Buffer{}.Sequence)]byte{}
	_ [64]byte  = [unsafe.Offsetof(Buffer{}.Offset)]byte{}
	_ [72]byte  = [unsafe.Offsetof(Buffer{}.Length)]byte{}
)
