package register

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/protocol"
)

// MaxVoucherLife bounds how long a voucher may be good for.
const MaxVoucherLife = 7 * 24 * time.Hour

// Voucher is what the register adds to a protocol.Voucher.
type Voucher struct {
	ID      protocol.Nonce
	Secret  []byte
	Expires time.Time
}

// IssueVoucher makes a voucher for one terminal in a home. The secret is not stored. The error wraps ErrNotFound.
func (r *Register) IssueVoucher(ctx context.Context, who, home string, life time.Duration) (Voucher, error) {
	_, v, err := r.issueFor(ctx, who, life, func(tx *sql.Tx) (Home, error) { return readHome(ctx, tx, "homes.id = ?", home) })
	return v, err
}

// IssueVoucherFor is IssueVoucher for the home with this label, which is added where there is none: both happen, or neither.
func (r *Register) IssueVoucherFor(ctx context.Context, who, label string, life time.Duration) (Home, Voucher, error) {
	if err := checkText("the home's label", label); err != nil {
		return Home{}, Voucher{}, err
	}
	id, err := newID()
	if err != nil {
		return Home{}, Voucher{}, fmt.Errorf("add home: %w", err)
	}
	return r.issueFor(ctx, who, life, func(tx *sql.Tx) (Home, error) { return r.ensureHome(ctx, tx, who, id, label) })
}

func (r *Register) issueFor(ctx context.Context, who string, life time.Duration, home func(*sql.Tx) (Home, error)) (h Home, v Voucher, err error) {
	if life <= 0 || life > MaxVoucherLife {
		return Home{}, Voucher{}, fmt.Errorf("issue voucher: good for %v, has to be between 0 and %v", life, MaxVoucherLife)
	}
	now := r.now()
	v = Voucher{ID: protocol.NewNonce(), Secret: make([]byte, 32), Expires: now.Add(life).Truncate(time.Millisecond)}
	rand.Read(v.Secret)
	hash := sha256.Sum256(v.Secret)
	err = r.store.Write(ctx, func(tx *sql.Tx) (err error) {
		if h, err = home(tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO vouchers (id, hash, home, issued_by, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
			v.ID[:], hash[:], h.ID, who, now.UnixMilli(), v.Expires.UnixMilli()); err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.VoucherIssued, Subject: voucherSubject(v.ID), Detail: map[string]string{"home": h.ID, "label": h.Label}})
	})
	if err != nil {
		return Home{}, Voucher{}, fmt.Errorf("issue voucher: %w", err)
	}
	return h, v, nil
}

func voucherSubject(id protocol.Nonce) string { return fmt.Sprintf("voucher %x", id[:4]) }

// Enrol lets the terminal whose request this is in, by the right of a voucher, and returns its certificate. It happens
// whole or not at all. A refusal carries a code: protocol.IdentityVoucher (not known, or the secret is wrong),
// IdentityVoucherOld (expired, withdrawn, or issued before
// one that was used for the home), IdentityVoucherUsed, IdentityClone (the key is or was another enrolment's), LinkRefused with
// ErrRevoked, or LinkTooMany. Any refusal of a key that is in the register raises the alarm IdentityClone, unless it is revoked and the voucher its own.
func (r *Register) Enrol(ctx context.Context, id protocol.Nonce, secret []byte, request *authority.Request, issue Issue) (*x509.Certificate, error) {
	return r.letIn(ctx, id, secret, request, issue, false)
}

// Move brings a terminal that has proven, by its certificate, that it is in the register into the voucher's home. Beyond that it does and refuses
// what Enrol does.
func (r *Register) Move(ctx context.Context, id protocol.Nonce, secret []byte, request *authority.Request, issue Issue) (*x509.Certificate, error) {
	return r.letIn(ctx, id, secret, request, issue, true)
}

func (r *Register) letIn(ctx context.Context, id protocol.Nonce, secret []byte, request *authority.Request, issue Issue, moves bool) (*x509.Certificate, error) {
	// Strangers without a voucher do not get as far as the one writer that all share.
	if _, err := proven(ctx, r.store.Read(), id, secret); err != nil {
		return nil, err
	}
	var certificate *x509.Certificate
	var v voucher
	err := r.store.Write(ctx, func(tx *sql.Tx) (err error) {
		var again bool
		v, again, err = r.mayEnrol(ctx, tx, id, secret, request.Hash, moves)
		if err != nil {
			return err
		}
		if !again {
			if err := r.enrol(ctx, tx, id, request, v.home); err != nil {
				return err
			}
		}
		if certificate, err = r.certify(ctx, tx, request, issue); err != nil || !again {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: voucherSubject(id), What: audit.TerminalRenewed, Subject: request.Hash.Name(),
			Detail: map[string]string{"serial": certificate.SerialNumber.Text(16)}})
	})
	if err == nil {
		return certificate, nil
	}
	if code := protocol.CodeOf(err); v.home != "" && code != protocol.Unknown && code != protocol.LinkTooMany { // whoever it was knew the voucher (R18)
		err = errors.Join(err, r.noteRefusal(ctx, id, v, request.Hash, code))
	}
	return nil, err
}

