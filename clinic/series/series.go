// Package series keeps the numbers that terminals tell of themselves (protocol.Figures, and how much waits in the outbox), so that operators see how a terminal
// was, not only how it is: one sample in five minutes for two days, and the least, the mean and the most of each hour for thirty.
//
// Samples are gathered in memory and written when their hour is over, and when the server stops: a crash costs an hour of numbers at the most, and a fleet of ten
// thousand costs some three rows a second, in transactions of at most batch terminals. There is one row for each terminal and hour, whatever a terminal says.
//
// # Tables
//
// Rows are in the order of time, so that an hour of the whole fleet lies together: it is written at the end of the table and removed from its beginning. Blobs begin with
// their version, 1; figures are varints (encoding/binary), by one more than they are, so that 0 is "not known".
//
//	series_fine:  slot (0 to 11, five minutes each), then one figure of each Kind; again for each sample
//	series_hours: of each Kind least, mean and most, or 0 alone where none is known
package series

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"vindu/clinic/fleet"
	"vindu/clinic/store"
	"vindu/protocol"
)

// How often, and for how long.
const (
	Step      = 5 * time.Minute
	KeepFine  = 48 * time.Hour
	KeepHours = 30 * 24 * time.Hour
	slots     = int(time.Hour / Step)
	batch     = 500             // terminals of one transaction
	lastWrite = 5 * time.Second // for what is in memory when the server stops
)

// Kind is what is measured.
type Kind int

// The kinds, in the order in which they are stored: another one is another version of the blobs.
const (
	Signal Kind = iota // -dBm
	Trip               // ms
	Heat               // °C
	Memory             // percent in use
	Outbox             // events that wait
	Kinds
)

// Unknown stands where a figure is not known.
const Unknown int64 = -1

// maxFigure bounds what is kept of a figure: an outbox cannot hold more.
const maxFigure = 1 << 30

// Values are one figure of each Kind, or Unknown.
type Values [Kinds]int64

// Sample is how a terminal was at a time.
type Sample struct {
	At time.Time
	Values
}

// Hour is how a terminal was in the hour that began At.
type Hour struct {
	At                time.Time
	Least, Mean, Most Values
}

// Fleet knows how terminals are; fleet.Fleet is one.
type Fleet interface {
	States() map[protocol.KeyHash]fleet.State
}

// hour is what is gathered of a terminal in the hour that runs.
type hour struct {
	id    int64         // 0: not known in the database yet
	told  protocol.Time // by the terminal's clock: the same report is no second sample
	have  [slots]bool
	taken [slots]Values
}

// Keeper keeps series while Run runs. Its methods are safe for concurrent use.
type Keeper struct {
	store *store.Store
	fleet Fleet
	log   *slog.Logger

	mu    sync.Mutex
	began int64 // the hour that is gathered, since 1970; 0 before the first look
	hours map[protocol.KeyHash]*hour
}

var migrations = []string{
	`CREATE TABLE series_terminals (id INTEGER PRIMARY KEY, terminal BLOB NOT NULL UNIQUE) STRICT`,
	`CREATE TABLE series_fine (hour INTEGER NOT NULL, terminal INTEGER NOT NULL, samples BLOB NOT NULL, PRIMARY KEY (hour, terminal)) STRICT, WITHOUT ROWID`,
	`CREATE TABLE series_hours (hour INTEGER NOT NULL, terminal INTEGER NOT NULL, figures BLOB NOT NULL, PRIMARY KEY (hour, terminal)) STRICT, WITHOUT ROWID`,
}

// New brings the tables up, and takes back what was gathered of the hour that runs before the server stopped.
func New(ctx context.Context, s *store.Store, f Fleet, log *slog.Logger) (*Keeper, error) {
	if err := s.Migrate(ctx, "series", migrations); err != nil {
		return nil, fmt.Errorf("series: %w", err)
	}
	k := &Keeper{store: s, fleet: f, log: log, hours: map[protocol.KeyHash]*hour{}}
	if err := k.load(ctx, hourOf(time.Now())); err != nil {
		return nil, fmt.Errorf("series: %w", err)
	}
	return k, nil
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

func (k *Keeper) load(ctx context.Context, now int64) error {
	rows, err := k.store.Read().QueryContext(ctx, "SELECT t.id, t.terminal, f.samples FROM series_terminals t LEFT JOIN series_fine f ON f.hour = ? AND f.terminal = t.id", now)
	if err != nil {
		return err
	}
	defer rows.Close()
	k.began = now
	for rows.Next() {
		var key, blob []byte
		h := new(hour)
		if err := rows.Scan(&h.id, &key, &blob); err != nil {
			return err
		}
		if len(key) != len(protocol.KeyHash{}) {
			continue
		}
		for slot, v := range decodeFine(blob) {
			h.have[slot], h.taken[slot] = true, v
		}
		k.hours[protocol.KeyHash(key)] = h
	}
	return rows.Err()
}

// Run takes a sample of every terminal each Step, and stores what an hour came to when it is over, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	k.prime()
	for {
		wait := time.NewTimer(time.Until(time.Now().Truncate(Step).Add(Step)))
		select {
		case <-ctx.Done():
			wait.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			return k.write(last, k.began, k.copyOf(k.began))
		case now := <-wait.C:
			k.look(ctx, now)
		}
	}
}

