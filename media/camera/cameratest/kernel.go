// Package cameratest has a Kernel with cameras that exist only in memory, and the contract
// that every camera must keep, whether in memory or real.
//
// The fake answers the ioctls of package v4l2 as the kernel's documentation says that drivers
// do, and its pictures come by the clock, so that tests run in a synctest bubble. It
// can be busy, stall, hang, deliver damaged pictures and be unplugged.
package cameratest

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

// Mode is a format, size and the rates that a Camera offers for it.
type Mode struct {
	Format        yuv.Format
	Width, Height int
	FPS           []int // empty: any rate up to 60
}

// Camera is one device of a Kernel. Set its fields before it is opened.
type Camera struct {
	Name  string
	Index int
	Modes []Mode
	// Stepwise offers the sizes from 32×32 to those of Modes in steps of 16 instead of these alone.
	Stepwise bool
	// Capabilities replaces those of a camera, if not zero.
	Capabilities uint32
	// Padding is added to each line, in bytes.
	Padding int
	// Picture returns the bytes of picture n in the format that was set. By default
	// each byte of luma and chroma is n.
	Picture func(n int, m Mode, stride int) []byte
	// Mangle may change what DQBUF returns.
	Mangle func(b *v4l2.Buffer)
	// OpenError is returned by Open.
	OpenError error

	fail     map[uint32]error // by ioctl: see SetFail
	k        *Kernel
	owner    *handle // who streams
	gone     bool
	stalled  bool
	hang     chan struct{} // while set DQBUF hangs until it is closed
	sequence int
}

// Kernel is a v4l2.Kernel.
type Kernel struct {
	mu      sync.Mutex
	nodes   []v4l2.Node
	cameras map[string]*Camera
	opens   int
	open    int
	mapped  int
}

// New returns a Kernel without cameras.
func New() *Kernel { return &Kernel{cameras: map[string]*Camera{}} }

// Plug adds a camera at path.
func (k *Kernel) Plug(path string, c *Camera) *Camera {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.k = k
	c.fail = map[uint32]error{}
	k.cameras[path] = c
	k.nodes = append(k.nodes, v4l2.Node{Path: path, Name: c.Name, Index: c.Index})
	return c
}

// Opens returns how often any device was opened, Opened how many are open now, Mapped how many
// buffers are mapped now.
func (k *Kernel) Opens() int  { k.mu.Lock(); defer k.mu.Unlock(); return k.opens }
func (k *Kernel) Opened() int { k.mu.Lock(); defer k.mu.Unlock(); return k.open }
func (k *Kernel) Mapped() int { k.mu.Lock(); defer k.mu.Unlock(); return k.mapped }

// Unplug takes the camera away: its handle gets ENODEV, and its node vanishes.
func (c *Camera) Unplug() {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	c.gone = true
	for path, other := range c.k.cameras {
		if other == c {
			delete(c.k.cameras, path)
			for i, n := range c.k.nodes {
				if n.Path == path {
					c.k.nodes = append(c.k.nodes[:i], c.k.nodes[i+1:]...)
					break
				}
			}
		}
	}
	if c.owner != nil {
		c.owner.wake()
	}
}

// Stall stops the pictures, or lets them come again.
func (c *Camera) Stall(on bool) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	c.stalled = on
}

// Hang makes DQBUF hang until the returned function is called.
func (c *Camera) Hang() (release func()) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	hang := make(chan struct{})
	c.hang = hang
	return func() { close(hang) }
}

// SetFail makes an ioctl fail with err from now on; nil makes it work again.
func (c *Camera) SetFail(request uint32, err error) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if err == nil {
		delete(c.fail, request)
	} else {
		c.fail[request] = err
	}
}

// Nodes implements v4l2.Kernel.
func (k *Kernel) Nodes() []v4l2.Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]v4l2.Node(nil), k.nodes...)
}

