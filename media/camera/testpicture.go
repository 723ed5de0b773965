package camera

import (
	"image"
	"image/color"
	"sync"
	"sync/atomic"
	"time"

	"vindu/media/yuv"
)

// Bars are the colours of the test picture from left to right: the 75 % bars white,
// yellow, cyan, green, magenta, red, blue, black in BT.601 limited range (EBU Tech 3325).
// They fill the upper half of the picture.
var Bars = [8]color.YCbCr{
	{Y: 180, Cb: 128, Cr: 128}, {Y: 162, Cb: 44, Cr: 142}, {Y: 131, Cb: 156, Cr: 44}, {Y: 112, Cb: 72, Cr: 58},
	{Y: 84, Cb: 184, Cr: 198}, {Y: 65, Cb: 100, Cr: 212}, {Y: 35, Cb: 212, Cr: 114}, {Y: 16, Cb: 128, Cr: 128},
}

// testPicture is the synthetic Source. The goroutine that calls Read owns everything but
// the fields below the line.
type testPicture struct {
	info       Info
	background *image.YCbCr
	pool       *yuv.Pool
	interval   time.Duration
	start      time.Time // of the running sequence of due times
	n          int64     // pictures due since start
	timer      *time.Timer
	cell       int         // side of one dot of the clock, in pixels
	clock      image.Point // upper left corner of the clock's digits
	track      image.Rectangle
	snow       image.Rectangle
	random     uint64 // xorshift state, never 0
	text       [8]byte

	closing sync.Once
	done    chan struct{}
	frames  atomic.Int64
	skipped atomic.Int64
}

// TestPicture returns a Source that shows colour bars, the time of day, a square that
// travels from side to side in four seconds, and a strip of snow, as the SMPTE pattern has, without which
// it would cost an encoder a tenth of a camera's picture, at exactly the size and rate asked for.
// It opens no device. Its Info says that it is synthetic.
func TestPicture(cfg Config) Source {
	cfg = cfg.normal()
	w, h := cfg.Width, cfg.Height
	s := &testPicture{
		info: Info{
			Name: "test picture", Format: yuv.YU12.String(),
			Width: w, Height: h, FPS: float64(cfg.FPS), Synthetic: true,
		},
		background: yuv.New(w, h),
		pool:       yuv.NewPool(w, h, 4),
		interval:   time.Second / time.Duration(cfg.FPS),
		done:       make(chan struct{}),
		text:       [8]byte{'0', '0', ':', '0', '0', ':', '0', '0'},
		random:     0x9E3779B97F4A7C15,
	}
	s.layout()
	return s
}

// layout draws what never moves: bars above, then black for the clock and the square.
func (s *testPicture) layout() {
	w, h := s.info.Width, s.info.Height
	for i, c := range Bars {
		// Cannot fail: the picture is ours and complete.
		_ = yuv.Fill(s.background, image.Rect(i*w/8&^1, 0, (i+1)*w/8&^1, h/2), c.Y, c.Cb, c.Cr)
	}
	// Clock: 8 glyphs of 6×7 dots within 5/6 of the width and 3/10 of the height.
	s.cell = max(min(w*5/6/48, h*3/10/7), 1)
	s.clock = image.Pt((w-47*s.cell)/2, h/2+(h*3/10-7*s.cell)/2)
	s.track = image.Rect(0, h*8/10, w, h*8/10+h/10).Intersect(s.background.Rect)
	s.snow = image.Rect(w/2, h*92/100, w, h).Intersect(s.background.Rect)
	// "TEST" at the bottom left: a generated picture never passes for a real one.
	small := max(s.cell/3, 1)
	x, y := 2*small, h-9*small
	for _, c := range []byte("TEST") {
		drawGlyph(s.background, c, x, y, small, 140)
		x += 6 * small
	}
}

