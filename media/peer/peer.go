package peer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/net/proxy"

	"vindu/media/codec"
)

// Config says how a connection is made. Zero values take the default that is named.
type Config struct {
	ICEServers []ICEServer
	RelayOnly  bool // use no path but through a TURN server
	// TURNDialer makes the connections to TURN servers by TCP or TLS ("turn:host:443?transport=tcp" or "turns:host:443"); what it returns
	// is spoken TURN over as it is, so it makes the TLS. The connection's LocalAddr must be a *net.TCPAddr. nil dials plain TCP.
	TURNDialer proxy.Dialer
	// IncludeLoopback offers 127.0.0.1 too, for a far end on the same machine.
	IncludeLoopback bool
	// Interfaces chooses network interfaces by name; nil takes all.
	Interfaces func(name string) bool

	// Bandwidth estimate, bit/s, of all that is sent. 600,000, 60,000 and 4,000,000
	StartBitrate, MinBitrate, MaxBitrate int
	// MaxVideoIn asks the far end to send no more video than this, bit/s (RFC 3890). 0 asks for nothing.
	MaxVideoIn int
	// Video is which codecs the picture may have, what we had rather first. The far end sends what is first of those that it has, and so do
	// we. VP8, then H.264
	Video []codec.Kind

	Log *slog.Logger // nil logs nothing
}

const (
	eventBuffer = 256
	// hostWait is how long Accept waits for local addresses, so that the answer carries them. They are there at once or never.
	hostWait     = 30 * time.Millisecond
	hostQuiet    = 4 * time.Millisecond
	closeLimit   = 3 * time.Second
	measureEvery = time.Second
	causeWait    = 500 * time.Millisecond
)

// Peer is the terminal's end of one connection.
//
//	Accept ──► Run: checking ──PathFound──► handshake ──Secure──► media ⇄ Interrupted/Resumed
//	                    └────────────┴──────── Failed ◄─┴────────────────────┘
//
// Run owns every goroutine here; pion's belong to the PeerConnection and end with it.
type Peer struct {
	log   *slog.Logger
	sink  Sink
	pc    *webrtc.PeerConnection
	offer offer
	quiet quiet
	hello hello

	answer      SDP
	fingerprint [32]byte
	bandwidth   *bandwidth
	resender    *resender

	alive context.Context // until Close; for pion's callbacks, which get no context
	end   context.CancelFunc

	events        chan Event
	eventsDropped atomic.Uint64
	poke          chan struct{}            // a state of pion's has changed
	tracks        chan *webrtc.RTPReceiver // one for each track that arrives
	gathered      chan struct{}            // closed by the first candidate
	gatheredOnce  sync.Once
	candidates    atomic.Int32
	refused       atomic.Uint64

	video       *videoSender
	audio       *track
	audioOffset uint32
	senders     []sender

	videoIn, audioIn             stream
	videoReported, audioReported reported
	videoSSRC                    atomic.Uint32
	audioType                    atomic.Uint32
	videoTypes                   []videoType // of what was negotiated; what we send is first
	keys                         keyframes
	plis, nacksSent, nacksHeard  atomic.Uint64
	roundTrip                    atomic.Int64
	pair                         atomic.Pointer[webrtc.ICECandidatePair]
	tried                        atomic.Pointer[[]Pair]
	way                          atomic.Pointer[way]
	looking                      sync.Mutex // over shutting, and while pion's statistics are read
	shutting                     bool
	proved, hearing              atomic.Bool

	restarting sync.Mutex
	first      SDP      // the offer that the connection was made by
	names      []string // ICE credentials of the far end's that were used; guarded by restarting
	maxVideoIn int
	restarts   atomic.Int64
	another    atomic.Pointer[search] // the last that was asked for

	runMu   sync.Mutex
	running bool
	ended   chan struct{} // closed when Run has returned
	closing sync.Once
	closed  chan struct{} // closed when pion has let go of everything
}

