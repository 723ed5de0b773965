// Package setup is the clinic's part in setting terminals up and in taking them back: the vouchers and authorisations that a
// technician works with, the records that come of it, and the orders that end a terminal's use.
//
// A Mandate authorises a technician's laptop for a bounded time; terminals verify it against the authorisation key that
// they have pinned, so that it holds without the clinic being asked. One that was withdrawn is told to terminals with their settings
// (protocol.Settings.Withdrawn), until its time is over anyway: a terminal that is connected refuses it within the hour, one that is away does not know.
//
// A hand-over record (protocol.HandOver) comes through the terminal's outbox, signed by the terminal and by the technician over the same
// words. Every record is kept once; those that do not verify are kept, within bounds, with the reason, shown as such, and audited.
//
// An order to take a terminal out of use (protocol.Decommission) is signed, stored, and sent whenever the terminal is
// there, until its signed receipt is committed:
//
//	ordered ──sent whenever the terminal is there──► receipt committed ──grace──► terminal revoked
//	   ├──withdrawn, or expired: it is not sent any more
//	   └──terminal revoked or replaced meanwhile: it can no longer be reached; the order is void
//
// The receipt is acknowledged before the terminal is cut off, so that it learns that it is not needed any more.
package setup

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/register"
	"vindu/clinic/signing"
	"vindu/clinic/store"
	"vindu/protocol"
)

var (
	// ErrLife is wrapped when a mandate is asked for a time that it may not have.
	ErrLife = errors.New("not a time that an authorisation may have")
	// ErrManyMandates is wrapped when a person has issued as many mandates that are not over as a person may.
	ErrManyMandates = errors.New("too many authorisations that are not over yet")
)

var steps = []string{
	`CREATE TABLE setup_mandates (
		id BLOB PRIMARY KEY, name TEXT NOT NULL, key BLOB NOT NULL, -- SHA-256 of the laptop's SPKI
		issued_by TEXT NOT NULL, created INTEGER NOT NULL, valid_from INTEGER NOT NULL, valid_to INTEGER NOT NULL
	) STRICT`,
	`CREATE TABLE setup_hand_overs (
		n INTEGER PRIMARY KEY, terminal BLOB NOT NULL, received INTEGER NOT NULL, event BLOB NOT NULL, flaw TEXT NOT NULL
	) STRICT`,
	`CREATE INDEX setup_hand_overs_terminal ON setup_hand_overs (terminal)`,
	`CREATE TABLE setup_orders (
		n INTEGER PRIMARY KEY, terminal BLOB NOT NULL, signed BLOB NOT NULL, hash BLOB NOT NULL UNIQUE, ordered_by TEXT NOT NULL, reason TEXT NOT NULL,
		issued INTEGER NOT NULL, expires INTEGER NOT NULL, sent INTEGER, -- when last
		receipt BLOB, received INTEGER, grade TEXT, destroyed INTEGER
	) STRICT`,
	`CREATE INDEX setup_orders_terminal ON setup_orders (terminal)`,
	`ALTER TABLE setup_hand_overs ADD COLUMN record BLOB`, // what makes it the same as another
	`CREATE UNIQUE INDEX setup_hand_overs_record ON setup_hand_overs (terminal, record)`,
	`CREATE TABLE setup_refused (terminal BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT`, // when a statement that proves nothing was written down last
	`ALTER TABLE setup_orders ADD COLUMN withdrawn INTEGER`,                              // when
	`ALTER TABLE setup_orders ADD COLUMN withdrawn_by TEXT`,
	`ALTER TABLE setup_mandates ADD COLUMN withdrawn INTEGER`, // when
	`ALTER TABLE setup_mandates ADD COLUMN withdrawn_by TEXT`,
}

// Config says what a Service needs.
type Config struct {
	Store     *store.Store
	Audit     *audit.Log
	Register  *register.Register
	Authority *authority.Authority
	Requests  *signing.Requests // where to ask for signatures of a key that is elsewhere; nil: nowhere, and they are errors
	// Address and ServerName are how terminals reach and know the clinic; Organisation is its name.
	Address, ServerName, Organisation string
	Log                               *slog.Logger
}

// Service is safe for concurrent use, also beside a running server. Nothing runs but Deliver.
type Service struct {
	Config
	now func() time.Time
}

// New brings the tables up.
func New(ctx context.Context, c Config) (*Service, error) {
	if err := c.Store.Migrate(ctx, "setup", steps); err != nil {
		return nil, fmt.Errorf("setting up: %w", err)
	}
	return &Service{c, time.Now}, nil
}

