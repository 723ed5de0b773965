package peer

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// road is a simulated line with the traffic of a call on it: packets leave at the controller's target, wait for the line, may be
// lost, and are reported every 100 ms. All of it in simulated time.
type road struct {
	rate   func(at time.Duration) float64 // bit/s
	room   int                            // bytes that may wait
	delay  time.Duration                  // one way
	jitter func(at time.Duration, r *rand.Rand) time.Duration
	lose   float64
	others float64 // bit/s of others in the same queue, which do not give way
	skew   float64 // of the far end's clock
}

type outcome struct {
	used, queue, most float64 // share of the line used; mean and longest queue in s
	lost              float64
	low               float64 // least target, bit/s
}

// drive runs a call of the given length and measures it from settle on.
func (w road) drive(c *controller, length, settle time.Duration) outcome {
	r := rand.New(rand.NewPCG(1, 2))
	const step = 2 * time.Millisecond
	var (
		owed, capacity, arrivedBytes float64
		free                         time.Duration
		pending                      []sample
		queued, most                 time.Duration
		n, lost                      int
		lastArrival                  time.Duration
		low                          = 1e12
	)
	next := 100 * time.Millisecond
	for now := time.Duration(0); now < length; now += step {
		rate := w.rate(now)
		free += time.Duration(w.others / rate * float64(step))
		owed += c.target / 8 * step.Seconds()
		for owed >= 1200 {
			owed -= 1200
			if free < now {
				free = now
			}
			wait := free - now
			n++
			if wait.Seconds()*rate/8 > float64(w.room) || r.Float64() < w.lose {
				lost++
				pending = append(pending, sample{sent: now, lost: true})
				continue
			}
			free += time.Duration(1200 * 8 / rate * float64(time.Second))
			at := free + w.delay
			if w.jitter != nil {
				at += w.jitter(now, r)
			}
			at = max(at, lastArrival)
			lastArrival = at
			if now > settle {
				queued += wait
				most = max(most, wait)
				arrivedBytes += 1200
			}
			pending = append(pending, sample{sent: now, arrived: time.Duration(float64(at)*(1+w.skew)) + time.Hour, size: 1200})
		}
		if now > settle {
			capacity += rate / 8 * step.Seconds()
			low = min(low, c.target)
		}
		if now < next {
			continue
		}
		next += 100 * time.Millisecond
		// What has arrived, and been reported, a delay ago.
		k := 0
		for k < len(pending) && (pending[k].lost && pending[k].sent < now-2*w.delay || !pending[k].lost && time.Duration(float64(pending[k].arrived-time.Hour)/(1+w.skew)) < now-w.delay) {
			c.note(pending[k])
			k++
		}
		if k > 0 {
			c.update(now, now-pending[k-1].sent)
			pending = pending[k:]
		}
	}
	sent := max(float64(n-lost), 1)
	return outcome{used: arrivedBytes / capacity, queue: queued.Seconds() / sent, most: most.Seconds(), lost: float64(lost) / float64(max(n, 1)), low: low}
}

func steady(bitrate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return bitrate }
}

// A busy processor: now and then nothing is read for a while.
func busy(at time.Duration, r *rand.Rand) time.Duration {
	d := time.Duration(r.Float64() * float64(8*time.Millisecond))
	if at%(700*time.Millisecond) < 120*time.Millisecond {
		d += 120*time.Millisecond - at%(700*time.Millisecond)
	}
	return d
}

func TestBandwidthOnSimulatedLines(t *testing.T) {
	for _, tt := range []struct {
		name  string
		road  road
		start int
		check func(t *testing.T, o outcome)
	}{
		{"wide", road{rate: steady(20e6), room: 64_000, delay: 20 * time.Millisecond}, 500_000, wants(1.45e6/20e6, 0.01, 0)},
		{"wide, far end busy", road{rate: steady(20e6), room: 64_000, delay: 20 * time.Millisecond, jitter: busy}, 500_000, wants(1.4e6/20e6, 0.01, 0)},
		{"1 Mbit/s", road{rate: steady(1e6), room: 64_000, delay: 20 * time.Millisecond}, 500_000, wants(0.90, 0.06, 0.01)},
		{"500 kbit/s", road{rate: steady(5e5), room: 64_000, delay: 20 * time.Millisecond}, 500_000, wants(0.90, 0.06, 0.01)},
		{"500 kbit/s, far end busy", road{rate: steady(5e5), room: 64_000, delay: 20 * time.Millisecond, jitter: busy}, 500_000, wants(0.90, 0.06, 0.01)},
		{"200 kbit/s", road{rate: steady(2e5), room: 32_000, delay: 40 * time.Millisecond}, 500_000, wants(0.90, 0.1, 0.02)},
		{"1 Mbit/s, 300 ms round trip", road{rate: steady(1e6), room: 64_000, delay: 150 * time.Millisecond}, 500_000, wants(0.90, 0.06, 0.01)},
		{"1 Mbit/s, short queue", road{rate: steady(1e6), room: 6_000, delay: 20 * time.Millisecond}, 500_000, wants(0.90, 0.05, 0.1)},
		{"wide, 2 % lost by the air", road{rate: steady(20e6), room: 64_000, delay: 20 * time.Millisecond, lose: 0.02}, 500_000, wants(1e6/20e6, 0.01, 0.03)},
		{"wide, clock off by 100 ppm", road{rate: steady(20e6), room: 64_000, delay: 20 * time.Millisecond, skew: 1e-4}, 500_000, wants(1.4e6/20e6, 0.01, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.road.drive(newController(tt.start, 80_000, 1_500_000), 60*time.Second, 10*time.Second)
			t.Logf("used %.2f, queue %.0f ms, at most %.0f ms, lost %.3f, least target %.0f", o.used, o.queue*1000, o.most*1000, o.lost, o.low)
			tt.check(t, o)
		})
	}
}

