package camera

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

// mode is one way in which a camera can deliver.
type mode struct {
	format        yuv.Format
	width, height int
	fps           float64
}

// work is what a format costs on its way to I420, in nanoseconds for each pixel
// (benchmarks of package yuv; only the ratios matter).
var work = map[yuv.Format]float64{
	yuv.YU12: 0.04, yuv.YV12: 0.04, yuv.NV12: 0.045, yuv.NV21: 0.045,
	yuv.YUYV: 0.065, yuv.UYVY: 0.065, yuv.MJPG: 2.8, yuv.JPEG: 2.8,
}

// scaling is what bringing a picture to another size costs, in nanoseconds for each pixel.
const scaling = 0.1

// output returns the size of the pictures that m ends up as: within what is wanted, never
// enlarged, aspect ratio kept.
func (m mode) output(want Config) (w, h int) {
	w, h = m.width, m.height
	if w > want.Width {
		w, h = want.Width, h*want.Width/w
	}
	if h > want.Height {
		w, h = w*want.Height/h, want.Height
	}
	return max(w&^1, 2), max(h&^1, 2)
}

// cost says how far m is from what is wanted; less is better. Missing pixels and missing pictures weigh
// alike, so that half the rate is as bad as half the picture; the processor's time
// decides between what is equal, and against decompressing a large picture for a small one.
func (m mode) cost(want Config) float64 {
	w, h := m.output(want)
	pixels := 1 - float64(w*h)/float64(want.Width*want.Height)
	pictures := 1 - min(m.fps/float64(want.FPS), 1)
	ns := work[m.format]
	if w != m.width || h != m.height {
		ns += scaling
	}
	rate := min(m.fps, float64(want.FPS))
	load := ns * float64(m.width*m.height) * rate / 1e9 // seconds of work in a second
	return 4*pixels + 4*pictures + 2*load
}

// modes lists what the camera offers that is understood, best first.
func modes(h v4l2.Handle, want Config) ([]mode, []yuv.Format, error) {
	var found []mode
	var offered []yuv.Format
	for i := range uint32(64) {
		desc := v4l2.FmtDesc{Index: i, Type: v4l2.BufTypeVideoCapture}
		if err := h.Ioctl(v4l2.EnumFmt, unsafe.Pointer(&desc)); errors.Is(err, unix.EINVAL) {
			break
		} else if err != nil {
			return nil, nil, fmt.Errorf("list formats: %w", err)
		}
		format := yuv.Format(desc.PixelFormat)
		offered = append(offered, format)
		if work[format] == 0 {
			continue
		}
		for _, size := range sizes(h, format, want) {
			found = append(found, mode{format, size[0], size[1], rate(h, format, size, want)})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].cost(want) < found[j].cost(want) })
	return found, offered, nil
}

// sizes lists the sizes of a format; of a range, the one nearest to what is wanted. A driver that
// cannot list is asked for what is wanted: it will say what it makes of it.
func sizes(h v4l2.Handle, format yuv.Format, want Config) [][2]int {
	var found [][2]int
	for i := range uint32(128) {
		size := v4l2.FrameSize{Index: i, PixelFormat: uint32(format)}
		if h.Ioctl(v4l2.EnumFrameSizes, unsafe.Pointer(&size)) != nil {
			break
		}
		if size.Type != v4l2.FrameSizeDiscrete {
			return [][2]int{{
				nearest(want.Width, size.MinWidth, size.MaxWidth, size.StepWidth),
				nearest(want.Height, size.MinHeight, size.MaxHeight, size.StepHeight),
			}}
		}
		w, h := size.Discrete()
		if w >= 2 && h >= 2 && w <= yuv.MaxSide && h <= yuv.MaxSide {
			found = append(found, [2]int{int(w), int(h)})
		}
	}
	if len(found) == 0 {
		return [][2]int{{want.Width, want.Height}}
	}
	return found
}

// nearest brings n into the range, to the next step above.
func nearest(n int, least, most, step uint32) int {
	least, most = min(least, yuv.MaxSide), min(most, yuv.MaxSide)
	if n <= int(least) {
		return int(least)
	}
	if step > 1 {
		n = int(least) + (n-int(least)+int(step)-1)/int(step)*int(step)
	}
	return min(n, int(most))
}

// rate returns the lowest rate that is enough, else the highest there is.
func rate(h v4l2.Handle, format yuv.Format, size [2]int, want Config) float64 {
	enough, highest := math.Inf(1), 0.0
	for i := range uint32(64) {
		interval := v4l2.FrameInterval{
			Index: i, PixelFormat: uint32(format), Width: uint32(size[0]), Height: uint32(size[1]),
		}
		if h.Ioctl(v4l2.EnumIntervals, unsafe.Pointer(&interval)) != nil {
			break
		}
		fps := perSecond(interval.Min)
		highest = max(highest, fps)
		if interval.Type != v4l2.FrameIntervalDiscrete {
			return min(fps, max(float64(want.FPS), perSecond(interval.Max)))
		}
		if fps >= float64(want.FPS)-0.1 {
			enough = min(enough, fps)
		}
	}
	switch {
	case !math.IsInf(enough, 1):
		return enough
	case highest > 0:
		return highest
	}
	return float64(want.FPS) // the driver does not say
}

func perSecond(f v4l2.Fract) float64 {
	if f.Numerator == 0 || f.Denominator == 0 {
		return 0
	}
	return float64(f.Denominator) / float64(f.Numerator)
}

// set puts the camera into mode m, as far as it follows, and says what came of it.
func set(h v4l2.Handle, m mode) (mode, v4l2.PixFormat, error) {
	format := v4l2.Format{Type: v4l2.BufTypeVideoCapture, Pix: v4l2.PixFormat{
		Width: uint32(m.width), Height: uint32(m.height), PixelFormat: uint32(m.format),
		Field: v4l2.FieldNone, Priv: v4l2.PixFormatMagic,
	}}
	if err := h.Ioctl(v4l2.SetFmt, unsafe.Pointer(&format)); err != nil {
		return m, format.Pix, fmt.Errorf("set format %v %d×%d: %w", m.format, m.width, m.height, err)
	}
	pix := format.Pix
	m.format, m.width, m.height = yuv.Format(pix.PixelFormat), int(pix.Width), int(pix.Height)
	if work[m.format] == 0 || m.width < 2 || m.height < 2 || m.width > yuv.MaxSide || m.height > yuv.MaxSide {
		return m, pix, fmt.Errorf("driver insists on %v %d×%d: %w", m.format, m.width, m.height, ErrUnsupported)
	}
	parm := v4l2.StreamParm{
		Type:         v4l2.BufTypeVideoCapture,
		TimePerFrame: v4l2.Fract{Numerator: 1000, Denominator: uint32(math.Round(m.fps * 1000))},
	}
	// Drivers without a choice of rates answer ENOTTY; the pictures come as they come.
	if err := h.Ioctl(v4l2.SetParm, unsafe.Pointer(&parm)); err == nil {
		if fps := perSecond(parm.TimePerFrame); fps > 0 {
			m.fps = fps
		}
	} else if !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
		return m, pix, fmt.Errorf("set rate %.1f: %w", m.fps, err)
	}
	return m, pix, nil
}
