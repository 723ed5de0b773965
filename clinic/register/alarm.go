package register

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// Alarm is something about a terminal that an operator has to look into: protocol.IdentityClone or IdentityTwice, what the terminal reports of itself
// (package ledger), or a call that was not proven (package calls). What happens again before it is settled is the same alarm.
type Alarm struct {
	N         int64
	Code      protocol.Code
	Terminal  protocol.KeyHash
	Home      string // ID of the home that the key is registered for; empty if it is for none
	HomeLabel string
	Detail    string // technical, of the last time
	First     time.Time
	Last      time.Time
	Count     int64
	SettledBy string // empty while it is open
	Settled   time.Time
	Note      string // what was found out
}

// Raise raises an alarm.
func (r *Register) Raise(ctx context.Context, code protocol.Code, terminal protocol.KeyHash, detail string) error {
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		_, err := r.RaiseTx(ctx, tx, code, terminal, detail)
		return err
	})
}

// RaiseTx is Raise as part of a transaction. It reports whether the alarm is a new one, rather than one that is open already.
func (r *Register) RaiseTx(ctx context.Context, tx *sql.Tx, code protocol.Code, terminal protocol.KeyHash, detail string) (fresh bool, err error) {
	detail = protocol.Printable(detail)
	now := r.now().UnixMilli()
	var count int64
	err = tx.QueryRowContext(ctx, `INSERT INTO alarms (code, terminal, detail, first, last, count) VALUES (?1, ?2, ?3, ?4, ?4, 1)
		ON CONFLICT (code, terminal) WHERE settled IS NULL DO UPDATE SET last = ?4, detail = ?3, count = count + 1 RETURNING count`,
		string(code), terminal[:], detail, now).Scan(&count)
	if err != nil {
		return false, fmt.Errorf("raise alarm: %w", err)
	}
	if count > 1 {
		return false, nil // as often as a stranger likes
	}
	return true, r.audit.AppendTx(ctx, tx, audit.Entry{Who: "clinic", What: audit.AlarmRaised, Subject: terminal.Name(),
		Detail: map[string]string{"code": string(code), "detail": detail}})
}

// Alarms returns the open alarms, the latest first, and behind them at most settled of those that were settled.
func (r *Register) Alarms(ctx context.Context, settled int) ([]Alarm, error) {
	rows, err := r.store.Read().QueryContext(ctx, `SELECT n, code, alarms.terminal, coalesce(homes.id, ''), coalesce(homes.label, ''), detail,
			first, last, count, coalesce(settled_by, ''), coalesce(settled, 0), coalesce(note, '')
		FROM (SELECT * FROM alarms WHERE settled IS NULL UNION ALL
			SELECT * FROM (SELECT * FROM alarms WHERE settled IS NOT NULL ORDER BY settled DESC LIMIT ?)) AS alarms
		LEFT JOIN terminals ON terminals.key = alarms.terminal LEFT JOIN homes ON homes.id = terminals.home
		ORDER BY settled IS NOT NULL, coalesce(settled, last) DESC`, settled)
	if err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	defer rows.Close()
	var list []Alarm
	for rows.Next() {
		var a Alarm
		var code string
		var key []byte
		var first, last, done int64
		if err := rows.Scan(&a.N, &code, &key, &a.Home, &a.HomeLabel, &a.Detail, &first, &last, &a.Count, &a.SettledBy, &done, &a.Note); err != nil {
			return nil, fmt.Errorf("read alarms: %w", err)
		}
		a.Code, a.First, a.Last = protocol.Code(code), time.UnixMilli(first), time.UnixMilli(last)
		copy(a.Terminal[:], key)
		if done != 0 {
			a.Settled = time.UnixMilli(done)
		}
		list = append(list, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	return list, nil
}

// Settle closes an open alarm with a note of what was found. The error wraps ErrNotFound if there is no such open alarm.
func (r *Register) Settle(ctx context.Context, who string, n int64, note string) error {
	if err := checkText("the note", note); err != nil {
		return err
	}
	err := r.store.Write(ctx, func(tx *sql.Tx) error {
		var key []byte
		var code string
		err := tx.QueryRowContext(ctx, `UPDATE alarms SET settled = ?, settled_by = ?, note = ? WHERE n = ? AND settled IS NULL RETURNING terminal, code`,
			r.now().UnixMilli(), who, note, n).Scan(&key, &code)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.AlarmSettled, Subject: protocol.KeyHash(key).Name(),
			Detail: map[string]string{"code": code, "note": note}})
	})
	if err != nil {
		return fmt.Errorf("settle alarm: %w", err)
	}
	return nil
}
