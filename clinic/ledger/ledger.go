// Package ledger is the clinic's half of what terminals write down of themselves: each opening of a camera or microphone, and each order or call
// that a terminal refused. Both come through the terminal's outbox (fleet.Sink) and reach operators.
//
// # Openings
//
// A terminal writes an opening down before it happens. Here it is compared with what the clinic knows: an opening in a call has to be of one that
// was placed to this terminal, one for a technician's check of an authorisation that the clinic issued and that was neither over nor
// withdrawn; one for a rehearsal is of the microphone alone, and in no call. What is of none of these raises protocol.AuthOpening: somebody has the clinic's keys, or a laptop that was lost. They are kept, and
// listed on the home's page; of one call and of one terminal within bounds, since a hostile one can tell of as many as it likes.
//
// Openings are chained by hash (protocol.Link). One that does not follow the last raises protocol.AuthLedger: one is missing, or was changed. A key that
// succeeds another in its terminal goes on with that one's chain.
//
// # What a terminal refused
//
// A notice of the stages authorisation and proof, or of weak encryption, raises an alarm of its code. Others are the terminal's own troubles, which its health tells of.
//
// An alarm is written to the audit log when it is raised; what comes again before it is settled counts with it.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"vindu/clinic/store"
	"vindu/protocol"
)

// checkSkew is how far the terminal's clock may be behind its technician's authorisation.
const checkSkew = 10 * time.Minute

// Bounds of what one terminal can have kept. What is beyond is in the events alone; it raises its alarm all the same.
const (
	// maxPerReason is how many openings of one device are kept of one call, or of one authorisation; and of rehearsals, the latest.
	maxPerReason = 100
	// maxFlawed is how many of a terminal's openings are kept that must not have been.
	maxFlawed = 200
)

var steps = []string{
	`CREATE TABLE ledger_openings (
		n INTEGER PRIMARY KEY, terminal BLOB NOT NULL, device TEXT NOT NULL,
		call BLOB NOT NULL, mandate BLOB NOT NULL, -- one of the two is empty
		opened INTEGER, closed INTEGER,            -- by the terminal's clock; NULL if it has not told
		person TEXT NOT NULL, flaw TEXT NOT NULL
	) STRICT`,
	`CREATE INDEX ledger_openings_call ON ledger_openings (terminal, call)`,
	`CREATE TABLE ledger_heads (terminal BLOB PRIMARY KEY, n INTEGER NOT NULL, head BLOB NOT NULL) STRICT`,
	`CREATE INDEX ledger_heads_head ON ledger_heads (head)`,
	`DROP INDEX ledger_openings_call`,
	`CREATE INDEX ledger_openings_terminal ON ledger_openings (terminal)`, // and n
	`CREATE INDEX ledger_openings_reason ON ledger_openings (terminal, call, mandate, device)`,
	`CREATE INDEX ledger_openings_flawed ON ledger_openings (terminal) WHERE flaw <> ''`,
}

// Calls knows which calls were placed; calls.Records is one.
type Calls interface {
	// Caller returns who placed a call to a terminal, and whether there was such a call.
	Caller(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, call protocol.CallID) (name string, known bool, err error)
}

// Mandates knows which technicians were authorised; setup.Service is one.
type Mandates interface {
	// Technician returns whom the authorisation with this id is of and until when, and whether there is such a one.
	Technician(ctx context.Context, tx *sql.Tx, mandate []byte) (name string, until time.Time, known bool, err error)
}

// Alarms raises alarms; register.Register is one.
type Alarms interface {
	// RaiseTx reports whether the alarm is a new one, rather than one that is open already.
	RaiseTx(ctx context.Context, tx *sql.Tx, code protocol.Code, terminal protocol.KeyHash, detail string) (fresh bool, err error)
}

// Config says what a Ledger needs.
type Config struct {
	Store    *store.Store
	Calls    Calls
	Mandates Mandates
	Alarms   Alarms
	Log      *slog.Logger
}

// Ledger is a fleet.Sink. It is safe for concurrent use.
type Ledger struct{ c Config }

// New brings the tables up.
func New(ctx context.Context, c Config) (*Ledger, error) {
	if err := c.Store.Migrate(ctx, "ledger", steps); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return &Ledger{c}, nil
}

// Store implements fleet.Sink.
func (l *Ledger) Store(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, event *protocol.Event, body any) error {
	switch m := body.(type) {
	case *protocol.Opening:
		if err := l.follow(ctx, tx, terminal, event, m); err != nil {
			return fmt.Errorf("follow the terminal's ledger: %w", err)
		}
		return l.opening(ctx, tx, terminal, m)
	case *protocol.Notice:
		return l.notice(ctx, tx, terminal, m)
	}
	return nil
}

