package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
	"golang.org/x/net/proxy"
)

const (
	// pion fails a connected pair after silentAfter plus failedAfter, and one that never connected after the same
	// time. That is right for setting up on a bad line and too long for a far end that died, so Run counts lostAfter itself.
	silentAfter = 3 * time.Second
	failedAfter = 12 * time.Second
	lostAfter   = 5 * time.Second
	keepAlive   = time.Second

	handshakeLimit = 10 * time.Second
	dialLimit      = 10 * time.Second

	payloadVP8, payloadVP8RTX, payloadH264, payloadH264RTX, payloadOpus = 96, 97, 102, 103, 111
)

var (
	opusCodec = webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
		RTCPFeedback: []webrtc.RTCPFeedback{{Type: webrtc.TypeRTCPFBTransportCC}},
	}
	vp8Codec = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: videoFeedback}
	// Constrained baseline at level 3.1, in fragments (RFC 6184 §8.1): what every browser has.
	h264Codec = webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeH264, ClockRate: 90000, RTCPFeedback: videoFeedback,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
	}
	videoFeedback = []webrtc.RTCPFeedback{
		{Type: webrtc.TypeRTCPFBTransportCC},
		{Type: webrtc.TypeRTCPFBCCM, Parameter: "fir"},
		{Type: webrtc.TypeRTCPFBNACK},
		{Type: webrtc.TypeRTCPFBNACK, Parameter: "pli"},
	}
)

func rtxCodec(of int) webrtc.RTPCodecCapability {
	return webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", of)}
}

// hello is what the DTLS ServerHello settled.
type hello struct {
	mu      sync.Mutex
	suite   uint16
	profile extension.SRTPProtectionProfile
}

// engine makes the pieces of pion that a connection is built from.
func (p *Peer) engine(cfg Config) (*webrtc.API, error) {
	media := &webrtc.MediaEngine{}
	for _, c := range []struct {
		codec webrtc.RTPCodecCapability
		pt    webrtc.PayloadType
		kind  webrtc.RTPCodecType
	}{
		{opusCodec, payloadOpus, webrtc.RTPCodecTypeAudio},
		{vp8Codec, payloadVP8, webrtc.RTPCodecTypeVideo},
		{rtxCodec(payloadVP8), payloadVP8RTX, webrtc.RTPCodecTypeVideo},
		{h264Codec, payloadH264, webrtc.RTPCodecTypeVideo},
		{rtxCodec(payloadH264), payloadH264RTX, webrtc.RTPCodecTypeVideo},
	} {
		if err := media.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: c.codec, PayloadType: c.pt}, c.kind); err != nil {
			return nil, fmt.Errorf("register codec: %w", err)
		}
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, kind); err != nil {
			return nil, fmt.Errorf("register header extension: %w", err)
		}
	}
	chain, err := p.interceptors(cfg)
	if err != nil {
		return nil, err
	}
	set, err := p.settings(cfg)
	if err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(set)), nil
}

// interceptors are chained so that a packet that leaves passes the last one first: it is kept for retransmission,
// then numbered and noted for the bandwidth estimate, retransmissions too.
func (p *Peer) interceptors(cfg Config) (*interceptor.Registry, error) {
	p.bandwidth = newBandwidth(cfg.StartBitrate, cfg.MinBitrate, cfg.MaxBitrate)
	p.resender = &resender{rtt: p.rtt, target: p.bandwidth.target}
	receiver, err := report.NewReceiverInterceptor(report.WithReceiverLoggerFactory(&p.quiet))
	if err != nil {
		return nil, fmt.Errorf("make receiver reports: %w", err)
	}
	sender, err := report.NewSenderInterceptor(report.WithSenderLoggerFactory(&p.quiet))
	if err != nil {
		return nil, fmt.Errorf("make sender reports: %w", err)
	}
	feedback, err := twcc.NewSenderInterceptor(twcc.WithLoggerFactory(&p.quiet))
	if err != nil {
		return nil, fmt.Errorf("make transport feedback: %w", err)
	}
	r := &interceptor.Registry{}
	for _, f := range []interceptor.Factory{p.bandwidth, p.resender, receiver, sender, feedback} {
		r.Add(f)
	}
	return r, nil
}

