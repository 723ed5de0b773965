package peer_test

import (
	"context"
	"errors"
	"image/color"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"vindu/media/codec"
	"vindu/media/peer"
	"vindu/media/peer/peertest"
)

func onlyLoopback(name string) bool { return name == "lo" }

// near is a terminal's end that sends a green picture and a 500 Hz tone as soon as it is secure.
type near struct {
	late chan struct{} // Run waits for it; nil: it begins at once
	t    *testing.T
	p    *peer.Peer
	e    *codec.VP8Encoder
	d    *codec.VP8Decoder
	od   *codec.OpusDecoder

	frames, audio, wanted atomic.Int64
	mu                    sync.Mutex
	colour                color.YCbCr
	pcm                   []int16
	events                []peer.Event
	moving                sync.Mutex // while it is held, no candidate is passed on
	happened              chan peer.Kind
	done                  chan error
	cancel                context.CancelFunc
}

func (n *near) Video(f peer.VideoFrame) {
	img, err := n.d.Decode(f.Data)
	if err != nil || img == nil {
		n.t.Errorf("decode frame: %v", err)
		return
	}
	n.mu.Lock()
	n.colour = img.YCbCrAt(img.Rect.Dx()/2, img.Rect.Dy()/4)
	n.mu.Unlock()
	n.frames.Add(1)
}

func (n *near) Audio(a peer.AudioPacket) {
	pcm := make([]int16, codec.MaxOpusSamples)
	k, err := n.od.Decode(a.Data, pcm)
	if err != nil {
		n.t.Errorf("decode sound: %v", err)
	}
	n.mu.Lock()
	n.pcm = append(n.pcm, pcm[:k]...)
	n.mu.Unlock()
	n.audio.Add(1)
}

func (n *near) KeyframeWanted() { n.wanted.Add(1); n.e.ForceKeyframe() }

func (n *near) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func newNear(t *testing.T, cfg peer.Config, offer string) *near {
	t.Helper()
	n := &near{t: t, happened: make(chan peer.Kind, 256), done: make(chan error, 1)}
	var err error
	n.e, err = codec.NewVP8Encoder(codec.VP8Config{Width: 320, Height: 240, FPS: 15, Bitrate: 300_000})
	n.must(err)
	n.d, err = codec.NewVP8Decoder()
	n.must(err)
	n.od, err = codec.NewOpusDecoder()
	n.must(err)
	cfg.IncludeLoopback = true
	if cfg.Interfaces == nil {
		cfg.Interfaces = onlyLoopback
	}
	n.p, err = peer.Accept(t.Context(), cfg, peer.SDP(offer), n)
	n.must(err)
	t.Cleanup(func() { n.e.Close(); n.d.Close(); n.od.Close() })
	return n
}

// start runs the near end and exchanges candidates.
func (n *near) start(c *peertest.Caller) {
	ctx, cancel := context.WithCancel(n.t.Context())
	n.cancel = cancel
	var wg sync.WaitGroup
	wg.Go(func() {
		if n.late != nil {
			<-n.late
		}
		n.done <- n.p.Run(ctx)
	})
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-n.p.Events():
				if e.Kind == peer.LocalCandidate && c != nil {
					n.moving.Lock()
					_ = c.AddCandidate(e.Candidate.Candidate)
					n.moving.Unlock()
				}
				n.mu.Lock()
				n.events = append(n.events, e)
				n.mu.Unlock()
				n.happened <- e.Kind
			}
		}
	})
	if c != nil {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case i := <-c.Candidates:
					n.moving.Lock()
					_ = n.p.AddCandidate(peer.Candidate{Candidate: i.Candidate})
					n.moving.Unlock()
				}
			}
		})
	}
	n.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (n *near) await(kind peer.Kind) {
	n.t.Helper()
	limit := time.After(60 * time.Second)
	for {
		select {
		case k := <-n.happened:
			if k == kind {
				return
			}
			if k == peer.Failed {
				n.mu.Lock()
				e := n.events[len(n.events)-1]
				n.mu.Unlock()
				n.t.Fatalf("failed in stage %s: %v; waited for %s", e.Stage, e.Err, kind)
			}
		case <-limit:
			n.t.Fatalf("no %s", kind)
		}
	}
}

