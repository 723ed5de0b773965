// Package calltest has stand-ins for what device/call needs, for tests: media that open no device, an outbox and a store in
// memory, a clinic that signs, a clinician with a passkey. What they stand for is tested where it lives.
package calltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

// Media makes Sessions. The zero Media works.
type Media struct {
	PrepareErr error
	Hold       chan struct{} // if not nil, Prepare waits until it is closed or its context ends

	// NewSession, if not nil, changes each session before it is used.
	NewSession func(*Session)
	Conference bool // sessions are Conferences

	mu       sync.Mutex
	sessions []*Session
	opened   []call.Device
}

// Opened returns every device that any session has opened so far.
func (m *Media) Opened() []call.Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.opened)
}

// Prepare implements call.Media.
func (m *Media) Prepare(ctx context.Context, offer call.Offer) (call.Session, error) {
	if m.Hold != nil {
		select {
		case <-m.Hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.PrepareErr != nil {
		return nil, m.PrepareErr
	}
	s := &Session{Offer: offer, media: m, events: make(chan call.MediaEvent, 16)}
	if m.NewSession != nil {
		m.NewSession(s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions = append(m.sessions, s)
	if m.Conference {
		return &Conference{s}, nil
	}
	return s, nil
}

// Conference is a Session that others may join.
type Conference struct{ *Session }

// Join implements call.Conference.
func (c *Conference) Join(_ context.Context, offer call.Offer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.JoinErr != nil {
		return c.JoinErr
	}
	c.others = append(c.others, offer)
	return nil
}

// Leave implements call.Conference.
func (c *Conference) Leave(_ context.Context, remote protocol.Fingerprint) error {
	if c.HoldLeave != nil {
		<-c.HoldLeave
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others = slices.DeleteFunc(c.others, func(o call.Offer) bool { return o.Remote == remote })
	return c.LeaveErr
}

// Receiving returns to whom the session's picture and sound go, the caller first, while something is open.
func (s *Session) Receiving() []protocol.Party {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		return nil
	}
	parties := slices.Clone(s.Offer.Parties)
	for _, o := range s.others {
		parties = append(parties, o.Parties...)
	}
	return parties
}

// Chimes returns how often somebody was told by a sound.
func (s *Session) Chimes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chimes
}

// Sessions returns those made so far.
func (m *Media) Sessions() []*Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sessions)
}

// Session is a session without devices. It keeps the ledger as a real one has to.
type Session struct {
	Offer     call.Offer
	OpenErr   error
	HoldOpen  chan struct{} // if not nil, Open waits, with the camera open, until it is closed or its context ends
	HoldClose chan struct{} // if not nil, Close waits until it is closed, whatever its context says
	Deaf      bool          // Open does not look at its context
	Forget    bool          // Close forgets to close the camera
	JoinErr   error         // of a Conference
	// HoldCurtain, if not nil, has Curtain wait until it is closed, whatever its context says.
	HoldCurtain chan struct{}
	LeaveErr    error         // so, too
	HoldLeave   chan struct{} // if not nil, its Leave waits until it is closed, whatever its context says

	RestartErr  error
	HoldRestart chan struct{} // if not nil, Restart waits until it is closed

	// Opened, if not nil, is told what the ledger said to an opening.
	Opened func(call.Device, error)

	media  *Media
	events chan call.MediaEvent

	mu         sync.Mutex
	open       map[call.Device]bool
	candidates []protocol.Candidate
	closed     bool
	others     []call.Offer // who joined
	chimes     int
	restarts   []protocol.SDP
	begun      bool          // Open was called
	drawn      chan struct{} // closed when the curtain is opened; nil: none is drawn
}

// Key is what every Session shows as its certificate.
var Key = protocol.Fingerprint{0xce, 0x27}

// SDP implements call.Session.
func (s *Session) SDP() protocol.SDP {
	return protocol.SDP("v=0\r\na=fingerprint:sha-256 " + Key.String() + "\r\n")
}

// Key implements call.Session.
func (s *Session) Key() protocol.Fingerprint { return Key }

// Events implements call.Session.
func (s *Session) Events() <-chan call.MediaEvent { return s.events }

// Say makes an event happen.
func (s *Session) Say(ev call.MediaEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.events <- ev
	}
}

// AddCandidate implements call.Session.
func (s *Session) AddCandidate(c protocol.Candidate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.candidates = append(s.candidates, c)
	return nil
}

// Candidates returns those added so far.
func (s *Session) Candidates() []protocol.Candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.candidates)
}

// IsOpen tells whether a device is open.
func (s *Session) IsOpen(d call.Device) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[d]
}

// OpenDevice opens one device as Open does, for openings in the middle of a call.
func (s *Session) OpenDevice(d call.Device) error {
	err := s.Offer.Ledger.Opening(d)
	if s.Opened != nil {
		s.Opened(d, err)
	}
	if err != nil {
		return err
	}
	s.media.mu.Lock()
	s.media.opened = append(s.media.opened, d)
	s.media.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[call.Device]bool{}
	}
	s.open[d] = true
	return nil
}

// CloseDevice closes one device.
func (s *Session) CloseDevice(d call.Device) {
	s.mu.Lock()
	was := s.open[d]
	delete(s.open, d)
	s.mu.Unlock()
	if was {
		s.Offer.Ledger.Closed(d)
	}
}