// Accept checks an offer and makes the answer to it. Nothing is sent yet but what finds addresses. The errors wrap ErrOffer
// if the offer is at fault. The caller must Close the Peer, also if it never calls Run.
func Accept(ctx context.Context, cfg Config, o SDP, sink Sink) (*Peer, error) {
	checked, err := checkOffer(o)
	if err != nil {
		return nil, err
	}
	cfg.defaults()
	p := &Peer{
		log:      cfg.Log,
		sink:     sink,
		offer:    checked,
		first:    o,
		events:   make(chan Event, eventBuffer),
		poke:     make(chan struct{}, 1),
		tracks:   make(chan *webrtc.RTPReceiver, maxSections),
		gathered: make(chan struct{}),
		ended:    make(chan struct{}),
		closed:   make(chan struct{}),

		audioOffset: randomUint32(),
	}
	if d, err := parse(o); err == nil {
		p.names = []string{credentials(d)}
	}
	p.maxVideoIn = cfg.MaxVideoIn
	p.quiet.known = make(chan struct{})
	p.keys.wake = make(chan time.Duration, 2)
	p.audioType.Store(payloadOpus)
	p.alive, p.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := p.build(ctx, cfg, o); err != nil {
		p.end()
		if p.pc != nil {
			p.shut()
			_ = p.await(closeLimit)
		}
		return nil, err
	}
	return p, nil
}

func (cfg *Config) defaults() {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MinBitrate == 0 {
		cfg.MinBitrate = 60_000
	}
	if cfg.MaxBitrate == 0 {
		cfg.MaxBitrate = 4_000_000
	}
	if cfg.Video == nil {
		cfg.Video = []codec.Kind{codec.VP8, codec.H264}
	}
	if cfg.StartBitrate == 0 {
		cfg.StartBitrate = 600_000
	}
	cfg.StartBitrate = min(max(cfg.StartBitrate, cfg.MinBitrate), cfg.MaxBitrate)
}

// build makes the PeerConnection and the answer.
func (p *Peer) build(ctx context.Context, cfg Config, o SDP) error {
	cert, err := certificate()
	if err != nil {
		return err
	}
	api, err := p.engine(cfg)
	if err != nil {
		return err
	}
	conf := webrtc.Configuration{
		Certificates:  []webrtc.Certificate{*cert},
		BundlePolicy:  webrtc.BundlePolicyMaxBundle,
		RTCPMuxPolicy: webrtc.RTCPMuxPolicyRequire,
		SDPSemantics:  webrtc.SDPSemanticsUnifiedPlan,
	}
	if cfg.RelayOnly {
		conf.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	for _, s := range cfg.ICEServers {
		conf.ICEServers = append(conf.ICEServers, webrtc.ICEServer{
			URLs: s.URLs, Username: s.Username, Credential: s.Credential, CredentialType: webrtc.ICECredentialTypePassword,
		})
	}
	if p.pc, err = api.NewPeerConnection(conf); err != nil {
		return fmt.Errorf("make connection: %w", err)
	}
	p.listen()

	p.video = newVideoSender(newTrack(webrtc.RTPCodecTypeVideo, webrtc.MimeTypeVP8))
	p.video.setRate(cfg.StartBitrate)
	p.audio = newTrack(webrtc.RTPCodecTypeAudio, webrtc.MimeTypeOpus)
	for _, t := range []struct {
		offered bool
		track   *track
	}{{p.offer.audio, p.audio}, {p.offer.video, p.video.track}} {
		if !t.offered {
			continue
		}
		s, err := p.pc.AddTrack(t.track)
		if err != nil {
			return fmt.Errorf("add %s: %w", t.track.kind, err)
		}
		p.senders = append(p.senders, sender{s, t.track})
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(o)}); err != nil {
		return refuse(err)
	}
	if err := p.prefer(cfg.Video); err != nil {
		return err
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return refuse(err)
	}
	if p.fingerprint, err = OfferFingerprint(SDP(answer.SDP)); err != nil {
		return fmt.Errorf("read own answer: %w", err)
	}
	if err := p.pc.SetLocalDescription(answer); err != nil {
		return refuse(err)
	}
	p.negotiated()
	p.awaitHosts(ctx)
	p.answer = limitVideo(SDP(p.pc.LocalDescription().SDP), cfg.MaxVideoIn)
	return nil
}

