// Package register knows which terminal stands in which home, who may call, and by what right a terminal came in.
//
// A home is an opaque number and a label; nothing here says anything about a patient. A terminal is a public key: its
// SHA-256 is its identity, and a key that was ever registered stays so for good, so that a copy of a terminal cannot
// come in as a new one (R3). A home has at most one current terminal; enrolling another replaces, that is revokes, the
// one before. Nothing is deleted (R17).
//
// A voucher lets one terminal in, once, for a short time (R4). Only the hash of its secret is stored. Presenting it again
// with the same key gives that terminal its certificate again, so that a lost reply costs nothing; with any
// other key it is refused as used.
//
// A terminal that is set up moves to another home by a voucher for that one and the certificate that it has. A key that was seen before and
// comes with a voucher alone raises an alarm: it may be a copy. So does a certificate that is shown after a newer one of the same key (Shown).
//
// A terminal that is ordered to, or whose key is old, succeeds itself with a new key (Succeed): in the same home, in one transaction, when the new key connects.
//
// Every change is written to the audit log in the same transaction.
package register

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/store"
	"vindu/protocol"
)

var (
	// ErrNotFound is wrapped when there is no such home, terminal or person.
	ErrNotFound = errors.New("not in the register")
	// ErrRevoked is wrapped when a terminal is known but may not connect any more. Its code is protocol.LinkRefused.
	ErrRevoked = errors.New("terminal is revoked")
	// ErrText is wrapped when a label, name, role or organisation is empty, too long or not printable.
	ErrText = errors.New("text cannot be used")
)

var steps = []string{
	`CREATE TABLE homes (id TEXT PRIMARY KEY, label TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT`,
	`CREATE TABLE terminals (
		key BLOB PRIMARY KEY,           -- SHA-256 of spki
		spki BLOB NOT NULL,
		home TEXT NOT NULL REFERENCES homes,
		enrolled INTEGER NOT NULL,
		revoked INTEGER,                -- when
		reason TEXT,
		revocation INTEGER UNIQUE       -- 1, 2, …: in the order in which they happened
	) STRICT`,
	`CREATE UNIQUE INDEX terminals_current ON terminals (home) WHERE revoked IS NULL`,
	`CREATE TABLE vouchers (
		id BLOB PRIMARY KEY, hash BLOB NOT NULL, home TEXT NOT NULL REFERENCES homes, issued_by TEXT NOT NULL,
		created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER, used_key BLOB
	) STRICT`,
	`CREATE TABLE certificates (
		serial TEXT PRIMARY KEY, key BLOB NOT NULL REFERENCES terminals, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL
	) STRICT`,
	`CREATE INDEX certificates_key ON certificates (key, not_after)`,
	`CREATE TABLE persons (
		id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, organisation TEXT NOT NULL, created INTEGER NOT NULL,
		UNIQUE (name, role, organisation)
	) STRICT`,
	`ALTER TABLE vouchers ADD COLUMN refused INTEGER NOT NULL DEFAULT 0`, // times that it was presented and refused
	`ALTER TABLE vouchers ADD COLUMN withdrawn INTEGER`,                  // when
	`CREATE TABLE placements (
		n INTEGER PRIMARY KEY, key BLOB NOT NULL REFERENCES terminals, home TEXT NOT NULL REFERENCES homes, began INTEGER NOT NULL, voucher BLOB
	) STRICT`,
	`CREATE INDEX placements_home ON placements (home)`,
	`CREATE INDEX placements_key ON placements (key)`,
	`INSERT INTO placements (key, home, began, voucher)
		SELECT key, home, enrolled, (SELECT id FROM vouchers WHERE used_key = key ORDER BY used LIMIT 1) FROM terminals ORDER BY enrolled`,
	`CREATE TABLE alarms (
		n INTEGER PRIMARY KEY, code TEXT NOT NULL, terminal BLOB NOT NULL, detail TEXT NOT NULL,
		first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, settled INTEGER, settled_by TEXT, note TEXT
	) STRICT`,
	`CREATE UNIQUE INDEX alarms_open ON alarms (code, terminal) WHERE settled IS NULL`,
	`ALTER TABLE certificates ADD COLUMN shown INTEGER`,     // when first
	`ALTER TABLE certificates ADD COLUMN straggled INTEGER`, // when an older one came just after
	`ALTER TABLE certificates ADD COLUMN issued INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE vouchers ADD COLUMN refused_for TEXT`, // protocol.Code, when it last was
	`CREATE INDEX vouchers_home ON vouchers (home)`,    // and rowid
	`CREATE INDEX vouchers_used ON vouchers (used_key, used)`,
	`CREATE TABLE announced (home TEXT PRIMARY KEY REFERENCES homes, person TEXT NOT NULL REFERENCES persons, at INTEGER NOT NULL) STRICT`,
	`ALTER TABLE homes ADD COLUMN provider TEXT NOT NULL DEFAULT ''`, // of its line; '' if nobody has noted it
}

