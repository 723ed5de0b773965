package session

import (
	"image"
	"os"
	"testing"
	"time"

	"vindu/media/peer"
	"vindu/media/yuv"
)

// The way of a picture from the camera to the socket allocates nothing, at whatever size it is sent.
func TestSendingAPictureDoesNotAllocate(t *testing.T) {
	offer, err := os.ReadFile("../peer/testdata/chromium-offer.sdp")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFactory(Config{Width: 160, Height: 120, FPS: 15, Interfaces: func(n string) bool { return n == "lo" }, IncludeLoopback: true}, Devices{}, nil)
	s, err := f.Prepare(t.Context(), Offer{SDP: peer.SDP(offer)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	e, err := newEncoder(s)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	for _, size := range []image.Point{{160, 120}, {320, 240}} {
		img := yuv.New(size.X, size.Y)
		n := 0
		step := func() {
			n++
			for i := range 2000 {
				img.Y[(n*977+i*13)%len(img.Y)] = byte(n * i)
			}
			if err := e.send(picture{img: img, at: s.start.Add(time.Duration(n) * 67 * time.Millisecond)}); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			step()
		}
		if got := testing.AllocsPerRun(100, step); got > 0 {
			t.Errorf("%v: %v allocations per picture", size, got)
		}
	}
}
