package peer

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
)

// The bandwidth estimate is made here, from transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01), and not by pion's GCC: that
// one goes by the gradient of delays, which a busy processor at either end bends as much as a full line does. On a machine
// under load it fell to a tenth of a line that was empty. What tells a full line from a busy processor is the delay that
// even the quickest packet of a quarter second had: a queue delays all packets, a processor some.
const (
	sentRing = 4096 // packets remembered; feedback comes every 50 to 250 ms

	delaySteps = 5                // of rateStep, over which the quickest packet counts
	baseWindow = 15 * time.Second // the least delay of this window and the one before is that of an empty line
	rateWindow = 500 * time.Millisecond
	rateStep   = 50 * time.Millisecond
	rateSteps  = int(rateWindow / rateStep)
	lossWindow = time.Second

	queueHigh  = 60 * time.Millisecond // more is a queue of our making, if it stands
	queueLow   = 25 * time.Millisecond // less is an empty line
	queueMax   = 400 * time.Millisecond
	standing   = 300 * time.Millisecond // a keyframe's queue is gone by then
	settle     = 500 * time.Millisecond // after a decrease, besides a round trip
	backOff    = 0.85                   // of what arrived
	lossBad    = 0.10
	lossGood   = 0.03
	fastGrowth = 0.30 // per second, while the line's limit is not known
	slowGrowth = 0.06 // per second, near it

	// Where packet pairs tell how fast the line is, the estimate stays a little under that, so that keyframes and retransmissions find room, and
	// gives way to a queue as far as that is long. Now and then it looks slowly whether there is more.
	holdShare  = 0.90
	drainShare = 0.8  // of the line's rate, given way for each second of queue
	drainMost  = 0.5  // of the line's rate, that is sent however long the queue is
	limitJump  = 0.15 // of the limit: pairs that differ by more tell of another line
	limitTime  = 1.5  // seconds in which the limit follows smaller differences
	limitFor   = 10 * time.Second
	lookFirst  = 15 * time.Second // after which it looks, twice as long each time that was in vain
	lookLast   = 60 * time.Second
	lookGrowth = 0.015 // per second
	lookFar    = 1.12  // of the limit without a queue: the pairs are wrong
	starved    = 0.80  // of the limit arrives though a queue stands and does not shorten: others have the rest
	shortens   = 500 * time.Millisecond
	doubtFor   = 30 * time.Second
	// The estimate grows only as far as it is used.
	useRoom = 1.25
	useSlop = 50_000
)

// sample is one packet of a feedback.
type sample struct {
	sent    time.Duration // our clock
	arrived time.Duration // the far end's clock; meaningless if lost
	size    int
	lost    bool
}

// controller is the estimate. It is pure: times are what it is told.
type controller struct {
	target, least, most float64

	base     [2]time.Duration // least delay, this window and the one before
	baseEnds time.Duration
	started  bool
	quickest [rateSteps]time.Duration // least delay in each step; never if nothing came
	queue    time.Duration            // that even the quickest of the last delaySteps had
	since    time.Duration            // since when queue is high; our clock
	high     bool
	longest  time.Duration // queue since it was looked at last whether it shortens
	looked   time.Duration
	stuck    bool // it is high and does not

	steps  [rateSteps]int // bytes that arrived
	step   int64          // number of the newest step
	latest time.Duration
	first  time.Duration

	total, lost    int
	lossAt         time.Duration
	loss           float64
	pairs          pairs
	limit          float64 // that pairs tell; 0 is not known
	limitAt        time.Duration
	held           time.Duration // since when the estimate stays under the limit
	patience       time.Duration // before it looks for more
	doubt          time.Duration // until when pairs are not believed
	doubted        float64       // what they told then
	rtt            time.Duration
	ceiling        float64 // what arrived when the line was full
	lastUpdate     time.Duration
	lastDecrease   time.Duration
	decreased      bool
	futile         int           // decreases in a row that did not shorten the queue
	queueBefore    time.Duration // at the last decrease
	threshold      time.Duration // queueHigh, or more where others keep the queue long
	peak           float64       // most that arrived lately
	peakAt, lostAt time.Duration
	lossBefore     float64 // at the last decrease for loss
	lossFutile     int     // decreases for loss in a row after which as much was lost
	lossFloor      float64 // what is lost however little is sent: by the air, not by a full line
}

