package main

import (
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vindu/clinic/store"
)

// The audit log can be read, and a head that was kept, or a server's log, tells that it was tampered with.
func TestAudit(t *testing.T) {
	dir := newClinic(t)
	must(t, "voucher", "-dir", dir, "-home", "Home 17, Storgata", "-by", "Kari")
	list := must(t, "audit", "list", "-dir", dir, "-n", "2")
	if lines := strings.Split(strings.TrimSpace(list), "\n"); len(lines) != 2 || !strings.Contains(lines[0], `"voucher.issued"`) || !strings.HasPrefix(lines[0], `{"n":2,"at":`) || !strings.Contains(lines[1], `"who":"Kari"`) {
		t.Errorf("list: %s", list)
	}
	code, head, stderr := do(t, "audit", "head", "-dir", dir)
	_, key, found := strings.Cut(strings.TrimSpace(stderr), "verifies it: ")
	if code != 0 || !strings.HasPrefix(head, "vindu-clinic-audit\n3\n") || !found {
		t.Fatalf("exit %d, %q, %q", code, head, stderr)
	}
	folder := t.TempDir()
	kept := filepath.Join(folder, "head")
	if err := os.WriteFile(kept, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	served := start(t, dir)
	if code := served.stop(); code != 0 {
		t.Fatalf("the server ended with %d", code)
	}
	log := filepath.Join(folder, "server.log")
	if err := os.WriteFile(log, []byte(served.log()), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "voucher", "-dir", dir, "-home", "Home 18", "-by", "Kari")
	verify := func(args ...string) (int, string) {
		code, _, stderr := do(t, append([]string{"audit", "verify"}, args...)...)
		return code, stderr
	}
	for name, args := range map[string][]string{
		"a head": {kept, "-dir", dir}, "the file last": {"-dir", dir, kept}, "with the key": {"-dir", dir, "-key", key, kept}, "a server's log": {log, "-dir", dir}, "nothing": {"-dir", dir},
	} {
		if code, said := verify(args...); code != 0 || !strings.Contains(said, "6 entries") {
			t.Errorf("%s: exit %d, %s", name, code, said)
		}
	}
	if _, said := verify(log, "-dir", dir); !strings.Contains(said, "All 2 heads") {
		t.Errorf("of the start and of the end: %s", said)
	}
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("DROP TRIGGER audit_entries_fix; UPDATE audit_entries SET line = CAST(replace(CAST(line AS TEXT), 'Kari', 'Ola') AS BLOB)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{kept, log} {
		if code, said := verify(file, "-dir", dir); code != 1 || !strings.Contains(said, "tampered") {
			t.Errorf("%s, after it was altered: exit %d, %s", file, code, said)
		}
	}
}

// A person's duty is given, and changed only when that is asked for.
func TestPerson(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clinic")
	must(t, "init", "-dir", dir, "-organisation", "Fjordbyen kommune", "-address", "127.0.0.1:443", "-plain", "localhost:8089")
	link := func(more ...string) (int, string) {
		code, _, stderr := do(t, append([]string{"sign-in-link", "-dir", dir, "-person", "Anne Berg", "-role", "adviser"}, more...)...)
		return code, stderr
	}
	for _, step := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nobody yet", nil, 1, "say with -duty"},
		{"added", []string{"-duty", "technician"}, 0, "technician's pages"},
		{"known", nil, 0, "technician's pages"},
		{"another duty", []string{"-duty", "operator"}, 1, "vindu-clinic person"},
		{"no such duty", []string{"-duty", "auditor"}, 2, "auditor"},
	} {
		if code, said := link(step.args...); code != step.code || !strings.Contains(said, step.want) {
			t.Errorf("%s: exit %d, %s", step.name, code, said)
		}
	}
	must(t, "person", "-dir", dir, "-person", "Anne Berg", "-role", "adviser", "-duty", "operator")
	if code, said := link(); code != 0 || !strings.Contains(said, "operator's pages") {
		t.Errorf("changed: exit %d, %s", code, said)
	}
	must(t, "person", "-dir", dir, "-person", "Anne Berg", "-role", "adviser", "-duty", "none")
	if code, said := link(); code != 1 || !strings.Contains(said, "has no duty") {
		t.Errorf("taken: exit %d, %s", code, said)
	}
}

// Commands beside a server know that it was started with another root.
func TestOutdated(t *testing.T) {
	dir := t.TempDir()
	if outdated(dir, "B") {
		t.Error("without a server")
	}
	for range 2 {
		held, err := lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := announce(held, "A"); err != nil {
			t.Fatal(err)
		}
		if outdated(dir, "A") || !outdated(dir, "B") {
			t.Error("the root of the server that runs is not known")
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
		if outdated(dir, "B") {
			t.Error("after the server's end")
		}
	}
}