// Read waits until the next picture is due. A reader that comes too late gets one at once,
// and the pictures between are skipped, as with a camera.
func (s *testPicture) Read() (image.Image, func(), error) {
	select {
	case <-s.done:
		return nil, nil, ErrClosed
	default:
	}
	now := time.Now()
	if s.start.IsZero() {
		s.start = now
	}
	due := s.start.Add(time.Duration(s.n) * s.interval)
	if wait := due.Sub(now); wait > 0 {
		if s.timer == nil {
			s.timer = time.NewTimer(wait)
		} else {
			s.timer.Reset(wait)
		}
		select {
		case <-s.timer.C:
		case <-s.done:
			s.timer.Stop()
			return nil, nil, ErrClosed
		}
	} else if missed := int64(-wait / s.interval); missed > 0 {
		s.skipped.Add(missed)
		s.n += missed
	}
	s.n++

	img, release := s.pool.Get()
	s.draw(img, time.Now())
	s.frames.Add(1)
	return img, release, nil
}

func (s *testPicture) draw(img *image.YCbCr, now time.Time) {
	_ = yuv.Copy(img, s.background) // same size by construction
	hour, minute, second := now.Clock()
	put := func(i, v int) { s.text[i], s.text[i+1] = byte('0'+v/10), byte('0'+v%10) }
	put(0, hour)
	put(3, minute)
	put(6, second)
	x := s.clock.X
	for _, c := range s.text {
		drawGlyph(img, c, x, s.clock.Y, s.cell, 235)
		x += 6 * s.cell
	}
	// There and back in four seconds.
	const period = 4 * time.Second
	phase := time.Duration(now.UnixNano()) % period
	if phase > period/2 {
		phase = period - phase
	}
	side := s.track.Dy()
	left := int(int64(s.track.Dx()-side) * int64(phase) / int64(period/2))
	_ = yuv.Fill(img, image.Rect(left, s.track.Min.Y, left+side, s.track.Max.Y), 210, 16, 146)
	for y := s.snow.Min.Y; y < s.snow.Max.Y; y++ {
		line := img.Y[y*img.YStride+s.snow.Min.X : y*img.YStride+s.snow.Max.X]
		for i := range line {
			if i%8 == 0 { // xorshift64 (Marsaglia 2003)
				s.random ^= s.random << 13
				s.random ^= s.random >> 7
				s.random ^= s.random << 17
			}
			line[i] = 16 + uint8(s.random>>(i%8*8))%220
		}
	}
}

func (s *testPicture) Info() Info { return s.info }

func (s *testPicture) Stats() Stats {
	return Stats{Frames: s.frames.Load(), Skipped: s.skipped.Load()}
}

func (s *testPicture) Close() error {
	s.closing.Do(func() { close(s.done) })
	return nil
}

// glyphs are 5×7 dots, a byte for each row, the left dot in bit 4.
var glyphs = map[byte][7]byte{
	'0': {0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E},
	'1': {0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E},
	'2': {0x0E, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1F},
	'3': {0x1F, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0E},
	'4': {0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02},
	'5': {0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E},
	'6': {0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E},
	'7': {0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08},
	'8': {0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E},
	'9': {0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C},
	':': {0x00, 0x04, 0x04, 0x00, 0x04, 0x04, 0x00},
	'T': {0x1F, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04},
	'E': {0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x1F},
	'S': {0x0F, 0x10, 0x10, 0x0E, 0x01, 0x01, 0x1E},
}

// drawGlyph sets the luma of one character's dots; what lies outside img is left out.
func drawGlyph(img *image.YCbCr, c byte, x, y, cell int, luma uint8) {
	glyph := glyphs[c]
	for row, bits := range glyph {
		for col := range 5 {
			if bits&(0x10>>col) == 0 {
				continue
			}
			r := image.Rect(x+col*cell, y+row*cell, x+(col+1)*cell, y+(row+1)*cell).Intersect(img.Rect)
			for py := r.Min.Y; py < r.Max.Y; py++ {
				line := img.Y[py*img.YStride+r.Min.X : py*img.YStride+r.Max.X]
				for i := range line {
					line[i] = luma
				}
			}
		}
	}
}
