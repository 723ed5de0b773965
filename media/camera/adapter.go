package camera

import (
	"context"
	"sync"

	"github.com/pion/mediadevices/pkg/frame"
	"github.com/pion/mediadevices/pkg/io/video"
	"github.com/pion/mediadevices/pkg/prop"
)

// Adapter gives a camera the shape of mediadevices' driver.Adapter and driver.VideoRecorder, for programs that
// are built on that library: driver.GetManager().Register(&camera.Adapter{…}, info).
// Unlike its own driver, Open opens nothing: VideoRecord does. Safe for concurrent use.
type Adapter struct {
	// Config names the camera and bounds what Properties offers.
	Config Config

	mu     sync.Mutex
	source Source
}

// Open does nothing: the camera opens when it is recorded from.
func (a *Adapter) Open() error { return nil }

// Properties returns the one property set of the Config: whatever the camera delivers
// is brought to I420 within that size.
func (a *Adapter) Properties() []prop.Media {
	cfg := a.Config.normal()
	return []prop.Media{{
		DeviceID: cfg.Device,
		Video: prop.Video{
			Width: cfg.Width, Height: cfg.Height, FrameRate: float32(cfg.FPS), FrameFormat: frame.FormatI420,
		},
	}}
}

// VideoRecord opens the camera and returns its pictures until Close.
func (a *Adapter) VideoRecord(p prop.Media) (video.Reader, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.source != nil {
		return nil, ErrBusy
	}
	cfg := a.Config
	if p.Width > 0 && p.Height > 0 {
		cfg.Width, cfg.Height = p.Width, p.Height
	}
	if p.FrameRate > 0 {
		cfg.FPS = int(p.FrameRate + 0.5)
	}
	// The interface gives no context; the package's own deadlines bound each Read.
	source, err := Open(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	a.source = source
	return source, nil
}

// Close closes the camera, if it is open.
func (a *Adapter) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	source := a.source
	a.source = nil
	if source == nil {
		return nil
	}
	return source.Close()
}
