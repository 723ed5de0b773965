package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/media/camera"
	"vindu/media/echo"
	"vindu/media/peer"
	"vindu/media/peer/peertest"
	"vindu/media/session"
	"vindu/media/sound"
	"vindu/media/sound/soundtest"
	"vindu/protocol"
)

func TestMain(m *testing.M) {
	if os.Getenv("VINDU_TEST_PROGRAM") == "1" { // TestConfined runs this program as the agent
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestSessionKeepsTheContract runs the real media through a call and asks for what package call relies on.
func TestSessionKeepsTheContract(t *testing.T) {
	f := newFixture(t)
	f.prepare()
	f.connect()
	f.await("connection", kind(call.MediaConnected))
	f.await("picture of the caller", kind(call.MediaSeen))
	if got := f.ledger.sorted(); len(got) != 0 {
		t.Fatalf("opened before the answer: %v", got)
	}
	if err := f.session.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.ledger.sorted(); !slices.Equal(got, []string{"open camera", "open microphone"}) {
		t.Errorf("the ledger after Open: %v", got)
	}
	want := map[protocol.Code]bool{protocol.CaptureTestPicture: true, protocol.CaptureTestSound: true}
	f.await("word that picture and sound are not real", func(ev call.MediaEvent) bool {
		if ev.Kind == call.MediaCondition && ev.On {
			delete(want, ev.Code)
		}
		return len(want) == 0
	})
	if err := f.session.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := f.ledger.sorted(); !slices.Equal(got, []string{"close camera", "close microphone", "open camera", "open microphone"}) {
		t.Errorf("the ledger after Close: %v", got)
	}
	r := f.session.Report()
	if r.Camera != "synthetic" || r.Sound != "synthetic" || r.LocalPath != "host" || r.Crypto.SRTP != "AEAD_AES_256_GCM" || r.Crypto.Suite == "" ||
		r.Crypto.Local != f.session.Key() || r.Quality.FramesDecoded == 0 {
		t.Errorf("report: %+v", r)
	}
	if q := r.Quality; q.Heat != 71 || q.CodecIn != "VP8" {
		t.Errorf("quality: %+v", q)
	}
	var names []string
	for _, s := range r.Stages {
		names = append(names, s.Name)
	}
	for _, s := range []string{"ice", "dtls", "camera", "sound"} {
		if !slices.Contains(names, s) {
			t.Errorf("stage %s is missing in %v", s, names)
		}
	}
	if err := f.session.Open(t.Context()); err == nil {
		t.Error("Open after Close")
	}
}

// slowCard is a sound device that tells when it is closed.
type slowCard struct {
	sound.Device
	closed atomic.Bool
}

func (c *slowCard) Close() error { c.closed.Store(true); return c.Device.Close() }

// A call that ends while the driver is still opening the microphone does not say that it is closed before the driver came back.
func TestEndWhileTheMicrophoneOpens(t *testing.T) {
	f := newFixture(t)
	opening, goOn := make(chan struct{}), make(chan struct{})
	card := &slowCard{Device: sound.TestSound(nil)}
	slow := machine
	f.media.devices.by = &slow
	slow.openSound = func(ctx context.Context, _ sound.Config) (sound.Device, error) {
		close(opening)
		select {
		case <-goOn:
			return card, nil
		case <-ctx.Done():
			return nil, ctx.Err() // and the driver goes on
		}
	}
	f.prepare()
	f.connect()
	f.await("connection", kind(call.MediaConnected))
	ctx, hangUp := context.WithCancel(t.Context())
	open := make(chan error, 1)
	go func() { open <- f.session.Open(ctx) }()
	<-opening
	hangUp()
	if err := <-open; err == nil {
		t.Error("Open came to an end")
	}
	if err := f.session.Close(ctx); err != nil { // no time left
		t.Fatal(err)
	}
	if got := f.ledger.sorted(); slices.Contains(got, "close microphone") {
		t.Errorf("the driver still opens the microphone, and the ledger says %v", got)
	}
	close(goOn)
	if err := f.session.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := f.ledger.sorted(); !slices.Contains(got, "close microphone") || !card.closed.Load() {
		t.Errorf("in the end the ledger says %v; closed: %v", got, card.closed.Load())
	}
}

// TestCloseDoesNotWaitForWhatHangs: what of a session does not end is not waited for until the time is over in which package call takes a device for stuck and ends the program:
// whether one is open the ledger says.
func TestCloseDoesNotWaitForWhatHangs(t *testing.T) {
	f := newFixture(t)
	hangs, release := make(chan struct{}), make(chan struct{})
	f.media.devices.by = &drivers{
		cameras: machine.cameras, openCamera: machine.openCamera, cards: func() (capture, playback []sound.Card) { return nil, []sound.Card{{Name: "test"}} },
		openSound: func(context.Context, sound.Config) (sound.Device, error) {
			close(hangs)
			<-release
			return nil, sound.ErrGone
		},
	}
	f.media.cfg.Devices.Speaker, f.media.devices.cfg.Speaker = "auto", "auto"
	f.prepare()
	f.connect()
	t.Cleanup(func() { close(release) })
	f.await("connection", kind(call.MediaConnected))
	go func() { _ = f.session.Open(t.Context()) }()
	<-hangs
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := f.session.Close(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("closed with %v, %v", err, ctx.Err())
	}
}

func TestSettled(t *testing.T) {
	for _, test := range []struct {
		name          string
		ended         bool
		opens, closes error
		want          error
	}{
		{name: "opens in the call"},
		{name: "does not open", opens: camera.ErrBusy, want: camera.ErrBusy},
		{name: "opens after the call", ended: true, want: context.Canceled},
		{name: "opens after the call and does not close", ended: true, closes: camera.ErrGone, want: errStillOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			device, err := settled(ctx, func(ctx context.Context) (*stubborn, error) {
				if test.ended {
					cancel()
				}
				if ctx.Err() != nil {
					t.Error("the driver is left alone")
				}
				return &stubborn{test.closes}, test.opens
			})
			if !errors.Is(err, test.want) || (device != nil) != (test.want == nil) {
				t.Errorf("got %v, %v", device, err)
			}
		})
	}
}

// A microphone that is connected between the look for one and the opening is not on the ledger, and stays closed.
func TestNoLeaveNoCapture(t *testing.T) {
	d := &devices{cfg: agent.Devices{Microphone: "auto", Speaker: "auto"}}
	if cfg := d.soundConfig(false); cfg.Capture != "none" || cfg.Playback != "auto" {
		t.Errorf("without a microphone: %+v", cfg)
	}
	if cfg := d.soundConfig(true); cfg.Capture != "auto" {
		t.Errorf("with one: %+v", cfg)
	}
}

// What the ledger does not record does not happen, and ends the call.
func TestLedgerSaysNo(t *testing.T) {
	f := newFixture(t)
	f.ledger.no = &call.MediaError{Code: protocol.StorageFull, Err: errors.New("no space left")}
	f.prepare()
	f.connect()
	f.await("connection", kind(call.MediaConnected))
	if err := f.session.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.await("end for want of a record", func(ev call.MediaEvent) bool { return ev.Kind == call.MediaFailed && ev.Code == protocol.StorageFull })
	if r := f.session.Report(); r.Camera != "none" || r.Sound != "none" {
		t.Errorf("opened %s and %s", r.Camera, r.Sound)
	}
}

// A caller whose page hangs up has its signed end on the way; if it does not come, the call ends nevertheless.
func TestCallerCloses(t *testing.T) {
	f := newFixture(t)
	f.prepare()
	f.connect()
	f.await("picture of the caller", kind(call.MediaSeen))
	if err := f.caller.Close(); err != nil {
		t.Fatal(err)
	}
	f.await("end", func(ev call.MediaEvent) bool { return ev.Kind == call.MediaFailed && ev.Code == protocol.EndPageClosed })
}

func TestPrepareRefusesAnotherCertificate(t *testing.T) {
	f := newFixture(t)
	caller, offer, err := peertest.New(peertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	_, err = f.media.Prepare(t.Context(), call.Offer{SDP: protocol.SDP(offer), Remote: protocol.Fingerprint{1}, Ledger: f.ledger})
	if me, ok := errors.AsType[*call.MediaError](err); !ok || me.Code != protocol.AuthFingerprint {
		t.Errorf("got %v", err)
	}
}

// What the line is too weak for is a condition while it lasts, and no other ends with it.
func TestWeakLinePausesThePicture(t *testing.T) {
	s := &mediaSession{events: make(chan call.MediaEvent, 4), own: t.Context(), holds: []protocol.Code{protocol.CaptureTestPicture}}
	for _, test := range []struct {
		kind session.Kind
		on   bool
	}{{session.PicturePaused, true}, {session.PictureResumed, false}, {session.PicturePaused, true}, {session.PictureResumed, false}} {
		s.translate(session.Event{Kind: test.kind})
		if got := <-s.events; got.Kind != call.MediaCondition || got.Code != protocol.QualityPaused || got.On != test.on {
			t.Errorf("after %s: %+v", test.kind, got)
		}
	}
	if len(s.events) != 0 || len(s.holds) != 1 {
		t.Errorf("%d more events, %v holds", len(s.events), s.holds)
	}
}

func TestCodes(t *testing.T) {
	for err, want := range map[error]protocol.Code{
		camera.ErrNotFound: protocol.CaptureNoCamera, camera.ErrBusy: protocol.CaptureCameraBusy, camera.ErrUnsupported: protocol.CaptureCameraFormat,
		camera.ErrGone: protocol.CaptureCameraGone, camera.ErrTimeout: protocol.CaptureCameraStuck,
	} {
		if got := cameraCode(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	for err, want := range map[error]protocol.Code{
		sound.ErrNotFound: protocol.CaptureNoMicrophone, sound.ErrBusy: protocol.CaptureSoundBusy, sound.ErrGone: protocol.CaptureSoundGone,
	} {
		if got := soundCode(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	for _, test := range []struct {
		stage peer.Stage
		err   error
		want  protocol.Code
	}{
		{peer.StageICE, peer.ErrNoPath, protocol.ICEFailed},
		{peer.StageMedia, peer.ErrSilent, protocol.ICELost},
		{peer.StageDTLS, peer.ErrCertificate, protocol.AuthFingerprint},
		{peer.StageDTLS, peer.ErrProfile, protocol.DTLSWeak},
		{peer.StageDTLS, peer.ErrSuite, protocol.DTLSWeak},
		{peer.StageDTLS, peer.ErrHandshake, protocol.DTLSFailed},
		{peer.StageMedia, errors.New("other"), protocol.MediaFailed},
	} {
		if got := failureCode(test.stage, test.err); got != test.want {
			t.Errorf("%s %v: %s, want %s", test.stage, test.err, got, test.want)
		}
	}
}

// TestRetry: a device that does not open is not tried, and so not written down, every two seconds for ever.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r retry
		busy := errors.New("busy")
		tries := 0
		for range 300 { // ten minutes of asking every 2 s
			if r.early() == nil {
				tries++
				_ = r.failed(busy)
			}
			<-time.After(2 * time.Second)
		}
		if tries < 10 || tries > 20 {
			t.Errorf("tried %d times in ten minutes", tries)
		}
		r.worked()
		if r.early() != nil {
			t.Error("a device that worked is not tried at once")
		}
	})
}

type stubborn struct{ err error }

func (s *stubborn) Close() error { return s.err }

// A device that says that it could not be closed counts as open: package call then ends the process.
func TestCloseThatFailsIsNotClosed(t *testing.T) {
	l := &ledger{}
	failing := &openDevice[*stubborn]{Source: &stubborn{errors.New("still there")}, ledger: l, device: call.Camera}
	if failing.Close() == nil || failing.Close() == nil || len(l.sorted()) != 0 {
		t.Errorf("the ledger says %v", l.sorted())
	}
	working := &openDevice[*stubborn]{Source: &stubborn{}, ledger: l, device: call.Camera}
	if working.Close() != nil || working.Close() != nil || !slices.Equal(l.sorted(), []string{"close camera"}) {
		t.Errorf("the ledger says %v", l.sorted())
	}
}

// hung is a camera whose driver hangs until it is let go.
type hung struct {
	camera.Source
	err error
}

func (h *hung) Close() error { return h.err }

// A camera in which a driver hangs is opened again beside that, in the same call alone, and stays on the ledger as open, whatever closes later.
func TestHungCameraIsOpenedAgain(t *testing.T) {
	busy := error(nil)
	with := machine
	with.cameras = func() []camera.Info { return []camera.Info{{Path: "/dev/video9"}} }
	opened := 0
	with.openCamera = func(_ context.Context, cfg camera.Config) (camera.Source, error) {
		if busy != nil {
			return nil, busy
		}
		opened++
		h := &hung{Source: camera.TestPicture(cfg)}
		if opened == 1 {
			h.err = camera.ErrTimeout
		}
		return h, nil
	}
	l := &ledger{}
	m := &media{cfg: agent.Default(), devices: &devices{cfg: agent.Devices{Camera: "auto"}, by: &with}, log: slog.New(slog.DiscardHandler)}
	s := &mediaSession{m: m, own: t.Context(), events: make(chan call.MediaEvent, 8), offer: call.Offer{Ledger: l}}
	first, err := s.openCamera(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.no = fmt.Errorf("open camera: %w", call.ErrOpen)
	if _, err := s.openCamera(t.Context()); !errors.Is(err, call.ErrOpen) {
		t.Errorf("a camera that is open and does not hang is opened again: %v", err)
	}
	s.camera.worked()
	if err := first.Close(); err == nil {
		t.Fatal("it closes")
	}
	s.camera.worked()
	busy = camera.ErrBusy
	if _, err := s.openCamera(t.Context()); !errors.Is(err, camera.ErrBusy) {
		t.Errorf("%v, want busy", err)
	}
	s.camera.worked()
	busy = nil
	second, err := s.openCamera(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := l.sorted(); !slices.Equal(got, []string{"open camera"}) {
		t.Errorf("the ledger says %v: the first one still hangs", got)
	}
	// The call is over.
	l.no = errors.New("no answered call runs")
	if _, err := s.openCamera(t.Context()); err == nil {
		t.Error("opened after the call")
	}
}

// The microphone of a real card is cleaned unless the configuration says that it is not.
func TestEchoIsTakenOut(t *testing.T) {
	for _, wanted := range []string{"on", "off"} {
		host := soundtest.New(&soundtest.Card{ID: "Headset", Playback: true, Capture: true})
		with := machine
		with.cards = func() (capture, playback []sound.Card) { return sound.ListOn(host) }
		with.openSound = func(ctx context.Context, cfg sound.Config) (sound.Device, error) { return sound.OpenOn(ctx, host, cfg) }
		cfg := agent.Devices{Microphone: "hw:CARD=Headset,DEV=0", Speaker: "hw:CARD=Headset,DEV=0"}
		m := &media{cfg: agent.Default(), devices: &devices{cfg: cfg, by: &with}, log: slog.New(slog.DiscardHandler)}
		m.cfg.Sound.Echo = wanted
		s := &mediaSession{m: m, offer: call.Offer{Ledger: &ledger{}}}
		opened, err := s.openSound(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, cleaned := opened.(*openSound).Source.(*echo.Device); cleaned != (wanted == "on") {
			t.Errorf("echo = %q: cleaned is %t", wanted, cleaned)
		}
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
		if n := host.Opened(); n != 0 {
			t.Errorf("echo = %q: %d directions are open after Close", wanted, n)
		}
	}
}

// What a session's numbers come to on the record is always something that a record can hold.
func TestNumbersWithinBounds(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(-1), -3, 0, 0.4, 1, 4.5, 1e9, math.Inf(1)} {
		q := protocol.Quality{
			Grade: graded(v), Worst: graded(v), ERLE: within(v, protocol.MostERLE), CPU: within(1000*v, protocol.MostCPU), Heat: within(v, protocol.MostHeat),
		}
		r := protocol.CallRecord{Version: protocol.Version, Call: protocol.CallID{1}, By: protocol.SideTerminal, Began: 1, Outcome: protocol.EndCallerHungUp, Quality: q}
		if err := r.Validate(); err != nil {
			t.Errorf("%v: %+v: %v", v, q, err)
		}
	}
	if graded(4.406) != 441 || graded(0) != 0 || within(38.6, protocol.MostERLE) != 39 {
		t.Error("figures are not what they were")
	}
}

// TestCurtain: behind a curtain camera and sound card are closed, the ledger says so, nothing counts for the line, and no condition arises.
func TestCurtain(t *testing.T) {
	f := newFixture(t)
	f.prepare()
	f.connect()
	f.await("connection", kind(call.MediaConnected))
	if err := f.session.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := f.session.(*mediaSession)
	enough := func(pictures uint64) {
		t.Helper()
		for end := time.Now().Add(time.Minute); s.inner.Stats().Near.Encoded < pictures; <-time.After(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never %d pictures", pictures)
			}
		}
	}
	enough(5)
	veiled := f.session.(call.Veiled)
	for _, drawn := range []bool{true, false, true} {
		if err := veiled.Curtain(t.Context(), drawn); err != nil {
			t.Fatal(err)
		}
		st := s.inner.Stats()
		if !drawn {
			enough(st.Near.Encoded + 5)
			continue
		}
		if st.CameraOpen || st.SoundOpen {
			t.Errorf("open behind a curtain: %+v", st)
		}
		veiled.Chime()
		before, sent := f.session.Report().Series, st.Near.Encoded
		<-time.After(2500 * time.Millisecond)
		after := f.session.Report().Series
		if before != nil && len(after.RTT) > len(before.RTT) || before == nil && after != nil {
			t.Errorf("seconds behind a curtain count: %+v, then %+v", before, after)
		}
		if n := s.inner.Stats().Near.Encoded; n != sent {
			t.Errorf("%d pictures were sent behind a curtain", n-sent)
		}
	}
	want := []string{"close camera", "close camera", "close microphone", "close microphone", "open camera", "open camera", "open microphone", "open microphone"}
	if got := f.ledger.sorted(); !slices.Equal(got, want) {
		t.Errorf("the ledger says %v", got)
	}
	for len(f.seen) > 0 {
		if ev := <-f.seen; ev.Kind == call.MediaCondition && ev.On && ev.Code != protocol.CaptureTestPicture && ev.Code != protocol.CaptureTestSound || ev.Kind == call.MediaDisconnected {
			t.Errorf("behind a curtain: %+v", ev)
		}
	}
}