// Open implements v4l2.Kernel.
func (k *Kernel) Open(path string) (v4l2.Handle, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opens++
	c := k.cameras[path]
	if c == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	if c.OpenError != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: c.OpenError}
	}
	k.open++
	return &handle{c: c, k: k, cancel: make(chan struct{}), poke: make(chan struct{}, 1)}, nil
}

// handle is an open camera. All of it is guarded by Kernel.mu.
type handle struct {
	c         *Camera
	k         *Kernel
	cancel    chan struct{}
	poke      chan struct{}
	cancelled bool
	closed    bool
	mode      Mode
	stride    int
	fps       int
	memory    [][]byte
	queued    []uint32 // in the driver's hands
	filled    []v4l2.Buffer
	started   time.Time
	due       int // pictures since started
	streaming bool
}

func (h *handle) wake() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

func (h *handle) Ioctl(request uint32, arg unsafe.Pointer) error {
	h.k.mu.Lock()
	hang := h.c.hang
	h.k.mu.Unlock()
	if request == v4l2.DQBuf && hang != nil {
		<-hang
	}
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	switch {
	case h.closed:
		return unix.EBADF
	case h.c.gone:
		return unix.ENODEV
	case h.c.fail[request] != nil:
		return h.c.fail[request]
	}
	switch request {
	case v4l2.QueryCap:
		return h.queryCap((*v4l2.Capability)(arg))
	case v4l2.EnumFmt:
		return h.enumFmt((*v4l2.FmtDesc)(arg))
	case v4l2.EnumFrameSizes:
		return h.enumSizes((*v4l2.FrameSize)(arg))
	case v4l2.EnumIntervals:
		return h.enumIntervals((*v4l2.FrameInterval)(arg))
	case v4l2.SetFmt:
		return h.setFmt((*v4l2.Format)(arg))
	case v4l2.SetParm:
		return h.setParm((*v4l2.StreamParm)(arg))
	case v4l2.ReqBufs:
		return h.reqBufs((*v4l2.RequestBuffers)(arg))
	case v4l2.QueryBuf:
		return h.queryBuf((*v4l2.Buffer)(arg))
	case v4l2.QBuf:
		return h.qbuf((*v4l2.Buffer)(arg))
	case v4l2.DQBuf:
		return h.dqbuf((*v4l2.Buffer)(arg))
	case v4l2.StreamOn:
		if h.c.owner != h || len(h.queued) == 0 {
			return unix.EINVAL
		}
		h.streaming, h.started = true, time.Now()
		return nil
	case v4l2.StreamOff:
		h.streaming, h.queued, h.filled = false, nil, nil
		return nil
	}
	return unix.ENOTTY
}

func (h *handle) queryCap(c *v4l2.Capability) error {
	*c = v4l2.Capability{Capabilities: v4l2.CapVideoCapture | v4l2.CapStreaming | v4l2.CapDeviceCaps}
	copy(c.Card[:], h.c.Name)
	c.DeviceCaps = v4l2.CapVideoCapture | v4l2.CapStreaming
	if h.c.Capabilities != 0 {
		c.DeviceCaps = h.c.Capabilities
	}
	return nil
}

func (h *handle) formats() []yuv.Format {
	var found []yuv.Format
next:
	for _, m := range h.c.Modes {
		for _, f := range found {
			if f == m.Format {
				continue next
			}
		}
		found = append(found, m.Format)
	}
	return found
}

func (h *handle) enumFmt(d *v4l2.FmtDesc) error {
	found := h.formats()
	if int(d.Index) >= len(found) {
		return unix.EINVAL
	}
	d.PixelFormat = uint32(found[d.Index])
	return nil
}

