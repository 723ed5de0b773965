package calls

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/store"
	"vindu/protocol"
)

var steps = []string{
	`CREATE TABLE calls (
		call BLOB PRIMARY KEY,
		person TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, organisation TEXT NOT NULL,
		home TEXT NOT NULL, home_label TEXT NOT NULL, terminal BLOB NOT NULL, spki BLOB NOT NULL,
		errand TEXT NOT NULL, relay_only INTEGER NOT NULL,
		began INTEGER NOT NULL, rang INTEGER NOT NULL DEFAULT 0, talking INTEGER NOT NULL DEFAULT 0,
		ended INTEGER NOT NULL DEFAULT 0,  -- 0 while it runs
		outcome TEXT NOT NULL DEFAULT '',  -- the clinic's
		terminal_end BLOB,                 -- signed protocol.End
		terminal_half BLOB, caller_half BLOB  -- protocol.CallRecord
	) STRICT`,
	`CREATE INDEX calls_person ON calls (person, began)`,
	`CREATE INDEX calls_home ON calls (home, began)`,
	`CREATE INDEX calls_running ON calls (call) WHERE ended = 0`,
	`ALTER TABLE calls ADD COLUMN invitation BLOB`, // SHA-256 of the signed protocol.Invitation; NULL if none was sent
	`ALTER TABLE calls ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE calls ADD COLUMN proof BLOB`,                            // protocol.CallProof
	`ALTER TABLE calls ADD COLUMN caller_end BLOB`,                       // signed protocol.End
	`ALTER TABLE calls ADD COLUMN never_left INTEGER NOT NULL DEFAULT 0`, // 1: it ended in the page, and nobody was asked to call
	`ALTER TABLE calls ADD COLUMN curtains BLOB`,                         // JSON of []Curtain; NULL: there were none
	`ALTER TABLE calls ADD COLUMN present BLOB`,                          // JSON of Present; NULL: nothing was said
	`ALTER TABLE calls ADD COLUMN rehearsal INTEGER NOT NULL DEFAULT 0`,  // 1: of the robot, with nobody
}

// keepRehearsals is for how long the record of a rehearsal is kept; of all other calls it is kept for good. A terminal rehearses every night, by two calls: of three thousand
// that would be two million records in a year, and what they found is an event of the terminal's, too.
const keepRehearsals = 14 * 24 * time.Hour

// Auditor is the part of the audit log that is written to.
type Auditor interface {
	AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error
}

// Records keeps the records of calls. It is a fleet.Sink, by which the terminals' halves reach it. It is safe for concurrent use.
type Records struct {
	store *store.Store
	audit Auditor
	log   *slog.Logger
	// interrupted are the calls that were running when the server last stopped.
	interrupted []interrupted

	// Alarm raises an alarm as part of a transaction; register.Register.RaiseTx does. It is set before anything else is called. nil: nobody is told.
	Alarm func(ctx context.Context, tx *sql.Tx, code protocol.Code, terminal protocol.KeyHash, detail string) (fresh bool, err error)
	// Held tells what held of a terminal during a call; it is set before anything is read. nil: nothing is known of that.
	Held Conditions

	mu      sync.Mutex
	ended   map[protocol.Code]uint64 // since the server began, by the clinic's own view
	quality map[protocol.Side]*Heard
	listen  func(terminal protocol.KeyHash, half *protocol.CallRecord, end *protocol.EndReceipt) // the Service's
}

// OpenRecords brings the tables up, and closes the records of calls that were running when the clinic's server last stopped.
func OpenRecords(ctx context.Context, s *store.Store, log *audit.Log, l *slog.Logger) (*Records, error) {
	return openRecords(ctx, s, log, l)
}

func openRecords(ctx context.Context, s *store.Store, auditor Auditor, log *slog.Logger) (*Records, error) {
	if err := s.Migrate(ctx, "calls", steps); err != nil {
		return nil, fmt.Errorf("records of calls: %w", err)
	}
	r := &Records{store: s, audit: auditor, log: log}
	if err := r.closeInterrupted(ctx); err != nil {
		return nil, fmt.Errorf("close records of interrupted calls: %w", err)
	}
	return r, nil
}

// interrupted is a call that was running when the server stopped, and of which the terminal may not know yet that it is over.
type interrupted struct {
	id         protocol.CallID
	person     string
	terminal   protocol.KeyHash
	invitation protocol.Hash
}

