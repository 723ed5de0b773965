// Package grants holds who may call which homes, and what the homes' terminals do about it (R11, R14, R27 to R29).
//
// An administrator gives a person a grant: employment, group of callers, homes and groups of homes, from when to when, and why. A person has one at a time. From it and
// from the person's passkeys follow authorisations (protocol.Authorisation) of a few days each, which terminals verify by themselves; they are renewed
// as long as the grant holds, and made anew when passkeys or scope change. So somebody who has left is out of every home within days, also where nobody can
// tell the terminal (R29).
//
// A policy (protocol.Policy) is made for each terminal: from what the clinic wants everywhere and what differs in one home, with the groups to which the home
// belongs. Its serial number is the time in milliseconds, if that is more than the highest so far: it rises through a restore from a backup, too.
//
// Both are signed by the authorisation key. Where that is on another machine they wait (Waiting), are signed there (Sign), and are taken back (Accept) only if they are, to
// the byte, what waits.
//
// Nothing is ever deleted or rewritten (R17): the tables refuse it. Each change is in the audit log, in the same transaction.
package grants

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/register"
	"vindu/clinic/signing"
	"vindu/clinic/store"
	"vindu/protocol"
)

const (
	// MaxGrant bounds a grant's time.
	MaxGrant = 5 * 366 * 24 * time.Hour
	// ReviewAfter is how old a grant becomes before somebody is to look at it again (R28).
	ReviewAfter = 365 * 24 * time.Hour
	// backdate is how far back an authorisation begins, for terminals whose clock is a little behind.
	backdate = 5 * time.Minute
	// renewBefore is how long before its end an authorisation is renewed.
	renewBefore = 24 * time.Hour
	maxName     = 64 // as protocol has it for names in a scope
)

var (
	// ErrNoGrant is wrapped when a person has no grant that holds now.
	ErrNoGrant = errors.New("not authorised to call")
	// ErrNoPasskey is wrapped when a person has a grant but no passkey to call with.
	ErrNoPasskey = errors.New("no passkey to call with")
	// ErrWaits is wrapped when an authorisation was made and not signed yet, because the key is elsewhere.
	ErrWaits = errors.New("the authorisation waits to be signed")
	// ErrBounds is wrapped when a grant, group or policy is asked for that cannot be. A *Flaw says which part of it.
	ErrBounds = errors.New("cannot be")
	// ErrChanged is wrapped when somebody else has changed meanwhile what was to be changed.
	ErrChanged = errors.New("somebody else has changed it meanwhile")
)

// Flaw is what cannot be in one field of what was asked for. It wraps what is wrong.
type Flaw struct {
	Field string // such as "reason", as the struct's field is called in lower case
	err   error
}

func (f *Flaw) Error() string { return f.err.Error() }

// Unwrap returns what is wrong.
func (f *Flaw) Unwrap() error { return f.err }

func flaw(field string, err error) error {
	if err == nil {
		return nil
	}
	return &Flaw{field, err}
}

// Flaws returns all that there are in an error.
func Flaws(err error) (list []*Flaw) {
	switch e := err.(type) { // a tree of which every branch counts; errors.As would find one
	case nil:
	case *Flaw:
		list = append(list, e)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			list = append(list, Flaws(one)...)
		}
	default:
		list = Flaws(errors.Unwrap(err))
	}
	return list
}

