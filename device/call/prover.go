package call

import (
	"crypto/ecdsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"vindu/protocol"
)

// Skew is how far the clocks of caller and terminal may differ.
const Skew = time.Minute

// TestProver is a Prover of invites without a passkey's proof: of the clinic's robot, signed by the clinic's server, for the one call that this terminal
// itself has asked for while a technician checks it. Nobody else calls without a passkey.
type TestProver struct {
	Keys     func() [][]byte            // the server's, DER SubjectPublicKeyInfo (protocol.Trust.Service); without any nothing is proven
	Expected func(protocol.CallID) bool // whether the terminal waits for this call
}

// Invite implements Prover.
func (p *TestProver) Invite(invite *protocol.Invite, _ time.Time) (*Proof, protocol.Code, error) {
	if invite.Assertion != nil {
		return nil, protocol.AuthUnproven, errors.New("a passkey's proof, which this does not verify")
	}
	inv := new(protocol.Invitation)
	err := verifyBy(p.Keys(), func(key *ecdsa.PublicKey) error {
		inv = new(protocol.Invitation)
		return protocol.Verify(invite.Invitation, key, inv)
	})
	if err != nil {
		return nil, protocol.AuthUnproven, err
	}
	if !p.Expected(inv.Call) {
		return nil, protocol.AuthUnproven, errors.New("no passkey's proof, and not the test call that a check waits for")
	}
	return &Proof{Invitation: inv, Hash: protocol.HashOf(invite.Invitation)}, "", nil
}

// End implements Prover.
func (p *TestProver) End(signed []byte, _ *Proof) (*protocol.End, error) {
	return endBy(signed, p.Keys(), protocol.SideClinic)
}

// endBy returns the end that one of keys has signed for side.
func endBy(signed []byte, keys [][]byte, side protocol.Side) (*protocol.End, error) {
	end := new(protocol.End)
	err := verifyBy(keys, func(key *ecdsa.PublicKey) error {
		end = new(protocol.End)
		return protocol.Verify(signed, key, end)
	})
	switch {
	case err != nil:
		return nil, err
	case end.By != side:
		return nil, fmt.Errorf("an end by the %s, signed by the key of the %s: %w", end.By, side, protocol.ErrSignature)
	}
	return end, nil
}

// verifyBy returns nil as soon as verify does for one of keys.
func verifyBy(keys [][]byte, verify func(*ecdsa.PublicKey) error) error {
	err := fmt.Errorf("no key is known: %w", protocol.ErrSignature)
	for _, der := range keys {
		var key *ecdsa.PublicKey
		if key, err = protocol.ParseKey(der); err != nil {
			return err
		}
		if err = verify(key); !errors.Is(err, protocol.ErrSignature) {
			return err
		}
	}
	return err
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