// Home is where a terminal stands.
type Home struct {
	ID       string // decimal digits, random
	Label    string
	Terminal protocol.KeyHash // the current terminal; zero if there is none
	SPKI     []byte           // DER SubjectPublicKeyInfo of that terminal
	Enrolled time.Time
	Provider string // of its line, as operators have noted it; "" if they have not
}

// Terminal is a key that is, or once was, a terminal's.
type Terminal struct {
	Key       protocol.KeyHash
	SPKI      []byte
	Home      string // ID
	HomeLabel string
	Enrolled  time.Time
	Revoked   time.Time // zero if it is current
	Reason    string    // why it was revoked
}

// Person is one who may sign in.
type Person struct {
	ID    string         // decimal digits, random
	Party protocol.Party // as patients will see it
	Duty  Duty
}

// Register is the register in a store. It is safe for concurrent use.
type Register struct {
	store *store.Store
	audit *audit.Log
	now   func() time.Time

	mu     sync.Mutex
	copied map[protocol.KeyHash]time.Time // when the use of a replaced key was noted last
}

// New brings the register's tables up.
func New(ctx context.Context, s *store.Store, log *audit.Log) (*Register, error) {
	if err := s.Migrate(ctx, "register", steps); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	if err := s.Migrate(ctx, "duties", dutySteps); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	if err := s.Migrate(ctx, "succession", successionSteps); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	return &Register{store: s, audit: log, now: time.Now, copied: map[protocol.KeyHash]time.Time{}}, nil
}

// checkText lets through what can be shown on any screen: 1 to MaxText bytes, printable, not blank at the ends.
func checkText(field, s string) error {
	switch {
	case s == "" || strings.TrimSpace(s) != s:
		return fmt.Errorf("%w: %s is empty or begins or ends with a space", ErrText, field)
	case len(s) > protocol.MaxText:
		return fmt.Errorf("%w: %s has %d bytes, at most %d", ErrText, field, len(s), protocol.MaxText)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: %s has a character that cannot be printed", ErrText, field)
	}
	return nil
}

// newID returns nine random digits, the first not 0: enough never to meet again in one clinic, few enough to read out.
func newID() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000))
	if err != nil {
		return "", err
	}
	return n.Add(n, big.NewInt(100_000_000)).String(), nil
}

// EnsureHome returns the home with this label and makes it where there is none.
func (r *Register) EnsureHome(ctx context.Context, who, label string) (Home, error) {
	if err := checkText("the home's label", label); err != nil {
		return Home{}, err
	}
	id, err := newID()
	if err != nil {
		return Home{}, fmt.Errorf("add home: %w", err)
	}
	var home Home
	err = r.store.Write(ctx, func(tx *sql.Tx) (err error) {
		home, err = r.ensureHome(ctx, tx, who, id, label)
		return err
	})
	if err != nil {
		return Home{}, fmt.Errorf("add home: %w", err)
	}
	return home, nil
}

