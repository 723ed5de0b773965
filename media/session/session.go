package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vindu/media/grade"
	"vindu/media/jitter"
	"vindu/media/peer"
)

const eventBuffer = 256

// Session is one call's media.
//
//	Prepare ──Run──► connecting ──► connected, caller shown ──Open──► talking ──► Close (or the connection fails)
//	                 (Open may also come while connecting; then everything starts when it can)
//
// Run owns every goroutine. The devices have a context of their own inside it, which ends first.
type Session struct {
	cfg  Config
	dev  Devices
	log  *slog.Logger
	peer *peer.Peer

	events        chan Event
	eventsDropped atomic.Uint64

	mu      sync.Mutex
	state   state
	times   Times
	opened  chan struct{} // closed by Open
	secure  chan struct{} // closed when media can flow
	running bool

	stop        context.CancelFunc // of Run, the first time
	stopDevices context.CancelFunc
	devices     context.Context // ends when devices must close; made by Prepare, so that Close works before Run
	whole       context.Context
	devicesDone chan struct{} // closed when the devices are closed for good
	ended       chan struct{} // closed when Run has returned

	veil   *veil
	camera device
	sound  device
	slot   *slot
	far    *farVideo
	jitter *jitter.Buffer
	volume int
	keys   atomic.Bool  // the far end wants a keyframe
	echo   atomic.Value // of the sound card that is open: meter

	near  nearStats
	meter grade.Meter  // guarded by mu
	now   grade.Second // guarded by mu
	start time.Time    // zero of the media clocks
}

// state is how far a session has come.
type state int

const (
	fresh state = iota
	answered
	over
)

// meter is an EchoMeter, or none.
type meter struct{ EchoMeter }

// device is when a device was opened and closed.
type device struct {
	mu             sync.Mutex
	isOpen         bool
	busy           int // readers that have not ended
	opened, closed time.Time
	tried          chan struct{} // closed after the first try
	once           sync.Once
}

func (d *device) open(at time.Time) {
	d.mu.Lock()
	d.isOpen, d.opened = true, at
	d.mu.Unlock()
}

func (d *device) shut(at time.Time) {
	d.mu.Lock()
	d.isOpen, d.closed = false, at
	d.mu.Unlock()
}

// enter counts a reader in.
func (d *device) enter() {
	d.mu.Lock()
	d.busy++
	d.mu.Unlock()
}

// leave counts a reader out. A device that was given up is closed when the last has left it.
func (d *device) leave(at time.Time) {
	d.mu.Lock()
	if d.busy--; !d.isOpen {
		d.closed = at
	}
	d.mu.Unlock()
}

// hanging is how many readers have not ended.
func (d *device) hanging() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.busy
}

func (d *device) attempted() { d.once.Do(func() { close(d.tried) }) }

// Prepare answers an offer. It opens no device and sends nothing but what finds addresses. The caller must Close the Session.
func (f *Factory) Prepare(ctx context.Context, o Offer) (*Session, error) {
	began := time.Now()
	late, err := jitter.New()
	if err != nil {
		return nil, fmt.Errorf("prepare call: %w", err)
	}
	s := &Session{
		cfg: f.cfg, dev: f.dev, log: f.log,
		events:      make(chan Event, eventBuffer),
		opened:      make(chan struct{}),
		secure:      make(chan struct{}),
		devicesDone: make(chan struct{}),
		ended:       make(chan struct{}),
		camera:      device{tried: make(chan struct{})},
		sound:       device{tried: make(chan struct{})},
		veil:        newVeil(),
		slot:        newSlot(),
		jitter:      late,
		volume:      o.Volume,
		start:       began,
	}
	s.times.Offer = began
	s.far = newFarVideo()
	base := context.WithoutCancel(ctx)
	s.whole, s.stop = context.WithCancel(base)
	s.devices, s.stopDevices = context.WithCancel(s.whole)

	conf := peer.Config{
		ICEServers: o.ICEServers, RelayOnly: o.RelayOnly, TURNDialer: f.cfg.TURNDialer,
		IncludeLoopback: f.cfg.IncludeLoopback, Interfaces: f.cfg.Interfaces,
		StartBitrate: f.cfg.StartBitrate, MinBitrate: f.cfg.MinBitrate, MaxBitrate: f.cfg.MaxBitrate,
		MaxVideoIn: max(f.cfg.MaxVideoIn, 0), Video: f.cfg.kinds(), Log: f.log,
	}
	if s.peer, err = peer.Accept(ctx, conf, o.SDP, sink{s}); err != nil {
		s.stop()
		_ = late.Close()
		return nil, fmt.Errorf("prepare call: %w", err)
	}
	s.times.Answer = time.Now()
	return s, nil
}

// AnswerSDP returns the answer.
func (s *Session) AnswerSDP() peer.SDP { return s.peer.Answer() }

// Fingerprint returns the SHA-256 of our DTLS certificate, as the answer announces it.
func (s *Session) Fingerprint() [32]byte { return s.peer.Fingerprint() }

// AddCandidate adds a candidate of the caller's. Errors wrap peer.ErrCandidate or peer.ErrClosed.
func (s *Session) AddCandidate(candidate, mid string, mline int) error {
	return s.peer.AddCandidate(peer.Candidate{Candidate: candidate, Mid: mid, MLine: mline})
}

// Restart answers an offer for another path of this connection; see peer.Peer.Restart. Who sent it the caller has to have proven.
func (s *Session) Restart(ctx context.Context, offer peer.SDP) (peer.SDP, error) {
	answer, err := s.peer.Restart(ctx, offer)
	if err != nil {
		return "", fmt.Errorf("look for another path: %w", err)
	}
	return answer, nil
}

