package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vindu/clinic/config"
	"vindu/clinic/grants"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// beside opens the clinic as commands beside the server do.
func openBeside(t *testing.T, dir string) *clinic {
	t.Helper()
	c, err := open(t.Context(), filepath.Join(dir, config.FileName), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

// refused runs a command that is to fail, and looks for words in what it says.
func refused(t *testing.T, says string, args ...string) {
	t.Helper()
	if code, stdout, stderr := do(t, args...); code == 0 || stdout != "" || !strings.Contains(stderr, says) {
		t.Errorf("%v: exit %d, %q, %q; want %q", args, code, stdout, stderr, says)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// givePasskey gives a person a passkey, as if one had been made.
func (c *clinic) givePasskey(t *testing.T, person string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	c.keepPasskey(t, person, protocol.Credential{ID: spki[60:], Key: spki})
}

// keepPasskey gives a person this passkey.
func (c *clinic) keepPasskey(t *testing.T, person string, p protocol.Credential) {
	t.Helper()
	if err := c.store.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO passkeys (id, person, name, cose, spki, counter, flags, transports, created) VALUES (?, ?, 'key', x'00', ?, 0, 0, '', 1)", p.ID, person, p.Key)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestGrantCommands: an administrator says who may call which homes, and what these do about it.
func TestGrantCommands(t *testing.T) {
	dir := newClinic(t)
	must(t, "voucher", "-dir", dir, "-home", "Home 17, Storgata")
	must(t, "voucher", "-dir", dir, "-home", "Home 18")
	anne := []string{"-dir", dir, "-person", "Anne Berg", "-role", "nurse"}
	as := func(args ...string) []string { return append(args, anne...) }
	refused(t, "add the person first", append(as("grant", "give"), "-homes", "Home 18", "-reason", "x")...)
	must(t, append(as("person"), "-duty", "clinician")...)
	refused(t, "-reason is missing", append(as("grant", "give"), "-homes", "Home 18")...)
	refused(t, "spell it as on its page", append(as("grant", "give"), "-homes", "Home 19", "-reason", "x")...)
	refused(t, "put a home into it first", append(as("grant", "give"), "-groups", "north", "-reason", "x")...)
	refused(t, "has to be a day", append(as("grant", "give"), "-homes", "Home 18", "-reason", "x", "-until", "soon")...)
	refused(t, "say one of give, list, renew, withdraw", "grant", "take")
	must(t, "groups", "-dir", dir, "-home", "Home 17, Storgata", "-in", "north; ward 3")
	if out := must(t, "groups", "-dir", dir); out != "Home 17, Storgata\tnorth; ward 3\nHome 18\t\n" {
		t.Errorf("groups: %q", out)
	}
	must(t, "provider", "-dir", dir, "-home", "Home 18", "-is", "Vestnett")
	if out := must(t, "provider", "-dir", dir); out != "Home 17, Storgata\t\nHome 18\tVestnett\n" {
		t.Errorf("providers: %q", out)
	}
	must(t, "provider", "-dir", dir, "-home", "Home 18", "-none")
	if out := must(t, "provider", "-dir", dir); out != "Home 17, Storgata\t\nHome 18\t\n" {
		t.Errorf("providers, after one was taken back: %q", out)
	}
	refused(t, "spell it as on its page", "provider", "-dir", dir, "-home", "Home 19", "-is", "Vestnett")
	refused(t, "who provides its line", "provider", "-dir", dir, "-home", "Home 18")
	code, _, said := do(t, append(as("grant", "give"), "-homes", "Home 17, Storgata;Home 18", "-groups", "north", "-reason", "works here", "-by", "kari")...)
	if code != 0 || !strings.Contains(said, "may call as \"staff\" until") || !strings.Contains(said, "no passkey yet") {
		t.Errorf("give: %d, %s", code, said)
	}
	c := openBeside(t, dir)
	person, err := c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Fjordbyen kommune"}, "")
	if err != nil {
		t.Fatal(err)
	}
	c.givePasskey(t, person.ID)
	if _, a, err := c.grants.Current(t.Context(), person.ID); err != nil || len(a.Scope.Homes) != 2 || len(a.Scope.Groups) != 1 {
		t.Errorf("authorisation %+v, %v", a, err)
	}
	if out := must(t, "grant", "list", "-dir", dir); !strings.Contains(out, "Anne Berg, nurse\temployed as staff\t") || !strings.Contains(out, "all in north") || !strings.Contains(out, "by kari: works here\tholds") {
		t.Errorf("list: %q", out)
	}
	if out := must(t, "grant", "list", "-dir", dir, "-review"); out != "" {
		t.Errorf("review: %q", out)
	}
	must(t, append(as("grant", "renew"), "-reason", "another year")...)
	must(t, append(as("grant", "withdraw"), "-reason", "has left")...)
	refused(t, "not authorised to call", append(as("grant", "withdraw"), "-reason", "has left")...)
	if out := must(t, as("grant", "list")...); strings.Count(out, "\n") != 2 || !strings.Contains(out, "has left") {
		t.Errorf("history: %q", out)
	}
	last := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	must(t, append(as("grant", "give"), "-homes", "Home 18", "-reason", "for a month", "-until", last, "-by", person.Who())...)
	if out := must(t, "grant", "list", "-dir", dir); !strings.Contains(out, " to "+last+"\t") || !strings.Contains(out, " by Anne Berg: for a month\t") {
		t.Errorf("given until %s: %q", last, out)
	}

	shown := must(t, "policy", "show", "-dir", dir)
	must(t, "policy", "set", "-dir", dir, write(t, shown))
	if again := must(t, "policy", "show", "-dir", dir); again != shown {
		t.Errorf("shown, set and shown: %q, %q", shown, again)
	}
	must(t, "policy", "set", "-dir", dir, "-home", "Home 18", write(t, "volume = 20\n[rules.relatives]\nmode = \"ask\"\nafter = 30\n"))
	if out := must(t, "policy", "show", "-dir", dir, "-home", "Home 18"); !strings.Contains(out, "volume = 20") || !strings.Contains(out, "[rules.staff]") || !strings.Contains(out, "[rules.relatives]") {
		t.Errorf("home: %q", out)
	}
	if out := must(t, "policy", "show", "-dir", dir, "-home", "Home 18", "-own"); strings.Contains(out, "[rules.staff]") {
		t.Errorf("what differs: %q", out)
	}
	refused(t, "unknown key", "policy", "set", "-dir", dir, write(t, "loud = 1\n"))
	refused(t, "line 1", "policy", "set", "-dir", dir, write(t, "volume = \n"))
	refused(t, "100 percent", "policy", "set", "-dir", dir, write(t, "volume = 101\n"))
}

// follow is a terminal that fetches its settings, and asks for the time, as terminals do.
func follow(t *testing.T, id *identity.Identity) {
	t.Helper()
	client := &provisioning.Client{Signer: id.Signer(), Now: time.Now}
	g := provisioning.Grant(*id.Grant())
	if _, _, err := client.Time(t.Context(), &g); err != nil {
		t.Error(err)
	}
	settings, _, err := client.Settings(t.Context(), &g)
	if err != nil {
		t.Fatal(err)
	}
	if notices, err := id.KeepSettings(settings); err != nil || len(notices) != 0 {
		t.Error(notices, err)
	}
}

// until asks again and again.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(time.Minute); !done(); {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("%s: not in a minute", what)
		}
	}
}

// enrolled is a terminal's identity.
func (s *serving) enrolled(t *testing.T, home string) *identity.Identity {
	t.Helper()
	folder, _ := setUp(t, s, home)
	dir, err := state.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(dir, keys, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, id)
	return id
}

// TestRollOver: a clinic that runs replaces its authorisation key, and every terminal follows: one that is there, one that was away for all of it, and one that is
// set up afterwards. All have a policy by the new key.
func TestRollOver(t *testing.T) {
	s := start(t, newClinic(t))
	here, away := s.enrolled(t, "Home 17"), s.enrolled(t, "Home 18")
	old, policy := here.Authorities()[0], here.Policy()
	if policy == nil || policy.Rule("staff").Mode != protocol.ModeRing {
		t.Fatalf("policy %+v", policy)
	}
	refused(t, "there is only one", "roll-over", "-dir", s.dir, "-finish")
	must(t, "roll-over", "-dir", s.dir)
	refused(t, "finish it first", "roll-over", "-dir", s.dir)
	eventually(t, "the second key", func() bool { follow(t, here); return len(here.Authorities()) == 2 })
	between := s.enrolled(t, "Home 19")
	must(t, "roll-over", "-dir", s.dir, "-finish")
	eventually(t, "the old key leaves", func() bool { follow(t, here); return len(here.Authorities()) == 1 })
	if bytes.Equal(here.Authorities()[0], old) {
		t.Fatal("the old key stayed")
	}
	follow(t, between)
	follow(t, away)
	follow(t, away)
	fresh := s.enrolled(t, "Home 20")
	for name, id := range map[string]*identity.Identity{"there": here, "set up meanwhile": between, "away": away, "set up afterwards": fresh} {
		if len(id.Authorities()) != 1 || !bytes.Equal(id.Authorities()[0], here.Authorities()[0]) || id.Trust().Serial != here.Trust().Serial || id.Policy() == nil {
			t.Errorf("a terminal that was %s has trust %+v, policy %+v", name, id.Trust(), id.Policy())
		}
		follow(t, id)
	}
	if here.Policy().Serial <= policy.Serial {
		t.Error("the policy was not signed anew")
	}
}

// TestPolicyArrives: a policy that is changed, and a call that is announced, reach a terminal that is connected, at once. What runs is a terminal's whole program but for its devices.
func TestPolicyArrives(t *testing.T) {
	s := start(t, newClinic(t))
	folder, _ := setUp(t, s, "Home 17")
	cancel, done, see := runTerminal(t, folder)
	see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready && !s.Offline })
	kept := func() []byte {
		b, err := os.ReadFile(filepath.Join(folder, "identity", "clinic.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := kept()
	must(t, "policy", "set", "-dir", s.dir, "-home", "Home 17", write(t, "volume = 20\n"))
	eventually(t, "the policy arrives", func() bool { return !bytes.Equal(kept(), before) })

	c := openBeside(t, s.dir)
	home, err := c.register.EnsureHome(t.Context(), "test", "Home 17")
	if err != nil {
		t.Fatal(err)
	}
	anne := signIn(t, s, c, home.ID)
	for _, test := range []struct {
		body string
		told bool
	}{{`{"at": "15:00"}`, true}, {`{"at": ""}`, false}} {
		response, err := anne.Post(anne.pages+"/api/homes/"+home.ID+"/announcement", "application/json", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %s", test.body, response.Status)
		}
		eventually(t, "the terminal keeps "+test.body, func() bool {
			block, _ := pem.Decode(kept())
			return block != nil && bytes.Contains(block.Bytes, []byte("Anne Berg")) == test.told
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

var newPasskey = regexp.MustCompile(`NEW PASSKEY ([A-Z2-7-]{19}) of "Anne Berg"`)

// TestKeyElsewhere: the authorisation key is taken away from a clinic that runs. Authorisations, policies and the next key come and go by files, and what was tampered with is
// refused.
func TestKeyElsewhere(t *testing.T) {
	s := start(t, newClinic(t))
	id := s.enrolled(t, "Home 17")
	before := id.Policy().Serial
	key := filepath.Join(t.TempDir(), "authorisation.key")
	if err := os.Rename(filepath.Join(s.dir, folderAuthority, "authorisation.key"), key); err != nil {
		t.Fatal(err)
	}
	must(t, "person", "-dir", s.dir, "-person", "Anne Berg", "-role", "nurse", "-duty", "clinician")
	c := openBeside(t, s.dir)
	person, err := c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Fjordbyen kommune"}, "")
	if err != nil {
		t.Fatal(err)
	}
	c.givePasskey(t, person.ID)
	if code, _, said := do(t, "grant", "give", "-dir", s.dir, "-person", "Anne Berg", "-role", "nurse", "-homes", "Home 17", "-reason", "works here"); code != 0 || !strings.Contains(said, "waits to be signed") {
		t.Errorf("give: %d, %s", code, said)
	}
	must(t, "policy", "set", "-dir", s.dir, write(t, "volume = 20\n"))
	refused(t, "not on this server", "mandate", "-dir", s.dir, "-person", "Kari Nes", "-laptop", laptopKey(t))
	follow(t, id) // the server tells the time, and what was signed before holds
	if id.Policy().Serial != before {
		t.Error("a policy that nobody has signed")
	}
	file := write(t, must(t, "waiting", "-dir", s.dir))
	passkey := newPasskey.FindStringSubmatch(func() string { _, _, said := do(t, "authorise", "-key", key, "-yes", file); return said }())
	if passkey == nil {
		t.Fatal("no new passkey is said")
	}
	refused(t, "passkeys are new to this key: "+passkey[1], "authorise", "-key", key, "-yes", file)
	refused(t, "passkeys are new to this key: "+passkey[1], "authorise", "-key", key, "-yes", "-accept-new", "AAAA-AAAA-AAAA-AAAA", file)
	if _, err := os.Stat(grants.MemoryPath(key)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused is remembered: %v", err)
	}
	ask := func(answer string) (out, said string, err error) {
		var stdout, stderr bytes.Buffer
		call := newCall("authorise", []string{"-key", key, file}, &stdout, &stderr)
		call.stdin = strings.NewReader(answer)
		err = authorise(t.Context(), call)
		return stdout.String(), stderr.String(), err
	}
	for _, answer := range []string{"no\n", "yes\n", "yes\nyes\n", "new\nno\n", "new\n", ""} {
		if out, _, err := ask(answer); err == nil || out != "" {
			t.Errorf("with a new passkey, answer %q: signed", answer)
		}
	}
	code, signed, said := do(t, "authorise", "-key", key, "-yes", "-accept-new", strings.ToLower(passkey[1]), file)
	if code != 0 || !strings.Contains(said, `"Anne Berg", "nurse"`) || !strings.Contains(said, "with the passkeys ") || !strings.Contains(said, "volume 20 %") || !strings.Contains(said, `"Kari Nes", "technician"`) || !strings.Contains(said, "3 signed") {
		t.Fatalf("authorise: %d, %s", code, said)
	}
	for _, answer := range []string{"no\n", "y\n", ""} {
		if out, _, err := ask(answer); err == nil || out != "" {
			t.Errorf("answer %q: signed", answer)
		}
	}
	// What was signed here before is not new again.
	if out, said, err := ask("yes\n"); err != nil || !strings.Contains(out, `"signed"`) || strings.Contains(said, "NEW PASSKEY") {
		t.Errorf("answer yes: %v, %s", err, said)
	}
	other := newClinic(t)
	refused(t, "not what this clinic wanted signed", "accept", "-dir", other, write(t, signed))
	refused(t, "another key", "authorise", "-key", filepath.Join(other, folderAuthority, "authorisation.key"), "-yes", file)
	refused(t, "others than the owner", "authorise", "-yes", "-key", func() string {
		b, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		open := write(t, string(b))
		if err := os.Chmod(open, 0o644); err != nil {
			t.Fatal(err)
		}
		return open
	}(), file)
	refused(t, "were not signed", "accept", "-dir", s.dir, file)
	refused(t, "damaged", "accept", "-dir", s.dir, write(t, signed[:len(signed)/2]))
	at := strings.LastIndex(signed, `"signed": "`) + len(`"signed": "`) + 200
	flipped := []byte(signed)
	if flipped[at] == 'A' {
		flipped[at] = 'B'
	} else {
		flipped[at] = 'A'
	}
	refused(t, "not what this clinic wanted signed", "accept", "-dir", s.dir, write(t, string(flipped)))
	must(t, "accept", "-dir", s.dir, write(t, signed))
	refused(t, "taken before", "accept", "-dir", s.dir, write(t, signed))
	if _, a, err := c.grants.Current(t.Context(), person.ID); err != nil || a.Party.Name != "Anne Berg" {
		t.Errorf("authorisation %+v, %v", a, err)
	}
	follow(t, id)
	if id.Policy().Serial <= before || id.Policy().Volume != 20 {
		t.Errorf("policy %+v", id.Policy())
	}

	// The key is followed by another, which never was on the server.
	next := filepath.Join(t.TempDir(), "next.key")
	public := write(t, must(t, "authorise", "-new", next, "-key", key))
	sign := func(key string) {
		t.Helper()
		must(t, "accept", "-dir", s.dir, write(t, must(t, "authorise", "-yes", "-key", key, write(t, must(t, "waiting", "-dir", s.dir)))))
	}
	must(t, "roll-over", "-dir", s.dir, "-public", public)
	refused(t, "not signed in yet", "roll-over", "-dir", s.dir, "-finish")
	sign(key)
	eventually(t, "the second key", func() bool { follow(t, id); return len(id.Authorities()) == 2 })
	must(t, "roll-over", "-dir", s.dir, "-finish")
	sign(next)
	eventually(t, "the old key leaves", func() bool { follow(t, id); return len(id.Authorities()) == 1 })
	was := id.Policy().Serial
	sign(next) // what the old key has signed
	follow(t, id)
	if id.Policy().Serial <= was {
		t.Error("the policy was not signed anew")
	}
	if _, _, err := openBeside(t, s.dir).grants.Current(t.Context(), person.ID); err != nil {
		t.Error(err)
	}
}
