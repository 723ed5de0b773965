package passkey

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	wan "github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"vindu/clinic/audit"
	"vindu/protocol"
)

var (
	// ErrUnknown is wrapped when a passkey is not known here, or was removed.
	ErrUnknown = errors.New("passkey is not known")
	// ErrDisabled is wrapped when a passkey was disabled because there may be a copy of it.
	ErrDisabled = errors.New("passkey is disabled")
	// ErrCopied is wrapped when a passkey's counter went back, and it was disabled for it just now.
	ErrCopied = errors.New("there may be a copy of the passkey")
	// ErrOther is wrapped when a passkey is another person's than the one who is signed in.
	ErrOther = errors.New("another person's passkey")
)

// Proof is that a person was there, with one of the own passkeys.
type Proof struct {
	Person string
	ID     []byte
	Name   string
	At     time.Time
}

// Request is what the browser's navigator.credentials.get is called with, as JSON.
type Request = wan.PublicKeyCredentialRequestOptions

// BeginSignIn begins a sign-in by whoever is at the browser. The error wraps ErrSite.
func (s *Service) BeginSignIn() (*Request, error) {
	if s.authn == nil {
		return nil, fmt.Errorf("sign in: %w", ErrSite)
	}
	request, _, err := s.authn.BeginDiscoverableLogin(webauthn.WithChallenge(s.challenges.make(forSignIn, "", s.now())))
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return &request.Response, nil
}

// SignIn finishes what BeginSignIn began with what the browser answered, and returns who it was. The error wraps ErrCeremony, ErrMalformed, ErrRefused,
// ErrUnknown, ErrDisabled, ErrCopied, ErrBusy or ErrSite.
func (s *Service) SignIn(ctx context.Context, response []byte) (Proof, error) {
	p, err := s.prove(ctx, "", forSignIn, "", response)
	if err != nil {
		return Proof{}, fmt.Errorf("sign in: %w", err)
	}
	return p, nil
}

// BeginTouch begins to ask the person of a session for a passkey anew. The error wraps ErrNotFound if the person has none, or ErrSite.
func (s *Service) BeginTouch(ctx context.Context, person, session string) (*Request, error) {
	if s.authn == nil {
		return nil, fmt.Errorf("ask for a passkey: %w", ErrSite)
	}
	u, err := s.user(ctx, person)
	if err != nil {
		return nil, fmt.Errorf("ask for a passkey: %w", err)
	}
	if len(u.passkeys) == 0 {
		return nil, fmt.Errorf("ask for a passkey: %w", ErrNotFound)
	}
	request, _, err := s.authn.BeginLogin(u, webauthn.WithChallenge(s.challenges.make(forTouch, person+" "+session, s.now())))
	if err != nil {
		return nil, fmt.Errorf("ask for a passkey: %w", err)
	}
	return &request.Response, nil
}

// Touch finishes what BeginTouch began, for the same person and session. The error wraps what SignIn's does, or ErrOther.
func (s *Service) Touch(ctx context.Context, person, session string, response []byte) (Proof, error) {
	p, err := s.prove(ctx, person, forTouch, person+" "+session, response)
	if err != nil {
		return Proof{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	return p, nil
}

// challenged decodes the challenge that the client data names and checks it.
func (s *Service) challenged(text, purpose, about string) ([]byte, error) {
	challenge, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrCeremony
	}
	return challenge, s.challenges.check(challenge, purpose, about, s.now())
}

// prove verifies a use of a passkey (WebAuthn §7.2), of person if that is not empty, and takes note of it.
func (s *Service) prove(ctx context.Context, person, purpose, about string, response []byte) (Proof, error) {
	if s.authn == nil {
		return Proof{}, ErrSite
	}
	if len(response) > MaxResponse {
		return Proof{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(response), MaxResponse)
	}
	parsed, err := wan.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	challenge, err := s.challenged(parsed.Response.CollectedClientData.Challenge, purpose, about)
	if err != nil {
		return Proof{}, err
	}
	r, err := one(ctx, s.c.Store.Read(), parsed.RawID)
	switch {
	case errors.Is(err, ErrNotFound):
		return Proof{}, ErrUnknown
	case err != nil:
		return Proof{}, err
	case person != "" && r.Person != person:
		return Proof{}, ErrOther
	}
	if err := s.verify(r, parsed, challenge); err != nil {
		return Proof{}, fmt.Errorf("passkey %s of %s: %w", r.Hex(), subject(r.Person), err)
	}
	// From here on the one who asks has the passkey: what follows cannot be brought about by strangers.
	if err := s.challenges.use(challenge, s.now()); err != nil {
		return Proof{}, err
	}
	if err := s.note(ctx, &r, parsed.Response.AuthenticatorData); err != nil {
		return Proof{}, err
	}
	return Proof{Person: r.Person, ID: r.ID, Name: r.Name, At: s.now()}, nil
}

// verify verifies a use as go-webauthn does, and as terminals do. The error wraps ErrRefused.
func (s *Service) verify(r row, parsed *wan.ParsedCredentialAssertionData, challenge []byte) error {
	if err := s.library(r, parsed); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if _, err := assertion(parsed).Verify(protocol.Credential{ID: r.ID, Key: r.spki}, s.c.Site, protocol.Hash(challenge)); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

func (s *Service) library(r row, parsed *wan.ParsedCredentialAssertionData) error {
	u := &user{id: r.Person, passkeys: []row{r}}
	session := webauthn.SessionData{Challenge: parsed.Response.CollectedClientData.Challenge, RelyingPartyID: s.c.Site.ID, UserVerification: wan.VerificationRequired}
	// The user handle is there always: the passkey is discoverable.
	_, _, err := s.authn.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return u, nil }, session, parsed)
	return err
}

