package register

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/protocol"
)

// A terminal's key is its identity everywhere, so a terminal with a new key is a new terminal in the home of the one before, which it succeeds. Until the new
// key has connected for the first time the old one is the terminal; from that instant on the new one is, and the old one is
// refused. Both in one transaction; calls, pages and orders follow because they ask which terminal stands in a home.

const (
	// SuccessionLife is how long a new key may take to connect for the first time. Afterwards it is worth nothing, and the terminal still has its old one.
	SuccessionLife = 7 * 24 * time.Hour
	// maxSuccessions bounds the keys that one key may ask to be succeeded by.
	maxSuccessions = 16
	// orderSpread is over how long a fleet follows an order to replace its keys.
	orderSpread = 24 * time.Hour
	// A key is due after its life and then, spread over the fleet, within a part of that.
	lifeSpread = 8
	// copyAgain is how often the use of a key that was replaced is noted.
	copyAgain = time.Minute
)

// reasonSucceeded is the reason for which a key that was replaced is refused.
const reasonSucceeded = "the terminal has a new key"

var successionSteps = []string{
	`CREATE TABLE successions (
		key BLOB PRIMARY KEY,           -- SHA-256 of spki
		spki BLOB NOT NULL,
		old BLOB NOT NULL REFERENCES terminals,
		began INTEGER NOT NULL, until INTEGER NOT NULL,
		serial TEXT NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, -- of its first certificate
		done INTEGER                    -- when it connected first
	) STRICT`,
	`CREATE INDEX successions_old ON successions (old)`,
	`CREATE TABLE key_orders (n INTEGER PRIMARY KEY, before INTEGER NOT NULL, given INTEGER NOT NULL, given_by TEXT NOT NULL) STRICT`,
	`ALTER TABLE successions ADD COLUMN day INTEGER NOT NULL DEFAULT 0`,   // when a day began
	`ALTER TABLE successions ADD COLUMN asked INTEGER NOT NULL DEFAULT 0`, // how often the key was asked for in that day
}

// OrderKeys orders every terminal whose key was registered before that instant to replace it. It returns how many those are now. They follow within a day of
// when they are heard of.
func (r *Register) OrderKeys(ctx context.Context, who string, before time.Time) (terminals int, err error) {
	now := r.now()
	if before.After(now) {
		return 0, fmt.Errorf("order new keys: %s has still to come", before.Format(time.DateTime))
	}
	err = r.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO key_orders (before, given, given_by) VALUES (?, ?, ?)", before.UnixMilli(), now.UnixMilli(), who); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM terminals WHERE revoked IS NULL AND enrolled < ?", before.UnixMilli()).Scan(&terminals); err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.KeysOrdered, Subject: "terminals", Detail: map[string]string{"made_before": before.UTC().Format(time.RFC3339)}})
	})
	if err != nil {
		return 0, fmt.Errorf("order new keys: %w", err)
	}
	return terminals, nil
}

// KeyDue tells whether a terminal's key is to be replaced now: by its age, if life is not 0, or because that was ordered.
func (r *Register) KeyDue(ctx context.Context, t Terminal, life time.Duration) (bool, error) {
	now := r.now()
	spread := func(over time.Duration) time.Duration { // the same for the same key
		return time.Duration(float64(over) * float64(binary.BigEndian.Uint32(t.Key[:])) / (1 << 32))
	}
	if life > 0 && !now.Before(t.Enrolled.Add(life+spread(life/lifeSpread))) {
		return true, nil
	}
	var given sql.NullInt64
	err := r.store.Read().QueryRowContext(ctx, "SELECT min(given) FROM key_orders WHERE before > ?", t.Enrolled.UnixMilli()).Scan(&given)
	if err != nil {
		return false, fmt.Errorf("look for orders for new keys: %w", err)
	}
	return given.Valid && !now.Before(time.UnixMilli(given.Int64).Add(spread(orderSpread))), nil
}

