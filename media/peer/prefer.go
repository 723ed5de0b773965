package peer

import (
	"fmt"
	"strings"

	"github.com/pion/webrtc/v4"

	"vindu/media/codec"
)

// videoType is a payload type that was negotiated.
type videoType struct {
	payload uint8
	kind    codec.Kind
}

// kindOf returns what a negotiated codec is, if we can serve it: pion also lets one pass of another profile or packetization mode, if the far
// end has no better.
func kindOf(c webrtc.RTPCodecParameters) (codec.Kind, bool) {
	switch {
	case strings.EqualFold(c.MimeType, webrtc.MimeTypeVP8):
		return codec.VP8, true
	case strings.EqualFold(c.MimeType, webrtc.MimeTypeH264):
		var mode, profile string
		for _, p := range strings.Split(c.SDPFmtpLine, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			switch strings.ToLower(name) {
			case "packetization-mode":
				mode = value
			case "profile-level-id":
				profile = strings.ToLower(value)
			}
		}
		return codec.H264, mode == "1" && len(profile) == 6 && strings.HasPrefix(profile, "42e0")
	}
	return 0, false
}

// prefer puts what the offer has of the picture's codecs in our order, which the far end goes by (RFC 8829 §5.3.1), and leaves the rest out.
func (p *Peer) prefer(order []codec.Kind) error {
	for _, t := range p.pc.GetTransceivers() {
		if t.Kind() != webrtc.RTPCodecTypeVideo || t.Receiver() == nil {
			continue
		}
		offered := t.Receiver().GetParameters().Codecs
		var chosen []webrtc.RTPCodecParameters
		for _, want := range order {
			for _, c := range offered {
				k, ok := kindOf(c)
				if !ok || k != want {
					continue
				}
				p.videoTypes = append(p.videoTypes, videoType{uint8(c.PayloadType), k})
				chosen = append(chosen, c)
				for _, r := range offered {
					if strings.EqualFold(r.MimeType, webrtc.MimeTypeRTX) && r.SDPFmtpLine == fmt.Sprintf("apt=%d", c.PayloadType) {
						chosen = append(chosen, r)
						break
					}
				}
				break
			}
		}
		if len(chosen) == 0 {
			return refuse(webrtc.ErrUnsupportedCodec)
		}
		if err := t.SetCodecPreferences(chosen); err != nil {
			return refuse(err)
		}
		p.video.use(p.VideoCodec())
	}
	return nil
}

// VideoCodec is what WriteVideo takes.
func (p *Peer) VideoCodec() codec.Kind {
	if len(p.videoTypes) == 0 {
		return codec.VP8
	}
	return p.videoTypes[0].kind
}

// typeOf returns what a payload type stands for, and whether it was negotiated.
func (p *Peer) typeOf(payload uint8) (codec.Kind, bool) {
	for _, t := range p.videoTypes {
		if t.payload == payload {
			return t.kind, true
		}
	}
	return 0, false
}

// use has frames of kind k sent.
func (v *videoSender) use(k codec.Kind) {
	v.track.mu.Lock()
	defer v.track.mu.Unlock()
	v.track.mime = "video/" + k.String()
	v.cut = newCutter(k)
}
