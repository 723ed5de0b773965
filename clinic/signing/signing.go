// Package signing holds what waits for the authorisation key, where that is not on the server, besides authorisations and policies, which package grants keeps: technicians'
// mandates, orders to take terminals out of use, and orders for new keys.
//
// Whoever wants one signed asks with what it says (Want), and looks for it when it is needed (Signed). What waits goes to the key and back in the file of package grants
// (vindu-clinic waiting, authorise, accept); it is taken only if it is, to the byte, what waited. What is not wanted any more is dropped and does not go there.
package signing

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/store"
)

// Kinds of requests.
const (
	Mandate      = "mandate"
	Decommission = "decommission"
	KeyOrder     = "key-order"
)

// ErrWaits is wrapped when something was asked for and is not signed yet.
var ErrWaits = errors.New("it waits to be signed")

var steps = []string{
	`CREATE TABLE signing_requests (
		n INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, -- what the kind calls it by
		body BLOB NOT NULL, key BLOB NOT NULL, -- the SPKI of the key that is to sign it
		signed BLOB, made INTEGER NOT NULL, accepted INTEGER, dropped INTEGER, UNIQUE (kind, subject, key)
	) STRICT`,
	`CREATE INDEX signing_requests_open ON signing_requests (key) WHERE signed IS NULL AND dropped IS NULL`,
}

// Requests are safe for concurrent use, also beside a running server.
type Requests struct {
	store *store.Store
	now   func() time.Time
}

// New brings the table up.
func New(ctx context.Context, s *store.Store) (*Requests, error) {
	if err := s.Migrate(ctx, "signing", steps); err != nil {
		return nil, fmt.Errorf("requests for signatures: %w", err)
	}
	return &Requests{s, time.Now}, nil
}

// Want asks the key with this SPKI for a signature over body. What was asked for under this name before stays.
func (r *Requests) Want(ctx context.Context, tx *sql.Tx, kind, subject string, body, key []byte) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO signing_requests (kind, subject, body, key, made) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", kind, subject, body, key, r.now().UnixMilli())
	if err != nil {
		return fmt.Errorf("ask for a signature: %w", err)
	}
	return nil
}

// Signed returns what was asked for, signed by the key with this SPKI; nil if it is not, or nobody has asked.
func (r *Requests) Signed(ctx context.Context, kind, subject string, key []byte) ([]byte, error) {
	var signed []byte
	err := r.store.Read().QueryRowContext(ctx, "SELECT signed FROM signing_requests WHERE kind = ? AND subject = ? AND key = ? AND dropped IS NULL", kind, subject, key).Scan(&signed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("look for a signature: %w", err)
	}
	return signed, nil
}

// Ask is Want, where it was not asked for yet, and Signed.
func (r *Requests) Ask(ctx context.Context, kind, subject string, body, key []byte) (signed []byte, err error) {
	var asked bool
	if err := r.store.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM signing_requests WHERE kind = ? AND subject = ? AND key = ?)", kind, subject, key).Scan(&asked); err != nil {
		return nil, fmt.Errorf("look for a signature: %w", err)
	}
	if asked {
		return r.Signed(ctx, kind, subject, key)
	}
	return nil, r.store.Write(ctx, func(tx *sql.Tx) error { return r.Want(ctx, tx, kind, subject, body, key) })
}

// Body returns what was asked for last under this name; nil if nothing was, or it was taken back.
func (r *Requests) Body(ctx context.Context, kind, subject string) (body []byte, err error) {
	err = r.store.Read().QueryRowContext(ctx, "SELECT body FROM signing_requests WHERE kind = ? AND subject = ? AND dropped IS NULL ORDER BY n DESC LIMIT 1", kind, subject).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a request for a signature: %w", err)
	}
	return body, nil
}

// Drop takes a request back. One that has gone to the key is not accepted any more.
func (r *Requests) Drop(ctx context.Context, tx *sql.Tx, kind, subject string) error {
	if _, err := tx.ExecContext(ctx, "UPDATE signing_requests SET dropped = ? WHERE kind = ? AND subject = ? AND dropped IS NULL", r.now().UnixMilli(), kind, subject); err != nil {
		return fmt.Errorf("take a request for a signature back: %w", err)
	}
	return nil
}

// Request is one that waits.
type Request struct {
	Kind, Subject string
	Body          []byte
}

// Waiting returns what the key with this SPKI is to sign.
func (r *Requests) Waiting(ctx context.Context, key []byte) (list []Request, err error) {
	rows, err := r.store.Read().QueryContext(ctx, "SELECT kind, subject, body FROM signing_requests WHERE key = ? AND signed IS NULL AND dropped IS NULL ORDER BY n", key)
	if err != nil {
		return nil, fmt.Errorf("look for what waits: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var q Request
		if err := rows.Scan(&q.Kind, &q.Subject, &q.Body); err != nil {
			return nil, fmt.Errorf("look for what waits: %w", err)
		}
		list = append(list, q)
	}
	return list, rows.Err()
}

// Asked returns which key was asked for body, and whether that waits. The error is sql.ErrNoRows if nobody has asked.
func (r *Requests) Asked(ctx context.Context, tx *sql.Tx, kind string, body []byte) (n int64, key []byte, waits bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT n, key, signed IS NULL AND dropped IS NULL FROM signing_requests WHERE kind = ? AND body = ? ORDER BY n DESC LIMIT 1", kind, body).Scan(&n, &key, &waits)
	return n, key, waits, err
}

// Accept keeps what was signed. The caller has verified it.
func (r *Requests) Accept(ctx context.Context, tx *sql.Tx, n int64, signed []byte) error {
	_, err := tx.ExecContext(ctx, "UPDATE signing_requests SET signed = ?, accepted = ? WHERE n = ? AND signed IS NULL AND dropped IS NULL", signed, r.now().UnixMilli(), n)
	return err
}
