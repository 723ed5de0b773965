package peer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vindu/media/peer"
	"vindu/media/peer/peertest"
)

// move exchanges an offer for another path, over line from there on, and its answer. The candidates of either follow on them, as they do in a call: pion forgets
// those that come before the description that they belong to.
func (n *near) move(c *peertest.Caller, line *peertest.Line) peer.SDP {
	n.t.Helper()
	n.moving.Lock()
	defer n.moving.Unlock()
	again, err := c.Restart(line)
	n.must(err)
	answer, err := n.p.Restart(n.t.Context(), peer.SDP(again))
	n.must(err)
	n.must(c.Answer(string(answer)))
	return answer
}

// The network changes: the line is cut, and the far end looks for another path. Picture and sound go on, both ways, with the same keys.
func TestRestartFindsAnotherPath(t *testing.T) {
	var cut atomic.Bool
	way := peertest.Way{Delay: 5 * time.Millisecond, Lose: func(int) bool { return cut.Load() }}
	lines := [2]*peertest.Line{}
	for i := range lines {
		var err error
		if lines[i], err = peertest.NewLine(way, way); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(lines[i].Close)
		way.Lose = nil
	}
	c, offer := newCaller(t, peertest.Options{Line: lines[0]})
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
	eventually(t, "frames", func() bool { f, _ := c.Frames(); return n.frames.Load() > 5 && f > 5 })

	cut.Store(true)
	n.await(peer.Interrupted)
	before, frames := n.frames.Load(), n.p.Stats()
	answer := n.move(c, lines[1])
	if sum, err := peer.OfferFingerprint(answer); err != nil || sum != n.p.Fingerprint() {
		t.Errorf("the answer has another certificate: %v", err)
	}
	n.await(peer.Resumed)
	sent, _ := c.Frames()
	eventually(t, "frames on the new path", func() bool {
		f, _ := c.Frames()
		return n.frames.Load() > before+10 && f > sent+5
	})
	s := n.p.Stats()
	if s.Fingerprint != frames.Fingerprint || s.FarFingerprint != frames.FarFingerprint || s.SRTPProfile != frames.SRTPProfile || s.VideoIn.Packets <= frames.VideoIn.Packets {
		t.Errorf("it is another connection: %+v", s)
	}
	if _, toNear := lines[1].Passed(); toNear.Sent == 0 {
		t.Error("nothing came over the second line")
	}
}

// A path that is not found ends the connection, as silence does.
func TestRestartThatFindsNothing(t *testing.T) {
	c, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	eventually(t, "frames", func() bool { return n.frames.Load() > 0 })
	again, err := c.Restart(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.p.Restart(t.Context(), peer.SDP(peertest.Strip(again))); err != nil {
		t.Fatal(err)
	}
	if err := c.Vanish(); err != nil {
		t.Fatal(err)
	}
	if err := <-n.done; !errors.Is(err, peer.ErrSilent) {
		t.Errorf("run: %v, want ErrSilent", err)
	}
}

// Whatever is not the same connection by another path is refused, and the connection goes on.
func TestRestartRefuses(t *testing.T) {
	_, first := newCaller(t, peertest.Options{})
	before := newNear(t, peer.Config{}, first)
	second := strings.ReplaceAll(first, "a=ice-ufrag:", "a=ice-ufrag:x")
	if _, err := before.p.Restart(t.Context(), peer.SDP(second)); !errors.Is(err, peer.ErrRestart) {
		t.Errorf("before there is a connection: %v", err)
	}
	if err := before.p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	eventually(t, "frames", func() bool { return n.frames.Load() > 0 })
	_, other := newCaller(t, peertest.Options{})
	again, err := c.Restart(nil)
	if err != nil {
		t.Fatal(err)
	}
	sound := strings.Index(again, "m=audio")
	for _, tt := range []struct {
		name, offer string
		want        error
	}{
		{"another certificate", other, peer.ErrCertificate},
		{"no SDP", "x", peer.ErrOffer},
		{"the first offer again", offer, peer.ErrRestart},
		{"no credentials", strings.ReplaceAll(again, "a=ice-ufrag", "a=x"), peer.ErrRestart},
		{"another direction", strings.Replace(again, "a=sendrecv", "a=recvonly", 1), peer.ErrRestart},
		{"another section", again[:sound] + strings.Replace(again[sound:], "a=mid:", "a=mid:9", 1), peer.ErrRestart},
		{"another sender", strings.ReplaceAll(again, "a=ssrc:", "a=ssrc:1"), peer.ErrRestart},
		{"fewer sections", again[:strings.LastIndex(again, "m=")], peer.ErrRestart},
	} {
		if _, err := n.p.Restart(t.Context(), peer.SDP(tt.offer)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	frames := n.frames.Load()
	answer, err := n.p.Restart(t.Context(), peer.SDP(again))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.p.Restart(t.Context(), peer.SDP(again)); !errors.Is(err, peer.ErrRestart) {
		t.Errorf("the same once more: %v", err)
	}
	if err := c.Answer(string(answer)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "frames", func() bool { return n.frames.Load() > frames+10 })
	if err := n.p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.p.Restart(t.Context(), peer.SDP(again)); !errors.Is(err, peer.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