// Voucher is one that was issued just now: Text is the only copy of its secret.
type Voucher struct {
	Text    protocol.Secret
	Name    string // as lists and the audit log name it
	Home    register.Home
	Expires time.Time
}

// Voucher issues a voucher for the home with this label and adds the home where there is none.
func (s *Service) Voucher(ctx context.Context, who, label string, life time.Duration) (Voucher, error) {
	home, issued, err := s.Register.IssueVoucherFor(ctx, who, label, life)
	if err != nil {
		return Voucher{}, err
	}
	v := protocol.Voucher{
		Version: protocol.Version, ID: issued.ID, Secret: issued.Secret, Expires: protocol.At(issued.Expires),
		Address: s.Address, ServerName: s.ServerName, Root: s.Authority.Root().Raw,
		Authority: s.Authority.Authorities()[0],
	}
	text, err := v.Text()
	if err != nil {
		return Voucher{}, fmt.Errorf("write voucher: %w", err)
	}
	return Voucher{text, register.Issued{ID: issued.ID}.Name(), home, issued.Expires}, nil
}

// Trust is what all of the clinic's certificates rest on.
type Trust struct {
	Pin         string    // of the root, as vindu-provision prints it for comparison
	IssuingEnds time.Time // from then on no terminal is let in
	RootEnds    time.Time
}

// Trust returns what terminals are made to trust.
func (s *Service) Trust() Trust {
	return Trust{protocol.HashSPKI(s.Authority.Root().RawSubjectPublicKeyInfo).Code(), s.Authority.Expires(), s.Authority.RootExpires()}
}

// Mandate is an authorisation that was issued.
type Mandate struct {
	ID       protocol.Nonce
	Name     string           // of the technician
	Laptop   protocol.KeyHash // of the laptop's key
	By       string           // as audit entries name who issued it
	From, To time.Time
	// Withdrawn is when it was taken back, by Withdrew; zero if it was not.
	Withdrawn time.Time
	Withdrew  string
}

var (
	// ErrNoMandate is wrapped when there is no such mandate that is valid: it is over, or was withdrawn.
	ErrNoMandate = errors.New("no such valid authorisation")
	// ErrManyWithdrawn is wrapped when more mandates are withdrawn and not over yet than terminals can be told of.
	ErrManyWithdrawn = fmt.Errorf("more than %d authorisations are withdrawn and not over yet", protocol.MaxWithdrawn)
)

// withdrawnLonger is for how long after its end terminals are still told of a withdrawn mandate: their clocks may be behind.
const withdrawnLonger = 24 * time.Hour

// maxMandates is how many mandates that are not over one person may have issued, withdrawn ones too. Terminals can be told of protocol.MaxWithdrawn: what one
// person can issue must leave room for taking everybody else's back.
const maxMandates = 32

// mandateBackdate is how far back a mandate begins, for terminals whose clock is a little behind.
const mandateBackdate = 5 * time.Minute

