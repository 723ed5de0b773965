package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/proxy"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/panel"
	"vindu/media/camera"
	"vindu/media/codec"
	"vindu/media/echo"
	"vindu/media/peer"
	"vindu/media/session"
	"vindu/media/sound"
	"vindu/protocol"
)

const (
	// sessionClose is below the limit after which package call gives a device up.
	sessionClose = 2500 * time.Millisecond
	// farClosedGrace is how long the caller's signed end may take after its connection was closed.
	farClosedGrace = 2 * time.Second
	// chimeFor is how long it chimes before a curtain opens: once.
	chimeFor = 1700 * time.Millisecond
	// A device that does not open is tried again after a doubling time within these, so that the ledger is not filled with attempts.
	retryFirst, retryLast = 2 * time.Second, time.Minute
)

// media makes package session serve package call.
type media struct {
	cfg     agent.Config
	devices *devices
	coders  *coders // nil: as package session has them
	screen  pictures
	far     *tap
	id      *identity.Identity
	files   fs.FS // the system's, from its root; nil: nothing is said of the board
	log     *slog.Logger
	profile *profiler // nil: none
}

// heat is the board's temperature in °C, 0 if it does not say.
func (m *media) heat() float64 {
	if m.files == nil {
		return 0
	}
	at, _ := health.Temperature(m.files)
	return at
}

// Prepare implements call.Media.
func (m *media) Prepare(ctx context.Context, offer call.Offer) (call.Session, error) {
	sdp := peer.SDP(offer.SDP)
	fingerprint, err := peer.OfferFingerprint(sdp)
	if err != nil || protocol.Fingerprint(fingerprint) != offer.Remote {
		return nil, &call.MediaError{Code: protocol.AuthFingerprint, Err: errors.Join(errors.New("the offer's certificate is not the proven one"), err)}
	}
	s := &mediaSession{m: m, offer: offer, events: make(chan call.MediaEvent, 64), done: make(chan struct{}), cameraKind: "none", soundKind: "none"}
	var video []codec.Coder
	if m.coders != nil {
		video = m.coders.now()
	}
	factory := session.NewFactory(session.Config{
		Video: video,
		Width: m.cfg.Picture.Width, Height: m.cfg.Picture.Height, FPS: float64(m.cfg.Picture.FPS), MaxBitrate: m.cfg.Picture.Bitrate,
		IncludeLoopback: m.cfg.Network.Loopback, TURNDialer: relayDialer{m.id}, CloseLimit: sessionClose,
	}, session.Devices{OpenCamera: s.openCamera, OpenSound: s.openSound, Screen: m.screen, Heat: m.heat}, m.log)
	servers := make([]peer.ICEServer, 0, len(offer.ICE))
	for _, i := range offer.ICE {
		servers = append(servers, peer.ICEServer{URLs: i.URLs, Username: i.Username, Credential: string(i.Credential)})
	}
	s.inner, err = factory.Prepare(ctx, session.Offer{SDP: sdp, ICEServers: servers, RelayOnly: offer.RelayOnly, Volume: m.devices.volume(int(offer.Volume))})
	if err != nil {
		return nil, &call.MediaError{Code: protocol.MediaFailed, Err: err}
	}
	s.own, s.stop = context.WithCancel(context.Background())
	if m.coders != nil {
		m.coders.begin()
	}
	go s.serve()
	return s, nil
}

// mediaSession is a session.Session as package call sees it. serve owns its goroutines, which end with Close.
type mediaSession struct {
	m      *media
	offer  call.Offer
	inner  *session.Session
	events chan call.MediaEvent
	own    context.Context // of the session's whole life; ended by stop
	stop   context.CancelFunc
	done   chan struct{} // closed when serve has ended

	mu         sync.Mutex
	cameraKind string
	soundKind  string
	holds      []protocol.Code // conditions that were said
	camera     retry
	sound      retry
	realCamera bool // a real one was open in this call
	cameraHung atomic.Bool
	quality    protocol.Sampler
	veiled     atomic.Bool // by a curtain: nothing that is missing is missed
	wasVeiled  bool        // for serve alone
}