func (h *handle) enumSizes(s *v4l2.FrameSize) error {
	var i uint32
	for _, m := range h.c.Modes {
		if uint32(m.Format) != s.PixelFormat {
			continue
		}
		if i == s.Index {
			if h.c.Stepwise {
				s.Type = v4l2.FrameSizeStepwise
				s.MinWidth, s.MaxWidth, s.StepWidth = 32, uint32(m.Width), 16
				s.MinHeight, s.MaxHeight, s.StepHeight = 32, uint32(m.Height), 16
			} else {
				s.SetDiscrete(uint32(m.Width), uint32(m.Height))
			}
			return nil
		}
		i++
	}
	return unix.EINVAL
}

func (h *handle) enumIntervals(v *v4l2.FrameInterval) error {
	for _, m := range h.c.Modes {
		if uint32(m.Format) != v.PixelFormat || !h.c.Stepwise && (int(v.Width) != m.Width || int(v.Height) != m.Height) {
			continue
		}
		if len(m.FPS) == 0 && v.Index == 0 {
			v.Type, v.Min, v.Max = 2, v4l2.Fract{Numerator: 1, Denominator: 60}, v4l2.Fract{Numerator: 1, Denominator: 1}
			return nil
		}
		if int(v.Index) < len(m.FPS) {
			v.Type, v.Min = v4l2.FrameIntervalDiscrete, v4l2.Fract{Numerator: 1, Denominator: uint32(m.FPS[v.Index])}
			return nil
		}
	}
	return unix.EINVAL
}

func (h *handle) setFmt(f *v4l2.Format) error {
	if h.c.owner != nil {
		return unix.EBUSY
	}
	best := h.c.Modes[0]
	for _, m := range h.c.Modes {
		if uint32(m.Format) != f.Pix.PixelFormat {
			continue
		}
		if h.c.Stepwise {
			m.Width, m.Height = min(int(f.Pix.Width), m.Width), min(int(f.Pix.Height), m.Height)
		}
		best = m
		if m.Width == int(f.Pix.Width) && m.Height == int(f.Pix.Height) {
			break
		}
	}
	h.mode = best
	h.stride = 0
	switch best.Format {
	case yuv.YUYV, yuv.UYVY:
		h.stride = best.Width*2 + h.c.Padding
	case yuv.NV12, yuv.NV21, yuv.YU12, yuv.YV12:
		h.stride = best.Width + h.c.Padding
	}
	f.Pix.PixelFormat, f.Pix.Width, f.Pix.Height = uint32(best.Format), uint32(best.Width), uint32(best.Height)
	f.Pix.BytesPerLine, f.Pix.SizeImage = uint32(h.stride), uint32(h.size())
	h.fps = 30
	return nil
}

func (h *handle) size() int {
	if n := h.mode.Format.Size(h.stride, h.mode.Width, h.mode.Height); n > 0 {
		return n
	}
	return h.mode.Width * h.mode.Height * 2
}

func (h *handle) setParm(p *v4l2.StreamParm) error {
	wanted := float64(p.TimePerFrame.Denominator) / float64(max(p.TimePerFrame.Numerator, 1))
	h.fps = max(int(wanted+0.5), 1)
	for i, fps := range h.mode.FPS {
		if i == 0 || abs(float64(fps)-wanted) < abs(float64(h.fps)-wanted) {
			h.fps = fps
		}
	}
	p.Capability = v4l2.CapTimePerFrame
	p.TimePerFrame = v4l2.Fract{Numerator: 1, Denominator: uint32(h.fps)}
	return nil
}

func abs(x float64) float64 { return max(x, -x) }

func (h *handle) reqBufs(r *v4l2.RequestBuffers) error {
	if h.c.owner != nil && h.c.owner != h {
		return unix.EBUSY
	}
	h.c.owner = h
	h.memory = make([][]byte, r.Count)
	for i := range h.memory {
		h.memory[i] = make([]byte, h.size())
	}
	return nil
}

func (h *handle) queryBuf(b *v4l2.Buffer) error {
	if int(b.Index) >= len(h.memory) {
		return unix.EINVAL
	}
	b.Offset, b.Length = b.Index*4096, uint32(len(h.memory[b.Index]))
	return nil
}

