package grants

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/register"
	"vindu/protocol"
)

// issued is an authorisation that was made and not ended.
type issued struct {
	n      int64
	body   []byte
	key    []byte
	signed []byte // nil: it waits
	a      *protocol.Authorisation
}

func openAuthorisations(ctx context.Context, q queryer, person string) (list []issued, err error) {
	rows, err := q.QueryContext(ctx, "SELECT n, body, key, signed FROM grant_authorisations WHERE person = ? AND ended IS NULL ORDER BY n", person)
	if err != nil {
		return nil, fmt.Errorf("read authorisations: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		i := issued{a: new(protocol.Authorisation)}
		if err := rows.Scan(&i.n, &i.body, &i.key, &i.signed); err != nil {
			return nil, fmt.Errorf("read authorisations: %w", err)
		}
		if err := protocol.Decode(i.body, i.a); err != nil {
			return nil, fmt.Errorf("read authorisations: %w", err)
		}
		list = append(list, i)
	}
	return list, rows.Err()
}

// wanted is what a person is to have: nil if none.
func (s *Service) wanted(ctx context.Context, q queryer, person string) (*protocol.Authorisation, Grant, error) {
	g, err := current(ctx, q, person)
	if err != nil {
		return nil, Grant{}, err
	}
	now := s.now()
	if !g.Holds(now) {
		return nil, g, fmt.Errorf("person %s: from %s to %s: %w", person, g.From.Format(time.DateTime), g.To.Format(time.DateTime), ErrNoGrant)
	}
	p, err := s.Register.Person(ctx, person)
	if err != nil {
		return nil, g, err
	}
	if p.Duty != register.Clinician {
		return nil, g, fmt.Errorf("person %s has not the duty of a clinician: %w", person, ErrNoGrant)
	}
	credentials, err := s.Passkeys.Credentials(ctx, person)
	if err != nil {
		return nil, g, err
	}
	if len(credentials) == 0 {
		return nil, g, fmt.Errorf("person %s: %w", person, ErrNoPasskey)
	}
	slices.SortFunc(credentials, func(a, b protocol.Credential) int { return bytes.Compare(a.ID, b.ID) })
	from := now.Add(-backdate)
	if from.Before(g.From) {
		from = g.From
	}
	to := from.Add(s.Life)
	if to.After(g.To) {
		to = g.To
	}
	return &protocol.Authorisation{
		Version: protocol.Version, Person: person, Party: p.Party, Employment: g.Employment, Group: g.Callers, Credentials: credentials,
		Scope: g.Scope, From: protocol.At(from), To: protocol.At(to),
	}, g, nil
}

// none tells whether an error says that a person is to have no authorisation, rather than that something failed.
func none(err error) bool { return errors.Is(err, ErrNoGrant) || errors.Is(err, ErrNoPasskey) }

func sameCredentials(a, b []protocol.Credential) bool {
	return slices.EqualFunc(a, b, func(a, b protocol.Credential) bool { return bytes.Equal(a.ID, b.ID) && bytes.Equal(a.Key, b.Key) })
}

func same(a, b *protocol.Authorisation) bool {
	return a.Party == b.Party && a.Employment == b.Employment && a.Group == b.Group && sameCredentials(a.Credentials, b.Credentials) &&
		slices.Equal(a.Scope.Homes, b.Scope.Homes) && slices.Equal(a.Scope.Groups, b.Scope.Groups)
}

// less tells whether old lets somebody do what fresh does not.
func less(old, fresh *protocol.Authorisation, until time.Time) bool {
	within := func(a, b []string) bool {
		return !slices.ContainsFunc(a, func(n string) bool { return !slices.Contains(b, n) })
	}
	return old.Group != fresh.Group || old.Employment != fresh.Employment || old.To.Time().After(until) ||
		!within(old.Scope.Homes, fresh.Scope.Homes) || !within(old.Scope.Groups, fresh.Scope.Groups) ||
		slices.ContainsFunc(old.Credentials, func(c protocol.Credential) bool {
			return !slices.ContainsFunc(fresh.Credentials, func(o protocol.Credential) bool { return bytes.Equal(o.ID, c.ID) && bytes.Equal(o.Key, c.Key) })
		})
}

// lead is how long before its end an authorisation is made anew: where somebody has to carry it to another machine, half its life.
func (s *Service) lead() time.Duration {
	if s.Authority.KeyHere() {
		return renewBefore
	}
	return s.Life / 2
}

// fits tells whether what was made is still what is wanted, and for long enough.
func (s *Service) fits(i issued, want *protocol.Authorisation) bool {
	return same(i.a, want) && bytes.Equal(i.key, s.Authority.Authorities()[0]) && i.a.From <= protocol.At(s.now().Add(time.Minute)) &&
		(i.a.To >= want.To || i.a.To.Time().Sub(s.now()) > s.lead()) && i.a.To <= max(want.To, i.a.From+protocol.Time(s.Life.Milliseconds()))
}

// settled tells, without writing, whether nothing is to be done for a person.
func (s *Service) settled(list []issued, want *protocol.Authorisation, until time.Time) bool {
	if want == nil {
		return len(list) == 0
	}
	if len(list) == 0 {
		return false
	}
	last := list[len(list)-1]
	if !s.fits(last, want) || last.a.To.Time().After(until) || (last.signed == nil && s.Authority.KeyHere()) {
		return false
	}
	for _, i := range list[:len(list)-1] {
		if last.signed != nil || less(i.a, want, until) || !s.now().Before(i.a.To.Time()) || i.signed == nil {
			return false
		}
	}
	return true
}

// authorise brings a person's authorisations in line with the grant and the passkeys: ends those that allow more than they should, and makes the next. It runs in a
// transaction, so that it sees what no other changes meanwhile.
func (s *Service) authorise(ctx context.Context, tx *sql.Tx, person string) error {
	want, g, err := s.wanted(ctx, tx, person)
	why := err
	if err != nil && !none(err) {
		return err
	}
	list, err := openAuthorisations(ctx, tx, person)
	if err != nil {
		return err
	}
	if s.settled(list, want, g.To) {
		return nil
	}
	now := s.now()
	end := func(i issued) error {
		_, err := tx.ExecContext(ctx, "UPDATE grant_authorisations SET ended = ? WHERE n = ?", now.UnixMilli(), i.n)
		return err
	}
	reduced := ""
	var fitting *issued
	for k, i := range list {
		switch {
		case want == nil:
			reduced = why.Error()
		case less(i.a, want, g.To):
			reduced = "the grant or the passkeys have changed"
		case !now.Before(i.a.To.Time()):
		case k == len(list)-1 && s.fits(i, want) && (i.signed != nil || !s.Authority.KeyHere()):
			fitting = &list[k]
			continue
		case i.signed != nil && !s.Authority.KeyHere() && !slices.ContainsFunc(list[k+1:], func(o issued) bool { return o.signed != nil }):
			continue // holds until the next one is signed
		}
		if err := end(i); err != nil {
			return fmt.Errorf("end authorisation: %w", err)
		}
	}
	if reduced != "" {
		if err := s.noteEnd(ctx, tx, person, reduced); err != nil {
			return err
		}
	}
	if want == nil || fitting != nil {
		return nil
	}
	return s.issue(ctx, tx, g, want)
}

// noteEnd tells those who Watch.
func (s *Service) noteEnd(ctx context.Context, tx *sql.Tx, person, why string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO grant_ends (person, at, why) VALUES (?, ?, ?)", person, s.now().UnixMilli(), why)
	return err
}

func (s *Service) issue(ctx context.Context, tx *sql.Tx, g Grant, a *protocol.Authorisation) error {
	a.ID = protocol.NewNonce()
	body, err := protocol.Encode(a)
	if err == nil && len(body) > protocol.MaxAuthorisation-signatureRoom {
		err = protocol.ErrTooLarge
	}
	if errors.Is(err, protocol.ErrTooLarge) || errors.Is(err, protocol.ErrMalformed) {
		return fmt.Errorf("make authorisation: it %w: too many homes, groups of homes or passkeys for one person (at most %d of each of the first, %d passkeys, %d bytes in all): put homes into a group: %w",
			ErrBounds, protocol.MaxScope, protocol.MaxCredentials, protocol.MaxAuthorisation, err)
	}
	if err != nil {
		return fmt.Errorf("make authorisation: %w", err)
	}
	signed, err := s.Authority.SignAuthorisation(a)
	if err != nil && !errors.Is(err, authority.ErrKeyElsewhere) {
		return err
	}
	now := s.now()
	if _, err := tx.ExecContext(ctx, "INSERT INTO grant_authorisations (id, grant_id, person, body, key, signed, valid_from, valid_to, made) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		a.ID[:], g.ID, a.Person, body, s.Authority.Authorities()[0], signed, int64(a.From), int64(a.To), now.UnixMilli()); err != nil {
		return fmt.Errorf("keep authorisation: %w", err)
	}
	detail := map[string]string{"grant": g.ID, "authorisation": fmt.Sprintf("%x", a.ID[:]), "until": a.To.Time().UTC().Format(time.RFC3339), "passkeys": fmt.Sprint(len(a.Credentials))}
	if signed == nil {
		detail["waits"] = "to be signed"
	}
	return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: "clinic", What: audit.Authorised, Subject: register.Person{ID: a.Person}.Who(), Detail: detail})
}

