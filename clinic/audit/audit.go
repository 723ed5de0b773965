// Package audit is the clinic's log of who did what: append-only and tamper-evident (R17 to R19).
//
// Entries are the leaves of a Merkle tree (RFC 6962 §2.1, by golang.org/x/mod/sumdb/tlog). Its signed head commits to
// every entry: whoever keeps a head can prove later that an entry was altered or taken away. So that heads are kept, Run writes
// one to the server's log at its start, daily, and at its end; let that log go to another machine. A head is a signed note
// (golang.org/x/mod/sumdb/note) whose text is a checkpoint (https://c2sp.org/tlog-checkpoint): the log's name, the
// number of entries, the root hash.
//
// An entry is one line of JSON: {"at":…,"who":…,"what":…,"subject":…,"detail":{…}}, keys in this order, those of detail sorted. It
// names staff and equipment, never a patient, and holds no secret. An entry is appended in the same transaction as
// the change that it tells of, or that change does not happen.
package audit

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"vindu/clinic/store"
	"vindu/protocol"
)

// What happened, as entries name it.
const (
	ClinicCreated     = "clinic.created"
	IssuingRenewed    = "authority.issuing_renewed"
	RootRenewed       = "authority.root_renewed"
	RenewalBegun      = "authority.renewal_begun"
	RenewalFailed     = "authority.renewal_failed"
	HomeAdded         = "home.added"
	ProviderSet       = "home.provider_set"
	VoucherIssued     = "voucher.issued"
	TerminalEnrolled  = "terminal.enrolled"
	TerminalRenewed   = "terminal.renewed"
	TerminalReplaced  = "terminal.replaced"
	TerminalRevoked   = "terminal.revoked"
	EnrolmentRefused  = "enrolment.refused"
	PersonAdded       = "person.added"
	PersonAssigned    = "person.assigned"
	SignInLinkIssued  = "sign_in_link.issued"
	PersonSignedIn    = "person.signed_in"
	IdentityLinked    = "identity.linked"
	IdentityUnlinked  = "identity.unlinked"
	IdentityRefused   = "identity.refused"
	PersonSignedOut   = "person.signed_out"
	PageRefused       = "page.refused"
	CallPlaced        = "call.placed"
	CallEnded         = "call.ended"
	CallAnnounced     = "call.announced"
	ConditionMarked   = "condition.marked"
	ConditionUnmarked = "condition.unmarked"
	HomeLookedAt      = "home.looked_at" // an operator, at a home's calls and openings
	CallLookedAt      = "call.looked_at"
	CallsExported     = "calls.exported"
	ConnectionRefused = "connection.refused"
	MessageRefused    = "message.refused"

	VoucherWithdrawn   = "voucher.withdrawn"
	MandateIssued      = "mandate.issued"
	TerminalMoved      = "terminal.moved"
	TerminalHandedOver = "terminal.handed_over"
	DecommissionOrder  = "terminal.decommission_ordered"
	Decommissioned     = "terminal.decommissioned"

	DecommissionWithdrawn = "terminal.decommission_withdrawn"
	MandateWithdrawn      = "mandate.withdrawn"
	StatementRefused      = "statement.refused"
	AlarmRaised           = "alarm.raised"
	AlarmSettled          = "alarm.settled"
	KeysOrdered           = "terminals.keys_ordered"
	KeyCertified          = "terminal.key_certified"
	KeyReplaced           = "terminal.key_replaced"

	PasskeyInvited      = "passkey.invited"
	InvitationWithdrawn = "passkey.invitation_withdrawn"
	PasskeyAdded        = "passkey.added"
	PasskeyRemoved      = "passkey.removed"
	PasskeyDisabled     = "passkey.disabled"
	PasskeyRefused      = "passkey.refused"
	PasskeyTouched      = "passkey.touched"
	SessionsEnded       = "sessions.ended"
)

// Whom terminals believe, and who may call.
const (
	TrustChanged   = "trust.changed"
	KeyAdded       = "authorisation_key.added"
	KeyDropped     = "authorisation_key.dropped"
	WaitingWritten = "signing.written"
	SignedAccepted = "signing.accepted"
	GrantGiven     = "grant.given"
	GrantRenewed   = "grant.renewed"
	GrantWithdrawn = "grant.withdrawn"
	Authorised     = "person.authorised"
	GroupChanged   = "home_groups.changed"
	PolicyChanged  = "policy.changed"
	PolicyIssued   = "policy.issued"
)

