package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vindu/clinic/store"
	"vindu/protocol"
)

// maxBatch bounds the events of one transaction.
const maxBatch = 256

var steps = []string{
	`CREATE TABLE fleet_terminals (
		terminal BLOB PRIMARY KEY, heard INTEGER NOT NULL, software TEXT NOT NULL, health BLOB
	) STRICT`,
	`CREATE TABLE fleet_events (
		terminal BLOB NOT NULL, epoch BLOB NOT NULL, seq INTEGER NOT NULL,
		at INTEGER NOT NULL, received INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
		PRIMARY KEY (terminal, epoch, seq)
	) STRICT, WITHOUT ROWID`,
	`CREATE INDEX fleet_events_received ON fleet_events (terminal, received)`,
	// seq: all up to and including it are acknowledged.
	`CREATE TABLE fleet_cursors (
		terminal BLOB NOT NULL, epoch BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (terminal, epoch)
	) STRICT, WITHOUT ROWID`,
	// until: 0 while it holds.
	`CREATE TABLE fleet_conditions (
		terminal BLOB NOT NULL, code TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, figure TEXT NOT NULL,
		PRIMARY KEY (terminal, code, since)
	) STRICT, WITHOUT ROWID`,
	// inferred: 1 where until is not what the terminal has told of this condition's end.
	`ALTER TABLE fleet_conditions ADD COLUMN inferred INTEGER NOT NULL DEFAULT 0`,
	`CREATE INDEX fleet_conditions_open ON fleet_conditions (terminal) WHERE until = 0`,
	// offline: since when; 0 if it was online when it was stored.
	`ALTER TABLE fleet_terminals ADD COLUMN offline INTEGER NOT NULL DEFAULT 0`,
}

// events stores what terminals report.
//
// A terminal sends what its outbox holds in ascending order, from the oldest, again and again until it is acknowledged. Its numbers may
// have gaps, since a full outbox drops some. Messages can be lost between it and here, which leaves gaps too. An
// acknowledgement makes the terminal forget all up to its number, so it must not pass a gap of the second kind. The two are told
// apart so: an event beyond a gap is stored but not acknowledged; when it comes a second time, with nothing
// missed between (the same count of unbroken) and nothing of the gap having come, then the terminal began anew from its oldest
// and does not have what is missing.
type events struct {
	store *store.Store
	sinks []Sink
	log   *slog.Logger

	mu   sync.Mutex // one commit at a time
	gaps map[protocol.KeyHash]gap

	committed, repeated, reported atomic.Uint64
}

// gap is the lowest event beyond a gap that was seen.
type gap struct {
	epoch    protocol.Nonce
	seq      uint64
	unbroken uint64
}

type opened struct {
	work
	body any
}