func (h *handle) qbuf(b *v4l2.Buffer) error {
	if int(b.Index) >= len(h.memory) {
		return unix.EINVAL
	}
	for _, q := range h.queued {
		if q == b.Index {
			return unix.EINVAL
		}
	}
	h.produce() // what was due before had one buffer less
	h.queued = append(h.queued, b.Index)
	return nil
}

// produce fills queued buffers with the pictures that are due.
func (h *handle) produce() {
	if !h.streaming {
		return
	}
	for at := h.next(); !time.Now().Before(at); at = h.next() {
		h.due++
		n := h.c.sequence
		h.c.sequence++
		if h.c.stalled || len(h.queued) == 0 {
			continue
		}
		b := v4l2.Buffer{
			Index: h.queued[0], Type: v4l2.BufTypeVideoCapture, Sequence: uint32(n), Memory: v4l2.MemoryMmap,
			Flags: v4l2.BufFlagTimestampMono, Seconds: int64(at.Unix()), Micros: int64(at.Nanosecond() / 1000),
		}
		h.queued = h.queued[1:]
		b.Offset, b.Length = b.Index*4096, uint32(len(h.memory[b.Index]))
		b.BytesUsed = uint32(h.draw(n, h.memory[b.Index]))
		if h.c.Mangle != nil {
			h.c.Mangle(&b)
		}
		h.filled = append(h.filled, b)
	}
}

func (h *handle) next() time.Time {
	return h.started.Add(time.Duration(h.due+1) * time.Second / time.Duration(h.fps))
}

func (h *handle) draw(n int, memory []byte) int {
	if h.c.Picture != nil {
		return copy(memory, h.c.Picture(n, h.mode, h.stride))
	}
	for i := range memory {
		memory[i] = byte(n)
	}
	return len(memory)
}

func (h *handle) dqbuf(b *v4l2.Buffer) error {
	h.produce()
	if !h.streaming {
		return unix.EINVAL
	}
	if len(h.filled) == 0 {
		return unix.EAGAIN
	}
	*b = h.filled[0]
	h.filled = h.filled[1:]
	return nil
}

// Wait implements v4l2.Handle.
func (h *handle) Wait(timeout time.Duration) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		h.k.mu.Lock()
		h.produce()
		ready := len(h.filled) > 0 || h.c.gone || h.c.fail[v4l2.DQBuf] != nil || h.c.hang != nil
		cancelled := h.cancelled
		pause := time.Hour
		if h.streaming {
			pause = time.Until(h.next())
		}
		h.k.mu.Unlock()
		if cancelled {
			return v4l2.ErrCancelled
		}
		if ready {
			return nil
		}
		tick := time.NewTimer(pause)
		select {
		case <-tick.C:
		case <-h.poke:
		case <-h.cancel:
		case <-deadline.C:
			tick.Stop()
			return os.ErrDeadlineExceeded
		}
		tick.Stop()
	}
}

// Map implements v4l2.Handle.
func (h *handle) Map(offset, length uint32) ([]byte, error) {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	if i := int(offset / 4096); i < len(h.memory) && int(length) == len(h.memory[i]) {
		h.k.mapped++
		return h.memory[i], nil
	}
	return nil, unix.EINVAL
}

// Unmap implements v4l2.Handle.
func (h *handle) Unmap([]byte) error {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	h.k.mapped--
	return nil
}

// Cancel implements v4l2.Handle.
func (h *handle) Cancel() {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	if !h.cancelled {
		h.cancelled = true
		close(h.cancel)
	}
}

// Close implements v4l2.Handle.
func (h *handle) Close() error {
	h.Cancel()
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	if h.closed {
		return errors.New("closed twice")
	}
	h.closed = true
	h.k.open--
	h.streaming = false
	if h.c.owner == h {
		h.c.owner = nil
	}
	return nil
}
