// Package inspect judges pictures and sound by figures: whether a camera sees and a microphone hears. It is arithmetic only; nothing is
// opened, and nothing of what was seen or heard can be had back from the figures.
//
// Of pictures (I420, see package yuv) a Watcher tells brightness (mean luma), sharpness (variance of the Laplacian, Pech-Pacheco et al.,
// "Diatom autofocusing in brightfield microscopy", ICPR 2000) and motion (mean absolute difference of successive pictures: a live
// sensor's noise is enough, a picture that hangs gives nought).
//
// Of sound (48 kHz, one channel, 16 bit, see package sound) Measure tells levels in dBFS, where a square wave of full scale is 0, and
// FindChirp looks for a known sweep by a matched filter: it also finds one that lies under the room's noise, and tells how late it came.
package inspect

import (
	"image"
	"math"
)

// judgedWidth is the least width, after averaging, at which sharpness is judged: pixel noise is no sharpness, and cameras of different
// sizes shall be comparable.
const judgedWidth = 320

// Sight is what a camera's pictures are like.
type Sight struct {
	Pictures      int
	Width, Height int
	Brightness    float64 // mean luma from 0 (black) to 1 (white), of all pictures
	Sharpness     float64 // variance of the Laplacian at about 320 pixels of width, of the sharpest picture
	Motion        float64 // mean absolute difference of luma (0 to 255) between successive pictures, the largest
}

// Watcher looks at successive pictures. The zero Watcher has seen none. For one goroutine.
type Watcher struct {
	sight  Sight
	bright float64
	before []uint8
	now    []uint8
	small  []float64
}

// Add looks at a picture and does not keep it. One of another size than the one before does not count as motion. An empty picture is
// passed over.
func (w *Watcher) Add(img *image.YCbCr) {
	size := img.Rect.Size()
	if size.X <= 0 || size.Y <= 0 {
		return
	}
	w.sight.Pictures++
	w.sight.Width, w.sight.Height = size.X, size.Y
	w.now = sample(w.now[:0], img)
	w.bright += brightness(w.now)
	if len(w.before) == len(w.now) {
		w.sight.Motion = max(w.sight.Motion, difference(w.before, w.now))
	}
	w.before, w.now = w.now, w.before
	var width, height int
	w.small, width, height = shrink(w.small[:0], img)
	w.sight.Sharpness = max(w.sight.Sharpness, laplacian(w.small, width, height))
}

// Sight sums up.
func (w *Watcher) Sight() Sight {
	s := w.sight
	if s.Pictures > 0 {
		s.Brightness = w.bright / float64(s.Pictures)
	}
	return s
}

// sample takes every fourth pixel of every second line, as it is: averaging would take the noise out.
func sample(to []uint8, img *image.YCbCr) []uint8 {
	for y := img.Rect.Min.Y; y < img.Rect.Max.Y; y += 2 {
		row := img.Y[img.YOffset(img.Rect.Min.X, y):]
		for x := 0; x < img.Rect.Dx(); x += 4 {
			to = append(to, row[x])
		}
	}
	return to
}

// brightness maps luma's nominal range, 16 to 235 (ITU-R BT.601), to 0 to 1.
func brightness(luma []uint8) float64 {
	sum := 0
	for _, v := range luma {
		sum += int(v)
	}
	return min(max((float64(sum)/float64(len(luma))-16)/(235-16), 0), 1)
}

func difference(a, b []uint8) float64 {
	sum := 0
	for i := range a {
		sum += max(int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return float64(sum) / float64(len(a))
}

// shrink averages squares of pixels until the picture is about judgedWidth wide.
func shrink(to []float64, img *image.YCbCr) (luma []float64, width, height int) {
	side := max(img.Rect.Dx()/judgedWidth, 1)
	width, height = img.Rect.Dx()/side, img.Rect.Dy()/side
	for y := range height {
		for x := range width {
			sum := 0
			for dy := range side {
				at := img.YOffset(img.Rect.Min.X+x*side, img.Rect.Min.Y+y*side+dy)
				for _, v := range img.Y[at : at+side] {
					sum += int(v)
				}
			}
			to = append(to, float64(sum)/float64(side*side))
		}
	}
	return to, width, height
}

// laplacian is the variance of the four-neighbour Laplacian.
func laplacian(luma []float64, width, height int) float64 {
	var sum, squares, n float64
	for y := 1; y < height-1; y++ {
		for x := 1; x < width-1; x++ {
			i := y*width + x
			v := luma[i-1] + luma[i+1] + luma[i-width] + luma[i+width] - 4*luma[i]
			sum += v
			squares += v * v
			n++
		}
	}
	if n == 0 {
		return 0
	}
	mean := sum / n
	return squares/n - mean*mean
}

// Silence is the level of sound that is nothing at all: below the step of 16 bits.
const Silence = -100.0

// Loudness is how loud sound is.
type Loudness struct {
	RMS, Peak float64 // dBFS, Silence at the least
	Clipped   float64 // share of samples at full scale
}

// Measure tells how loud samples are. A constant offset, as cheap converters have, is no sound.
func Measure(samples []int16) Loudness {
	if len(samples) == 0 {
		return Loudness{RMS: Silence, Peak: Silence}
	}
	sum := 0.0
	for _, s := range samples {
		sum += float64(s)
	}
	mean := sum / float64(len(samples))
	var squares, peak, clipped float64
	for _, s := range samples {
		v := float64(s) - mean
		squares += v * v
		peak = max(peak, math.Abs(v))
		if s == math.MaxInt16 || s == math.MinInt16 {
			clipped++
		}
	}
	n := float64(len(samples))
	return Loudness{RMS: decibel(math.Sqrt(squares / n)), Peak: decibel(peak), Clipped: clipped / n}
}

func decibel(amplitude float64) float64 {
	if amplitude <= 0 {
		return Silence
	}
	return max(20*math.Log10(amplitude/-math.MinInt16), Silence)
}
