package setup

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// handOverSkew is how far the terminal's clock may be off its technician's authorisation.
const handOverSkew = 10 * time.Minute

// HandOver is a hand-over record as it was received.
type HandOver struct {
	Terminal protocol.KeyHash
	Received time.Time
	Record   *protocol.HandOver // what the terminal has signed; nil if its signature does not hold
	Flaw     string             // why it does not prove what it should; empty if it does
}

// Store implements fleet.Sink: it keeps hand-over records and receipts.
func (s *Service) Store(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, _ *protocol.Event, body any) error {
	switch m := body.(type) {
	case *protocol.HandOverEvent:
		return s.storeHandOver(ctx, tx, terminal, m)
	case *protocol.ReceiptEvent:
		return s.storeReceipt(ctx, tx, terminal, m)
	}
	return nil
}

// Committed implements fleet.Sink.
func (s *Service) Committed(terminal protocol.KeyHash, _ *protocol.Event, body any) {
	switch body.(type) {
	case *protocol.HandOverEvent:
		s.Log.Debug("hand-over record received", "terminal", terminal)
	case *protocol.ReceiptEvent:
		s.Log.Debug("receipt of a terminal that was taken out of use received", "terminal", terminal)
	}
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Bounds of what one terminal can have kept. What is beyond is in the events alone.
const (
	// refusedEvery is how often statements of one terminal that prove nothing are written to the audit log and the log.
	refusedEvery = time.Minute
	// maxFlawed is how many of its hand-over records that prove nothing are kept.
	maxFlawed = 100
)

func (s *Service) storeHandOver(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, e *protocol.HandOverEvent) error {
	record, err := s.examine(ctx, tx, terminal, e)
	if err != nil && !errors.Is(err, errFlaw) {
		return err
	}
	body, encodeErr := protocol.Encode(e)
	if encodeErr != nil {
		return encodeErr
	}
	// What comes again, as another event, is the same record: by its id if it holds, else by its bytes, since anybody can name an id.
	id := protocol.HashOf(body)
	flaw := ""
	if err != nil {
		flaw = err.Error()
		var kept int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM setup_hand_overs WHERE terminal = ? AND flaw <> ''", terminal[:]).Scan(&kept); err != nil || kept >= maxFlawed {
			return err
		}
	} else {
		id = protocol.Hash(sha256.Sum256(record.ID[:]))
	}
	result, insertErr := tx.ExecContext(ctx, "INSERT INTO setup_hand_overs (terminal, received, event, flaw, record) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		terminal[:], s.now().UnixMilli(), body, flaw, id[:])
	if insertErr != nil {
		return insertErr
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	if flaw != "" {
		return s.refused(ctx, tx, terminal, protocol.EventHandOver, err)
	}
	return s.Audit.AppendTx(ctx, tx, audit.Entry{
		Who: "terminal " + terminal.Name(), What: audit.TerminalHandedOver, Subject: terminal.Name(),
		Detail: map[string]string{"technician": record.Technician.Name, "home": record.Home},
	})
}

// refused writes down that a terminal's statement does not prove what it should, at most once in refusedEvery: of them there can be as many as the
// terminal likes.
func (s *Service) refused(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, statement string, why error) error {
	now := s.now()
	result, err := tx.ExecContext(ctx, `INSERT INTO setup_refused VALUES (?1, ?2) ON CONFLICT (terminal) DO UPDATE SET at = ?2 WHERE at <= ?3`,
		terminal[:], now.UnixMilli(), now.Add(-refusedEvery).UnixMilli())
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	s.Log.Error("a terminal's statement does not prove what it should", "terminal", terminal, "statement", statement, "error", why)
	return s.Audit.AppendTx(ctx, tx, audit.Entry{
		Who: "terminal " + terminal.Name(), What: audit.StatementRefused, Subject: terminal.Name(), Detail: map[string]string{"statement": statement, "why": why.Error()},
	})
}

// errFlaw is wrapped when a statement does not prove what it should.
var errFlaw = errors.New("not proven")

func flawed(what string, err error) error {
	if err == nil {
		return fmt.Errorf("%w: %s", errFlaw, what)
	}
	return fmt.Errorf("%w: %s: %w", errFlaw, what, err)
}

// examine returns what the terminal has signed, if the terminal has, and an error wrapping errFlaw if anything of the event does not hold.
func (s *Service) examine(ctx context.Context, q queryer, terminal protocol.KeyHash, e *protocol.HandOverEvent) (*protocol.HandOver, error) {
	var spki []byte
	err := q.QueryRowContext(ctx, "SELECT spki FROM terminals WHERE key = ?", terminal[:]).Scan(&spki)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, flawed("the terminal is not in the register", nil)
	}
	if err != nil {
		return nil, err
	}
	key, err := ecdsaKey(spki)
	if err != nil {
		return nil, flawed("the terminal's key", err)
	}
	record := new(protocol.HandOver)
	if err := protocol.Verify(e.Terminal, key, record); err != nil {
		return nil, flawed("the terminal's signature", err)
	}
	mandate, err := s.Authority.VerifyMandate(e.Authorisation)
	if err != nil {
		return record, flawed("the technician's authorisation", err)
	}
	laptop, err := ecdsaKey(mandate.Key)
	if err != nil {
		return record, flawed("the laptop's key", err)
	}
	second := new(protocol.HandOver)
	if err := protocol.Verify(e.Technician, laptop, second); err != nil {
		return record, flawed("the technician's signature", err)
	}
	at := record.At.Time()
	switch {
	case !reflect.DeepEqual(record, second):
		return record, flawed("terminal and technician have signed different words", nil)
	case record.Terminal != terminal:
		return record, flawed("it is about another terminal", nil)
	case record.Technician != mandate.Person:
		return record, flawed("the authorisation is another person's", nil)
	case at.Before(mandate.From.Time().Add(-handOverSkew)) || at.After(mandate.To.Time().Add(handOverSkew)):
		return record, flawed("the authorisation was not valid then", nil)
	}
	var withdrawn int64
	err = q.QueryRowContext(ctx, "SELECT coalesce(withdrawn, 0) FROM setup_mandates WHERE id = ?", mandate.ID[:]).Scan(&withdrawn)
	switch {
	case errors.Is(err, sql.ErrNoRows): // of a database that was restored: its signature holds all the same
	case err != nil:
		return nil, err
	case withdrawn != 0 && at.After(time.UnixMilli(withdrawn).Add(handOverSkew)):
		return record, flawed("the authorisation had been withdrawn", nil)
	}
	for _, name := range protocol.CheckNames() {
		if !slices.ContainsFunc(record.Checks, func(c protocol.Check) bool { return c.Name == name }) {
			return record, flawed("the check "+name+" was not made", nil)
		}
	}
	return record, nil
}

// HandOvers returns a terminal's hand-over records, the latest first, at most limit.
func (s *Service) HandOvers(ctx context.Context, terminal protocol.KeyHash, limit int) ([]HandOver, error) {
	rows, err := s.Config.Store.Read().QueryContext(ctx, "SELECT received, event, flaw FROM setup_hand_overs WHERE terminal = ? ORDER BY n DESC LIMIT ?", terminal[:], limit)
	if err != nil {
		return nil, fmt.Errorf("read hand-over records: %w", err)
	}
	defer rows.Close()
	var list []HandOver
	var bodies [][]byte
	for rows.Next() {
		h := HandOver{Terminal: terminal}
		var received int64
		var body []byte
		if err := rows.Scan(&received, &body, &h.Flaw); err != nil {
			return nil, fmt.Errorf("read hand-over records: %w", err)
		}
		h.Received = time.UnixMilli(received)
		list, bodies = append(list, h), append(bodies, body)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil { // closed before the next question: each that is open holds one of the few readers
		return nil, fmt.Errorf("read hand-over records: %w", err)
	}
	for i := range list {
		h, e := &list[i], new(protocol.HandOverEvent)
		if err := protocol.Decode(bodies[i], e); err != nil { // of another version; the others are shown
			h.Flaw = fmt.Sprintf("it cannot be read: %v", err)
			continue
		}
		// Verified anew: what is shown is what is signed, whatever became of the database.
		record, err := s.examine(ctx, s.Config.Store.Read(), terminal, e)
		if err != nil && !errors.Is(err, errFlaw) {
			return nil, fmt.Errorf("read hand-over records: %w", err)
		}
		if err != nil {
			h.Flaw = err.Error()
		}
		h.Record = record
	}
	return list, nil
}