// refuse makes an error of pion's fit for logs: pion quotes the offer.
func refuse(err error) error {
	text := err.Error()
	for _, known := range []error{
		webrtc.ErrSessionDescriptionMissingIceUfrag, webrtc.ErrSessionDescriptionMissingIcePwd,
		webrtc.ErrSessionDescriptionConflictingIceUfrag, webrtc.ErrSessionDescriptionConflictingIcePwd,
		webrtc.ErrUnsupportedCodec,
	} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %s", ErrOffer, known)
		}
	}
	if i := strings.IndexAny(text, ":\n\"`"); i >= 0 {
		text = text[:i]
	}
	return fmt.Errorf("%w: %.80s", ErrOffer, text)
}

// negotiated takes over the payload type of sound that the offer prescribes.
func (p *Peer) negotiated() {
	for _, t := range p.pc.GetTransceivers() {
		for _, c := range t.Receiver().GetParameters().Codecs {
			if strings.EqualFold(c.MimeType, webrtc.MimeTypeOpus) {
				p.audioType.Store(uint32(c.PayloadType))
			}
		}
	}
}

// awaitHosts waits until the first addresses are there and no more follow.
func (p *Peer) awaitHosts(ctx context.Context) {
	timer := time.NewTimer(hostWait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-p.gathered:
	}
	timer.Reset(hostQuiet)
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// limitVideo asks the far end for no more than bitrate of video.
func limitVideo(s SDP, bitrate int) SDP {
	if bitrate <= 0 {
		return s
	}
	at := strings.Index(string(s), "m=video ")
	if at < 0 {
		return s
	}
	// The bandwidth line comes after the connection line (RFC 8866 §5).
	c := strings.Index(string(s[at:]), "\r\nc=")
	if c < 0 {
		return s
	}
	at += c + 2
	line := strings.Index(string(s[at:]), "\r\n")
	if line < 0 {
		return s
	}
	at += line + 2
	return s[:at] + SDP(fmt.Sprintf("b=AS:%d\r\nb=TIAS:%d\r\n", (bitrate+999)/1000, bitrate)) + s[at:]
}

// listen takes pion's callbacks. None of them blocks.
func (p *Peer) listen() {
	p.pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			p.emit(Event{Kind: EndOfCandidates})
			return
		}
		init := c.ToJSON()
		e := Event{Kind: LocalCandidate, Candidate: Candidate{Candidate: init.Candidate, MLine: -1}}
		if init.SDPMid != nil {
			e.Candidate.Mid = *init.SDPMid
		}
		if init.SDPMLineIndex != nil {
			e.Candidate.MLine = int(*init.SDPMLineIndex)
		}
		p.emit(e)
		p.gatheredOnce.Do(func() { close(p.gathered) })
	})
	changed := p.poked
	p.pc.OnICEConnectionStateChange(func(webrtc.ICEConnectionState) { changed() })
	p.pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { changed() })
	p.pc.SCTP().Transport().OnStateChange(func(webrtc.DTLSTransportState) { changed() })
	p.ice().OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		p.pair.Store(pair)
		changed()
	})
	p.pc.OnTrack(func(_ *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		select {
		case p.tracks <- r:
		case <-p.alive.Done():
		}
	})
}

// poked has serve look at the connection's states.
func (p *Peer) poked() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

func (p *Peer) emit(e Event) {
	select {
	case p.events <- e:
	default:
		p.eventsDropped.Add(1) // nobody listens
	}
}

// Answer returns the answer, with the local candidates that were known at once.
func (p *Peer) Answer() SDP { return p.answer }

// Fingerprint returns the SHA-256 of our certificate, as the answer announces it.
func (p *Peer) Fingerprint() [32]byte { return p.fingerprint }

// Offers says which kinds of media the offer has.
func (p *Peer) Offers() (audio, video bool) { return p.offer.audio, p.offer.video }

