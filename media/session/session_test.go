package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/color"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/media/peer"
	"vindu/media/peer/peertest"
	"vindu/media/session"
	"vindu/media/sound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	green = color.YCbCr{Y: 145, Cb: 54, Cr: 34}
	red   = color.YCbCr{Y: 81, Cb: 90, Cr: 240}

	errPulled = errors.New("pulled out")
	errBusy   = errors.New("busy")
)

// call is a session with its caller.
type call struct {
	t       *testing.T
	s       *session.Session
	caller  *peertest.Caller
	screen  *screen
	mu      sync.Mutex
	cameras []*camera
	cards   []*card
	events  []session.Event
	done    chan error
	cancel  context.CancelFunc
}

type options struct {
	caller  peertest.Options
	cfg     session.Config
	camera  func(n int, ctx context.Context) (*camera, error) // n-th opening
	card    func(n int) (*card, error)
	noStart bool
	volume  int
	log     *slog.Logger

	stubborn session.Camera // in place of camera
}

func newCall(t *testing.T, o options) *call {
	t.Helper()
	c := &call{t: t, screen: &screen{}, done: make(chan error, 1)}
	far, offer, err := peertest.New(o.caller)
	if err != nil {
		t.Fatal(err)
	}
	c.caller = far
	t.Cleanup(func() { _ = far.Close() })
	if o.camera == nil {
		o.camera = func(int, context.Context) (*camera, error) { return newCamera(320, 240, 15), nil }
	}
	if o.card == nil {
		o.card = func(int) (*card, error) { return newCard(), nil }
	}
	var nCam, nCard int
	dev := session.Devices{
		OpenCamera: func(ctx context.Context) (session.Camera, error) {
			if o.stubborn != nil {
				return o.stubborn, nil
			}
			nCam++
			cam, err := o.camera(nCam, ctx)
			if err != nil {
				return nil, err
			}
			c.mu.Lock()
			c.cameras = append(c.cameras, cam)
			c.mu.Unlock()
			return cam, nil
		},
		OpenSound: func(context.Context) (session.Sound, error) {
			nCard++
			card, err := o.card(nCard)
			if err != nil {
				return nil, err
			}
			c.mu.Lock()
			c.cards = append(c.cards, card)
			c.mu.Unlock()
			return card, nil
		},
		Screen: c.screen,
	}
	o.cfg.IncludeLoopback = true
	o.cfg.Interfaces = func(name string) bool { return name == "lo" }
	if o.cfg.Width == 0 {
		o.cfg.Width, o.cfg.Height, o.cfg.FPS = 320, 240, 15
	}
	if o.cfg.RetryEvery == 0 {
		o.cfg.RetryEvery = 100 * time.Millisecond
	}
	c.s, err = session.NewFactory(o.cfg, dev, o.log).Prepare(t.Context(), session.Offer{SDP: peer.SDP(offer), Volume: o.volume})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r := c.s.Close(context.Background()); r.Err != nil {
			t.Errorf("close: %v", r.Err)
		}
	})
	if !o.noStart {
		c.start()
	}
	return c
}

func (c *call) start() {
	if err := c.caller.Answer(string(c.s.AnswerSDP())); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	var wg sync.WaitGroup
	wg.Go(func() { c.done <- c.s.Run(ctx) })
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-c.s.Events():
				if e.Kind == session.LocalCandidate {
					_ = c.caller.AddCandidate(e.Candidate.Candidate)
				}
				c.mu.Lock()
				c.events = append(c.events, e)
				c.mu.Unlock()
			case i := <-c.caller.Candidates:
				_ = c.s.AddCandidate(i.Candidate, "0", 0)
			}
		}
	})
	c.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (c *call) has(k session.Kind) (session.Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Kind == k {
			return e, true
		}
	}
	return session.Event{}, false
}

func (c *call) count(k session.Kind) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func (c *call) await(k session.Kind) session.Event {
	c.t.Helper()
	c.eventually(k.String(), func() bool { _, ok := c.has(k); return ok })
	e, _ := c.has(k)
	return e
}

func (c *call) eventually(what string, cond func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("never: %s; events %v; stats %+v", what, c.events, c.s.Stats())
		}
	}
}

