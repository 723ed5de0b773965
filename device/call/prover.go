package call

import (
	"crypto/ecdsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"vindu/protocol"
)

// Skew is how far the clocks of caller and terminal may differ.
const Skew = time.Minute

// AuthorityProver is a Prover that believes the clinic's authorisation keys, as pinned at enrolment: the clinic vouches for the
// clinician who signed in.
type AuthorityProver struct{ keys []*ecdsa.PublicKey }

// NewAuthorityProver takes the keys as DER SubjectPublicKeyInfo (protocol.Settings.Authorities). Without any key it
// proves nothing.
func NewAuthorityProver(authorities [][]byte) (*AuthorityProver, error) {
	p := &AuthorityProver{}
	for i, der := range authorities {
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, fmt.Errorf("authorisation key %d: %w", i+1, err)
		}
		ec, ok := key.(*ecdsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("authorisation key %d: %T, has to be ECDSA P-256", i+1, key)
		}
		p.keys = append(p.keys, ec)
	}
	return p, nil
}

// Invitation implements Prover.
func (p *AuthorityProver) Invitation(signed []byte, _ time.Time) (*protocol.Invitation, protocol.Code, error) {
	err := error(protocol.ErrSignature)
	for _, key := range p.keys {
		inv := new(protocol.Invitation)
		if err = protocol.Verify(signed, key, inv); err == nil {
			return inv, "", nil
		}
		if !errors.Is(err, protocol.ErrSignature) {
			break
		}
	}
	return nil, protocol.AuthUnproven, err
}

// End implements Prover.
func (p *AuthorityProver) End(signed []byte, _ *protocol.Invitation) (*protocol.End, error) {
	err := error(protocol.ErrSignature)
	for _, key := range p.keys {
		end := new(protocol.End)
		if err = protocol.Verify(signed, key, end); err == nil {
			return end, nil
		}
		if !errors.Is(err, protocol.ErrSignature) {
			break
		}
	}
	return nil, err
}

// checkInvitation checks what does not depend on who signed: that the invitation is for this terminal, this offer and this moment.
// It does not know about replays.
func checkInvitation(inv *protocol.Invitation, call protocol.CallID, self protocol.KeyHash, offer protocol.SDP, now time.Time) (protocol.Code, error) {
	if inv.Call != call {
		return protocol.AuthUnproven, errors.New("the invitation is for another call than the message")
	}
	if subtle.ConstantTimeCompare(inv.Terminal[:], self[:]) != 1 {
		return protocol.AuthOtherTerminal, errors.New("the invitation names another terminal")
	}
	if at := inv.Issued.Time(); now.Add(Skew).Before(at) {
		return protocol.AuthExpired, fmt.Errorf("issued %s in the future", at.Sub(now).Round(time.Second))
	}
	if at := inv.Expires.Time(); now.Add(-Skew).After(at) {
		return protocol.AuthExpired, fmt.Errorf("expired %s ago", now.Sub(at).Round(time.Second))
	}
	if hash := protocol.HashOf(offer); subtle.ConstantTimeCompare(inv.Offer[:], hash[:]) != 1 {
		return protocol.AuthFingerprint, errors.New("the offer is not the one that the invitation names")
	}
	if err := checkFingerprint(offer, inv.Caller); err != nil {
		return protocol.AuthFingerprint, err
	}
	return "", nil
}

// checkFingerprint asks that the offer names the given certificate and no other (RFC 8122 §5), at session level or in each section.
func checkFingerprint(offer protocol.SDP, want protocol.Fingerprint) error {
	found := false
	for line := range strings.Lines(string(offer)) {
		value, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "a=fingerprint:")
		if !ok {
			continue
		}
		algorithm, hex, _ := strings.Cut(value, " ")
		if !strings.EqualFold(algorithm, "sha-256") {
			return errors.New("the offer names a certificate by another hash than SHA-256")
		}
		if !strings.EqualFold(hex, want.String()) {
			return errors.New("the offer names another certificate than the invitation")
		}
		found = true
	}
	if !found {
		return errors.New("the offer names no certificate")
	}
	return nil
}