// Events returns what happens, in order. It is never closed. If nobody reads, what does not fit is counted and lost.
func (p *Peer) Events() <-chan Event { return p.events }

// AddCandidate adds a candidate of the far end's; an empty one says that there are no more. Errors wrap ErrCandidate, or ErrClosed.
func (p *Peer) AddCandidate(c Candidate) error {
	if p.alive.Err() != nil {
		return fmt.Errorf("add candidate: %w", ErrClosed)
	}
	if err := p.addCandidate(c); err != nil {
		p.refused.Add(1)
		return fmt.Errorf("add candidate: %w", err)
	}
	return nil
}

func (p *Peer) addCandidate(c Candidate) error {
	if c.Candidate == "" {
		return nil
	}
	if p.candidates.Add(1) > maxCandidates {
		return fmt.Errorf("%w: more than %d came", ErrCandidate, maxCandidates)
	}
	if err := checkCandidate(c.Candidate); err != nil {
		return err
	}
	// Everything is bundled on one transport, so that it does not matter which section a candidate names.
	if err := p.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Candidate}); err != nil {
		return fmt.Errorf("%w: it does not fit", ErrCandidate)
	}
	return nil
}

// sender is pion's, with the track that it was made for: pion forgets its track when the connection is closed, which another goroutine may do at any time.
type sender struct {
	*webrtc.RTPSender
	of *track
}

// Run serves the connection until ctx ends, Close is called, or it fails; then it lets go of everything. It returns nil after
// Close or the end of ctx, and the error of the Failed event otherwise. It may be called once.
func (p *Peer) Run(ctx context.Context) error {
	p.runMu.Lock()
	if p.running || p.alive.Err() != nil {
		p.runMu.Unlock()
		return fmt.Errorf("run peer: %w", ErrClosed)
	}
	p.running = true
	p.runMu.Unlock()
	defer close(p.ended)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(p.alive, cancel)
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { p.video.run(ctx) })
	wg.Go(func() { p.askKeyframes(ctx) })
	for _, s := range p.senders {
		out := &p.audioReported
		if s.of.kind == webrtc.RTPCodecTypeVideo {
			out = &p.videoReported
		}
		wg.Go(func() { p.readReports(s.RTPSender, s.of.ssrc, out) })
	}
	err := p.serve(ctx, &wg)

	cancel()
	p.end()
	p.shut()
	// Our readers end when pion closes their streams.
	if aerr := p.await(closeLimit); aerr != nil {
		p.log.Warn("peer did not let go in time")
		return errors.Join(err, aerr)
	}
	wg.Wait()
	return err
}

func (t *track) ssrc() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.header.SSRC
}

