package calls

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/protocol"
)

// Present is who else was there in a call, as the caller has said: never a name. It is no proof of anything.
type Present struct {
	At time.Time `json:"at"` // when it was said last
	// With are those who were with the caller, by number; nil: nothing was said.
	With *With `json:"with,omitempty"`
	// Home is who was in the room in the home, as the caller was told there: one of Homes. Empty: nothing was said.
	Home string `json:"home,omitempty"`
}

// With are those with a caller.
type With struct {
	Colleagues int `json:"colleagues"`
	Students   int `json:"students"`
	Others     int `json:"others"`
}

// Homes are who may be in the room in a home.
var Homes = []string{"alone", "helper", "relatives", "both", "others"}

const (
	mostWith      = 20
	presenceRate  = 1 // a second
	presenceBurst = 10
)

func (p *Present) valid() error {
	if w := p.With; w != nil {
		for _, n := range []int{w.Colleagues, w.Students, w.Others} {
			if n < 0 || n > mostWith {
				return fmt.Errorf("%w: %d persons with the caller", ErrBadRequest, n)
			}
		}
	}
	if p.Home != "" && !slices.Contains(Homes, p.Home) {
		return fmt.Errorf("%w: nobody such is in a home", ErrBadRequest)
	}
	return nil
}

// Present notes who is there in a person's call while it runs; what was said before is replaced.
func (s *Service) Present(ctx context.Context, person string, id protocol.CallID, p Present) error {
	if err := p.valid(); err != nil {
		return err
	}
	s.mu.Lock()
	c, err := s.own(person, id)
	if err == nil && c.state == Ended {
		err = fmt.Errorf("%w: the call is over", ErrBadRequest)
	}
	if err == nil && !c.presence.Allow() {
		err = fmt.Errorf("who is present: %w", ErrTooMany)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	p.At = time.Now()
	return s.records.present(ctx, person, id, p)
}

func (r *Records) present(ctx context.Context, person string, call protocol.CallID, p Present) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("who is present: %w", err)
	}
	return r.store.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "UPDATE calls SET present = ? WHERE call = ? AND person = ? AND ended = 0", b, call[:], person)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return fmt.Errorf("%w: %w", ErrBadRequest, errors.New("the call is over"))
	})
}

func readPresent(b []byte) Present {
	var p Present
	if len(b) == 0 || json.Unmarshal(b, &p) != nil || p.valid() != nil {
		return Present{}
	}
	return p
}