// assertion is what the browser sent as terminals get it.
func assertion(parsed *wan.ParsedCredentialAssertionData) *protocol.Assertion {
	raw := parsed.Raw.AssertionResponse
	return &protocol.Assertion{Credential: parsed.RawID, AuthenticatorData: raw.AuthenticatorData, ClientData: raw.ClientDataJSON, Signature: raw.Signature}
}

// note writes down that a passkey was used, unless it may not be: then that.
func (s *Service) note(ctx context.Context, r *row, data wan.AuthenticatorData) error {
	var refused error
	err := s.c.Store.Write(ctx, func(tx *sql.Tx) (err error) {
		refused = nil
		if *r, err = one(ctx, tx, r.ID); err != nil {
			return err
		}
		now := s.now().UnixMilli()
		switch {
		case !r.Removed.IsZero():
			refused = ErrUnknown
			return s.refused(ctx, tx, *r, "it was removed")
		case !r.Disabled.IsZero():
			refused = ErrDisabled
			return s.refused(ctx, tx, *r, "it is disabled")
		case data.Counter <= r.counter && (data.Counter != 0 || r.counter != 0):
			refused = ErrCopied
			if _, err := tx.ExecContext(ctx, "UPDATE passkeys SET disabled = ? WHERE id = ?", now, r.ID); err != nil {
				return err
			}
			d := detail(*r)
			d["counter"], d["before"] = fmt.Sprint(data.Counter), fmt.Sprint(r.counter)
			if err := s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: "clinic", What: audit.PasskeyDisabled, Subject: subject(r.Person), Detail: d}); err != nil {
				return err
			}
			p, err := s.c.Persons.Person(ctx, r.Person)
			if err != nil {
				return err
			}
			_, err = s.c.Alarms.RaiseTx(ctx, tx, protocol.AuthCounter, protocol.KeyHash(protocol.HashOf(r.ID)),
				fmt.Sprintf("at a sign-in: passkey “%s” of %s, %s: its counter went from %d to %d; it is disabled", r.Name, p.Party.Name, p.Party.Role, r.counter, data.Counter))
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE passkeys SET counter = ?, flags = ?, used = ? WHERE id = ?", data.Counter, byte(data.Flags), now, r.ID)
		return err
	})
	switch {
	case err != nil:
		return err
	case errors.Is(refused, ErrCopied):
		s.c.Log.Error("a passkey's counter went back: there may be a copy; it is disabled, see the operator's page", "person", r.Person, "passkey", r.Hex(), "code", protocol.AuthCounter)
		s.changed(r.Person)
	case refused != nil:
		s.c.Log.Warn("passkey refused", "person", r.Person, "passkey", r.Hex(), "error", refused)
	}
	return refused
}

const (
	refusedEvery = time.Hour
	maxTold      = 1024
)

// refused writes into the audit log that a passkey was used that may not be (R18): once in refusedEvery for each.
func (s *Service) refused(ctx context.Context, tx *sql.Tx, r row, why string) error {
	now := s.now()
	s.mu.Lock()
	at, ok := s.told[string(r.ID)]
	if ok && now.Sub(at) < refusedEvery {
		s.mu.Unlock()
		return nil
	}
	if len(s.told) >= maxTold {
		clear(s.told)
	}
	s.told[string(r.ID)] = now
	s.mu.Unlock()
	d := detail(r)
	d["why"] = why
	return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: subject(r.Person), What: audit.PasskeyRefused, Subject: subject(r.Person), Detail: d})
}