// send sends picture and tone until ctx ends.
func (n *near) send(ctx context.Context) {
	img := peertest.Picture(320, 240, color.YCbCr{Y: 145, Cb: 54, Cr: 34})
	oe, err := codec.NewOpusEncoder(codec.OpusConfig{})
	if err != nil {
		n.t.Error(err)
		return
	}
	defer oe.Close()
	pcm := make([]int16, 960)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ; i++ {
		peertest.Tone(pcm, 500, i*960)
		a, err := oe.Encode(pcm)
		if err == nil {
			err = n.p.WriteAudio(a, uint32(i*960))
		}
		if i%3 == 0 && err == nil {
			peertest.Move(img, i)
			var f codec.Frame
			if f, err = n.e.Encode(img, int64(i)*1800); err == nil {
				_, err = n.p.WriteVideo(f.Data, uint32(i)*1800)
			}
		}
		if err != nil && ctx.Err() == nil {
			n.t.Error(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// eventually waits for cond, which the other goroutines bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

func alike(a, b color.YCbCr, by int) bool {
	d := func(x, y uint8) bool { return int(x)-int(y) <= by && int(y)-int(x) <= by }
	return d(a.Y, b.Y) && d(a.Cb, b.Cb) && d(a.Cr, b.Cr)
}

func newCaller(t *testing.T, opt peertest.Options) (*peertest.Caller, string) {
	t.Helper()
	c, offer, err := peertest.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, offer
}

func TestCallBothWays(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{MaxVideoIn: 900_000}, offer)
	if !strings.Contains(string(n.p.Answer()), "b=AS:900\r\nb=TIAS:900000\r\n") {
		t.Error("the answer does not limit video")
	}
	if !strings.Contains(string(n.p.Answer()), "a=candidate:") {
		t.Error("the answer carries no candidate though the host's are known at once")
	}
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	n.await(peer.PathFound)
	n.await(peer.Secure)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { n.send(ctx) })
	defer wg.Wait()
	defer cancel()

	eventually(t, "30 frames each way", func() bool {
		got, _ := c.Frames()
		return n.frames.Load() >= 30 && got >= 30
	})
	if seen, _ := c.Seen(); !alike(seen, color.YCbCr{Y: 145, Cb: 54, Cr: 34}, 15) {
		t.Errorf("the caller sees %v, not green", seen)
	}
	n.mu.Lock()
	if !alike(n.colour, color.YCbCr{Y: 81, Cb: 90, Cr: 240}, 15) {
		t.Errorf("the near end sees %v, not red", n.colour)
	}
	if got := peertest.Power(n.pcm[len(n.pcm)/2:], 1000); got < 0.8 {
		t.Errorf("%.2f of what the near end hears is the tone", got)
	}
	n.mu.Unlock()
	eventually(t, "the caller hears the tone", func() bool { return c.Heard(500) > 0.8 })

	if err := c.AskKeyframe(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "keyframe wanted", func() bool { return n.wanted.Load() >= 1 })
	eventually(t, "keyframe came", func() bool { _, k := c.Frames(); return k >= 2 })

	n.p.RequestKeyframe()
	eventually(t, "caller asked for a keyframe", func() bool { return c.Asked() >= 1 })

	eventually(t, "round trip known", func() bool { return n.p.Stats().RTT > 0 })
	s := n.p.Stats()
	if s.SRTPProfile != "AEAD_AES_256_GCM" && s.SRTPProfile != "AEAD_AES_128_GCM" {
		t.Errorf("SRTP profile %q", s.SRTPProfile)
	}
	if s.Suite != "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" {
		t.Errorf("DTLS suite %q", s.Suite)
	}
	if !s.FarProved || s.LocalKind != "host" {
		t.Errorf("far end proved: %v; local candidate is %q", s.FarProved, s.LocalKind)
	}
	fp, err := peer.OfferFingerprint(peer.SDP(offer))
	if err != nil || fp != s.FarFingerprint {
		t.Errorf("offer's fingerprint %x, %v; stats say %x", fp, err, s.FarFingerprint)
	}
	if fp, err := peer.OfferFingerprint(n.p.Answer()); err != nil || fp != s.Fingerprint || fp != n.p.Fingerprint() {
		t.Errorf("answer's fingerprint %x, %v; stats say %x", fp, err, s.Fingerprint)
	}
	if s.VideoIn.Frames < 30 || s.VideoIn.Keyframes < 1 || s.AudioIn.Packets == 0 || s.VideoOut.Packets == 0 || s.AudioOut.Bytes == 0 {
		t.Errorf("stats %+v", s)
	}

	cancel()
	wg.Wait()
	if err := n.p.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-n.done; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := n.p.AddCandidate(peer.Candidate{Candidate: "x"}); !errors.Is(err, peer.ErrClosed) {
		t.Errorf("candidate after close: %v", err)
	}
}

func TestRefusesWeakSRTP(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{Profiles: []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80}})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	err := <-n.done
	if !errors.Is(err, peer.ErrProfile) {
		t.Fatalf("run: %v, want ErrProfile", err)
	}
	n.awaitFailure(peer.StageDTLS, peer.ErrProfile)
}