func newController(start, least, most int) *controller {
	return &controller{target: float64(start), least: float64(least), most: float64(most), threshold: queueHigh, patience: lookFirst}
}

const never = time.Duration(1<<63 - 1)

// note takes one packet. Packets of one feedback come in the order of sending.
func (c *controller) note(s sample) {
	c.total++
	c.pairs.note(s)
	if s.lost {
		c.lost++
		return
	}
	d := s.arrived - s.sent
	if !c.started {
		c.started = true
		c.base = [2]time.Duration{d, never}
		c.baseEnds = s.arrived + baseWindow
		c.latest, c.first = s.arrived, s.arrived
		c.step, _ = split(s.arrived)
		for i := range c.quickest {
			c.quickest[i] = never
		}
	}
	if s.arrived >= c.baseEnds {
		c.base = [2]time.Duration{d, c.base[0]}
		c.baseEnds = s.arrived + baseWindow
	}
	c.base[0] = min(c.base[0], d)
	at, _ := split(s.arrived)
	for c.step < at {
		if at-c.step > int64(rateSteps) {
			c.step = at - int64(rateSteps)
		}
		c.step++
		c.steps[slotOf(c.step)], c.quickest[slotOf(c.step)] = 0, never
	}
	if at > c.step-int64(rateSteps) {
		c.steps[slotOf(at)] += s.size
		c.quickest[slotOf(at)] = min(c.quickest[slotOf(at)], d)
	}
	c.latest = max(c.latest, s.arrived)
}

// split returns the number of the rateStep that at lies in, and how far into it. The far end's clock may stand before its zero.
func split(at time.Duration) (step int64, into time.Duration) {
	step, into = int64(at/rateStep), at%rateStep
	if into < 0 {
		step, into = step-1, into+rateStep
	}
	return step, into
}

// slotOf is where a step is counted.
func slotOf(step int64) int {
	const n = int64(rateSteps)
	return int((step%n + n) % n)
}

// waits is how long even the quickest packet waited lately. A queue of nobody's making is there only when packets came all the time.
func (c *controller) waits() time.Duration {
	least := never
	for i := range int64(delaySteps) {
		least = min(least, c.quickest[slotOf(c.step-i)])
	}
	if least == never {
		return c.queue
	}
	return max(least-min(c.base[0], c.base[1]), 0)
}

// arriving is the rate at which packets arrive, bit/s.
func (c *controller) arriving() float64 {
	sum := 0
	for _, n := range c.steps {
		sum += n
	}
	// The newest step is not over yet.
	_, into := split(c.latest)
	span := rateWindow - rateStep + into
	span = max(min(span, c.latest-c.first), rateStep)
	return float64(sum*8) / span.Seconds()
}