var steps = []string{
	`CREATE TABLE grants (
		n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, person TEXT NOT NULL, employment TEXT NOT NULL, callers TEXT NOT NULL,
		homes TEXT NOT NULL, home_groups TEXT NOT NULL, -- JSON, ascending
		valid_from INTEGER NOT NULL, valid_to INTEGER NOT NULL, reason TEXT NOT NULL, given INTEGER NOT NULL, given_by TEXT NOT NULL, renews TEXT,
		ended INTEGER, ended_by TEXT, ended_why TEXT
	) STRICT`,
	`CREATE UNIQUE INDEX grants_current ON grants (person) WHERE ended IS NULL`,
	`CREATE TRIGGER grants_keep BEFORE DELETE ON grants BEGIN SELECT RAISE(ABORT, 'grants are kept'); END`,
	`CREATE TRIGGER grants_fix BEFORE UPDATE ON grants WHEN OLD.ended IS NOT NULL OR NEW.n <> OLD.n OR NEW.id <> OLD.id OR NEW.person <> OLD.person OR
		NEW.employment <> OLD.employment OR NEW.callers <> OLD.callers OR NEW.homes <> OLD.homes OR NEW.home_groups <> OLD.home_groups OR NEW.valid_from <> OLD.valid_from OR
		NEW.valid_to <> OLD.valid_to OR NEW.reason <> OLD.reason OR NEW.given <> OLD.given OR NEW.given_by <> OLD.given_by OR NEW.renews IS NOT OLD.renews
		BEGIN SELECT RAISE(ABORT, 'grants are not rewritten'); END`,
	`CREATE TABLE grant_authorisations (
		n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, grant_id TEXT NOT NULL REFERENCES grants (id), person TEXT NOT NULL,
		body BLOB NOT NULL, key BLOB NOT NULL, -- the SPKI of the key that signs it
		signed BLOB, valid_from INTEGER NOT NULL, valid_to INTEGER NOT NULL, made INTEGER NOT NULL, accepted INTEGER, ended INTEGER
	) STRICT`,
	`CREATE INDEX grant_authorisations_person ON grant_authorisations (person, n)`,
	`CREATE TRIGGER grant_authorisations_keep BEFORE DELETE ON grant_authorisations BEGIN SELECT RAISE(ABORT, 'authorisations are kept'); END`,
	`CREATE TRIGGER grant_authorisations_fix BEFORE UPDATE ON grant_authorisations WHEN OLD.ended IS NOT NULL OR NEW.n <> OLD.n OR NEW.id <> OLD.id OR NEW.grant_id <> OLD.grant_id OR
		NEW.person <> OLD.person OR NEW.body <> OLD.body OR NEW.key <> OLD.key OR (OLD.signed IS NOT NULL AND NEW.signed <> OLD.signed) OR NEW.valid_from <> OLD.valid_from OR NEW.valid_to <> OLD.valid_to
		BEGIN SELECT RAISE(ABORT, 'authorisations are not rewritten'); END`,
	// Each time that a person may do less than before, in the order in which it happened.
	`CREATE TABLE grant_ends (n INTEGER PRIMARY KEY, person TEXT NOT NULL, at INTEGER NOT NULL, why TEXT NOT NULL) STRICT`,
	`CREATE TABLE grant_home_groups (home TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (home, name)) STRICT`,
	`CREATE TABLE grant_policy_settings ( -- the newest of a home counts; of the home '' is what holds everywhere
		n INTEGER PRIMARY KEY, home TEXT NOT NULL, body TEXT NOT NULL, changed INTEGER NOT NULL, changed_by TEXT NOT NULL
	) STRICT`,
	`CREATE INDEX grant_policy_settings_home ON grant_policy_settings (home, n)`,
	`CREATE TABLE grant_policies (
		serial INTEGER PRIMARY KEY, terminal BLOB NOT NULL, home TEXT NOT NULL, body BLOB NOT NULL, key BLOB NOT NULL, signed BLOB, made INTEGER NOT NULL, accepted INTEGER
	) STRICT`,
	`CREATE INDEX grant_policies_terminal ON grant_policies (terminal, serial)`,
	`CREATE TABLE grant_changes (n INTEGER NOT NULL) STRICT`, // counts what policies follow from
	`INSERT INTO grant_changes VALUES (1)`,
	`CREATE TRIGGER grant_policy_settings_keep BEFORE DELETE ON grant_policy_settings BEGIN SELECT RAISE(ABORT, 'policies are kept'); END`,
	`CREATE TRIGGER grant_policy_settings_fix BEFORE UPDATE ON grant_policy_settings BEGIN SELECT RAISE(ABORT, 'policies are not rewritten'); END`,
}

// Passkeys are what persons prove themselves by.
type Passkeys interface {
	// Credentials returns the passkeys that a person can call with.
	Credentials(ctx context.Context, person string) ([]protocol.Credential, error)
}

// Auditor is the part of the audit log that is written to.
type Auditor interface {
	AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error
}

// Config says what a Service needs.
type Config struct {
	Store     *store.Store
	Audit     Auditor
	Register  *register.Register
	Authority *authority.Authority
	Passkeys  Passkeys
	Requests  *signing.Requests // what else waits for the key; nil: nothing
	// Life is for how long one authorisation is made; 0: a week.
	Life time.Duration
	Log  *slog.Logger
}

// Service is safe for concurrent use, also beside a running server. Nothing runs but Run and Watch.
type Service struct {
	Config
	now   func() time.Time
	asked chan string // persons whose passkeys have changed
}

