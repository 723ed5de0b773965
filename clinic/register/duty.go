package register

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// Duty is what a person does here, and so which pages are the person's: a person has exactly one. It is stored, and given by whoever adds the
// person; the role, which patients see, is only a text.
type Duty string

const (
	// NoDuty is a person's of whom it is not known: no page is that person's.
	NoDuty     Duty = ""
	Clinician  Duty = "clinician"  // rings homes
	Technician Duty = "technician" // sets terminals up
	Operator   Duty = "operator"   // sees to terminals and alarms
	// Administrator invites persons, gives and withdraws authorisations, and sets policies.
	Administrator Duty = "administrator"
)

// ErrDuty is wrapped when a duty is not one of the four, or not the one that the person has.
var ErrDuty = errors.New("not a duty of this person")

// ParseDuty returns the duty that is called so. The error wraps ErrDuty.
func ParseDuty(text string) (Duty, error) {
	switch d := Duty(text); d {
	case Clinician, Technician, Operator, Administrator:
		return d, nil
	}
	return NoDuty, fmt.Errorf("%w: %q is none of %s, %s, %s and %s", ErrDuty, text, Clinician, Technician, Operator, Administrator)
}

// dutySteps give duties to persons of a register in which these followed from the role: to those whose role is one of the words below. All
// others have none until they are given one (EnsurePerson, Assign): whoever wrote "auditor" or a misspelt "technican" did not mean that homes be rung.
var dutySteps = []string{
	`ALTER TABLE persons ADD COLUMN duty TEXT NOT NULL DEFAULT '' CHECK (duty IN ('', 'clinician', 'technician', 'operator'))`,
	`UPDATE persons SET duty = lower(role) WHERE lower(role) IN ('technician', 'operator')`,
	`UPDATE persons SET duty = 'clinician' WHERE lower(role) IN ('clinician', 'nurse', 'doctor', 'physician', 'physiotherapist', 'occupational therapist',
		'psychologist', 'sykepleier', 'sjukepleiar', 'lege', 'fysioterapeut', 'ergoterapeut', 'psykolog', 'helsefagarbeider')`,
	// Administrators came later: a column's check cannot be changed, so another column takes its place.
	`ALTER TABLE persons RENAME COLUMN duty TO duty_before`,
	`ALTER TABLE persons ADD COLUMN duty TEXT NOT NULL DEFAULT '' CHECK (duty IN ('', 'clinician', 'technician', 'operator', 'administrator'))`,
	`UPDATE persons SET duty = duty_before`,
	`ALTER TABLE persons DROP COLUMN duty_before`,
}

// Who is how the audit log names the person.
func (p Person) Who() string { return personPrefix + p.ID }

const personPrefix = "person "

// IsPerson reports whether who, as the audit log names it, is a person of the register.
func IsPerson(who string) bool { return strings.HasPrefix(who, personPrefix) }

// PersonID returns the number of a person as the audit log names it.
func PersonID(who string) (id string, ok bool) { return strings.CutPrefix(who, personPrefix) }

func checkParty(p protocol.Party) error {
	for _, f := range [...]struct{ field, text string }{{"the name", p.Name}, {"the role", p.Role}, {"the organisation", p.Organisation}} {
		if err := checkText(f.field, f.text); err != nil {
			return err
		}
	}
	return nil
}

// EnsurePerson returns the person with this name, role and organisation and adds it, with this duty, where there is none. Where there is one with
// another duty the error wraps ErrDuty; NoDuty takes whichever that person has, and adds none: then the error wraps ErrNotFound.
func (r *Register) EnsurePerson(ctx context.Context, who string, p protocol.Party, d Duty) (Person, error) {
	return r.person(ctx, who, p, d, false)
}

// Assign is EnsurePerson, but a person with another duty gets this one in its place, or NoDuty: that person sees no page any more. It acts at once.
func (r *Register) Assign(ctx context.Context, who string, p protocol.Party, d Duty) (Person, error) {
	return r.person(ctx, who, p, d, true)
}

