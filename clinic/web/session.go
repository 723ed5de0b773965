package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/store"
)

const (
	// SessionLife is a working day: after it a person signs in again.
	SessionLife = 12 * time.Hour
	// LinkLife is how long a sign-in link can be used if nothing else is asked for.
	LinkLife = 15 * time.Minute
	// MaxLinkLife bounds what may be asked for.
	MaxLinkLife = 24 * time.Hour

	tokenBytes = 32
	linkPath   = "/enter/"
)

// ErrLink is wrapped when a sign-in link is unknown, used or expired; which of them is not told.
var ErrLink = errors.New("sign-in link cannot be used")

// errNoSession is wrapped when there is no such session, or not any more.
var errNoSession = errors.New("not signed in")

// errPasskeyGone is wrapped, beside errNoSession, when the passkey of a session cannot be used any more.
var errPasskeyGone = errors.New("the session's passkey was removed or disabled")

var steps = []string{
	`CREATE TABLE web_links (
		hash BLOB PRIMARY KEY, person TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER
	) STRICT`,
	`CREATE TABLE web_sessions (
		hash BLOB PRIMARY KEY, person TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL
	) STRICT`,
	`ALTER TABLE web_sessions ADD COLUMN passkey BLOB`,    // by which it was begun; NULL: by a link
	`ALTER TABLE web_sessions ADD COLUMN touched INTEGER`, // when the person last used a passkey
	`CREATE INDEX web_sessions_person ON web_sessions (person)`,
	`ALTER TABLE web_sessions ADD COLUMN identity BLOB`, // of the identity provider's person, by which it was begun, as its hash
	// Whoever signed in at the identity provider before is not signed in by that any more: the provider does not know that the person was signed out here.
	`CREATE TABLE web_ended (person TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT`,
}

// Auditor is where sign-ins are written down; audit.Log is one.
type Auditor interface {
	AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error
}

// Sessions are the sign-in links and sessions in a store. The store holds SHA-256 of the tokens, so that a copy of it
// signs nobody in. It is safe for concurrent use, also beside a running server.
type Sessions struct {
	store *store.Store
	audit Auditor
	now   func() time.Time
}

// NewSessions brings the tables up.
func NewSessions(ctx context.Context, s *store.Store, log Auditor) (*Sessions, error) {
	if err := s.Migrate(ctx, "web", steps); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	return &Sessions{store: s, audit: log, now: time.Now}, nil
}

func newToken() (token string, hash []byte) {
	var b [tokenBytes]byte
	rand.Read(b[:])
	token = base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashToken(token)
}

func hashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// Link returns the path of a link by which person can sign in once within life, which is at most MaxLinkLife. It is a
// secret. by says who issued it.
func (s *Sessions) Link(ctx context.Context, by, person string, life time.Duration) (path string, err error) {
	if life <= 0 || life > MaxLinkLife {
		return "", fmt.Errorf("make sign-in link: it has to hold for more than nothing and at most %s, not %s", MaxLinkLife, life)
	}
	token, hash := newToken()
	now := s.now()
	err = s.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO web_links VALUES (?, ?, ?, ?, NULL)", hash, person, now.UnixMilli(), now.Add(life).UnixMilli()); err != nil {
			return err
		}
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.SignInLinkIssued, Subject: register.Person{ID: person}.Who()})
	})
	if err != nil {
		return "", fmt.Errorf("make sign-in link: %w", err)
	}
	return linkPath + token, nil
}

// whose returns who would be signed in by a link. The error wraps ErrLink if the link cannot be used.
func (s *Sessions) whose(ctx context.Context, token string) (person string, err error) {
	err = s.store.Read().QueryRowContext(ctx, "SELECT person FROM web_links WHERE hash = ? AND used IS NULL AND expires > ?", hashToken(token), s.now().UnixMilli()).Scan(&person)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrLink
	}
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	return person, nil
}

// enter uses a link up and begins a session. The error wraps ErrLink if the link cannot be used.
func (s *Sessions) enter(ctx context.Context, token string) (session string, expires time.Time, err error) {
	session, hash := newToken()
	now := s.now()
	expires = now.Add(SessionLife)
	// Strangers who try tokens do not get as far as the one writer that all share.
	var usable int
	err = s.store.Read().QueryRowContext(ctx, "SELECT count(*) FROM web_links WHERE hash = ? AND used IS NULL AND expires > ?",
		hashToken(token), now.UnixMilli()).Scan(&usable)
	if err == nil && usable == 0 {
		err = ErrLink
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign in: %w", err)
	}
	err = s.store.Write(ctx, func(tx *sql.Tx) error {
		var person string
		err := tx.QueryRowContext(ctx, "UPDATE web_links SET used = ?1 WHERE hash = ?2 AND used IS NULL AND expires > ?1 RETURNING person",
			now.UnixMilli(), hashToken(token)).Scan(&person)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrLink
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO web_sessions (hash, person, created, expires) VALUES (?, ?, ?, ?)", hash, person, now.UnixMilli(), expires.UnixMilli()); err != nil {
			return err
		}
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: register.Person{ID: person}.Who(), What: audit.PersonSignedIn, Subject: register.Person{ID: person}.Who()})
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign in: %w", err)
	}
	return session, expires, nil
}

