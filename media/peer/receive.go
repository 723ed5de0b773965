package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	readTick = 10 * time.Millisecond // how often a hole is looked at

	// A keyframe is asked for again after pliFirst, and less and less often.
	pliFirst = 250 * time.Millisecond
	pliLast  = 2 * time.Second
	// The far end's first keyframe needs no asking.
	pliPatience = 400 * time.Millisecond

	maxReadErrors = 100 // in a row; packets of payload types that were not negotiated
)

// stream counts one incoming stream.
type stream struct {
	mu                         sync.Mutex
	ssrc                       uint32
	packets, bytes             uint64
	lost, recovered            uint64
	frames, keyframes, dropped uint64
	started                    bool
	base, highest              uint32 // extended sequence numbers
	jitter                     float64
	lastArrival                time.Time
	lastTS                     uint32
}

// note counts a packet; jitter as in RFC 3550 §6.4.1.
func (s *stream) note(h *rtp.Header, size int, now time.Time, clock float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packets++
	s.bytes += uint64(size)
	seq := uint32(h.SequenceNumber)
	switch {
	case !s.started:
		s.started, s.ssrc, s.base, s.highest = true, h.SSRC, seq, seq
	case after(h.SequenceNumber, uint16(s.highest)):
		s.highest += uint32(h.SequenceNumber - uint16(s.highest))
		if h.Timestamp != s.lastTS {
			d := now.Sub(s.lastArrival).Seconds()*clock - float64(int32(h.Timestamp-s.lastTS))
			s.jitter += (max(d, -d) - s.jitter) / 16
		}
	default:
		return
	}
	s.lastArrival, s.lastTS = now, h.Timestamp
}

// readVideo reads one video track until it ends.
func (p *Peer) readVideo(t *webrtc.TrackRemote) {
	var (
		asm   assembler
		pkt   rtp.Packet
		buf   = make([]byte, 1600)
		timed bool
		errs  int
		nack  rtcp.TransportLayerNack
	)
	p.wantKeyframe(pliPatience)
	for {
		n, attrs, err := t.Read(buf)
		now := time.Now()
		switch {
		case err == nil:
			errs = 0
			if pkt.Unmarshal(buf[:n]) != nil {
				continue
			}
			_, again := attrs[webrtc.AttributeRtxSsrc]
			kind, known := p.typeOf(pkt.PayloadType)
			switch {
			case known:
				asm.turn(kind)
			case !again:
				continue
			}
			if !again {
				p.videoIn.note(&pkt.Header, n, now, 90000)
			}
			asm.rtt = p.rtt()
			asm.push(pkt.SequenceNumber, pkt.Timestamp, pkt.Marker, pkt.Payload, now)
		case isTimeout(err):
		default:
			// pion reports a payload type that was not negotiated as an error, once per packet.
			if errs++; errs > maxReadErrors || p.alive.Err() != nil || !errors.Is(err, webrtc.ErrCodecNotFound) {
				return
			}
			continue
		}
		flowing, useless := asm.flowing, asm.dropped
		for {
			f, ok := asm.pull(now)
			if !ok {
				break
			}
			if f.Keyframe {
				p.gotKeyframe()
			}
			p.videoIn.frame(f.Keyframe)
			p.sink.Video(f)
		}
		if !asm.flowing && (flowing || asm.dropped != useless) {
			p.wantKeyframe(0)
		}
		if seqs := asm.nacks(now); len(seqs) > 0 {
			nack.MediaSSRC = uint32(t.SSRC())
			nack.Nacks = rtcp.NackPairsFromSequenceNumbers(seqs)
			_ = p.pc.WriteRTCP([]rtcp.Packet{&nack}) // as lost as the packet
			p.nacksSent.Add(uint64(len(seqs)))
		}
		p.videoIn.assembled(&asm)
		// With a hole, time matters too: read in short steps. It also makes pion look for what RTX brought back.
		if hole := asm.waiting(); hole || timed {
			timed = hole
			deadline := time.Time{}
			if hole {
				deadline = now.Add(readTick)
			}
			if t.SetReadDeadline(deadline) != nil {
				return
			}
		}
	}
}

func (s *stream) frame(key bool) {
	s.mu.Lock()
	s.frames++
	if key {
		s.keyframes++
	}
	s.mu.Unlock()
}