// awaitFailure checks that the last event is a failure.
func (n *near) awaitFailure(stage peer.Stage, want error) {
	n.t.Helper()
	eventually(n.t, "failure event", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.events) > 0 && n.events[len(n.events)-1].Kind == peer.Failed
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.events[len(n.events)-1]; e.Stage != stage || !errors.Is(e.Err, want) {
		n.t.Errorf("failed in %s: %v; want %s, %v", e.Stage, e.Err, stage, want)
	}
}

// Whoever sits between and answers with another certificate is not connected.
func TestRefusesOtherCertificate(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{})
	i := strings.Index(offer, "a=fingerprint:sha-256 ") + len("a=fingerprint:sha-256 ")
	forged := offer[:i] + flip(offer[i:i+2]) + offer[i+2:]
	forged = strings.ReplaceAll(forged, offer[i:i+95], forged[i:i+95])
	n := newNear(t, peer.Config{}, forged)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	if err := <-n.done; !errors.Is(err, peer.ErrCertificate) {
		t.Fatalf("run: %v, want ErrCertificate", err)
	}
	n.awaitFailure(peer.StageDTLS, peer.ErrCertificate)
	if n.p.Stats().FarProved {
		t.Error("stats say that the far end proved its certificate")
	}
}

func flip(hex string) string {
	if hex == "00" {
		return "01"
	}
	return "00"
}

func TestCloseInEveryState(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   func(t *testing.T, n *near, c *peertest.Caller)
	}{
		{"before Run", func(*testing.T, *near, *peertest.Caller) {}},
		{"before the far end has the answer", func(_ *testing.T, n *near, _ *peertest.Caller) { n.start(nil) }},
		{"while checking", func(t *testing.T, n *near, c *peertest.Caller) {
			n.start(nil)
			if err := c.Answer(string(n.p.Answer())); err != nil {
				t.Fatal(err)
			}
		}},
		{"at PathFound", func(t *testing.T, n *near, c *peertest.Caller) {
			if err := c.Answer(string(n.p.Answer())); err != nil {
				t.Fatal(err)
			}
			n.start(c)
			n.await(peer.PathFound)
		}},
		{"when secure", func(t *testing.T, n *near, c *peertest.Caller) {
			if err := c.Answer(string(n.p.Answer())); err != nil {
				t.Fatal(err)
			}
			n.start(c)
			n.await(peer.Secure)
		}},
		{"with media", func(t *testing.T, n *near, c *peertest.Caller) {
			if err := c.Answer(string(n.p.Answer())); err != nil {
				t.Fatal(err)
			}
			n.start(c)
			eventually(t, "frames", func() bool { return n.frames.Load() > 0 && n.audio.Load() > 0 })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, offer := newCaller(t, peertest.Options{})
			n := newNear(t, peer.Config{}, offer)
			tt.at(t, n, c)
			for range 2 {
				if err := n.p.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n.cancel != nil {
				if err := <-n.done; err != nil && !errors.Is(err, peer.ErrClosed) {
					t.Errorf("run: %v", err)
				}
			}
			if err := n.p.Run(t.Context()); !errors.Is(err, peer.ErrClosed) {
				t.Errorf("run after close: %v", err)
			}
			_ = n.p.Stats()
		})
	}
}

