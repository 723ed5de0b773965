package identity

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"reflect"

	"vindu/protocol"
)

// Authorities are the clinic's authorisation keys as they are now: those that the last trust names, or, before the first one, those that were pinned at
// enrolment.
func (g *Grant) Authorities() [][]byte {
	if g.Trust != nil {
		return g.Trust.Authorities
	}
	return g.Settings.Authorities
}

// Authorities returns the clinic's authorisation keys as they are now; none if the terminal is not enrolled.
func (i *Identity) Authorities() [][]byte {
	if g := i.Grant(); g != nil {
		return g.Authorities()
	}
	return nil
}

// Trust returns whom the clinic had the terminal believe last, or nil. It must not be changed.
func (i *Identity) Trust() *protocol.Trust {
	if g := i.Grant(); g != nil {
		return g.Trust
	}
	return nil
}

// Policy returns what the clinic had the terminal do last, or nil. It must not be changed. It may name the key before the terminal's own: it is good until
// the next one.
func (i *Identity) Policy() *protocol.Policy {
	if g := i.Grant(); g != nil {
		return g.Policy
	}
	return nil
}

// believe has g take the trust and the policy of new settings over, each if it is proven; what is not proven leaves the one before in its place, also in s,
// and is returned. From then on s names the authorisation keys that hold.
func (g *Grant) believe(s *protocol.Settings, self protocol.KeyHash) (refused []error) {
	was := g.Settings
	if trust, err := newTrust(s.Trust, was.Trust, g.Trust, g.Authorities()); err != nil {
		refused = append(refused, protocol.WithCode(protocol.AuthTrust, err))
		s.Trust = was.Trust
	} else if trust == g.Trust {
		s.Trust = was.Trust
	} else {
		g.Trust = trust
	}
	if policy, err := newPolicy(s.Policy, was.Policy, g.Policy, g.Authorities(), self); err != nil {
		refused = append(refused, protocol.WithCode(protocol.AuthPolicy, err))
		s.Policy = was.Policy
	} else if policy == g.Policy {
		s.Policy = was.Policy
	} else {
		g.Policy = policy
	}
	if g.Trust != nil {
		s.Authorities = g.Trust.Authorities
	}
	return refused
}

// newTrust returns the trust that holds after signed has come: old if it says nothing else. keys are those that may sign the next one; was is old as it
// came, which its successors need not be able to verify any more.
func newTrust(signed, was []byte, old *protocol.Trust, keys [][]byte) (*protocol.Trust, error) {
	if len(signed) == 0 || old != nil && bytes.Equal(signed, was) {
		return old, nil
	}
	var next *protocol.Trust
	err := verifyBy(keys, func(key *ecdsa.PublicKey) error {
		next = new(protocol.Trust)
		return protocol.Verify(signed, key, next)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("new trust: %w", err)
	case old == nil || next.Serial > old.Serial:
		return next, nil
	case reflect.DeepEqual(next, old):
		return old, nil // signed anew
	}
	return nil, fmt.Errorf("new trust: its serial number is %d, of the one that holds %d", next.Serial, old.Serial)
}

// newPolicy is newTrust for policies. The first one for a key that has replaced the terminal's may have the serial number of the one before.
func newPolicy(signed, was []byte, old *protocol.Policy, keys [][]byte, self protocol.KeyHash) (*protocol.Policy, error) {
	if len(signed) == 0 || old != nil && bytes.Equal(signed, was) {
		return old, nil
	}
	var next *protocol.Policy
	err := verifyBy(keys, func(key *ecdsa.PublicKey) error {
		next = new(protocol.Policy)
		return protocol.Verify(signed, key, next)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("new policy: %w", err)
	case old != nil && reflect.DeepEqual(next, old):
		return old, nil
	case next.Terminal != self:
		return nil, fmt.Errorf("new policy: it is for the terminal %s", next.Terminal.Code())
	case old == nil || next.Serial > old.Serial || next.Serial == old.Serial && old.Terminal != self:
		return next, nil
	}
	return nil, fmt.Errorf("new policy: its serial number is %d, of the one that holds %d", next.Serial, old.Serial)
}

// verifyBy returns nil as soon as verify does for one of keys.
func verifyBy(keys [][]byte, verify func(*ecdsa.PublicKey) error) error {
	err := error(protocol.ErrSignature)
	for _, der := range keys {
		key, parseErr := protocol.ParseKey(der)
		if parseErr != nil {
			return parseErr
		}
		if err = verify(key); !errors.Is(err, protocol.ErrSignature) {
			return err
		}
	}
	return err
}