// signatureRoom is what COSE_Sign1 adds to a payload, and a little more.
const signatureRoom = 256

// refresh is authorise where something is to be done.
func (s *Service) refresh(ctx context.Context, person string) error {
	want, g, err := s.wanted(ctx, s.Store.Read(), person)
	if err != nil && !none(err) {
		return err
	}
	list, err := openAuthorisations(ctx, s.Store.Read(), person)
	if err != nil {
		return err
	}
	if s.settled(list, want, g.To) {
		return nil
	}
	return s.Store.Write(ctx, func(tx *sql.Tx) error { return s.authorise(ctx, tx, person) })
}

// Current returns the authorisation by which a person calls now. The error wraps ErrNoGrant, ErrNoPasskey or ErrWaits.
func (s *Service) Current(ctx context.Context, person string) (signed []byte, a *protocol.Authorisation, err error) {
	if err := s.refresh(ctx, person); err != nil {
		return nil, nil, fmt.Errorf("authorise person %s: %w", person, err)
	}
	if _, _, err := s.wanted(ctx, s.Store.Read(), person); err != nil {
		return nil, nil, fmt.Errorf("authorise: %w", err)
	}
	list, err := openAuthorisations(ctx, s.Store.Read(), person)
	if err != nil {
		return nil, nil, fmt.Errorf("authorise person %s: %w", person, err)
	}
	now := protocol.At(s.now())
	for _, i := range slices.Backward(list) {
		if i.signed != nil && s.believed(i.key) && i.a.From <= now && now < i.a.To {
			return i.signed, i.a, nil
		}
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("authorise person %s: %w", person, ErrNoGrant)
	}
	return nil, nil, fmt.Errorf("authorise person %s: %w: %w", person, ErrWaits, authority.ErrKeyElsewhere)
}

// Waits reports whether an authorisation of a person waits to be signed.
func (s *Service) Waits(ctx context.Context, person string) (waits bool, err error) {
	if err := s.Store.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM grant_authorisations WHERE person = ? AND signed IS NULL AND ended IS NULL)", person).Scan(&waits); err != nil {
		return false, fmt.Errorf("read authorisations: %w", err)
	}
	return waits, nil
}

// KeyHere reports whether what is decided here is signed here, too, at once.
func (s *Service) KeyHere() bool { return s.Authority.KeyHere() }

// Permits reports whether a person may call a home now, by an authorisation that is signed. It is what a call service asks again when Watch has told it of a person.
func (s *Service) Permits(ctx context.Context, person, home string) (bool, error) {
	_, a, err := s.Current(ctx, person)
	if none(err) || errors.Is(err, ErrWaits) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	groups, err := s.HomeGroups(ctx, home)
	if err != nil {
		return false, err
	}
	return a.Scope.Contains(home, groups), nil
}
