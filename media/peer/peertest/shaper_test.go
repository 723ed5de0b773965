package peertest_test

import (
	"fmt"
	"math"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/media/peer/peertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fed sends packets of 1172 bytes (1200 on the line), one every gap, and returns how long each was on its way; −1 for those that do not arrive.
func fed(w peertest.Way, n int, gap time.Duration) (fates map[peertest.Fate]int, took []time.Duration) {
	s := peertest.NewShaper(w)
	fates = map[peertest.Fate]int{}
	for i := range n {
		now := time.Duration(i) * gap
		fate, at, _ := s.Admit(now, 1172)
		fates[fate]++
		if fate != peertest.Passes {
			at = now - 1
		}
		took = append(took, at-now)
	}
	return fates, took
}

func TestShaperBandwidth(t *testing.T) {
	for _, tt := range []struct {
		name        string
		rate, queue int
		gap         time.Duration
		passes      int           // of 1000
		wait        time.Duration // of the last that passes
	}{
		// 1200 bytes take 9.6 ms at 1 Mbit/s.
		{"under its rate", 1_000_000, 32_000, 10 * time.Millisecond, 1000, 9600 * time.Microsecond},
		{"no limit", 0, 0, time.Millisecond, 1000, 0},
		// At 2 Mbit/s offered half passes, besides what the queue holds: 20 packets and the one on its way.
		{"twice its rate", 1_000_000, 24_000, 4800 * time.Microsecond, 521, 21 * 9600 * time.Microsecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fates, took := fed(peertest.Way{Rate: tt.rate, Queue: tt.queue}, 1000, tt.gap)
			if got := fates[peertest.Passes]; got < tt.passes-2 || got > tt.passes+2 {
				t.Errorf("%d of 1000 pass, want %d", got, tt.passes)
			}
			longest := time.Duration(0)
			for _, d := range took {
				longest = max(longest, d)
			}
			if longest > tt.wait || longest < tt.wait-10*time.Millisecond {
				t.Errorf("at most %v on the way, want %v", longest, tt.wait)
			}
		})
	}
}

func TestShaperLoss(t *testing.T) {
	const n = 200_000
	for _, loss := range []float64{0, 0.01, 0.1, 0.3} {
		for _, bursts := range []bool{false, true} {
			t.Run(fmt.Sprint(loss, bursts), func(t *testing.T) {
				fates, took := fed(peertest.Way{Loss: loss, Bursts: bursts, Seed: 3}, n, time.Millisecond)
				share := float64(fates[peertest.Lost]) / n
				if math.Abs(share-loss) > 0.1*loss+0.002 {
					t.Errorf("%.3f is lost, want %.3f", share, loss)
				}
				runs := 0
				for i := range took {
					if took[i] < 0 && (i == 0 || took[i-1] >= 0) {
						runs++
					}
				}
				if loss == 0 {
					return
				}
				mean, want := float64(fates[peertest.Lost])/float64(runs), 1/(1-loss)
				if bursts {
					want = 5
				}
				if mean < want*0.85 || mean > want*1.15 {
					t.Errorf("%.2f packets in a row are lost, want %.2f", mean, want)
				}
			})
		}
	}
}

func TestShaperDelayAndOrder(t *testing.T) {
	for _, reorder := range []bool{false, true} {
		t.Run(fmt.Sprint(reorder), func(t *testing.T) {
			w := peertest.Way{Delay: 100 * time.Millisecond, Jitter: 30 * time.Millisecond, Reorder: reorder, Seed: 9}
			_, took := fed(w, 5000, 10*time.Millisecond)
			overtaken := 0
			least, most := took[0], took[0]
			for i, d := range took {
				least, most = min(least, d), max(most, d)
				if i > 0 && d+10*time.Millisecond < took[i-1] {
					overtaken++
				}
			}
			if least < 70*time.Millisecond || least > 72*time.Millisecond || most > 130*time.Millisecond || most < 128*time.Millisecond {
				t.Errorf("from %v to %v, want 70 to 130 ms", least, most)
			}
			// Two in an even spread of 60 ms, sent 10 ms apart: (50/60)²/2.
			if share := float64(overtaken) / 5000; reorder && math.Abs(share-0.347) > 0.03 || !reorder && share > 0 {
				t.Errorf("%.3f overtake", share)
			}
		})
	}
}

// The same seed is the same line, another one is another.
func TestShaperIsTheSameAgain(t *testing.T) {
	w := peertest.Way{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.2, Reorder: true, Seed: 1}
	_, one := fed(w, 500, time.Millisecond)
	_, two := fed(w, 500, time.Millisecond)
	w.Seed = 2
	_, three := fed(w, 500, time.Millisecond)
	if fmt.Sprint(one) != fmt.Sprint(two) {
		t.Error("the same seed makes two lines")
	}
	if fmt.Sprint(one) == fmt.Sprint(three) {
		t.Error("two seeds make the same line")
	}
}

func TestShaperChangesItsRate(t *testing.T) {
	w := peertest.Way{Queue: 1 << 30, RateAt: func(at time.Duration) int {
		if at < time.Second {
			return 1_000_000
		}
		return 100_000
	}}
	_, took := fed(w, 200, 10*time.Millisecond)
	if took[50] > 10*time.Millisecond || took[199] < time.Second {
		t.Errorf("%v before and %v after", took[50], took[199])
	}
}

// Packets really go through a line, both ways, and are counted.
func TestLineCarries(t *testing.T) {
	line, err := peertest.NewLine(peertest.Way{Lose: func(n int) bool { return n%2 == 0 }}, peertest.Way{Delay: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	ends := [2]*net.UDPConn{}
	for i := range ends {
		if ends[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
		if err := ends[i].SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	candidate := func(c *net.UDPConn) string {
		return fmt.Sprintf("candidate:1 1 udp 1 127.0.0.1 %d typ host", c.LocalAddr().(*net.UDPAddr).Port)
	}
	at := func(candidate string) *net.UDPAddr {
		var port int
		if _, err := fmt.Sscanf(candidate, "candidate:1 1 udp 1 127.0.0.1 %d", &port); err != nil {
			t.Fatal(err)
		}
		return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	}
	toFar, toNear := at(line.Far(candidate(ends[1]))), at(line.Near(candidate(ends[0])))
	buf := make([]byte, 100)
	for i := range 10 {
		if _, err := ends[0].WriteToUDP([]byte{byte(i)}, toFar); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			continue
		}
		if n, _, err := ends[1].ReadFromUDP(buf); err != nil || n != 1 || buf[0] != byte(i) {
			t.Fatalf("packet %d: %d bytes, %v, %v", i, n, buf[0], err)
		}
	}
	if _, err := ends[1].WriteToUDP([]byte("back"), toNear); err != nil {
		t.Fatal(err)
	}
	if n, _, err := ends[0].ReadFromUDP(buf); err != nil || string(buf[:n]) != "back" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	there, back := line.Passed()
	if there.Sent != 5 || back.Sent != 1 {
		t.Errorf("%+v there, %+v back", there, back)
	}
}
