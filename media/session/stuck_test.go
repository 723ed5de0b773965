package session

import (
	"context"
	"errors"
	"image"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/media/camera"
	"vindu/media/yuv"
)

// reader is a camera that does what read says for each picture, counted from 0.
type reader struct {
	read   func(n int) error
	n      atomic.Int64
	held   *atomic.Int64 // pictures that nobody has released
	closed atomic.Bool
}

func (r *reader) Read() (image.Image, func(), error) {
	if err := r.read(int(r.n.Load())); err != nil {
		return nil, nil, err
	}
	r.n.Add(1)
	r.held.Add(1)
	return yuv.New(16, 16), func() { r.held.Add(-1) }, nil
}

func (r *reader) Close() error {
	r.closed.Store(true)
	return nil
}

// cams are all cameras that were opened.
type cams struct {
	mu   sync.Mutex
	list []*reader
}

func (c *cams) add(r *reader) Camera {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, r)
	return r
}

func (c *cams) all() []*reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

// shown counts pictures.
type shown struct{ n atomic.Int64 }

func (*shown) Far(*image.YCbCr)    {}
func (s *shown) Self(*image.YCbCr) { s.n.Add(1) }

// filming runs only the camera of a session. It ends, with everything in it, before it returns.
func filming(t *testing.T, open func(n int) (Camera, error), during func(s *Session, shown *shown)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n, screen := 0, &shown{}
	s := &Session{
		cfg: Config{}.defaults(), log: slog.New(slog.DiscardHandler), events: make(chan Event, 1000),
		opened: make(chan struct{}), camera: device{tried: make(chan struct{})}, slot: newSlot(), veil: newVeil(),
		dev: Devices{Screen: screen, OpenCamera: func(context.Context) (Camera, error) {
			n++
			return open(n - 1)
		}},
	}
	close(s.opened)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.runCamera(ctx)
	}()
	during(s, screen)
	cancel()
	<-done
	s.slot.empty()
}

func (s *Session) seen(kind Kind) (n int) {
	for i := len(s.events); i > 0; i-- {
		e := <-s.events
		if e.Kind == kind {
			n++
		}
		s.events <- e
	}
	return n
}

func every(d time.Duration) func(int) error {
	return func(int) error { <-time.After(d); return nil }
}

// A Read that never returns is left behind, and the camera opened again, within 10 s; what it brings later is thrown away.
func TestStuckCameraIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Int64
		comes := make(chan struct{})
		var cams cams
		filming(t, func(n int) (Camera, error) {
			c := &reader{held: &held, read: every(40 * time.Millisecond)}
			if n == 0 {
				c.read = func(n int) error {
					if n == 5 {
						<-comes
					}
					<-time.After(40 * time.Millisecond)
					return nil
				}
			}
			return cams.add(c), nil
		}, func(s *Session, shown *shown) {
			<-time.After(time.Second)
			if got := shown.n.Load(); got != 5 {
				t.Fatalf("%d pictures before it gets stuck", got)
			}
			<-time.After(10*time.Second - 800*time.Millisecond)
			if shown.n.Load() < 6 || s.seen(CameraLost) != 1 || s.seen(CameraOpened) != 2 || !cams.all()[0].closed.Load() {
				t.Errorf("after 10 s: %d pictures, lost %d times, opened %d times", shown.n.Load(), s.seen(CameraLost), s.seen(CameraOpened))
			}
			if s.camera.last() != (time.Time{}) {
				t.Error("a camera with a reader in it counts as closed")
			}
			close(comes)
			<-time.After(time.Second)
			if cams.all()[0].n.Load() != 6 || s.camera.hanging() != 1 {
				t.Errorf("the stuck camera was read %d times, %d readers are left", cams.all()[0].n.Load(), s.camera.hanging())
			}
		})
		if held.Load() != 0 {
			t.Errorf("%d pictures are held for ever", held.Load())
		}
	})
}

// A device in which a driver hangs is not closed before the driver lets go.
func TestHungDeviceIsNotClosed(t *testing.T) {
	var d device
	at := time.Unix(1000, 0)
	d.open(at)
	d.enter()
	d.shut(at.Add(6 * time.Second))
	if d.last() != (time.Time{}) {
		t.Error("it counts as closed while it hangs")
	}
	d.leave(at.Add(time.Minute))
	if d.last() != at.Add(time.Minute) {
		t.Errorf("closed at %v", d.last())
	}
}

// However often the driver hangs, no more than a few readers are left in it.
func TestHangingReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Int64
		comes := make(chan struct{})
		var opened atomic.Int64
		filming(t, func(int) (Camera, error) {
			opened.Add(1)
			return &reader{held: &held, read: func(int) error { <-comes; return camera.ErrGone }}, nil
		}, func(s *Session, _ *shown) {
			<-time.After(10 * time.Minute)
			if opened.Load() != mostHanging || s.camera.hanging() != mostHanging {
				t.Errorf("opened %d times, %d hang", opened.Load(), s.camera.hanging())
			}
			close(comes)
			<-time.After(5 * time.Second)
			if opened.Load() == mostHanging {
				t.Error("it is not tried again after the driver has come back")
			}
		})
	})
}

// A camera that is pulled out two hundred times is back two hundred times, and nothing is left of it.
func TestCameraPulledOutTwoHundredTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Int64
		var cams cams
		filming(t, func(n int) (Camera, error) {
			if n%2 == 1 {
				return nil, camera.ErrNotFound // not back yet
			}
			c := &reader{held: &held, read: func(n int) error {
				<-time.After(40 * time.Millisecond)
				if n == 3 {
					return camera.ErrGone
				}
				return nil
			}}
			return cams.add(c), nil
		}, func(s *Session, shown *shown) {
			for len(cams.all()) < 201 {
				<-time.After(10 * time.Millisecond)
			}
			synctest.Wait()
			if got := shown.n.Load(); got != 600 {
				t.Errorf("%d pictures, want 600", got)
			}
			if s.seen(CameraOpened) != 201 || s.seen(CameraLost) != 200 {
				t.Errorf("opened %d times, lost %d times", s.seen(CameraOpened), s.seen(CameraLost))
			}
		})
		for i, c := range cams.all() {
			if !c.closed.Load() {
				t.Errorf("camera %d is open", i)
			}
		}
		if held.Load() != 0 {
			t.Errorf("%d pictures are held for ever", held.Load())
		}
	})
}

// A stuck driver has a code of its own, wherever it hangs.
func TestStuckIsATimeout(t *testing.T) {
	if !errors.Is(errStuckRead, camera.ErrTimeout) || !errors.Is(errHopeless, camera.ErrTimeout) {
		t.Error("a stuck camera does not wrap camera.ErrTimeout")
	}
}
