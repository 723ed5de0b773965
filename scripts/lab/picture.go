package lab

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"slices"
)

// Tolerance is how far, in each of red, green and blue of 255, a colour may be from what it should be after two
// conversions and a lossy codec.
const Tolerance = 15

// Bars are the colours of vivid's test picture (75 % colour bars), from left to right, as R'G'B'.
var Bars = [...]color.RGBA{
	{191, 191, 191, 255}, {191, 191, 0, 255}, {0, 191, 191, 255}, {0, 191, 0, 255},
	{191, 0, 191, 255}, {191, 0, 0, 255}, {0, 0, 191, 255}, {0, 0, 0, 255},
}

// A V4L2 control of vivid, and a value of it (drivers/media/test-drivers/vivid/vivid-ctrls.c).
const (
	VividHorizontal    = 0x00f00000 | 0xf000 + 2
	VividMovesLeftFast = 0 // 8 of 640 pixels a frame
)

// BarRow is what one row of a picture of the bars shows.
type BarRow struct {
	Phase   int                   // where the first bar begins, in pixels from the left; the bars go round
	Colours [len(Bars)]color.RGBA // the median of each bar's inside
	Worst   [len(Bars)]int        // its largest distance from what it should be in one of red, green and blue
}

// ReadBars finds the bars in a row of pixels. It is an error if one of them is missing, too narrow or too wide, out of
// order or of another colour than Tolerance allows.
func ReadBars(row []color.RGBA) (BarRow, error) {
	const least = 4
	width := len(row) / len(Bars)
	if width < least {
		return BarRow{}, fmt.Errorf("a row of %d pixels is too short for the bars", len(row))
	}
	nearest := make([]int, len(row))
	for x, pixel := range row {
		nearest[x] = nearestBar(pixel)
	}
	// The longest stretch of each bar. The last one goes on round the edge of the picture.
	var result BarRow
	var begins, lengths [len(Bars)]int
	for begin := 0; begin < len(row); {
		run := 1
		for run < len(row) && nearest[(begin+run)%len(row)] == nearest[begin] {
			run++
		}
		if bar := nearest[begin]; run > lengths[bar] {
			begins[bar], lengths[bar] = begin, run
		}
		begin += run
	}
	for bar := range Bars {
		length := lengths[bar]
		if length < width*2/3 || length > width*4/3 {
			return BarRow{}, fmt.Errorf("bar %d is %d pixels wide, not %d", bar, length, width)
		}
		// What lies near another bar is blurred by the codec and by chroma subsampling.
		var inside histogram
		for i := length / 4; i < length-length/4; i++ {
			inside.add(row[(begins[bar]+i)%len(row)])
		}
		result.Colours[bar] = inside.median()
		result.Worst[bar] = distance(result.Colours[bar], Bars[bar])
		if result.Worst[bar] > Tolerance {
			return BarRow{}, fmt.Errorf("bar %d is %v, which is more than %d from %v", bar, result.Colours[bar], Tolerance, Bars[bar])
		}
	}
	for bar := range Bars {
		next := (bar + 1) % len(Bars)
		gap := (begins[next] - begins[bar] + len(row)) % len(row)
		if gap < width*2/3 || gap > width*4/3 {
			return BarRow{}, fmt.Errorf("bar %d begins %d pixels after bar %d, not %d", next, gap, bar, width)
		}
	}
	result.Phase = begins[0]
	return result, nil
}

// distance is the largest of the differences in red, green and blue.
func distance(a, b color.RGBA) int {
	between := func(a, b uint8) int {
		if a > b {
			return int(a - b)
		}
		return int(b - a)
	}
	return max(between(a.R, b.R), between(a.G, b.G), between(a.B, b.B))
}

func nearestBar(pixel color.RGBA) (nearest int) {
	least := math.MaxInt
	for bar, should := range Bars {
		if d := distance(pixel, should); d < least {
			nearest, least = bar, d
		}
	}
	return nearest
}

// histogram counts colours, red, green and blue apart.
type histogram struct {
	counts [3][256]int
	total  int
}

func (h *histogram) add(c color.RGBA) {
	h.counts[0][c.R]++
	h.counts[1][c.G]++
	h.counts[2][c.B]++
	h.total++
}

func (h *histogram) median() color.RGBA {
	var middle [3]uint8
	for channel := range h.counts {
		below := 0
		for value, count := range h.counts[channel] {
			if below += count; below > h.total/2 {
				middle[channel] = uint8(value)
				break
			}
		}
	}
	return color.RGBA{middle[0], middle[1], middle[2], 255}
}

// The caller's picture: two halves in colours that nothing else on the terminal's screen has, and between them a light
// square that goes down.
var (
	callerLeft   = color.RGBA{226, 122, 28, 255}
	callerRight  = color.RGBA{98, 54, 168, 255}
	callerSquare = color.RGBA{240, 240, 240, 255}
)

const (
	callerWidth, callerHeight, callerFPS = 320, 240, 15
	callerFrames                         = 30
)

// CallerVideo is the caller's camera as a Y4M file for Chromium's --use-file-for-fake-video-capture, which repeats it.
func CallerVideo() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n", callerWidth, callerHeight, callerFPS)
	picture := image.NewYCbCr(image.Rect(0, 0, callerWidth, callerHeight), image.YCbCrSubsampleRatio420)
	for frame := range callerFrames {
		for y := range callerHeight {
			for x := range callerWidth {
				luma, cb, cr := videoRange(callerPixel(x, y, frame))
				picture.Y[picture.YOffset(x, y)] = luma
				picture.Cb[picture.COffset(x, y)], picture.Cr[picture.COffset(x, y)] = cb, cr
			}
		}
		out.WriteString("FRAME\n")
		out.Write(picture.Y)
		out.Write(picture.Cb)
		out.Write(picture.Cr)
	}
	return out.Bytes()
}

