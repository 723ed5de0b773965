package passkey

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	wan "github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"vindu/clinic/audit"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

var (
	// ErrNotFound is wrapped when there is no such passkey of this person, or it was removed.
	ErrNotFound = errors.New("no such passkey")
	// ErrLast is wrapped when a person would remove the only passkey that can be used.
	ErrLast = errors.New("the last passkey")
	// ErrTooMany is wrapped when a person has protocol.MaxCredentials passkeys.
	ErrTooMany = errors.New("too many passkeys")
	// ErrName is wrapped when a name is empty, too long or not printable.
	ErrName = errors.New("name cannot be used")
	// ErrSite is wrapped where the clinic's pages have no name for which passkeys could be made.
	ErrSite = errors.New("the pages have no name for passkeys")
)

// MaxName bounds a passkey's name, in bytes.
const MaxName = 60

var steps = []string{
	`CREATE TABLE passkeys (
		id BLOB PRIMARY KEY,            -- as the authenticator chose it
		person TEXT NOT NULL,
		name TEXT NOT NULL,
		cose BLOB NOT NULL,             -- the public key as COSE_Key, for go-webauthn
		spki BLOB NOT NULL,             -- the same as SubjectPublicKeyInfo, for authorisations
		counter INTEGER NOT NULL,       -- highest seen
		flags INTEGER NOT NULL,         -- of the authenticator data, when last seen
		transports TEXT NOT NULL,
		created INTEGER NOT NULL,
		used INTEGER,                   -- when last
		disabled INTEGER,               -- when, because its counter went back
		removed INTEGER, removed_by TEXT
	) STRICT`,
	`CREATE INDEX passkeys_person ON passkeys (person, created)`,
	`CREATE TABLE passkey_invitations (
		hash BLOB PRIMARY KEY, person TEXT NOT NULL, issued_by TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER, withdrawn INTEGER
	) STRICT`,
	`CREATE INDEX passkey_invitations_person ON passkey_invitations (person)`,
}

// Auditor is where what happens to passkeys is written down; audit.Log is one.
type Auditor interface {
	AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error
}

// Persons knows who people are; register.Register is one.
type Persons interface {
	Person(ctx context.Context, id string) (register.Person, error)
}

// Alarms is where operators are told; register.Register is one.
type Alarms interface {
	RaiseTx(ctx context.Context, tx *sql.Tx, code protocol.Code, about protocol.KeyHash, detail string) (fresh bool, err error)
}

// Config is what a Service needs.
type Config struct {
	Store   *store.Store
	Audit   Auditor
	Persons Persons
	Alarms  Alarms
	// Site is for which passkeys are made. If it is the zero value there are no ceremonies (ErrSite), only invitations and lists.
	Site         protocol.RelyingParty
	Organisation string // names the site to people
	// Changed is called when the passkeys that a person can use have changed, by this process, after it was committed; it must not block. It may be nil.
	Changed func(person string)
	Log     *slog.Logger
}

// Passkey is one of a person's.
type Passkey struct {
	ID       []byte
	Person   string // register's number
	Name     string
	Created  time.Time
	Used     time.Time // when last; zero if it was not yet
	Disabled time.Time // zero if it is not
	Removed  time.Time // zero if it was not
	By       string    // who removed it
	Synced   bool      // its person's account keeps copies of it
}

// Usable reports whether it signs in.
func (p *Passkey) Usable() bool { return p.Disabled.IsZero() && p.Removed.IsZero() }

// Hex spells an identifier for addresses and the audit log.
func (p *Passkey) Hex() string { return hex.EncodeToString(p.ID) }

// Service is the passkeys in a store. It is safe for concurrent use; also several on one store, but a ceremony is finished where it was begun.
type Service struct {
	c          Config
	now        func() time.Time
	challenges *challenges
	authn      *webauthn.WebAuthn // nil without a site

	mu   sync.Mutex
	told map[string]time.Time // refused passkeys, by identifier
}

// New brings the tables up.
func New(ctx context.Context, c Config) (*Service, error) {
	if err := c.Store.Migrate(ctx, "passkeys", steps); err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	s := &Service{c: c, now: time.Now, challenges: newChallenges(), told: map[string]time.Time{}}
	if c.Site.ID == "" {
		return s, nil
	}
	timeout := webauthn.TimeoutConfig{Timeout: browserTimeout, TimeoutUVD: browserTimeout}
	required := true
	var err error
	s.authn, err = webauthn.New(&webauthn.Config{
		RPID: c.Site.ID, RPDisplayName: c.Organisation, RPOrigins: c.Site.Origins,
		AttestationPreference: wan.PreferNoAttestation,
		AuthenticatorSelection: wan.AuthenticatorSelection{
			RequireResidentKey: &required, ResidentKey: wan.ResidentKeyRequirementRequired, UserVerification: wan.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: timeout, Registration: timeout},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys of %s: %w", c.Site.ID, err)
	}
	return s, nil
}

// Site is for which passkeys are made; the zero value if there are no ceremonies.
func (s *Service) Site() protocol.RelyingParty { return s.c.Site }

func (s *Service) changed(person string) {
	if s.c.Changed != nil {
		s.c.Changed(person)
	}
}

// checkName returns the name without blanks at its ends.
func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return "", fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > MaxName:
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrName, len(name), MaxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("%w: it has a character that cannot be printed", ErrName)
	}
	return name, nil
}