func wants(used, queue, lost float64) func(t *testing.T, o outcome) {
	return func(t *testing.T, o outcome) {
		if o.used < used {
			t.Errorf("%.2f of the line is used, want %.2f", o.used, used)
		}
		if o.queue > queue {
			t.Errorf("packets wait %.0f ms on average, want at most %.0f", o.queue*1000, queue*1000)
		}
		if o.lost > lost {
			t.Errorf("%.3f lost, want at most %.3f", o.lost, lost)
		}
	}
}

// What the air loses is lost however little is sent, and no reason to send less and less.
func TestBandwidthOnLossyAir(t *testing.T) {
	for _, tt := range []struct {
		lose  float64
		least float64
	}{{0.1, 300_000}, {0.2, 250_000}, {0.3, 200_000}} {
		o := road{rate: steady(20e6), room: 64_000, delay: 50 * time.Millisecond, lose: tt.lose}.drive(newController(500_000, 80_000, 1_500_000), 60*time.Second, 10*time.Second)
		if o.low < tt.least {
			t.Errorf("%.0f %% lost: the target falls to %.0f", 100*tt.lose, o.low)
		}
	}
}

// A line that is full of our packets is a reason, though it keeps no queue: then losses become fewer when less is sent.
func TestBandwidthOnALineWithoutQueue(t *testing.T) {
	o := road{rate: steady(4e5), room: 2_400, delay: 20 * time.Millisecond}.drive(newController(1_000_000, 80_000, 1_500_000), 60*time.Second, 15*time.Second)
	if o.lost > 0.2 || o.used < 0.8 {
		t.Errorf("%.2f lost, %.2f used", o.lost, o.used)
	}
}

// A line that has become much wider is found out in less than half a minute, however long it was narrow.
func TestBandwidthFindsAWiderLine(t *testing.T) {
	c := newController(500_000, 80_000, 1_500_000)
	w := road{room: 64_000, delay: 20 * time.Millisecond, rate: func(at time.Duration) float64 {
		if at < 40*time.Second {
			return 3e5
		}
		return 20e6
	}}
	w.drive(c, 65*time.Second, 5*time.Second)
	if c.target < 1_400_000 {
		t.Errorf("%.0f bit/s after 25 s on a wide line", c.target)
	}
}

// While the picture is paused sound alone is sent; still a line that carries a picture is believed to, or it would never come back.
func TestBandwidthWhileThePictureIsPaused(t *testing.T) {
	c := newController(80_000, 80_000, 1_500_000)
	c.ceiling = 75_000
	for i := range 50 * 60 {
		now := time.Duration(i) * 20 * time.Millisecond
		c.note(sample{sent: now, arrived: now + time.Hour, size: 110})
		if i%5 == 0 {
			c.update(now, 40*time.Millisecond)
		}
	}
	if c.target != 160_000 {
		t.Errorf("%.0f bit/s after a minute of sound, want twice the least", c.target)
	}
}

// The line narrows to a third and widens again.
func TestBandwidthFollowsTheLine(t *testing.T) {
	w := road{room: 64_000, delay: 20 * time.Millisecond, rate: func(at time.Duration) float64 {
		if at > 20*time.Second && at < 40*time.Second {
			return 4e5
		}
		return 1.2e6
	}}
	c := newController(500_000, 80_000, 1_500_000)
	first := w.drive(c, 40*time.Second, 23*time.Second)
	if first.used < 0.7 || first.queue > 0.2 {
		t.Errorf("narrow: used %.2f, queue %.0f ms", first.used, first.queue*1000)
	}
	c = newController(500_000, 80_000, 1_500_000)
	if o := w.drive(c, 80*time.Second, 55*time.Second); o.used < 0.75 {
		t.Errorf("wide again: used %.2f", o.used)
	}
}

// Others who fill the queue whatever we do must not push us out.
func TestBandwidthHoldsItsOwn(t *testing.T) {
	w := road{rate: steady(2e6), room: 100_000, delay: 20 * time.Millisecond, others: 1.6e6}
	c := newController(500_000, 80_000, 1_500_000)
	o := w.drive(c, 90*time.Second, 30*time.Second)
	t.Logf("used %.2f, queue %.0f ms, least target %.0f", o.used, o.queue*1000, o.low)
	if o.used*2e6 < 150_000 {
		t.Errorf("%.0f bit/s left of 400,000", o.used*2e6)
	}
}

