// Package camera yields moving pictures from a V4L2 camera, or a synthetic one.
//
// Pictures are I420 (see package yuv). The contract is mediadevices': a Source is a
// video.Reader, and Adapter has the shape of mediadevices' driver.Adapter and
// driver.VideoRecorder. Its own camera driver is not used, and must not be imported:
// its init opens every camera of the machine, outside any call and any record;
// it also takes whatever format the kernel substitutes for the one asked, allocates
// for each frame and ends for good on the first late frame.
//
// Promises:
//   - Importing the package and List open no device. Only Open does.
//   - When Close returns no file descriptor of the camera is left, even when a Read hangs.
//   - Every wait has a deadline. A driver that delivers nothing ends Read with ErrTimeout.
//   - A running stream allocates nothing, provided that every picture is released.
//   - Read returns the newest picture: a slow reader loses pictures, it does not lag.
//
// Uncompressed YUYV, UYVY, NV12, NV21, YU12 and YV12 and MJPEG are understood; Open takes what costs
// least for the size and rate asked. Single-planar capture by memory mapping is needed (V4L2_CAP_VIDEO_CAPTURE,
// V4L2_CAP_STREAMING).
package camera

import (
	"errors"

	"github.com/pion/mediadevices/pkg/io/video"
)

var (
	// ErrNotFound: there is no such camera, or with "auto" none at all.
	ErrNotFound = errors.New("no camera found")
	// ErrBusy: another program is using the camera.
	ErrBusy = errors.New("camera is in use by another program")
	// ErrUnsupported: the device is no camera, or offers no format that is understood.
	ErrUnsupported = errors.New("camera or its format is not supported")
	// ErrGone: the camera was unplugged while it was open. Open may find it again later.
	ErrGone = errors.New("camera was disconnected")
	// ErrTimeout: the camera is there but delivers no pictures.
	ErrTimeout = errors.New("camera delivers no picture")
	// ErrClosed: the Source was closed.
	ErrClosed = errors.New("camera is closed")
)

// Config says which pictures are wanted.
type Config struct {
	// Device is a path such as /dev/video0 or /dev/v4l/by-id/…, or "auto" (or empty)
	// for the first camera that works.
	Device string
	// Width and Height in pixels and FPS in pictures per second are what the reader
	// wants at most. Zero means 640, 480 and 30. A Source may deliver less, never more.
	Width, Height, FPS int
}

// Limits of Config: what lies outside is brought inside.
const (
	minSide, maxSide = 16, 4096
	maxFPS           = 120
)

func (c Config) normal() Config {
	if c.Device == "" {
		c.Device = "auto"
	}
	if c.Width <= 0 || c.Height <= 0 {
		c.Width, c.Height = 640, 480
	}
	if c.FPS <= 0 {
		c.FPS = 30
	}
	c.Width = min(max(c.Width, minSide), maxSide) &^ 1
	c.Height = min(max(c.Height, minSide), maxSide) &^ 1
	c.FPS = min(c.FPS, maxFPS)
	return c
}

// Info describes a camera or a running Source.
type Info struct {
	// Path is the device's path, empty for a synthetic source.
	Path string
	// Name is what the driver calls the camera.
	Name string
	// Format is how the camera delivers, in V4L2's four letters ("YUYV", "MJPG").
	Format string
	// Width and Height are those of the pictures that Read returns, in pixels.
	Width, Height int
	// FPS is the rate that was agreed on; the light in the room may make it less.
	FPS float64
	// Synthetic is true if what the pictures show is generated.
	Synthetic bool
}

// Source delivers pictures until it is closed.
type Source interface {
	// Reader's Read waits for the next picture. It is an *image.YCbCr, 4:2:0, of
	// Info's size, and belongs to the reader until release is called. For
	// one goroutine. Errors wrap ErrGone, ErrTimeout or ErrClosed; after any
	// error the Source is of no more use and must be closed.
	video.Reader
	Info() Info
	// Close stops the camera and makes a waiting Read return ErrClosed. It may be
	// called at any time, more than once, from any goroutine.
	Close() error
}

// Stats counts what happened to the pictures of a Source since Open.
type Stats struct {
	Frames  int64 // delivered by Read
	Lost    int64 // lost before they reached us, by the driver's count
	Skipped int64 // passed over: too many for the rate, or older than the newest
	Damaged int64 // marked as faulty by the driver, or not decodable
}

// Counter is implemented by all Sources of this package.
type Counter interface{ Stats() Stats }
