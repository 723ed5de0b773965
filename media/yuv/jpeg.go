package yuv

/*
#cgo pkg-config: libjpeg
#cgo CFLAGS: -O3
#cgo noescape vj_decode
#cgo nocallback vj_decode
#cgo noescape vj_size
#cgo nocallback vj_size
#cgo noescape vj_limit
#cgo nocallback vj_limit
#include "jpeg.h"
*/
import "C"

import (
	"fmt"
	"image"
	"runtime"
)

// Decoder turns the JPEG pictures of a camera (MJPEG) into I420. It reuses its working
// memory from picture to picture. It handles baseline YCbCr and grey pictures with any
// subsampling, with or without Huffman tables (cameras leave the standard ones out).
// For one goroutine. The memory is C's: call Close.
type Decoder struct{ d *C.vj }

// NewDecoder returns a Decoder.
func NewDecoder() (*Decoder, error) {
	d := C.vj_new()
	if d == nil {
		return nil, fmt.Errorf("make a jpeg decoder: out of memory")
	}
	dec := &Decoder{d}
	runtime.SetFinalizer(dec, (*Decoder).Close)
	return dec, nil
}

// Close frees the decoder's memory. Closing twice is harmless.
func (d *Decoder) Close() error {
	C.vj_free(d.d)
	d.d = nil
	runtime.SetFinalizer(d, nil)
	return nil
}

// Decode decodes data into dst, stretched to dst's size; reduction by two, four or eight
// is nearly free, as the inverse DCT does it. It returns an error wrapping ErrCorrupt for
// damaged or truncated data (dst is then undefined), ErrFormat for a kind of JPEG
// that no camera sends.
func (d *Decoder) Decode(dst *image.YCbCr, data []byte) error {
	if err := Check(dst); err != nil {
		return err
	}
	if d.d == nil || len(data) == 0 {
		return fmt.Errorf("decode jpeg: no data or decoder closed: %w", ErrShape)
	}
	passes.Add(1)
	r := C.vj_decode(d.d, p(data), C.size_t(len(data)), MaxSide,
		p(dst.Y), C.int(dst.YStride), p(dst.Cb), C.int(dst.CStride), p(dst.Cr), C.int(dst.CStride),
		C.int(dst.Rect.Dx()), C.int(dst.Rect.Dy()))
	return d.error(r)
}

// Size returns width and height of the JPEG picture in data, from its header.
func (d *Decoder) Size(data []byte) (w, h int, err error) {
	if d.d == nil || len(data) == 0 {
		return 0, 0, fmt.Errorf("read jpeg header: no data or decoder closed: %w", ErrShape)
	}
	var cw, ch C.int
	r := C.vj_size(d.d, p(data), C.size_t(len(data)), MaxSide, &cw, &ch)
	return int(cw), int(ch), d.error(r)
}

func (d *Decoder) error(r C.int) error {
	var cause error
	switch r {
	case C.VJ_OK:
		return nil
	case C.VJ_FORMAT:
		cause = ErrFormat
	case C.VJ_SHAPE:
		cause = ErrShape
	case C.VJ_MEMORY:
		return fmt.Errorf("decode jpeg: out of memory")
	default:
		cause = ErrCorrupt
	}
	return fmt.Errorf("decode jpeg: libjpeg code %d: %w", int(C.vj_code(d.d)), cause)
}

// Limit brings img from full range (Y, Cb, Cr 0…255) to limited range, in place: some
// cameras deliver full range in uncompressed formats too.
func Limit(img *image.YCbCr) error {
	if err := Check(img); err != nil {
		return err
	}
	passes.Add(1)
	C.vj_limit(p(img.Y), C.int(img.YStride), p(img.Cb), C.int(img.CStride), p(img.Cr), C.int(img.CStride),
		C.int(img.Rect.Dx()), C.int(img.Rect.Dy()))
	return nil
}
