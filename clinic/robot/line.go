package robot

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"vindu/protocol"
)

const (
	gatherLimit = 2 * time.Second // for candidates; the relay's may need a round trip or two
	pleaEvery   = time.Second     // for a picture that stands alone, while none has come
)

// counts is what has come and gone.
type counts struct {
	pictures, keys, sounds, lost, packets, bytes, sent uint64
	local, remote                                      string
}

// line is the robot's end of one connection. dial starts its goroutines, close waits for them.
type line struct {
	pc    *webrtc.PeerConnection
	offer protocol.SDP
	lost  chan protocol.Code // bounded by one: the connection failed
	stop  context.CancelFunc
	wg    sync.WaitGroup

	permits   func(netip.Addr) bool
	direct    bool // nothing relayed is reached
	connected chan struct{}
	once      sync.Once
	again     atomic.Bool   // the terminal asks for a picture that stands alone
	picture   atomic.Uint32 // SSRC of the terminal's; 0 until it comes

	mu sync.Mutex
	counts
}

// dial makes an offer with all its candidates for a path; that a relayed one is relayed the terminal sees to, by the invitation.
func (r *Robot) dial(ctx context.Context, path string) (*line, error) {
	api, err := engine(r.c.Loopback)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make DTLS key: %w", err)
	}
	certificate, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("make DTLS certificate: %w", err)
	}
	config := webrtc.Configuration{Certificates: []webrtc.Certificate{*certificate}}
	servers := r.c.Relay()
	if path == protocol.DirectPath {
		servers = nil
	}
	for _, s := range servers {
		var urls []string
		for _, u := range s.URLs {
			if strings.HasPrefix(u, "turn:") { // the one over TLS is the same relay by another way, which the robot does not need
				urls = append(urls, u)
			}
		}
		if len(urls) > 0 {
			config.ICEServers = append(config.ICEServers, webrtc.ICEServer{URLs: urls, Username: s.Username, Credential: string(s.Credential)})
		}
	}
	pc, err := api.NewPeerConnection(config)
	if err != nil {
		return nil, fmt.Errorf("make connection: %w", err)
	}
	own, stop := context.WithCancel(context.Background())
	l := &line{pc: pc, lost: make(chan protocol.Code, 1), stop: stop, permits: r.c.Permits, direct: path == protocol.DirectPath, connected: make(chan struct{})}
	pc.OnConnectionStateChange(l.changed)
	pc.OnTrack(func(t *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		if t.Kind() == webrtc.RTPCodecTypeVideo {
			l.watch(t)
		} else {
			l.listen(t)
		}
	})
	l.wg.Go(func() { l.plead(own) })
	if err := l.tracks(own, r.media); err != nil {
		l.close()
		return nil, err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	offer, err := pc.CreateOffer(nil)
	if err == nil {
		err = pc.SetLocalDescription(offer)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("make offer: %w", err)
	}
	timer := time.NewTimer(gatherLimit)
	defer timer.Stop()
	select {
	case <-gathered:
	case <-timer.C: // with those that there are
	case <-ctx.Done():
		l.close()
		return nil, ctx.Err()
	}
	l.offer = protocol.SDP(pc.LocalDescription().SDP)
	return l, nil
}

// engine is what connections are made of: AEAD profiles only, VP8 and Opus, lost packets sent again.
func engine(loopback bool) (*webrtc.API, error) {
	m := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	for _, c := range []struct {
		codec webrtc.RTPCodecParameters
		kind  webrtc.RTPCodecType
	}{
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
		}, PayloadType: 111}, webrtc.RTPCodecTypeAudio},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: feedback,
		}, PayloadType: 96}, webrtc.RTPCodecTypeVideo},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=96",
		}, PayloadType: 97}, webrtc.RTPCodecTypeVideo},
	} {
		if err := m.RegisterCodec(c.codec, c.kind); err != nil {
			return nil, fmt.Errorf("register codec: %w", err)
		}
	}
	chain := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(m, chain); err != nil {
		return nil, fmt.Errorf("register interceptors: %w", err)
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	s := webrtc.SettingEngine{LoggerFactory: quiet}
	s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AEAD_AES_128_GCM)
	s.SetDTLSCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)
	s.SetDTLSExtendedMasterSecret(dtls.RequireExtendedMasterSecret)
	s.SetIncludeLoopbackCandidate(loopback)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.DisableActiveTCP(true)
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(s)), nil
}

