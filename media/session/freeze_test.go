package session

import (
	"context"
	"os"
	"testing"
	"time"

	"vindu/media/peer"
)

// What a freeze is, is said by webrtc-stats: a pause of three mean intervals, and of the mean and 150 ms, at least.
func TestFreezes(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		gaps   []time.Duration // after 20 of 33 ms
		number uint64
		whole  time.Duration
	}{
		{"none", []time.Duration{33 * ms, 60 * ms, 99 * ms}, 0, 0},
		{"three intervals, but not 150 ms more", []time.Duration{180 * ms}, 0, 0},
		{"just enough", []time.Duration{200 * ms}, 1, 200 * ms},
		{"two, and all of them counts", []time.Duration{400 * ms, 33 * ms, 33 * ms, 900 * ms}, 2, 1300 * ms},
		{"slow pictures are no freezes", []time.Duration{100 * ms, 125 * ms, 150 * ms, 170 * ms, 180 * ms, 190 * ms, 200 * ms, 210 * ms}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f freezes
			now := time.Unix(0, 0)
			f.shown(now)
			for range 20 {
				now = now.Add(33 * ms)
				f.shown(now)
			}
			for _, g := range tt.gaps {
				now = now.Add(g)
				f.shown(now)
			}
			if f.number != tt.number || f.whole != tt.whole {
				t.Errorf("%d of %s in all, want %d of %s", f.number, f.whole, tt.number, tt.whole)
			}
		})
	}
	// The first few say nothing of how pictures come.
	var f freezes
	for i := range 4 {
		f.shown(time.Unix(int64(i*i), 0))
	}
	if f.number != 0 {
		t.Errorf("%d freezes among the first pictures", f.number)
	}
}

type hall struct{ Sound }

func (hall) ERLE() float64 { return 37 }

// The echo and the board's heat are among a call's numbers.
func TestTotalsOfTheBoard(t *testing.T) {
	offer, err := os.ReadFile("../peer/testdata/chromium-offer.sdp")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFactory(Config{Interfaces: func(n string) bool { return n == "lo" }, IncludeLoopback: true}, Devices{Heat: func() float64 { return 66 }}, nil)
	s, err := f.Prepare(t.Context(), Offer{SDP: peer.SDP(offer)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	if got := s.totals(); got.ERLE != 0 || got.Heat != 66 {
		t.Errorf("before sound is open: %v dB, %v °C", got.ERLE, got.Heat)
	}
	s.echo.Store(meter{hall{}})
	if got := s.totals(); got.ERLE != 37 || got.CPU <= 0 {
		t.Errorf("%v dB, %s", got.ERLE, got.CPU)
	}
}
