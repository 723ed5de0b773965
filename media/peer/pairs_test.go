package peer

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
)

// paired feeds n pictures of three packets each, that leave together and arrive as apart tells.
func paired(n int, apart func(i int) time.Duration) (p pairs, now time.Duration) {
	arrived := time.Hour
	for i := range n {
		now = time.Duration(i) * 33 * time.Millisecond
		arrived = max(arrived, now+time.Hour+20*time.Millisecond)
		for j := range 3 {
			if j > 0 {
				arrived += apart(i)
			}
			p.note(sample{sent: now, arrived: arrived, size: 1200})
		}
	}
	return p, now
}

func TestPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const gap = 19200 * time.Microsecond // of 1200 bytes at 500 kbit/s
	for _, tt := range []struct {
		name        string
		n           int
		apart       func(i int) time.Duration
		least, most float64
	}{
		{"a line", 10, func(int) time.Duration { return gap }, 499_000, 501_000},
		{"too few", 3, func(int) time.Duration { return gap }, 0, 0},
		{"a third is torn apart by a busy processor", 30, func(i int) time.Duration {
			if i%3 == 0 {
				return 150 * time.Millisecond
			}
			return gap
		}, 499_000, 501_000},
		{"a third is joined by a radio", 30, func(i int) time.Duration {
			if i%3 == 0 {
				return 250 * time.Microsecond
			}
			return gap
		}, 499_000, 501_000},
		{"jitter", 30, func(int) time.Duration { return gap + time.Duration(r.NormFloat64()*float64(3*time.Millisecond)) }, 460_000, 540_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, now := paired(tt.n, tt.apart)
			if got := p.rate(now); got < tt.least || got > tt.most {
				t.Errorf("%.0f bit/s, want %.0f to %.0f", got, tt.least, tt.most)
			}
			if got := p.rate(now + pairsFor + time.Second); got != 0 {
				t.Errorf("%.0f bit/s when they are old", got)
			}
		})
	}
}

// Packets that left as far apart as they came, small ones, and the one after a loss tell nothing.
func TestPairsThatTellNothing(t *testing.T) {
	for name, change := range map[string]func(i int, s *sample){
		"apart":     func(i int, s *sample) { s.sent = s.arrived },
		"small":     func(_ int, s *sample) { s.size = pairSize - 1 },
		"after one": func(i int, s *sample) { s.lost = i%2 == 0 },
		"backward":  func(i int, s *sample) { s.arrived = -s.arrived },
	} {
		var p pairs
		for i := range 100 {
			s := sample{sent: time.Duration(i/2) * 40 * time.Millisecond, arrived: time.Duration(i) * 20 * time.Millisecond, size: 1200}
			change(i, &s)
			p.note(s)
		}
		if got := p.rate(2 * time.Second); got != 0 {
			t.Errorf("%s: %.0f bit/s", name, got)
		}
	}
}

// What a packet takes on the line is counted with all its heads, and the first report is no reason to grow.
func TestBandwidthCountsHeads(t *testing.T) {
	b := newBandwidth(500_000, 80_000, 1_500_000)
	w := b.BindLocalStream(&interceptor.StreamInfo{RTPHeaderExtensions: []interceptor.RTPHeaderExtension{{URI: sdp.TransportCCURI, ID: 3}}},
		interceptor.RTPWriterFunc(func(_ *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) { return len(payload), nil }))
	if _, err := w.Write(&rtp.Header{Version: 2}, make([]byte, 1000), nil); err != nil {
		t.Fatal(err)
	}
	if got := b.sent[0].size; got != 1000+28+12+8+16 {
		t.Errorf("a packet of 1000 bytes takes %d", got)
	}
	b.c.note(sample{sent: 0, arrived: time.Hour, size: 1064})
	if b.c.update(5*time.Second, 40*time.Millisecond); b.c.target != 500_000 {
		t.Errorf("the first report makes the target %.0f", b.c.target)
	}
}