// IssueMandate authorises the laptop with this key, as protocol.ParseLaptop returns it, for person, from now on for life. It returns the text
// form. The error wraps ErrLife if life is out of bounds, or ErrManyMandates. If the authorisation key is elsewhere the mandate waits for it, and the error wraps
// signing.ErrWaits; asked again, for the same person and laptop, it is the same one that waits, or is returned when it is signed.
func (s *Service) IssueMandate(ctx context.Context, who string, person protocol.Party, laptop []byte, life time.Duration) (string, Mandate, error) {
	if life <= 0 || life > protocol.MaxMandateLife-mandateBackdate {
		return "", Mandate{}, fmt.Errorf("issue authorisation: %w: for %v, has to be more than nothing and at most %v", ErrLife, life, (protocol.MaxMandateLife - mandateBackdate).Truncate(time.Hour))
	}
	now := s.now()
	m := protocol.Mandate{
		Version: protocol.Version, ID: protocol.NewNonce(), Person: person, Key: laptop,
		From: protocol.At(now.Add(-mandateBackdate)), To: protocol.At(now.Add(life)),
	}
	signed, err := s.Authority.SignMandate(&m)
	waits := errors.Is(err, authority.ErrKeyElsewhere) && s.Requests != nil
	if waits {
		if text, asked, err := s.askedMandate(ctx, person.Name, laptop); err != nil || text != "" {
			return text, asked, err
		}
	} else if err != nil {
		return "", Mandate{}, fmt.Errorf("issue authorisation: %w", err)
	}
	body, err := protocol.Encode(&m)
	if err != nil {
		return "", Mandate{}, fmt.Errorf("issue authorisation: %w", err)
	}
	key := protocol.HashSPKI(laptop)
	err = s.Config.Store.Write(ctx, func(tx *sql.Tx) error {
		var issued int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM setup_mandates WHERE issued_by = ? AND valid_to > ?", who, now.Add(-withdrawnLonger).UnixMilli()).Scan(&issued); err != nil {
			return err
		}
		if register.IsPerson(who) && issued >= maxMandates { // who issues them at the server itself is bound by nothing else either
			return ErrManyMandates
		}
		if waits {
			if err := s.Requests.Want(ctx, tx, signing.Mandate, nameOf(m.ID), body, s.Authority.Authorities()[0]); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO setup_mandates (id, name, key, issued_by, created, valid_from, valid_to) VALUES (?, ?, ?, ?, ?, ?, ?)",
			m.ID[:], person.Name, key[:], who, now.UnixMilli(), int64(m.From), int64(m.To)); err != nil {
			return err
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.MandateIssued, Subject: "laptop " + key.Code(),
			Detail: map[string]string{"person": person.Name, "until": m.To.Time().UTC().Format(time.RFC3339)}})
	})
	if err != nil {
		return "", Mandate{}, fmt.Errorf("issue authorisation: %w", err)
	}
	issued := Mandate{ID: m.ID, Name: person.Name, Laptop: key, By: who, From: m.From.Time(), To: m.To.Time()}
	if waits {
		return "", issued, fmt.Errorf("issue authorisation: %w; then ask for it again: %w", signing.ErrWaits, authority.ErrKeyElsewhere)
	}
	return protocol.MandateText(signed), issued, nil
}

// nameOf is how requests for signatures call a mandate or an order.
func nameOf(id protocol.Nonce) string { return hex.EncodeToString(id[:]) }

// askedMandate returns the latest mandate that was asked for a person and laptop and is neither over nor withdrawn; no text and no error if there is none. If it waits the error wraps
// signing.ErrWaits.
func (s *Service) askedMandate(ctx context.Context, name string, laptop []byte) (string, Mandate, error) {
	key := protocol.HashSPKI(laptop)
	list, err := s.mandates(ctx, `SELECT id, name, key, issued_by, valid_from, valid_to, 0, '' FROM setup_mandates AS m WHERE name = ? AND key = ? AND valid_to > ? AND withdrawn IS NULL AND EXISTS (
		SELECT 1 FROM signing_requests WHERE kind = 'mandate' AND subject = lower(hex(m.id)) AND signing_requests.key = ?) ORDER BY created DESC, rowid DESC LIMIT 1`,
		name, key[:], s.now().UnixMilli(), s.Authority.Authorities()[0])
	if err != nil || len(list) == 0 {
		return "", Mandate{}, err
	}
	signed, err := s.Requests.Signed(ctx, signing.Mandate, nameOf(list[0].ID), s.Authority.Authorities()[0])
	if err != nil {
		return "", Mandate{}, fmt.Errorf("issue authorisation: %w", err)
	}
	if signed == nil {
		return "", list[0], fmt.Errorf("issue authorisation: %w; then ask for it again: %w", signing.ErrWaits, authority.ErrKeyElsewhere)
	}
	return protocol.MandateText(signed), list[0], nil
}

// Mandates returns the authorisations that were issued: all that are valid, the latest first, then of the others the latest, at most limit.
func (s *Service) Mandates(ctx context.Context, limit int) ([]Mandate, error) {
	return s.mandates(ctx, `SELECT id, name, key, issued_by, valid_from, valid_to, coalesce(withdrawn, 0), coalesce(withdrawn_by, '') FROM (
			SELECT *, rowid AS n, withdrawn IS NULL AND valid_to > ?1 AS valid FROM setup_mandates)
		ORDER BY valid DESC, created DESC, n DESC LIMIT ?2 + (SELECT count(*) FROM setup_mandates WHERE withdrawn IS NULL AND valid_to > ?1)`, s.now().UnixMilli(), limit)
}

// WithdrawMandate takes the authorisation with this id back. The error wraps ErrNoMandate or ErrManyWithdrawn.
func (s *Service) WithdrawMandate(ctx context.Context, who string, id protocol.Nonce) (Mandate, error) {
	list, err := s.withdrawMandates(ctx, who, "id = ?4", id[:])
	if err != nil {
		return Mandate{}, err
	}
	return list[0], nil
}