// SDP implements call.Session.
func (s *mediaSession) SDP() protocol.SDP { return protocol.SDP(s.inner.AnswerSDP()) }

// Key implements call.Session.
func (s *mediaSession) Key() protocol.Fingerprint { return s.inner.Fingerprint() }

// Events implements call.Session.
func (s *mediaSession) Events() <-chan call.MediaEvent { return s.events }

// AddCandidate implements call.Session.
func (s *mediaSession) AddCandidate(c protocol.Candidate) error {
	return s.inner.AddCandidate(string(c.Line), c.Mid, int(c.MLine))
}

// Restart implements call.Movable.
func (s *mediaSession) Restart(ctx context.Context, offer protocol.SDP) (protocol.SDP, error) {
	answer, err := s.inner.Restart(ctx, peer.SDP(offer))
	if errors.Is(err, peer.ErrCertificate) {
		return "", &call.MediaError{Code: protocol.AuthFingerprint, Err: err}
	}
	return protocol.SDP(answer), err
}

// Open implements call.Session.
func (s *mediaSession) Open(ctx context.Context) error {
	s.m.profile.start()
	return s.inner.Open(ctx)
}

// Curtain implements call.Veiled.
func (s *mediaSession) Curtain(ctx context.Context, drawn bool) error {
	if drawn {
		s.veiled.Store(true)
	}
	err := s.inner.Curtain(ctx, drawn)
	if err == nil && !drawn {
		s.veiled.Store(false)
	}
	return err
}

// Chime implements call.Veiled. It does not block. It is heard while no sound card is open: by the loudspeaker alone, as the bell is.
func (s *mediaSession) Chime() {
	if m := s.m.devices.mouth; m != nil && s.veiled.Load() {
		m.Start(0)
		time.AfterFunc(chimeFor, func() {
			if s.own.Err() == nil { // else the call's end has stopped it, and what rings is another call
				m.Stop()
			}
		})
	}
}

// Close implements call.Session. Whether camera and microphone are closed the ledger knows; a connection that hangs is no danger.
func (s *mediaSession) Close(ctx context.Context) error {
	closed := s.inner.Close(ctx)
	s.m.profile.stop()
	if closed.Err != nil {
		s.m.log.Warn("session did not close cleanly", "call", s.offer.Call, "error", closed.Err)
	}
	s.stop()
	s.m.screen.Far(nil)
	s.m.screen.Self(nil)
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	return nil
}

