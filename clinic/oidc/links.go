package oidc

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/store"
)

var (
	// ErrUnknown is wrapped when nobody has linked an identity to a person. A *Unknown says by which code that can be done.
	ErrUnknown = errors.New("identity is not linked to a person")
	// ErrLinked is wrapped when an identity is linked to another person already.
	ErrLinked = errors.New("identity is linked to another person")
	// ErrCode is wrapped when a code is not one that somebody was shown within the last day.
	ErrCode = errors.New("not a code that somebody was shown within the last day")
)

const (
	codeLife   = 24 * time.Hour
	maxWaiting = 1024 // codes that wait for an administrator
)

var steps = []string{
	`CREATE TABLE oidc_links (identity BLOB PRIMARY KEY, person TEXT NOT NULL, issuer TEXT NOT NULL, linked INTEGER NOT NULL) STRICT`,
	`CREATE INDEX oidc_links_person ON oidc_links (person)`,
	`CREATE TABLE oidc_waiting (code TEXT PRIMARY KEY, identity BLOB NOT NULL, issuer TEXT NOT NULL, expires INTEGER NOT NULL) STRICT`,
}

// Unknown is the error for an identity that is not linked.
type Unknown struct{ Code string } // what the person tells the administrator

func (e *Unknown) Error() string { return ErrUnknown.Error() }

// Unwrap returns ErrUnknown.
func (e *Unknown) Unwrap() error { return ErrUnknown }

// Auditor is the part of the audit log that is written to.
type Auditor interface {
	AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error
}

// Links say which identity is which person. A provider's subject may be a national identity number, so only its SHA-256, with the issuer, is kept: a person who
// is not linked gets a code to tell the administrator, who so never handles the number. Links are safe for concurrent use.
type Links struct {
	store *store.Store
	audit Auditor
	now   func() time.Time
}

// NewLinks brings the tables up.
func NewLinks(ctx context.Context, s *store.Store, log Auditor) (*Links, error) {
	if err := s.Migrate(ctx, "oidc", steps); err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	return &Links{store: s, audit: log, now: time.Now}, nil
}

// Hash is by which an identity is kept: SHA-256 of issuer and subject.
func (i Identity) Hash() []byte {
	h := sha256.Sum256([]byte("vindu/identity.v1\x00" + i.Issuer + "\x00" + i.Subject))
	return h[:]
}

// codeOf is what people say to each other: 16 characters, 80 bits.
func codeOf(hash []byte) string {
	h := sha256.Sum256(append([]byte("vindu/identity-code.v1\x00"), hash...))
	s := base32.StdEncoding.EncodeToString(h[:])[:16]
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

// Person returns whose identity it is. If it is nobody's, the error is a *Unknown and wraps ErrUnknown.
func (l *Links) Person(ctx context.Context, i Identity) (person string, err error) {
	hash := i.Hash()
	err = l.store.Read().QueryRowContext(ctx, "SELECT person FROM oidc_links WHERE identity = ?", hash).Scan(&person)
	if err == nil {
		return person, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("look for a person: %w", err)
	}
	code, now := codeOf(hash), l.now()
	err = l.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM oidc_waiting WHERE expires <= ?", now.UnixMilli()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO oidc_waiting (code, identity, issuer, expires) SELECT ?1, ?2, ?3, ?4
			WHERE (SELECT count(*) FROM oidc_waiting) < ?5 OR EXISTS (SELECT 1 FROM oidc_waiting WHERE code = ?1)
			ON CONFLICT (code) DO UPDATE SET expires = excluded.expires`, code, hash, i.Issuer, now.Add(codeLife).UnixMilli(), maxWaiting)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("keep a code for the administrator: %w", err)
	}
	return "", &Unknown{code}
}

// Holds reports whether an identity, named by its hash, is a person's still.
func (l *Links) Holds(ctx context.Context, identity []byte, person string) (holds bool, err error) {
	if err := l.store.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM oidc_links WHERE identity = ? AND person = ?)", identity, person).Scan(&holds); err != nil {
		return false, fmt.Errorf("look for an identity: %w", err)
	}
	return holds, nil
}

// Linked is an identity of a person, without what it is.
type Linked struct {
	Issuer string
	At     time.Time
}

// Of returns the identities that are a person's, the oldest first.
func (l *Links) Of(ctx context.Context, person string) (list []Linked, err error) {
	rows, err := l.store.Read().QueryContext(ctx, "SELECT issuer, linked FROM oidc_links WHERE person = ? ORDER BY linked", person)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var one Linked
		var at int64
		if err := rows.Scan(&one.Issuer, &at); err != nil {
			return nil, fmt.Errorf("read identities: %w", err)
		}
		one.At = time.UnixMilli(at)
		list = append(list, one)
	}
	return list, rows.Err()
}

// Link makes the identity whose code somebody was shown a person's. by is who says so. Errors wrap ErrCode or ErrLinked.
func (l *Links) Link(ctx context.Context, by, person, code string) error {
	code = asShown(strings.TrimSpace(code))
	now := l.now()
	err := l.store.Write(ctx, func(tx *sql.Tx) error {
		var identity []byte
		var issuer string
		err := tx.QueryRowContext(ctx, "DELETE FROM oidc_waiting WHERE code = ? AND expires > ? RETURNING identity, issuer", code, now.UnixMilli()).Scan(&identity, &issuer)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrCode
		}
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, "INSERT INTO oidc_links (identity, person, issuer, linked) VALUES (?, ?, ?, ?) ON CONFLICT (identity) DO NOTHING", identity, person, issuer, now.UnixMilli())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return ErrLinked
		}
		return l.audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.IdentityLinked, Subject: "person " + person, Detail: map[string]string{"issuer": issuer, "code": code}})
	})
	if err != nil {
		return fmt.Errorf("link an identity: %w", err)
	}
	return nil
}

// Unlink takes all identities from a person and returns how many there were.
func (l *Links) Unlink(ctx context.Context, by, person string) (n int64, err error) {
	err = l.store.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "DELETE FROM oidc_links WHERE person = ?", person)
		if err != nil {
			return err
		}
		if n, err = result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return l.audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.IdentityUnlinked, Subject: "person " + person})
	})
	if err != nil {
		return 0, fmt.Errorf("unlink identities: %w", err)
	}
	return n, nil
}