// ensureHome returns the home with this label; where there is none it gets this id.
func (r *Register) ensureHome(ctx context.Context, tx *sql.Tx, who, id, label string) (Home, error) {
	result, err := tx.ExecContext(ctx, "INSERT INTO homes (id, label, created) VALUES (?, ?, ?) ON CONFLICT (label) DO NOTHING", id, label, r.now().UnixMilli())
	if err != nil {
		return Home{}, err
	}
	added, err := result.RowsAffected()
	if err == nil && added > 0 {
		err = r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.HomeAdded, Subject: id, Detail: map[string]string{"label": label}})
	}
	if err != nil {
		return Home{}, err
	}
	return readHome(ctx, tx, "label = ?", label)
}

const selectHome = `SELECT homes.id, homes.label, terminals.key, terminals.spki, terminals.enrolled, homes.provider
	FROM homes LEFT JOIN terminals ON terminals.home = homes.id AND terminals.revoked IS NULL`

func scanHome(scan func(...any) error) (Home, error) {
	var h Home
	var key []byte
	var enrolled sql.NullInt64
	if err := scan(&h.ID, &h.Label, &key, &h.SPKI, &enrolled, &h.Provider); err != nil {
		return Home{}, err
	}
	if key != nil {
		copy(h.Terminal[:], key)
		h.Enrolled = time.UnixMilli(enrolled.Int64)
	}
	return h, nil
}

func readHome(ctx context.Context, q queryer, where string, argument any) (Home, error) {
	h, err := scanHome(q.QueryRowContext(ctx, selectHome+" WHERE "+where, argument).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Home{}, fmt.Errorf("home: %w", ErrNotFound)
	}
	if err != nil {
		return Home{}, fmt.Errorf("read home: %w", err)
	}
	return h, nil
}

// Home returns one home. The error wraps ErrNotFound.
func (r *Register) Home(ctx context.Context, id string) (Home, error) {
	return readHome(ctx, r.store.Read(), "homes.id = ?", id)
}

// Homes returns all homes, by label.
func (r *Register) Homes(ctx context.Context) ([]Home, error) {
	rows, err := r.store.Read().QueryContext(ctx, selectHome+" ORDER BY homes.label")
	if err != nil {
		return nil, fmt.Errorf("read homes: %w", err)
	}
	defer rows.Close()
	var homes []Home
	for rows.Next() {
		h, err := scanHome(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read homes: %w", err)
		}
		homes = append(homes, h)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read homes: %w", err)
	}
	return homes, nil
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func byTerminal(ctx context.Context, q queryer, key protocol.KeyHash) (Terminal, error) {
	t := Terminal{Key: key}
	var enrolled int64
	var revoked sql.NullInt64
	var reason sql.NullString
	err := q.QueryRowContext(ctx, `SELECT spki, home, label, enrolled, revoked, reason FROM terminals JOIN homes ON homes.id = home
		WHERE key = ?`, key[:]).Scan(&t.SPKI, &t.Home, &t.HomeLabel, &enrolled, &revoked, &reason)
	if errors.Is(err, sql.ErrNoRows) {
		return Terminal{}, protocol.WithCode(protocol.LinkRefused, fmt.Errorf("terminal %s: %w", key.Code(), ErrNotFound))
	}
	if err != nil {
		return Terminal{}, fmt.Errorf("read terminal %s: %w", key.Code(), err)
	}
	t.Enrolled, t.Reason = time.UnixMilli(enrolled), reason.String
	if revoked.Valid {
		t.Revoked = time.UnixMilli(revoked.Int64)
	}
	return t, nil
}

// ByTerminal returns what is known of a key, revoked or not. The error wraps ErrNotFound.
func (r *Register) ByTerminal(ctx context.Context, key protocol.KeyHash) (Terminal, error) {
	return byTerminal(ctx, r.store.Read(), key)
}

// Admit returns the terminal if it may connect now, having proven its key. The error wraps ErrNotFound or ErrRevoked. A new key that connects for the first time
// takes the place of the one that it succeeds; one whose place was taken raises protocol.IdentityClone.
func (r *Register) Admit(ctx context.Context, key protocol.KeyHash) (Terminal, error) {
	t, err := r.ByTerminal(ctx, key)
	if errors.Is(err, ErrNotFound) {
		t, err = r.takeOver(ctx, key)
	}
	if err == nil && !t.Revoked.IsZero() {
		err = errors.Join(revokedError(key), r.replacedUsed(ctx, key))
	}
	if err != nil {
		return Terminal{}, err
	}
	return t, nil
}

func revokedError(key protocol.KeyHash) error {
	return protocol.WithCode(protocol.LinkRefused, fmt.Errorf("terminal %s: %w", key.Code(), ErrRevoked))
}

// Revoke withdraws a terminal's right to connect, for good. Revoking it again changes nothing. The error wraps ErrNotFound.
func (r *Register) Revoke(ctx context.Context, who string, key protocol.KeyHash, reason string) error {
	if err := checkText("the reason", reason); err != nil {
		return err
	}
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		t, err := byTerminal(ctx, tx, key)
		if err != nil || !t.Revoked.IsZero() {
			return err
		}
		return r.revoke(ctx, tx, audit.Entry{Who: who, What: audit.TerminalRevoked, Detail: map[string]string{"reason": reason}}, t, reason)
	})
}

