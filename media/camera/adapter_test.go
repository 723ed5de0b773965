package camera_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/pion/mediadevices/pkg/driver"

	"vindu/media/camera"
)

var (
	_ driver.Adapter       = (*camera.Adapter)(nil)
	_ driver.VideoRecorder = (*camera.Adapter)(nil)
)

func TestAdapterOpensOnlyToRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "video0")
	a := &camera.Adapter{Config: camera.Config{Device: path, Width: 320, Height: 240, FPS: 15}}
	if err := a.Open(); err != nil {
		t.Errorf("Open touched the device: %v", err)
	}
	properties := a.Properties()
	if len(properties) != 1 || properties[0].Width != 320 || properties[0].FrameRate != 15 {
		t.Errorf("properties %+v", properties)
	}
	if _, err := a.VideoRecord(properties[0]); !errors.Is(err, camera.ErrNotFound) {
		t.Errorf("VideoRecord: %v, want ErrNotFound", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
