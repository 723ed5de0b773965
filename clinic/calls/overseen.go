package calls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"vindu/clinic/store"
	"vindu/protocol"
)

// HomeCalls returns the calls to a home that began from a time on, the latest first, at most limit, as operators see them (Overseen).
func (s *Service) HomeCalls(ctx context.Context, home string, from time.Time, limit int) ([]Record, error) {
	return s.records.ofHome(ctx, home, from, limit)
}

// HomeCall returns one call as operators see it, whoever placed it. The error wraps ErrNotFound.
func (s *Service) HomeCall(ctx context.Context, id protocol.CallID) (Record, error) {
	return s.records.overseen(ctx, id)
}

func (r *Records) ofHome(ctx context.Context, home string, from time.Time, limit int) ([]Record, error) {
	list, err := r.query(ctx, " WHERE home = ? AND began >= ? AND rehearsal = 0 ORDER BY began DESC LIMIT ?", home, int64(protocol.At(from)), limit)
	for i := range list {
		if err == nil {
			err = r.diagnose(ctx, &list[i])
		}
		list[i] = list[i].Overseen()
	}
	return list, err
}

func (r *Records) overseen(ctx context.Context, call protocol.CallID) (Record, error) {
	rec, err := scanRecord(r.store.Read().QueryRowContext(ctx, selectRecord+" WHERE call = ?", call[:]).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Record{}, fmt.Errorf("call %s: %w", call, ErrNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record of call %s: %w", call, err)
	}
	err = r.diagnose(ctx, &rec)
	return rec.Overseen(), err
}

// Overseen is the record without what an operator has no need of to see why a call failed: who called, by name and number, what about and how urgently, who was there, and what
// the caller has signed. Role and organisation stay: they say whose computer it was.
func (r Record) Overseen() Record {
	r.Person = Person{Party: protocol.Party{Role: r.Person.Party.Role, Organisation: r.Person.Party.Organisation}}
	r.Errand, r.Urgent, r.Present, r.Proof, r.CallerEnd = "", false, Present{}, nil, nil
	return r
}

// ReadRecords reads the records of calls beside a running server: it closes none that run.
func ReadRecords(ctx context.Context, s *store.Store, held Conditions, log *slog.Logger) (*Records, error) {
	if err := s.Migrate(ctx, "calls", steps); err != nil {
		return nil, fmt.Errorf("records of calls: %w", err)
	}
	return &Records{store: s, log: log, Held: held}, nil
}

// Latest returns the calls, but for rehearsals, that were placed last and are over, in all homes, the latest first, at most limit, as operators see them.
func (r *Records) Latest(ctx context.Context, limit int) ([]Record, error) {
	list, err := r.query(ctx, " WHERE ended <> 0 AND rehearsal = 0 ORDER BY rowid DESC LIMIT ?", limit)
	for i := range list {
		if err == nil {
			err = r.diagnose(ctx, &list[i])
		}
		list[i] = list[i].Overseen()
	}
	return list, err
}