// Succeed gives the key of a request, which is to replace the terminal's, its first certificate; the terminal has proven its key. Asked again for the same
// key it does the same again, so that a lost reply costs nothing. A refusal carries a code: protocol.IdentityClone if the key was seen before
// (it raises an alarm), LinkTooMany if it has asked for too many or too often, LinkRefused with ErrNotFound or ErrRevoked.
func (r *Register) Succeed(ctx context.Context, old protocol.KeyHash, request *authority.Request, issue Issue) (*x509.Certificate, error) {
	var certificate *x509.Certificate
	err := r.store.Write(ctx, func(tx *sql.Tx) error {
		t, err := byTerminal(ctx, tx, old)
		if err != nil {
			return err
		}
		if !t.Revoked.IsZero() {
			return revokedError(old)
		}
		switch _, err := byTerminal(ctx, tx, request.Hash); {
		case err == nil:
			return refuse(protocol.IdentityClone, "the new key was enrolled before")
		case !errors.Is(err, ErrNotFound):
			return err
		}
		var before []byte
		var day, asked int64
		err = tx.QueryRowContext(ctx, "SELECT old, day, asked FROM successions WHERE key = ?", request.Hash[:]).Scan(&before, &day, &asked)
		again := err == nil
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read successions: %w", err)
		}
		if again && string(before) != string(old[:]) {
			return refuse(protocol.IdentityClone, "the new key is another terminal's")
		}
		now := r.now()
		if now.Sub(time.UnixMilli(day)).Abs() >= 24*time.Hour {
			day, asked = now.UnixMilli(), 0
		}
		if asked++; asked > maxPerDay { // each is in the audit log for good
			return refuse(protocol.LinkTooMany, "the terminal has asked for its new key too often")
		}
		var count, open int
		if err := tx.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE until > ?) FROM successions WHERE old = ? AND key <> ?",
			now.UnixMilli(), old[:], request.Hash[:]).Scan(&count, &open); err != nil {
			return fmt.Errorf("read successions: %w", err)
		}
		if count >= maxSuccessions {
			return refuse(protocol.LinkTooMany, "the terminal has asked for too many new keys")
		}
		if open > 0 { // it keeps the key that it has made until that is in use; so who asked was perhaps another
			if _, err := r.RaiseTx(ctx, tx, protocol.IdentityTwice, old, "a second new key was asked for while the first was not in use yet"); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "UPDATE successions SET until = ?1 WHERE old = ?2 AND key <> ?3 AND until > ?1", now.UnixMilli(), old[:], request.Hash[:]); err != nil {
				return fmt.Errorf("end succession: %w", err)
			}
		}
		successor := *request
		successor.Before = old
		if certificate, err = issue(&successor); err != nil {
			return fmt.Errorf("certify the new key of terminal %s: %w", old.Code(), err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO successions (key, spki, old, began, until, serial, not_before, not_after, day, asked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (key) DO UPDATE SET until = excluded.until, serial = excluded.serial, not_before = excluded.not_before, not_after = excluded.not_after,
				day = excluded.day, asked = excluded.asked`,
			request.Hash[:], request.SPKI, old[:], now.UnixMilli(), now.Add(SuccessionLife).UnixMilli(),
			certificate.SerialNumber.Text(16), certificate.NotBefore.UnixMilli(), certificate.NotAfter.UnixMilli(), day, asked)
		if err != nil {
			return fmt.Errorf("begin succession: %w", err)
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: old.Name(), What: audit.KeyCertified, Subject: request.Hash.Name(),
			Detail: map[string]string{"serial": certificate.SerialNumber.Text(16), "home": t.Home}})
	})
	switch {
	case protocol.CodeOf(err) == protocol.IdentityClone:
		return nil, errors.Join(err, r.Raise(ctx, protocol.IdentityClone, request.Hash, "the terminal "+old.Name()+" asked for it as its new key"))
	case err != nil:
		return nil, err
	}
	return certificate, nil
}

// takeOver puts a new key, which connects for the first time, in the place of the one that it succeeds. The error wraps ErrNotFound if it succeeds none, or
// comes too late.
func (r *Register) takeOver(ctx context.Context, key protocol.KeyHash) (Terminal, error) {
	var open bool // strangers do not get as far as the one writer
	err := r.store.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM successions WHERE key = ? AND done IS NULL AND until > ?)", key[:], r.now().UnixMilli()).Scan(&open)
	if err != nil {
		return Terminal{}, fmt.Errorf("read successions: %w", err)
	}
	if !open { // or another connection of it was first, after the caller has looked
		return r.ByTerminal(ctx, key)
	}
	err = r.store.Write(ctx, func(tx *sql.Tx) error {
		now := r.now().UnixMilli()
		var spki, oldKey []byte
		var serial string
		var notBefore, notAfter int64
		err := tx.QueryRowContext(ctx, `UPDATE successions SET done = ?1 WHERE key = ?2 AND done IS NULL AND until > ?1
			RETURNING spki, old, serial, not_before, not_after`, now, key[:]).Scan(&spki, &oldKey, &serial, &notBefore, &notAfter)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // another connection of it was first, or it is late: what is in the register now says it
		}
		if err != nil {
			return fmt.Errorf("end succession: %w", err)
		}
		old, err := byTerminal(ctx, tx, protocol.KeyHash(oldKey))
		if err != nil {
			return err
		}
		if !old.Revoked.IsZero() { // meanwhile: with it, what it has asked for
			return revokedError(key)
		}
		return r.replace(ctx, tx, old, newKey{key, spki, serial, notBefore, notAfter}, map[string]string{})
	})
	if err != nil {
		return Terminal{}, err
	}
	return r.ByTerminal(ctx, key)
}

// newKey is what the register keeps of a key that takes the place of another, and of its first certificate.
type newKey struct {
	key                 protocol.KeyHash
	spki                []byte
	serial              string
	notBefore, notAfter int64
}

// replace puts a new key in the place of old.
func (r *Register) replace(ctx context.Context, tx *sql.Tx, old Terminal, next newKey, detail map[string]string) error {
	now := r.now().UnixMilli()
	detail["home"], detail["by"] = old.Home, next.key.Name()
	if err := r.revoke(ctx, tx, audit.Entry{Who: next.key.Name(), What: audit.KeyReplaced, Detail: detail}, old, reasonSucceeded); err != nil {
		return err
	}
	for _, s := range []struct {
		query string
		args  []any
	}{
		{"INSERT INTO terminals (key, spki, home, enrolled) VALUES (?, ?, ?, ?)", []any{next.key[:], next.spki, old.Home, now}},
		{`INSERT INTO placements (key, home, began, voucher) VALUES (?1, ?2, ?3, (SELECT voucher FROM placements WHERE key = ?4 ORDER BY n DESC LIMIT 1))`,
			[]any{next.key[:], old.Home, now, old.Key[:]}},
		{"INSERT INTO certificates (serial, key, not_before, not_after) VALUES (?, ?, ?, ?)", []any{next.serial, next.key[:], next.notBefore, next.notAfter}},
	} {
		if _, err := tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return fmt.Errorf("register the new key: %w", err)
		}
	}
	return nil
}

// AdmitBy is Admit for a terminal that has shown this certificate, which is one of this clinic. By it a terminal is admitted too whose key has replaced another
// after the register's backup, from which it was restored since: the certificate names the one before, which the terminal has destroyed.
func (r *Register) AdmitBy(ctx context.Context, key protocol.KeyHash, c *x509.Certificate) (Terminal, error) {
	t, err := r.Admit(ctx, key)
	before, replaced := authority.Before(c)
	if !replaced || !errors.Is(err, ErrNotFound) || r.now().After(c.NotAfter) {
		return t, err
	}
	if _, err := r.forgotten(ctx, r.store.Read(), key, before, err); err != nil {
		return Terminal{}, err
	}
	refused := err
	err = r.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := byTerminal(ctx, tx, key); !errors.Is(err, ErrNotFound) {
			return err // another connection of it was first
		}
		old, err := r.forgotten(ctx, tx, key, before, refused)
		if err != nil {
			return err
		}
		now, serial := r.now().UnixMilli(), c.SerialNumber.Text(16)
		if _, err := tx.ExecContext(ctx, `INSERT INTO successions (key, spki, old, began, until, serial, not_before, not_after, done) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?4)`,
			key[:], c.RawSubjectPublicKeyInfo, before[:], now, serial, c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli()); err != nil {
			return fmt.Errorf("restore succession: %w", err)
		}
		return r.replace(ctx, tx, old, newKey{key, c.RawSubjectPublicKeyInfo, serial, c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli()}, map[string]string{"known_by": "its certificate"})
	})
	if err != nil {
		return Terminal{}, err
	}
	return r.Admit(ctx, key)
}

// forgotten returns the terminal that a key may succeed which this register did not certify. What it has certified itself it knows: then it returns refused, which was meant.
func (r *Register) forgotten(ctx context.Context, q queryer, key, before protocol.KeyHash, refused error) (Terminal, error) {
	var asked bool
	if err := q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM successions WHERE key = ? AND done IS NULL)", key[:]).Scan(&asked); err != nil {
		return Terminal{}, fmt.Errorf("read successions: %w", err)
	}
	if asked {
		return Terminal{}, refused
	}
	old, err := byTerminal(ctx, q, before)
	switch {
	case errors.Is(err, ErrNotFound):
		return Terminal{}, refused
	case err == nil && !old.Revoked.IsZero():
		next, succeeded, err := r.Successor(ctx, before)
		if err == nil && !(succeeded && next == key) { // another connection of it was first
			err = revokedError(key)
		}
		return old, err
	}
	return old, err
}

// retire is takeOver for a new key that a voucher lets in before it has connected: it gets its home by the voucher, and the one that it succeeds has none any more.
func (r *Register) retire(ctx context.Context, tx *sql.Tx, who string, key protocol.KeyHash) error {
	now := r.now().UnixMilli()
	var oldKey []byte
	err := tx.QueryRowContext(ctx, "SELECT old FROM successions WHERE key = ? AND done IS NULL AND until > ?", key[:], now).Scan(&oldKey)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read successions: %w", err)
	}
	old, err := byTerminal(ctx, tx, protocol.KeyHash(oldKey))
	if err != nil || !old.Revoked.IsZero() {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE successions SET done = ? WHERE key = ?", now, key[:]); err != nil {
		return fmt.Errorf("end succession: %w", err)
	}
	return r.revoke(ctx, tx, audit.Entry{Who: who, What: audit.KeyReplaced, Detail: map[string]string{"home": old.Home, "by": key.Name()}}, old, reasonSucceeded)
}

// Successor returns the terminal that has taken the place of a key's; false if none has.
func (r *Register) Successor(ctx context.Context, key protocol.KeyHash) (protocol.KeyHash, bool, error) {
	var next []byte
	err := r.store.Read().QueryRowContext(ctx, "SELECT key FROM successions WHERE old = ? AND done IS NOT NULL", key[:]).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return protocol.KeyHash{}, false, nil
	}
	if err != nil {
		return protocol.KeyHash{}, false, fmt.Errorf("read successions: %w", err)
	}
	return protocol.KeyHash(next), true, nil
}

// replacedUsed notes that a key was used after another had taken its place: the terminal has destroyed it by then, so it is a copy.
func (r *Register) replacedUsed(ctx context.Context, key protocol.KeyHash) error {
	next, succeeded, err := r.Successor(ctx, key)
	if err != nil || !succeeded {
		return err
	}
	now := r.now()
	r.mu.Lock()
	for k, at := range r.copied {
		if now.Sub(at).Abs() >= copyAgain {
			delete(r.copied, k)
		}
	}
	_, told := r.copied[key]
	if !told {
		r.copied[key] = now
	}
	r.mu.Unlock()
	if told {
		return nil
	}
	return r.Raise(ctx, protocol.IdentityClone, key, "a key was used that the terminal has replaced; its own is "+next.Name())
}
