package yuv

/*
#cgo noescape YUY2ToI420
#cgo nocallback YUY2ToI420
#cgo noescape UYVYToI420
#cgo nocallback UYVYToI420
#cgo noescape NV12ToI420
#cgo nocallback NV12ToI420
#cgo noescape NV21ToI420
#cgo nocallback NV21ToI420
#include <libyuv/convert.h>
*/
import "C"

import (
	"fmt"
	"image"
)

// Format is a V4L2 pixel format: four letters, the first in the lowest byte.
type Format uint32

// The pixel formats that cameras deliver and FromRaw and Decoder understand.
const (
	YUYV Format = 'Y' | 'U'<<8 | 'Y'<<16 | 'V'<<24 // 4:2:2, packed
	UYVY Format = 'U' | 'Y'<<8 | 'V'<<16 | 'Y'<<24 // 4:2:2, packed
	NV12 Format = 'N' | 'V'<<8 | '1'<<16 | '2'<<24 // 4:2:0, plane of Cb Cr pairs
	NV21 Format = 'N' | 'V'<<8 | '2'<<16 | '1'<<24 // 4:2:0, plane of Cr Cb pairs
	YU12 Format = 'Y' | 'U'<<8 | '1'<<16 | '2'<<24 // 4:2:0, planes Y Cb Cr: I420
	YV12 Format = 'Y' | 'V'<<8 | '1'<<16 | '2'<<24 // 4:2:0, planes Y Cr Cb
	MJPG Format = 'M' | 'J'<<8 | 'P'<<16 | 'G'<<24 // one JPEG picture for each frame
	JPEG Format = 'J' | 'P'<<8 | 'E'<<16 | 'G'<<24 // the same under another name
)

// String returns the four letters.
func (f Format) String() string {
	b := [4]byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)}
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b[:])
}

// Compressed reports whether frames need a Decoder instead of FromRaw.
func (f Format) Compressed() bool { return f == MJPG || f == JPEG }

// Size returns how many bytes a w×h frame has whose first plane has stride bytes for
// each row, laid out as V4L2 does (further planes follow without a gap, half the
// stride where they have half the width). A stride of 0 means no padding. It
// returns 0 for a format that FromRaw does not take.
func (f Format) Size(stride, w, h int) int {
	stride = f.stride(stride, w)
	switch f {
	case YUYV, UYVY:
		return stride * h
	case NV12, NV21:
		return stride*h + stride*((h+1)/2)
	case YU12, YV12:
		return stride*h + 2*((stride+1)/2)*((h+1)/2)
	}
	return 0
}

func (f Format) stride(stride, w int) int {
	if stride > 0 {
		return stride
	}
	switch f {
	case YUYV, UYVY:
		return 4 * ((w + 1) / 2)
	case NV12, NV21:
		return (w + 1) &^ 1
	}
	return w
}

// FromRaw converts an uncompressed camera frame of dst's size to I420.
// stride is that of the first plane, 0 for none beyond the width. Frames that are
// shorter than Format.Size are refused: a driver cut them short.
func FromRaw(dst *image.YCbCr, f Format, data []byte, stride int) error {
	if err := Check(dst); err != nil {
		return err
	}
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	least := f.stride(0, w)
	if least == 0 || f.Size(0, w, h) == 0 {
		return fmt.Errorf("convert %v: %w", f, ErrFormat)
	}
	stride = f.stride(stride, w)
	if stride < least || stride > 16*MaxSide || len(data) < f.Size(stride, w, h) {
		return fmt.Errorf("convert %v %d×%d, stride %d, %d bytes: %w", f, w, h, stride, len(data), ErrShape)
	}
	dy, dys := p(dst.Y), C.int(dst.YStride)
	du, dv, dcs := p(dst.Cb), p(dst.Cr), C.int(dst.CStride)
	cw, ch, cs := C.int(w), C.int(h), C.int(stride)
	passes.Add(1)
	var r C.int
	switch f {
	case YUYV:
		r = C.YUY2ToI420(p(data), cs, dy, dys, du, dcs, dv, dcs, cw, ch)
	case UYVY:
		r = C.UYVYToI420(p(data), cs, dy, dys, du, dcs, dv, dcs, cw, ch)
	case NV12:
		r = C.NV12ToI420(p(data), cs, p(data[stride*h:]), cs, dy, dys, du, dcs, dv, dcs, cw, ch)
	case NV21:
		r = C.NV21ToI420(p(data), cs, p(data[stride*h:]), cs, dy, dys, du, dcs, dv, dcs, cw, ch)
	case YU12, YV12:
		half := (stride + 1) / 2
		first := data[stride*h:]
		second := first[half*((h+1)/2):]
		if f == YV12 {
			first, second = second, first
		}
		r = C.I420Copy(p(data), cs, p(first), C.int(half), p(second), C.int(half), dy, dys, du, dcs, dv, dcs, cw, ch)
	}
	return result("convert camera frame", r)
}