// update ends a feedback that came at now, with the round-trip time as far as it is known.
func (c *controller) update(now, rtt time.Duration) {
	if rtt > 0 {
		c.rtt = rtt
	}
	dt := min(now-c.lastUpdate, time.Second)
	if c.lastUpdate == 0 {
		dt = 0
	}
	c.lastUpdate = now
	if !c.started {
		return
	}
	c.queue = c.waits()
	if now-c.lossAt >= lossWindow {
		if c.total > 0 {
			c.loss = float64(c.lost) / float64(c.total)
			if c.loss < c.lossFloor {
				c.lossFloor += (c.loss - c.lossFloor) / 8
			}
		}
		c.total, c.lost, c.lossAt = 0, 0, now
	}
	rate := c.arriving()
	if rate > c.peak || now-c.peakAt > 2*time.Second {
		c.peak, c.peakAt = rate, now
	}
	c.watch(now)
	c.learn(now, dt)
	settled := !c.decreased || now-c.lastDecrease >= c.rtt+settle
	switch {
	case c.known(now) && !(c.stuck && rate < starved*c.limit) && c.loss <= max(lossBad, c.lossFloor*1.3+0.03):
		c.hold(now, dt)
	case c.high && now-c.since >= standing && settled:
		if c.known(now) {
			c.distrust(now)
		}
		c.decrease(now, min(c.target, rate*backOff))
		c.ceiling = rate
	case c.loss > max(lossBad, c.lossFloor*1.3+0.03) && now-c.lostAt >= lossWindow && settled:
		c.lostAt = now
		c.decreaseForLoss(now)
	case c.queue < queueLow && c.loss < max(lossGood, c.lossFloor*1.3):
		c.futile = 0
		c.threshold = max(queueHigh, time.Duration(float64(c.threshold)*(1-0.1*dt.Seconds())))
		c.grow(dt)
	}
	c.target = min(max(c.target, c.least), c.most)
}

// learn follows what packet pairs tell of the line.
func (c *controller) learn(now, dt time.Duration) {
	switch rate := c.pairs.rate(now); {
	case rate == 0:
		if now-c.limitAt > limitFor {
			c.limit = 0
		}
	case c.limit == 0 || rate > c.limit*(1+limitJump) || rate < c.limit*(1-limitJump):
		c.limit, c.limitAt = rate, now
	default:
		c.limit, c.limitAt = c.limit+(rate-c.limit)*min(dt.Seconds()/limitTime, 1), now
	}
}

// known reports whether pairs tell a limit that matters.
func (c *controller) known(now time.Duration) bool {
	believed := now >= c.doubt || c.limit > c.doubted*(1+limitJump) || c.limit < c.doubted*(1-limitJump)
	return c.limit > 0 && believed && holdShare*c.limit < c.most
}

// distrust has pairs not believed for a while, unless they tell something else.
func (c *controller) distrust(now time.Duration) { c.doubt, c.doubted = now+doubtFor, c.limit }

// hold keeps the estimate a little under the limit.
func (c *controller) hold(now, dt time.Duration) {
	hold := holdShare * c.limit
	looking := now-c.held >= c.patience
	if c.queue > queueLow || looking && c.queue > queueLow/3 {
		if c.target > hold {
			c.patience = min(2*c.patience, lookLast) // there was no more
		}
		c.held = now
		give := drainShare * max(c.queue-queueLow, 0).Seconds()
		c.target = min(c.target, c.limit*max(holdShare-give, drainMost))
		return
	}
	switch {
	case c.target > lookFar*c.limit && c.peak > c.limit:
		c.distrust(now)
		c.held, c.patience = now, lookFirst
	case looking:
		c.target = max(c.target, min(c.target*(1+lookGrowth*dt.Seconds()), c.room()))
	case c.target >= hold:
		c.target = hold
	default:
		c.held = now
		c.target = max(c.target, min(c.target*(1+fastGrowth*dt.Seconds()), hold, c.room()))
	}
}

// room is how far the estimate may grow: as far as it is used. However little is sent, twice the least may be tried: a picture that was given up
// has to come back some time.
func (c *controller) room() float64 { return max(c.peak*useRoom+useSlop, 2*c.least) }

// decreaseForLoss sends less, unless that has not helped before: what the air loses it loses of few packets as of many.
func (c *controller) decreaseForLoss(now time.Duration) {
	if c.lossBefore > 0 && now-c.lastDecrease < 4*time.Second && c.loss > c.lossBefore*7/10 {
		c.lossFutile++
	} else {
		c.lossFutile = 0
	}
	c.lossBefore = c.loss
	if c.lossFutile >= 3 {
		c.lossFutile, c.lossFloor = 0, c.loss
		return
	}
	c.decrease(now, c.target*(1-0.5*c.loss))
}