// serve runs the session and translates its events.
func (s *mediaSession) serve() {
	defer close(s.done)
	defer close(s.events)
	if s.m.coders != nil {
		defer s.m.coders.end()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.inner.Run(s.own); err != nil {
			s.m.log.Info("connection ended", "call", s.offer.Call, "error", err)
		}
		if st := s.inner.Stats(); st.Call.Seconds > 0 {
			c := st.Call
			s.m.log.Info("call quality", "call", s.offer.Call, "grade", oneDecimal(c.Grade), "worst_tenth", oneDecimal(c.Worst), "seconds", c.Seconds,
				"rtt_ms", ms(c.RTT), "concealed_ms", ms(c.Concealed), "freezes", c.Freezes, "frozen_ms", ms(c.Frozen),
				"erle_db", int(c.ERLE), "cpu", oneDecimal(c.CPU), "heat", int(c.Heat),
				"codec", st.Near.Codec.String(), "coder", st.Near.Coder, "far_codec", st.Far.Codec.String())
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before session.Stats
	for {
		select {
		case <-tick.C:
			before = s.sample(before)
		case e := <-s.inner.Events():
			s.translate(e)
		case <-s.own.Done():
			<-ended
			return
		}
	}
}

// say tells package call, unless the session is over.
func (s *mediaSession) say(ev call.MediaEvent) {
	select {
	case s.events <- ev:
	case <-s.own.Done():
	}
}

func (s *mediaSession) translate(e session.Event) {
	switch e.Kind {
	case session.LocalCandidate:
		s.say(call.MediaEvent{Kind: call.MediaCandidate, Candidate: protocol.Candidate{
			Line: protocol.CandidateLine(e.Candidate.Candidate), Mid: e.Candidate.Mid, MLine: uint16(max(e.Candidate.MLine, 0)),
		}})
	case session.EndOfCandidates:
		s.say(call.MediaEvent{Kind: call.MediaCandidate})
	case session.Connected, session.Resumed:
		s.say(call.MediaEvent{Kind: call.MediaConnected})
	case session.Interrupted:
		s.say(call.MediaEvent{Kind: call.MediaDisconnected})
	case session.FarVideo:
		s.say(call.MediaEvent{Kind: call.MediaSeen})
	case session.CameraOpened:
		s.clear(isCamera)
		if s.kind(&s.cameraKind) == "synthetic" {
			s.hold(protocol.CaptureTestPicture)
		}
	case session.CameraLost:
		s.clear(isCamera)
		s.hold(cameraCode(e.Err))
	case session.SoundOpened:
		s.clear(isSound)
		if s.kind(&s.soundKind) == "synthetic" {
			s.hold(protocol.CaptureTestSound)
		}
	case session.SoundLost:
		s.clear(isSound)
		s.hold(soundCode(e.Err))
	case session.PicturePaused:
		s.hold(protocol.QualityPaused)
	case session.PictureResumed:
		s.clear(func(c protocol.Code) bool { return c == protocol.QualityPaused })
	case session.Failed:
		s.failed(e)
	case session.PathFound, session.FarSound, session.Sending:
	}
}

// failed reports the end of the connection. The caller's page closes its connection when it hangs up, and its signed end comes another
// way: it is given a moment, so that the record says who ended the call.
func (s *mediaSession) failed(e session.Event) {
	s.m.log.Info("media failed", "call", s.offer.Call, "stage", string(e.Stage), "error", e.Err)
	code := failureCode(e.Stage, e.Err)
	if errors.Is(e.Err, peer.ErrFarClosed) {
		select {
		case <-time.After(farClosedGrace):
		case <-s.own.Done():
			return
		}
		code = protocol.EndPageClosed
	}
	s.say(call.MediaEvent{Kind: call.MediaFailed, Code: code})
}

func failureCode(stage peer.Stage, err error) protocol.Code {
	switch {
	case errors.Is(err, peer.ErrSilent):
		return protocol.ICELost
	case errors.Is(err, peer.ErrCertificate):
		return protocol.AuthFingerprint
	case errors.Is(err, peer.ErrProfile), errors.Is(err, peer.ErrSuite):
		return protocol.DTLSWeak
	case stage == peer.StageICE:
		return protocol.ICEFailed
	case stage == peer.StageDTLS:
		return protocol.DTLSFailed
	}
	return protocol.MediaFailed
}

func isCamera(c protocol.Code) bool {
	return slices.Contains([]protocol.Code{
		protocol.CaptureNoCamera, protocol.CaptureCameraBusy, protocol.CaptureCameraFormat, protocol.CaptureCameraGone,
		protocol.CaptureCameraStuck, protocol.CaptureTestPicture, protocol.AnswerShutter, protocol.PanelMissing,
	}, c)
}

func isSound(c protocol.Code) bool {
	return slices.Contains([]protocol.Code{protocol.CaptureNoMicrophone, protocol.CaptureSoundBusy, protocol.CaptureSoundGone, protocol.CaptureTestSound}, c)
}

func (s *mediaSession) kind(k *string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *k
}

// hold says that a condition holds.
func (s *mediaSession) hold(c protocol.Code) {
	s.mu.Lock()
	s.holds = append(s.holds, c)
	s.mu.Unlock()
	s.say(call.MediaEvent{Kind: call.MediaCondition, Code: c, On: true})
}

// clear says that those conditions no longer hold.
func (s *mediaSession) clear(which func(protocol.Code) bool) {
	s.mu.Lock()
	gone := slices.Clone(s.holds)
	s.holds = slices.DeleteFunc(s.holds, which)
	s.mu.Unlock()
	for _, c := range gone {
		if which(c) {
			s.say(call.MediaEvent{Kind: call.MediaCondition, Code: c})
		}
	}
}

// retry spaces attempts to open a device that does not open. For one goroutine.
type retry struct {
	wait  time.Duration
	after time.Time
	err   error
}

// early returns the last attempt's error while it is too early for another.
func (r *retry) early() error {
	if r.err != nil && time.Now().Before(r.after) {
		return r.err
	}
	return nil
}

func (r *retry) failed(err error) error {
	r.wait = min(max(2*r.wait, retryFirst), retryLast)
	r.after, r.err = time.Now().Add(r.wait-retryFirst/2), err
	return err
}

func (r *retry) worked() { *r = retry{} }

// recorded asks the ledger for leave to open a device.
func (s *mediaSession) recorded(d call.Device) error {
	err := s.offer.Ledger.Opening(d)
	if d == call.Camera && s.cameraHung.Load() && errors.Is(err, call.ErrOpen) {
		// A driver hangs in the camera. It stays on the ledger, and may be opened again beside that: the same opening goes on.
		return nil
	}
	if me, ok := errors.AsType[*call.MediaError](err); ok {
		// What cannot be recorded does not happen: neither does this call.
		s.say(call.MediaEvent{Kind: call.MediaFailed, Code: me.Code})
	}
	return err
}

// openCamera implements session.Devices.OpenCamera.
func (s *mediaSession) openCamera(ctx context.Context) (session.Camera, error) {
	s.mu.Lock()
	real := s.realCamera
	s.mu.Unlock()
	kind := s.m.devices.camera().Kind
	if kind == "none" || (kind == "synthetic" && real) { // a camera that was pulled out comes back; nothing else takes its place
		return nil, camera.ErrNotFound
	}
	if err := s.camera.early(); err != nil {
		return nil, err
	}
	if err := s.m.devices.hands.ready(); err != nil { // nothing is opened, and nothing said in the ledger
		return nil, err
	}
	if err := s.recorded(call.Camera); err != nil {
		return nil, s.camera.failed(err)
	}
	cfg := camera.Config{Device: s.m.cfg.Devices.Camera, Width: s.m.cfg.Picture.Width, Height: s.m.cfg.Picture.Height, FPS: s.m.cfg.Picture.FPS}
	var source camera.Source
	var err error
	if kind == "synthetic" { // so that the light is on, and somebody can say no, in trials as well
		var lease *panel.Lease
		if lease, err = s.m.devices.hands.power(ctx); lease != nil {
			source = litBy(camera.TestPicture(cfg), lease)
		}
	}
	if kind == "v4l2" {
		source, err = settled(ctx, func(whole context.Context) (camera.Source, error) {
			if s.m.devices.hands != nil {
				whole = ctx // nobody waits for power, or for a camera to be on the bus, when the call is over
			}
			return s.m.devices.drivers().openCamera(whole, cfg)
		})
	}
	if source == nil && s.m.cfg.Devices.TestPicture && !real && ctx.Err() == nil && !isPanel(err) {
		if err != nil {
			s.m.log.Warn("the camera cannot be used, a test picture is sent", "error", err)
		}
		source, err, kind = camera.TestPicture(cfg), nil, "synthetic"
	}
	if source == nil && err == nil {
		err = ctx.Err() // the call ended before a test picture was made
	}
	if err != nil {
		if errors.Is(err, errStillOpen) {
			s.cameraHung.Store(true)
		} else if !s.cameraHung.Load() {
			s.offer.Ledger.Closed(call.Camera)
		}
		return nil, s.camera.failed(err)
	}
	s.camera.worked()
	info := source.Info()
	s.m.log.Info("camera open", "call", s.offer.Call, "kind", kind, "name", info.Name, "format", info.Format, "width", info.Width, "height", info.Height, "fps", info.FPS)
	s.mu.Lock()
	s.cameraKind, s.realCamera = kind, s.realCamera || kind == "v4l2"
	s.mu.Unlock()
	return &openCamera{openDevice[camera.Source]{Source: source, ledger: s.offer.Ledger, device: call.Camera, hung: &s.cameraHung}}, nil
}

// openSound implements session.Devices.OpenSound.
func (s *mediaSession) openSound(ctx context.Context) (session.Sound, error) {
	microphone, speaker, _, _ := s.m.devices.sound()
	if microphone.Kind == "none" && speaker.Kind == "none" {
		return nil, sound.ErrNotFound
	}
	if err := s.sound.early(); err != nil {
		return nil, err
	}
	captures := microphone.Kind != "none"
	if captures {
		if err := s.recorded(call.Microphone); err != nil {
			return nil, s.sound.failed(err)
		}
	}
	kind := "alsa"
	back := s.m.devices.mouth.lend()
	open := s.m.devices.drivers().openSound
	var device sound.Device
	var err error
	if microphone.Kind == "synthetic" {
		kind, device = "synthetic", sound.TestSound(nil)
	} else if device, err = settled(ctx, func(ctx context.Context) (sound.Device, error) {
		return open(ctx, s.m.devices.soundConfig(captures))
	}); err != nil && s.m.cfg.Devices.TestSound && ctx.Err() == nil {
		s.m.log.Warn("the sound card cannot be used, generated sound is sent", "error", err)
		kind, device, err = "synthetic", sound.TestSound(nil), nil
	}
	if err != nil {
		back()
		if captures && !errors.Is(err, errStillOpen) {
			s.offer.Ledger.Closed(call.Microphone)
		}
		return nil, s.sound.failed(err)
	}
	s.sound.worked()
	info := device.Info()
	var cancels *echo.Device
	if duplex, ok := device.(sound.Duplex); ok && info.Capture != "" && s.m.cfg.Sound.Echo == "on" {
		if canceller, err := echo.New(echo.Config{}); err != nil {
			s.m.log.Error("no echo canceller: the caller hears himself, and the room's noise", "error", err)
		} else {
			cancels = echo.Over(duplex, canceller)
			device = cancels
		}
	}
	s.m.log.Info("sound open", "call", s.offer.Call, "kind", kind, "capture", info.CaptureName, "playback", info.PlaybackName, "linked", info.Linked, "echo", cancels != nil)
	s.mu.Lock()
	s.soundKind = kind
	s.mu.Unlock()
	opened := &openSound{openDevice: openDevice[sound.Device]{Source: device}, far: s.m.far, mouth: s.m.devices.mouth, back: back, echo: cancels, knob: s.m.devices.knob(int(s.offer.Volume)), log: s.m.log.With("call", s.offer.Call)}
	if captures {
		opened.ledger, opened.device = s.offer.Ledger, call.Microphone
	}
	return opened, nil
}

// closer is what a device has to have to be on the ledger.
type closer interface{ Close() error }

var errStillOpen = errors.New("the device was opened too late and does not close")

// settled opens a device and waits for its driver, also when the call ends meanwhile: a driver that is left alone with it could open the
// device when ledger, record and screen have said that it is closed. While the driver hangs the device counts as open, and package call ends
// the process. An error wrapping errStillOpen says that the device is open.
func settled[T closer](ctx context.Context, open func(context.Context) (T, error)) (T, error) {
	var none T
	device, err := open(context.WithoutCancel(ctx))
	if err != nil {
		return none, err
	}
	if ctx.Err() == nil {
		return device, nil
	}
	if err := device.Close(); err != nil {
		return none, fmt.Errorf("%w: %w", errStillOpen, err)
	}
	return none, ctx.Err()
}

// openDevice tells the ledger when it was closed. If closing fails it does not: then nobody may believe that it is closed, also when the device
// was opened again meanwhile and that closes.
type openDevice[T closer] struct {
	Source T
	ledger call.Ledger // nil: this device is not on it
	device call.Device
	hung   *atomic.Bool // set when closing fails; nil: it is not opened again
	once   sync.Once
	err    error
}

// Close closes the device.
func (d *openDevice[T]) Close() error {
	d.once.Do(func() {
		d.err = d.Source.Close()
		if d.err != nil && d.hung != nil {
			d.hung.Store(true)
		}
		if d.err == nil && d.ledger != nil && (d.hung == nil || !d.hung.Load()) {
			d.ledger.Closed(d.device)
		}
	})
	return d.err
}

// openCamera is a camera on the ledger.
type openCamera struct{ openDevice[camera.Source] }

// Read implements session.Camera.
func (o *openCamera) Read() (image.Image, func(), error) { return o.Source.Read() }

// openSound adds what the terminal says itself, and lets the preview listen to what is played.
type openSound struct {
	openDevice[sound.Device]
	far   *tap
	mouth *mouth // nil: it says nothing
	back  func() // gives the loudspeaker back; nil: it was not borrowed
	given sync.Once
	echo  *echo.Device // nil: nothing is cancelled
	knob  *knobbed     // nil: there is none
	log   *slog.Logger
	said  sync.Once
}

// Close implements session.Sound.
func (o *openSound) Close() error {
	err := o.openDevice.Close()
	o.given.Do(func() {
		o.mouth.gone()
		if o.back != nil {
			o.back()
		}
	})
	if o.echo != nil {
		o.said.Do(func() {
			e := o.echo.Echo()
			o.log.Info("sound closed", "erle_db", int(e.ERLE), "echo_late_ms", e.Late.Milliseconds(), "learning", e.Learning, "frames", e.Frames, "failed", e.Failed)
		})
	}
	return err
}

// ERLE implements session.EchoMeter.
func (o *openSound) ERLE() float64 {
	if o.echo == nil {
		return 0
	}
	return o.echo.Echo().ERLE
}

// Read implements session.Sound.
func (o *openSound) Read(frame []int16) error { return o.Source.Read(frame) }

// Write implements session.Sound.
func (o *openSound) Write(frame []int16) error {
	if o.knob != nil {
		o.knob.apply(frame)
	}
	o.mouth.mix(frame)
	o.far.hear(frame)
	return o.Source.Write(frame)
}

// Report implements call.Session.
func (s *mediaSession) Report() call.Report {
	st := s.inner.Stats()
	c := st.Connection
	rtt := c.RTT
	if st.Call.Seconds > 0 {
		rtt = st.Call.RTT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := call.Report{
		Crypto:    protocol.Crypto{Suite: c.Suite, SRTP: c.SRTPProfile, Local: c.Fingerprint, Remote: c.FarFingerprint},
		LocalPath: c.LocalKind, RemotePath: c.RemoteKind, Camera: s.cameraKind, Sound: s.soundKind,
		Quality: protocol.Quality{
			RTT: ms(rtt), Jitter: ms(c.AudioIn.Jitter), PacketsLost: c.VideoIn.Lost + c.AudioIn.Lost,
			PacketsReceived: c.VideoIn.Packets + c.AudioIn.Packets, FramesSent: st.Near.Encoded, FramesDecoded: st.Far.Frames,
			Freezes: st.Far.Freezes, Concealed: st.Sound.Concealed * 10, BytesSent: c.VideoOut.Bytes + c.AudioOut.Bytes,
			BytesReceived: c.VideoIn.Bytes + c.AudioIn.Bytes,
			Frozen:        ms(st.Far.Frozen), Grade: graded(st.Call.Grade), Worst: graded(st.Call.Worst), ERLE: within(st.Call.ERLE, protocol.MostERLE),
			CPU: within(1000*st.Call.CPU, protocol.MostCPU), Heat: within(st.Call.Heat, protocol.MostHeat),
		},
	}
	for _, t := range []call.Stage{
		{Name: "ice", At: st.Times.Path}, {Name: "dtls", At: st.Times.Connected}, {Name: "camera", At: st.Times.CameraOpen},
		{Name: "sound", At: st.Times.SoundOpen}, {Name: "sending", At: st.Times.Sending}, {Name: "heard", At: st.Times.FarSound},
	} {
		if !t.At.IsZero() {
			r.Stages = append(r.Stages, t)
		}
	}
	if st.Times.Path.IsZero() {
		for _, p := range s.inner.Tried() {
			pair := protocol.Pair{Local: protocol.PathEnd(p.Local), Remote: protocol.PathEnd(p.Remote), State: p.State, Asked: p.Asked, Answered: p.Answered, Heard: p.Heard}
			if pair.Valid() && len(r.Pairs) < protocol.MaxPairs {
				r.Pairs = append(r.Pairs, pair)
			}
		}
	}
	if st.Near.Encoded > 0 {
		r.Quality.CodecOut = st.Near.Codec.String()
	}
	if st.Far.Frames > 0 {
		r.Quality.CodecIn = st.Far.Codec.String()
	}
	r.Series = s.quality.Series()
	return r
}

// graded is a mean opinion score in hundredths, 0 if there is none.
func graded(mos float64) uint64 {
	if mos == 0 {
		return 0
	}
	return min(max(within(100*mos, protocol.MostGrade), protocol.LeastGrade), protocol.MostGrade)
}

// within rounds v to what a record can hold.
func within(v float64, most uint64) uint64 {
	if !(v > 0) { // nor what is no number
		return 0
	}
	return uint64(min(math.Round(v), float64(most)))
}

// sample adds the second since before to the series of the quality, once there is a connection, and returns the numbers now.
func (s *mediaSession) sample(before session.Stats) session.Stats {
	st := s.inner.Stats()
	drawn := s.veiled.Load()
	skip := drawn || s.wasVeiled // a second in part behind a curtain says as little of the line as a whole one
	if s.wasVeiled = drawn; skip || before.Times.Connected.IsZero() {
		return st
	}
	now, was := st.Connection, before.Connection
	since := func(now, was uint64) uint64 { return now - min(now, was) }
	lost := since(now.VideoIn.Lost+now.AudioIn.Lost, was.VideoIn.Lost+was.AudioIn.Lost)
	due := lost + since(now.VideoIn.Packets+now.AudioIn.Packets, was.VideoIn.Packets+was.AudioIn.Packets)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quality.Add(protocol.Sample{
		RTT: ms(now.RTT), Loss: 1000 * lost / max(due, 1), Jitter: ms(now.AudioIn.Jitter),
		Out:    since(now.VideoOut.Bytes+now.AudioOut.Bytes, was.VideoOut.Bytes+was.AudioOut.Bytes) / 125,
		In:     since(now.VideoIn.Bytes+now.AudioIn.Bytes, was.VideoIn.Bytes+was.AudioIn.Bytes) / 125,
		Frames: since(st.Far.Frames, before.Far.Frames),
		Frozen: within(1000*st.Second.FrozenFor, 1000), Concealed: within(1000*st.Second.Concealed, 1000), Grade: graded(st.Second.Grade),
		ERLE: within(st.Second.ERLE, protocol.MostERLE), CPU: within(1000*st.Second.CPU, protocol.MostCPU), Heat: within(st.Second.Heat, protocol.MostHeat),
	})
	return st
}

func ms(d time.Duration) uint64 { return uint64(max(d, 0).Milliseconds()) }

func oneDecimal(v float64) float64 { return math.Round(v*10) / 10 }

// relayDialer connects to the clinic's relay by TLS on the clinic's own port: the server is verified like the clinic itself, and told apart
// by ALPN (RFC 7443).
type relayDialer struct{ id *identity.Identity }

var _ interface {
	proxy.Dialer
	proxy.ContextDialer
} = relayDialer{}

// Dial implements proxy.Dialer.
func (d relayDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext implements proxy.ContextDialer, so that a call that is hung up does not wait for a relay that does not answer.
func (d relayDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	cfg := d.id.TLS(protocol.ALPNTURN)
	if cfg == nil {
		return nil, errors.New("dial relay: the terminal is not set up")
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: cfg}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial relay: %w", err)
	}
	return conn, nil
}