// noteTimeout bounds how long a refusal may take to be written down.
const noteTimeout = 10 * time.Second

// maxNoted bounds the audit entries that one voucher can cause: who has a used one can present it for ever.
const maxNoted = 20

// noteRefusal writes a refusal down, also if the peer has hung up meanwhile.
func (r *Register) noteRefusal(ctx context.Context, id protocol.Nonce, v voucher, key protocol.KeyHash, code protocol.Code) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		var refused int
		if err := tx.QueryRowContext(ctx, "UPDATE vouchers SET refused = refused + 1, refused_for = ? WHERE id = ? RETURNING refused", string(code), id[:]).Scan(&refused); err != nil {
			return fmt.Errorf("note refused voucher: %w", err)
		}
		if v.clone {
			if _, err := r.RaiseTx(ctx, tx, protocol.IdentityClone, key, "enrolment with "+voucherSubject(id)); err != nil {
				return err
			}
		}
		if refused > maxNoted {
			return nil
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: voucherSubject(id), What: audit.EnrolmentRefused, Subject: key.Name(),
			Detail: map[string]string{"code": string(code), "home": v.home}})
	})
}

// voucher is what is stored of one.
type voucher struct {
	home    string
	expires int64
	usedKey []byte // nil if it was not used
	late    bool   // a later one for the same home was used: whoever finds this one must not push that terminal out
	past    bool   // the key that used it has used another since
	back    bool   // it was withdrawn
	clone   bool   // presented, and refused, with a key that is in the register and no certificate for it: it may be a copy's
}

// usedLife is how long beyond its end a voucher that was used still answers the key that used it, whose reply may have been lost: beyond that whoever
// finds it learns nothing.
const usedLife = 24 * time.Hour

// spent reports whether a voucher that was used answers nobody any more.
func (v *voucher) spent(now time.Time) bool {
	return v.past || now.UnixMilli() >= v.expires+usedLife.Milliseconds()
}

// proven returns the voucher whose secret this is.
func proven(ctx context.Context, q queryer, id protocol.Nonce, secret []byte) (v voucher, err error) {
	var hash []byte
	err = q.QueryRowContext(ctx, `SELECT hash, home, expires, used_key, withdrawn IS NOT NULL,
			EXISTS (SELECT 1 FROM vouchers AS later WHERE later.home = v.home AND later.rowid > v.rowid AND later.used IS NOT NULL),
			EXISTS (SELECT 1 FROM vouchers AS later WHERE later.used_key = v.used_key AND later.used > v.used)
		FROM vouchers AS v WHERE id = ?`, id[:]).Scan(&hash, &v.home, &v.expires, &v.usedKey, &v.back, &v.late, &v.past)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return voucher{}, fmt.Errorf("read voucher: %w", err)
	}
	presented := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(presented[:], hash) != 1 { // also when there is no such voucher
		return voucher{}, refuse(protocol.IdentityVoucher, "the voucher is not known")
	}
	return v, nil
}

// mayEnrol decides. It returns the voucher once its secret was proven.
func (r *Register) mayEnrol(ctx context.Context, tx *sql.Tx, id protocol.Nonce, secret []byte, key protocol.KeyHash, moves bool) (v voucher, again bool, err error) {
	if v, err = proven(ctx, tx, id, secret); err != nil {
		return voucher{}, false, err
	}
	terminal, err := byTerminal(ctx, tx, key)
	known := err == nil
	if !known && !errors.Is(err, ErrNotFound) {
		return v, false, err
	}
	own := string(v.usedKey) == string(key[:])
	switch {
	case own && !terminal.Revoked.IsZero():
		return v, false, revokedError(key)
	case own && !v.spent(r.now()):
		return v, true, nil // its reply was lost; the voucher's time is not asked again, the key is already in
	}
	v.clone = known && !moves
	switch {
	case own:
		err = refuse(protocol.IdentityVoucherUsed, "the voucher was used long ago")
	case v.usedKey != nil:
		err = refuse(protocol.IdentityVoucherUsed, "the voucher was used for another key")
	case v.back: // its end says so too, but not to a clock that goes back
		err = refuse(protocol.IdentityVoucherOld, "the voucher was withdrawn")
	case r.now().UnixMilli() >= v.expires:
		err = refuse(protocol.IdentityVoucherOld, "the voucher has expired")
	case v.clone:
		err = refuse(protocol.IdentityClone, "the key was enrolled before")
	case known && !terminal.Revoked.IsZero():
		err = revokedError(key)
	case v.late:
		err = refuse(protocol.IdentityVoucherOld, "a later voucher for the home was used")
	default:
		err = nil
	}
	return v, false, err
}

