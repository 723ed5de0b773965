package camera

import (
	"errors"
	"fmt"
	"image"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/yuv"
)

const (
	buffers = 4 // asked of the driver: one shown, one filling, two for the scheduler's moods
	// firstPicture allows for exposure and focus to settle; nextPicture for a dark room, where some cameras
	// go down to five pictures in a second, and a starved machine.
	firstPicture = 5 * time.Second
	nextPicture  = 2 * time.Second
	// closeGrace is how long Close waits for a Read that hangs in the driver.
	closeGrace = time.Second
	// faultPause keeps a faulty driver from taking the whole processor.
	faultPause = 10 * time.Millisecond
)

// stream is a running V4L2 camera. What is below mu is guarded by it; the counters are atomic;
// the rest belongs to the goroutine that reads.
type stream struct {
	handle v4l2.Handle
	info   Info
	format yuv.Format
	stride int
	full   bool // uncompressed, but full range
	gap    int64
	due    int64       // when the next picture is wanted, in microseconds, if gap is not 0
	memory [][]byte    // mapped buffers
	buf    v4l2.Buffer // for ioctls: on the heap once, not for each picture
	newer  v4l2.Buffer
	raw    *image.YCbCr // converted but not yet scaled; nil if the camera's size is the right one
	dec    *yuv.Decoder // nil if uncompressed
	pool   *yuv.Pool
	last   uint32 // sequence number of the last picture
	began  bool   // a picture has come

	frames, lost, skipped, damaged atomic.Int64

	mu        sync.Mutex
	reading   bool
	closed    bool
	abandoned bool          // Close did not wait for Read any longer: Read cleans up
	idle      chan struct{} // if closed: the waiting Close's, closed when Read has left
	finished  chan struct{} // closed when the first Close has done all
	closeErr  error
}

