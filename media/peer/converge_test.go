package peer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"vindu/media/peer/peertest"
)

// ride is a simulated call over a shaper: pictures of an encoder that follows the estimate, cut and paced by the real sender, and sound beside them.
// All of it in simulated time, and the same each time.
type ride struct {
	way    peertest.Way
	jitter func(at time.Duration, r *rand.Rand) time.Duration // of the far end's reading
}

// ridden is what came of it: the share of the line that each second used, and how long sound waited at most.
type ridden struct {
	seconds []float64
	waited  time.Duration
}

// spread is the least, the mean and the most.
func (r ridden) spread() (least, mean, most float64) {
	least, most = slices.Min(r.seconds), slices.Max(r.seconds)
	for _, s := range r.seconds {
		mean += s / float64(len(r.seconds))
	}
	return least, mean, most
}

// rideWriter hands what the sender lets go to the line.
type rideWriter func(size int)

func (w rideWriter) WriteRTP(_ *rtp.Header, payload []byte) (int, error) {
	w(len(payload))
	return len(payload), nil
}
func (rideWriter) Write([]byte) (int, error) { panic("not used") }

var _ webrtc.TrackLocalWriter = rideWriter(nil)

func (w ride) drive(length, settle time.Duration) ridden {
	const fps = 30
	r := rand.New(rand.NewPCG(3, 4))
	c := newController(500_000, 80_000, 1_500_000)
	shaper := peertest.NewShaper(w.way)
	rate := func(at time.Duration) float64 {
		if w.way.RateAt != nil {
			return float64(w.way.RateAt(at))
		}
		return float64(w.way.Rate)
	}
	var (
		now     time.Duration
		pending []sample
		last    time.Duration
		out     ridden
		passed  = make([]float64, int(length/time.Second)+1)
	)
	send := func(size int) time.Duration {
		fate, at, waited := shaper.Admit(now, size-28)
		if fate != peertest.Passes {
			pending = append(pending, sample{sent: now, lost: true})
			return 0
		}
		passed[int(now/time.Second)] += float64(size*8) / rate(now)
		if w.jitter != nil {
			at += w.jitter(now, r)
		}
		at = max(at, last)
		last = at
		pending = append(pending, sample{sent: now, arrived: at + time.Hour, size: size})
		return waited
	}
	v, _ := newWired(false)
	v.track.writer = rideWriter(func(payload int) { send(payload + packetHead) })
	zero := time.Unix(1, 0)
	encoder, before, report := 0.0, 0.0, 100*time.Millisecond
	buf := make([]byte, 100_000)
	for n := 0; now < length; n++ {
		now = time.Duration(n) * time.Millisecond
		if n%20 == 0 {
			waited := send(80 + packetHead)
			if now > settle {
				out.waited = max(out.waited, waited)
			}
		}
		if n%33 == 0 {
			// The picture gets what sound and heads leave.
			want := max((c.target-50*8*(80+packetHead)-fps/2*8*(packetHead+4))/1.06, 20_000)
			if encoder == 0 {
				encoder = 0.8 * want
			}
			encoder = min(want, encoder*1.007) // 20 % a second
			v.setRate(int(encoder))
			// Pictures differ, and the encoder keeps account.
			more := 0.5*r.Float64() - 0.25
			size := encoder / 8 / fps * (1 + more - before)
			before = more
			if n == 0 {
				size = encoder / 8 * 0.3
			}
			if _, err := v.write(buf[:int(size)], 0, zero.Add(now)); err != nil {
				panic(err)
			}
		}
		if _, err := v.drain(zero.Add(now)); err != nil {
			panic(err)
		}
		if now < report {
			continue
		}
		report += 100 * time.Millisecond
		// What has arrived, and been reported, a delay ago.
		k := 0
		for k < len(pending) && (pending[k].lost && pending[k].sent < now-2*w.way.Delay || !pending[k].lost && pending[k].arrived-time.Hour < now-w.way.Delay) {
			c.note(pending[k])
			k++
		}
		if k > 0 {
			c.update(now, now-pending[k-1].sent)
			pending = pending[k:]
		}
	}
	out.seconds = passed[int(settle/time.Second) : len(passed)-1]
	return out
}

// Five seconds after the beginning, and after every change, a full line is used to 85 to 95 %, never a tenth more or less than on average, and sound
// waits no longer than the far end's jitter buffer can follow.
func TestBandwidthConverges(t *testing.T) {
	for _, tt := range []struct {
		name string
		ride ride
	}{
		{"500 kbit/s", ride{way: peertest.Way{Rate: 500_000, Queue: 64_000, Delay: 20 * time.Millisecond}}},
		{"500 kbit/s, far end busy", ride{way: peertest.Way{Rate: 500_000, Queue: 64_000, Delay: 20 * time.Millisecond}, jitter: busy}},
		{"500 kbit/s, 100 ms", ride{way: peertest.Way{Rate: 500_000, Queue: 64_000, Delay: 100 * time.Millisecond}}},
		{"500 kbit/s, long queue", ride{way: peertest.Way{Rate: 500_000, Queue: 250_000, Delay: 20 * time.Millisecond}}},
		{"500 kbit/s, 2 % lost by the air", ride{way: peertest.Way{Rate: 500_000, Queue: 64_000, Delay: 20 * time.Millisecond, Loss: 0.02, Seed: 5}}},
		{"300 kbit/s", ride{way: peertest.Way{Rate: 300_000, Queue: 64_000, Delay: 20 * time.Millisecond}}},
		{"800 kbit/s", ride{way: peertest.Way{Rate: 800_000, Queue: 64_000, Delay: 20 * time.Millisecond}}},
		{"400 kbit/s that were 500", ride{way: peertest.Way{Queue: 64_000, Delay: 20 * time.Millisecond, RateAt: func(at time.Duration) int {
			if at < 2*time.Second {
				return 500_000
			}
			return 400_000
		}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settle := 5 * time.Second
			if tt.ride.way.RateAt != nil {
				settle += 2 * time.Second
			}
			o := tt.ride.drive(60*time.Second, settle)
			least, mean, most := o.spread()
			t.Logf("%.2f (%.2f to %.2f), sound waits %v; %.2f", mean, least, most, o.waited, o.seconds)
			if mean < 0.85 || mean > 0.95 {
				t.Errorf("%.3f of the line is used, want 0.85 to 0.95", mean)
			}
			swing := 0.1
			if tt.ride.jitter != nil {
				swing = 0.15 // what tells a queue is as late as the far end is
			}
			if least < mean*(1-swing) || most > mean*(1+swing) {
				t.Errorf("it swings between %.2f and %.2f", least, most)
			}
			if o.waited > 120*time.Millisecond {
				t.Errorf("sound waits %v", o.waited)
			}
		})
	}
}
