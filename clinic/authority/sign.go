package authority

import (
	"crypto/ecdsa"
	"errors"
	"fmt"

	"vindu/protocol"
)

// ErrKeyElsewhere is wrapped when something is to be signed by the authorisation key, and that is not on this server.
var ErrKeyElsewhere = errors.New("the authorisation key is not on this server: write what waits to a file (vindu-clinic waiting), sign it where the key is (vindu-clinic authorise), and bring it back (vindu-clinic accept)")

// signing returns the authorisation key by which statements are signed now: the first that the trust names, so that terminals which have not heard of a
// roll-over yet believe it. The error wraps ErrKeyElsewhere.
func (a *Authority) signing() (*ecdsa.PrivateKey, []byte, error) {
	k := a.keys.Load()
	spki := k.authorities[0]
	if key := k.here(spki); key != nil {
		return key, spki, nil
	}
	return nil, nil, ErrKeyElsewhere
}

// KeyHere reports whether the authorisation key is on this server.
func (a *Authority) KeyHere() bool {
	_, _, err := a.signing()
	return err == nil
}

// SignTestCall signs the invitation of the clinic's robot, by the service key: a terminal believes it only for a call that it has asked for itself.
func (a *Authority) SignTestCall(i *protocol.Invitation) ([]byte, error) {
	i.Key, i.Authorisation = a.serviceSPKI, protocol.HashOf(a.serviceSPKI)
	return protocol.Sign(i, a.service)
}

// SignEnd signs the clinic's own end of a call, by the service key.
func (a *Authority) SignEnd(e *protocol.End) ([]byte, error) {
	if e.By != protocol.SideClinic {
		return nil, fmt.Errorf("sign end: the clinic signs for itself only, not for %q", e.By)
	}
	return protocol.Sign(e, a.service)
}

// SignClock signs the time that a terminal asked for, by the service key.
func (a *Authority) SignClock(c *protocol.Clock) ([]byte, error) {
	return protocol.Sign(c, a.service)
}

// SignAck signs that events of a terminal are committed, by the service key.
func (a *Authority) SignAck(k *protocol.Ack) ([]byte, error) {
	return protocol.Sign(k, a.service)
}

// SignAuthorisation authorises a person to call. This and what follows is signed by the authorisation key; errors wrap ErrKeyElsewhere if that is not here.
func (a *Authority) SignAuthorisation(s *protocol.Authorisation) ([]byte, error) {
	key, _, err := a.signing()
	if err != nil {
		return nil, fmt.Errorf("sign authorisation: %w", err)
	}
	return protocol.Sign(s, key)
}

// SignPolicy tells one terminal what to do about callers.
func (a *Authority) SignPolicy(p *protocol.Policy) ([]byte, error) {
	key, _, err := a.signing()
	if err != nil {
		return nil, fmt.Errorf("sign policy: %w", err)
	}
	return protocol.Sign(p, key)
}

// SignMandate authorises a technician's laptop.
func (a *Authority) SignMandate(m *protocol.Mandate) ([]byte, error) {
	key, _, err := a.signing()
	if err != nil {
		return nil, fmt.Errorf("sign mandate: %w", err)
	}
	return protocol.Sign(m, key)
}

// SignDecommission orders a terminal to destroy its keys and state.
func (a *Authority) SignDecommission(d *protocol.Decommission) ([]byte, error) {
	key, _, err := a.signing()
	if err != nil {
		return nil, fmt.Errorf("sign order: %w", err)
	}
	return protocol.Sign(d, key)
}

// SignKeyOrder orders a terminal to replace its key.
func (a *Authority) SignKeyOrder(o *protocol.KeyOrder) ([]byte, error) {
	key, _, err := a.signing()
	if err != nil {
		return nil, fmt.Errorf("sign order for a new key: %w", err)
	}
	return protocol.Sign(o, key)
}

// VerifyMandate returns a mandate that this clinic has signed, whatever its time and by whichever of its keys.
func (a *Authority) VerifyMandate(signed []byte) (*protocol.Mandate, error) {
	err := protocol.ErrSignature
	for _, pub := range a.keys.Load().ever {
		m := new(protocol.Mandate)
		if err = protocol.Verify(signed, pub, m); err == nil {
			return m, nil
		}
	}
	return nil, err
}

// Authorities returns the DER SubjectPublicKeyInfo of the authorisation keys that terminals are to believe. The first signs, and is named by vouchers.
func (a *Authority) Authorities() [][]byte { return a.keys.Load().authorities }

// Service returns the DER SubjectPublicKeyInfo of the service key.
func (a *Authority) Service() []byte { return a.serviceSPKI }