// WithdrawMandates takes all authorisations back of the laptop with this key: one that was lost. The error wraps ErrNoMandate or ErrManyWithdrawn.
func (s *Service) WithdrawMandates(ctx context.Context, who string, laptop []byte) ([]Mandate, error) {
	key := protocol.HashSPKI(laptop)
	return s.withdrawMandates(ctx, who, "key = ?4", key[:])
}

func (s *Service) withdrawMandates(ctx context.Context, who, which string, argument []byte) ([]Mandate, error) {
	now := s.now().UnixMilli()
	var list []Mandate
	err := s.Config.Store.Write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `UPDATE setup_mandates SET withdrawn = ?1, withdrawn_by = ?2 WHERE withdrawn IS NULL AND valid_to > ?3 AND `+which+
			` RETURNING id, name, key, issued_by, valid_from, valid_to, withdrawn, withdrawn_by`, now, who, now-withdrawnLonger.Milliseconds(), argument)
		if err != nil {
			return err
		}
		if list, err = scanMandates(rows); err != nil {
			return err
		}
		if len(list) == 0 {
			return ErrNoMandate
		}
		var open int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM setup_mandates WHERE withdrawn IS NOT NULL AND valid_to > ?", now-withdrawnLonger.Milliseconds()).Scan(&open); err != nil {
			return err
		}
		if open > protocol.MaxWithdrawn {
			return ErrManyWithdrawn
		}
		for _, m := range list {
			if s.Requests != nil {
				if err := s.Requests.Drop(ctx, tx, signing.Mandate, nameOf(m.ID)); err != nil {
					return err
				}
			}
			if err := s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.MandateWithdrawn, Subject: "laptop " + m.Laptop.Code(),
				Detail: map[string]string{"person": m.Name, "until": m.To.UTC().Format(time.RFC3339)}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("withdraw authorisation: %w", err)
	}
	return list, nil
}

// Withdrawn returns the mandates that terminals are told not to take any more, in a fixed order: at most protocol.MaxWithdrawn.
func (s *Service) Withdrawn(ctx context.Context) ([]protocol.Nonce, error) {
	rows, err := s.Config.Store.Read().QueryContext(ctx, "SELECT id FROM setup_mandates WHERE withdrawn IS NOT NULL AND valid_to > ? ORDER BY withdrawn, id LIMIT ?",
		s.now().Add(-withdrawnLonger).UnixMilli(), protocol.MaxWithdrawn)
	if err != nil {
		return nil, fmt.Errorf("read withdrawn authorisations: %w", err)
	}
	defer rows.Close()
	var list []protocol.Nonce
	for rows.Next() {
		var id []byte
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read withdrawn authorisations: %w", err)
		}
		list = append(list, protocol.Nonce(id))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read withdrawn authorisations: %w", err)
	}
	return list, nil
}

func (s *Service) mandates(ctx context.Context, query string, args ...any) ([]Mandate, error) {
	rows, err := s.Config.Store.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read authorisations: %w", err)
	}
	list, err := scanMandates(rows)
	if err != nil {
		return nil, fmt.Errorf("read authorisations: %w", err)
	}
	return list, nil
}

func scanMandates(rows *sql.Rows) ([]Mandate, error) {
	defer rows.Close()
	var list []Mandate
	for rows.Next() {
		var m Mandate
		var id, key []byte
		var from, to, withdrawn int64
		if err := rows.Scan(&id, &m.Name, &key, &m.By, &from, &to, &withdrawn, &m.Withdrew); err != nil {
			return nil, err
		}
		if withdrawn != 0 {
			m.Withdrawn = time.UnixMilli(withdrawn)
		}
		copy(m.ID[:], id)
		copy(m.Laptop[:], key)
		m.From, m.To = protocol.Time(from).Time(), protocol.Time(to).Time()
		list = append(list, m)
	}
	return list, rows.Err()
}

// Technician returns whom the mandate with this id is of and until when (or until it was withdrawn), and whether there is such a one. It implements ledger.Mandates.
func (s *Service) Technician(ctx context.Context, tx *sql.Tx, mandate []byte) (name string, until time.Time, known bool, err error) {
	var to int64
	err = tx.QueryRowContext(ctx, "SELECT name, min(valid_to, coalesce(withdrawn, valid_to)) FROM setup_mandates WHERE id = ?", mandate).Scan(&name, &to)
	if errors.Is(err, sql.ErrNoRows) {
		return "", time.Time{}, false, nil
	}
	return name, protocol.Time(to).Time(), err == nil, err
}

// ecdsaKey returns a stored public key.
func ecdsaKey(spki []byte) (*ecdsa.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return key, nil
}
