package clock

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRefine: a time server moves the clock by as little as the clinic's proof leaves open.
func TestRefine(t *testing.T) {
	for _, c := range []struct {
		name      string
		roundTrip time.Duration
		by        time.Duration // what the time server differs by
		doubt     time.Duration
		good      bool
	}{
		{"a little", 100 * time.Millisecond, 40 * time.Millisecond, 0, true},
		{"a little back", 100 * time.Millisecond, -40 * time.Millisecond, 0, true},
		{"a slow proof", 20 * time.Second, 9 * time.Second, 0, true},
		{"too much", 100 * time.Millisecond, 2 * time.Second, 0, false},
		{"too much back", 100 * time.Millisecond, -2 * time.Second, 0, false},
		{"a year", 100 * time.Millisecond, 365 * 24 * time.Hour, 0, false},
		{"a year, and says that it may be wrong by one", 100 * time.Millisecond, 365 * 24 * time.Hour, 366 * 24 * time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := New(open(t, statetest.New()), longAgo, quiet)
				if err := clock.Refine(time.Now(), 0); !errors.Is(err, ErrBounds) {
					t.Errorf("refined what was not proven: %v", err)
				}
				proven := time.Now().Add(time.Hour)
				if err := clock.Prove(proven.Add(-c.roundTrip/2), c.roundTrip); err != nil {
					t.Fatal(err)
				}
				want := proven
				if c.good {
					want = proven.Add(c.by)
				}
				if err := clock.Refine(proven.Add(c.by), c.doubt); errors.Is(err, ErrBounds) == c.good {
					t.Errorf("got %v", err)
				}
				if got := clock.Now(); !got.Equal(want) {
					t.Errorf("%v, want %v", got.Sub(proven), want.Sub(proven))
				}
				// The next proof leaves it, if it fits, and ends it, if it does not.
				if err := clock.Prove(proven.Add(-c.roundTrip/2), c.roundTrip); err != nil || !clock.Now().Equal(want) {
					t.Errorf("proven again: %v, %v", clock.Now().Sub(proven), err)
				}
				if err := clock.Prove(proven.Add(time.Minute), 0); err != nil || !clock.Now().Equal(proven.Add(time.Minute)) {
					t.Errorf("proven otherwise: %v, %v", clock.Now().Sub(proven), err)
				}
			})
		})
	}
}

// TestNTP asks a time server on this machine that is 300 ms ahead, after one that does not answer as it should.
func TestNTP(t *testing.T) {
	serve := func(answer func(request []byte) []byte) string {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 512)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				if _, err := c.WriteTo(answer(b[:n]), from); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() {
			c.Close()
			<-done
		})
		return c.LocalAddr().String()
	}
	own := New(open(t, statetest.New()), time.Now().Add(-time.Hour), quiet)
	if err := own.Prove(time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	stamp := func(b []byte, at time.Time) {
		const from1900 = 2208988800
		binary.BigEndian.PutUint32(b, uint32(at.Unix()+from1900))
		binary.BigEndian.PutUint32(b[4:], uint32((int64(at.Nanosecond())<<32)/1e9))
	}
	right := serve(func(request []byte) []byte {
		b := make([]byte, 48)
		b[0], b[1] = 4<<3|4, 1 // version 4, server, stratum 1
		now := time.Now().Add(300 * time.Millisecond)
		stamp(b[16:], now.Add(-time.Minute))
		copy(b[24:32], request[40:48])
		stamp(b[32:], now)
		stamp(b[40:], now)
		return b
	})
	wrong := serve(func(request []byte) []byte { return request[:10] })
	n := NTP{Clock: own, Servers: []string{wrong, right}, Log: quiet}
	if err := n.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if own.refined < 200*time.Millisecond || own.refined > 400*time.Millisecond {
		t.Errorf("refined by %v", own.refined)
	}
}