// TestClosedAsRunBegins: between Run's first look and its first reader the connection may be closed by another goroutine.
func TestClosedAsRunBegins(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{}, offer)
	n.late = make(chan struct{})
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	eventually(t, "connection", n.p.Connected)
	if !n.p.Disconnect() {
		t.Error("what is sent is not forgotten, so this test proves nothing")
	}
	close(n.late)
	n.await(peer.Failed)
	if err := <-n.done; err == nil {
		t.Error("Run found nothing wrong")
	}
	if err := n.p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Chromium probes with retransmissions, so that the first packet of its picture may come by RTX. pion then never fires OnTrack, unless
// it is told not to wait for a packet.
func TestFirstPacketsByRTX(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{RTXFirst: 3})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	eventually(t, "20 frames", func() bool { return n.frames.Load() >= 20 })
}

// One packet of twelve is lost each way, on a line of 40 ms round trip: nothing of it is seen.
func TestLossIsRepaired(t *testing.T) {
	seed := uint32(7)
	lose := func(n int) bool {
		seed = seed*1664525 + 1013904223
		return n > 60 && seed>>16%12 == 0 // once connected
	}
	line, err := peertest.NewLine(peertest.Way{Delay: 20 * time.Millisecond, Lose: func(n int) bool { return n > 60 && n%12 == 5 }},
		peertest.Way{Delay: 20 * time.Millisecond, Lose: lose})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	c, offer := newCaller(t, peertest.Options{Line: line, Width: 640, Height: 480, FPS: 30})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	n.await(peer.Secure)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { n.send(ctx) })
	defer wg.Wait()
	defer cancel()
	eventually(t, "150 frames", func() bool { return n.frames.Load() >= 150 })
	s := n.p.Stats()
	toFar, toNear := line.Passed()
	t.Logf("in %+v; nacks sent %d, heard %d; keyframes asked %d; line %+v %+v", s.VideoIn, s.NacksSent, s.NacksHeard, s.KeyframesAsked, toFar, toNear)
	if toNear.Lost < 5 || s.VideoIn.Recovered < 5 {
		t.Errorf("%d packets lost on the line, %d recovered", toNear.Lost, s.VideoIn.Recovered)
	}
	if int64(s.NacksSent) > 4*toNear.Lost {
		t.Errorf("asked %d times for %d lost packets", s.NacksSent, toNear.Lost)
	}
	if s.NacksHeard == 0 {
		t.Error("the caller asked for nothing")
	}
}

// What the terminal says in the handshake it says twice: its last flight nobody asks for again in time.
func TestHandshakeIsSaidTwice(t *testing.T) {
	var mu sync.Mutex
	said := map[string]int{}
	line, err := peertest.NewLine(peertest.Way{See: func(packet []byte) {
		if len(packet) > 0 && (packet[0] == 20 || packet[0] == 22) {
			mu.Lock()
			said[string(packet)]++
			mu.Unlock()
		}
	}}, peertest.Way{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	c, offer := newCaller(t, peertest.Options{Line: line})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	n.await(peer.Secure)
	eventually(t, "two flights, each packet of them twice", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, times := range said {
			if times != 2 {
				return false
			}
		}
		return len(said) >= 2
	})
}

// A far end that vanishes without a word is missed. That it is missed within 10 s is kept by TestSilenceIsShort.
func TestFarEndVanishes(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	eventually(t, "frames", func() bool { return n.frames.Load() > 0 })
	if err := c.Vanish(); err != nil {
		t.Fatal(err)
	}
	if err := <-n.done; !errors.Is(err, peer.ErrSilent) {
		t.Errorf("run: %v, want ErrSilent", err)
	}
	n.await(peer.Interrupted)
}