// Committed implements fleet.Sink.
func (l *Ledger) Committed(protocol.KeyHash, *protocol.Event, any) {}

func (l *Ledger) notice(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, n *protocol.Notice) error {
	stage, _, _ := strings.Cut(string(n.Code), ".")
	if stage != "authorisation" && stage != "proof" && n.Code != protocol.DTLSWeak {
		return nil
	}
	code, detail := n.Code, []string{}
	if !slices.ContainsFunc(protocol.Register, func(f protocol.Failure) bool { return f.Code == code }) { // of a newer version, or made up: one alarm for all
		code, detail = protocol.AuthUnproven, append(detail, string(n.Code))
	}
	if n.Detail != "" {
		detail = append(detail, n.Detail)
	}
	if n.Call != (protocol.CallID{}) {
		detail = append(detail, "call "+n.Call.String())
	}
	return l.raise(ctx, tx, code, terminal, strings.Join(append(detail, at(n.At)), ", "))
}

func at(t protocol.Time) string { return t.Time().UTC().Format(time.RFC3339) }

func (l *Ledger) raise(ctx context.Context, tx *sql.Tx, code protocol.Code, terminal protocol.KeyHash, detail string) error {
	fresh, err := l.c.Alarms.RaiseTx(ctx, tx, code, terminal, detail)
	if err != nil {
		return err
	}
	if fresh {
		l.c.Log.Error("a terminal reports what must not happen; see the operator's page", "terminal", terminal, "code", code, "detail", detail)
	}
	return nil
}

// follow holds an opening against the one before.
func (l *Ledger) follow(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, event *protocol.Event, o *protocol.Opening) error {
	link := event.Link
	if link == nil {
		return l.raise(ctx, tx, protocol.AuthLedger, terminal, "an opening that is in no chain, "+at(o.At))
	}
	var n int64
	var head []byte
	err := tx.QueryRowContext(ctx, "SELECT n, head FROM ledger_heads WHERE terminal = ?", terminal[:]).Scan(&n, &head)
	if errors.Is(err, sql.ErrNoRows) && link.N > 1 { // it may go on with the chain of the key before
		err = tx.QueryRowContext(ctx, "SELECT n, head FROM ledger_heads WHERE head = ?", link.Previous[:]).Scan(&n, &head)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	var flaw string
	switch follows := link.N == uint64(n)+1; {
	case follows && (n == 0 || string(head) == string(link.Previous[:])):
	case follows:
		flaw = fmt.Sprintf("opening %d is not as it was told", n)
	case link.N == 1:
		flaw = fmt.Sprintf("it begins anew after %d openings", n)
	default:
		flaw = fmt.Sprintf("opening %d follows %d", link.N, n)
	}
	if flaw != "" {
		if err := l.raise(ctx, tx, protocol.AuthLedger, terminal, flaw+", "+at(o.At)); err != nil {
			return err
		}
	}
	b, err := protocol.Encode(event)
	if err != nil {
		return err
	}
	hash := protocol.HashOf(b)
	_, err = tx.ExecContext(ctx, "INSERT INTO ledger_heads (terminal, n, head) VALUES (?, ?, ?) ON CONFLICT (terminal) DO UPDATE SET n = excluded.n, head = excluded.head",
		terminal[:], int64(link.N), hash[:])
	return err
}

func (l *Ledger) opening(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, o *protocol.Opening) error {
	by, flaw, err := l.judge(ctx, tx, terminal, o)
	if err != nil {
		return err
	}
	if err := l.keep(ctx, tx, terminal, o, by, flaw); err != nil {
		return fmt.Errorf("keep opening: %w", err)
	}
	if flaw == "" {
		return nil
	}
	return l.raise(ctx, tx, protocol.AuthOpening, terminal, fmt.Sprintf("%s, %s, %s", o.Device, flaw, at(o.At)))
}

// judge returns for whom a device was opened, and why it must not have been.
func (l *Ledger) judge(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, o *protocol.Opening) (by, flaw string, err error) {
	if o.Reason == protocol.OpeningCheck {
		name, until, known, err := l.c.Mandates.Technician(ctx, tx, o.Mandate)
		switch {
		case err != nil:
			return "", "", fmt.Errorf("look for a technician's authorisation: %w", err)
		case !known:
			return "", fmt.Sprintf("a check by an authorisation %x that the clinic has not issued", o.Mandate), nil
		case o.Open && o.At.Time().After(until.Add(checkSkew)):
			return name, "a check by an authorisation that was over or withdrawn", nil
		}
		return name, "", nil
	}
	if o.Reason == protocol.OpeningRehearsal {
		return "", "", nil
	}
	name, known, err := l.c.Calls.Caller(ctx, tx, terminal, o.Call)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("look for a call: %w", err)
	case !known:
		return "", fmt.Sprintf("a call %s that the clinic has not placed", o.Call), nil
	}
	return name, "", nil
}

