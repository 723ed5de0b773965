package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"vindu/clinic/config"
	"vindu/clinic/register"
)

// The first administrator is made by a command, which prints an invitation; so is any other's, if asked for.
func TestPersonInvited(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clinic")
	must(t, "init", "-dir", dir, "-organisation", "Fjordbyen kommune", "-address", "127.0.0.1:443", "-plain", "localhost:8089")
	if out := must(t, "person", "-dir", dir, "-person", "Anne Berg", "-role", "nurse", "-duty", "clinician"); out != "" {
		t.Errorf("a clinician, not asked for: %q", out)
	}
	invited := func(name, role, duty string, flags ...string) string {
		t.Helper()
		code, out, said := do(t, append([]string{"person", "-dir", dir, "-person", name, "-role", role, "-duty", duty}, flags...)...)
		token, ok := strings.CutPrefix(out, "http://localhost:8089/invited/")
		if code != 0 || !ok || strings.Count(out, "\n") != 1 || !strings.Contains(said, "treat it as a key") {
			t.Fatalf("%d, %q, %q", code, out, said)
		}
		return strings.TrimSpace(token)
	}
	former := invited("Kari Moe", "head of section", "administrator")
	token := invited("Kari Moe", "head of section", "administrator", "-remove-passkeys", "-life", "10m")
	anne := invited("Anne Berg", "nurse", "clinician", "-invite")
	c, err := open(t.Context(), filepath.Join(dir, config.FileName), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.passkeys.Invited(t.Context(), former); err == nil {
		t.Error("the former invitation can be used")
	}
	for token, want := range map[string]register.Duty{token: register.Administrator, anne: register.Clinician} {
		i, err := c.passkeys.Invited(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := c.register.Person(t.Context(), i.Person); err != nil || p.Duty != want {
			t.Errorf("%+v, %v", p, err)
		}
	}
}
