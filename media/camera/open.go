package camera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
)

// List returns the machine's video devices, from sysfs. It opens none of them, so it cannot know
// their formats, and whether they are cameras only by what is usual.
func List() []Info { return ListOn(v4l2.System{}) }

// ListOn is List on another Kernel.
func ListOn(k v4l2.Kernel) []Info {
	var found []Info
	for _, n := range k.Nodes() {
		if n.Index == 0 { // further nodes of the same camera carry metadata
			found = append(found, Info{Path: n.Path, Name: n.Name})
		}
	}
	return found
}

// Open opens a camera, agrees on a format and starts it. Errors wrap ErrNotFound, ErrBusy, ErrUnsupported,
// ErrGone, fs.ErrPermission or ctx's error. A driver that hangs is left when ctx ends, and
// closed when it comes back.
func Open(ctx context.Context, cfg Config) (Source, error) { return OpenOn(ctx, v4l2.System{}, cfg) }

// OpenOn is Open on another Kernel.
func OpenOn(ctx context.Context, k v4l2.Kernel, cfg Config) (Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open camera: %w", err)
	}
	cfg = cfg.normal()
	type result struct {
		s   *stream
		err error
	}
	done := make(chan result)
	left := make(chan struct{})
	go func() {
		s, err := open(ctx, k, cfg)
		select {
		case done <- result{s, err}:
		case <-left:
			if s != nil {
				s.Close()
			}
		}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return r.s, nil
	case <-ctx.Done():
		close(left)
		return nil, fmt.Errorf("open camera %s: %w", cfg.Device, ctx.Err())
	}
}

func open(ctx context.Context, k v4l2.Kernel, cfg Config) (*stream, error) {
	if cfg.Device != "auto" {
		return openDevice(k, cfg.Device, cfg)
	}
	var first error
	for _, n := range ListOn(k) {
		if ctx.Err() != nil {
			break
		}
		s, err := openDevice(k, n.Path, cfg)
		if err == nil {
			return s, nil
		}
		// What is no camera says nothing; a camera that is busy or forbidden does.
		if first == nil || errors.Is(first, ErrUnsupported) {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("open camera: no video device on this machine: %w", ErrNotFound)
	}
	return nil, first
}

func openDevice(k v4l2.Kernel, path string, cfg Config) (*stream, error) {
	h, err := k.Open(path)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
			return nil, fmt.Errorf("open camera %s: %w (%w)", path, ErrNotFound, err)
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("open camera %s: add the user to the group that owns it, usually video: %w", path, err)
		}
		return nil, fmt.Errorf("open camera %s: %w", path, classify(err))
	}
	s, err := start(h, path, cfg)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open camera %s: %w", path, classify(err))
	}
	return s, nil
}

// classify puts the sentinel that an errno stands for into its error.
func classify(err error) error {
	for errno, sentinel := range map[unix.Errno]error{
		unix.EBUSY: ErrBusy, unix.ENODEV: ErrGone, unix.ENXIO: ErrGone,
		unix.ENOTTY: ErrUnsupported, unix.EINVAL: ErrUnsupported,
	} {
		if errors.Is(err, errno) && !errors.Is(err, sentinel) {
			return fmt.Errorf("%w (%w)", sentinel, err)
		}
	}
	return err
}

// start agrees on a mode, maps the buffers and lets the pictures come.
func start(h v4l2.Handle, path string, cfg Config) (*stream, error) {
	var caps v4l2.Capability
	if err := h.Ioctl(v4l2.QueryCap, unsafe.Pointer(&caps)); err != nil {
		return nil, fmt.Errorf("ask what it is: %w", err)
	}
	can := caps.Capabilities
	if can&v4l2.CapDeviceCaps != 0 {
		can = caps.DeviceCaps
	}
	if can&v4l2.CapVideoCapture == 0 || can&v4l2.CapStreaming == 0 || can&v4l2.CapVideoM2M != 0 {
		return nil, fmt.Errorf("not a single-planar camera with streaming (capabilities %#x): %w", can, ErrUnsupported)
	}
	name := string(bytes.TrimRight(caps.Card[:], "\x00"))

	found, offered, err := modes(h, cfg)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("none of its formats %v is understood: %w", offered, ErrUnsupported)
	}
	for _, m := range found {
		var pix v4l2.PixFormat
		m, pix, err = set(h, m)
		if err == nil {
			return newStream(h, Info{Path: path, Name: name}, m, pix, cfg)
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENODEV) {
			break
		}
	}
	return nil, err
}
