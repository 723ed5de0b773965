package register

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"vindu/protocol"
)

const (
	// straggler is how long after a certificate was shown first an older one may still come, once: of a connection that was begun with it.
	straggler = 30 * time.Second
	// twiceAgain is how often the same terminal raises IdentityTwice: two that push each other out come many times in a minute.
	twiceAgain = time.Minute
)

// Shown notes that a terminal has proven its key with this certificate, of this clinic, and reports whether it is the newest that was shown of the key.
// One that is older than another that was shown before raises protocol.IdentityTwice: a terminal uses the certificate that it was given last and never
// one before, so there are two that hold the key and have renewed each by itself. What they say, and when they connect, does not matter.
// A certificate that the register does not know, because it was restored from a backup, is let pass.
func (r *Register) Shown(ctx context.Context, key protocol.KeyHash, c *x509.Certificate) (newest bool, err error) {
	s, err := r.showing(ctx, r.store.Read(), key, c)
	if err == nil && s != showNothing && s != showKnown {
		err = r.store.Write(ctx, func(tx *sql.Tx) error {
			if s, err = r.showing(ctx, tx, key, c); err != nil {
				return err
			}
			now := r.now().UnixMilli()
			switch s {
			case showFirst:
				_, err = tx.ExecContext(ctx, "UPDATE certificates SET shown = ? WHERE serial = ?", now, c.SerialNumber.Text(16))
			case showStraggler:
				_, err = tx.ExecContext(ctx, `UPDATE certificates SET straggled = ?1 WHERE rowid =
					(SELECT max(rowid) FROM certificates WHERE key = ?2 AND shown IS NOT NULL)`, now, key[:])
			case showTwice:
				_, err = r.RaiseTx(ctx, tx, protocol.IdentityTwice, key, "certificate "+c.SerialNumber.Text(16)+" was used after a newer one: each of two has renewed")
			}
			return err
		})
	}
	if err != nil {
		return false, fmt.Errorf("certificate shown by terminal %s: %w", key.Code(), err)
	}
	return s == showKnown || s == showFirst, nil
}

// showing is what a certificate that is shown tells.
type showing int

const (
	showNothing   showing = iota // older, and that was told of just now
	showKnown                    // the newest, or not in the register; nothing is to be written
	showFirst                    // the newest, for the first time
	showStraggler                // older, but on its way when the newest was shown
	showTwice                    // older
)

func (r *Register) showing(ctx context.Context, q queryer, key protocol.KeyHash, c *x509.Certificate) (showing, error) {
	var row, newest int64
	var shown, straggled, told sql.NullInt64
	err := q.QueryRowContext(ctx, "SELECT rowid FROM certificates WHERE serial = ? AND key = ?", c.SerialNumber.Text(16), key[:]).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return showKnown, nil
	}
	if err != nil {
		return 0, err
	}
	err = q.QueryRowContext(ctx, `SELECT rowid, shown, straggled, (SELECT last FROM alarms WHERE code = ?1 AND terminal = ?2 AND settled IS NULL)
		FROM certificates WHERE key = ?2 AND shown IS NOT NULL ORDER BY rowid DESC LIMIT 1`, string(protocol.IdentityTwice), key[:]).Scan(&newest, &shown, &straggled, &told)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	now := r.now()
	switch {
	case row == newest:
		return showKnown, nil
	case row > newest:
		return showFirst, nil
	case !straggled.Valid && now.Sub(time.UnixMilli(shown.Int64)).Abs() < straggler:
		return showStraggler, nil
	case told.Valid && now.Sub(time.UnixMilli(told.Int64)).Abs() < twiceAgain:
		return showNothing, nil
	}
	return showTwice, nil
}