func TestFeedback(t *testing.T) {
	b := newBandwidth(500_000, 80_000, 1_500_000)
	for i := range 20 {
		b.sent[i] = sentPacket{at: time.Duration(i) * time.Millisecond, size: 1000, seq: uint16(i), state: 1}
	}
	small := func(n int) (out []*rtcp.RecvDelta) {
		for range n {
			out = append(out, &rtcp.RecvDelta{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 1000})
		}
		return out
	}
	b.feedback(&rtcp.TransportLayerCC{
		BaseSequenceNumber: 0, PacketStatusCount: 12, ReferenceTime: 5,
		PacketChunks: []rtcp.PacketStatusChunk{
			&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 6},
			&rtcp.StatusVectorChunk{SymbolList: []uint16{0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}, // the last 8 are padding
		},
		RecvDeltas: small(10),
	}, 50*time.Millisecond)
	if b.c.total != 12 || b.c.lost != 2 {
		t.Errorf("%d packets, %d lost; want 12 and 2", b.c.total, b.c.lost)
	}
	if b.sent[6].state != 2 || b.sent[7].state != 3 || b.sent[12].state != 1 {
		t.Errorf("states %d %d %d", b.sent[6].state, b.sent[7].state, b.sent[12].state)
	}
	// One that was thought lost comes after all.
	b.feedback(&rtcp.TransportLayerCC{
		BaseSequenceNumber: 6, PacketStatusCount: 1, ReferenceTime: 6,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedLargeDelta, RunLength: 1}},
		RecvDeltas:   small(1),
	}, 60*time.Millisecond)
	if b.c.lost != 1 || b.sent[6].state != 3 {
		t.Errorf("%d lost after one came late", b.c.lost)
	}
}

// Feedback is the far end's: whatever it holds, the estimate stays in its limits.
func FuzzFeedback(f *testing.F) {
	good, err := (&rtcp.TransportLayerCC{
		Header:             rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 5, Padding: true},
		BaseSequenceNumber: 3, PacketStatusCount: 2, ReferenceTime: 9,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 2}},
		RecvDeltas: []*rtcp.RecvDelta{
			{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 250},
			{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 500},
		},
	}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, good)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		b := newBandwidth(500_000, 80_000, 1_500_000)
		for i := range 100 {
			b.sent[i] = sentPacket{at: time.Duration(i) * time.Millisecond, size: 1000, seq: uint16(i), state: 1}
		}
		for i, data := range [][]byte{one, two} {
			packets, err := rtcp.Unmarshal(data)
			if err != nil {
				continue
			}
			for _, p := range packets {
				if tcc, ok := p.(*rtcp.TransportLayerCC); ok {
					b.feedback(tcc, time.Duration(i+1)*time.Second)
				}
			}
		}
		if got := b.target(); got < 80_000 || got > 1_500_000 {
			t.Fatalf("target %d", got)
		}
		b.state()
	})
}

// TestHostileFeedback: a report of a few bytes that is about 65,535 packets costs no more than a look at those that are remembered, wherever it begins; and what it says of
// these is heard, with what follows.
func TestHostileFeedback(t *testing.T) {
	for _, next := range []uint16{0, 1, sentRing - 1, sentRing, 40_000, 65_535} {
		for _, base := range []int{0, 1, 17, 4095, 4096, 30_000, 61_439, 61_440, 61_441, 65_535} {
			b := newBandwidth(100_000, 50_000, 1_000_000)
			b.next = next
			for i := range sentRing {
				seq := next - sentRing + uint16(i)
				b.sent[seq%sentRing] = sentPacket{at: time.Duration(i) * time.Millisecond, size: 1000, seq: seq, state: 1}
			}
			looked, seq, left := 0, uint16(base), 1<<16-2
			f := &rtcp.TransportLayerCC{BaseSequenceNumber: seq, PacketStatusCount: 1<<16 - 1, RecvDeltas: []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 250}}}
			for left > 0 {
				n := min(left, 8191)
				f.PacketChunks = append(f.PacketChunks, &rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketNotReceived, RunLength: uint16(n)})
				away, known := b.within(seq, n)
				looked, seq, left = looked+known, seq+uint16(n), left-n
				if away+known > n {
					t.Fatalf("%d and %d of %d", away, known, n)
				}
			}
			f.PacketChunks = append(f.PacketChunks, &rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1})
			last := seq // which came
			if looked > sentRing {
				t.Errorf("next %d, base %d: %d were looked at", next, base, looked)
			}
			b.feedback(f, time.Minute)
			for i, p := range b.sent {
				want := uint8(2)
				switch p.seq {
				case last:
					want = 3
				case last + 1: // the one that the report is not about
					want = 1
				}
				if p.state != want {
					t.Fatalf("next %d, base %d: packet %d (at %d) is %d, want %d", next, base, p.seq, i, p.state, want)
				}
			}
		}
	}
}