// prime notes which reports were there before Run began: they may be days old.
func (k *Keeper) prime() {
	states := k.fleet.States()
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, s := range states {
		if s.Health != nil {
			k.of(key).told = s.Health.At
		}
	}
}

// of returns what is gathered of a terminal. k.mu is held.
func (k *Keeper) of(key protocol.KeyHash) *hour {
	h := k.hours[key]
	if h == nil {
		h = new(hour)
		k.hours[key] = h
	}
	return h
}

// look takes a sample of every terminal that has reported since the last one, for the Step that has just ended.
func (k *Keeper) look(ctx context.Context, now time.Time) {
	states := k.fleet.States()
	at := now.Add(-Step / 2)
	in, slot := hourOf(at), int(at.Unix()%3600)/int(Step/time.Second)
	if over := k.turn(in); over != nil {
		if err := k.write(ctx, over.hour, over.rows); err != nil && ctx.Err() == nil {
			k.log.Error("an hour of terminals' numbers could not be stored; it is missing on operators' pages", "error", err)
		}
		if err := k.prune(ctx, now); err != nil && ctx.Err() == nil {
			k.log.Error("old numbers of terminals could not be removed", "error", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, s := range states {
		if s.Health == nil {
			continue
		}
		h := k.of(key)
		if h.told == s.Health.At {
			continue
		}
		h.told, h.have[slot], h.taken[slot] = s.Health.At, true, valuesOf(s.Health)
	}
	for key := range k.hours { // who is not on the board any more
		if _, ok := states[key]; !ok && k.hours[key].have == [slots]bool{} {
			delete(k.hours, key)
		}
	}
}

func valuesOf(h *protocol.Health) Values {
	v := Values{Signal: Unknown, Trip: Unknown, Heat: Unknown, Memory: Unknown, Outbox: int64(min(h.Pending, maxFigure))}
	if f := h.Figures; f != nil {
		for kind, n := range map[Kind]uint64{Signal: f.Signal, Trip: f.Trip, Heat: f.Heat, Memory: f.Memory} {
			if n > 0 {
				v[kind] = int64(min(n, maxFigure))
			}
		}
	}
	return v
}

// row is what one terminal's hour came to.
type row struct {
	key    protocol.KeyHash
	id     int64
	fine   []byte
	figure []byte
}

type over struct {
	hour int64
	rows []row
}

// turn begins another hour, and returns what the one before came to; nil if it is the same hour.
func (k *Keeper) turn(to int64) *over {
	if k.began == to {
		return nil
	}
	done := &over{k.began, k.copyOf(k.began)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.began = to
	for _, h := range k.hours {
		h.have = [slots]bool{}
	}
	return done
}

// copyOf encodes what was gathered.
func (k *Keeper) copyOf(began int64) []row {
	k.mu.Lock()
	defer k.mu.Unlock()
	var rows []row
	for key, h := range k.hours {
		if samples := h.samples(began); len(samples) > 0 {
			rows = append(rows, row{key, h.id, encodeFine(samples), encodeHour(sum(samples))})
		}
	}
	return rows
}

// samples returns what was gathered, in the order of time.
func (h *hour) samples(began int64) (list []Sample) {
	for slot, have := range h.have {
		if have {
			list = append(list, Sample{time.Unix(began*3600, 0).Add(time.Duration(slot) * Step), h.taken[slot]})
		}
	}
	return list
}

// write stores an hour, some terminals at a time, so that other writers come in between.
func (k *Keeper) write(ctx context.Context, began int64, rows []row) error {
	for part := range slices.Chunk(rows, batch) {
		ids := make([]int64, len(part))
		err := k.store.Write(ctx, func(tx *sql.Tx) error {
			for i, r := range part {
				if ids[i] = r.id; r.id == 0 {
					if err := tx.QueryRowContext(ctx, "INSERT INTO series_terminals (terminal) VALUES (?) ON CONFLICT (terminal) DO UPDATE SET terminal = excluded.terminal RETURNING id", r.key[:]).Scan(&ids[i]); err != nil {
						return err
					}
				}
				if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO series_fine VALUES (?, ?, ?)", began, ids[i], r.fine); err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO series_hours VALUES (?, ?, ?)", began, ids[i], r.figure); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store terminals' numbers: %w", err)
		}
		k.mu.Lock()
		for i, r := range part {
			if h := k.hours[r.key]; h != nil {
				h.id = ids[i]
			}
		}
		k.mu.Unlock()
	}
	return nil
}

// prune removes what is old, an hour of the fleet at a time.
func (k *Keeper) prune(ctx context.Context, now time.Time) error {
	for table, keep := range map[string]time.Duration{"series_fine": KeepFine, "series_hours": KeepHours} {
		for {
			var gone int64
			err := k.store.Write(ctx, func(tx *sql.Tx) error {
				result, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE hour = (SELECT min(hour) FROM "+table+") AND hour < ?", hourOf(now.Add(-keep)))
				if err != nil {
					return err
				}
				gone, err = result.RowsAffected()
				return err
			})
			if err != nil {
				return fmt.Errorf("remove old numbers: %w", err)
			}
			if gone == 0 {
				break
			}
		}
	}
	return nil
}

// each asks for a terminal's rows of some hours, the oldest first.
func (k *Keeper) each(ctx context.Context, table, column string, key protocol.KeyHash, from, to time.Time, take func(hour int64, blob []byte)) error {
	rows, err := k.store.Read().QueryContext(ctx, `WITH RECURSIVE h (hour) AS (VALUES (?1) UNION ALL SELECT hour + 1 FROM h WHERE hour < ?2)
		SELECT s.hour, s.`+column+` FROM series_terminals t CROSS JOIN h CROSS JOIN `+table+` s ON s.hour = h.hour AND s.terminal = t.id WHERE t.terminal = ?3 ORDER BY s.hour`,
		hourOf(from), hourOf(to), key[:])
	if err != nil {
		return fmt.Errorf("read numbers of terminal %s: %w", key.Code(), err)
	}
	defer rows.Close()
	for rows.Next() {
		var hour int64
		var blob []byte
		if err := rows.Scan(&hour, &blob); err != nil {
			return fmt.Errorf("read numbers of terminal %s: %w", key.Code(), err)
		}
		take(hour, blob)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read numbers of terminal %s: %w", key.Code(), err)
	}
	return nil
}

// bounded is from, or as far back as anything is kept.
func bounded(from, to time.Time, keep time.Duration) time.Time {
	if oldest := to.Add(-keep - time.Hour); from.Before(oldest) {
		return oldest
	}
	return from
}

// Fine returns the samples of a terminal from one time to another, of at most KeepFine, the oldest first.
func (k *Keeper) Fine(ctx context.Context, key protocol.KeyHash, from, to time.Time) ([]Sample, error) {
	from = bounded(from, to, KeepFine)
	var list []Sample
	add := func(s Sample) {
		if !s.At.Before(from) && !s.At.After(to) {
			list = append(list, s)
		}
	}
	running, now := k.now(key)
	err := k.each(ctx, "series_fine", "samples", key, from, to, func(hour int64, blob []byte) {
		if hour == running { // what is in memory is more
			return
		}
		for slot, v := range ordered(decodeFine(blob)) {
			add(Sample{time.Unix(hour*3600, 0).Add(time.Duration(slot) * Step), v})
		}
	})
	for _, s := range now {
		add(s)
	}
	return list, err
}

// Hours returns what the hours of a terminal came to, of at most KeepHours, the oldest first; the one that runs with what there is of it.
func (k *Keeper) Hours(ctx context.Context, key protocol.KeyHash, from, to time.Time) ([]Hour, error) {
	from = bounded(from, to, KeepHours)
	var list []Hour
	running, now := k.now(key)
	err := k.each(ctx, "series_hours", "figures", key, from, to, func(hour int64, blob []byte) {
		if h, ok := decodeHour(blob); ok && hour != running {
			h.At = time.Unix(hour*3600, 0)
			list = append(list, h)
		}
	})
	if at := time.Unix(running*3600, 0); len(now) > 0 && !at.After(to) {
		h := sum(now)
		h.At = at
		list = append(list, h)
	}
	return list, err
}

// now is what is gathered of a terminal in the hour that runs.
func (k *Keeper) now(key protocol.KeyHash) (hour int64, list []Sample) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.hours[key]; h != nil {
		list = h.samples(k.began)
	}
	return k.began, list
}