// Events returns what happens, in order. It is never closed. If nobody reads, what does not fit is counted and lost.
func (s *Session) Events() <-chan Event { return s.events }

func (s *Session) emit(e Event) {
	e.At = time.Now()
	select {
	case s.events <- e:
	default:
		s.eventsDropped.Add(1)
	}
}

// stage notes when a stage was first reached and reports whether it was now.
func (s *Session) stage(t *time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.IsZero() {
		return false
	}
	*t = time.Now()
	return true
}

// Run serves the call until ctx ends, Close is called, or the connection fails. When it returns, devices and connection are closed. It
// returns nil after Close or the end of ctx, else why the connection failed. It may be called once.
func (s *Session) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running || s.state == over {
		s.mu.Unlock()
		return fmt.Errorf("run call: %w", ErrClosed)
	}
	s.running = true
	s.mu.Unlock()
	defer close(s.ended)
	unhook := context.AfterFunc(ctx, s.stop)
	defer unhook()

	var devices, rest sync.WaitGroup
	failed := make(chan error, 1)
	rest.Go(func() {
		err := s.peer.Run(s.whole)
		s.stop() // a call without a connection keeps no camera open
		failed <- err
	})
	rest.Go(func() { s.follow(s.whole) })
	rest.Go(func() { s.far.run(s.whole, s) })
	rest.Go(func() { s.measure(s.whole) })
	devices.Go(func() { s.runCamera(s.devices) })
	devices.Go(func() { s.runEncoder(s.devices) })
	devices.Go(func() { s.runSound(s.devices) })
	devices.Wait()
	close(s.devicesDone)
	rest.Wait()
	s.drain()
	s.mu.Lock()
	s.state = over
	s.mu.Unlock()
	if err := s.jitter.Close(); err != nil {
		return fmt.Errorf("run call: %w", err)
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("run call: %w", err)
	}
	return nil
}

// follow turns the peer's events into ours.
func (s *Session) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.peer.Events():
			s.translate(e)
		}
	}
}

// drain passes on what the peer said last.
func (s *Session) drain() {
	for {
		select {
		case e := <-s.peer.Events():
			s.translate(e)
		default:
			return
		}
	}
}

func (s *Session) translate(e peer.Event) {
	out := Event{Candidate: e.Candidate, Stage: e.Stage, Err: e.Err}
	switch e.Kind {
	case peer.LocalCandidate:
		out.Kind = LocalCandidate
	case peer.EndOfCandidates:
		out.Kind = EndOfCandidates
	case peer.PathFound:
		out.Kind = PathFound
		s.stage(&s.times.Path)
	case peer.Secure:
		out.Kind = Connected
		s.keys.Store(true)
		if s.stage(&s.times.Connected) {
			close(s.secure)
		}
	case peer.Interrupted:
		out.Kind = Interrupted
	case peer.Resumed:
		out.Kind = Resumed
	case peer.Failed:
		out.Kind = Failed
	}
	s.emit(out)
}

// Open says that the call was answered: camera, microphone and loudspeaker are opened. It returns when each has been tried once. A device that does
// not open is an event, not an error; Open fails with ErrClosed if the session is over, or with ctx's error.
func (s *Session) Open(ctx context.Context) error {
	s.mu.Lock()
	if s.state == over || s.devices.Err() != nil {
		s.mu.Unlock()
		return fmt.Errorf("open call: %w", ErrClosed)
	}
	if s.state == fresh {
		s.state = answered
		s.times.Opened = time.Now()
		close(s.opened)
	}
	s.mu.Unlock()
	for _, tried := range []chan struct{}{s.camera.tried, s.sound.tried} {
		select {
		case <-tried:
		case <-s.devices.Done():
			return fmt.Errorf("open call: %w", ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("open call: %w", ctx.Err())
		}
	}
	return nil
}

// Close ends the call: first camera and microphone, then the connection. When it returns without Err, no device is open and every
// goroutine has ended. It may be called again, in any state.
func (s *Session) Close(ctx context.Context) Closed {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CloseLimit)
	defer cancel()
	s.mu.Lock()
	s.state = over
	running := s.running
	s.mu.Unlock()
	s.stopDevices()

	var errs []error
	if running {
		select {
		case <-s.devicesDone:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("camera or sound: %w", ErrStuck))
		}
	}
	s.stop()
	if err := s.peer.Close(ctx); err != nil {
		errs = append(errs, fmt.Errorf("connection: %w", ErrStuck))
	}
	if running {
		select {
		case <-s.ended:
		case <-ctx.Done():
			if len(errs) == 0 {
				errs = append(errs, fmt.Errorf("call: %w", ErrStuck))
			}
		}
	} else {
		s.closeUnrun()
	}
	c := Closed{Err: errors.Join(errs...)}
	c.CameraClosed, c.MicrophoneClosed = s.camera.last(), s.sound.last()
	return c
}

// closeUnrun frees what Run would have freed.
func (s *Session) closeUnrun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		s.running = true // so that Run refuses
		_ = s.jitter.Close()
		close(s.ended)
		close(s.devicesDone)
	}
}

// last is when the device was closed; zero if it never was open, still is, or a driver hangs in it.
func (d *device) last() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isOpen || d.busy > 0 {
		return time.Time{}
	}
	return d.closed
}

// sink takes what the peer receives.
type sink struct{ s *Session }

func (k sink) Video(f peer.VideoFrame) {
	if k.s.veil.isDrawn() {
		return
	}
	if !k.s.far.put(f) {
		k.s.peer.RequestKeyframe()
	}
}

func (k sink) Audio(a peer.AudioPacket) {
	k.s.jitter.Push(jitter.Packet{Data: a.Data, Seq: a.Seq, Timestamp: a.Timestamp}, time.Now())
}

func (k sink) KeyframeWanted() { k.s.keys.Store(true) }