// row is a passkey as it is stored.
type row struct {
	Passkey
	cose, spki []byte
	counter    uint32
	flags      byte
	transports string
}

const selectRow = `SELECT id, person, name, cose, spki, counter, flags, transports, created, coalesce(used, 0), coalesce(disabled, 0), coalesce(removed, 0),
	coalesce(removed_by, '') FROM passkeys `

func scanRow(scan func(...any) error) (r row, err error) {
	var created, used, disabled, removed int64
	if err := scan(&r.ID, &r.Person, &r.Name, &r.cose, &r.spki, &r.counter, &r.flags, &r.transports, &created, &used, &disabled, &removed, &r.By); err != nil {
		return row{}, err
	}
	r.Created = time.UnixMilli(created)
	for _, t := range []struct {
		at   int64
		into *time.Time
	}{{used, &r.Used}, {disabled, &r.Disabled}, {removed, &r.Removed}} {
		if t.at != 0 {
			*t.into = time.UnixMilli(t.at)
		}
	}
	r.Synced = wan.AuthenticatorFlags(r.flags).HasBackupEligible()
	return r, nil
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// one returns the passkey with this identifier, removed or not. The error wraps ErrNotFound.
func one(ctx context.Context, q queryer, id []byte) (row, error) {
	r, err := scanRow(q.QueryRowContext(ctx, selectRow+"WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return row{}, ErrNotFound
	}
	if err != nil {
		return row{}, fmt.Errorf("read passkey: %w", err)
	}
	return r, nil
}

// of returns all of a person's, the oldest first.
func of(ctx context.Context, q queryer, person string) (list []row, err error) {
	rows, err := q.QueryContext(ctx, selectRow+"WHERE person = ? ORDER BY created, rowid", person)
	if err != nil {
		return nil, fmt.Errorf("read passkeys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read passkeys: %w", err)
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read passkeys: %w", err)
	}
	return list, nil
}

func usable(list []row) []row {
	var some []row
	for _, r := range list {
		if r.Usable() {
			some = append(some, r)
		}
	}
	return some
}

// List returns all passkeys of a person, those that were removed and disabled too, the oldest first.
func (s *Service) List(ctx context.Context, person string) ([]Passkey, error) {
	rows, err := of(ctx, s.c.Store.Read(), person)
	if err != nil {
		return nil, err
	}
	list := make([]Passkey, 0, len(rows))
	for _, r := range rows {
		list = append(list, r.Passkey)
	}
	return list, nil
}

// Credentials returns the passkeys that a person can use, as authorisations name them, the oldest first: at most protocol.MaxCredentials.
func (s *Service) Credentials(ctx context.Context, person string) ([]protocol.Credential, error) {
	rows, err := of(ctx, s.c.Store.Read(), person)
	if err != nil {
		return nil, err
	}
	var list []protocol.Credential
	for _, r := range usable(rows) {
		list = append(list, protocol.Credential{ID: r.ID, Key: r.spki, Counter: r.counter})
	}
	return list, nil
}

// Usable reports whether a passkey with this identifier is this person's and signs in.
func (s *Service) Usable(ctx context.Context, person string, id []byte) (bool, error) {
	r, err := one(ctx, s.c.Store.Read(), id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && r.Person == person && r.Usable(), err
}

// Remove removes a passkey of a person. The error wraps ErrNotFound, or ErrLast if no other could be used and last is false.
func (s *Service) Remove(ctx context.Context, by, person string, id []byte, last bool) error {
	err := s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, id)
		if err != nil {
			return err
		}
		if r.Person != person || !r.Removed.IsZero() {
			return ErrNotFound
		}
		rows, err := of(ctx, tx, person)
		if err != nil {
			return err
		}
		left := len(usable(rows))
		if r.Usable() {
			left--
		}
		if left == 0 && !last {
			return ErrLast
		}
		return s.remove(ctx, tx, by, r)
	})
	if err != nil {
		return fmt.Errorf("remove passkey: %w", err)
	}
	s.changed(person)
	return nil
}

func (s *Service) remove(ctx context.Context, tx *sql.Tx, by string, r row) error {
	if _, err := tx.ExecContext(ctx, "UPDATE passkeys SET removed = ?, removed_by = ? WHERE id = ?", s.now().UnixMilli(), by, r.ID); err != nil {
		return err
	}
	return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.PasskeyRemoved, Subject: subject(r.Person), Detail: detail(r)})
}

func subject(person string) string { return register.Person{ID: person}.Who() }

func detail(r row) map[string]string { return map[string]string{"passkey": r.Hex(), "name": r.Name} }
