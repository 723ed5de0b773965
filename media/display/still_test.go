package display

import (
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"testing"
)

// Whatever is set, in whatever parts, comes out pixel by pixel.
func TestStill(t *testing.T) {
	const w, h = 97, 31
	random := rand.New(rand.NewPCG(3, 4))
	want := image.NewRGBA(image.Rect(0, 0, w, h)) // alpha is 0, as in a new still
	s := newStill(w, h)
	pix := make([]byte, w*h*4)
	rect := func() image.Rectangle {
		x, y := random.IntN(w), random.IntN(h)
		return image.Rect(x, y, x+1+random.IntN(w-x), y+1+random.IntN(h-y))
	}
	for step := range 500 {
		r := rect()
		switch random.IntN(3) {
		case 0:
			r = want.Rect
			fallthrough
		case 1:
			draw.Draw(want, r, image.NewUniform(color.RGBA{uint8(step), 1, 2, 255}), image.Point{}, draw.Src)
		case 2: // hardly two equal neighbours
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					want.SetRGBA(x, y, color.RGBA{uint8(random.IntN(3)), 0, uint8(random.IntN(3)), 255})
				}
			}
		}
		s.set(want, r)
		part := rect()
		clear(pix)
		s.copyTo(pix, w*4, part)
		for y := range h {
			for x := range w {
				got := color.RGBA{pix[(y*w+x)*4+2], pix[(y*w+x)*4+1], pix[(y*w+x)*4], pix[(y*w+x)*4+3]}
				exp := color.RGBA{}
				if (image.Point{X: x, Y: y}).In(part) {
					exp = want.RGBAAt(x, y)
				}
				if got != exp {
					t.Fatalf("step %d: (%d,%d) of %v is %v, want %v", step, x, y, part, got, exp)
				}
			}
		}
	}
	s.set(image.NewRGBA(want.Rect), want.Rect)
	runs := 0
	for _, row := range s.rows {
		runs += cap(row)
	}
	if runs > 16*h {
		t.Errorf("a plain still keeps room for %d runs in %d rows", runs, h)
	}
}