// watch follows whether a queue stands.
func (c *controller) watch(now time.Duration) {
	high := c.queue > c.threshold
	if high && !c.high {
		c.since = now
	}
	c.high = high
	c.longest = max(c.longest, c.queue)
	if !high {
		c.stuck, c.looked, c.longest = false, now, 0
	} else if now-c.looked >= shortens {
		c.stuck, c.looked, c.longest = c.queue > c.longest*9/10, now, c.queue
	}
}

func (c *controller) decrease(now time.Duration, to float64) {
	// Where the queue does not shorten though we send less, it is not ours: others fill the line, and it would be
	// theirs alone before long.
	if c.decreased && now-c.lastDecrease < 3*time.Second && c.queue > c.queueBefore*7/10 {
		if c.futile++; c.futile >= 3 {
			c.threshold = min(c.queue*13/10, queueMax)
			c.futile = 0
		}
	} else {
		c.futile = 0
	}
	c.queueBefore = c.queue
	c.target = min(c.target, to)
	c.lastDecrease, c.decreased = now, true
	c.since = now
}

func (c *controller) grow(dt time.Duration) {
	limit := c.room()
	if c.target >= limit {
		return
	}
	rate := fastGrowth
	if c.target > 0.8*c.limit && c.target < 1.2*c.limit {
		rate = slowGrowth // pairs that are not believed are still a hint
	}
	if c.ceiling > 0 {
		switch {
		case c.target > 1.2*c.ceiling:
			c.ceiling = 0 // the line has become wider
		case c.target > 0.8*c.ceiling:
			rate = slowGrowth
		}
	}
	c.target = min(c.target*(1+rate*dt.Seconds()), limit)
}

// packetHead is what a packet takes on the line besides its payload: IPv4 and UDP, RTP's header with our extension, and SRTP's tag.
const packetHead = 28 + 12 + 8 + 16

// bandwidth numbers what is sent and makes the estimate from the far end's feedback. It is an interceptor of pion's.
type bandwidth struct {
	interceptor.NoOp
	epoch time.Time

	mu     sync.Mutex
	next   uint16
	sent   [sentRing]sentPacket
	c      *controller
	ref    int64 // the last feedback's reference time, unwrapped
	refSet bool
	reps   uint64
}

type sentPacket struct {
	at    time.Duration
	size  int32
	seq   uint16
	state uint8 // 0 unknown, 1 on its way, 2 reported lost, 3 arrived
}

func newBandwidth(start, least, most int) *bandwidth {
	return &bandwidth{epoch: time.Now(), c: newController(start, least, most)}
}

// NewInterceptor makes it its own factory: there is one for each connection.
func (b *bandwidth) NewInterceptor(string) (interceptor.Interceptor, error) { return b, nil }

// numbers holds each sequence number as it is on the wire, so that none has to be made.
var numbers = sync.OnceValue(func() []byte {
	out := make([]byte, 0, 2<<16)
	for i := range 1 << 16 {
		out = binary.BigEndian.AppendUint16(out, uint16(i))
	}
	return out
})

func (b *bandwidth) BindLocalStream(info *interceptor.StreamInfo, w interceptor.RTPWriter) interceptor.RTPWriter {
	id := 0
	for _, e := range info.RTPHeaderExtensions {
		if e.URI == sdp.TransportCCURI {
			id = e.ID
		}
	}
	if id == 0 || id > 14 {
		return w
	}
	table := numbers()
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		size := packetHead + len(payload)
		b.mu.Lock()
		seq := b.next
		b.next++
		b.sent[seq%sentRing] = sentPacket{at: time.Since(b.epoch), size: int32(size), seq: seq, state: 1}
		b.mu.Unlock()
		if err := h.SetExtension(uint8(id), table[2*int(seq):2*int(seq)+2]); err != nil {
			return 0, err
		}
		return w.Write(h, payload, a)
	})
}

