package fleet

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"vindu/protocol"
)

// Past is a condition of a terminal, with when it held.
type Past struct {
	Code   protocol.Code
	Since  time.Time
	Until  time.Time // zero: it holds, as far as the terminal has told; where it never told the end, when that was at the latest
	Figure string
}

// change takes what an event tells of a condition. An event may come late, or the one before it never: the same condition beginning anew ends the one before.
func (s *events) change(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, c *protocol.ConditionChange) error {
	if _, err := tx.ExecContext(ctx, `UPDATE fleet_conditions SET until = ?3, inferred = 1 WHERE terminal = ?1 AND code = ?2 AND until = 0 AND since < ?3`,
		terminal[:], string(c.Code), int64(c.Since)); err != nil {
		return fmt.Errorf("end an earlier condition: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO fleet_conditions (terminal, code, since, until, figure) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (terminal, code, since) DO UPDATE SET figure = excluded.figure,
			until = CASE WHEN inferred AND excluded.until != 0 THEN excluded.until ELSE max(until, excluded.until) END,
			inferred = inferred AND excluded.until = 0`,
		terminal[:], string(c.Code), int64(c.Since), int64(c.Until), c.Figure); err != nil {
		return fmt.Errorf("keep a condition: %w", err)
	}
	return nil
}

// span names a row of fleet_conditions of one terminal.
type span struct {
	code  protocol.Code
	since protocol.Time
}

// settling is what a health message changes of the conditions that are kept.
type settling struct {
	terminal protocol.KeyHash
	over     map[span]protocol.Time // with when they ended at the latest
	again    []span                 // were taken to be over, and hold
}

// settle compares health messages with the conditions that are kept as holding. A terminal whose program or power went never tells of the end of what held then: it begins anew
// with nothing. But its health says all that is told, so what is not in it is over: since the terminal's program began, if it was told of before, and else since the message at the
// latest, because an event that tells of an end can be dropped. When the end was told after all, change takes that; and what holds after all holds again.
func (s *events) settle(ctx context.Context, batch []work) error {
	var changes []settling
	for _, w := range batch {
		c, err := s.compare(ctx, w.terminal, w.health)
		if err != nil {
			return err
		}
		if len(c.over)+len(c.again) > 0 {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return s.store.Write(ctx, func(tx *sql.Tx) error {
		for _, c := range changes {
			for r, until := range c.over {
				if _, err := tx.ExecContext(ctx, "UPDATE fleet_conditions SET until = ?, inferred = 1 WHERE terminal = ? AND code = ? AND since = ? AND until = 0",
					int64(until), c.terminal[:], string(r.code), int64(r.since)); err != nil {
					return fmt.Errorf("end a condition that was not told any more: %w", err)
				}
			}
			for _, r := range c.again {
				if _, err := tx.ExecContext(ctx, "UPDATE fleet_conditions SET until = 0, inferred = 0 WHERE terminal = ? AND code = ? AND since = ? AND inferred = 1",
					c.terminal[:], string(r.code), int64(r.since)); err != nil {
					return fmt.Errorf("keep a condition that holds again: %w", err)
				}
			}
		}
		return nil
	})
}

// settle is events.settle for the health messages among batch.
func (f *Fleet) settle(ctx context.Context, batch []work) {
	batch = slices.DeleteFunc(slices.Clone(batch), func(w work) bool { return w.health == nil })
	if err := f.events.settle(ctx, batch); err != nil && ctx.Err() == nil {
		f.log.Error("what terminals say of conditions could not be compared with what is kept; their next message is", "error", err)
	}
}

// mostConditions is how many a health message has at most: what is not in one of so many may hold.
const mostConditions = 64

func (s *events) compare(ctx context.Context, terminal protocol.KeyHash, h *protocol.Health) (settling, error) {
	c := settling{terminal: terminal, over: map[span]protocol.Time{}}
	holds := map[span]bool{}
	for _, told := range h.Conditions {
		holds[span{told.Code, told.Since}] = true
	}
	began := protocol.At(h.At.Time().Add(-time.Duration(min(h.Uptime, 1<<31)) * time.Second))
	rows, err := s.store.Read().QueryContext(ctx, "SELECT code, since FROM fleet_conditions WHERE terminal = ? AND until = 0", terminal[:])
	if err != nil {
		return c, fmt.Errorf("read what holds of terminal %s: %w", terminal.Code(), err)
	}
	defer rows.Close()
	for rows.Next() {
		var r span
		if err := rows.Scan(&r.code, &r.since); err != nil {
			return c, fmt.Errorf("read what holds of terminal %s: %w", terminal.Code(), err)
		}
		switch {
		case holds[r]:
			delete(holds, r)
		case r.since >= h.At || len(h.Conditions) >= mostConditions:
		case r.since < began:
			c.over[r] = began
		default: // also where the clock of a terminal without a battery began behind what it had told before
			c.over[r] = h.At
		}
	}
	if err := rows.Err(); err != nil {
		return c, fmt.Errorf("read what holds of terminal %s: %w", terminal.Code(), err)
	}
	for r := range holds {
		var n int
		if err := s.store.Read().QueryRowContext(ctx, "SELECT count(*) FROM fleet_conditions WHERE terminal = ? AND code = ? AND since = ? AND inferred = 1",
			terminal[:], string(r.code), int64(r.since)).Scan(&n); err != nil {
			return c, fmt.Errorf("read what holds of terminal %s: %w", terminal.Code(), err)
		}
		if n > 0 {
			c.again = append(c.again, r)
		}
	}
	return c, nil
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
