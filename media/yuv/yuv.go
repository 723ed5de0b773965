// Package yuv converts and scales raw pictures, using libyuv and libjpeg-turbo.
//
// The raw picture of every media package is an *image.YCbCr with 4:2:0
// subsampling (I420): BT.601 colours in limited range (Y 16…235, Cb and Cr
// 16…240), as VP8 carries them (RFC 6386 §9.2). JPEG pictures are full range
// (JFIF 1.02) and are brought to limited range on decoding.
//
// BGRX means four bytes for each pixel in memory order blue, green, red, unused, which
// is DRM's XRGB8888 on a little-endian machine. The unused byte is written as 255.
//
// All functions work on buffers that the caller owns and allocate nothing in Go.
// They check every length before C sees a pointer; what does not fit is refused
// with an error wrapping ErrShape and nothing is written. A function is safe for
// concurrent use on different destinations; a Decoder or Painter is for one goroutine.
//
// Debian ships libyuv without a pkg-config file, hence the plain -lyuv.
package yuv

/*
#cgo LDFLAGS: -lyuv
#cgo noescape I420Scale
#cgo nocallback I420Scale
#cgo noescape I420Copy
#cgo nocallback I420Copy
#cgo noescape I420Mirror
#cgo nocallback I420Mirror
#cgo noescape I420Rect
#cgo nocallback I420Rect
#cgo noescape I420ToARGB
#cgo nocallback I420ToARGB
#cgo noescape vindu_enlarge
#cgo nocallback vindu_enlarge
#cgo noescape ABGRToARGB
#cgo nocallback ABGRToARGB
#include <libyuv/convert.h>
#include <libyuv/convert_argb.h>
#include <libyuv/convert_from_argb.h>
#include <libyuv/planar_functions.h>
#include <libyuv/scale.h>
#include <libyuv/scale_argb.h>
#include "enlarge.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"image"
	"sync/atomic"
)

var (
	// ErrShape is wrapped when sizes, strides, subsampling or lengths do not fit.
	ErrShape = errors.New("picture has the wrong shape")
	// ErrFormat is wrapped when a pixel format or a kind of JPEG is not handled.
	ErrFormat = errors.New("picture format is not supported")
	// ErrCorrupt is wrapped when compressed data is damaged or cut short.
	ErrCorrupt = errors.New("picture data is damaged")
)

// MaxSide is the largest width or height that any function accepts, in pixels.
const MaxSide = 8192

// Filter selects how Scale computes a pixel.
type Filter int

const (
	// Fast takes the nearest pixel.
	Fast Filter = C.kFilterNone
	// Bilinear is right for enlarging.
	Bilinear Filter = C.kFilterBilinear
	// Box averages all covered pixels: right for reducing; enlarges as Bilinear.
	Box Filter = C.kFilterBox
)

// New returns a black I420 picture of w×h pixels, in one allocation of planes,
// with strides that are multiples of 64 bytes. It panics on a size outside
// 1…MaxSide, as image.NewYCbCr does.
func New(w, h int) *image.YCbCr {
	img := new(image.YCbCr)
	setup(img, w, h)
	Black(img)
	return img
}

func setup(img *image.YCbCr, w, h int) {
	if w < 1 || h < 1 || w > MaxSide || h > MaxSide {
		panic(fmt.Sprintf("yuv: size %d×%d", w, h))
	}
	ys := (w + 63) &^ 63
	cs := ((w+1)/2 + 63) &^ 63
	ch := (h + 1) / 2
	buf := make([]byte, ys*h+2*cs*ch)
	y, c := ys*h, cs*ch
	*img = image.YCbCr{
		Y: buf[:y:y], Cb: buf[y : y+c : y+c], Cr: buf[y+c : y+2*c : y+2*c],
		YStride: ys, CStride: cs,
		SubsampleRatio: image.YCbCrSubsampleRatio420,
		Rect:           image.Rect(0, 0, w, h),
	}
}

// Check reports, wrapping ErrShape, whether img is a complete I420 picture that
// starts on even co-ordinates.
func Check(img *image.YCbCr) error {
	if img == nil {
		return fmt.Errorf("check picture: nil: %w", ErrShape)
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	cw, ch := (w+1)/2, (h+1)/2
	switch {
	case img.SubsampleRatio != image.YCbCrSubsampleRatio420,
		w < 1, h < 1, w > MaxSide, h > MaxSide,
		img.Rect.Min.X&1 != 0, img.Rect.Min.Y&1 != 0,
		img.YStride < w, img.CStride < cw,
		len(img.Y) < (h-1)*img.YStride+w,
		len(img.Cb) < (ch-1)*img.CStride+cw,
		len(img.Cr) < (ch-1)*img.CStride+cw:
		return fmt.Errorf("check picture %d×%d (%v, strides %d and %d): %w",
			w, h, img.SubsampleRatio, img.YStride, img.CStride, ErrShape)
	}
	return nil
}

func check2(dst, src *image.YCbCr) error {
	if err := Check(dst); err != nil {
		return err
	}
	return Check(src)
}

func sameSize(dst, src *image.YCbCr) error {
	if err := check2(dst, src); err != nil {
		return err
	}
	if dst.Rect.Size() != src.Rect.Size() {
		return fmt.Errorf("sizes %v and %v differ: %w", dst.Rect.Size(), src.Rect.Size(), ErrShape)
	}
	return nil
}

func checkPacked(buf []byte, stride, w, h int) error {
	if w < 1 || h < 1 || w > MaxSide || h > MaxSide || stride < 4*w || stride > 16*MaxSide || len(buf) < (h-1)*stride+4*w {
		return fmt.Errorf("check packed picture %d×%d, stride %d, %d bytes: %w", w, h, stride, len(buf), ErrShape)
	}
	return nil
}

func p(b []byte) *C.uint8_t { return (*C.uint8_t)(&b[0]) }

func result(what string, r C.int) error {
	if r != 0 {
		return fmt.Errorf("%s: libyuv returned %d: %w", what, int(r), ErrShape)
	}
	return nil
}

// passes counts how often a whole picture was gone through.
var passes atomic.Uint64

// Passes is how often this process has converted, scaled, mirrored or copied a picture: for tests that count what a picture costs on its way.
func Passes() uint64 { return passes.Load() }

// Scale fills dst with src, stretched to dst's size (aspect ratio is not kept).
func Scale(dst, src *image.YCbCr, f Filter) error {
	if err := check2(dst, src); err != nil {
		return err
	}
	if dst.Rect.Size() == src.Rect.Size() {
		return Copy(dst, src)
	}
	passes.Add(1)
	return result("scale", C.I420Scale(
		p(src.Y), C.int(src.YStride), p(src.Cb), C.int(src.CStride), p(src.Cr), C.int(src.CStride),
		C.int(src.Rect.Dx()), C.int(src.Rect.Dy()),
		p(dst.Y), C.int(dst.YStride), p(dst.Cb), C.int(dst.CStride), p(dst.Cr), C.int(dst.CStride),
		C.int(dst.Rect.Dx()), C.int(dst.Rect.Dy()), C.enum_FilterMode(f)))
}

// Copy copies src to dst, which has the same size.
func Copy(dst, src *image.YCbCr) error {
	if err := sameSize(dst, src); err != nil {
		return err
	}
	passes.Add(1)
	return result("copy", C.I420Copy(
		p(src.Y), C.int(src.YStride), p(src.Cb), C.int(src.CStride), p(src.Cr), C.int(src.CStride),
		p(dst.Y), C.int(dst.YStride), p(dst.Cb), C.int(dst.CStride), p(dst.Cr), C.int(dst.CStride),
		C.int(dst.Rect.Dx()), C.int(dst.Rect.Dy())))
}

// Mirror copies src to dst, left and right exchanged. dst must not be src.
func Mirror(dst, src *image.YCbCr) error {
	if err := sameSize(dst, src); err != nil {
		return err
	}
	passes.Add(1)
	return result("mirror", C.I420Mirror(
		p(src.Y), C.int(src.YStride), p(src.Cb), C.int(src.CStride), p(src.Cr), C.int(src.CStride),
		p(dst.Y), C.int(dst.YStride), p(dst.Cb), C.int(dst.CStride), p(dst.Cr), C.int(dst.CStride),
		C.int(dst.Rect.Dx()), C.int(dst.Rect.Dy())))
}

// Fill gives the part r of img one colour. r is in img's co-ordinates, is cut to img
// and is widened to even co-ordinates, since chroma has half the resolution.
func Fill(img *image.YCbCr, r image.Rectangle, y, cb, cr uint8) error {
	if err := Check(img); err != nil {
		return err
	}
	r = r.Intersect(img.Rect)
	if r.Empty() {
		return nil
	}
	r = r.Sub(img.Rect.Min)
	r.Min.X &^= 1
	r.Min.Y &^= 1
	r.Max.X = min((r.Max.X+1)&^1, img.Rect.Dx())
	r.Max.Y = min((r.Max.Y+1)&^1, img.Rect.Dy())
	return result("fill", C.I420Rect(
		p(img.Y), C.int(img.YStride), p(img.Cb), C.int(img.CStride), p(img.Cr), C.int(img.CStride),
		C.int(r.Min.X), C.int(r.Min.Y), C.int(r.Dx()), C.int(r.Dy()),
		C.int(y), C.int(cb), C.int(cr)))
}

// Black makes all of img black.
func Black(img *image.YCbCr) error { return Fill(img, img.Rect, 16, 128, 128) }

// ToBGRX converts src to BGRX. dst has stride bytes for each row.
func ToBGRX(dst []byte, stride int, src *image.YCbCr) error {
	if err := Check(src); err != nil {
		return err
	}
	w, h := src.Rect.Dx(), src.Rect.Dy()
	if err := checkPacked(dst, stride, w, h); err != nil {
		return err
	}
	return result("convert to BGRX", C.I420ToARGB(
		p(src.Y), C.int(src.YStride), p(src.Cb), C.int(src.CStride), p(src.Cr), C.int(src.CStride),
		p(dst), C.int(stride), C.int(w), C.int(h)))
}

// SwapRB copies w×h pixels of four bytes from src to dst with the first and the third byte
// exchanged: RGBA (as image.RGBA has it) to BGRX, and back. dst may be src.
func SwapRB(dst []byte, dstStride int, src []byte, srcStride, w, h int) error {
	if err := checkPacked(dst, dstStride, w, h); err != nil {
		return err
	}
	if err := checkPacked(src, srcStride, w, h); err != nil {
		return err
	}
	return result("swap red and blue", C.ABGRToARGB(
		p(src), C.int(srcStride), p(dst), C.int(dstStride), C.int(w), C.int(h)))
}

// Painter scales I420 pictures into BGRX memory. It keeps one intermediate picture
// of the size last asked for. The zero Painter is ready for use, by one goroutine.
type Painter struct {
	tmp    *image.YCbCr // of the size painted
	pixels []byte       // of the size given
}

// Paint stretches src to w×h pixels and writes them to dst as BGRX.
// It allocates only when the sizes differ from those of the call before.
func (pt *Painter) Paint(dst []byte, stride, w, h int, src *image.YCbCr, f Filter) error {
	if err := Check(src); err != nil {
		return err
	}
	if err := checkPacked(dst, stride, w, h); err != nil {
		return err
	}
	sw, sh := src.Rect.Dx(), src.Rect.Dy()
	if sw == w && sh == h {
		return ToBGRX(dst, stride, src)
	}
	if w >= sw && h >= sh && (w != 2*sw || h != 2*sh) {
		// Fewer pixels to convert, and libyuv enlarges packed ones faster: 0.97 ms instead of 1.37 from 640×480 to 960×720. Only for
		// exactly twice the size it has a faster way with planes.
		pt.tmp = nil
		if f != Fast {
			if len(pt.pixels) != 8*(sw+w) {
				pt.pixels = make([]byte, 8*(sw+w))
			}
			return result("enlarge", C.vindu_enlarge(p(src.Y), C.int(src.YStride), p(src.Cb), C.int(src.CStride), p(src.Cr), C.int(src.CStride), C.int(sw), C.int(sh),
				p(dst), C.int(stride), C.int(w), C.int(h), p(pt.pixels)))
		}
		if len(pt.pixels) != 4*sw*sh {
			pt.pixels = make([]byte, 4*sw*sh)
		}
		if err := ToBGRX(pt.pixels, 4*sw, src); err != nil {
			return err
		}
		return result("scale", C.ARGBScale(p(pt.pixels), C.int(4*sw), C.int(sw), C.int(sh),
			p(dst), C.int(stride), C.int(w), C.int(h), C.enum_FilterMode(f)))
	}
	pt.pixels = nil
	if pt.tmp == nil || pt.tmp.Rect.Dx() != w || pt.tmp.Rect.Dy() != h {
		pt.tmp = New(w, h)
	}
	if err := Scale(pt.tmp, src, f); err != nil {
		return err
	}
	return ToBGRX(dst, stride, pt.tmp)
}

// Forget blackens and lets go of what the Painter keeps of the last picture.
func (pt *Painter) Forget() {
	clear(pt.pixels)
	if pt.tmp != nil {
		_ = Black(pt.tmp)
	}
	*pt = Painter{}
}

// Fit returns the largest rectangle with the aspect ratio of w×h that lies centred
// in r, on even co-ordinates and of even size; empty if there is none.
func Fit(w, h int, r image.Rectangle) image.Rectangle {
	if w < 1 || h < 1 || r.Empty() {
		return image.Rectangle{}
	}
	fw, fh := r.Dx(), r.Dx()*h/w
	if fh > r.Dy() {
		fw, fh = r.Dy()*w/h, r.Dy()
	}
	fw &^= 1
	fh &^= 1
	if fw < 2 || fh < 2 {
		return image.Rectangle{}
	}
	x := (r.Min.X + (r.Dx()-fw)/2 + 1) &^ 1
	y := (r.Min.Y + (r.Dy()-fh)/2 + 1) &^ 1
	if x+fw > r.Max.X {
		x -= 2
	}
	if y+fh > r.Max.Y {
		y -= 2
	}
	if x < r.Min.X || y < r.Min.Y { // odd edges: give up alignment, never the bounds
		x, y = r.Min.X+(r.Dx()-fw)/2, r.Min.Y+(r.Dy()-fh)/2
	}
	return image.Rect(x, y, x+fw, y+fh)
}