func (c *call) open() {
	c.t.Helper()
	if err := c.s.Open(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func near(a, b color.YCbCr) error {
	for _, d := range []int{int(a.Y) - int(b.Y), int(a.Cb) - int(b.Cb), int(a.Cr) - int(b.Cr)} {
		if d > 15 || d < -15 {
			return fmt.Errorf("colour %v, want %v", a, b)
		}
	}
	return nil
}

func (c *call) checkCaller() {
	c.t.Helper()
	before, _ := c.caller.Frames()
	c.eventually("caller sees 10 more pictures", func() bool { n, _ := c.caller.Frames(); return n >= before+10 })
	if col, _ := c.caller.Seen(); near(col, green) != nil {
		c.t.Errorf("the caller sees %v", near(col, green))
	}
}

// safeBuffer is written by many goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// Nothing of SDP, candidates, addresses or certificates reaches the log, at whatever level.
func TestLogsHoldNoSecrets(t *testing.T) {
	var out safeBuffer
	c := newCall(t, options{
		log:    slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 10})),
		camera: func(int, context.Context) (*camera, error) { return nil, errBusy },
	})
	c.open()
	c.await(session.CameraLost)
	c.await(session.FarVideo)
	_ = c.s.AddCandidate("candidate:1 1 udp 1 planted.example 9 typ host", "0", 0)
	_ = c.caller.Close()
	<-c.done
	c.s.Close(t.Context())
	out.mu.Lock()
	defer out.mu.Unlock()
	log := out.b.String()
	if !strings.Contains(log, "camera lost") || !strings.Contains(log, "connection failed") {
		t.Errorf("the log says nothing: %s", log)
	}
	for _, bad := range []string{"candidate:", "127.0.0.1", "a=", "ufrag", "sha-256", "planted"} {
		if strings.Contains(log, bad) {
			t.Errorf("the log holds %q: %s", bad, log)
		}
	}
}

// A whole call: the patient sees first, is seen and heard after Open, and all is closed at the end.
// TestVolume: the caller is played as loud as the offer says (R40).
func TestVolume(t *testing.T) {
	for _, tt := range []struct {
		name   string
		volume int
		want   float64 // dB below full scale; the caller's tone comes at -15.3
	}{
		{"as it comes", 0, -15.3},
		{"soft", 20, -30.3},
		{"loud", 100, -6.3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCall(t, options{volume: tt.volume})
			c.open()
			c.await(session.FarSound)
			c.eventually("the caller is heard as loud as wanted", func() bool {
				return c.cards[0].heard(1000) > 0.8 && math.Abs(c.cards[0].level()-tt.want) < 1.5
			})
		})
	}
}

