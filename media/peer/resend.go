package peer

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// Limits of retransmission. Without them a far end that asks for everything again and again, on a line that is full, fills it with
// retransmissions for good.
const (
	keptPackets  = 512
	keptFor      = time.Second // older ones are of no use to anyone
	resendTimes  = 3           // of one packet
	resendShare  = 0.25        // of the estimate
	resendBurst  = 16_000      // bytes
	resendPause  = 20 * time.Millisecond
	maxKeptBytes = vp8Head + maxPayload
)

// resender keeps the packets of our picture and sends them again when the far end asks (RFC 4585 §6.2.1, RFC 4588). It is an interceptor of
// pion's and its own factory.
type resender struct {
	interceptor.NoOp
	rtt    func() time.Duration
	target func() int

	mu     sync.Mutex
	ssrc   uint32
	kept   [keptPackets]keptPacket
	writer interceptor.RTPWriter
	header rtp.Header // of what is sent again
	rtx    bool
	buf    [2 + maxKeptBytes]byte
	tokens float64
	last   time.Time

	resent, refused uint64
}

type keptPacket struct {
	full   bool
	seq    uint16
	ts     uint32
	marker bool
	times  int
	at     time.Time // of the last sending
	first  time.Time
	n      int
	data   [maxKeptBytes]byte
}

func (r *resender) NewInterceptor(string) (interceptor.Interceptor, error) { return r, nil }

func (r *resender) BindLocalStream(info *interceptor.StreamInfo, w interceptor.RTPWriter) interceptor.RTPWriter {
	asked := false
	for _, f := range info.RTCPFeedback {
		asked = asked || f.Type == "nack" && f.Parameter == ""
	}
	if !asked {
		return w
	}
	r.mu.Lock()
	r.ssrc, r.writer = info.SSRC, w
	r.header = rtp.Header{Version: 2, SSRC: info.SSRC, PayloadType: info.PayloadType}
	if info.SSRCRetransmission != 0 && info.PayloadTypeRetransmission != 0 {
		r.rtx = true
		r.header.SSRC, r.header.PayloadType = info.SSRCRetransmission, info.PayloadTypeRetransmission
		r.header.SequenceNumber = uint16(randomUint32()) >> 1
	}
	r.mu.Unlock()
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		if len(payload) <= maxKeptBytes {
			r.keep(h, payload, time.Now())
		}
		return w.Write(h, payload, a)
	})
}

func (r *resender) UnbindLocalStream(info *interceptor.StreamInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ssrc == info.SSRC {
		r.writer = nil
	}
}

func (r *resender) keep(h *rtp.Header, payload []byte, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := &r.kept[h.SequenceNumber%keptPackets]
	k.full, k.seq, k.ts, k.marker, k.times, k.at, k.first = true, h.SequenceNumber, h.Timestamp, h.Marker, 0, now, now
	k.n = copy(k.data[:], payload)
}

func (r *resender) BindRTCPReader(in interceptor.RTCPReader) interceptor.RTCPReader {
	return interceptor.RTCPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := in.Read(b, a)
		if err != nil {
			return n, a, err
		}
		if a == nil {
			a = make(interceptor.Attributes)
		}
		packets, err := a.GetRTCPPackets(b[:n])
		if err != nil {
			return n, a, err
		}
		for _, p := range packets {
			if nack, ok := p.(*rtcp.TransportLayerNack); ok {
				r.answer(nack, time.Now())
			}
		}
		return n, a, nil
	})
}

// answer sends again what nack asks for, within the limits.
func (r *resender) answer(nack *rtcp.TransportLayerNack, now time.Time) {
	rtt, target := r.rtt(), r.target()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writer == nil || nack.MediaSSRC != r.ssrc {
		return
	}
	if !r.last.IsZero() {
		r.tokens = min(r.tokens+now.Sub(r.last).Seconds()*float64(target)/8*resendShare, resendBurst)
	} else {
		r.tokens = resendBurst
	}
	r.last = now
	for _, pair := range nack.Nacks {
		pair.Range(func(seq uint16) bool {
			k := &r.kept[seq%keptPackets]
			switch {
			case !k.full || k.seq != seq || now.Sub(k.first) > keptFor:
			case k.times >= resendTimes || now.Sub(k.at) < max(rtt*3/4, resendPause) && k.times > 0 || r.tokens <= 0:
				r.refused++
			default:
				k.times++
				k.at = now
				r.send(k)
			}
			return true
		})
	}
}

// send sends k again. The caller holds r.mu.
func (r *resender) send(k *keptPacket) {
	h := &r.header
	h.Timestamp, h.Marker = k.ts, k.marker
	h.Extension, h.Extensions = false, h.Extensions[:0]
	payload := k.data[:k.n]
	if r.rtx {
		binary.BigEndian.PutUint16(r.buf[:], k.seq)
		payload = r.buf[:2+copy(r.buf[2:], payload)]
	} else {
		h.SequenceNumber = k.seq
	}
	r.tokens -= float64(len(payload))
	if _, err := r.writer.Write(h, payload, nil); err == nil {
		r.resent++
	}
	if r.rtx {
		h.SequenceNumber++
	}
}

func (r *resender) counts() (resent, refused uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resent, r.refused
}
