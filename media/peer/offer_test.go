package peer

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
)

// chromium is what Chromium 150 offers (createOffer with a camera and a microphone, bundlePolicy max-bundle), with other ICE credentials.
func chromium(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/chromium-offer.sdp")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCheckOffer(t *testing.T) {
	good := chromium(t)
	i := strings.Index(good, "a=fingerprint:")
	line := good[i : i+strings.Index(good[i:], "\r\n")]
	for _, tt := range []struct {
		name string
		sdp  string
		want error
	}{
		{"good", good, nil},
		{"audio only", good[:strings.Index(good, "m=video")], nil},
		{"empty", "", ErrOffer},
		{"not SDP", "hello\r\n", ErrOffer},
		{"too long", good + strings.Repeat("a=x:y\r\n", 20_000), ErrOffer},
		{"too many lines", good + strings.Repeat("a=x\r\n", 2_000), ErrOffer},
		{"no media", good[:strings.Index(good, "m=audio")], ErrOffer},
		{"no fingerprint", strings.ReplaceAll(good, line+"\r\n", ""), ErrFingerprint},
		{"sha-1", strings.ReplaceAll(good, "fingerprint:sha-256", "fingerprint:sha-1"), ErrFingerprint},
		{"two fingerprints", strings.Replace(good, line, line[:len(line)-2]+"00", 1), ErrFingerprint},
		{"short fingerprint", strings.ReplaceAll(good, line, line[:len(line)-3]), ErrFingerprint},
		{"fingerprint not in hex", strings.ReplaceAll(good, line, line[:len(line)-2]+"ZZ"), ErrFingerprint},
		{"another algorithm beside it", strings.ReplaceAll(good, line, line+"\r\na=fingerprint:md5 00:11"), ErrFingerprint},
		{"data channel", good + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n", ErrOffer},
		{"two videos", good + good[strings.Index(good, "m=video"):], ErrOffer},
		{"passive", strings.ReplaceAll(good, "setup:actpass", "setup:passive"), ErrOffer},
		{"no mid", strings.ReplaceAll(good, "a=mid:1\r\n", ""), ErrOffer},
		{"same mid", strings.ReplaceAll(good, "a=mid:1\r\n", "a=mid:0\r\n"), ErrOffer},
		{"candidate by DNS", good + "a=candidate:1 1 udp 2130706431 spy.example 9 typ host\r\n", ErrCandidate},
		{"many candidates", good + strings.Repeat("a=candidate:1 1 udp 2130706431 10.0.0.1 9 typ host\r\n", 101), ErrOffer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := checkOffer(SDP(tt.sdp))
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil && !errors.Is(err, ErrOffer) {
				t.Errorf("error %v does not wrap ErrOffer", err)
			}
			if err == nil && !o.audio {
				t.Error("no audio found")
			}
			fp, ferr := OfferFingerprint(SDP(tt.sdp))
			if err == nil && (ferr != nil || fp != o.fingerprint || fp == [32]byte{}) {
				t.Errorf("fingerprint %x, %v", fp, ferr)
			}
		})
	}
}

func TestCheckCandidate(t *testing.T) {
	for _, tt := range []struct {
		name, candidate string
		ok              bool
	}{
		{"host", "candidate:842163049 1 udp 1677729535 192.168.1.7 52345 typ host generation 0 ufrag abcd network-cost 999", true},
		{"mDNS", "candidate:1 1 udp 2113937151 6b2d9d3e-0c5a-4b59-8f1e-0f5d2d8c6a11.local 52345 typ host", true},
		{"relay", "candidate:1 1 udp 41885439 203.0.113.7 52345 typ relay raddr 0.0.0.0 rport 0", true},
		{"IPv6", "candidate:1 1 udp 2130706431 2001:db8::1 9 typ host", true},
		{"name", "candidate:1 1 udp 2130706431 spy.example 9 typ host", false},
		{"nonsense", "candidate:nonsense", false},
		{"empty address", "candidate:1 1 udp 1  9 typ host", false},
		{"long", "candidate:1 1 udp 1 10.0.0.1 9 typ host " + strings.Repeat("x y ", 200), false},
		{"port", "candidate:1 1 udp 1 10.0.0.1 99999 typ host", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkCandidate(tt.candidate)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrCandidate) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Secrets do not show in logs, whoever logs them.
func TestRedacts(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	const secret = "planted"
	log.Info("x", "offer", SDP(secret), "candidate", Candidate{Candidate: secret},
		"server", ICEServer{URLs: []string{"turn:relay"}, Username: secret, Credential: secret},
		"refused", refuse(errors.New("codec parse failed: "+secret)))
	if strings.Contains(out.String(), secret) {
		t.Errorf("logged: %s", out.String())
	}
}

func TestLimitVideo(t *testing.T) {
	const sdp = "v=0\r\nm=audio 9 X 111\r\nc=IN IP4 0.0.0.0\r\nm=video 9 X 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n"
	want := "v=0\r\nm=audio 9 X 111\r\nc=IN IP4 0.0.0.0\r\nm=video 9 X 96\r\nc=IN IP4 0.0.0.0\r\nb=AS:901\r\nb=TIAS:900001\r\na=mid:1\r\n"
	if got := limitVideo(sdp, 900_001); string(got) != want {
		t.Errorf("%q", got)
	}
	if got := limitVideo(sdp, 0); got != sdp {
		t.Errorf("changed without a limit: %q", got)
	}
	if got := limitVideo("v=0\r\n", 1); got != "v=0\r\n" {
		t.Errorf("changed without video: %q", got)
	}
}

// FuzzOffer puts an offer through the check and through pion, up to the answer.
func FuzzOffer(f *testing.F) {
	f.Add(chromium(f))
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n")
	f.Fuzz(func(t *testing.T, sdp string) {
		if _, err := checkOffer(SDP(sdp)); err != nil {
			if !errors.Is(err, ErrOffer) {
				t.Fatalf("error %v", err)
			}
			return
		}
		p := &Peer{alive: t.Context()}
		p.quiet.known = make(chan struct{})
		var cfg Config
		cfg.defaults()
		api, err := p.engine(cfg)
		if err != nil {
			t.Fatal(err)
		}
		pc, err := api.NewPeerConnection(webrtc.Configuration{})
		if err != nil {
			t.Fatal(err)
		}
		defer pc.GracefulClose()
		if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
			_ = refuse(err)
			return
		}
		if a, err := pc.CreateAnswer(nil); err == nil {
			if _, err := OfferFingerprint(SDP(a.SDP)); err != nil {
				t.Fatalf("own answer: %v", err)
			}
			limitVideo(SDP(a.SDP), 1)
		}
	})
}

func FuzzCandidate(f *testing.F) {
	f.Add("candidate:842163049 1 udp 1677729535 192.168.1.7 52345 typ srflx raddr 10.0.0.1 rport 9 generation 0 ufrag abcd network-cost 999")
	f.Add("candidate:1 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active")
	f.Fuzz(func(t *testing.T, c string) {
		if err := checkCandidate(c); err != nil && !errors.Is(err, ErrCandidate) {
			t.Fatalf("error %v", err)
		}
	})
}
