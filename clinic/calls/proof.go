package calls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/clinic/register"
	"vindu/protocol"
)

// clockSlack is how far a page's clock may be from the clinic's: pages ask for the clinic's time before they write an invitation.
const clockSlack = time.Minute

// Proof is what a page proves: an invitation that it wrote, and the assertion of the person's passkey over it.
type Proof struct {
	Invitation []byte // canonical encoding of a protocol.Invitation
	Assertion  *protocol.Assertion
}

// Authorisations knows by what right persons call.
type Authorisations interface {
	// Current returns a person's authorisation as it is now. The error has the code protocol.AuthNone if there is none.
	Current(ctx context.Context, person string) (signed []byte, a *protocol.Authorisation, err error)
	// Covers reports whether a home is in the scope of an authorisation.
	Covers(ctx context.Context, a *protocol.Authorisation, home string) (bool, error)
}

// invited is an invitation that is ready to be sent.
type invited struct {
	*protocol.Invitation
	invite *protocol.Invite
	person Person
	until  time.Time // the end of the authorisation; zero: none was needed
}

func (i *invited) passkey() []byte {
	if i.invite.Assertion == nil {
		return nil
	}
	return i.invite.Assertion.Credential
}

// prove checks what a page has proven as the terminal will, so that nothing leaves that cannot hold and the caller learns why at once. It decides nothing
// for the terminal, which does not ask the clinic. A *Failure is to be recorded; other errors wrap ErrBadRequest, or are the server's own.
func (s *Service) prove(ctx context.Context, r Request, home register.Home, now time.Time) (*invited, error) {
	caller, err := offered(r.Offer)
	if err != nil {
		return nil, err
	}
	inv := new(protocol.Invitation)
	if err := protocol.Decode(r.Proof.Invitation, inv); err != nil {
		return nil, fmt.Errorf("%w: invitation: %w", ErrBadRequest, err)
	}
	switch {
	case inv.Offer != protocol.HashOf(r.Offer), inv.Caller != caller:
		return nil, fmt.Errorf("%w: the invitation is for another offer", ErrBadRequest)
	case inv.Terminal != home.Terminal: // the page is older than what stands in the home
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, protocol.WithCode(protocol.BrowserFailed, errors.New("the home has another terminal")))
	}
	refused := func(code protocol.Code, why string) error {
		return &Failure{Call: inv.Call, Code: code, Err: errors.New(why)}
	}
	switch { // by the clinic's time, which pages ask for
	case inv.Issued.Time().After(now.Add(clockSlack)):
		return nil, refused(protocol.BrowserClock, "the invitation is not for now")
	case inv.Expires.Time().Before(now), inv.Issued.Time().Before(now.Add(-protocol.MaxInvitationLife)):
		return nil, refused(protocol.BrowserSlow, "the invitation is over")
	}
	signed, a, err := s.authorisations.Current(ctx, r.Person.ID)
	if code := protocol.CodeOf(err); code == protocol.AuthNone {
		return nil, &Failure{Call: inv.Call, Code: code, Err: err}
	}
	if err != nil {
		return nil, err
	}
	covered, err := s.authorisations.Covers(ctx, a, home.ID)
	if err != nil {
		return nil, err
	}
	passkey, known := a.Credential(r.Proof.Assertion.Credential)
	switch {
	case !covered, now.Before(a.From.Time()), !now.Before(a.To.Time()):
		return nil, refused(protocol.AuthNone, "the home is not in the person's scope, or not now")
	case inv.Authorisation != protocol.HashOf(signed):
		return nil, refused(protocol.AuthLapsed, "the invitation names another authorisation than the person's")
	case !slices.Equal(inv.Parties, []protocol.Party{a.Party}):
		return nil, refused(protocol.AuthRoster, "the invitation names others than the person")
	case !known:
		return nil, refused(protocol.AuthPasskey, "the passkey is not the person's")
	}
	if _, err := r.Proof.Assertion.Verify(passkey, s.relyingParty, protocol.HashOf(r.Proof.Invitation)); err != nil {
		return nil, &Failure{Call: inv.Call, Code: passkeyCode(err), Err: err}
	}
	return &invited{inv, &protocol.Invite{Invitation: r.Proof.Invitation, Offer: r.Offer, Assertion: r.Proof.Assertion, Authorisation: signed}, Person{r.Person.ID, a.Party}, a.To.Time()}, nil
}

// stillMay asks anew, of a call that is known to all who end calls, whether its person may have it: what was withdrawn between prove and then has ended nothing, and is told
// once. A *Failure says why not.
func (s *Service) stillMay(ctx context.Context, c *call) error {
	if c.until.IsZero() { // no authorisation was needed
		return nil
	}
	_, a, err := s.authorisations.Current(ctx, c.person.ID)
	if code := protocol.CodeOf(err); code == protocol.AuthNone {
		return &Failure{Call: c.id, Code: code, Err: err}
	}
	if err != nil {
		return fmt.Errorf("start call: %w", err)
	}
	covered, err := s.authorisations.Covers(ctx, a, c.home)
	if err != nil {
		return fmt.Errorf("start call: %w", err)
	}
	if !covered {
		return &Failure{Call: c.id, Code: protocol.AuthNone, Err: errors.New("the home is not in the person's scope any more")}
	}
	if _, known := a.Credential(c.passkey); !known {
		return &Failure{Call: c.id, Code: protocol.AuthPasskey, Err: errors.New("the passkey is not the person's any more")}
	}
	return nil
}

func passkeyCode(err error) protocol.Code {
	switch {
	case errors.Is(err, protocol.ErrOrigin):
		return protocol.AuthOrigin
	case errors.Is(err, protocol.ErrUserVerification):
		return protocol.AuthUnverified
	}
	return protocol.AuthPasskey
}

// test is the invitation of the clinic's robot, for a call that the terminal itself has asked for: the service key signs it, and only a terminal that waits
// for this very call believes that.
func (s *Service) test(r Request, home register.Home, now time.Time) (*invited, error) {
	caller, err := offered(r.Offer)
	if err != nil {
		return nil, err
	}
	errand := "Test call"
	if r.Path != "" {
		errand = "Rehearsal"
	}
	inv := &protocol.Invitation{
		RelayOnly: r.Path == protocol.RelayedPath,
		Version:   protocol.Version, Call: r.Test, Terminal: home.Terminal, Caller: caller, Offer: protocol.HashOf(r.Offer),
		Parties: []protocol.Party{r.Person.Party}, Errand: errand, Issued: protocol.At(now), Expires: protocol.At(now.Add(invitationLife)), Nonce: protocol.NewNonce(),
	}
	signed, err := s.authority.SignTestCall(inv)
	if err != nil {
		return nil, err
	}
	return &invited{inv, &protocol.Invite{Invitation: signed, Offer: r.Offer}, r.Person, time.Time{}}, nil
}
