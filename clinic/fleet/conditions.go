package fleet

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"vindu/protocol"
)

// Past is a condition of a terminal, with when it held.
type Past struct {
	Code   protocol.Code
	Since  time.Time
	Until  time.Time // zero: it holds, as far as the terminal has told
	Figure string
}

// change takes what an event tells of a condition. An event may come late, or the one before it never: the same condition beginning anew ends the one before.
func (s *events) change(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, c *protocol.ConditionChange) error {
	if _, err := tx.ExecContext(ctx, `UPDATE fleet_conditions SET until = ?3 WHERE terminal = ?1 AND code = ?2 AND until = 0 AND since < ?3`,
		terminal[:], string(c.Code), int64(c.Since)); err != nil {
		return fmt.Errorf("end an earlier condition: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO fleet_conditions VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (terminal, code, since) DO UPDATE SET until = max(until, excluded.until), figure = excluded.figure`,
		terminal[:], string(c.Code), int64(c.Since), int64(c.Until), c.Figure); err != nil {
		return fmt.Errorf("keep a condition: %w", err)
	}
	return nil
}

// Held returns what held of a terminal at any time between two instants, as far as it has told.
func (f *Fleet) Held(ctx context.Context, key protocol.KeyHash, from, to time.Time) ([]protocol.Code, error) {
	rows, err := f.config.Store.Read().QueryContext(ctx, `SELECT DISTINCT code FROM fleet_conditions
		WHERE terminal = ? AND since <= ? AND (until = 0 OR until >= ?) ORDER BY code`, key[:], int64(protocol.At(to)), int64(protocol.At(from)))
	if err != nil {
		return nil, fmt.Errorf("read conditions of terminal %s: %w", key.Code(), err)
	}
	defer rows.Close()
	var list []protocol.Code
	for rows.Next() {
		var c protocol.Code
		if err := rows.Scan(&c); err != nil {
			return nil, fmt.Errorf("read conditions of terminal %s: %w", key.Code(), err)
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read conditions of terminal %s: %w", key.Code(), err)
	}
	return list, nil
}

// Conditions returns what held of a terminal, the latest first, at most limit of them.
func (f *Fleet) Conditions(ctx context.Context, key protocol.KeyHash, limit int) ([]Past, error) {
	rows, err := f.config.Store.Read().QueryContext(ctx, `SELECT code, since, until, figure FROM fleet_conditions
		WHERE terminal = ? ORDER BY since DESC, code LIMIT ?`, key[:], limit)
	if err != nil {
		return nil, fmt.Errorf("read conditions of terminal %s: %w", key.Code(), err)
	}
	defer rows.Close()
	var list []Past
	for rows.Next() {
		var p Past
		var since, until int64
		if err := rows.Scan(&p.Code, &since, &until, &p.Figure); err != nil {
			return nil, fmt.Errorf("read conditions of terminal %s: %w", key.Code(), err)
		}
		p.Since = protocol.Time(since).Time()
		if until != 0 {
			p.Until = protocol.Time(until).Time()
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read conditions of terminal %s: %w", key.Code(), err)
	}
	return list, nil
}