// New brings the tables up.
func New(ctx context.Context, c Config) (*Service, error) {
	if err := c.Store.Migrate(ctx, "grants", steps); err != nil {
		return nil, fmt.Errorf("grants: %w", err)
	}
	if c.Life == 0 {
		c.Life = 7 * 24 * time.Hour
	}
	if c.Life <= renewBefore || c.Life > protocol.MaxAuthorisationLife {
		return nil, fmt.Errorf("grants: an authorisation for %v: %w: more than %v and at most %v", c.Life, ErrBounds, renewBefore, protocol.MaxAuthorisationLife)
	}
	return &Service{Config: c, now: time.Now, asked: make(chan string, 64)}, nil
}

// Grant is what an administrator gives a person.
type Grant struct {
	ID         string // decimal digits, random
	Person     string // the register's number
	Employment string // such as "employed", "agency", "relative"
	Callers    string // the group of callers: which rule of a home's policy holds
	Scope      protocol.Scope
	From, To   time.Time
	Reason     string
	Given      time.Time
	By         string
	Renews     string // the grant that it follows, if it does
	// Ended is when it was withdrawn or followed by another, by EndedBy; zero if it was not.
	Ended             time.Time
	EndedBy, EndedWhy string
}

// Holds reports whether the grant is in force at a time.
func (g *Grant) Holds(at time.Time) bool {
	return g.Ended.IsZero() && !at.Before(g.From) && at.Before(g.To)
}

func newID() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000))
	if err != nil {
		return "", err
	}
	return n.Add(n, big.NewInt(100_000_000)).String(), nil
}

// checkName lets through what may stand in a scope or policy: 1 to 64 bytes, printable, not blank at the ends.
func checkName(what, s string) error {
	switch {
	case s == "" || strings.TrimSpace(s) != s:
		return fmt.Errorf("%s %w: it is empty, or begins or ends with a space", what, ErrBounds)
	case len(s) > maxName:
		return fmt.Errorf("%s %w: it has %d bytes, at most %d", what, ErrBounds, len(s), maxName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s %w: it has a character that cannot be printed", what, ErrBounds)
	}
	return nil
}

// sorted returns each name once, in ascending order.
func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// checkReason lets through what may stand in the history.
func checkReason(reason string) error {
	if reason == "" || strings.TrimSpace(reason) != reason || len(reason) > protocol.MaxText || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return flaw("reason", fmt.Errorf("the reason %w: say in 1 to %d bytes why", ErrBounds, protocol.MaxText))
	}
	return nil
}

// check says all that is wrong with a grant, so that whoever fills in a form learns it at once.
func (s *Service) check(ctx context.Context, g *Grant) error {
	errs := []error{flaw("employment", checkName("employment", g.Employment)), flaw("callers", checkName("group of callers", g.Callers)), checkReason(g.Reason)}
	if !g.To.After(g.From) || !g.To.After(s.now()) || g.To.Sub(g.From) > MaxGrant {
		errs = append(errs, flaw("to", fmt.Errorf("a grant from %s to %s %w: it has to end after it begins and after today, and within five years",
			g.From.Format(time.DateTime), g.To.Format(time.DateTime), ErrBounds)))
	}
	g.Scope.Homes, g.Scope.Groups = sorted(g.Scope.Homes), sorted(g.Scope.Groups)
	switch homes, groups := len(g.Scope.Homes), len(g.Scope.Groups); {
	case homes+groups == 0:
		errs = append(errs, flaw("scope", fmt.Errorf("a grant for no home %w: name homes, or groups of homes", ErrBounds)))
	case homes > protocol.MaxScope:
		errs = append(errs, flaw("scope", fmt.Errorf("a grant for %d homes %w: at most %d; put them into a group and name that", homes, ErrBounds, protocol.MaxScope)))
	case groups > protocol.MaxScope:
		errs = append(errs, flaw("scope", fmt.Errorf("a grant for %d groups of homes %w: at most %d", groups, ErrBounds, protocol.MaxScope)))
	default:
		errs = append(errs, s.checkScope(ctx, g.Scope))
	}
	return errors.Join(errs...)
}

func (s *Service) checkScope(ctx context.Context, scope protocol.Scope) error {
	for _, h := range scope.Homes {
		if _, err := s.Register.Home(ctx, h); err != nil {
			return flaw("scope", err)
		}
	}
	for _, name := range scope.Groups {
		if err := checkName("group of homes", name); err != nil {
			return flaw("scope", err)
		}
		var known bool
		if err := s.Store.Read().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM grant_home_groups WHERE name = ?)", name).Scan(&known); err != nil {
			return fmt.Errorf("read groups of homes: %w", err)
		}
		if !known {
			return flaw("scope", fmt.Errorf("group of homes %q: %w; put a home into it first", name, register.ErrNotFound))
		}
	}
	return nil
}

