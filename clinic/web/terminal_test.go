package web

import (
	"context"
	_ "embed"
	"encoding/hex"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// homePicture is a VP8 keyframe, 640×480: a room with a window and somebody in it, drawn by hand. Its upper left corner is (214, 200, 178).
//
//go:embed testdata/home.vp8
var homePicture []byte

// silence is 20 ms of Opus.
var silence = []byte{0xf8, 0xff, 0xfe}

// terminal plays a home's terminal with a real peer connection, on loopback alone. It signs what a terminal would.
type terminal struct {
	t           testing.TB
	c           *clinic
	call        *webtest.Call
	pc          *webrtc.PeerConnection
	sdp         string
	fingerprint protocol.Fingerprint

	still            atomic.Bool  // it sends no pictures, as when its camera is unplugged
	pictures, sounds atomic.Int64 // RTP packets of the caller's
	seen, heard      chan struct{}
	connected        chan struct{}
	stop             context.CancelFunc
	wg               sync.WaitGroup
}

// newTerminal takes the call's offer and prepares the answer; it says nothing yet.
func newTerminal(t testing.TB, c *clinic, call *webtest.Call) *terminal {
	t.Helper()
	f := &terminal{t: t, c: c, call: call, seen: make(chan struct{}), heard: make(chan struct{}), connected: make(chan struct{})}
	certificate, err := webrtc.GenerateCertificate(webtest.NewKey())
	f.check(err)
	prints, err := certificate.GetFingerprints()
	f.check(err)
	f.fingerprint = fingerprintOf(t, prints)
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetIPFilter(net.IP.IsLoopback)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AEAD_AES_128_GCM)
	var m webrtc.MediaEngine
	f.check(m.RegisterDefaultCodecs())
	f.pc, err = webrtc.NewAPI(webrtc.WithSettingEngine(e), webrtc.WithMediaEngine(&m)).NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{*certificate}})
	f.check(err)
	var once sync.Once
	f.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(f.connected) })
		}
	})
	f.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		count, first := &f.pictures, f.seen
		if track.Kind() == webrtc.RTPCodecTypeAudio {
			count, first = &f.sounds, f.heard
		}
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			if count.Add(1) == 1 {
				close(first)
			}
		}
	})
	f.check(f.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(call.Request.Offer)}))
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.send(ctx, webrtc.MimeTypeVP8, homePicture, 50*time.Millisecond)
	f.send(ctx, webrtc.MimeTypeOpus, silence, 20*time.Millisecond)
	f.pc.OnICECandidate(func(ic *webrtc.ICECandidate) {
		candidate := protocol.Candidate{}
		if ic != nil {
			j := ic.ToJSON()
			candidate.Line, candidate.MLine = protocol.CandidateLine(j.Candidate), *j.SDPMLineIndex
			candidate.Mid = *j.SDPMid
		}
		f.call.Candidate(candidate)
	})
	answer, err := f.pc.CreateAnswer(nil)
	f.check(err)
	f.sdp = answer.SDP
	f.wg.Go(func() { f.paths(ctx) })
	t.Cleanup(f.close)
	return f
}

// paths takes the page's candidates as a terminal does: if this call's own key has signed them, and their numbers grow.
func (f *terminal) paths(ctx context.Context) {
	number := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case signed := <-f.c.calls.Paths(f.call.ID):
			got, err := protocol.VerifyCandidates(signed, f.call.Proven, protocol.HashOf(f.call.Invitation))
			if err != nil || got.Number != number+1 {
				f.t.Errorf("candidates after number %d: %+v, %v", number, got, err)
				continue
			}
			number = got.Number
			for _, candidate := range got.List {
				_ = f.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: string(candidate.Line), SDPMid: &candidate.Mid, SDPMLineIndex: &candidate.MLine})
			}
		}
	}
}

func (f *terminal) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *terminal) send(ctx context.Context, mime string, frame []byte, every time.Duration) {
	f.t.Helper()
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: mime}, strings.ReplaceAll(mime, "/", "-"), "home")
	f.check(err)
	_, err = f.pc.AddTrack(track)
	f.check(err)
	f.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if mime == webrtc.MimeTypeVP8 && f.still.Load() {
					continue
				}
				_ = track.WriteSample(media.Sample{Data: frame, Duration: every})
			}
		}
	})
}

// listen begins to gather and to connect.
func (f *terminal) listen() {
	f.t.Helper()
	f.check(f.pc.SetLocalDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: f.sdp}))
}

// ring and answer say, truthfully signed, that the terminal rings and that it has answered.
func (f *terminal) ring() {
	f.t.Helper()
	f.check(f.call.Answer(f.call.Statement(protocol.Ringing, f.sdp, f.fingerprint), f.sdp, f.c.key))
	f.listen()
}

func (f *terminal) answer() {
	f.t.Helper()
	f.check(f.call.Answer(f.call.Statement(protocol.Answered, f.sdp, f.fingerprint), "", f.c.key))
}

func (f *terminal) close() {
	f.stop()
	if err := f.pc.Close(); err != nil {
		f.t.Error(err)
	}
	f.wg.Wait()
}

func fingerprintOf(t testing.TB, prints []webrtc.DTLSFingerprint) (f protocol.Fingerprint) {
	t.Helper()
	for _, p := range prints {
		if p.Algorithm != "sha-256" {
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(p.Value, ":", ""))
		if err != nil || copy(f[:], b) != len(f) {
			t.Fatal("not a fingerprint")
		}
		return f
	}
	t.Fatal("no SHA-256 fingerprint")
	return f
}
