package main

import (
	"context"
	"fmt"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/register"
)

const (
	// peoplePoll is how often the audit log is looked at for what has become of people.
	peoplePoll = time.Second
	// peopleAtOnce is how many entries are read at a time.
	peopleAtOnce = 500
	// peopleFailures is how many looks in a row may fail.
	peopleFailures = 10
)

// lessened are the entries after which a person may do, or be shown, less than before.
var lessened = map[string]bool{
	audit.PersonAssigned: true, audit.PasskeyRemoved: true, audit.PasskeyDisabled: true, audit.SessionsEnded: true, audit.GrantWithdrawn: true, audit.IdentityUnlinked: true,
}

// watchPeople acts on what becomes of people, whichever process does it: a page, or a command beside the server. Each of these writes what it does into the audit log in the
// transaction in which it does it, so that nothing else has to tell the server. The person's right to call is looked at anew, which ends calls (rightsEnded), and
// open pages ask whether they may still be shown.
func (s *server) watchPeople(ctx context.Context) error {
	tick := time.NewTicker(peoplePoll)
	defer tick.Stop()
	last, failures := int64(-1), 0
	for {
		err := s.people(ctx, &last)
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() == nil:
			if failures++; failures >= peopleFailures {
				return fmt.Errorf("watch what becomes of people: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// people acts on the entries above last, and advances it; below 0 it begins at the newest.
func (s *server) people(ctx context.Context, last *int64) error {
	if *last < 0 {
		newest, err := s.audit.Entries(ctx, -1, 1)
		if err == nil && len(newest) > 0 {
			*last = newest[0].N
		}
		return err
	}
	for {
		entries, err := s.audit.After(ctx, *last, peopleAtOnce)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if person, ok := register.PersonID(e.Subject); ok && lessened[e.What] {
				s.grants.Changed(person)
				s.pages.Dismiss(person)
			}
			*last = e.N
		}
		if len(entries) < peopleAtOnce {
			return nil
		}
	}
}
