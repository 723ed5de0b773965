package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/panel"
	"vindu/media/codec"
	"vindu/media/peer"
	"vindu/media/session"
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
		m.Start(0, 0)
		time.AfterFunc(chimeFor, func() {
			if s.own.Err() == nil { // else the call's end has stopped it, and what rings is another call
				m.Stop()
			}
		})
	}
}

// Close implements call.Session. Whether camera and microphone are closed the ledger knows; a connection that hangs is no danger, and is not waited for: package call takes
// what is not closed in time for a device, and ends the program.
func (s *mediaSession) Close(ctx context.Context) error {
	closed := s.inner.Close(ctx)
	s.m.profile.stop()
	s.stop()
	s.m.screen.Far(nil)
	s.m.screen.Self(nil)
	if closed.Err != nil {
		s.m.log.Warn("session did not close cleanly", "call", s.offer.Call, "error", closed.Err)
		return nil
	}
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
		if errors.Is(e.Err, panel.ErrAway) && s.m.cfg.Panel.EndsCall() {
			s.m.log.Warn("the panel is lost, and the call ends with it", "call", s.offer.Call)
			s.say(call.MediaEvent{Kind: call.MediaFailed, Code: protocol.PanelMissing})
		}
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
