package peer

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// arrival is a feedback on n packets from number first on, the first of which arrived delta after the reference time and the others 250 µs
// after one another.
func arrival(first, n uint16, reference uint32, delta int64) *rtcp.TransportLayerCC {
	f := &rtcp.TransportLayerCC{
		BaseSequenceNumber: first, PacketStatusCount: n, ReferenceTime: reference,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedLargeDelta, RunLength: n}},
	}
	for i := range n {
		d := int64(250)
		if i == 0 {
			d = delta
		}
		f.RecvDeltas = append(f.RecvDeltas, &rtcp.RecvDelta{Type: rtcp.TypeTCCPacketReceivedLargeDelta, Delta: d})
	}
	return f
}

// The far end's clock is what it says, also before the zero of its reference time: that wraps every 12 days, and deltas may be negative
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
func TestFeedbackBeforeTheZeroOfTheFarClock(t *testing.T) {
	for name, reports := range map[string][]*rtcp.TransportLayerCC{
		"negative deltas":           {arrival(0, 10, 0, -8_000_000), arrival(10, 10, 0, -7_800_000)},
		"an older report afterward": {arrival(0, 10, 1, 250), arrival(10, 10, 0xfffff0, 250), arrival(20, 10, 0xfffff8, 250)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBandwidth(500_000, 80_000, 1_500_000)
			for i := range 100 {
				b.sent[i] = sentPacket{at: time.Duration(i) * time.Millisecond, size: 1000, seq: uint16(i), state: 1}
			}
			for i, f := range reports {
				b.feedback(f, time.Duration(i+1)*200*time.Millisecond)
			}
			if got := b.target(); got < 80_000 || got > 1_500_000 {
				t.Errorf("target %d", got)
			}
			if _, _, arriving := b.state(); arriving <= 0 {
				t.Errorf("%d bit/s arrive, want some", arriving)
			}
		})
	}
}