func callerPixel(x, y, frame int) color.RGBA {
	const size = callerWidth / 8
	top := frame * (callerHeight - size) / callerFrames
	switch {
	case x >= (callerWidth-size)/2 && x < (callerWidth+size)/2 && y >= top && y < top+size:
		return callerSquare
	case x < callerWidth/2:
		return callerLeft
	default:
		return callerRight
	}
}

// videoRange converts by ITU-R BT.601 with luma from 16 to 235, as cameras and WebRTC do.
func videoRange(c color.RGBA) (luma, cb, cr uint8) {
	r, g, b := float64(c.R), float64(c.G), float64(c.B)
	clip := func(v float64) uint8 { return uint8(math.Round(min(max(v, 0), 255))) }
	return clip(16 + 0.257*r + 0.504*g + 0.098*b), clip(128 - 0.148*r - 0.291*g + 0.439*b), clip(128 + 0.439*r - 0.368*g - 0.071*b)
}

// CallerOnScreen is where the caller's picture is on the terminal's screen, and how it looks there.
type CallerOnScreen struct {
	Where       image.Rectangle
	Left, Right color.RGBA
	Square      int // the height of the light square's middle, in pixels below the top of Where
}

// Frame is which of the caller's pictures it is, by where its light square's middle is on the screen. A screen that is
// read while it is painted shows a square between two places: it counts as one of the two.
func (c CallerOnScreen) Frame(middle int) int {
	const size, way = callerWidth / 8, callerHeight - callerWidth/8
	at := float64(middle-c.Where.Min.Y)/float64(c.Where.Dy())*callerHeight - size/2
	return int(math.Round(at / way * callerFrames))
}

// FindCaller looks for the caller's picture on a screen. Its error says what is missing.
func FindCaller(picture image.Image) (CallerOnScreen, error) {
	const around = 40 // wide enough for a picture of the wrong colour to be found, and refused
	screen := plain(picture)
	left, leftColour := find(screen, callerLeft, around)
	right, rightColour := find(screen, callerRight, around)
	if left.Empty() || right.Empty() {
		return CallerOnScreen{}, fmt.Errorf("the caller's picture is not there: left half %v, right half %v", left, right)
	}
	found := CallerOnScreen{Where: left.Union(right), Left: leftColour, Right: rightColour}
	if left.Max.X > right.Min.X+4 || right.Min.X-left.Max.X > found.Where.Dx()/callerWidth*4+16 {
		return found, fmt.Errorf("the halves of the caller's picture are not side by side: %v and %v", left, right)
	}
	for _, half := range []struct{ is, should color.RGBA }{{found.Left, callerLeft}, {found.Right, callerRight}} {
		if distance(half.is, half.should) > Tolerance {
			return found, fmt.Errorf("half of the caller's picture is %v, which is more than %d from %v", half.is, Tolerance, half.should)
		}
	}
	middle := (left.Max.X + right.Min.X) / 2
	total, count := 0, 0
	for y := found.Where.Min.Y; y < found.Where.Max.Y; y++ {
		if distance(screen.RGBAAt(middle, y), callerSquare) <= around {
			total += y - found.Where.Min.Y
			count++
		}
	}
	if count == 0 {
		return found, fmt.Errorf("the caller's picture at %v has no light square", found.Where)
	}
	found.Square = total / count
	return found, nil
}

// find returns where a colour is on the screen, and its median. Rows and columns in which it is rare are text or blur.
func find(screen *image.RGBA, of color.RGBA, around int) (image.Rectangle, color.RGBA) {
	size := screen.Rect.Size()
	columns, rows := make([]int, size.X), make([]int, size.Y)
	var seen histogram
	for y := range size.Y {
		line := screen.Pix[y*screen.Stride : y*screen.Stride+4*size.X]
		for x := range size.X {
			pixel := color.RGBA{line[4*x], line[4*x+1], line[4*x+2], 255}
			if distance(pixel, of) <= around {
				columns[x]++
				rows[y]++
				seen.add(pixel)
			}
		}
	}
	x0, x1 := extent(columns)
	y0, y1 := extent(rows)
	return image.Rect(x0, y0, x1, y1), seen.median()
}

// plain returns a picture whose pixels are quickly read, with its corner at the origin.
func plain(picture image.Image) *image.RGBA {
	if already, ok := picture.(*image.RGBA); ok && already.Rect.Min == (image.Point{}) {
		return already
	}
	size := picture.Bounds().Size()
	result := image.NewRGBA(image.Rectangle{Max: size})
	draw.Draw(result, result.Rect, picture, picture.Bounds().Min, draw.Src)
	return result
}

// extent is the range of those entries that are at least a quarter of the largest.
func extent(counts []int) (from, to int) {
	least := max(slices.Max(counts)/4, 8)
	enough := func(n int) bool { return n >= least }
	from = slices.IndexFunc(counts, enough)
	if from < 0 {
		return 0, 0
	}
	for to = len(counts); !enough(counts[to-1]); to-- {
	}
	return from, to
}