// Give gives a person a grant, in place of the one that the person has. By, Given and ID are set here. The error wraps ErrBounds or register.ErrNotFound.
func (s *Service) Give(ctx context.Context, who string, g Grant) (Grant, error) {
	given, err := s.give(ctx, who, g, audit.GrantGiven, nil)
	if err != nil {
		return Grant{}, fmt.Errorf("give grant: %w", err)
	}
	return given, nil
}

// Replace is Give for who has seen which grant the person has, or, if was is empty, that there is none. If it is another by now, the error wraps ErrChanged.
func (s *Service) Replace(ctx context.Context, who, was string, g Grant) (Grant, error) {
	given, err := s.give(ctx, who, g, audit.GrantGiven, &was)
	if err != nil {
		return Grant{}, fmt.Errorf("give grant: %w", err)
	}
	return given, nil
}

func (s *Service) give(ctx context.Context, who string, g Grant, what string, was *string) (Grant, error) {
	g.From, g.To = g.From.Truncate(time.Millisecond), g.To.Truncate(time.Millisecond)
	if err := s.check(ctx, &g); err != nil {
		return Grant{}, err
	}
	id, err := newID()
	if err != nil {
		return Grant{}, err
	}
	homes, _ := json.Marshal(g.Scope.Homes)
	groups, _ := json.Marshal(g.Scope.Groups)
	now := s.now().Truncate(time.Millisecond)
	g.ID, g.By, g.Given, g.Ended, g.EndedBy, g.EndedWhy = id, who, now, time.Time{}, "", ""
	before := ""
	err = s.Store.Write(ctx, func(tx *sql.Tx) error {
		person, err := s.Register.Person(ctx, g.Person)
		if err != nil {
			return err
		}
		old, err := current(ctx, tx, g.Person)
		if err != nil && !errors.Is(err, ErrNoGrant) {
			return err
		}
		if what == audit.GrantRenewed && (err != nil || old.ID != g.Renews) {
			return fmt.Errorf("it was changed meanwhile: %w", ErrNoGrant)
		}
		if was != nil && *was != old.ID { // of none, it is empty
			return ErrChanged
		}
		if err == nil {
			if err := s.end(ctx, tx, old, who, followedBy+id); err != nil {
				return err
			}
			before = old.ID + ": " + old.short()
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO grants (id, person, employment, callers, homes, home_groups, valid_from, valid_to, reason, given, given_by, renews)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''))`,
			id, g.Person, g.Employment, g.Callers, string(homes), string(groups), g.From.UnixMilli(), g.To.UnixMilli(), g.Reason, now.UnixMilli(), who, g.Renews); err != nil {
			return err
		}
		detail := g.detail()
		if before != "" {
			detail["before"] = before
		}
		if err := s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: what, Subject: person.Who(), Detail: detail}); err != nil {
			return err
		}
		return s.authorise(ctx, tx, g.Person)
	})
	return g, err
}

// fewNames tells the audit log of a scope. One of 128 names would not fit an entry: the table has them all.
func fewNames(names []string) string {
	const most = 20
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

func (g *Grant) detail() map[string]string {
	d := map[string]string{"grant": g.ID, "employment": g.Employment, "callers": g.Callers, "homes": fewNames(g.Scope.Homes), "groups": fewNames(g.Scope.Groups),
		"from": g.From.UTC().Format(time.RFC3339), "to": g.To.UTC().Format(time.RFC3339), "why": g.Reason}
	if g.Renews != "" {
		d["renews"] = g.Renews
	}
	return d
}

// short is what detail says, in a line.
func (g *Grant) short() string {
	return fmt.Sprintf("%s as %s, homes %s, groups %s, to %s", g.Employment, g.Callers, fewNames(g.Scope.Homes), fewNames(g.Scope.Groups), g.To.UTC().Format(time.RFC3339))
}

// followedBy begins the reason for which a grant ended that another one followed.
const followedBy = "followed by grant "

// Followed reports whether the grant ended because the person got another one, rather than that it was withdrawn.
func (g *Grant) Followed() bool {
	return !g.Ended.IsZero() && strings.HasPrefix(g.EndedWhy, followedBy)
}

// Renew has a person's grant hold until a later time: somebody has looked at it (R28). The error wraps ErrNoGrant or ErrBounds.
func (s *Service) Renew(ctx context.Context, who, person string, to time.Time, reason string) (Grant, error) {
	return s.renew(ctx, who, person, nil, to, reason)
}

// RenewThis is Renew for who has looked at a grant. If the person has another by now, the error wraps ErrChanged.
func (s *Service) RenewThis(ctx context.Context, who, person, id string, to time.Time, reason string) (Grant, error) {
	return s.renew(ctx, who, person, &id, to, reason)
}

func (s *Service) renew(ctx context.Context, who, person string, id *string, to time.Time, reason string) (Grant, error) {
	g, err := current(ctx, s.Store.Read(), person)
	if err == nil && id != nil && *id != g.ID {
		err = ErrChanged
	}
	if err == nil {
		g.Renews, g.To, g.Reason = g.ID, to, reason
		if now := s.now(); g.From.Before(now) {
			g.From = now
		}
		g, err = s.give(ctx, who, g, audit.GrantRenewed, nil)
	}
	if err != nil {
		return Grant{}, fmt.Errorf("renew grant: %w", err)
	}
	return g, nil
}

// Withdraw ends a person's grant at once (R29). The error wraps ErrNoGrant.
func (s *Service) Withdraw(ctx context.Context, who, person, reason string) (Grant, error) {
	if err := checkReason(reason); err != nil {
		return Grant{}, fmt.Errorf("withdraw grant: %w", err)
	}
	var g Grant
	err := s.Store.Write(ctx, func(tx *sql.Tx) (err error) {
		if g, err = current(ctx, tx, person); err != nil {
			return err
		}
		if err := s.end(ctx, tx, g, who, reason); err != nil {
			return err
		}
		return s.authorise(ctx, tx, person)
	})
	if err != nil {
		return Grant{}, fmt.Errorf("withdraw grant: %w", err)
	}
	return g, nil
}

func (s *Service) end(ctx context.Context, tx *sql.Tx, g Grant, who, why string) error {
	if _, err := tx.ExecContext(ctx, "UPDATE grants SET ended = ?, ended_by = ?, ended_why = ? WHERE id = ?", s.now().UnixMilli(), who, why, g.ID); err != nil {
		return err
	}
	return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.GrantWithdrawn, Subject: register.Person{ID: g.Person}.Who(),
		Detail: map[string]string{"grant": g.ID, "why": why}})
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// current returns the grant of a person that was not ended; its time may be over, or still to come. The error wraps ErrNoGrant.
func current(ctx context.Context, q queryer, person string) (Grant, error) {
	list, err := list(ctx, q, "WHERE person = ? AND ended IS NULL", person)
	if err != nil {
		return Grant{}, err
	}
	if len(list) == 0 {
		return Grant{}, fmt.Errorf("person %s: %w", person, ErrNoGrant)
	}
	return list[0], nil
}

func list(ctx context.Context, q queryer, where string, args ...any) ([]Grant, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, person, employment, callers, homes, home_groups, valid_from, valid_to, reason, given, given_by, coalesce(renews, ''),
		coalesce(ended, 0), coalesce(ended_by, ''), coalesce(ended_why, '') FROM grants `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	defer rows.Close()
	var result []Grant
	for rows.Next() {
		var g Grant
		var homes, groups string
		var from, to, given, ended int64
		err := rows.Scan(&g.ID, &g.Person, &g.Employment, &g.Callers, &homes, &groups, &from, &to, &g.Reason, &given, &g.By, &g.Renews, &ended, &g.EndedBy, &g.EndedWhy)
		if err == nil {
			err = errors.Join(json.Unmarshal([]byte(homes), &g.Scope.Homes), json.Unmarshal([]byte(groups), &g.Scope.Groups))
		}
		if err != nil {
			return nil, fmt.Errorf("read grants: %w", err)
		}
		g.From, g.To, g.Given = time.UnixMilli(from), time.UnixMilli(to), time.UnixMilli(given)
		if ended != 0 {
			g.Ended = time.UnixMilli(ended)
		}
		result = append(result, g)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return result, nil
}

// Grants returns the grants that were not ended, by person.
func (s *Service) Grants(ctx context.Context) ([]Grant, error) {
	return list(ctx, s.Store.Read(), "WHERE ended IS NULL ORDER BY person")
}

// History returns all grants that a person ever had, the latest first (R17).
func (s *Service) History(ctx context.Context, person string) ([]Grant, error) {
	return list(ctx, s.Store.Read(), "WHERE person = ? ORDER BY n DESC", person)
}

// Review returns the grants that hold and that nobody has given or renewed in a year, the oldest first (R28).
func (s *Service) Review(ctx context.Context) ([]Grant, error) {
	now := s.now()
	return list(ctx, s.Store.Read(), "WHERE ended IS NULL AND valid_to > ? AND given <= ? ORDER BY given", now.UnixMilli(), now.Add(-ReviewAfter).UnixMilli())
}
