package session_test

import (
	"context"
	"errors"
	"image"
	"testing"
	"time"

	"vindu/media/session"
)

func (c *call) draw(drawn bool) {
	c.t.Helper()
	if err := c.s.Curtain(c.t.Context(), drawn); err != nil {
		c.t.Fatal(err)
	}
}

// TestCurtain: behind a curtain no device is open, nothing is shown, played or sent, and nothing of that is a fault; then everything is as before.
func TestCurtain(t *testing.T) {
	c := newCall(t, options{})
	c.open()
	c.checkCaller()
	c.await(session.FarVideo)
	c.eventually("both hear", func() bool { return c.caller.Heard(500) > 0.8 && c.cards[0].heard(1000) > 0.8 })

	c.draw(true)
	st := c.s.Stats()
	if !c.cameras[0].closed.Load() || !c.cards[0].closed.Load() || st.CameraOpen || st.SoundOpen || c.cameras[0].lent.Load() != 0 {
		t.Fatalf("drawn: camera %v, sound %v, %+v", c.cameras[0].closed.Load(), c.cards[0].closed.Load(), st)
	}
	if !c.screen.covered[0].Load() || !c.screen.covered[1].Load() {
		t.Error("drawn, and a picture is still on the screen")
	}
	shown := c.screen.far.Load()
	c.draw(true) // nothing more
	wait(2 * time.Second)
	after := c.s.Stats()
	if n := c.screen.far.Load() + c.screen.self.Load(); !c.screen.covered[0].Load() || c.screen.far.Load() != shown {
		t.Errorf("a picture was shown behind the curtain: %d", n)
	}
	if after.Near.Encoded != st.Near.Encoded || after.Near.SoundFrames != st.Near.SoundFrames || after.Sound.Played != st.Sound.Played || len(c.cameras)+len(c.cards) != 2 {
		t.Errorf("behind the curtain: %+v, before %+v", after, st)
	}
	if after.Connection.VideoIn.Packets == st.Connection.VideoIn.Packets {
		t.Error("the connection brings nothing any more: the curtain shows nothing")
	}

	frames, keys := c.caller.Frames()
	c.draw(false)
	c.checkCaller()
	c.eventually("both hear again", func() bool { return c.caller.Heard(500) > 0.8 && len(c.cards) == 2 && c.cards[1].heard(1000) > 0.8 })
	c.eventually("the caller is shown again", func() bool { return !c.screen.covered[0].Load() && c.screen.far.Load() > shown+10 })
	if _, k := c.caller.Frames(); k == keys {
		t.Errorf("no keyframe after the curtain, %d pictures before", frames)
	}
	for _, k := range []session.Kind{session.CameraLost, session.SoundLost, session.Interrupted, session.PicturePaused} {
		if n := c.count(k); n > 0 {
			t.Errorf("%d times %s", n, k)
		}
	}
	if st := c.s.Stats(); st.Far.Freezes > 0 && st.Far.Frozen > time.Second {
		t.Errorf("the curtain counts as a freeze of %s", st.Far.Frozen)
	}

	for range 20 { // as fast as anybody can
		c.draw(true)
		c.draw(false)
	}
	c.draw(true)
	if st := c.s.Stats(); st.CameraOpen || st.SoundOpen {
		t.Errorf("after many changes: %+v", st)
	}
	for i, cam := range c.cameras {
		if !cam.closed.Load() {
			t.Errorf("camera %d is open", i)
		}
	}
	if closed := c.s.Close(t.Context()); closed.Err != nil || closed.CameraClosed.IsZero() || closed.MicrophoneClosed.IsZero() {
		t.Errorf("closed behind the curtain: %+v", closed)
	}
}

func wait(d time.Duration) { <-time.After(d) }

// TestCurtainBefore: what is drawn before Open keeps the devices closed.
func TestCurtainBefore(t *testing.T) {
	c := newCall(t, options{})
	c.await(session.Connected)
	c.draw(true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.s.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open behind a curtain: %v", err)
	}
	if len(c.cameras)+len(c.cards) != 0 {
		t.Error("a device was opened behind the curtain")
	}
	c.draw(false)
	c.open()
	c.checkCaller()
}

// stubborn is a camera whose driver hangs, also when it is closed.
type stubborn struct{ release chan struct{} }

func (s stubborn) Read() (image.Image, func(), error) {
	<-s.release
	return nil, nil, errPulled
}

func (stubborn) Close() error { return nil }

// TestCurtainStuck: a device that does not let go is not said to be closed.
func TestCurtainStuck(t *testing.T) {
	release := make(chan struct{})
	c := newCall(t, options{stubborn: &stubborn{release}})
	c.open()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.s.Curtain(ctx, true); !errors.Is(err, session.ErrStuck) {
		t.Errorf("a camera that hangs: %v", err)
	}
	close(release)
	c.draw(true)
}