// Entry says who did what to which subject.
type Entry struct {
	At      protocol.Time     `json:"at"` // now, if zero
	Who     string            `json:"who"`
	What    string            `json:"what"`
	Subject string            `json:"subject"`
	Detail  map[string]string `json:"detail,omitempty"`
}

const maxEntry = 8 << 10

var (
	// ErrTampered is wrapped by Verify when the entries are not those that were appended.
	ErrTampered = errors.New("the audit log was tampered with")
	// ErrHead is wrapped by Verify when a head is not one that this log's key has signed.
	ErrHead = errors.New("not a head of this audit log")
)

var steps = []string{
	`CREATE TABLE audit_entries (n INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT`,
	`CREATE TABLE audit_hashes (i INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT`,
	// Against mistakes; against intent there are the signed heads.
	`CREATE TRIGGER audit_entries_keep BEFORE DELETE ON audit_entries BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
	`CREATE TRIGGER audit_entries_fix BEFORE UPDATE ON audit_entries BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
	`CREATE TRIGGER audit_hashes_keep BEFORE DELETE ON audit_hashes BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
	`CREATE TRIGGER audit_hashes_fix BEFORE UPDATE ON audit_hashes BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
}

// Log is the audit log in a store. It is safe for concurrent use.
type Log struct {
	store  *store.Store
	signer note.Signer
}

// New brings the log's tables up. The key, of note.GenerateKey, signs heads.
func New(ctx context.Context, s *store.Store, key protocol.Secret) (*Log, error) {
	signer, err := note.NewSigner(string(key))
	if err != nil {
		return nil, errors.New("audit log: its key is malformed; restore it from a backup")
	}
	if err := s.Migrate(ctx, "audit", steps); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return &Log{store: s, signer: signer}, nil
}

// Append appends e.
func (l *Log) Append(ctx context.Context, e Entry) error {
	return l.store.Write(ctx, func(tx *sql.Tx) error { return l.AppendTx(ctx, tx, e) })
}

// AppendTx appends e as part of the transaction of what it tells of.
func (l *Log) AppendTx(ctx context.Context, tx *sql.Tx, e Entry) error {
	if e.At == 0 {
		e.At = protocol.At(time.Now())
	}
	if e.Who == "" || e.What == "" {
		return errors.New("audit entry lacks who or what")
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit entry: %w", err)
	}
	if len(line) > maxEntry {
		return fmt.Errorf("audit entry %s has %d bytes, at most %d", e.What, len(line), maxEntry)
	}
	n, err := size(ctx, tx)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	hashes, err := tlog.StoredHashes(n, line, hashReader(ctx, tx))
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO audit_entries VALUES (?, ?)", n, line); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	for i, h := range hashes {
		if _, err := tx.ExecContext(ctx, "INSERT INTO audit_hashes VALUES (?, ?)", tlog.StoredHashIndex(0, n)+int64(i), h[:]); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	return nil
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func size(ctx context.Context, q queryer) (n int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT coalesce(max(n) + 1, 0) FROM audit_entries").Scan(&n)
	return n, err
}

func hashReader(ctx context.Context, q queryer) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			var b []byte
			if err := q.QueryRowContext(ctx, "SELECT hash FROM audit_hashes WHERE i = ?", index).Scan(&b); err != nil {
				return nil, fmt.Errorf("hash %d: %w", index, err)
			}
			if len(b) != tlog.HashSize {
				return nil, fmt.Errorf("hash %d: %w", index, ErrTampered)
			}
			copy(hashes[i][:], b)
		}
		return hashes, nil
	})
}