// serve follows the connection's state and starts a reader for each track.
func (p *Peer) serve(ctx context.Context, wg *sync.WaitGroup) error {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	lost := time.NewTimer(time.Hour)
	defer lost.Stop()
	lost.Stop()
	var path, secure, interrupted bool
	var another *search // nil: the path is the one that it was
	var looked *search  // the last that was seen here
	fail := func(stage Stage, err error) error {
		// Once it is being closed, what pion says of that is no failure; that somebody else answered still is.
		if (ctx.Err() != nil || p.alive.Err() != nil) && !errors.Is(err, ErrCertificate) {
			return nil
		}
		p.emit(Event{Kind: Failed, Stage: stage, Err: err})
		p.log.Info("connection failed", "stage", string(stage), "cause", err.Error())
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.measure()
			if !path {
				p.try()
			}
		case <-lost.C:
			if another != nil {
				return fail(StageMedia, fmt.Errorf("%w, and no other path was found within %s", ErrSilent, restartLimit))
			}
			return fail(StageMedia, fmt.Errorf("%w for %s", ErrSilent, silentAfter+lostAfter))
		case r := <-p.tracks:
			p.receive(r, wg)
		case <-p.poke:
		}
		ice, dtlsState, state := p.pc.ICEConnectionState(), p.pc.SCTP().Transport().State(), p.pc.ConnectionState()
		connected := ice == webrtc.ICEConnectionStateConnected || ice == webrtc.ICEConnectionStateCompleted
		if now := p.another.Load(); now != looked {
			if another == nil { // looking again buys no more time
				lost.Reset(restartLimit)
			}
			looked, another = now, now
			if !interrupted { // the path that was is given up
				interrupted = true
				p.emit(Event{Kind: Interrupted})
			}
		}
		if connected && !path {
			path = true
			p.measure()
			p.emit(Event{Kind: PathFound})
		}
		if dtlsState == webrtc.DTLSTransportStateConnected && !secure {
			if err := p.prove(); err != nil {
				return fail(StageDTLS, err)
			}
			secure = true
			p.emit(Event{Kind: Secure})
		}
		switch {
		case dtlsState == webrtc.DTLSTransportStateFailed:
			return fail(StageDTLS, p.handshakeError())
		case ice == webrtc.ICEConnectionStateFailed && !path:
			p.try()
			return fail(StageICE, ErrNoPath)
		case ice == webrtc.ICEConnectionStateFailed:
			return fail(StageMedia, fmt.Errorf("%w for %s", ErrSilent, silentAfter+failedAfter))
		case ice == webrtc.ICEConnectionStateClosed, dtlsState == webrtc.DTLSTransportStateClosed, state == webrtc.PeerConnectionStateClosed:
			// The far end can close only what has begun by DTLS, also if the path came and went between two looks.
			if !secure && p.alive.Err() == nil {
				return fail(StageDTLS, p.handshakeError())
			}
			return fail(StageMedia, ErrFarClosed)
		case ice == webrtc.ICEConnectionStateDisconnected && !interrupted:
			interrupted = true
			lost.Reset(lostAfter)
			p.emit(Event{Kind: Interrupted})
		// The states lag behind: a pair that is another one says that the path is.
		case connected && interrupted && (another == nil || p.pair.Load() != another.left):
			interrupted, another = false, nil
			lost.Stop()
			p.emit(Event{Kind: Resumed})
		}
	}
}

// prove checks once more, apart from pion, that the far end holds the certificate that the offer names.
func (p *Peer) prove() error {
	sum := sha256.Sum256(p.pc.SCTP().Transport().GetRemoteCertificate())
	if subtle.ConstantTimeCompare(sum[:], p.offer.fingerprint[:]) != 1 {
		return ErrCertificate
	}
	if _, profile := p.hello.names(); profile == "" {
		return ErrProfile
	}
	p.proved.Store(true)
	return nil
}

// handshakeError tells what made DTLS fail. pion's errors are not exported, so that their texts must do; a test keeps them.
func (p *Peer) handshakeError() error {
	// The state changes before pion tells why.
	timer := time.NewTimer(causeWait)
	defer timer.Stop()
	select {
	case <-p.quiet.known:
	case <-timer.C:
		return ErrHandshake
	}
	err := p.quiet.cause()
	text := err.Error()
	switch {
	case strings.Contains(text, "no matching profiles"):
		return ErrProfile
	case strings.Contains(text, "shared cipher suites"):
		return ErrSuite
	case strings.Contains(text, "fingerprint"):
		return ErrCertificate
	case errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "deadline exceeded"):
		return fmt.Errorf("%w: no answer within %s", ErrHandshake, handshakeLimit)
	}
	return fmt.Errorf("%w: %.120s", ErrHandshake, text)
}

// receive starts the readers of an arriving track.
func (p *Peer) receive(r *webrtc.RTPReceiver, wg *sync.WaitGroup) {
	t := r.Track()
	if t == nil {
		return
	}
	switch t.Kind() {
	case webrtc.RTPCodecTypeVideo:
		if !p.videoSSRC.CompareAndSwap(0, uint32(t.SSRC())) {
			return // one video stream is taken
		}
		wg.Go(func() { p.readVideo(t) })
	case webrtc.RTPCodecTypeAudio:
		if p.hearing.Swap(true) {
			return
		}
		wg.Go(func() { p.readAudio(t) })
	}
	wg.Go(func() { p.readRTCP(r) })
}