// Where pairs tell of much more than arrives while a queue stands, others have the rest, and what arrives counts.
func TestBandwidthDoubtsPairs(t *testing.T) {
	drive := func(queue func(at time.Duration) time.Duration) *controller {
		c := newController(500_000, 80_000, 1_500_000)
		for i := range 30 * 20 {
			now := time.Duration(i) * 33 * time.Millisecond
			for j := range 2 { // pairs tell of 1 Mbit/s, 290 kbit/s arrive, at most 580
				if j == 1 && i%2 == 0 {
					continue
				}
				c.note(sample{sent: now, arrived: now + time.Hour + queue(now) + time.Duration(j)*9600*time.Microsecond, size: 1200})
			}
			if i%3 == 0 {
				c.update(now, 40*time.Millisecond)
			}
		}
		return c
	}
	if c := drive(func(time.Duration) time.Duration { return 0 }); c.limit < 900_000 || c.target < 500_000 {
		t.Errorf("without a queue: the limit is %.0f, the target %.0f", c.limit, c.target)
	}
	c := drive(func(at time.Duration) time.Duration {
		if at < 2*time.Second {
			return 0
		}
		return 150 * time.Millisecond
	})
	if c.doubt == 0 || c.target > 400_000 {
		t.Errorf("others fill the line: the target is %.0f, doubt until %v", c.target, c.doubt)
	}
}

// Pairs that tell too little, as where a radio has others between any two packets, do not hold the estimate for good.
func TestBandwidthLooksForMore(t *testing.T) {
	c := newController(300_000, 80_000, 1_500_000)
	arrived := time.Duration(0)
	for i := range 30 * 240 {
		now := time.Duration(i) * 33 * time.Millisecond
		owed := c.target / 8 / 30
		for j := 0; owed > 0; j++ {
			arrived = max(arrived, now)
			if j == 1 {
				arrived += 24 * time.Millisecond // 400 kbit/s
			}
			size := int(min(owed, 1200))
			c.note(sample{sent: now, arrived: arrived + time.Hour, size: size})
			owed -= 1200
		}
		if i%3 == 0 {
			c.update(now, 40*time.Millisecond)
		}
	}
	if c.target < 700_000 {
		t.Errorf("%.0f bit/s after four minutes on a line with room, pairs tell %.0f", c.target, c.limit)
	}
}

// Under a limit that is known the estimate gives way to a queue as far as that is long, looks for more when it has been patient, and believes pairs
// again that tell something else than those it doubts.
func TestBandwidthHolds(t *testing.T) {
	const now = time.Minute
	held := func(queue, since time.Duration) *controller {
		c := newController(450_000, 80_000, 1_500_000)
		c.limit, c.peak, c.queue, c.held = 500_000, 500_000, queue, now-since
		c.hold(now, 100*time.Millisecond)
		return c
	}
	for _, tt := range []struct {
		queue, since time.Duration
		want         float64
	}{
		{0, time.Second, 450_000}, {queueLow, time.Second, 450_000}, {125 * time.Millisecond, time.Second, 410_000}, {2 * time.Second, time.Second, 250_000},
		{0, lookFirst, 450_675}, {queueLow / 2, lookFirst, 450_000},
	} {
		if c := held(tt.queue, tt.since); c.target < tt.want-1 || c.target > tt.want+1 {
			t.Errorf("a queue of %v, held for %v: %.0f, want %.0f", tt.queue, tt.since, c.target, tt.want)
		}
	}
	c := held(0, time.Second)
	c.distrust(now)
	if c.known(now + time.Second) {
		t.Error("pairs that are doubted are believed")
	}
	for _, limit := range []float64{400_000, 600_000} {
		if c.limit = limit; !c.known(now + time.Second) {
			t.Errorf("%.0f is not believed after 500,000 was doubted", limit)
		}
	}
	// A queue that shortens is not stuck.
	c.queue = 0
	c.watch(now)
	for i := range 25 {
		at := now + time.Duration(i)*100*time.Millisecond
		c.queue = 600*time.Millisecond - time.Duration(i)*20*time.Millisecond
		if c.watch(at); c.stuck {
			t.Fatalf("a queue that shortens is stuck at %v", c.queue)
		}
	}
	for i := range 20 {
		c.watch(now + 4*time.Second + time.Duration(i)*100*time.Millisecond)
	}
	if !c.stuck {
		t.Error("a queue that does not shorten is not stuck")
	}
}