// Head returns the signed head over all entries.
func (l *Log) Head(ctx context.Context) ([]byte, error) {
	tx, err := l.store.Read().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	defer tx.Rollback()
	n, err := size(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	root, err := tlog.TreeHash(n, hashReader(ctx, tx))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	head, err := note.Sign(&note.Note{Text: checkpoint(l.signer.Name(), n, root)}, l.signer)
	if err != nil {
		return nil, fmt.Errorf("sign the audit log's head: %w", err)
	}
	return head, nil
}

func checkpoint(name string, n int64, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", name, n, base64.StdEncoding.EncodeToString(root[:]))
}

// Numbered is an entry with its place in the log.
type Numbered struct {
	N int64
	Entry
}

// Line returns the entry as one line of JSON, with its number.
func (n Numbered) Line() ([]byte, error) {
	return json.Marshal(struct {
		N int64 `json:"n"`
		Entry
	}{n.N, n.Entry})
}

// Entries returns at most limit entries, the newest first, beginning below number before; -1 begins at the newest.
func (l *Log) Entries(ctx context.Context, before int64, limit int) ([]Numbered, error) {
	return l.entries(ctx, "? < 0 OR n < ? ORDER BY n DESC LIMIT ?", before, before, limit)
}

// After returns at most limit entries, the oldest first, beginning above number after; whoever appended them.
func (l *Log) After(ctx context.Context, after int64, limit int) ([]Numbered, error) {
	return l.entries(ctx, "n > ? ORDER BY n LIMIT ?", after, limit)
}

func (l *Log) entries(ctx context.Context, which string, args ...any) ([]Numbered, error) {
	rows, err := l.store.Read().QueryContext(ctx, "SELECT n, line FROM audit_entries WHERE "+which, args...)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	defer rows.Close()
	var entries []Numbered
	for rows.Next() {
		var e Numbered
		var line []byte
		if err := rows.Scan(&e.N, &line); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if err := json.Unmarshal(line, &e.Entry); err != nil {
			return nil, fmt.Errorf("audit log: entry %d: %w: %w", e.N, ErrTampered, err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return entries, nil
}

// Verify recomputes the tree from the entries and compares it with the stored one, and with the trees that earlier heads of this log committed to.
// It returns how many entries there are. The error wraps ErrTampered if the log is not what it was, and ErrHead if a head is not this log's.
func (l *Log) Verify(ctx context.Context, verifier note.Verifier, heads ...[]byte) (entries int64, err error) {
	then := map[int64]string{} // what the heads say of the first so many entries
	var last int64
	for _, head := range heads {
		signed, err := note.Open(head, note.VerifierList(verifier))
		if err != nil {
			return 0, fmt.Errorf("audit log: %w: %w", ErrHead, err)
		}
		var count int64
		if _, err := fmt.Sscanf(signed.Text, verifier.Name()+"\n%d\n", &count); err != nil {
			return 0, fmt.Errorf("audit log: %w: malformed: %w", ErrHead, err)
		}
		if other, ok := then[count]; ok && other != signed.Text {
			return 0, fmt.Errorf("audit log: %w: two heads tell of different entries, %d in number", ErrTampered, count)
		}
		then[count], last = signed.Text, max(last, count)
	}
	tx, err := l.store.Read().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("audit log: %w", err)
	}
	defer tx.Rollback()
	var hashes []tlog.Hash
	computed := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		result := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			result[i] = hashes[index]
		}
		return result, nil
	})
	stored := hashReader(ctx, tx)
	rows, err := tx.QueryContext(ctx, "SELECT n, line FROM audit_entries ORDER BY n")
	if err != nil {
		return 0, fmt.Errorf("audit log: %w", err)
	}
	defer rows.Close()
	count := int64(0)
	for {
		if text, ok := then[count]; ok {
			root, err := tlog.TreeHash(count, computed)
			if err != nil {
				return 0, fmt.Errorf("audit log: %w", err)
			}
			if checkpoint(verifier.Name(), count, root) != text {
				return 0, fmt.Errorf("audit log: %w: its first %d entries are not those of the head", ErrTampered, count)
			}
		}
		if !rows.Next() {
			break
		}
		var n int64
		var line []byte
		if err := rows.Scan(&n, &line); err != nil {
			return 0, fmt.Errorf("audit log: %w", err)
		}
		if n != count {
			return 0, fmt.Errorf("audit log: %w: entry %d is missing", ErrTampered, count)
		}
		added, err := tlog.StoredHashes(n, line, computed)
		if err != nil {
			return 0, fmt.Errorf("audit log: %w", err)
		}
		indexes := make([]int64, len(added))
		for i := range indexes {
			indexes[i] = int64(len(hashes) + i)
		}
		if kept, err := stored.ReadHashes(indexes); err != nil || !slices.Equal(kept, added) {
			return 0, fmt.Errorf("audit log: %w: entry %d is not the one that was appended", ErrTampered, n)
		}
		hashes = append(hashes, added...)
		count++
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("audit log: %w", err)
	}
	if count < last {
		return 0, fmt.Errorf("audit log: %w: it has %d entries, the head %d", ErrTampered, count, last)
	}
	return count, nil
}