func newStream(h v4l2.Handle, info Info, m mode, pix v4l2.PixFormat, cfg Config) (*stream, error) {
	w, ht := m.output(cfg)
	info.Format, info.Width, info.Height, info.FPS = m.format.String(), w, ht, min(m.fps, float64(cfg.FPS))
	s := &stream{
		handle: h, info: info, format: m.format, stride: int(pix.BytesPerLine),
		pool: yuv.NewPool(w, ht, buffers), idle: make(chan struct{}), finished: make(chan struct{}),
	}
	if m.fps > 1.05*float64(cfg.FPS) {
		s.gap = int64(time.Second/time.Microsecond) / int64(cfg.FPS)
	}
	if m.format.Compressed() {
		var err error
		if s.dec, err = yuv.NewDecoder(); err != nil {
			return nil, err
		}
	} else {
		s.full = pix.Quantization == v4l2.QuantizationFullRange ||
			pix.Quantization == 0 && pix.Colorspace == v4l2.ColorspaceJPEG
		if w != m.width || ht != m.height {
			s.raw = yuv.New(m.width, m.height)
		}
	}
	if err := s.begin(); err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

func (s *stream) begin() error {
	request := v4l2.RequestBuffers{Count: buffers, Type: v4l2.BufTypeVideoCapture, Memory: v4l2.MemoryMmap}
	if err := s.handle.Ioctl(v4l2.ReqBufs, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("request buffers: %w", err)
	}
	if request.Count < 2 || request.Count > 32 {
		return fmt.Errorf("driver gives %d buffers, two are needed: %w", request.Count, ErrUnsupported)
	}
	for i := range request.Count {
		s.buf = v4l2.Buffer{Index: i, Type: v4l2.BufTypeVideoCapture, Memory: v4l2.MemoryMmap}
		if err := s.handle.Ioctl(v4l2.QueryBuf, unsafe.Pointer(&s.buf)); err != nil {
			return fmt.Errorf("query buffer %d: %w", i, err)
		}
		memory, err := s.handle.Map(s.buf.Offset, s.buf.Length)
		if err != nil {
			return fmt.Errorf("map buffer %d of %d bytes: %w", i, s.buf.Length, err)
		}
		s.memory = append(s.memory, memory)
		if err := s.handle.Ioctl(v4l2.QBuf, unsafe.Pointer(&s.buf)); err != nil {
			return fmt.Errorf("queue buffer %d: %w", i, err)
		}
	}
	kind := int32(v4l2.BufTypeVideoCapture)
	if err := s.handle.Ioctl(v4l2.StreamOn, unsafe.Pointer(&kind)); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

func (s *stream) Info() Info { return s.info }

func (s *stream) Stats() Stats {
	return Stats{Frames: s.frames.Load(), Lost: s.lost.Load(), Skipped: s.skipped.Load(), Damaged: s.damaged.Load()}
}

// Read implements Source.
func (s *stream) Read() (image.Image, func(), error) {
	s.mu.Lock()
	if s.closed || s.reading {
		s.mu.Unlock()
		return nil, nil, fmt.Errorf("read camera %s: %w", s.info.Path, ErrClosed)
	}
	s.reading = true
	s.mu.Unlock()

	img, release, err := s.read()

	s.mu.Lock()
	s.reading = false
	closed := s.closed
	if closed {
		close(s.idle)
		if s.abandoned {
			s.free()
		}
	}
	s.mu.Unlock()
	if closed {
		if release != nil {
			release()
		}
		return nil, nil, fmt.Errorf("read camera %s: %w", s.info.Path, ErrClosed)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read camera %s: %w", s.info.Path, err)
	}
	s.frames.Add(1)
	return img, release, nil
}

func (s *stream) read() (*image.YCbCr, func(), error) {
	patience := nextPicture
	if !s.began {
		patience = firstPicture
	}
	deadline := time.Now().Add(patience)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil, fmt.Errorf("nothing usable for %v: %w", patience, ErrTimeout)
		}
		switch err := s.handle.Wait(left); {
		case errors.Is(err, v4l2.ErrCancelled):
			return nil, nil, ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return nil, nil, classify(err)
		}
		ok, err := s.dequeue()
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			continue
		}
		img, release := s.pool.Get()
		good := s.convert(img)
		if err := s.queue(&s.buf); err != nil {
			release()
			return nil, nil, err
		}
		if good {
			s.began = true
			return img, release, nil
		}
		release()
	}
}

// dequeue takes the newest picture into s.buf, and gives older ones back. It returns false
// if there is none that is wanted.
func (s *stream) dequeue() (bool, error) {
	if ok, err := s.take(&s.buf); !ok {
		return false, err
	}
	// No more than there are buffers, or a driver that is always ready would keep us here for ever.
	for range s.memory {
		ok, err := s.take(&s.newer)
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		s.skipped.Add(1)
		if err := s.queue(&s.buf); err != nil {
			return false, err
		}
		s.buf = s.newer
		if len(s.memory) < 3 {
			break // with two buffers the driver needs the other one now
		}
	}
	if s.buf.Flags&v4l2.BufFlagError != 0 || s.buf.BytesUsed == 0 {
		s.damaged.Add(1)
		return false, s.queue(&s.buf)
	}
	if s.early() {
		s.skipped.Add(1)
		return false, s.queue(&s.buf)
	}
	return true, nil
}

// take dequeues one picture; false if there is none.
func (s *stream) take(b *v4l2.Buffer) (bool, error) {
	*b = v4l2.Buffer{Type: v4l2.BufTypeVideoCapture, Memory: v4l2.MemoryMmap}
	err := s.handle.Ioctl(v4l2.DQBuf, unsafe.Pointer(b))
	switch {
	case err == nil:
	case errors.Is(err, unix.EAGAIN):
		if b == &s.buf { // Wait said that there was one
			time.Sleep(faultPause)
		}
		return false, nil
	case errors.Is(err, unix.EIO): // "temporary problems like signal loss": it may come back
		s.damaged.Add(1)
		time.Sleep(faultPause)
		return false, nil
	default:
		return false, classify(fmt.Errorf("dequeue buffer: %w", err))
	}
	// As uint64: on a 32-bit machine an int would be negative, and pass.
	if uint64(b.Index) >= uint64(len(s.memory)) || uint64(b.BytesUsed) > uint64(len(s.memory[b.Index])) {
		return false, fmt.Errorf("driver returned buffer %d with %d bytes: %w", b.Index, b.BytesUsed, ErrUnsupported)
	}
	if missed := b.Sequence - s.last - 1; s.began && missed < 1<<16 {
		s.lost.Add(int64(missed))
	}
	s.last = b.Sequence
	return true, nil
}

