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

// Announcement is a call that a home is told of before it comes. It gives nobody a right.
type Announcement struct {
	Person string // ID
	Party  protocol.Party
	At     time.Time
}

// past is how long after its time an announced call is still told of: nobody is always punctual.
const past = 15 * time.Minute

// ErrTime is wrapped when a call is announced for a time at which no home is told of it.
var ErrTime = errors.New("time cannot be announced")

// Announce has a home told that a person will call at a time, at most a day from now, instead of what it was told before. The zero time takes back what it was told.
func (r *Register) Announce(ctx context.Context, home, person string, at time.Time) error {
	now := r.now()
	if !at.IsZero() && (at.Before(now) || at.After(now.Add(24*time.Hour))) {
		return fmt.Errorf("announce call: %w: %s", ErrTime, at)
	}
	detail := map[string]string{"at": ""}
	if !at.IsZero() {
		detail["at"] = at.UTC().Format(time.RFC3339)
	}
	err := r.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := readHome(ctx, tx, "homes.id = ?", home); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM announced WHERE home = ?", home)
		if err == nil && !at.IsZero() {
			_, err = tx.ExecContext(ctx, "INSERT INTO announced VALUES (?, ?, ?)", home, person, at.UnixMilli())
		}
		if err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: "person " + person, What: audit.CallAnnounced, Subject: "home " + home, Detail: detail})
	})
	if err != nil {
		return fmt.Errorf("announce call to home %s: %w", home, err)
	}
	return nil
}

// Announced returns what homes are told now, by number.
func (r *Register) Announced(ctx context.Context) (map[string]Announcement, error) {
	rows, err := r.store.Read().QueryContext(ctx, `SELECT home, person, name, role, organisation, at FROM announced JOIN persons ON persons.id = person WHERE at > ?`, r.now().Add(-past).UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("announced calls: %w", err)
	}
	defer rows.Close()
	all := map[string]Announcement{}
	for rows.Next() {
		var home string
		var a Announcement
		var at int64
		if err := rows.Scan(&home, &a.Person, &a.Party.Name, &a.Party.Role, &a.Party.Organisation, &at); err != nil {
			return nil, fmt.Errorf("announced calls: %w", err)
		}
		a.At = time.UnixMilli(at)
		all[home] = a
	}
	return all, rows.Err()
}