// keep joins a closing to its opening, in whichever order they come.
func (l *Ledger) keep(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, o *protocol.Opening, by, flaw string) error {
	call, mandate := []byte{}, []byte{}
	switch o.Reason {
	case protocol.OpeningCheck:
		mandate = o.Mandate
	case protocol.OpeningRehearsal: // neither
	default:
		call = o.Call[:]
	}
	join, add := `UPDATE ledger_openings SET closed = ?1, flaw = CASE flaw WHEN '' THEN ?6 ELSE flaw END WHERE n = (
			SELECT max(n) FROM ledger_openings WHERE terminal = ?2 AND device = ?3 AND call = ?4 AND mandate = ?5 AND closed IS NULL)`,
		"INSERT INTO ledger_openings (closed, terminal, device, call, mandate, person, flaw) VALUES (?, ?, ?, ?, ?, ?, ?)"
	if o.Open {
		join, add = strings.ReplaceAll(join, "closed", "opened"), strings.Replace(add, "closed", "opened", 1)
	}
	result, err := tx.ExecContext(ctx, join, int64(o.At), terminal[:], o.Device, call, mandate, flaw)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	var kept, flawed int
	err = tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM ledger_openings WHERE terminal = ?1 AND call = ?2 AND mandate = ?3 AND device = ?4),
			(SELECT count(*) FROM ledger_openings WHERE terminal = ?1 AND flaw <> '' AND ?5 <> '')`, terminal[:], call, mandate, o.Device, flaw).Scan(&kept, &flawed)
	if err == nil && kept >= maxPerReason && o.Reason == protocol.OpeningRehearsal {
		_, err = tx.ExecContext(ctx, `DELETE FROM ledger_openings WHERE n = (
			SELECT min(n) FROM ledger_openings WHERE terminal = ? AND call = ? AND mandate = ? AND device = ?)`, terminal[:], call, mandate, o.Device)
		kept--
	}
	if err != nil || kept >= maxPerReason || flawed >= maxFlawed {
		return err
	}
	_, err = tx.ExecContext(ctx, add, int64(o.At), terminal[:], o.Device, call, mandate, by, flaw)
	return err
}

// Opening is one of a camera or microphone.
type Opening struct {
	Device string          // "camera" or "microphone"
	Opened time.Time       // zero if the terminal has not told
	Closed time.Time       // zero if it is open, or the terminal has not told
	Check  bool            // for a technician's check
	By     string          // the caller or technician; empty if there is none
	Flaw   string          // why it must not have been; empty if all is well
	Call   protocol.CallID // in which it was; zero if in none
	// Rehearsal is set of one for a rehearsal of the sound; without it or Check it was in a call.
	Rehearsal bool
}

// Openings returns a terminal's, the latest told first, at most limit.
func (l *Ledger) Openings(ctx context.Context, terminal protocol.KeyHash, limit int) ([]Opening, error) {
	rows, err := l.c.Store.Read().QueryContext(ctx, `SELECT device, coalesce(opened, 0), coalesce(closed, 0), length(mandate) > 0, length(mandate) + length(call) = 0, person, flaw, call
		FROM ledger_openings WHERE terminal = ? ORDER BY n DESC LIMIT ?`, terminal[:], limit)
	if err != nil {
		return nil, fmt.Errorf("read openings: %w", err)
	}
	defer rows.Close()
	var list []Opening
	for rows.Next() {
		var o Opening
		var opened, closed int64
		var call []byte // empty of a check or a rehearsal
		if err := rows.Scan(&o.Device, &opened, &closed, &o.Check, &o.Rehearsal, &o.By, &o.Flaw, &call); err != nil {
			return nil, fmt.Errorf("read openings: %w", err)
		}
		copy(o.Call[:], call)
		o.Opened, o.Closed = protocol.Time(opened).Time(), protocol.Time(closed).Time()
		list = append(list, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read openings: %w", err)
	}
	return list, nil
}
