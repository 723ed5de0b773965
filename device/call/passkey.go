package call

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/protocol"
)

// Believed is whom the terminal believes, and which home it stands in.
type Believed struct {
	Trust  *protocol.Trust  // nil: nobody
	Policy *protocol.Policy // nil: none, and nobody may call
}

// PasskeyProver is a Prover that believes nobody but the clinic's authorisation key and the caller's passkey (R14, R27): who has the broker, the relay
// and the clinic's web server cannot make an invite that it proves. It needs nobody's answer for that.
type PasskeyProver struct {
	Believed func() Believed // what holds now
	// TimeKnown tells whether the terminal knows the time, so that it can judge what is over. nil: it does not.
	TimeKnown func() bool
}

// Invite implements Prover. Each step stands on what was proven before it: the clinic has signed the authorisation, its passkey has signed the
// invitation, and only then is looked at what they say.
func (p *PasskeyProver) Invite(invite *protocol.Invite, now time.Time) (*Proof, protocol.Code, error) {
	if p.TimeKnown == nil || !p.TimeKnown() {
		return nil, protocol.TimeUnknown, errors.New("the terminal does not know the time")
	}
	b := p.Believed()
	if b.Trust == nil {
		return nil, protocol.AuthUnproven, errors.New("the terminal has not been told whom to believe")
	}
	if invite.Assertion == nil {
		return nil, protocol.AuthUnproven, errors.New("no passkey's proof")
	}
	auth, err := verifyAuthorisation(invite.Authorisation, b.Trust.Authorities)
	if err != nil {
		return nil, protocol.AuthIssuer, err
	}
	proof, code, err := provePasskey(invite, auth, b.Trust.RelyingParty)
	if err != nil {
		return nil, code, err
	}
	if code, err := checkRight(proof, b.Policy, now); err != nil {
		return nil, code, err
	}
	return proof, "", nil
}

func verifyAuthorisation(signed []byte, authorities [][]byte) (*protocol.Authorisation, error) {
	a := new(protocol.Authorisation)
	err := verifyBy(authorities, func(key *ecdsa.PublicKey) error {
		a = new(protocol.Authorisation)
		return protocol.Verify(signed, key, a)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// provePasskey checks that one of the authorisation's passkeys signed these very bytes of the invitation, and that it is about this authorisation.
func provePasskey(invite *protocol.Invite, auth *protocol.Authorisation, rp protocol.RelyingParty) (*Proof, protocol.Code, error) {
	passkey, ok := auth.Credential(invite.Assertion.Credential)
	if !ok {
		return nil, protocol.AuthPasskey, errors.New("the authorisation does not name this passkey")
	}
	hash := protocol.HashOf(invite.Invitation)
	counter, err := invite.Assertion.Verify(passkey, rp, hash)
	switch {
	case errors.Is(err, protocol.ErrOrigin):
		return nil, protocol.AuthOrigin, err
	case errors.Is(err, protocol.ErrUserVerification):
		return nil, protocol.AuthUnverified, err
	case err != nil:
		return nil, protocol.AuthPasskey, err
	}
	inv := new(protocol.Invitation)
	if err := protocol.Decode(invite.Invitation, inv); err != nil {
		return nil, protocol.AuthUnproven, err
	}
	if inv.Authorisation != protocol.HashOf(invite.Authorisation) {
		return nil, protocol.AuthUnproven, errors.New("the invitation names another authorisation")
	}
	return &Proof{Invitation: inv, Hash: hash, Authorisation: auth, Passkey: sha256.Sum256(passkey.Key), Counter: counter, Counted: passkey.Counter}, "", nil
}

// checkRight checks that the authorisation gives the right to this call: now, in this home, and for nobody besides who proved to call.
func checkRight(p *Proof, policy *protocol.Policy, now time.Time) (protocol.Code, error) {
	a := p.Authorisation
	if !slices.Equal(p.Invitation.Parties, []protocol.Party{a.Party}) {
		return protocol.AuthRoster, errors.New("the roster is not the one person who has proven to call")
	}
	if from := a.From.Time(); now.Add(Skew).Before(from) {
		return protocol.AuthLapsed, fmt.Errorf("the authorisation begins in %s", from.Sub(now).Round(time.Second))
	}
	if to := a.To.Time(); !now.Before(to) { // no skew: the call would end at once
		return protocol.AuthLapsed, fmt.Errorf("the authorisation ended %s ago", now.Sub(to).Round(time.Second))
	}
	if policy == nil {
		return protocol.AnswerRefused, errors.New("the terminal has no policy")
	}
	if !a.Scope.Contains(policy.Home, policy.Groups) {
		return protocol.AuthScope, errors.New("the authorisation is not for this home")
	}
	return "", nil
}

// End implements Prover: the caller's by the key that the passkey vouched for, the clinic's by a service key.
func (p *PasskeyProver) End(signed []byte, proof *Proof) (*protocol.End, error) {
	end, err := endBy(signed, [][]byte{proof.Invitation.Key}, protocol.SideCaller)
	if err == nil {
		return end, nil
	}
	if end, byClinic := p.clinicEnd(signed); byClinic == nil {
		return end, nil
	}
	return nil, err
}

// clinicEnd returns an end that the clinic's server has signed.
func (p *PasskeyProver) clinicEnd(signed []byte) (*protocol.End, error) {
	trust := p.Believed().Trust
	if trust == nil {
		return nil, errors.New("the terminal has not been told whom to believe")
	}
	return endBy(signed, trust.Service, protocol.SideClinic)
}

// EitherProver proves invites with a passkey's proof by the one, and those without by the other.
type EitherProver struct {
	Passkey *PasskeyProver
	Test    *TestProver
}

// Invite implements Prover.
func (p *EitherProver) Invite(invite *protocol.Invite, now time.Time) (*Proof, protocol.Code, error) {
	if invite.Assertion != nil {
		return p.Passkey.Invite(invite, now)
	}
	return p.Test.Invite(invite, now)
}

// End implements Prover.
func (p *EitherProver) End(signed []byte, proof *Proof) (*protocol.End, error) {
	if proof.Authorisation != nil {
		return p.Passkey.End(signed, proof)
	}
	return p.Test.End(signed, proof)
}
