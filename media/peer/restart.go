package peer

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// ErrRestart says that an offer is not one for another path of the same connection.
var ErrRestart = errors.New("offer is not for another path of this connection")

const (
	// mostRestarts bounds what a far end can ask for in one connection.
	mostRestarts = 32
	// restartLimit is how long a new path may take to be found, however often it is looked for meanwhile. With what silence may last before it, a path is
	// away for no more than 18 s.
	restartLimit = 10 * time.Second
)

// search is one look for another path.
type search struct{ left *webrtc.ICECandidatePair }

// Restart answers an offer by which the far end, in a connection that runs, looks for another path (RFC 8839 §4.4.1, RFC 8829 §5.3.1): its network
// has changed, or ours has. Nothing else may change: certificate, media and their senders are those of the first offer, and the DTLS association and
// SRTP's keys go on, so that whoever sends another offer gains no more than who cuts the line. Who sent it the caller of Restart has to know.
//
// The path that was is given up at once, and Interrupted said; Resumed follows, or after restartLimit the connection fails as one that fell silent. Candidates of
// the far end's that belong to the offer have to be added after Restart has returned. Errors wrap ErrRestart or ErrOffer, and the connection goes on as it was; or
// ErrCertificate, after which it should be ended: an honest far end has one certificate.
func (p *Peer) Restart(ctx context.Context, o SDP) (SDP, error) {
	p.restarting.Lock()
	defer p.restarting.Unlock()
	if p.alive.Err() != nil {
		return "", fmt.Errorf("restart: %w", ErrClosed)
	}
	checked, err := checkOffer(o)
	if err != nil {
		return "", fmt.Errorf("restart: %w", err)
	}
	if subtle.ConstantTimeCompare(checked.fingerprint[:], p.offer.fingerprint[:]) != 1 {
		return "", fmt.Errorf("restart: %w", ErrCertificate)
	}
	if !p.proved.Load() {
		return "", fmt.Errorf("restart: %w: there is no connection yet", ErrRestart)
	}
	if p.restarts.Load() >= mostRestarts {
		return "", fmt.Errorf("restart: %w: %d were enough", ErrRestart, mostRestarts)
	}
	first, err := parse(p.first)
	if err != nil {
		return "", fmt.Errorf("restart: %w", err)
	}
	next, err := parse(o)
	if err != nil {
		return "", fmt.Errorf("restart: %w", err)
	}
	if err := sameMedia(first, next); err != nil {
		return "", fmt.Errorf("restart: %w", err)
	}
	name := credentials(next)
	if name == "" || slices.Contains(p.names, name) {
		return "", fmt.Errorf("restart: %w: its ICE credentials are not new", ErrRestart)
	}
	p.names = append(p.names, name)
	p.restarts.Add(1)
	// The new offer has candidates of its own.
	p.candidates.Store(0)
	before := p.pair.Load()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(o)}); err != nil {
		return "", fmt.Errorf("restart: %w", refuse(err))
	}
	p.another.Store(&search{left: before})
	p.poked()
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("restart: %w", refuse(err))
	}
	ours, err := OfferFingerprint(SDP(answer.SDP))
	if err != nil || ours != p.fingerprint {
		return "", fmt.Errorf("restart: own answer names another certificate: %w", ErrRestart)
	}
	if err := p.pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("restart: %w", refuse(err))
	}
	// Local addresses are there at once; what is slower trickles.
	timer := time.NewTimer(hostWait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return limitVideo(SDP(p.pc.LocalDescription().SDP), p.maxVideoIn), nil
}

// sameMedia refuses an offer that changes more than the path.
func sameMedia(first, next *sdp.SessionDescription) error {
	if len(first.MediaDescriptions) != len(next.MediaDescriptions) {
		return fmt.Errorf("%w: it has %d media sections, not %d", ErrRestart, len(next.MediaDescriptions), len(first.MediaDescriptions))
	}
	for i, a := range first.MediaDescriptions {
		b := next.MediaDescriptions[i]
		if a.MediaName.Media != b.MediaName.Media {
			return fmt.Errorf("%w: section %d is of another kind", ErrRestart, i)
		}
		for _, key := range []string{"mid", "sendrecv", "sendonly", "recvonly", "inactive", "rtcp-mux"} {
			va, oka := a.Attribute(key)
			vb, okb := b.Attribute(key)
			if va != vb || oka != okb {
				return fmt.Errorf("%w: section %d has another %s", ErrRestart, i, key)
			}
		}
		if !slices.Equal(sources(a), sources(b)) {
			return fmt.Errorf("%w: section %d has other senders", ErrRestart, i)
		}
	}
	return nil
}

// sources are the SSRCs that a section announces, each once.
func sources(m *sdp.MediaDescription) (out []string) {
	for _, a := range m.Attributes {
		if a.Key != "ssrc" {
			continue
		}
		id, _, _ := strings.Cut(a.Value, " ")
		out = append(out, id)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// credentials are the ICE user fragment and password of a description (RFC 8839 §5.4), which are the same in all its sections when they are bundled.
func credentials(d *sdp.SessionDescription) string {
	for _, m := range d.MediaDescriptions {
		name, ok := m.Attribute("ice-ufrag")
		secret, has := m.Attribute("ice-pwd")
		if ok && has {
			return name + " " + secret
		}
	}
	name, ok := d.Attribute("ice-ufrag")
	secret, has := d.Attribute("ice-pwd")
	if !ok || !has {
		return ""
	}
	return name + " " + secret
}
