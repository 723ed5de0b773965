package peer

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pion/ice/v4"
	"github.com/pion/sdp/v3"
)

// Limits of what a far end may send. A Chromium offer of audio and video is 6 to 9 kB.
const (
	maxSDP        = 64 << 10
	maxSections   = 4
	maxSDPLines   = 1500
	maxCandidate  = 512
	maxCandidates = 100
)

// offer is what Accept needs to know of a checked offer.
type offer struct {
	audio, video bool
	fingerprint  [32]byte
}

// OfferFingerprint returns the SHA-256 of the certificate that an offer (or answer) announces. The error wraps
// ErrFingerprint if there is none, if there are several, or if any is of another algorithm (RFC 8122 §5); else ErrOffer.
func OfferFingerprint(s SDP) ([32]byte, error) {
	desc, err := parse(s)
	if err != nil {
		return [32]byte{}, err
	}
	return fingerprint(desc)
}

func parse(s SDP) (*sdp.SessionDescription, error) {
	if len(s) > maxSDP {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrOffer, len(s), maxSDP)
	}
	if n := strings.Count(string(s), "\n"); n > maxSDPLines {
		return nil, fmt.Errorf("%w: %d lines, at most %d are taken", ErrOffer, n, maxSDPLines)
	}
	desc := &sdp.SessionDescription{}
	if err := desc.UnmarshalString(string(s)); err != nil {
		// The parser's error quotes the line, which is not for logs.
		return nil, fmt.Errorf("%w: it is not SDP", ErrOffer)
	}
	return desc, nil
}

func fingerprint(desc *sdp.SessionDescription) (sum [32]byte, err error) {
	found := ""
	take := func(attrs []sdp.Attribute) error {
		for _, a := range attrs {
			if a.Key != "fingerprint" {
				continue
			}
			algorithm, value, ok := strings.Cut(a.Value, " ")
			if !ok || !strings.EqualFold(algorithm, "sha-256") {
				return fmt.Errorf("%w: one is of another algorithm", ErrFingerprint)
			}
			value = strings.ToUpper(value)
			if found != "" && found != value {
				return fmt.Errorf("%w: they differ", ErrFingerprint)
			}
			found = value
		}
		return nil
	}
	if err := take(desc.Attributes); err != nil {
		return sum, err
	}
	for _, m := range desc.MediaDescriptions {
		if err := take(m.Attributes); err != nil {
			return sum, err
		}
	}
	if found == "" {
		return sum, fmt.Errorf("%w: there is none", ErrFingerprint)
	}
	parts := strings.Split(found, ":")
	if len(parts) != len(sum) {
		return sum, fmt.Errorf("%w: it is %d bytes long", ErrFingerprint, len(parts))
	}
	for i, p := range parts {
		if len(p) != 2 {
			return sum, fmt.Errorf("%w: it is not in hexadecimal", ErrFingerprint)
		}
		if _, err := hex.Decode(sum[i:i+1], []byte(p)); err != nil {
			return sum, fmt.Errorf("%w: it is not in hexadecimal", ErrFingerprint)
		}
	}
	return sum, nil
}

// checkOffer refuses what cannot be answered, before pion sees it.
func checkOffer(s SDP) (offer, error) {
	desc, err := parse(s)
	if err != nil {
		return offer{}, err
	}
	var o offer
	if o.fingerprint, err = fingerprint(desc); err != nil {
		return offer{}, fmt.Errorf("%w: %w", ErrOffer, err)
	}
	if n := len(desc.MediaDescriptions); n > maxSections {
		return offer{}, fmt.Errorf("%w: %d media sections, at most %d are taken", ErrOffer, n, maxSections)
	}
	candidates := 0
	check := func(attrs []sdp.Attribute) error {
		for _, a := range attrs {
			switch a.Key {
			case "setup":
				if a.Value != "actpass" && a.Value != "active" {
					return fmt.Errorf("%w: DTLS role is %s, want actpass", ErrOffer, clip(a.Value))
				}
			case "candidate":
				if candidates++; candidates > maxCandidates {
					return fmt.Errorf("%w: more than %d candidates", ErrOffer, maxCandidates)
				}
				if err := checkCandidate(a.Value); err != nil {
					return fmt.Errorf("%w: %w", ErrOffer, err)
				}
			}
		}
		return nil
	}
	if err := check(desc.Attributes); err != nil {
		return offer{}, err
	}
	mids := map[string]bool{}
	for _, m := range desc.MediaDescriptions {
		switch m.MediaName.Media {
		case "audio":
			if o.audio {
				return offer{}, fmt.Errorf("%w: more than one audio section", ErrOffer)
			}
			o.audio = true
		case "video":
			if o.video {
				return offer{}, fmt.Errorf("%w: more than one video section", ErrOffer)
			}
			o.video = true
		default:
			return offer{}, fmt.Errorf("%w: only audio and video are answered, not %s", ErrOffer, clip(m.MediaName.Media))
		}
		mid, ok := m.Attribute("mid")
		if !ok || mid == "" || len(mid) > 32 || mids[mid] {
			return offer{}, fmt.Errorf("%w: a media section has no mid of its own", ErrOffer)
		}
		mids[mid] = true
		if err := check(m.Attributes); err != nil {
			return offer{}, err
		}
	}
	if !o.audio && !o.video {
		return offer{}, fmt.Errorf("%w: neither audio nor video is in it", ErrOffer)
	}
	return o, nil
}

// clip makes a short piece of the far end's text fit for an error.
func clip(s string) string { return fmt.Sprintf("%.12q", s) }

// checkCandidate refuses a candidate that is too long, cannot be read, or names a host by DNS: a terminal resolves
// nothing that a far end names, but mDNS names, which browsers put in the place of addresses.
func checkCandidate(s string) error {
	if len(s) > maxCandidate {
		return fmt.Errorf("%w: %d bytes, at most %d are taken", ErrCandidate, len(s), maxCandidate)
	}
	c, err := ice.UnmarshalCandidate(strings.TrimPrefix(s, "candidate:"))
	if err != nil {
		return fmt.Errorf("%w: it cannot be read", ErrCandidate)
	}
	if _, err := netip.ParseAddr(c.Address()); err != nil && !strings.HasSuffix(c.Address(), ".local") {
		return fmt.Errorf("%w: it names its host by DNS", ErrCandidate)
	}
	return nil
}
