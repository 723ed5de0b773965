package passkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	wan "github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"vindu/clinic/audit"
	"vindu/protocol"
)

var (
	// ErrMalformed is wrapped when what a browser sent cannot be read.
	ErrMalformed = errors.New("malformed")
	// ErrRefused is wrapped when it can be read and does not prove what it should.
	ErrRefused = errors.New("passkey refused")
	// ErrKind is wrapped when a passkey's key is of a kind that terminals do not accept. ErrRefused is wrapped too.
	ErrKind = errors.New("kind of key")
)

// MaxResponse bounds what a browser sends in a ceremony, in bytes.
const MaxResponse = 32 << 10

// parameters are the kinds of key that are asked for and accepted, the preferred first.
var parameters = []wan.CredentialParameter{
	{Type: wan.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: wan.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
	{Type: wan.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// Bounds of keys and identifiers, as protocol.Credential has them.
const (
	minRSA, maxRSA = 2048, 4096
	maxID          = 1023
)

// transports are those that are kept, for the browser's hints.
var transports = []wan.AuthenticatorTransport{wan.USB, wan.NFC, wan.BLE, wan.SmartCard, wan.Hybrid, wan.Internal}

// user is a person as go-webauthn sees one. The user handle is the register's number: random, and nobody's name.
type user struct {
	id, name, display string
	passkeys          []row
}

func (u *user) WebAuthnID() []byte          { return []byte(u.id) }
func (u *user) WebAuthnName() string        { return u.name }
func (u *user) WebAuthnDisplayName() string { return u.display }

func (u *user) WebAuthnCredentials() []webauthn.Credential {
	var list []webauthn.Credential
	for _, r := range u.passkeys {
		c := webauthn.Credential{
			ID: r.ID, PublicKey: r.cose, Flags: webauthn.NewCredentialFlags(wan.AuthenticatorFlags(r.flags)),
			Authenticator: webauthn.Authenticator{SignCount: r.counter},
		}
		if r.transports != "" {
			for t := range strings.SplitSeq(r.transports, ",") {
				c.Transport = append(c.Transport, wan.AuthenticatorTransport(t))
			}
		}
		list = append(list, c)
	}
	return list
}

// user returns a person with those passkeys that can be used. The error wraps register.ErrNotFound.
func (s *Service) user(ctx context.Context, person string) (*user, error) {
	p, err := s.c.Persons.Person(ctx, person)
	if err != nil {
		return nil, err
	}
	rows, err := of(ctx, s.c.Store.Read(), person)
	if err != nil {
		return nil, err
	}
	return &user{p.ID, p.Party.Name + ", " + p.Party.Role, p.Party.Name, usable(rows)}, nil
}

// Creation is what the browser's navigator.credentials.create is called with, as JSON.
type Creation = wan.PublicKeyCredentialCreationOptions

// BeginInvited begins the registration of a passkey under an invitation. The error wraps ErrInvitation, ErrTooMany or ErrSite.
func (s *Service) BeginInvited(ctx context.Context, token string) (*Creation, error) {
	i, err := s.Invited(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("register passkey: %w", err)
	}
	return s.beginAdd(ctx, i.Person, forInvited, string(hashToken(token)))
}

// BeginAnother begins the registration of a further passkey of the person of a session. The error wraps ErrTooMany or ErrSite.
func (s *Service) BeginAnother(ctx context.Context, person, session string) (*Creation, error) {
	return s.beginAdd(ctx, person, forAnother, person+" "+session)
}

func (s *Service) beginAdd(ctx context.Context, person, purpose, subject string) (*Creation, error) {
	if s.authn == nil {
		return nil, fmt.Errorf("register passkey: %w", ErrSite)
	}
	u, err := s.user(ctx, person)
	if err != nil {
		return nil, fmt.Errorf("register passkey: %w", err)
	}
	if len(u.passkeys) >= protocol.MaxCredentials {
		return nil, fmt.Errorf("register passkey: %w: %d, at most %d", ErrTooMany, len(u.passkeys), protocol.MaxCredentials)
	}
	creation, _, err := s.authn.BeginRegistration(u, webauthn.WithCredentialParameters(parameters),
		webauthn.WithExclusions(webauthn.Credentials(u.WebAuthnCredentials()).CredentialDescriptors()),
		func(o *wan.PublicKeyCredentialCreationOptions) error {
			o.Challenge = s.challenges.make(purpose, subject, s.now())
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("register passkey: %w", err)
	}
	return &creation.Response, nil
}

// AddInvited finishes what BeginInvited began with what the browser answered, and uses the invitation up. The error wraps ErrInvitation,
// ErrCeremony, ErrMalformed, ErrRefused, ErrName, ErrTooMany, ErrBusy or ErrSite.
func (s *Service) AddInvited(ctx context.Context, token, name string, response []byte) (Proof, error) {
	i, err := s.Invited(ctx, token)
	if err != nil {
		return Proof{}, fmt.Errorf("register passkey: %w", err)
	}
	hash := hashToken(token)
	return s.add(ctx, i.Person, name, forInvited, string(hash), response, func(tx *sql.Tx) error {
		now := s.now().UnixMilli()
		result, err := tx.ExecContext(ctx, "UPDATE passkey_invitations SET used = ? WHERE hash = ? AND "+open, now, hash, now)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, ErrInvitation)
		}
		return nil
	})
}

// AddAnother finishes what BeginAnother began, for the same person and session.
func (s *Service) AddAnother(ctx context.Context, person, session, name string, response []byte) (Proof, error) {
	return s.add(ctx, person, name, forAnother, person+" "+session, response, func(*sql.Tx) error { return nil })
}

func (s *Service) add(ctx context.Context, person, name, purpose, about string, response []byte, first func(tx *sql.Tx) error) (Proof, error) {
	name, err := checkName(name)
	if err != nil {
		return Proof{}, fmt.Errorf("register passkey: %w", err)
	}
	u, err := s.user(ctx, person)
	if err != nil {
		return Proof{}, fmt.Errorf("register passkey: %w", err)
	}
	r, challenge, err := s.created(u, purpose, about, response)
	if err != nil {
		return Proof{}, fmt.Errorf("register passkey: %w", err)
	}
	if err := s.challenges.use(challenge, s.now()); err != nil {
		return Proof{}, fmt.Errorf("register passkey: %w", err)
	}
	r.Person, r.Name = person, name
	now := s.now()
	err = s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		if err := first(tx); err != nil {
			return err
		}
		rows, err := of(ctx, tx, person)
		if err != nil {
			return err
		}
		if n := len(usable(rows)); n >= protocol.MaxCredentials {
			return fmt.Errorf("%w: %d, at most %d", ErrTooMany, n, protocol.MaxCredentials)
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO passkeys (id, person, name, cose, spki, counter, flags, transports, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`, r.ID, person, name, r.cose, r.spki, r.counter, r.flags, r.transports, now.UnixMilli())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("%w: its identifier is in use, or was", ErrRefused))
		}
		return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: subject(person), What: audit.PasskeyAdded, Subject: subject(person), Detail: detail(r)})
	})
	if err != nil {
		return Proof{}, fmt.Errorf("register passkey: %w", err)
	}
	s.changed(person)
	return Proof{Person: person, ID: r.ID, Name: name, At: now}, nil
}

// created verifies what a browser answered (WebAuthn §7.1) and returns the passkey that was made, without person and name, and the challenge.
func (s *Service) created(u *user, purpose, about string, response []byte) (r row, challenge []byte, err error) {
	if s.authn == nil {
		return row{}, nil, ErrSite
	}
	if len(response) > MaxResponse {
		return row{}, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(response), MaxResponse)
	}
	parsed, err := wan.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return row{}, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if challenge, err = s.challenged(parsed.Response.CollectedClientData.Challenge, purpose, about); err != nil {
		return row{}, nil, err
	}
	// No attestation was asked for; what browsers send all the same is a signature by the new key itself (WebAuthn §5.1.3).
	if f := parsed.Response.AttestationObject.Format; f != string(wan.AttestationFormatNone) && f != string(wan.AttestationFormatPacked) {
		return row{}, nil, fmt.Errorf("%w: it comes with an attestation that nobody asked for", ErrRefused)
	}
	made, err := s.authn.CreateCredential(u, webauthn.SessionData{
		Challenge: parsed.Response.CollectedClientData.Challenge, RelyingPartyID: s.c.Site.ID, UserID: u.WebAuthnID(),
		UserVerification: wan.VerificationRequired, CredParams: parameters,
	}, parsed)
	if err != nil {
		return row{}, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if !slices.Contains(s.c.Site.Origins, parsed.Response.CollectedClientData.Origin) { // go-webauthn knows more spellings than terminals do
		return row{}, nil, fmt.Errorf("%w: %w", ErrRefused, protocol.ErrOrigin)
	}
	if len(made.ID) == 0 || len(made.ID) > maxID {
		return row{}, nil, fmt.Errorf("%w: its identifier has %d bytes", ErrRefused, len(made.ID))
	}
	r = row{Passkey: Passkey{ID: bytes.Clone(made.ID)}, cose: bytes.Clone(made.PublicKey), counter: made.Authenticator.SignCount}
	r.flags = byte(parsed.Response.AttestationObject.AuthData.Flags)
	if r.spki, err = publicKey(made.PublicKey); err != nil {
		return row{}, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	var kept []string
	for _, t := range transports {
		if slices.Contains(made.Transport, t) {
			kept = append(kept, string(t))
		}
	}
	r.transports = strings.Join(kept, ",")
	return r, challenge, nil
}

// publicKey turns a COSE_Key (RFC 9052 §7) into DER SubjectPublicKeyInfo. The error wraps ErrKind.
func publicKey(cose []byte) ([]byte, error) {
	parsed, err := webauthncose.ParsePublicKey(cose)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKind, err)
	}
	var public crypto.PublicKey
	switch k := parsed.(type) {
	case webauthncose.EC2PublicKeyData:
		if webauthncose.COSEAlgorithmIdentifier(k.Algorithm) != webauthncose.AlgES256 || k.Curve != int64(webauthncose.P256) {
			return nil, fmt.Errorf("%w: elliptic curve, but not ES256", ErrKind)
		}
		if public, err = k.ToECDSA(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKind, err)
		}
	case webauthncose.OKPPublicKeyData:
		if webauthncose.COSEAlgorithmIdentifier(k.Algorithm) != webauthncose.AlgEdDSA || len(k.XCoord) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: not Ed25519", ErrKind)
		}
		public = ed25519.PublicKey(k.XCoord)
	case webauthncose.RSAPublicKeyData:
		e, err := webauthncose.ParseRSAPublicKeyDataExponent(&k)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKind, err)
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: e}
		if n := key.N.BitLen(); webauthncose.COSEAlgorithmIdentifier(k.Algorithm) != webauthncose.AlgRS256 || n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("%w: RSA of %d bits, has to be RS256 of %d to %d", ErrKind, n, minRSA, maxRSA)
		}
		public = key
	default:
		return nil, fmt.Errorf("%w: %T", ErrKind, parsed)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKind, err)
	}
	return spki, nil
}