// commit stores events in one transaction and returns at most one acknowledgement for each terminal and epoch.
func (s *events) commit(ctx context.Context, batch []work) ([]protocol.Ack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []opened
	var acks []protocol.Ack
	gaps := make(map[protocol.KeyHash]gap)
	err := s.store.Write(ctx, func(tx *sql.Tx) error {
		fresh, acks = nil, nil
		type stream struct {
			terminal protocol.KeyHash
			epoch    protocol.Nonce
		}
		place := make(map[stream]int)
		for _, w := range batch {
			body, isNew, err := s.insert(ctx, tx, w)
			if err != nil {
				return err
			}
			if isNew {
				fresh = append(fresh, opened{w, body})
			}
			seq, err := s.advance(ctx, tx, w, gaps)
			if err != nil {
				return err
			}
			if seq == 0 {
				continue
			}
			at, seen := place[stream{w.terminal, w.event.Epoch}]
			if !seen {
				at = len(acks)
				place[stream{w.terminal, w.event.Epoch}] = at
				acks = append(acks, protocol.Ack{Version: protocol.Version, Terminal: w.terminal, Epoch: w.event.Epoch})
			}
			acks[at].Seq = seq
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.committed.Add(uint64(len(fresh)))
	s.repeated.Add(uint64(len(batch) - len(fresh)))
	for key, g := range gaps {
		if g.seq == 0 {
			delete(s.gaps, key)
		} else {
			s.gaps[key] = g
		}
	}
	for _, o := range fresh {
		if o.reported {
			s.reported.Add(1)
		}
		for _, sink := range s.sinks {
			sink.Committed(o.terminal, o.event, o.body)
		}
	}
	return acks, nil
}

// insert stores one event and reports whether it had not been stored before.
func (s *events) insert(ctx context.Context, tx *sql.Tx, w work) (body any, isNew bool, err error) {
	e := w.event
	result, err := tx.ExecContext(ctx, "INSERT INTO fleet_events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		w.terminal[:], e.Epoch[:], int64(e.Seq), int64(e.At), time.Now().UnixMilli(), e.Kind, []byte(e.Body))
	if err != nil {
		return nil, false, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return nil, false, err
	}
	body, err = e.Open()
	if err != nil {
		return nil, false, err
	}
	if c, ok := body.(*protocol.ConditionChange); ok {
		if err := s.change(ctx, tx, w.terminal, c); err != nil {
			return nil, false, err
		}
	}
	for _, sink := range s.sinks {
		if err := sink.Store(ctx, tx, w.terminal, e, body); err != nil {
			return nil, false, fmt.Errorf("event %s: %w", e.Kind, err)
		}
	}
	return body, true, nil
}

// advance returns up to where the terminal's events are complete; 0 if it may not yet be told. Gaps that were found or closed go to
// gaps, to be kept once the transaction is committed.
func (s *events) advance(ctx context.Context, tx *sql.Tx, w work, gaps map[protocol.KeyHash]gap) (uint64, error) {
	e := w.event
	var cursor int64
	err := tx.QueryRowContext(ctx, "SELECT seq FROM fleet_cursors WHERE terminal = ? AND epoch = ?", w.terminal[:], e.Epoch[:]).Scan(&cursor)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	if int64(e.Seq) <= cursor {
		return uint64(cursor), nil
	}
	from := cursor + 1
	if int64(e.Seq) > from {
		g, found := gaps[w.terminal]
		if !found {
			g = s.gaps[w.terminal]
		}
		same := g.epoch == e.Epoch && g.unbroken == w.unbroken && g.seq != 0
		if !same || e.Seq < g.seq {
			gaps[w.terminal] = gap{e.Epoch, e.Seq, w.unbroken}
			return uint64(cursor), nil
		}
		if e.Seq > g.seq {
			return uint64(cursor), nil
		}
		s.log.Warn("events are missing that the terminal does not have any more", "terminal", w.terminal, "from", from, "to", e.Seq-1)
		from = int64(e.Seq)
	}
	// Events beyond may have been stored while this one was missing.
	var next int64
	err = tx.QueryRowContext(ctx, `WITH RECURSIVE run (seq) AS (
			SELECT ?3 UNION ALL
			SELECT run.seq + 1 FROM run WHERE EXISTS (SELECT 1 FROM fleet_events WHERE terminal = ?1 AND epoch = ?2 AND seq = run.seq + 1)
		) SELECT max(seq) FROM run`, w.terminal[:], e.Epoch[:], from).Scan(&next)
	if err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO fleet_cursors VALUES (?, ?, ?) ON CONFLICT (terminal, epoch) DO UPDATE SET seq = excluded.seq",
		w.terminal[:], e.Epoch[:], next); err != nil {
		return 0, err
	}
	gaps[w.terminal] = gap{}
	return uint64(next), nil
}

// Stored is an event as it is kept.
type Stored struct {
	Received time.Time
	Event    protocol.Event
}

// Events returns a terminal's events, the last received first, at most limit of them.
func (f *Fleet) Events(ctx context.Context, key protocol.KeyHash, limit int) ([]Stored, error) {
	rows, err := f.config.Store.Read().QueryContext(ctx, `SELECT epoch, seq, at, received, kind, body FROM fleet_events
		WHERE terminal = ? ORDER BY received DESC, seq DESC LIMIT ?`, key[:], limit)
	if err != nil {
		return nil, fmt.Errorf("read events of terminal %s: %w", key.Code(), err)
	}
	defer rows.Close()
	var list []Stored
	for rows.Next() {
		var epoch, body []byte
		var seq, at, received int64
		s := Stored{Event: protocol.Event{Version: protocol.Version}}
		if err := rows.Scan(&epoch, &seq, &at, &received, &s.Event.Kind, &body); err != nil {
			return nil, fmt.Errorf("read events of terminal %s: %w", key.Code(), err)
		}
		copy(s.Event.Epoch[:], epoch)
		s.Event.Seq, s.Event.At, s.Event.Body, s.Received = uint64(seq), protocol.Time(at), body, time.UnixMilli(received)
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read events of terminal %s: %w", key.Code(), err)
	}
	return list, nil
}

// saveStates stores what has changed since it was last called.
func (f *Fleet) saveStates(ctx context.Context) error {
	dirty := f.board.takeDirty()
	if len(dirty) == 0 {
		return nil
	}
	err := f.config.Store.Write(ctx, func(tx *sql.Tx) error {
		for _, s := range dirty {
			var health []byte
			if s.Health != nil {
				var err error
				if health, err = protocol.Encode(s.Health); err != nil {
					return err
				}
			}
			offline := int64(0)
			if !s.Online && !s.Since.IsZero() {
				offline = int64(protocol.At(s.Since))
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO fleet_terminals (terminal, heard, software, health, offline) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (terminal) DO UPDATE SET heard = excluded.heard, software = excluded.software, health = excluded.health, offline = excluded.offline`,
				s.Terminal[:], int64(protocol.At(s.Heard)), s.Software, health, offline); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.board.redirty(dirty)
		return fmt.Errorf("store terminals' states: %w", err)
	}
	return nil
}

func loadStates(ctx context.Context, s *store.Store) ([]State, error) {
	rows, err := s.Read().QueryContext(ctx, "SELECT terminal, heard, software, health, offline FROM fleet_terminals")
	if err != nil {
		return nil, fmt.Errorf("read terminals' states: %w", err)
	}
	defer rows.Close()
	var states []State
	for rows.Next() {
		var key, health []byte
		var heard, offline int64
		var state State
		if err := rows.Scan(&key, &heard, &state.Software, &health, &offline); err != nil {
			return nil, fmt.Errorf("read terminals' states: %w", err)
		}
		copy(state.Terminal[:], key)
		state.Heard = protocol.Time(heard).Time()
		if offline != 0 {
			state.Since = protocol.Time(offline).Time()
		}
		if health != nil {
			h := new(protocol.Health)
			if protocol.Decode(health, h) == nil { // one of an older version is forgotten; the next is not far
				state.Health = h
			}
		}
		states = append(states, state)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read terminals' states: %w", err)
	}
	return states, nil
}
