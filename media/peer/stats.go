package peer

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// Stats is the state of a connection, in numbers since its beginning unless said otherwise.
type Stats struct {
	// Pair: kinds of the candidates in use: host, srflx, prflx or relay. Empty before there is a path.
	LocalKind, RemoteKind string
	Protocol              string // from here to the far end or the relay: udp, tcp or tls
	RTT                   time.Duration

	Suite       string // DTLS, as "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"; empty before the handshake
	SRTPProfile string // "AEAD_AES_256_GCM" or "AEAD_AES_128_GCM"
	// SHA-256 of the certificates: ours, the one the offer names, and whether the far end proved to hold it.
	Fingerprint, FarFingerprint [32]byte
	FarProved                   bool

	VideoIn, AudioIn   StreamStats
	VideoOut, AudioOut StreamStats

	TargetBitrate     int           // bit/s, of the bandwidth estimate, now
	Loss              float64       // share of all packets lost on the way out, 0…1, in the last second
	Queue             time.Duration // that packets wait on the way out, now
	Arriving          int           // bit/s that reach the far end, now
	KeyframesAsked    uint64        // by us
	KeyframesWanted   uint64        // by the far end
	NacksSent         uint64        // packets asked for
	NacksHeard        uint64        // messages
	Resent, NotResent uint64        // packets sent again; asked for, but not sent because of a limit
	FramesNotQueued   uint64        // by WriteVideo
	CandidatesRefused uint64
	EventsDropped     uint64
	LibraryWarnings   int // of pion; their text is not kept
}

// StreamStats counts one stream. For what leaves, Lost, LossNow, Jitter are the far end's reports.
type StreamStats struct {
	Packets, Bytes  uint64
	Lost, Recovered uint64
	LossNow         float64 // share of packets lost in the last report, 0…1; what leaves only
	Jitter          time.Duration
	Frames          uint64 // video in: whole and decodable
	Keyframes       uint64
	Undecodable     uint64 // video in: whole, but of no use without a keyframe
}

// reported is what the far end reports about one of our streams.
type reported struct {
	mu     sync.Mutex
	lost   uint32
	loss   float64
	jitter uint32
	rtt    time.Duration
	at     time.Time
}

// note takes reception reports; round-trip time as in RFC 3550 §6.4.1.
func (r *reported) note(reports []rtcp.ReceptionReport, ssrc uint32, now time.Time) {
	for _, b := range reports {
		if b.SSRC != ssrc {
			continue
		}
		r.mu.Lock()
		r.lost, r.loss, r.jitter, r.at = b.TotalLost, float64(b.FractionLost)/256, b.Jitter, now
		if b.LastSenderReport != 0 {
			if d := ntp32(now) - b.LastSenderReport - b.Delay; d < 1<<31 {
				r.rtt = time.Duration(d) * time.Second >> 16
			}
		}
		r.mu.Unlock()
	}
}

// ntp32 is the middle of the NTP time stamp (RFC 3550 §4).
func ntp32(t time.Time) uint32 {
	const epoch = 2208988800 // 1900 to 1970
	sec := uint64(t.Unix()) + epoch
	frac := uint64(t.Nanosecond()) << 32 / uint64(time.Second)
	return uint32(sec<<16 | frac>>16)
}

func (r *reported) fill(s *StreamStats, clock int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Lost, s.LossNow = uint64(r.lost), r.loss
	s.Jitter = time.Duration(r.jitter) * time.Second / time.Duration(clock)
	return r.rtt
}

func (s *stream) stats(clock float64) StreamStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := StreamStats{
		Packets: s.packets, Bytes: s.bytes, Lost: s.lost, Recovered: s.recovered,
		Jitter: time.Duration(s.jitter / clock * float64(time.Second)),
		Frames: s.frames, Keyframes: s.keyframes, Undecodable: s.dropped,
	}
	if s.frames == 0 && s.started { // audio: nothing repairs it
		if expected := uint64(s.highest-s.base) + 1; expected > s.packets {
			out.Lost = expected - s.packets
		}
	}
	return out
}

