package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
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
	// ErrFull is wrapped when so many wait for an administrator that no more codes are kept.
	ErrFull = errors.New("too many wait to be linked")
)

const (
	codeLife   = 24 * time.Hour
	maxWaiting = 1024 // codes that wait for an administrator
)

var steps = []string{
	`CREATE TABLE oidc_links (identity BLOB PRIMARY KEY, person TEXT NOT NULL, issuer TEXT NOT NULL, linked INTEGER NOT NULL) STRICT`,
	`CREATE INDEX oidc_links_person ON oidc_links (person)`,
	`CREATE TABLE oidc_waiting (code TEXT PRIMARY KEY, identity BLOB NOT NULL, issuer TEXT NOT NULL, expires INTEGER NOT NULL) STRICT`,
	// What was kept before was hashed without a key, by which nobody is found any more.
	`DELETE FROM oidc_links`,
	`DROP TABLE oidc_waiting`,
	`CREATE TABLE oidc_waiting (identity BLOB PRIMARY KEY, code TEXT NOT NULL UNIQUE, issuer TEXT NOT NULL, expires INTEGER NOT NULL) STRICT`,
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

// Links say which identity is which person. A provider's subject may be a national identity number, of which there are so few that a hash alone would be the number
// itself to whoever tries them all. So only HMAC-SHA-256 (RFC 2104) of issuer and subject is kept, under a key that is in a file of its own and not in the database. A
// person who is not linked gets a random code to tell the administrator, who so never handles the number. Links are safe for concurrent use.
type Links struct {
	store *store.Store
	audit Auditor
	key   []byte
	now   func() time.Time
}

// NewLinks brings the tables up. keyFile is the file of the key; it is made if there is none and nobody is linked.
func NewLinks(ctx context.Context, s *store.Store, log Auditor, keyFile string) (*Links, error) {
	if err := s.Migrate(ctx, "oidc", steps); err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	l := &Links{store: s, audit: log, now: time.Now}
	var err error
	if l.key, err = readKey(keyFile); errors.Is(err, fs.ErrNotExist) {
		var linked int
		if err := s.Read().QueryRowContext(ctx, "SELECT count(*) FROM oidc_links").Scan(&linked); err != nil {
			return nil, fmt.Errorf("identities: %w", err)
		}
		if linked > 0 { // a new key would find none of them
			return nil, fmt.Errorf("identities: %w; %d sign-ins are linked by it: restore it from the backup; if it is lost, put %d random bytes there, and link everybody anew", err, linked, keyBytes)
		}
		l.key, err = makeKey(keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	return l, nil
}

// hash is by which an identity is kept.
func (l *Links) hash(i Identity) []byte {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte("vindu/identity.v2\x00" + i.Issuer + "\x00" + i.Subject))
	return h.Sum(nil)
}

// newCode is what people say to each other: 16 characters, 80 bits, which follow from nothing.
func newCode() string {
	s := rand.Text()
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:16]
}

// Person returns whose identity it is, and by which hash it is kept. If it is nobody's, the error is a *Unknown and wraps ErrUnknown, or wraps ErrFull.
func (l *Links) Person(ctx context.Context, i Identity) (person string, identity []byte, err error) {
	identity = l.hash(i)
	err = l.store.Read().QueryRowContext(ctx, "SELECT person FROM oidc_links WHERE identity = ?", identity).Scan(&person)
	if err == nil {
		return person, identity, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", nil, fmt.Errorf("look for a person: %w", err)
	}
	code, now := "", l.now()
	err = l.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM oidc_waiting WHERE expires <= ?", now.UnixMilli()); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, `INSERT INTO oidc_waiting (identity, code, issuer, expires) SELECT ?1, ?2, ?3, ?4
			WHERE (SELECT count(*) FROM oidc_waiting) < ?5 OR EXISTS (SELECT 1 FROM oidc_waiting WHERE identity = ?1)
			ON CONFLICT (identity) DO UPDATE SET expires = excluded.expires RETURNING code`,
			identity, newCode(), i.Issuer, now.Add(codeLife).UnixMilli(), maxWaiting).Scan(&code)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrFull
		}
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("keep a code for the administrator: %w", err)
	}
	return "", identity, &Unknown{code}
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

// Unlink takes all identities from a person and returns how many there were. also is done with it, or neither: what the identities have begun, such as sessions, ends
// with them, so that it does not hold again when one is linked again.
func (l *Links) Unlink(ctx context.Context, by, person string, also func(ctx context.Context, tx *sql.Tx, person string) error) (n int64, err error) {
	err = l.store.Write(ctx, func(tx *sql.Tx) error {
		if err := also(ctx, tx, person); err != nil {
			return err
		}
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
