package yuv

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"testing"
)

// pack lays img out as a camera would, with padding bytes of 0xEE at the end of each row.
func pack(f Format, img *image.YCbCr, pad int) (data []byte, stride int) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	stride = f.stride(0, w) + pad
	data = bytes.Repeat([]byte{0xEE}, f.Size(stride, w, h))
	at := func(x, y int) color.YCbCr { return img.YCbCrAt(min(x, w-1), min(y, h-1)) }
	for y := range h {
		row := data[y*stride:]
		for x := 0; x < w; x += 2 {
			a, b := at(x, y), at(x+1, y)
			switch f {
			case YUYV:
				copy(row[2*x:], []byte{a.Y, a.Cb, b.Y, a.Cr})
			case UYVY:
				copy(row[2*x:], []byte{a.Cb, a.Y, a.Cr, b.Y})
			default:
				row[x] = a.Y
				if x+1 < w {
					row[x+1] = b.Y
				}
			}
		}
	}
	half := (stride + 1) / 2
	for y := range (h + 1) / 2 {
		for x := range (w + 1) / 2 {
			c := at(2*x, 2*y)
			first, second := c.Cb, c.Cr
			if f == NV21 || f == YV12 {
				first, second = second, first
			}
			switch f {
			case NV12, NV21:
				data[stride*h+y*stride+2*x] = first
				data[stride*h+y*stride+2*x+1] = second
			case YU12, YV12:
				data[stride*h+y*half+x] = first
				data[stride*h+half*((h+1)/2)+y*half+x] = second
			}
		}
	}
	return data, stride
}

func TestFromRaw(t *testing.T) {
	for _, f := range []Format{YUYV, UYVY, NV12, NV21, YU12, YV12} {
		for name, c := range map[string]struct{ w, h, pad int }{
			"plain": {64, 48, 0}, "padded": {64, 48, 32}, "narrow": {20, 6, 12}, "odd": {21, 7, 0},
		} {
			t.Run(f.String()+" "+name, func(t *testing.T) {
				data, stride := pack(f, halves(c.w, c.h), c.pad)
				got := New(c.w, c.h)
				if err := FromRaw(got, f, data, stride); err != nil {
					t.Fatal(err)
				}
				wantAt(t, got, 1, c.h-1, left, 0)
				wantAt(t, got, c.w-1, c.h-1, right, 0)
				if err := FromRaw(got, f, data[:len(data)-stride], stride); !errors.Is(err, ErrShape) {
					t.Errorf("a frame cut short: error %v, want ErrShape", err)
				}
			})
		}
	}
	if err := FromRaw(New(8, 8), MJPG, make([]byte, 500), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("MJPG as raw: error %v, want ErrFormat", err)
	}
}

func TestFormatNames(t *testing.T) {
	for f, want := range map[Format]string{YUYV: "YUYV", NV12: "NV12", MJPG: "MJPG", 0x0A414243: "CBA?"} {
		if f.String() != want {
			t.Errorf("Format(%#x) = %q, want %q", uint32(f), f.String(), want)
		}
	}
	if YUYV != 0x56595559 || MJPG != 0x47504A4D {
		t.Error("codes differ from videodev2.h")
	}
}

func FuzzFromRaw(f *testing.F) {
	for _, format := range []Format{YUYV, UYVY, NV12, NV21, YU12, YV12} {
		data, stride := pack(format, halves(16, 8), 4)
		f.Add(uint32(format), data, stride, 16, 8)
	}
	f.Fuzz(func(t *testing.T, format uint32, data []byte, stride, w, h int) {
		if w < 1 || h < 1 || w > 256 || h > 256 {
			return
		}
		dst := New(w, h)
		if err := FromRaw(dst, Format(format), data, stride); err != nil && !errors.Is(err, ErrShape) && !errors.Is(err, ErrFormat) {
			t.Fatalf("undocumented error %v", err)
		}
	})
}