// rtt is the best that is known of the round trip, for the repair of losses.
func (p *Peer) rtt() time.Duration { return time.Duration(p.roundTrip.Load()) }

// measure refreshes what is slow to find out. It is called once a second.
func (p *Peer) measure() {
	var s StreamStats
	rtt := p.videoReported.fill(&s, 90000)
	if pair, ok := p.ice().GetSelectedCandidatePairStats(); ok && pair.CurrentRoundTripTime > 0 {
		rtt = time.Duration(pair.CurrentRoundTripTime * float64(time.Second))
	}
	if rtt > 0 {
		p.roundTrip.Store(int64(rtt))
	}
}

func (p *Peer) ice() *webrtc.ICETransport { return p.pc.SCTP().Transport().ICETransport() }

// TargetBitrate is the bandwidth estimate in bit/s, for everything that is sent.
func (p *Peer) TargetBitrate() int { return p.bandwidth.target() }

// LossNow is the share of our video packets that the far end last reported lost, 0…1, and of audio.
func (p *Peer) LossNow() (video, audio float64) {
	var v, a StreamStats
	p.videoReported.fill(&v, 90000)
	p.audioReported.fill(&a, 48000)
	return v.LossNow, a.LossNow
}

// Stats returns the connection's numbers. Any goroutine, also after Close.
func (p *Peer) Stats() Stats {
	s := Stats{
		Fingerprint:    p.fingerprint,
		FarFingerprint: p.offer.fingerprint,
		FarProved:      p.proved.Load(),
		VideoIn:        p.videoIn.stats(90000),
		AudioIn:        p.audioIn.stats(48000),
		RTT:            p.rtt(),

		TargetBitrate:     p.bandwidth.target(),
		KeyframesAsked:    p.keys.asked.Load(),
		KeyframesWanted:   p.plis.Load(),
		NacksSent:         p.nacksSent.Load(),
		NacksHeard:        p.nacksHeard.Load(),
		FramesNotQueued:   p.video.drops(),
		CandidatesRefused: p.refused.Load(),
		EventsDropped:     p.eventsDropped.Load(),
		LibraryWarnings:   p.quiet.count(),
	}
	s.Resent, s.NotResent = p.resender.counts()
	s.Suite, s.SRTPProfile = p.hello.names()
	s.VideoOut.Packets, s.VideoOut.Bytes = p.video.track.counts()
	s.AudioOut.Packets, s.AudioOut.Bytes = p.audio.counts()
	p.videoReported.fill(&s.VideoOut, 90000)
	p.audioReported.fill(&s.AudioOut, 48000)
	s.Loss, s.Queue, s.Arriving = p.bandwidth.state()
	if pair := p.pair.Load(); pair != nil {
		s.LocalKind, s.RemoteKind = pair.Local.Typ.String(), pair.Remote.Typ.String()
		s.Protocol = p.protocol(pair)
	}
	return s
}

// way is how packets leave by a pair.
type way struct {
	pair     *webrtc.ICECandidatePair
	protocol string
}

// protocol is how packets leave by pair. It is looked up once: pion's statistics are not safe beside a connection that the far end closes.
func (p *Peer) protocol(pair *webrtc.ICECandidatePair) string {
	if pair.Local.Typ != webrtc.ICECandidateTypeRelay {
		return pair.Local.Protocol.String()
	}
	if known := p.way.Load(); known != nil && known.pair == pair {
		return known.protocol
	}
	for _, v := range p.look() {
		c, ok := v.(webrtc.ICECandidateStats)
		if ok && c.CandidateType == webrtc.ICECandidateTypeRelay && c.RelayProtocol != "" &&
			c.Port == int32(pair.Local.Port) && c.IP == pair.Local.Address {
			p.way.Store(&way{pair, c.RelayProtocol})
			return c.RelayProtocol
		}
	}
	return pair.Local.Protocol.String()
}

// look reads pion's statistics; there are none once the connection is being closed.
func (p *Peer) look() webrtc.StatsReport {
	p.looking.Lock()
	defer p.looking.Unlock()
	if p.shutting || p.alive.Err() != nil {
		return nil
	}
	return p.pc.GetStats()
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
}