func (p *Peer) settings(cfg Config) (webrtc.SettingEngine, error) {
	s := webrtc.SettingEngine{LoggerFactory: &p.quiet}
	s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AEAD_AES_128_GCM)
	s.SetDTLSCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)
	s.SetDTLSExtendedMasterSecret(dtls.RequireExtendedMasterSecret)
	if err := s.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return s, fmt.Errorf("set DTLS role: %w", err)
	}
	// ICE has proved the far end's address already; the cookie would cost a round trip (RFC 6347 §4.2.1).
	s.SetDTLSInsecureSkipHelloVerify(true)
	s.SetDTLSServerHelloMessageHook(func(m handshake.MessageServerHello) handshake.Message {
		p.hello.note(m)
		return &m
	})
	s.SetDTLSConnectContextMaker(func() (context.Context, func()) {
		return context.WithTimeout(p.alive, handshakeLimit)
	})
	s.SetDTLSRetransmissionInterval(handshakeRetry)
	sockets, err := newTwice(p.alive)
	if err != nil {
		return s, err
	}
	s.SetNet(sockets)
	s.SetSRTPReplayProtectionWindow(512)
	s.SetSRTCPReplayProtectionWindow(512)
	s.SetFireOnTrackBeforeFirstRTP(true)

	s.SetICETimeouts(silentAfter, failedAfter, keepAlive)
	s.SetICEMaxBindingRequests(40)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeQueryOnly)
	s.SetIncludeLoopbackCandidate(cfg.IncludeLoopback)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.DisableActiveTCP(true)
	if cfg.Interfaces != nil {
		s.SetInterfaceFilter(cfg.Interfaces)
	}
	if cfg.TURNDialer != nil {
		s.SetICEProxyDialer(&limitedDialer{cfg.TURNDialer, p.alive})
	}
	return s, nil
}

func (h *hello) note(m handshake.MessageServerHello) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.CipherSuiteID != nil {
		h.suite = *m.CipherSuiteID
	}
	for _, e := range m.Extensions {
		if u, ok := e.(*extension.UseSRTP); ok && len(u.ProtectionProfiles) == 1 {
			h.profile = u.ProtectionProfiles[0]
		}
	}
}

func (h *hello) names() (suite, profile string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.suite != 0 {
		suite = dtls.CipherSuiteName(dtls.CipherSuiteID(h.suite))
	}
	switch h.profile {
	case dtls.SRTP_AEAD_AES_256_GCM:
		profile = "AEAD_AES_256_GCM"
	case dtls.SRTP_AEAD_AES_128_GCM:
		profile = "AEAD_AES_128_GCM"
	}
	return suite, profile
}

// limitedDialer bounds a dialer in time and by the peer's life: pion waits for it when the connection is closed.
type limitedDialer struct {
	inner proxy.Dialer
	alive context.Context
}

// Dial implements proxy.Dialer. pion asks for "tcp4" alone, and so would not reach the relay from a home with IPv6 only: it is dialled by what there is.
func (d *limitedDialer) Dial(_, addr string) (net.Conn, error) {
	const network = "tcp"
	ctx, cancel := context.WithTimeout(d.alive, dialLimit)
	defer cancel()
	if cd, ok := d.inner.(proxy.ContextDialer); ok {
		conn, err := cd.DialContext(ctx, network, addr)
		return asFour(conn), err
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	// It is left when the time is over, and closes what comes then.
	go func() {
		conn, err := d.inner.Dial(network, addr)
		select {
		case done <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close() // nobody has it
			}
		}
	}()
	select {
	case r := <-done:
		return asFour(r.conn), r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("dial TURN server: %w", ctx.Err())
	}
}

// overSix is a connection to the relay over IPv6 that calls its own end IPv4's "any". pion asks a relay for an address of the family of that end, and one with IPv4
// alone refuses (RFC 8656 §7.2), though everybody else can be reached by it: a home with IPv6 only would have no path. The end is told nobody otherwise (RFC 8839 §5.1).
type overSix struct{ net.Conn }

// LocalAddr implements net.Conn.
func (c overSix) LocalAddr() net.Addr {
	a, ok := c.Conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return c.Conn.LocalAddr()
	}
	return &net.TCPAddr{IP: net.IPv4zero, Port: a.Port}
}

// asFour hides that a connection is one over IPv6.
func asFour(conn net.Conn) net.Conn {
	if conn == nil {
		return nil
	}
	if a, ok := conn.LocalAddr().(*net.TCPAddr); !ok || a.IP.To4() != nil {
		return conn
	}
	return overSix{conn}
}

func certificate() (*webrtc.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make DTLS key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("make DTLS certificate: %w", err)
	}
	return cert, nil
}