// Open implements call.Session.
func (s *Session) Open(ctx context.Context) error {
	if s.OpenErr != nil {
		return s.OpenErr
	}
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	if err := s.OpenDevice(call.Camera); err != nil {
		return err
	}
	if s.HoldOpen != nil {
		gone := ctx.Done()
		if s.Deaf {
			gone = nil
		}
		select {
		case <-s.HoldOpen:
		case <-gone:
			return ctx.Err()
		}
	}
	s.mu.Lock()
	drawn := s.drawn
	s.mu.Unlock()
	if drawn != nil { // Curtain opens what is missing
		select {
		case <-drawn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.OpenDevice(call.Microphone)
}

// Restart implements call.Movable.
func (s *Session) Restart(_ context.Context, offer protocol.SDP) (protocol.SDP, error) {
	if s.HoldRestart != nil {
		<-s.HoldRestart
	}
	if s.RestartErr != nil {
		return "", s.RestartErr
	}
	s.mu.Lock()
	s.restarts = append(s.restarts, offer)
	s.mu.Unlock()
	s.Say(call.MediaEvent{Kind: call.MediaDisconnected})
	return "answer to " + offer, nil
}

// Restarts returns the offers for another path that were taken.
func (s *Session) Restarts() []protocol.SDP {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.restarts)
}

// Close implements call.Session.
func (s *Session) Close(context.Context) error {
	if s.HoldClose != nil {
		<-s.HoldClose
	}
	if !s.Forget {
		s.CloseDevice(call.Camera)
	}
	s.CloseDevice(call.Microphone)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others = nil
	if !s.closed {
		s.closed = true
		close(s.events)
	}
	return nil
}

// Curtain implements call.Veiled.
func (s *Session) Curtain(_ context.Context, drawn bool) error {
	if s.HoldCurtain != nil {
		<-s.HoldCurtain
	}
	s.mu.Lock()
	begun, was := s.begun, s.drawn
	s.drawn = nil
	if drawn {
		s.drawn = make(chan struct{})
	}
	s.mu.Unlock()
	if was != nil {
		defer close(was)
	}
	if !drawn && !begun {
		return nil
	}
	if !drawn {
		return errors.Join(s.OpenDevice(call.Camera), s.OpenDevice(call.Microphone))
	}
	if !s.Forget {
		s.CloseDevice(call.Camera)
	}
	s.CloseDevice(call.Microphone)
	return nil
}

// Chime implements call.Veiled and call.Conference.
func (s *Session) Chime() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chimes++
}

// Report implements call.Session.
func (s *Session) Report() call.Report {
	return call.Report{
		Crypto:    protocol.Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", SRTP: "SRTP_AEAD_AES_256_GCM", Local: Key, Remote: s.Offer.Remote},
		LocalPath: "host", RemotePath: "host", Camera: "synthetic", Sound: "synthetic",
	}
}

// Outbox keeps events in memory.
type Outbox struct {
	Before func(kind string) // called at the beginning of Append, if not nil: a disk that takes its time

	mu     sync.Mutex
	err    error
	events []any
}

// Append implements call.Outbox.
func (o *Outbox) Append(kind string, body []byte) error {
	if o.Before != nil {
		o.Before(kind)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	e := protocol.Event{Version: protocol.Version, Epoch: protocol.NewNonce(), Seq: 1, At: 1, Kind: kind, Body: body}
	m, err := e.Open()
	if err != nil {
		return err
	}
	o.events = append(o.events, m)
	return nil
}

// Break makes Append fail from now on; nil mends it.
func (o *Outbox) Break(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

// Events returns the decoded events of type T, such as *protocol.CallRecord.
func Events[T any](o *Outbox) []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []T
	for _, e := range o.events {
		if t, ok := e.(T); ok {
			found = append(found, t)
		}
	}
	return found
}

// Sender keeps messages in memory.
type Sender struct {
	mu   sync.Mutex
	err  error
	sent []*protocol.CallOut
}

// PublishCall implements call.Sender.
func (s *Sender) PublishCall(_ context.Context, m *protocol.CallOut) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if _, err := protocol.Encode(m); err != nil {
		return err
	}
	s.sent = append(s.sent, m)
	return nil
}

// Break makes PublishCall fail from now on; nil mends it.
func (s *Sender) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Sent returns the messages sent so far.
func (s *Sender) Sent() []*protocol.CallOut {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// Store keeps its document in memory.
type Store struct {
	mu  sync.Mutex
	doc []byte
	err error
	n   int
}

// Saves returns how often something was kept.
func (s *Store) Saves() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Load implements call.Store.
func (s *Store) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.doc), s.err
}

// Save implements call.Store.
func (s *Store) Save(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.doc = slices.Clone(b)
	s.n++
	return nil
}

// Break makes Load and Save fail from now on; nil mends it.
func (s *Store) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// View keeps what was shown.
type View struct {
	mu    sync.Mutex
	shown []call.Status
}

// Show implements call.View.
func (v *View) Show(s call.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shown = append(v.shown, s)
}

// Last returns what is shown now.
func (v *View) Last() call.Status {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.shown) == 0 {
		return call.Status{}
	}
	return v.shown[len(v.shown)-1]
}

// Policy always decides the same.
type Policy call.Decision

// Decide implements call.Policy.
func (p Policy) Decide(*call.Proof, time.Time) call.Decision { return call.Decision(p) }

// ErrFull stands for a full disk.
var ErrFull = fmt.Errorf("write: %w", syscall.ENOSPC)