func (r *Register) revoke(ctx context.Context, tx *sql.Tx, e audit.Entry, t Terminal, reason string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE terminals SET revoked = ?, reason = ?,
		revocation = (SELECT coalesce(max(revocation), 0) + 1 FROM terminals) WHERE key = ?`, r.now().UnixMilli(), reason, t.Key[:]); err != nil {
		return fmt.Errorf("revoke terminal: %w", err)
	}
	e.Subject = t.Key.Name()
	return r.audit.AppendTx(ctx, tx, e)
}

// revocationPoll is how often WatchRevoked looks. A revocation acts within 5 s; it may come from another process.
const revocationPoll = time.Second

// revocationTimeout bounds one look: where all of the database's readers are held, that is a failure and not a wait.
const revocationTimeout = time.Second

// revocationPatience is for how many looks in a row the database may fail before WatchRevoked gives up: within the 5 s.
const revocationPatience = 4

// WatchRevoked calls revoked for every terminal that is revoked, those that were before the call included, in order,
// until ctx ends. It returns an error if the database cannot be read any more.
func (r *Register) WatchRevoked(ctx context.Context, revoked func(protocol.KeyHash)) error {
	tick := time.NewTicker(revocationPoll)
	defer tick.Stop()
	last, failures := int64(0), 0
	for {
		switch err := r.revokedSince(ctx, &last, revoked); {
		case err == nil:
			failures = 0
		case ctx.Err() == nil:
			if failures++; failures >= revocationPatience {
				return fmt.Errorf("watch for revoked terminals: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (r *Register) revokedSince(ctx context.Context, last *int64, revoked func(protocol.KeyHash)) error {
	keys, err := r.revokedKeys(ctx, last)
	for _, key := range keys {
		revoked(key)
	}
	return err
}

func (r *Register) revokedKeys(ctx context.Context, last *int64) (keys []protocol.KeyHash, err error) {
	ctx, cancel := context.WithTimeout(ctx, revocationTimeout)
	defer cancel()
	rows, err := r.store.Read().QueryContext(ctx, "SELECT revocation, key FROM terminals WHERE revocation > ? ORDER BY revocation", *last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key []byte
		if err := rows.Scan(last, &key); err != nil {
			return keys, err
		}
		keys = append(keys, protocol.KeyHash(key))
	}
	return keys, rows.Err()
}

// Issue makes a terminal's certificate; authority.Authority.IssueTerminal is one.
type Issue func(*authority.Request) (*x509.Certificate, error)
