package codectest

import (
	"image"
	"math"
)

// Painter draws a moving picture: a texture that slides, with noise in part of it, under a bar of flat colour.
type Painter struct {
	tile []byte
	img  *image.YCbCr
}

// NewPainter makes a Painter of pictures of w×h.
func NewPainter(w, h int) *Painter {
	p := &Painter{tile: make([]byte, 256*256), img: image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)}
	seed := uint32(1)
	for i := range p.tile {
		seed = seed*1664525 + 1013904223
		x, y := float64(i%256), float64(i/256)
		p.tile[i] = byte(128 + 50*math.Sin(x/9) + 40*math.Cos(y/13) + float64(seed>>28))
	}
	return p
}

// Image is the picture that was painted last.
func (p *Painter) Image() *image.YCbCr { return p.img }

// Paint paints picture n, over the one before.
func (p *Painter) Paint(n int) *image.YCbCr {
	w, h := p.img.Rect.Dx(), p.img.Rect.Dy()
	for y := range h {
		row, src := p.img.Y[y*p.img.YStride:][:w], p.tile[((y+n)&255)*256:][:256]
		for x := 0; x < w; {
			x += copy(row[x:], src[(x+3*n)&255:])
		}
	}
	first := p.img.Cb[:w/2]
	for x := range first {
		first[x] = byte(100 + (x+n)/8%40)
	}
	for y := range h / 2 {
		copy(p.img.Cb[y*p.img.CStride:][:w/2], first)
		fill(p.img.Cr[y*p.img.CStride:][:w/2], byte(110+(y+n)/8%40))
	}
	for y := h / 4; y < h/2; y++ {
		fill(p.img.Y[y*p.img.YStride:][w/4:w/2], 81)
	}
	for y := h / 8; y < h/4; y++ {
		fill(p.img.Cb[y*p.img.CStride:][w/8:w/4], 90)
		fill(p.img.Cr[y*p.img.CStride:][w/8:w/4], 240)
	}
	return p.img
}

// fill doubles what is there, which is quick also where each access is watched.
func fill(row []byte, v byte) {
	if len(row) == 0 {
		return
	}
	row[0] = v
	for n := 1; n < len(row); n *= 2 {
		copy(row[n:], row[:n])
	}
}

// Loop is pictures painted beforehand, so that painting is not measured.
func Loop(w, h int) []*image.YCbCr {
	p := NewPainter(w, h)
	var out []*image.YCbCr
	for i := range 16 {
		// There and back, so that the loop has no cut.
		img := *p.Paint(8 - max(i-8, 8-i))
		img.Y = append([]byte(nil), img.Y...)
		img.Cb = append([]byte(nil), img.Cb...)
		img.Cr = append([]byte(nil), img.Cr...)
		out = append(out, &img)
	}
	return out
}