func TestCall(t *testing.T) {
	c := newCall(t, options{})
	c.await(session.Connected)
	c.await(session.FarVideo)
	c.eventually("10 pictures of the caller", func() bool { return c.screen.far.Load() >= 10 })
	c.screen.mu.Lock()
	if err := near(c.screen.farCol, red); err != nil {
		t.Errorf("the screen shows the caller in %v", err)
	}
	c.screen.mu.Unlock()
	if st := c.s.Stats(); st.CameraOpen || st.SoundOpen || st.Near.Captured+st.Near.SoundFrames+st.Sound.Played != 0 || len(c.cameras)+len(c.cards) != 0 {
		t.Fatalf("before Open: %+v", st)
	}
	if n, _ := c.caller.Frames(); n != 0 || c.caller.Packets() != 0 {
		t.Fatalf("before Open the caller got %d pictures and %d packets of sound", n, c.caller.Packets())
	}

	c.open()
	c.await(session.CameraOpened)
	c.await(session.SoundOpened)
	c.await(session.Sending)
	c.checkCaller()
	c.eventually("the caller hears the tone", func() bool { return c.caller.Heard(500) > 0.8 })
	c.await(session.FarSound)
	c.eventually("the caller is heard", func() bool { return c.cards[0].heard(1000) > 0.8 })
	c.screen.mu.Lock()
	if err := near(c.screen.selfCol, green); err != nil {
		t.Errorf("the self view has %v", err)
	}
	c.screen.mu.Unlock()

	_, keys := c.caller.Frames()
	if err := c.caller.AskKeyframe(); err != nil {
		t.Fatal(err)
	}
	c.eventually("keyframe on request", func() bool { _, k := c.caller.Frames(); return k > keys })
	if keys != 1 {
		t.Errorf("%d keyframes before one was asked for, want the first", keys)
	}

	st := c.s.Stats()
	if st.Connection.SRTPProfile == "" || !st.Connection.FarProved || st.Far.Frames == 0 || st.Near.Encoded == 0 {
		t.Errorf("stats %+v", st)
	}
	for name, at := range map[string]time.Time{
		"offer": st.Times.Offer, "answer": st.Times.Answer, "path": st.Times.Path, "connected": st.Times.Connected, "far video": st.Times.FarVideo,
		"opened": st.Times.Opened, "camera": st.Times.CameraOpen, "sound": st.Times.SoundOpen, "sending": st.Times.Sending, "far sound": st.Times.FarSound,
	} {
		if at.IsZero() {
			t.Errorf("no time of %s", name)
		}
	}

	r := c.s.Close(t.Context())
	if r.Err != nil || r.CameraClosed.IsZero() || r.MicrophoneClosed.IsZero() {
		t.Errorf("closed %+v", r)
	}
	if cam := c.cameras[0]; !cam.closed.Load() || cam.lent.Load() != 0 {
		t.Errorf("camera closed: %v, with %d pictures not given back", cam.closed.Load(), cam.lent.Load())
	}
	if !c.cards[0].closed.Load() {
		t.Error("the sound card is open after Close")
	}
	if err := <-c.done; err != nil {
		t.Errorf("run: %v", err)
	}
	if again := c.s.Close(t.Context()); again != r {
		t.Errorf("closed again %+v, before %+v", again, r)
	}
	if err := c.s.Open(t.Context()); !errors.Is(err, session.ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
	if err := c.s.Run(t.Context()); !errors.Is(err, session.ErrClosed) {
		t.Errorf("run after close: %v", err)
	}
}

// Camera pulled out in mid-call: sound goes on, and the picture comes back with the camera.
func TestCameraPulledOut(t *testing.T) {
	c := newCall(t, options{camera: func(n int, _ context.Context) (*camera, error) {
		if n == 2 || n == 3 {
			return nil, errBusy
		}
		return newCamera(320, 240, 15), nil
	}})
	c.open()
	c.checkCaller()
	close(c.cameras[0].pulled)
	if e := c.await(session.CameraLost); !errors.Is(e.Err, errPulled) {
		t.Errorf("camera lost: %v", e.Err)
	}
	heard := c.caller.Packets()
	c.eventually("sound goes on", func() bool { return c.caller.Packets() > heard+20 })
	c.eventually("camera back", func() bool { return c.count(session.CameraOpened) == 2 })
	c.checkCaller()
	if n := c.count(session.CameraLost); n != 1 {
		t.Errorf("said %d times that the camera is lost", n)
	}
	if !c.cameras[0].closed.Load() {
		t.Error("the camera that was pulled out was not closed")
	}
}

func TestDevicesMissing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		opt    options
		check  func(c *call)
		events []session.Kind
	}{
		{
			"camera busy, sound goes on",
			options{camera: func(int, context.Context) (*camera, error) { return nil, errBusy }},
			func(c *call) {
				c.eventually("tone", func() bool { return c.caller.Heard(500) > 0.8 && c.cards[0].heard(1000) > 0.8 })
			},
			[]session.Kind{session.CameraLost},
		},
		{
			"no sound card, picture goes on",
			options{card: func(int) (*card, error) { return nil, sound.ErrNotFound }},
			func(c *call) { c.checkCaller() },
			[]session.Kind{session.SoundLost},
		},
		{
			"no microphone",
			options{card: func(int) (*card, error) { k := newCard(); k.noMic = true; return k, nil }},
			func(c *call) {
				c.eventually("the caller is heard", func() bool { return c.cards[0].heard(1000) > 0.8 })
			},
			nil,
		},
		{
			"no loudspeaker",
			options{card: func(int) (*card, error) { k := newCard(); k.noSpeaker = true; return k, nil }},
			func(c *call) { c.eventually("the caller hears", func() bool { return c.caller.Heard(500) > 0.8 }) },
			nil,
		},
		{
			"neither",
			options{
				card:   func(int) (*card, error) { return nil, sound.ErrNotFound },
				camera: func(int, context.Context) (*camera, error) { return nil, errBusy },
			},
			func(c *call) { c.eventually("the caller is seen", func() bool { return c.screen.far.Load() > 10 }) },
			[]session.Kind{session.CameraLost, session.SoundLost},
		},
		{
			"caller without a camera",
			options{caller: peertest.Options{NoVideo: true}},
			func(c *call) { c.eventually("the caller hears", func() bool { return c.caller.Heard(500) > 0.8 }) },
			nil,
		},
		{
			"sound card pulled out and back",
			options{card: func(n int) (*card, error) {
				k := newCard()
				if n == 1 {
					close(k.pulled)
				}
				return k, nil
			}},
			func(c *call) {
				c.eventually("tone", func() bool { return c.caller.Heard(500) > 0.8 })
			},
			[]session.Kind{session.SoundLost},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCall(t, tt.opt)
			c.open()
			tt.check(c)
			for _, k := range tt.events {
				c.await(k)
			}
			if len(tt.events) == 0 && c.count(session.CameraLost)+c.count(session.SoundLost) > 0 {
				t.Error("a device is said to be lost")
			}
		})
	}
}