func refuse(code protocol.Code, why string) error {
	return protocol.WithCode(code, errors.New("enrolment refused: "+why))
}

func (r *Register) enrol(ctx context.Context, tx *sql.Tx, id protocol.Nonce, request *authority.Request, home string) error {
	now := r.now().UnixMilli()
	if err := r.retire(ctx, tx, voucherSubject(id), request.Hash); err != nil {
		return err
	}
	var before []byte
	err := tx.QueryRowContext(ctx, "SELECT key FROM terminals WHERE home = ? AND revoked IS NULL AND key <> ?", home, request.Hash[:]).Scan(&before)
	if err == nil {
		e := audit.Entry{Who: voucherSubject(id), What: audit.TerminalReplaced, Detail: map[string]string{"home": home, "by": request.Hash.Name()}}
		err = r.revoke(ctx, tx, e, Terminal{Key: protocol.KeyHash(before)}, "replaced by another terminal")
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("replace terminal: %w", err)
	}
	e := audit.Entry{Who: voucherSubject(id), What: audit.TerminalEnrolled, Subject: request.Hash.Name(), Detail: map[string]string{"home": home}}
	var from string
	err = tx.QueryRowContext(ctx, "SELECT home FROM terminals WHERE key = ?", request.Hash[:]).Scan(&from)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = tx.ExecContext(ctx, "INSERT INTO terminals (key, spki, home, enrolled) VALUES (?, ?, ?, ?)", request.Hash[:], request.SPKI, home, now)
	case err == nil:
		e.What, e.Detail["from"] = audit.TerminalMoved, from
		_, err = tx.ExecContext(ctx, "UPDATE terminals SET home = ? WHERE key = ?", home, request.Hash[:])
	}
	if err != nil {
		return fmt.Errorf("register terminal: %w", err)
	}
	if from != home {
		if _, err := tx.ExecContext(ctx, "INSERT INTO placements (key, home, began, voucher) VALUES (?, ?, ?, ?)", request.Hash[:], home, now, id[:]); err != nil {
			return fmt.Errorf("register terminal: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE vouchers SET used = ?, used_key = ? WHERE id = ?", now, request.Hash[:], id[:]); err != nil {
		return fmt.Errorf("use voucher: %w", err)
	}
	return r.audit.AppendTx(ctx, tx, e)
}

// maxPerDay bounds the certificates of one key in a day. One in 20 days is what a terminal needs; it asks again where replies are lost.
const maxPerDay = 24

// certify issues a certificate and records it. A key that had too many today is refused with protocol.LinkTooMany: certificates are never forgotten.
func (r *Register) certify(ctx context.Context, tx *sql.Tx, request *authority.Request, issue Issue) (*x509.Certificate, error) {
	var today int
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM certificates WHERE key = ? AND issued > ?", request.Hash[:], r.now().Add(-24*time.Hour).UnixMilli()).Scan(&today)
	if err != nil {
		return nil, fmt.Errorf("count certificates: %w", err)
	}
	if today >= maxPerDay {
		return nil, protocol.WithCode(protocol.LinkTooMany, fmt.Errorf("terminal %s: %d certificates within a day", request.Hash.Code(), today))
	}
	named := *request
	var before []byte
	err = tx.QueryRowContext(ctx, "SELECT old FROM successions WHERE key = ? AND done IS NOT NULL", request.Hash[:]).Scan(&before)
	if err == nil {
		named.Before = protocol.KeyHash(before)
	} else if !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read successions: %w", err)
	}
	c, err := issue(&named)
	if err != nil {
		return nil, fmt.Errorf("certify terminal %s: %w", request.Hash.Code(), err)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO certificates (serial, key, not_before, not_after, issued) VALUES (?, ?, ?, ?, ?)",
		c.SerialNumber.Text(16), request.Hash[:], c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli(), r.now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("record certificate: %w", err)
	}
	return c, nil
}

// Renew gives a terminal, which has proven its key, a new certificate. The error wraps ErrNotFound or ErrRevoked, or has the code protocol.LinkTooMany.
func (r *Register) Renew(ctx context.Context, request *authority.Request, issue Issue) (*x509.Certificate, error) {
	var certificate *x509.Certificate
	err := r.store.Write(ctx, func(tx *sql.Tx) error {
		t, err := byTerminal(ctx, tx, request.Hash)
		if err != nil {
			return err
		}
		if !t.Revoked.IsZero() {
			return revokedError(t.Key)
		}
		if certificate, err = r.certify(ctx, tx, request, issue); err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: t.Key.Name(), What: audit.TerminalRenewed, Subject: t.Key.Name(),
			Detail: map[string]string{"serial": certificate.SerialNumber.Text(16)}})
	})
	return certificate, err
}
