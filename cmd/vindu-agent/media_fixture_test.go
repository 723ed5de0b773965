package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pion/webrtc/v4"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/media/display"
	"vindu/media/peer"
	"vindu/media/peer/peertest"
	"vindu/protocol"
)

// ledger remembers what it was told, and may say no.
type ledger struct {
	mu      sync.Mutex
	entries []string
	no      error
}

func (l *ledger) Opening(d call.Device) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.no != nil {
		return l.no
	}
	l.entries = append(l.entries, "open "+string(d))
	return nil
}

func (l *ledger) Closed(d call.Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, "close "+string(d))
}

// sorted returns the entries; camera and microphone open side by side.
func (l *ledger) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.entries))
}

// fixture is the terminal's real media with test picture and test sound, and a caller.
type fixture struct {
	t       *testing.T
	media   *media
	ledger  *ledger
	caller  *peertest.Caller
	session call.Session
	seen    chan call.MediaEvent
}

func newFixture(t *testing.T) *fixture {
	cfg := agent.Default()
	cfg.Call.Notice = 0
	// Names that no machine has, so that the test is the same on every machine.
	cfg.Devices.Camera, cfg.Devices.TestPicture = "/dev/vindu-test-no-camera", true
	cfg.Devices.Microphone, cfg.Devices.Speaker, cfg.Devices.TestSound = "vindu-test-no-card", "vindu-test-no-card", true
	cfg.Picture = agent.Picture{Width: 320, Height: 240, FPS: 15, Bitrate: 500_000}
	cfg.Network.Loopback = true
	screen := display.New(display.NewMemory(320, 240))
	return &fixture{
		t: t, ledger: &ledger{}, seen: make(chan call.MediaEvent, 100),
		media: &media{cfg: cfg, devices: &devices{cfg: cfg.Devices}, screen: pictures{screen}, far: &tap{}, log: slog.New(slog.DiscardHandler),
			files: fstest.MapFS{"sys/class/thermal/thermal_zone0/temp": {Data: []byte("54000\n")}, "sys/class/thermal/thermal_zone1/temp": {Data: []byte("71499\n")}}},
	}
}

// prepare makes the call as far as the answer.
func (f *fixture) prepare() {
	f.t.Helper()
	caller, offer, err := peertest.New(peertest.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.caller = caller
	f.t.Cleanup(func() { _ = caller.Close() })
	fingerprint, err := peer.OfferFingerprint(peer.SDP(offer))
	if err != nil {
		f.t.Fatal(err)
	}
	f.session, err = f.media.Prepare(f.t.Context(), call.Offer{Call: protocol.NewCallID(), SDP: protocol.SDP(offer), Remote: fingerprint, Ledger: f.ledger})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = f.session.Close(context.Background()) })
}

// connect exchanges candidates until the session ends.
func (f *fixture) connect() {
	f.t.Helper()
	if err := f.caller.Answer(string(f.session.SDP())); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	f.t.Cleanup(func() { _ = f.session.Close(context.Background()); <-done })
	go func() {
		defer close(done)
		for {
			select {
			case ev, ok := <-f.session.Events():
				if !ok {
					return
				}
				if ev.Kind == call.MediaCandidate {
					_ = f.caller.AddCandidate(string(ev.Candidate.Line))
					continue
				}
				f.seen <- ev
			case c := <-f.caller.Candidates:
				_ = f.session.AddCandidate(candidate(c))
			}
		}
	}()
}

func candidate(c webrtc.ICECandidateInit) protocol.Candidate {
	out := protocol.Candidate{Line: protocol.CandidateLine(c.Candidate)}
	if c.SDPMid != nil {
		out.Mid = *c.SDPMid
	}
	if c.SDPMLineIndex != nil {
		out.MLine = *c.SDPMLineIndex
	}
	return out
}

// await waits for an event.
func (f *fixture) await(what string, wanted func(call.MediaEvent) bool) {
	f.t.Helper()
	for {
		select {
		case ev := <-f.seen:
			if wanted(ev) {
				return
			}
		case <-time.After(time.Minute):
			f.t.Fatalf("no %s in a minute", what)
		}
	}
}

func kind(k call.MediaEventKind) func(call.MediaEvent) bool {
	return func(ev call.MediaEvent) bool { return ev.Kind == k }
}