// A driver that hangs in Open does not keep Close, and what it opens late is closed at once.
func TestCameraHangs(t *testing.T) {
	hang := make(chan struct{})
	late := newCamera(320, 240, 15)
	c := newCall(t, options{
		cfg:    session.Config{CloseLimit: 300 * time.Millisecond},
		camera: func(int, context.Context) (*camera, error) { <-hang; return late, nil },
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.s.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open: %v", err)
	}
	r := c.s.Close(t.Context())
	if !errors.Is(r.Err, session.ErrStuck) || !r.CameraClosed.IsZero() {
		t.Errorf("closed %+v, want ErrStuck and no time", r)
	}
	close(hang)
	if err := <-c.done; err != nil {
		t.Errorf("run: %v", err)
	}
	if !late.closed.Load() {
		t.Error("the camera that opened late is open")
	}
}

func TestCandidateGarbage(t *testing.T) {
	c := newCall(t, options{})
	for _, bad := range []string{"x", "candidate:", "candidate:1 1 udp 1 example.org 9 typ host", string(make([]byte, 4096))} {
		if err := c.s.AddCandidate(bad, "0", 0); !errors.Is(err, peer.ErrCandidate) {
			t.Errorf("candidate %.40q: %v", bad, err)
		}
	}
	if err := c.s.AddCandidate("", "0", 0); err != nil {
		t.Errorf("end of candidates: %v", err)
	}
	c.await(session.Connected)
	if n := c.s.Stats().Connection.CandidatesRefused; n != 4 {
		t.Errorf("%d candidates refused", n)
	}
}

// The caller hangs up: the camera closes though nobody calls Close.
func TestCallerCloses(t *testing.T) {
	c := newCall(t, options{})
	c.open()
	c.checkCaller()
	_ = c.caller.Close()
	err := <-c.done
	if !errors.Is(err, peer.ErrFarClosed) {
		t.Errorf("run: %v, want ErrFarClosed", err)
	}
	if !c.cameras[0].closed.Load() || !c.cards[0].closed.Load() {
		t.Error("a device is open without a connection")
	}
	if e := c.await(session.Failed); !errors.Is(e.Err, peer.ErrFarClosed) || e.Stage != peer.StageMedia {
		t.Errorf("failed: %+v", e)
	}
	if r := c.s.Close(t.Context()); r.Err != nil || r.CameraClosed.IsZero() || r.MicrophoneClosed.IsZero() {
		t.Errorf("closed %+v", r)
	}
}

func TestCloseInEveryState(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   func(c *call)
	}{
		{"prepared", func(*call) {}},
		{"running", func(c *call) { c.start() }},
		{"opened at once", func(c *call) { c.start(); c.open() }},
		{"connected", func(c *call) { c.start(); c.await(session.Connected) }},
		{"caller shown", func(c *call) { c.start(); c.await(session.FarVideo) }},
		{"sending", func(c *call) { c.start(); c.open(); c.await(session.Sending) }},
		{"context over", func(c *call) {
			c.start()
			c.open()
			c.await(session.Sending)
			c.cancel()
			<-c.done
			c.done <- nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCall(t, options{noStart: true})
			tt.at(c)
			if r := c.s.Close(t.Context()); r.Err != nil {
				t.Fatal(r.Err)
			}
			for _, cam := range c.cameras {
				if !cam.closed.Load() || cam.lent.Load() != 0 {
					t.Error("camera open or picture not given back")
				}
			}
			for _, k := range c.cards {
				if !k.closed.Load() {
					t.Error("sound card open")
				}
			}
			if c.cancel != nil {
				if err := <-c.done; err != nil && !errors.Is(err, session.ErrClosed) {
					t.Errorf("run: %v", err)
				}
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	f := session.NewFactory(session.Config{}, session.Devices{}, nil)
	for name, sdp := range map[string]peer.SDP{"nothing": "", "no SDP": "hello", "no media": "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"} {
		t.Run(name, func(t *testing.T) {
			if _, err := f.Prepare(t.Context(), session.Offer{SDP: sdp}); !errors.Is(err, peer.ErrOffer) {
				t.Errorf("error %v, want ErrOffer", err)
			}
		})
	}
}
