package display

import (
	"encoding/binary"
	"image"
	"slices"

	"vindu/media/yuv"
)

// still is a picture of the screen's size, each row kept as runs of equal pixels: words on a plain ground
// need a tenth of the memory that their pixels do, and a screen's worth of memory is
// much on a small board. A picture without two equal neighbours needs twice its pixels' memory, no more.
type still struct {
	rows [][]run
	line []byte // BGRX, one row, while it is worked on
}

type run struct {
	n     uint32
	pixel uint32 // BGRX in memory's order
}

// newStill returns a black scene.
func newStill(w, h int) *still {
	s := &still{rows: make([][]run, h), line: make([]byte, w*4)}
	for y := range s.rows {
		s.rows[y] = []run{{n: uint32(w)}}
	}
	return s
}

// set replaces r by the same part of img, which has the scene's size.
func (s *still) set(img *image.RGBA, r image.Rectangle) {
	whole := r.Dx()*4 == len(s.line)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		if !whole {
			expand(s.line, s.rows[y], 0)
		}
		from := y*img.Stride + r.Min.X*4
		// Cannot fail: r lies within both.
		_ = yuv.SwapRB(s.line[r.Min.X*4:], r.Dx()*4, img.Pix[from:], img.Stride, r.Dx(), 1)
		s.rows[y] = compress(s.rows[y][:0], s.line)
	}
}

// copyTo paints r into pix.
func (s *still) copyTo(pix []byte, stride int, r image.Rectangle) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		expand(pix[y*stride+r.Min.X*4:y*stride+r.Max.X*4], s.rows[y], r.Min.X)
	}
}

// compress appends the runs of line to row.
func compress(row []run, line []byte) []run {
	for len(line) >= 4 {
		pixel := binary.NativeEndian.Uint32(line)
		if last := len(row) - 1; last >= 0 && row[last].pixel == pixel {
			row[last].n++
		} else {
			row = append(row, run{1, pixel})
		}
		line = line[4:]
	}
	if cap(row) > 2*len(row)+8 {
		return slices.Clone(row) // once it was longer by far
	}
	return row
}

// expand fills line with the pixels of row from the one numbered skip.
func expand(line []byte, row []run, skip int) {
	for _, r := range row {
		n := int(r.n)
		if skip >= n {
			skip -= n
			continue
		}
		n, skip = min(n-skip, len(line)/4), 0
		part := line[:n*4]
		line = line[n*4:]
		for i := 0; i < min(len(part), 64); i += 4 {
			binary.NativeEndian.PutUint32(part[i:], r.pixel)
		}
		for done := 64; done < len(part); done *= 2 {
			copy(part[done:], part[:done])
		}
		if len(line) == 0 {
			return
		}
	}
}
