package display

import (
	"image"
	"testing"
)

// watched is a screen that looks, when it is closed, whether a painting could be under way.
type watched struct {
	*Memory
	display *Display
	exposed bool
}

func (w *watched) Close() error {
	if w.display.painting.TryLock() {
		w.display.painting.Unlock()
		w.exposed = true
	}
	return w.Memory.Close()
}

// A real screen's memory is unmapped by Close: painting into it afterwards would end the program.
func TestCloseWaitsForThePainting(t *testing.T) {
	dev := &watched{Memory: NewMemory(64, 48)}
	d := New(dev)
	dev.display = d
	ok(t, d.SetScene(scene(64, 48, red), image.Rect(0, 0, 64, 48), image.Rect(0, 0, 16, 16)))
	ok(t, d.Far(picture(32, 24)))
	ok(t, d.Self(picture(16, 12)))
	ok(t, d.Paint())
	ok(t, d.Close())
	if dev.exposed {
		t.Error("the screen was closed while somebody could paint")
	}
	if d.far.shown != nil || d.far.next != nil || d.self.shown != nil || d.self.next != nil {
		t.Error("pictures of the call are still in memory")
	}
}
