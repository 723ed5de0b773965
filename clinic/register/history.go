package register

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// States of an issued voucher.
const (
	VoucherOpen      = "open"
	VoucherUsed      = "used"
	VoucherExpired   = "expired"
	VoucherWithdrawn = "withdrawn"
	VoucherOvertaken = "overtaken" // a later one for the same home was used
)

// Issued is a voucher as the register remembers it: without its secret.
type Issued struct {
	ID        protocol.Nonce
	Home      string // ID
	HomeLabel string
	By        string // as audit entries name who issued it
	At        time.Time
	Expires   time.Time
	Used      time.Time        // zero if it was not
	Terminal  protocol.KeyHash // by which it was used
	Refused   int64            // times that it was presented and refused
	// RefusedFor is why it was when it last was; empty if it never was.
	RefusedFor protocol.Code
	State      string // VoucherOpen …
}

// Name is how lists and the audit log name the voucher.
func (i Issued) Name() string { return voucherSubject(i.ID) }

// Vouchers returns the vouchers of one home, or of all if home is empty: those that can be used, all of them, the latest first, then the latest of the others, at
// most limit.
func (r *Register) Vouchers(ctx context.Context, home string, limit int) ([]Issued, error) {
	const overtaken = `EXISTS (SELECT 1 FROM vouchers AS later WHERE later.home = v.home AND later.rowid > v.rowid AND later.used IS NOT NULL)`
	const open = `(used IS NULL AND withdrawn IS NULL AND expires > ?3 AND NOT ` + overtaken + `)`
	rows, err := r.store.Read().QueryContext(ctx, `SELECT v.id, v.home, label, issued_by, v.created, expires, coalesce(used, 0), used_key, refused, coalesce(refused_for, ''), withdrawn IS NOT NULL, overtaken
		FROM (SELECT *, rowid AS n, `+overtaken+` AS overtaken, `+open+` AS usable FROM vouchers AS v WHERE ?1 = '' OR home = ?1) AS v JOIN homes ON homes.id = v.home
		ORDER BY usable DESC, v.created DESC, n DESC LIMIT ?2 + (SELECT count(*) FROM vouchers AS v WHERE (?1 = '' OR home = ?1) AND `+open+`)`,
		home, limit, r.now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read vouchers: %w", err)
	}
	defer rows.Close()
	var list []Issued
	for rows.Next() {
		var v Issued
		var id, key []byte
		var at, expires, used int64
		var withdrawn, overtaken bool
		if err := rows.Scan(&id, &v.Home, &v.HomeLabel, &v.By, &at, &expires, &used, &key, &v.Refused, &v.RefusedFor, &withdrawn, &overtaken); err != nil {
			return nil, fmt.Errorf("read vouchers: %w", err)
		}
		copy(v.ID[:], id)
		copy(v.Terminal[:], key)
		v.At, v.Expires, v.State = time.UnixMilli(at), time.UnixMilli(expires), VoucherOpen
		switch {
		case used != 0:
			v.Used, v.State = time.UnixMilli(used), VoucherUsed
		case withdrawn:
			v.State = VoucherWithdrawn
		case !r.now().Before(v.Expires):
			v.State = VoucherExpired
		case overtaken:
			v.State = VoucherOvertaken
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read vouchers: %w", err)
	}
	return list, nil
}

// Withdraw makes a voucher that was not used worthless. The error wraps ErrNotFound if there is no such voucher, or it was used.
func (r *Register) Withdraw(ctx context.Context, who string, id protocol.Nonce) error {
	err := r.store.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "UPDATE vouchers SET withdrawn = ?1, expires = min(expires, ?1) WHERE id = ?2 AND used IS NULL AND withdrawn IS NULL", r.now().UnixMilli(), id[:])
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(ErrNotFound, err)
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.VoucherWithdrawn, Subject: voucherSubject(id)})
	})
	if err != nil {
		return fmt.Errorf("withdraw voucher: %w", err)
	}
	return nil
}

// Certificate is one that a terminal was given.
type Certificate struct {
	Serial    string // hexadecimal
	NotBefore time.Time
	NotAfter  time.Time
}

// Stay is a terminal's time in one home.
type Stay struct {
	Terminal
	Began        time.Time
	Ended        time.Time // zero if it stands there
	MovedTo      string    // label of the home that it was moved to from here, if it was
	SetUpBy      string    // who issued the voucher by which it came; empty if that is not known
	Certificates []Certificate
	Issued       int64 // how many certificates its key was given in all
}

// maxCertificates bounds the certificates of one Stay: the latest ones.
const maxCertificates = 5

// History returns the terminals that stand or stood in a home, the latest first. The error wraps ErrNotFound.
func (r *Register) History(ctx context.Context, home string) ([]Stay, error) {
	if _, err := r.Home(ctx, home); err != nil {
		return nil, err
	}
	rows, err := r.store.Read().QueryContext(ctx, `SELECT p.key, p.began, p.n, coalesce(v.issued_by, ''),
			coalesce((SELECT began FROM placements AS next WHERE next.key = p.key AND next.n > p.n ORDER BY n LIMIT 1), 0),
			coalesce((SELECT label FROM placements AS next JOIN homes ON homes.id = next.home WHERE next.key = p.key AND next.n > p.n ORDER BY n LIMIT 1), '')
		FROM placements AS p LEFT JOIN vouchers AS v ON v.id = p.voucher WHERE p.home = ? ORDER BY p.n DESC`, home)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer rows.Close()
	var stays []Stay
	for rows.Next() {
		var s Stay
		var key []byte
		var began, n, ended int64
		if err := rows.Scan(&key, &began, &n, &s.SetUpBy, &ended, &s.MovedTo); err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		copy(s.Key[:], key)
		s.Began = time.UnixMilli(began)
		if ended != 0 {
			s.Ended = time.UnixMilli(ended)
		}
		stays = append(stays, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	for i := range stays {
		s := &stays[i]
		if s.Terminal, err = r.ByTerminal(ctx, s.Key); err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		if s.Ended.IsZero() && !s.Revoked.IsZero() {
			s.Ended = s.Revoked
		}
		if s.Certificates, s.Issued, err = r.certificates(ctx, s.Key); err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
	}
	return stays, nil
}

func (r *Register) certificates(ctx context.Context, key protocol.KeyHash) (list []Certificate, count int64, err error) {
	rows, err := r.store.Read().QueryContext(ctx, `SELECT serial, not_before, not_after, count(*) OVER () FROM certificates
		WHERE key = ? ORDER BY not_after DESC LIMIT ?`, key[:], maxCertificates)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var c Certificate
		var from, to int64
		if err := rows.Scan(&c.Serial, &from, &to, &count); err != nil {
			return nil, 0, err
		}
		c.NotBefore, c.NotAfter = time.UnixMilli(from), time.UnixMilli(to)
		list = append(list, c)
	}
	return list, count, rows.Err()
}

// Who names the one that an audit entry names by number, as far as the register knows it.
func (r *Register) Who(ctx context.Context, who string) (string, error) {
	p, err := r.Person(ctx, strings.TrimPrefix(who, personPrefix)) // older entries lack the prefix
	if errors.Is(err, ErrNotFound) {
		return who, nil
	}
	return p.Party.Name, err
}