func (r *Register) person(ctx context.Context, who string, p protocol.Party, d Duty, assign bool) (Person, error) {
	if err := checkParty(p); err != nil {
		return Person{}, err
	}
	if d != NoDuty {
		if _, err := ParseDuty(string(d)); err != nil {
			return Person{}, fmt.Errorf("add person: %w", err)
		}
	}
	id, err := newID()
	if err != nil {
		return Person{}, fmt.Errorf("add person: %w", err)
	}
	person := Person{ID: id, Party: p, Duty: d}
	err = r.store.Write(ctx, func(tx *sql.Tx) error {
		var duty string
		err := tx.QueryRowContext(ctx, "SELECT id, duty FROM persons WHERE name = ? AND role = ? AND organisation = ?", p.Name, p.Role, p.Organisation).Scan(&person.ID, &duty)
		detail := map[string]string{"duty": string(d)}
		switch {
		case errors.Is(err, sql.ErrNoRows) && d == NoDuty:
			return fmt.Errorf("%s, %s: %w", p.Name, p.Role, ErrNotFound)
		case errors.Is(err, sql.ErrNoRows):
			if _, err := tx.ExecContext(ctx, "INSERT INTO persons (id, name, role, organisation, created, duty) VALUES (?, ?, ?, ?, ?, ?)",
				id, p.Name, p.Role, p.Organisation, r.now().UnixMilli(), string(d)); err != nil {
				return err
			}
			person.ID = id
			detail["name"], detail["role"], detail["organisation"] = p.Name, p.Role, p.Organisation
			return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PersonAdded, Subject: person.Who(), Detail: detail})
		case err != nil:
			return err
		case Duty(duty) == d:
			return nil
		case d == NoDuty && !assign:
			person.Duty = Duty(duty)
			return nil
		case !assign:
			return fmt.Errorf("%w: %s, %s, has the duty %q, not %q", ErrDuty, p.Name, p.Role, duty, d)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE persons SET duty = ? WHERE id = ?", string(d), person.ID); err != nil {
			return err
		}
		detail["before"] = duty
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PersonAssigned, Subject: person.Who(), Detail: detail})
	})
	if err != nil {
		return Person{}, fmt.Errorf("add person: %w", err)
	}
	return person, nil
}

// Give is Assign for the person with this number. The error wraps ErrNotFound.
func (r *Register) Give(ctx context.Context, who, person string, d Duty) (Person, error) {
	if d != NoDuty {
		if _, err := ParseDuty(string(d)); err != nil {
			return Person{}, fmt.Errorf("give duty: %w", err)
		}
	}
	p := Person{ID: person}
	err := r.store.Write(ctx, func(tx *sql.Tx) (err error) {
		if p, err = readPerson(ctx, tx, person); err != nil || p.Duty == d {
			return err
		}
		before := p.Duty
		p.Duty = d
		if _, err := tx.ExecContext(ctx, "UPDATE persons SET duty = ? WHERE id = ?", string(d), person); err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PersonAssigned, Subject: p.Who(), Detail: map[string]string{"duty": string(d), "before": string(before)}})
	})
	if err != nil {
		return Person{}, fmt.Errorf("give duty: %w", err)
	}
	return p, nil
}

// Persons returns all persons, by name.
func (r *Register) Persons(ctx context.Context) ([]Person, error) {
	rows, err := r.store.Read().QueryContext(ctx, "SELECT id, name, role, organisation, duty FROM persons ORDER BY name, role, id")
	if err != nil {
		return nil, fmt.Errorf("read persons: %w", err)
	}
	defer rows.Close()
	var list []Person
	for rows.Next() {
		var p Person
		if err := rows.Scan(&p.ID, &p.Party.Name, &p.Party.Role, &p.Party.Organisation, &p.Duty); err != nil {
			return nil, fmt.Errorf("read persons: %w", err)
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read persons: %w", err)
	}
	return list, nil
}

// Person returns one person. The error wraps ErrNotFound.
func (r *Register) Person(ctx context.Context, id string) (Person, error) {
	return readPerson(ctx, r.store.Read(), id)
}

func readPerson(ctx context.Context, q queryer, id string) (Person, error) {
	p := Person{ID: id}
	err := q.QueryRowContext(ctx, "SELECT name, role, organisation, duty FROM persons WHERE id = ?", id).
		Scan(&p.Party.Name, &p.Party.Role, &p.Party.Organisation, &p.Duty)
	if errors.Is(err, sql.ErrNoRows) {
		return Person{}, fmt.Errorf("person: %w", ErrNotFound)
	}
	if err != nil {
		return Person{}, fmt.Errorf("read person: %w", err)
	}
	return p, nil
}
