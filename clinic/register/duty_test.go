package register

import (
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"vindu/clinic/audit"
	"vindu/clinic/store"
	"vindu/protocol"
)

// A duty is one of four, is given once, and changes only when that is asked for.
func TestDuty(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	party := func(name string) protocol.Party {
		return protocol.Party{Name: name, Role: "adviser", Organisation: "Vestfold kommune"}
	}
	for _, text := range []string{"", "nurse", "Technician", "operator ", "clinician,operator"} {
		if _, err := ParseDuty(text); !errors.Is(err, ErrDuty) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := c.EnsurePerson(ctx, "Kari", party("Anne"), NoDuty); !errors.Is(err, ErrNotFound) {
		t.Errorf("added without a duty: %v", err)
	}
	if _, err := c.EnsurePerson(ctx, "Kari", party("Anne"), "auditor"); !errors.Is(err, ErrDuty) {
		t.Errorf("added with a duty that there is not: %v", err)
	}
	anne, err := c.EnsurePerson(ctx, "Kari", party("Anne"), Technician)
	if err != nil || anne.Duty != Technician {
		t.Fatalf("%+v, %v", anne, err)
	}
	if again, err := c.EnsurePerson(ctx, "Kari", party("Anne"), NoDuty); err != nil || again != anne {
		t.Errorf("whichever: %+v, %v", again, err)
	}
	if _, err := c.EnsurePerson(ctx, "Kari", party("Anne"), Operator); !errors.Is(err, ErrDuty) {
		t.Errorf("another duty: %v", err)
	}
	if p, err := c.Assign(ctx, "Kari", party("Anne"), NoDuty); err != nil || p.Duty != NoDuty {
		t.Errorf("none assigned: %+v, %v", p, err)
	}
	for range 2 {
		if changed, err := c.Assign(ctx, "Kari", party("Anne"), Operator); err != nil || changed.ID != anne.ID || changed.Duty != Operator {
			t.Errorf("assigned: %+v, %v", changed, err)
		}
	}
	if got, err := c.Person(ctx, anne.ID); err != nil || got.Duty != Operator || got.Who() != "person "+anne.ID {
		t.Errorf("%+v, %v", got, err)
	}
	for range 2 {
		if p, err := c.Give(ctx, "Kari", anne.ID, Administrator); err != nil || p.Party != anne.Party || p.Duty != Administrator {
			t.Errorf("given: %+v, %v", p, err)
		}
	}
	if _, err := c.Give(ctx, "Kari", "1", Clinician); !errors.Is(err, ErrNotFound) {
		t.Errorf("given to nobody: %v", err)
	}
	if _, err := c.Give(ctx, "Kari", anne.ID, "auditor"); !errors.Is(err, ErrDuty) {
		t.Errorf("a duty that there is not, given: %v", err)
	}
	if got, want := c.audited(t), []string{audit.PersonAdded, audit.PersonAssigned, audit.PersonAssigned, audit.PersonAssigned}; !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
	if _, err := c.EnsurePerson(ctx, "Kari", party("Aase"), NoDuty); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	first, err := c.EnsurePerson(ctx, "Kari", party("Aase"), Clinician)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := c.Persons(ctx); err != nil || len(list) != 2 || list[0] != first || list[1].ID != anne.ID || list[1].Duty != Administrator {
		t.Errorf("persons: %+v, %v", list, err)
	}
}

// In a register from before, a duty follows from roles that are known words; of all others it is not known.
func TestDutiesOfBefore(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	s, err := store.Open(ctx, filepath.Join(t.TempDir(), "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(ctx, "register", steps); err != nil {
		t.Fatal(err)
	}
	roles := map[string]Duty{
		"technician": Technician, "Technician": Technician, "operator": Operator, "nurse": Clinician, "Physician": Clinician, "sykepleier": Clinician,
		"auditor": NoDuty, "administrator": NoDuty, "tekniker": NoDuty, "technicians": NoDuty, "operatør": NoDuty,
	}
	if err := s.Write(ctx, func(tx *sql.Tx) error {
		for role := range roles {
			if _, err := tx.ExecContext(ctx, "INSERT INTO persons VALUES (?1, 'Anne', ?1, 'x', 1)", role); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r, err := New(ctx, s, c.log)
	if err != nil {
		t.Fatal(err)
	}
	for role, want := range roles {
		if p, err := r.Person(ctx, role); err != nil || p.Duty != want {
			t.Errorf("%s: %q, %v", role, p.Duty, err)
		}
	}
}
