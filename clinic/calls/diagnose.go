package calls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"vindu/clinic/diagnosis"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Conditions tells what held of a terminal at any time from one instant to another; fleet.Fleet's Held is one.
type Conditions func(ctx context.Context, terminal protocol.KeyHash, from, to time.Time) ([]protocol.Code, error)

// For so long after a call a condition that begins may still be why it ended: of the network, because it is looked at in steps; of power, because a terminal
// finds it at its next start; of what gets out of the home's network, because a terminal looks at that after a call that found no path, or only a relayed one.
var foundAfter = map[string]time.Duration{"ip": 30 * time.Second, "link": 30 * time.Second, "egress": 2 * time.Minute, "power": 10 * time.Minute}

// held returns what held of a call's terminal while it ran, and soon after what may still be why it ended.
func (r *Records) held(ctx context.Context, rec *Record) ([]protocol.Code, error) {
	held, err := r.Held(ctx, rec.Terminal, rec.Began, rec.EndedAt)
	if err != nil {
		return nil, fmt.Errorf("conditions during call %s: %w", rec.Call, err)
	}
	for stage, after := range foundAfter {
		later, err := r.Held(ctx, rec.Terminal, rec.EndedAt, rec.EndedAt.Add(after))
		if err != nil {
			return nil, fmt.Errorf("conditions after call %s: %w", rec.Call, err)
		}
		for _, c := range later {
			if c.Stage() == stage {
				held = append(held, c)
			}
		}
	}
	return held, nil
}

// diagnose says what became of a call that has ended. It is worked out when it is read: a half, or a condition, that comes late makes it better.
func (r *Records) diagnose(ctx context.Context, rec *Record) error {
	if rec.Outcome == "" {
		return nil
	}
	e := diagnosis.Evidence{
		Outcome: rec.Outcome, Clinic: rec.clinic, Rang: !rec.RangAt.IsZero(), Talked: !rec.TalkingAt.IsZero(), NeverLeft: rec.NeverLeft, RelayOnly: rec.RelayOnly,
		Terminal: rec.TerminalHalf, Caller: rec.CallerHalf,
	}
	if r.Held != nil && !rec.NeverLeft && (rec.Terminal != protocol.KeyHash{}) {
		var err error
		if e.Held, err = r.held(ctx, rec); err != nil {
			return err
		}
	}
	rec.Diagnosis = diagnosis.Diagnose(e)
	return nil
}

// maxAttempts is how many attempts that never left the page are kept of a person within an hour: a page that goes wrong fills no database.
const maxAttempts = 60

// Attempt keeps the page's half of an attempt that never left it: nobody was asked to call anybody. Only such outcomes are taken. If there is a call of this
// name after all, the half is that call's.
func (s *Service) Attempt(ctx context.Context, person Person, home string, half *protocol.CallRecord) error {
	if half.By != protocol.SideCaller || !staysInPage(half.Outcome) {
		return fmt.Errorf("%w: not an attempt that ends in a page", ErrBadRequest)
	}
	h, err := s.register.Home(ctx, home)
	if errors.Is(err, register.ErrNotFound) {
		return fmt.Errorf("attempt: %w: %w", ErrNotFound, err)
	}
	if err != nil {
		return fmt.Errorf("attempt: %w", err)
	}
	return s.records.attempt(ctx, person, h, half)
}

// staysInPage tells whether an attempt can end so without the clinic having been asked for a call.
func staysInPage(c protocol.Code) bool {
	switch c {
	case protocol.EndCallerHungUp, protocol.EndPageClosed, protocol.SignalLostClinic, protocol.AuthNone, protocol.EndPasskeyRemoved:
		return true
	}
	return strings.HasPrefix(string(c), "browser.") && protocol.Known(c)
}

func (r *Records) attempt(ctx context.Context, person Person, home register.Home, half *protocol.CallRecord) error {
	b, err := protocol.Encode(half)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	now := time.Now()
	err = r.store.Write(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM calls WHERE person = ? AND never_left = 1 AND began > ?",
			person.ID, int64(protocol.At(now.Add(-time.Hour)))).Scan(&n); err != nil {
			return err
		}
		if n >= maxAttempts {
			return fmt.Errorf("attempts of a person within an hour: %w", ErrTooMany)
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO calls (call, person, name, role, organisation, home, home_label, terminal, spki, errand, relay_only,
			began, ended, outcome, caller_half, never_left) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?, ?, ?, ?, 1) ON CONFLICT (call) DO NOTHING`,
			half.Call[:], person.ID, person.Party.Name, person.Party.Role, person.Party.Organisation, home.ID, home.Label, home.Terminal[:], nonNil(home.SPKI),
			int64(protocol.At(now)), int64(protocol.At(now)), string(half.Outcome), b)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return errKnown
		}
		return nil
	})
	if errors.Is(err, errKnown) {
		return r.callerHalf(ctx, person.ID, half.Call, half)
	}
	if err != nil {
		return fmt.Errorf("keep an attempt: %w", err)
	}
	return nil
}

var errKnown = errors.New("there is a call of this name")