// close ends the connection and waits for what it started.
func (l *line) close() {
	l.stop()
	_ = l.pc.Close() // it is of no more use either way
	l.wg.Wait()
}

func (l *line) changed(s webrtc.PeerConnectionState) {
	switch s {
	case webrtc.PeerConnectionStateConnected:
		l.once.Do(func() { close(l.connected) })
		l.note()
	case webrtc.PeerConnectionStateFailed:
		code := protocol.ICEFailed
		select {
		case <-l.connected:
			code = protocol.ICELost
		default:
			if s := l.pc.ICEConnectionState(); s == webrtc.ICEConnectionStateConnected || s == webrtc.ICEConnectionStateCompleted {
				code = protocol.DTLSFailed
			}
		}
		select {
		case l.lost <- code:
		default:
		}
	}
}

// note keeps how the connection was made, for the record.
func (l *line) note() {
	for _, s := range l.pc.GetSenders() { // all of them on one transport
		pair, err := s.Transport().ICETransport().GetSelectedCandidatePair()
		if err == nil && pair != nil {
			l.mu.Lock()
			l.local, l.remote = pair.Local.Typ.String(), pair.Remote.Typ.String()
			l.mu.Unlock()
		}
	}
}

// answer takes the terminal's description, if it is the one that the terminal signed, and its certificate the one that it named.
func (l *line) answer(sdp protocol.SDP, signed *protocol.Answer) error {
	if protocol.HashOf(sdp) != signed.Answer {
		return errors.New("answer of another session description")
	}
	for line := range strings.Lines(string(sdp)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "a=fingerprint:")
		if !ok {
			continue
		}
		algorithm, digits, _ := strings.Cut(value, " ")
		b, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
		if err != nil || !strings.EqualFold(algorithm, "sha-256") || len(b) != len(signed.Key) || protocol.Fingerprint(b) != signed.Key {
			return errors.New("the description names another certificate than the answer")
		}
	}
	if l.pc.RemoteDescription() != nil {
		return nil // said before
	}
	// That the certificate is the one of the description, of which there has to be one, DTLS sees to.
	if err := l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: l.reachable(string(sdp))}); err != nil {
		return errors.New("the description cannot be used") // the cause quotes it
	}
	return nil
}

// candidate takes one of the terminal's; one that is of no use is passed over.
func (l *line) candidate(c *protocol.Candidate) {
	if c == nil || !l.mayReach(string(c.Line)) || l.pc.RemoteDescription() == nil {
		return
	}
	_ = l.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: string(c.Line), SDPMid: &c.Mid, SDPMLineIndex: &c.MLine})
}

// reachable returns a description without the candidates that the robot must not reach.
func (l *line) reachable(sdp string) string {
	var b strings.Builder
	for line := range strings.Lines(sdp) {
		if value, ok := strings.CutPrefix(line, "a="); ok && strings.HasPrefix(value, "candidate:") && !l.mayReach(value) {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

// mayReach reports whether a candidate (RFC 8839 §5.1) is at an address that the robot may send to: from within the clinic's network, a terminal must not
// have it knock at others there. Names are none, since looking them up is asking others.
func (l *line) mayReach(candidate string) bool {
	fields := strings.Fields(candidate)
	if len(fields) < 6 || l.direct && (len(fields) < 8 || fields[7] == "relay") {
		return false
	}
	a, err := netip.ParseAddr(fields[4])
	return err == nil && l.permits(a)
}

func (l *line) counted() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

func (l *line) tracks(ctx context.Context, a *assets) error {
	for _, t := range []struct {
		mime, id string
		send     func(context.Context, *webrtc.TrackLocalStaticSample, *assets)
	}{{webrtc.MimeTypeOpus, "audio", l.play}, {webrtc.MimeTypeVP8, "video", l.show}} {
		track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: t.mime}, t.id, "robot")
		if err != nil {
			return fmt.Errorf("make track: %w", err)
		}
		sender, err := l.pc.AddTrack(track)
		if err != nil {
			return fmt.Errorf("add track: %w", err)
		}
		l.wg.Go(func() { l.reports(sender) })
		l.wg.Go(func() { t.send(ctx, track, a) })
	}
	return nil
}

// reports reads what the terminal says of what it gets, until the connection is closed.
func (l *line) reports(s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				l.again.Store(true)
			}
		}
	}
}

