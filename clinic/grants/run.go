package grants

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"vindu/protocol"
)

const (
	// sweep is how often authorisations are compared with grants and passkeys, and policies with what they follow from, which commands beside the server change.
	sweep = 3 * time.Second
	// sweepAll is how often policies of all terminals are compared, whether something is known to have changed or not.
	sweepAll = time.Minute
	// endPoll is how often it is looked for who may do less than before.
	endPoll = time.Second
	// tellEvery is how far apart terminals are told to fetch their settings, so that a fleet does not come at once.
	tellEvery = 20 * time.Millisecond
	// patience is how many looks in a row may fail.
	patience = 10
)

// Changed is for the passkeys to tell that those of a person have changed. It does not block.
func (s *Service) Changed(person string) {
	select {
	case s.asked <- person:
	default: // the next sweep looks at everybody
	}
}

// Run keeps authorisations and policies in line with what they follow from, until ctx ends. It has tell called for each terminal that is to fetch its settings again: its
// policy is another, or the trust is; tell may fail, since terminals fetch them by themselves when they connect and once an hour. tell may be nil.
func (s *Service) Run(ctx context.Context, tell func(ctx context.Context, terminal protocol.KeyHash) error) error {
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	var seen int64
	var trust []byte
	if signed, _ := s.Authority.Trust(); signed != nil {
		trust = signed
	}
	last := time.Time{}
	told := map[protocol.KeyHash]uint64{} // serial numbers
	for {
		if err := s.sweepPersons(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("persons cannot be authorised; trying again", "error", err)
		}
		now, count, err := time.Now(), int64(0), error(nil)
		if err = s.Store.Read().QueryRowContext(ctx, "SELECT n FROM grant_changes").Scan(&count); err == nil {
			signed, _ := s.Authority.Trust()
			all := !bytes.Equal(signed, trust)
			if all || count != seen || now.Sub(last) >= sweepAll {
				if err = s.sweepTerminals(ctx, tell, told, all); err == nil {
					seen, trust, last = count, signed, now
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			s.Log.Error("terminals' policies cannot be made; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case person := <-s.asked:
			if err := s.refresh(ctx, person); err != nil && ctx.Err() == nil {
				s.Log.Error("person cannot be authorised; trying again", "person", person, "error", err)
			}
		}
	}
}

func (s *Service) sweepPersons(ctx context.Context) error {
	rows, err := s.Store.Read().QueryContext(ctx, "SELECT person FROM grants WHERE ended IS NULL UNION SELECT person FROM grant_authorisations WHERE ended IS NULL")
	if err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	var persons []string
	for rows.Next() {
		var p string
		if err = rows.Scan(&p); err != nil {
			break
		}
		persons = append(persons, p)
	}
	if closed := rows.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = rows.Err()
	}
	if err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	for _, p := range persons { // one must not keep the others waiting
		if e := s.refresh(ctx, p); e != nil && err == nil {
			err = fmt.Errorf("person %s: %w", p, e)
		}
	}
	return err
}

func (s *Service) sweepTerminals(ctx context.Context, tell func(context.Context, protocol.KeyHash) error, told map[protocol.KeyHash]uint64, all bool) error {
	homes, err := s.Register.Homes(ctx)
	if err != nil {
		return err
	}
	for _, h := range homes {
		if h.Terminal == (protocol.KeyHash{}) {
			continue
		}
		made, e := s.ensurePolicy(ctx, h.Terminal)
		if e != nil {
			if err == nil {
				err = fmt.Errorf("home %s: %w", h.ID, e)
			}
			continue
		}
		newest, e := newestPolicy(ctx, s.Store.Read(), h.Terminal, "AND signed IS NOT NULL")
		if e != nil {
			return e
		}
		if newest != nil { // it may have been signed elsewhere, and taken back by a command
			before, known := told[h.Terminal]
			made = made || known && before != newest.p.Serial
			told[h.Terminal] = newest.p.Serial
		}
		if !made && !all || tell == nil {
			continue
		}
		if e := tell(ctx, h.Terminal); e != nil {
			s.Log.Debug("terminal is not told to fetch its settings; it does so by itself", "terminal", h.Terminal, "error", e)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tellEvery):
		}
	}
	return err
}

// Watch calls ended for each person who may do less than before from now on, by whichever process: the grant was withdrawn, is over or has become narrower, or a passkey is gone. Whoever
// owns calls ends those of that person that Permits does not permit any more (R29). It returns when ctx ends, or with an error if the database cannot be read.
func (s *Service) Watch(ctx context.Context, ended func(person string)) error {
	last, failures := int64(-1), 0
	tick := time.NewTicker(endPoll)
	defer tick.Stop()
	for {
		if err := s.endsSince(ctx, &last, ended); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			if failures++; failures >= patience {
				return fmt.Errorf("watch for persons who lost their right to call: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Service) endsSince(ctx context.Context, last *int64, ended func(string)) error {
	if *last < 0 { // no call is older than the server
		return s.Store.Read().QueryRowContext(ctx, "SELECT coalesce(max(n), 0) FROM grant_ends").Scan(last)
	}
	rows, err := s.Store.Read().QueryContext(ctx, "SELECT n, person FROM grant_ends WHERE n > ? ORDER BY n", *last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var person string
		if err := rows.Scan(last, &person); err != nil {
			return err
		}
		ended(person)
	}
	return rows.Err()
}
