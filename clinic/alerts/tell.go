package alerts

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"vindu/clinic/fleet"
	"vindu/protocol"
)

// alert is a row of alerts_sent.
type alert struct {
	n        int64
	terminal protocol.KeyHash
	home     string
	code     protocol.Code
	since    time.Time
	at       time.Time
	over     bool // it is the end that is to be told
}

// holding is what holds of a terminal that somebody may have to be told of, and since when. known says that what it lacks is over: of a terminal
// that is not heard of, only that is known.
func holding(s fleet.State) (codes map[protocol.Code]time.Time, known bool) {
	codes = map[protocol.Code]time.Time{}
	if !s.Online {
		if !s.Since.IsZero() {
			codes[protocol.SignalOffline] = s.Since
		}
		return codes, false
	}
	if s.Health == nil {
		return codes, false
	}
	since := map[protocol.Code]time.Time{}
	raised := make([]protocol.Code, 0, len(s.Health.Conditions))
	for _, c := range s.Health.Conditions {
		raised = append(raised, c.Code)
		since[c.Code] = c.Since.Time()
	}
	for _, c := range protocol.Showing(raised) {
		if f := protocol.Explain(c); f.Severity == protocol.Serious || f.Severity == protocol.Alarm {
			codes[c] = since[c]
		}
	}
	return codes, true
}

// Run tells of alerts until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if s.c.Hook == nil {
		<-ctx.Done()
		return nil
	}
	pause, swept := time.Duration(0), time.Time{}
	for {
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.c.Log.Error("what is to be told of terminals cannot be kept", "error", err)
		}
		if now := s.c.now(); now.Sub(swept) > sweep {
			if err := s.sweep(ctx, now); err != nil && ctx.Err() == nil {
				s.c.Log.Warn("old alerts are not swept", "error", err)
			}
			swept = now
		}
		wait := look
		if pause <= 0 {
			if err := s.tell(ctx); err != nil && ctx.Err() == nil {
				s.c.Log.Warn("the webhook does not take an alert; it is told again", "error", err)
				pause = s.c.Hook.pause()
			} else {
				s.c.Hook.failures = 0
			}
		} else {
			pause -= wait
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// pause grows with each failure in a row, from look to five minutes, with jitter.
func (h *Hook) pause() time.Duration {
	h.failures = min(h.failures+1, 5)
	return time.Duration((0.5 + rand.Float64()) * float64(min(look<<h.failures, 5*time.Minute)))
}

// hears looks whether terminals can be heard of at all. settled: for so long that who is not heard of is away; down: since when none can be, if that is to be told, else zero.
func (s *Service) hears(now time.Time) (settled bool, down time.Time) {
	if up := s.c.Fleet.Up(); up != s.up || s.since.IsZero() {
		s.up, s.since = up, now
	}
	switch lasts := now.Sub(s.since); {
	case s.up:
		return lasts >= max(s.c.After, reconnect), time.Time{}
	case lasts >= max(s.c.After, leastPause):
		return false, s.since
	}
	return false, time.Time{}
}

// look notes what has begun and what is over.
func (s *Service) look(ctx context.Context) error {
	homes, err := s.c.Homes.Homes(ctx)
	if err != nil {
		return err
	}
	marks, err := s.Marks(ctx)
	if err != nil {
		return err
	}
	open, err := s.open(ctx)
	if err != nil {
		return err
	}
	states, now := s.c.Fleet.States(), s.c.now()
	lately, err := s.lately(ctx, now)
	if err != nil {
		return err
	}
	type begun struct {
		terminal protocol.KeyHash
		home     string
		code     protocol.Code
		since    time.Time
	}
	var begins []begun
	over := map[int64]bool{}
	for _, codes := range open {
		for _, a := range codes {
			over[a.n] = true // unless it is found to hold, or may
		}
	}
	settled, down := s.hears(now)
	clinic := protocol.KeyHash{} // what is told without a home
	if a, ok := open[clinic][protocol.SignalBroker]; ok && !s.up {
		delete(over, a.n)
	} else if !ok && !down.IsZero() && !lately[clinic][protocol.SignalBroker] {
		begins = append(begins, begun{clinic, "", protocol.SignalBroker, down})
	}
	for _, h := range homes {
		if (h.Terminal == protocol.KeyHash{}) {
			continue
		}
		state, heard := states[h.Terminal]
		codes, known := holding(state)
		for code, since := range codes {
			if a, ok := open[h.Terminal][code]; ok {
				delete(over, a.n)
				continue
			}
			if code == protocol.SignalOffline && !settled {
				continue
			}
			if m, ok := marks[h.Terminal][code]; ok && m.Holds(since, now) || now.Sub(since) < s.c.After || lately[h.Terminal][code] {
				continue
			}
			begins = append(begins, begun{h.Terminal, h.ID, code, since})
		}
		if known && heard {
			continue
		}
		for code, a := range open[h.Terminal] {
			if code != protocol.SignalOffline || !state.Online {
				delete(over, a.n)
			}
		}
	}
	alarms, err := s.alarms(ctx)
	if err != nil {
		return err
	}
	for _, codes := range open {
		for _, a := range codes {
			if a.happened() {
				over[a.n] = true // unless nobody has settled it, whether its terminal is heard or not
			}
		}
	}
	for _, f := range alarms {
		if a, ok := open[f.terminal][f.code]; ok {
			delete(over, a.n)
		} else {
			begins = append(begins, begun{f.terminal, f.home, f.code, f.since})
		}
	}
	if len(begins) == 0 && len(over) == 0 {
		return nil
	}
	return s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		for _, b := range begins {
			if _, err := tx.ExecContext(ctx, "INSERT INTO alerts_sent (terminal, home, code, since, raised) VALUES (?, ?, ?, ?, ?)", b.terminal[:], b.home, string(b.code), milli(b.since), now.UnixMilli()); err != nil {
				return err
			}
		}
		for n := range over {
			if _, err := tx.ExecContext(ctx, "UPDATE alerts_sent SET cleared = ? WHERE n = ?", now.UnixMilli(), n); err != nil {
				return err
			}
		}
		return nil
	})
}

