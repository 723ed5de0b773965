package peer

import (
	"bytes"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// wire keeps what is written to it.
type wire struct {
	packets []rtp.Packet
	count   int
	keep    bool
}

func (w *wire) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	w.count++
	if w.keep {
		w.packets = append(w.packets, rtp.Packet{Header: h.Clone(), Payload: append([]byte(nil), payload...)})
	}
	return 12 + len(payload), nil
}
func (w *wire) Write([]byte) (int, error) { panic("not used") }

func newWired(keep bool) (*videoSender, *wire) {
	w := &wire{keep: keep}
	v := newVideoSender(newTrack(2, "video/VP8"))
	v.track.writer = w
	v.setRate(800_000)
	return v, w
}

func TestPacketsOfAFrame(t *testing.T) {
	for _, size := range []int{1, maxPayload - vp8Head, maxPayload - vp8Head + 1, 9000} {
		v, w := newWired(true)
		frame := make([]byte, size)
		for i := range frame {
			frame[i] = byte(i)
		}
		if ok, err := v.write(frame, 1234, time.Unix(1, 0)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		var got []byte
		for i, p := range w.packets {
			if len(p.Payload) > maxPayload {
				t.Errorf("%d bytes: packet of %d", size, len(p.Payload))
			}
			d, err := parseDescriptor(p.Payload)
			if err != nil || d.start != (i == 0) || d.pid != 1 || d.bits != 15 {
				t.Errorf("%d bytes: packet %d: %+v, %v", size, i, d, err)
			}
			if p.Marker != (i == len(w.packets)-1) || p.Timestamp != 1234+v.offset || p.SequenceNumber != w.packets[0].SequenceNumber+uint16(i) {
				t.Errorf("%d bytes: packet %d has header %+v", size, i, p.Header)
			}
			got = append(got, p.Payload[d.size:]...)
		}
		if !bytes.Equal(got, frame) {
			t.Errorf("%d bytes: put together again they differ", size)
		}
	}
}

func TestPacing(t *testing.T) {
	v, w := newWired(false)
	now := time.Unix(1, 0)
	// The first keyframe of a call leaves at once.
	if ok, _ := v.write(make([]byte, 20_000), 0, now); !ok || v.held != 0 {
		t.Fatalf("of the first keyframe %d packets are held back", v.held)
	}
	now = now.Add(time.Second)
	// A big one later leaves a burst of three packets, then at 1.5 times the rate: 150 kB/s.
	w.count = 0
	if ok, _ := v.write(make([]byte, 60_000), 0, now); !ok {
		t.Fatal("refused")
	}
	if w.count < 3 || w.count > 5 || v.held == 0 {
		t.Errorf("%d packets at once, %d held back", w.count, v.held)
	}
	took := time.Duration(0)
	for v.held > 0 {
		pause, err := v.drain(now)
		if err != nil {
			t.Fatal(err)
		}
		if v.held > 0 && pause <= 0 {
			t.Fatal("packets are held back and nobody will send them")
		}
		now, took = now.Add(pause), took+pause
		if took > time.Second {
			t.Fatal("takes more than a second")
		}
	}
	if took < 330*time.Millisecond || took > 450*time.Millisecond {
		t.Errorf("60 kB took %s", took)
	}
	// What does not fit is refused whole.
	for range 20 {
		v.write(make([]byte, 60_000), 0, now)
	}
	held, pid := v.held, v.cut.(*vp8Cutter).pid
	if ok, _ := v.write(make([]byte, 600_000), 0, now); ok || v.held != held || v.cut.(*vp8Cutter).pid != pid || v.drops() == 0 {
		t.Errorf("taken %v, %d held before, %d now", ok, held, v.held)
	}
}

func TestSendingDoesNotAllocate(t *testing.T) {
	v, _ := newWired(false)
	frame := make([]byte, 5000)
	now := time.Unix(1, 0)
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(33 * time.Millisecond)
		if ok, err := v.write(frame, 1, now); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, err := v.drain(now.Add(30 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func TestResend(t *testing.T) {
	var sent []rtp.Packet
	out := interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
		sent = append(sent, rtp.Packet{Header: h.Clone(), Payload: append([]byte(nil), payload...)})
		return len(payload), nil
	})
	r := &resender{rtt: func() time.Duration { return 40 * time.Millisecond }, target: func() int { return 800_000 }}
	w := r.BindLocalStream(&interceptor.StreamInfo{
		SSRC: 7, PayloadType: 96, SSRCRetransmission: 8, PayloadTypeRetransmission: 97,
		RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack"}},
	}, out)
	for i := range 40 {
		h := &rtp.Header{Version: 2, SSRC: 7, PayloadType: 96, SequenceNumber: uint16(65520 + i), Timestamp: uint32(i), Marker: i%5 == 4}
		if _, err := w.Write(h, []byte{byte(i), 1, 2, 3}, nil); err != nil {
			t.Fatal(err)
		}
	}
	sent = nil
	now := time.Now()
	ask := func(seqs ...uint16) {
		sent = nil
		r.answer(&rtcp.TransportLayerNack{MediaSSRC: 7, Nacks: rtcp.NackPairsFromSequenceNumbers(seqs)}, now)
	}
	ask(65534, 0, 9999)
	if len(sent) != 2 {
		t.Fatalf("%d packets sent again, want 2", len(sent))
	}
	p := sent[1]
	if p.SSRC != 8 || p.PayloadType != 97 || p.Timestamp != 16 || !bytes.Equal(p.Payload, []byte{0, 0, 16, 1, 2, 3}) || p.SequenceNumber != sent[0].SequenceNumber+1 {
		t.Errorf("sent again as %+v %v", p.Header, p.Payload)
	}
	ask(65534)
	if len(sent) != 0 {
		t.Error("sent again within a round trip")
	}
	for range resendTimes + 2 {
		now = now.Add(100 * time.Millisecond)
		ask(65534)
	}
	if len(sent) != 0 {
		t.Error("sent again without end")
	}
	ask(5)
	if len(sent) != 1 {
		t.Error("another was not sent again")
	}
	now = now.Add(keptFor)
	ask(6)
	if len(sent) != 0 {
		t.Error("an old packet was sent again")
	}
	r.UnbindLocalStream(&interceptor.StreamInfo{SSRC: 7})
	ask(7)
	if resent, refused := r.counts(); resent < 4 || refused == 0 {
		t.Errorf("%d resent, %d refused", resent, refused)
	}
}

// However much is asked for, retransmissions take no more than their share of the line.
func TestResendHasAShare(t *testing.T) {
	bytesOut := 0
	out := interceptor.RTPWriterFunc(func(_ *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
		bytesOut += len(payload)
		return len(payload), nil
	})
	const target = 400_000
	r := &resender{rtt: func() time.Duration { return 0 }, target: func() int { return target }}
	w := r.BindLocalStream(&interceptor.StreamInfo{SSRC: 7, RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack"}}}, interceptor.RTPWriterFunc(
		func(_ *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) { return len(payload), nil }))
	r.writer = out
	now := time.Now()
	seq := uint16(0)
	for range 200 { // 10 s
		var seqs []uint16
		for range 20 {
			seq++
			r.keep(&rtp.Header{SSRC: 7, SequenceNumber: seq}, make([]byte, 1100), now)
			seqs = append(seqs, seq)
		}
		r.answer(&rtcp.TransportLayerNack{MediaSSRC: 7, Nacks: rtcp.NackPairsFromSequenceNumbers(seqs)}, now)
		now = now.Add(50 * time.Millisecond)
	}
	_ = w
	if limit := target/8*10*resendShare + 2*resendBurst; float64(bytesOut) > limit {
		t.Errorf("%d bytes sent again in 10 s, want at most %.0f", bytesOut, limit)
	}
	if bytesOut < target/8*10/8 {
		t.Errorf("only %d bytes sent again", bytesOut)
	}
}