// early reports whether s.buf is one picture too many for the rate that was asked for.
func (s *stream) early() bool {
	if s.gap == 0 {
		return false
	}
	at := s.buf.Seconds*1e6 + s.buf.Micros
	if s.buf.Flags&v4l2.BufFlagTimestampMask != v4l2.BufFlagTimestampMono {
		at = time.Now().UnixMicro()
	}
	if s.due == 0 {
		s.due = at
	}
	if at < s.due-s.gap/8 { // an eighth for jitter
		return true
	}
	s.due = max(s.due+s.gap, at+s.gap/2)
	return false
}

// convert brings the picture in s.buf to I420; false if it is damaged.
func (s *stream) convert(img *image.YCbCr) bool {
	data := s.memory[s.buf.Index][:s.buf.BytesUsed]
	var err error
	switch {
	case s.dec != nil:
		err = s.dec.Decode(img, data)
	case s.raw == nil:
		if err = yuv.FromRaw(img, s.format, data, s.stride); err == nil && s.full {
			err = yuv.Limit(img)
		}
	default:
		if err = yuv.FromRaw(s.raw, s.format, data, s.stride); err == nil {
			err = yuv.Scale(img, s.raw, yuv.Box)
		}
		if err == nil && s.full {
			err = yuv.Limit(img)
		}
	}
	if err != nil {
		s.damaged.Add(1)
	}
	return err == nil
}

func (s *stream) queue(b *v4l2.Buffer) error {
	if err := s.handle.Ioctl(v4l2.QBuf, unsafe.Pointer(b)); err != nil {
		return classify(fmt.Errorf("queue buffer: %w", err))
	}
	return nil
}

// Close implements Source. When it returns an error wrapping ErrTimeout, a Read hung in the driver; the file
// descriptor is closed all the same, and the buffers are unmapped when the Read comes back.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.finished
		return s.closeErr
	}
	s.closed = true
	reading := s.reading
	s.mu.Unlock()
	defer close(s.finished)

	s.handle.Cancel()
	if reading {
		timer := time.NewTimer(closeGrace)
		select {
		case <-s.idle:
			reading = false
		case <-timer.C:
		}
		timer.Stop()
	}
	if reading {
		err := s.handle.Close()
		s.mu.Lock()
		if s.reading {
			s.abandoned = true
		} else {
			s.free()
		}
		s.mu.Unlock()
		s.closeErr = errors.Join(fmt.Errorf("close camera %s: the driver hangs: %w", s.info.Path, ErrTimeout), err)
		return s.closeErr
	}
	kind := int32(v4l2.BufTypeVideoCapture)
	// Of no consequence: closing stops the camera too, and it may be gone.
	_ = s.handle.Ioctl(v4l2.StreamOff, unsafe.Pointer(&kind))
	s.free()
	if err := s.handle.Close(); err != nil {
		s.closeErr = fmt.Errorf("close camera %s: %w", s.info.Path, err)
	}
	return s.closeErr
}

// free gives back what the kernel's memory and C's holds. The caller sees to it that no Read runs.
func (s *stream) free() {
	for _, memory := range s.memory {
		// It can only fail for an address that is not mapped.
		_ = s.handle.Unmap(memory)
	}
	s.memory = nil
	if s.dec != nil {
		s.dec.Close()
		s.dec = nil
	}
}