// lately returns what was over only lately: since when a condition holds its terminal says, and one that is not honest could have itself told of all the time.
func (s *Service) lately(ctx context.Context, now time.Time) (map[protocol.KeyHash]map[protocol.Code]bool, error) {
	list, err := s.alerts(ctx, "SELECT n, terminal, home, code, since, cleared, 1 FROM alerts_sent WHERE cleared > ?", now.Add(-max(s.c.After, leastPause)).UnixMilli())
	if err != nil {
		return nil, err
	}
	lately := map[protocol.KeyHash]map[protocol.Code]bool{}
	for _, a := range list {
		if lately[a.terminal] == nil {
			lately[a.terminal] = map[protocol.Code]bool{}
		}
		lately[a.terminal][a.code] = true
	}
	return lately, nil
}

// open returns the alerts that are not over.
func (s *Service) open(ctx context.Context) (map[protocol.KeyHash]map[protocol.Code]alert, error) {
	list, err := s.alerts(ctx, "SELECT n, terminal, home, code, since, raised, 0 FROM alerts_sent WHERE cleared IS NULL")
	if err != nil {
		return nil, err
	}
	open := map[protocol.KeyHash]map[protocol.Code]alert{}
	for _, a := range list {
		if open[a.terminal] == nil {
			open[a.terminal] = map[protocol.Code]alert{}
		}
		open[a.terminal][a.code] = a
	}
	return open, nil
}

func (s *Service) alerts(ctx context.Context, query string, args ...any) (list []alert, err error) {
	rows, err := s.c.Store.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var a alert
		var terminal []byte
		var since, at int64
		if err := rows.Scan(&a.n, &terminal, &a.home, &a.code, &since, &at, &a.over); err != nil {
			return nil, fmt.Errorf("read alerts: %w", err)
		}
		copy(a.terminal[:], terminal)
		a.since, a.at = fromMilli(since), fromMilli(at)
		list = append(list, a)
	}
	return list, rows.Err()
}

// tell tells what was not told yet, in the order in which it happened, and stops at the first that is not taken.
func (s *Service) tell(ctx context.Context) error {
	list, err := s.alerts(ctx, `SELECT n, terminal, home, code, since, raised AS at, 0 AS over FROM alerts_sent WHERE raised_told IS NULL
		UNION ALL SELECT n, terminal, home, code, since, cleared, 1 FROM alerts_sent WHERE cleared IS NOT NULL AND cleared_told IS NULL
		ORDER BY at, n, over LIMIT ?`, atOnce)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := s.c.Hook.post(ctx, a, s.c.now()); err != nil {
			return err
		}
		column := "raised_told"
		if a.over {
			column = "cleared_told"
		}
		err := s.c.Store.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE alerts_sent SET "+column+" = ? WHERE n = ?", s.c.now().UnixMilli(), a.n)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep forgets alerts that were over long ago, told or not, and silences that have ended as long ago.
func (s *Service) sweep(ctx context.Context, now time.Time) error {
	before := now.Add(-keep).UnixMilli()
	return s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM alerts_sent WHERE cleared < ?", before); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM condition_marks WHERE at < ? AND until < ?", now.Add(-365*24*time.Hour).UnixMilli(), before)
		return err
	})
}