// begin begins the session of a person who has used a passkey.
func (s *Sessions) begin(ctx context.Context, p passkey.Proof) (session string, expires time.Time, err error) {
	session, hash := newToken()
	now := s.now()
	expires = now.Add(SessionLife)
	err = s.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO web_sessions (hash, person, created, expires, passkey, touched) VALUES (?, ?, ?, ?, ?, ?)",
			hash, p.Person, now.UnixMilli(), expires.UnixMilli(), p.ID, p.At.UnixMilli()); err != nil {
			return err
		}
		who := register.Person{ID: p.Person}.Who()
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PersonSignedIn, Subject: who, Detail: proofDetail(p)})
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign in: %w", err)
	}
	return session, expires, nil
}

func proofDetail(p passkey.Proof) map[string]string {
	return map[string]string{"passkey": hex.EncodeToString(p.ID), "name": p.Name}
}

// touch notes that the person of a session has used a passkey again. The error wraps errNoSession.
func (s *Sessions) touch(ctx context.Context, session string, p passkey.Proof) error {
	err := s.store.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "UPDATE web_sessions SET touched = ?, passkey = ? WHERE hash = ? AND person = ?", p.At.UnixMilli(), p.ID, hashToken(session), p.Person)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errNoSession)
		}
		who := register.Person{ID: p.Person}.Who()
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PasskeyTouched, Subject: who, Detail: proofDetail(p)})
	})
	if err != nil {
		return fmt.Errorf("touch: %w", err)
	}
	return nil
}

// Count returns at how many browsers a person is signed in who has these passkeys: a session does not outlive its passkey.
func (s *Sessions) Count(ctx context.Context, person string, passkeys []passkey.Passkey) (n int, err error) {
	rows, err := s.store.Read().QueryContext(ctx, "SELECT passkey FROM web_sessions WHERE person = ? AND expires > ?", person, s.now().UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("count sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var by []byte
		if err := rows.Scan(&by); err != nil {
			return 0, fmt.Errorf("count sessions: %w", err)
		}
		if by == nil || slices.ContainsFunc(passkeys, func(k passkey.Passkey) bool { return k.Usable() && bytes.Equal(k.ID, by) }) {
			n++
		}
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("count sessions: %w", err)
	}
	return n, nil
}

// End ends all sessions of a person, and makes void the sign-in links that were not used and what the person has signed in for at the identity provider.
func (s *Sessions) End(ctx context.Context, by, person string) error {
	err := s.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM web_sessions WHERE person = ?", person); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM web_links WHERE person = ? AND used IS NULL", person); err != nil {
			return err
		}
		if err := s.endIdentities(ctx, tx, person); err != nil {
			return err
		}
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.SessionsEnded, Subject: register.Person{ID: person}.Who()})
	})
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	return nil
}

// held is a session as it is stored.
type held struct {
	person   string
	expires  time.Time
	passkey  []byte    // by which it was begun, or touched last; nil: by a link
	touched  time.Time // zero: never
	identity []byte    // by which it was begun at the identity provider
}

// find returns a session. The error wraps errNoSession.
func (s *Sessions) find(ctx context.Context, session string) (held, error) {
	var h held
	var until int64
	var touched sql.NullInt64
	err := s.store.Read().QueryRowContext(ctx, "SELECT person, expires, passkey, touched, identity FROM web_sessions WHERE hash = ? AND expires > ?",
		hashToken(session), s.now().UnixMilli()).Scan(&h.person, &until, &h.passkey, &touched, &h.identity)
	if errors.Is(err, sql.ErrNoRows) {
		return held{}, errNoSession
	}
	if err != nil {
		return held{}, fmt.Errorf("read session: %w", err)
	}
	h.expires = time.UnixMilli(until)
	if touched.Valid {
		h.touched = time.UnixMilli(touched.Int64)
	}
	return h, nil
}

// leave ends a session.
func (s *Sessions) leave(ctx context.Context, session string) error {
	err := s.store.Write(ctx, func(tx *sql.Tx) error {
		var person string
		err := tx.QueryRowContext(ctx, "DELETE FROM web_sessions WHERE hash = ? RETURNING person", hashToken(session)).Scan(&person)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: register.Person{ID: person}.Who(), What: audit.PersonSignedOut, Subject: register.Person{ID: person}.Who()})
	})
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// refused notes that somebody asked for a page of another duty.
func (s *Sessions) refused(ctx context.Context, p register.Person, page string) error {
	return s.note(ctx, audit.Entry{Who: p.Who(), What: audit.PageRefused, Subject: page, Detail: map[string]string{"duty": string(p.Duty)}})
}

// note writes down what changes nothing here.
func (s *Sessions) note(ctx context.Context, e audit.Entry) error {
	if err := s.store.Write(ctx, func(tx *sql.Tx) error { return s.audit.AppendTx(ctx, tx, e) }); err != nil {
		return fmt.Errorf("audit %s: %w", e.What, err)
	}
	return nil
}

// sweep forgets what has expired.
func (s *Sessions) sweep(ctx context.Context) error {
	now := s.now().UnixMilli()
	return s.store.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM web_sessions WHERE expires <= ?", now)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM web_links WHERE expires <= ?", now)
		return err
	})
}