func (b *bandwidth) BindRTCPReader(r interceptor.RTCPReader) interceptor.RTCPReader {
	return interceptor.RTCPReaderFunc(func(in []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := r.Read(in, a)
		if err != nil {
			return n, a, err
		}
		if a == nil {
			a = make(interceptor.Attributes)
		}
		packets, err := a.GetRTCPPackets(in[:n])
		if err != nil {
			return n, a, err
		}
		for _, p := range packets {
			if f, ok := p.(*rtcp.TransportLayerCC); ok {
				b.feedback(f, time.Since(b.epoch))
			}
		}
		return n, a, nil
	})
}

// received reports whether a packet came, with when it did.
func received(symbol uint16) bool {
	return symbol == rtcp.TypeTCCPacketReceivedSmallDelta || symbol == rtcp.TypeTCCPacketReceivedLargeDelta
}

// within tells how many of n packets from seq on were sent too long ago to be remembered, or not yet, and how many after these are worth a look; of those behind
// them nothing is known either. b.mu is held.
func (b *bandwidth) within(seq uint16, n int) (away, known int) {
	at := int(seq - (b.next - sentRing)) // in the ring, if it is less than that
	if at < sentRing {
		return 0, min(n, sentRing-at)
	}
	away = min(n, 1<<16-at)
	return away, min(n-away, sentRing)
}

// feedback takes one report.
func (b *bandwidth) feedback(f *rtcp.TransportLayerCC, now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reps++
	ref := int64(f.ReferenceTime & 0xffffff)
	if b.refSet {
		ref = b.ref + ((ref-b.ref+1<<23)&0xffffff - 1<<23) // the nearest
	}
	b.ref, b.refSet = ref, true
	at := time.Duration(ref) * 64 * time.Millisecond
	seq, left, deltas := f.BaseSequenceNumber, int(f.PacketStatusCount), f.RecvDeltas
	var newest time.Duration
	one := func(symbol uint16) bool {
		if left == 0 {
			return false
		}
		left--
		p := &b.sent[seq%sentRing]
		known := p.seq == seq && (p.state == 1 || p.state == 2)
		seq++
		if !received(symbol) {
			if known && p.state == 1 {
				p.state = 2
				b.c.note(sample{sent: p.at, lost: true})
			}
			return true
		}
		if len(deltas) == 0 {
			return false
		}
		at += time.Duration(deltas[0].Delta) * time.Microsecond
		deltas = deltas[1:]
		if known {
			if p.state == 2 {
				b.c.lost = max(b.c.lost-1, 0) // late, not lost
				b.c.total--
			}
			p.state = 3
			newest = max(newest, p.at)
			b.c.note(sample{sent: p.at, arrived: at, size: int(p.size)})
		}
		return true
	}
	for _, chunk := range f.PacketChunks {
		switch c := chunk.(type) {
		case *rtcp.RunLengthChunk:
			n := min(int(c.RunLength), left)
			if !received(c.PacketStatusSymbol) { // these take no room: of 40 bytes there are 65,535
				away, known := b.within(seq, n)
				seq, left = seq+uint16(away), left-away
				for range known {
					one(c.PacketStatusSymbol)
				}
				seq, left = seq+uint16(n-away-known), left-(n-away-known)
				continue
			}
			for range n {
				if !one(c.PacketStatusSymbol) {
					break
				}
			}
		case *rtcp.StatusVectorChunk:
			for _, s := range c.SymbolList {
				if !one(s) {
					break
				}
			}
		}
	}
	rtt := time.Duration(0)
	if newest > 0 {
		rtt = now - newest
	}
	b.c.update(now, rtt)
}

func (b *bandwidth) target() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.c.target)
}

func (b *bandwidth) state() (loss float64, queue time.Duration, arriving int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.c.started {
		return 0, 0, 0
	}
	return b.c.loss, b.c.queue, int(b.c.arriving())
}