func (r *Records) closeInterrupted(ctx context.Context) error {
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT call, person, terminal, invitation FROM calls WHERE ended = 0")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c interrupted
			var id, terminal, invitation []byte
			if err := rows.Scan(&id, &c.person, &terminal, &invitation); err != nil {
				return err
			}
			copy(c.id[:], id)
			copy(c.terminal[:], terminal)
			copy(c.invitation[:], invitation)
			r.interrupted = append(r.interrupted, c)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, c := range r.interrupted {
			r.log.Warn("call was running when the server stopped", "call", c.id)
			if _, err := r.end(ctx, tx, c.id, c.person, ending{at: time.Now(), outcome: protocol.SignalLostClinic}); err != nil {
				return err
			}
		}
		return nil
	})
}

// begin commits a new call's record. invitation is nil if none is sent. A rehearsal is not in the audit log: nobody calls, and nobody is seen or heard.
func (r *Records) begin(ctx context.Context, rec *Record, invitation []byte) error {
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO calls (call, person, name, role, organisation, home, home_label, terminal, spki, errand, relay_only, began, invitation, urgent, proof, rehearsal)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (call) DO NOTHING`,
			rec.Call[:], rec.Person.ID, rec.Person.Party.Name, rec.Person.Party.Role, rec.Person.Party.Organisation,
			rec.Home, rec.HomeLabel, rec.Terminal[:], nonNil(rec.SPKI), rec.Errand, rec.RelayOnly, int64(protocol.At(rec.Began)), invitation, rec.Urgent, rec.Proof, rec.Rehearsal)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("%w: there was a call %s before", ErrBadRequest, rec.Call)
		}
		if rec.Rehearsal {
			_, err := tx.ExecContext(ctx, "DELETE FROM calls WHERE home = ? AND began < ? AND ended <> 0 AND rehearsal = 1", rec.Home, int64(protocol.At(rec.Began.Add(-keepRehearsals))))
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{
			At: protocol.At(rec.Began), Who: "person " + rec.Person.ID, What: audit.CallPlaced, Subject: "call " + rec.Call.String(),
			Detail: map[string]string{"home": rec.Home, "terminal": rec.Terminal.Name()},
		})
	})
}

// nonNil is for columns that may be empty but not NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// ending is what is known when the clinic takes a call to be over.
type ending struct {
	rang, talking, at time.Time
	outcome           protocol.Code
	terminalEnd       []byte
	callerEnd         []byte
	curtains          []byte
}

// finish commits the clinic's end of a call. Doing it again changes nothing.
func (r *Records) finish(ctx context.Context, call protocol.CallID, person string, e ending) error {
	rehearsal := false
	err := r.store.Write(ctx, func(tx *sql.Tx) (err error) {
		rehearsal, err = r.end(ctx, tx, call, person, e)
		return err
	})
	if err == nil && !rehearsal {
		r.count(e)
	}
	return err
}

// end is finish as part of a transaction. It says whether the call was a rehearsal.
func (r *Records) end(ctx context.Context, tx *sql.Tx, call protocol.CallID, person string, e ending) (rehearsal bool, err error) {
	var terminal []byte
	err = tx.QueryRowContext(ctx, `UPDATE calls SET rang = ?, talking = ?, ended = ?, outcome = ?, terminal_end = coalesce(terminal_end, ?),
		caller_end = ?, curtains = ? WHERE call = ? AND ended = 0 RETURNING terminal, rehearsal`,
		int64(protocol.At(e.rang)), int64(protocol.At(e.talking)), int64(protocol.At(e.at)), string(e.outcome), e.terminalEnd, e.callerEnd, e.curtains, call[:]).Scan(&terminal, &rehearsal)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := r.alarm(ctx, tx, e.outcome, terminal, call); err != nil || rehearsal {
		return rehearsal, err
	}
	return false, r.audit.AppendTx(ctx, tx, audit.Entry{
		At: protocol.At(e.at), Who: "person " + person, What: audit.CallEnded, Subject: "call " + call.String(),
		Detail: map[string]string{"outcome": string(e.outcome)},
	})
}

// alarm raises one if a call ended because something was not proven: what answered was not the terminal, or somebody is in the middle.
func (r *Records) alarm(ctx context.Context, tx *sql.Tx, outcome protocol.Code, terminal []byte, call protocol.CallID) error {
	if r.Alarm == nil || !strings.HasPrefix(string(outcome), "proof.") || len(terminal) != len(protocol.KeyHash{}) {
		return nil
	}
	if !slices.ContainsFunc(protocol.Register, func(f protocol.Failure) bool { return f.Code == outcome }) { // a page can say anything
		outcome = protocol.ProofAnswer
	}
	_, err := r.Alarm(ctx, tx, outcome, protocol.KeyHash(terminal), "call "+call.String())
	return err
}

// doubted takes what a page tells of a call besides its half of the record: something about it was not proven.
func (r *Records) doubted(ctx context.Context, person string, call protocol.CallID, code protocol.Code) error {
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		var terminal []byte
		err := tx.QueryRowContext(ctx, "SELECT terminal FROM calls WHERE call = ? AND person = ?", call[:], person).Scan(&terminal)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("call %s: %w", call, ErrNotFound)
		}
		if err != nil {
			return err
		}
		return r.alarm(ctx, tx, code, terminal, call)
	})
}

// Store takes what a terminal reports of a call: its half of the record and its signed end. A report on a call that
// is not its own, or whose signature does not verify, is left aside. It implements fleet.Sink.
func (r *Records) Store(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, event *protocol.Event, body any) error {
	switch b := body.(type) {
	case *protocol.CallRecord:
		if b.By != protocol.SideTerminal {
			return nil
		}
		result, err := tx.ExecContext(ctx, "UPDATE calls SET terminal_half = ? WHERE call = ? AND terminal = ? AND terminal_half IS NULL",
			[]byte(event.Body), b.Call[:], terminal[:])
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		r.heard(b) // in a transaction that fails and is made again twice: these are sums of thousands
		return r.encrypted(ctx, tx, b, terminal[:])
	case *protocol.EndReceipt:
		var spki []byte
		err := tx.QueryRowContext(ctx, "SELECT spki FROM calls WHERE call = ? AND terminal = ?", b.Call[:], terminal[:]).Scan(&spki)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := verifyEnd(b.End, spki, b.Call, terminal); err != nil {
			r.log.Warn("end receipt left aside", "call", b.Call, "terminal", terminal, "error", err)
			return nil
		}
		_, err = tx.ExecContext(ctx, "UPDATE calls SET terminal_end = ? WHERE call = ? AND terminal_end IS NULL", b.End, b.Call[:])
		return err
	}
	return nil
}

// Committed tells the service of what Store has taken. It implements fleet.Sink.
func (r *Records) Committed(terminal protocol.KeyHash, _ *protocol.Event, body any) {
	r.mu.Lock()
	listen := r.listen
	r.mu.Unlock()
	if listen == nil {
		return
	}
	switch b := body.(type) {
	case *protocol.CallRecord:
		listen(terminal, b, nil)
	case *protocol.EndReceipt:
		listen(terminal, nil, b)
	}
}

func (r *Records) setListener(listen func(protocol.KeyHash, *protocol.CallRecord, *protocol.EndReceipt)) {
	r.mu.Lock()
	r.listen = listen
	r.mu.Unlock()
}

func publicKey(spki []byte) (*ecdsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("terminal's key: %w", err)
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("terminal's key is not ECDSA")
	}
	return public, nil
}

// verifyEnd returns a terminal's end of this call, if it is one.
func verifyEnd(signed, spki []byte, call protocol.CallID, terminal protocol.KeyHash) (*protocol.End, error) {
	key, err := publicKey(spki)
	if err != nil {
		return nil, err
	}
	end := new(protocol.End)
	if err := protocol.Verify(signed, key, end); err != nil {
		return nil, err
	}
	if end.Call != call || end.Terminal != terminal || end.By != protocol.SideTerminal {
		return nil, fmt.Errorf("end of another call or side: %w", protocol.ErrMalformed)
	}
	return end, nil
}

// Caller returns the name of who placed a call to a terminal, and whether there was such a call. It implements ledger.Calls.
func (r *Records) Caller(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, call protocol.CallID) (name string, known bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT name FROM calls WHERE call = ? AND terminal = ?", call[:], terminal[:]).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return name, err == nil, err
}

// callerHalf keeps the page's half of the record. The first that comes is kept.
func (r *Records) callerHalf(ctx context.Context, person string, call protocol.CallID, half *protocol.CallRecord) error {
	b, err := protocol.Encode(half)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	var first bool
	err = r.store.Write(ctx, func(tx *sql.Tx) error {
		var terminal []byte
		err := tx.QueryRowContext(ctx, "SELECT terminal, caller_half IS NULL FROM calls WHERE call = ? AND person = ?", call[:], person).Scan(&terminal, &first)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("call %s: %w", call, ErrNotFound)
		}
		if err != nil || !first {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE calls SET caller_half = ? WHERE call = ?", b, call[:]); err != nil {
			return err
		}
		return errors.Join(r.alarm(ctx, tx, half.Outcome, terminal, call), r.encrypted(ctx, tx, half, terminal))
	})
	if err == nil && first {
		r.heard(half)
	}
	return err
}

const selectRecord = `SELECT call, person, name, role, organisation, home, home_label, terminal, spki, errand, relay_only,
	began, rang, talking, ended, outcome, terminal_end, terminal_half, caller_half, urgent, proof, caller_end, never_left, curtains, present, rehearsal FROM calls`

func scanRecord(scan func(...any) error) (Record, error) {
	var r Record
	var call, terminal, terminalHalf, callerHalf, curtains, present []byte
	var began, rang, talking, ended int64
	var outcome string
	if err := scan(&call, &r.Person.ID, &r.Person.Party.Name, &r.Person.Party.Role, &r.Person.Party.Organisation,
		&r.Home, &r.HomeLabel, &terminal, &r.SPKI, &r.Errand, &r.RelayOnly,
		&began, &rang, &talking, &ended, &outcome, &r.TerminalEnd, &terminalHalf, &callerHalf, &r.Urgent, &r.Proof, &r.CallerEnd, &r.NeverLeft, &curtains, &present, &r.Rehearsal); err != nil {
		return r, err
	}
	copy(r.Call[:], call)
	copy(r.Terminal[:], terminal)
	r.Began, r.RangAt = protocol.Time(began).Time(), protocol.Time(rang).Time()
	r.TalkingAt, r.EndedAt = protocol.Time(talking).Time(), protocol.Time(ended).Time()
	r.TerminalHalf, r.CallerHalf, r.Curtains = decodeHalf(terminalHalf), decodeHalf(callerHalf), readCurtains(curtains)
	r.Present = readPresent(present)
	if ended != 0 {
		r.clinic = protocol.Code(outcome)
		r.Outcome = join(protocol.Code(outcome), r.TerminalHalf, r.CallerHalf)
		r.Failure = protocol.Explain(r.Outcome)
		r.Sentence = r.Failure.Sentence
	}
	return r, nil
}

func decodeHalf(b []byte) *protocol.CallRecord {
	if b == nil {
		return nil
	}
	half := new(protocol.CallRecord)
	if protocol.Decode(b, half) != nil { // written by a newer version
		return nil
	}
	return half
}

// join says why a call ended, where the clinic and the two ends say different things. What bears on proof comes first: it must not be hidden
// by anything else. Then, where the clinic knows only that contact was lost, the end that was there; otherwise the clinic, which both ends told.
func join(clinic protocol.Code, terminal, caller *protocol.CallRecord) protocol.Code {
	said := []protocol.Code{clinic}
	for _, half := range []*protocol.CallRecord{terminal, caller} {
		if half != nil {
			said = append(said, half.Outcome)
		}
	}
	for _, stage := range []string{"proof.", "authorisation.", string(protocol.DTLSWeak)} {
		for _, code := range said {
			if strings.HasPrefix(string(code), stage) {
				return code
			}
		}
	}
	switch clinic {
	case protocol.SignalLostTerminal, protocol.SignalNoReply, protocol.SignalLostClinic, protocol.SignalBroker, protocol.Unknown:
		for _, code := range said[1:] {
			if stage, _, _ := strings.Cut(string(code), "."); stage != "signalling" && stage != "unknown" {
				return code
			}
		}
	case protocol.EndPageClosed: // the clinic missed the page, which was there and missed the clinic
		if caller != nil && caller.Outcome == protocol.SignalLostClinic {
			return caller.Outcome
		}
	}
	return clinic
}

// list returns a person's calls, the latest first.
func (r *Records) list(ctx context.Context, person string, limit int) ([]Record, error) {
	return r.query(ctx, " WHERE person = ? ORDER BY began DESC LIMIT ?", person, limit)
}

func (r *Records) query(ctx context.Context, where string, args ...any) ([]Record, error) {
	rows, err := r.store.Read().QueryContext(ctx, selectRecord+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read records of calls: %w", err)
	}
	defer rows.Close()
	var list []Record
	for rows.Next() {
		rec, err := scanRecord(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read records of calls: %w", err)
		}
		list = append(list, rec)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("read records of calls: %w", err)
	}
	return list, nil
}

func (r *Records) get(ctx context.Context, person string, call protocol.CallID) (Record, error) {
	rec, err := scanRecord(r.store.Read().QueryRowContext(ctx, selectRecord+" WHERE call = ? AND person = ?", call[:], person).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Record{}, fmt.Errorf("call %s: %w", call, ErrNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record of call %s: %w", call, err)
	}
	return rec, r.diagnose(ctx, &rec)
}
