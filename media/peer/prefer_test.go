package peer

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"vindu/media/codec"
)

//go:embed testdata/chromium-offer.sdp
var chromiumOffer string

// The answer has the codecs in our order, each with its retransmissions and with the payload types of the offer, and only what we have; the
// far end goes by it.
func TestAnswerFollowsOrder(t *testing.T) {
	offer := strings.ReplaceAll(chromiumOffer, "\n", "\r\n")
	without := func(lines ...string) string {
		var out []string
		for _, l := range strings.Split(offer, "\r\n") {
			keep := true
			for _, w := range lines {
				keep = keep && !strings.Contains(l, w)
			}
			if keep {
				out = append(out, l)
			}
		}
		return strings.Join(out, "\r\n")
	}
	for _, tt := range []struct {
		name  string
		offer string
		order []codec.Kind
		types string
		sends codec.Kind
	}{
		{"as it is", offer, nil, "96 97 109 114", codec.VP8},
		{"VP8 first", offer, []codec.Kind{codec.VP8, codec.H264}, "96 97 109 114", codec.VP8},
		{"H.264 first", offer, []codec.Kind{codec.H264, codec.VP8}, "109 114 96 97", codec.H264},
		{"VP8 alone", offer, []codec.Kind{codec.VP8}, "96 97", codec.VP8},
		{"H.264 of other profiles", without("profile-level-id=42e01f"), []codec.Kind{codec.H264, codec.VP8}, "96 97", codec.VP8},
		{"no VP8", strings.Replace(without("VP8/90000", ":96 ", "apt=96", ":97 "), "SAVPF 96 97 ", "SAVPF ", 1), []codec.Kind{codec.VP8, codec.H264}, "109 114", codec.H264},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Accept(t.Context(), Config{Video: tt.order, Interfaces: func(string) bool { return false }}, SDP(tt.offer), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close(context.Background())
			var got string
			for line := range strings.Lines(string(p.Answer())) {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "m=video 9 UDP/TLS/RTP/SAVPF "); ok {
					got = rest
				}
			}
			if got != tt.types || p.VideoCodec() != tt.sends || p.video.track.mime != "video/"+tt.sends.String() {
				t.Errorf("answered %q and sends %s, want %q and %s", got, p.VideoCodec(), tt.types, tt.sends)
			}
			if tt.sends == codec.H264 && !strings.Contains(string(p.Answer()), "a=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f") {
				t.Error("the answer does not say which H.264")
			}
			// The order stays when another path is looked for.
			again := strings.Replace(tt.offer, "ice-ufrag:abcd", "ice-ufrag:efgh", -1)
			if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: again}); err != nil {
				t.Fatal(err)
			}
			if answer, err := p.pc.CreateAnswer(nil); err != nil || !strings.Contains(answer.SDP, "m=video 9 UDP/TLS/RTP/SAVPF "+tt.types+"\r\n") {
				t.Errorf("the second answer is in another order, %v", err)
			}
		})
	}
}

// An offer that has neither VP8 nor an H.264 that we speak is refused, not answered with one that we do not.
func TestNoCodecInCommon(t *testing.T) {
	for _, left := range []string{
		"packetization-mode=0;profile-level-id=42e01f", // in one mode only
		"packetization-mode=1;profile-level-id=4d001f", // of another profile
	} {
		var out []string
		for line := range strings.Lines(strings.NewReplacer("VP8/90000", "VP7/90000").Replace(chromiumOffer)) {
			line = strings.TrimSpace(line)
			if strings.Contains(line, "profile-level-id") && !strings.Contains(line, left) {
				line = line[:strings.Index(line, " ")] + " packetization-mode=1;profile-level-id=f4001f"
			}
			out = append(out, line)
		}
		p, err := Accept(t.Context(), Config{Interfaces: func(string) bool { return false }}, SDP(strings.Join(out, "\r\n")+"\r\n"), nil)
		if err == nil {
			t.Errorf("%s: answered %s", left, p.Answer())
			_ = p.Close(context.Background())
		} else if !errors.Is(err, ErrOffer) {
			t.Errorf("%s: %v", left, err)
		}
	}
}