// beat calls f once connected, and then each period, until ctx ends or f fails.
func (l *line) beat(ctx context.Context, period time.Duration, f func() error) {
	select {
	case <-l.connected:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for f() == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *line) show(ctx context.Context, t *webrtc.TrackLocalStaticSample, a *assets) {
	n := 0
	l.beat(ctx, a.frame, func() error {
		if l.again.Swap(false) || n == len(a.pictures) {
			n = 0 // the first stands alone
		}
		if err := t.WriteSample(media.Sample{Data: a.pictures[n], Duration: a.frame}); err != nil {
			return err
		}
		n++
		l.mu.Lock()
		l.sent++
		l.mu.Unlock()
		return nil
	})
}

func (l *line) play(ctx context.Context, t *webrtc.TrackLocalStaticSample, a *assets) {
	n := 0
	l.beat(ctx, period, func() error {
		n++
		return t.WriteSample(media.Sample{Data: a.sounds[(n-1)%len(a.sounds)], Duration: period})
	})
}

// gap counts the packets that are missing between two numbers, which wrap around; what comes late was counted as missing before.
type gap struct {
	began bool
	last  uint16
}

func (g *gap) next(number uint16) (missing int) {
	step := int16(number - g.last)
	switch {
	case !g.began:
		g.began = true
	case step <= 0:
		return -1
	default:
		missing = int(step) - 1
	}
	g.last = number
	return missing
}

func (l *line) got(g *gap, number uint16, size int) {
	missing := g.next(number)
	l.packets++
	l.bytes += uint64(size)
	if missing > 0 || l.counts.lost > 0 {
		l.counts.lost = uint64(int64(l.counts.lost) + int64(missing))
	}
}

// watch counts the terminal's pictures: whole ones are those of which every packet came in its order.
func (l *line) watch(t *webrtc.TrackRemote) {
	l.picture.Store(uint32(t.SSRC()))
	var g gap
	var head codecs.VP8Packet
	whole, key := false, false
	var before uint16
	for {
		p, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		if len(p.Payload) == 0 {
			continue // padding, by which the terminal feels for bandwidth
		}
		body, err := head.Unmarshal(p.Payload)
		l.mu.Lock()
		l.got(&g, p.SequenceNumber, len(p.Payload))
		switch {
		case err != nil:
			whole = false
		case head.S == 1 && head.PID == 0:
			whole, key = true, standsAlone(body)
		default:
			whole = whole && p.SequenceNumber == before+1
		}
		before = p.SequenceNumber
		if whole && p.Marker {
			l.pictures++
			if key {
				l.keys++
			}
			whole = false
		}
		l.mu.Unlock()
	}
}

// plead asks for a picture that stands alone while none has come.
func (l *line) plead(ctx context.Context) {
	tick := time.NewTicker(pleaEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ssrc := l.picture.Load()
		if l.counted().keys > 0 || ssrc != 0 && l.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}}) != nil {
			return
		}
	}
}

func (l *line) listen(t *webrtc.TrackRemote) {
	var g gap
	for {
		p, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		if len(p.Payload) == 0 {
			continue
		}
		l.mu.Lock()
		l.got(&g, p.SequenceNumber, len(p.Payload))
		l.sounds++
		l.mu.Unlock()
	}
}

func publicKey(spki []byte) (*ecdsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the terminal's key: %w", err)
	}
	k, ok := key.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("the terminal's key is not ECDSA P-256")
	}
	return k, nil
}