func (s *stream) assembled(a *assembler) {
	s.mu.Lock()
	s.lost, s.recovered, s.dropped = a.lost, a.recovered, a.dropped
	s.mu.Unlock()
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// readAudio reads one audio track until it ends.
func (p *Peer) readAudio(t *webrtc.TrackRemote) {
	var pkt rtp.Packet
	buf := make([]byte, 1600)
	errs := 0
	payload := uint8(p.audioType.Load())
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			if errs++; errs > maxReadErrors || p.alive.Err() != nil || !errors.Is(err, webrtc.ErrCodecNotFound) {
				return
			}
			continue
		}
		errs = 0
		if pkt.Unmarshal(buf[:n]) != nil || pkt.PayloadType != payload {
			continue
		}
		p.audioIn.note(&pkt.Header, n, time.Now(), 48000)
		if len(pkt.Payload) == 0 {
			continue
		}
		p.sink.Audio(AudioPacket{Data: pkt.Payload, Seq: pkt.SequenceNumber, Timestamp: pkt.Timestamp})
	}
}

// keyframes is the state of asking the far end for a keyframe.
type keyframes struct {
	wake  chan time.Duration
	asked atomic.Uint64
	state atomic.Int32 // none, patient, wanted
}

const (
	none    = iota // flowing
	patient        // one should come by itself
	wanted         // being asked for
)

// RequestKeyframe asks the far end for a keyframe, again and again until one comes. Any goroutine.
func (p *Peer) RequestKeyframe() { p.wantKeyframe(0) }

// wantKeyframe asks at once, or after patience.
func (p *Peer) wantKeyframe(patience time.Duration) {
	if patience > 0 {
		if !p.keys.state.CompareAndSwap(none, patient) {
			return
		}
	} else if p.keys.state.Swap(wanted) == wanted {
		return
	}
	select {
	case p.keys.wake <- patience:
	default:
	}
}

func (p *Peer) gotKeyframe() { p.keys.state.Store(none) }

// askKeyframes sends PLIs for as long as a keyframe is wanted, less and less often.
func (p *Peer) askKeyframes(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pause := pliFirst
	for {
		select {
		case <-ctx.Done():
			return
		case patience := <-p.keys.wake:
			pause = pliFirst
			if patience > 0 {
				timer.Reset(patience)
				continue
			}
		case <-timer.C:
		}
		if p.keys.state.Load() == none {
			continue
		}
		if ssrc := p.videoSSRC.Load(); ssrc != 0 {
			_ = p.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}})
			p.keys.asked.Add(1)
		}
		timer.Reset(pause + rand.N(pause/4))
		pause = min(pause*2, pliLast)
	}
}

// readReports reads the RTCP that is about one outgoing stream, which also drives pion's retransmission and bandwidth estimate.
func (p *Peer) readReports(s *webrtc.RTPSender, ssrc func() uint32, out *reported) {
	buf := make([]byte, 1600)
	fir, errs := -1, 0
	for {
		n, attrs, err := s.Read(buf)
		if err != nil {
			// What could not be parsed is the far end's fault and no reason to stop listening.
			if errs++; errs > maxReadErrors || p.alive.Err() != nil || isEnd(err) {
				return
			}
			continue
		}
		errs = 0
		packets, err := attrs.GetRTCPPackets(buf[:n])
		if err != nil {
			continue
		}
		for _, packet := range packets {
			switch r := packet.(type) {
			case *rtcp.ReceiverReport:
				out.note(r.Reports, ssrc(), time.Now())
			case *rtcp.SenderReport:
				out.note(r.Reports, ssrc(), time.Now())
			case *rtcp.PictureLossIndication:
				p.plis.Add(1)
				p.sink.KeyframeWanted()
			case *rtcp.FullIntraRequest:
				// Repetitions carry the same number (RFC 5104 §4.3.1.1).
				for _, e := range r.FIR {
					if e.SSRC == ssrc() && int(e.SequenceNumber) != fir {
						fir = int(e.SequenceNumber)
						p.plis.Add(1)
						p.sink.KeyframeWanted()
					}
				}
			case *rtcp.TransportLayerNack:
				p.nacksHeard.Add(1)
			}
		}
	}
}

// readRTCP reads what is about an incoming stream: pion's receiver reports need the far end's sender reports.
func (p *Peer) readRTCP(r *webrtc.RTPReceiver) {
	buf := make([]byte, 1600)
	for errs := 0; errs <= maxReadErrors; {
		_, _, err := r.Read(buf)
		switch {
		case err == nil:
			errs = 0
		case p.alive.Err() != nil || isEnd(err):
			return
		default:
			errs++
		}
	}
}
