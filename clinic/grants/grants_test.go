package grants

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ Passkeys = (*passkey.Service)(nil)

// keys are the persons' passkeys.
type keys struct {
	mu sync.Mutex
	of map[string][]protocol.Credential
}

func (k *keys) Credentials(_ context.Context, person string) ([]protocol.Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]protocol.Credential{}, k.of[person]...), nil
}

func (k *keys) set(person string, list ...protocol.Credential) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of[person] = list
}

// failing fails at the entry that is as far away as left says.
type failing struct {
	Auditor
	left int
}

var errDisk = errors.New("disk failed")

func (f *failing) AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error {
	if f.left--; f.left == 0 {
		return errDisk
	}
	return f.Auditor.AppendTx(ctx, tx, e)
}

type clinic struct {
	*Service
	t    *testing.T
	dir  string
	keys *keys
	log  *audit.Log
	anne register.Person
	home register.Home
}

func open(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "authority")
	if err := authority.Create(folder, "Solvik clinic"); err != nil {
		t.Fatal(err)
	}
	a, err := authority.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.EnsureTrust(protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost"}}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	l, err := audit.New(t.Context(), st, a.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := register.New(t.Context(), st, l)
	if err != nil {
		t.Fatal(err)
	}
	c := &clinic{t: t, dir: folder, keys: &keys{of: map[string][]protocol.Credential{}}, log: l}
	if c.Service, err = New(t.Context(), Config{Store: st, Audit: l, Register: r, Authority: a, Passkeys: c.keys, Log: log}); err != nil {
		t.Fatal(err)
	}
	if c.anne, err = r.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Solvik clinic"}, register.Clinician); err != nil {
		t.Fatal(err)
	}
	c.home = c.newHome("Home 17")
	c.keys.set(c.anne.ID, credential(t, 1))
	return c
}

func (c *clinic) newHome(label string) register.Home {
	c.t.Helper()
	h, err := c.Register.EnsureHome(c.t.Context(), "test", label)
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

func spki(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func credential(t *testing.T, id byte) protocol.Credential {
	return protocol.Credential{ID: []byte{id}, Key: spki(t)}
}

// enrol puts a terminal into a home.
func (c *clinic) enrol(home register.Home) protocol.KeyHash {
	c.t.Helper()
	request := c.request()
	c.letIn(c.Register.Enrol, request, home)
	return request.Hash
}

type letIn = func(context.Context, protocol.Nonce, []byte, *authority.Request, register.Issue) (*x509.Certificate, error)

func (c *clinic) letIn(by letIn, request *authority.Request, home register.Home) {
	c.t.Helper()
	_, v, err := c.Register.IssueVoucherFor(c.t.Context(), "test", home.Label, time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := by(c.t.Context(), v.ID, v.Secret, request, c.Authority.IssueTerminal); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) request() *authority.Request {
	c.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "t"}}, k)
	if err != nil {
		c.t.Fatal(err)
	}
	request, err := authority.ParseRequest(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return request
}

func (c *clinic) grant() Grant {
	now := c.now()
	return Grant{Person: c.anne.ID, Employment: "employed", Callers: "staff", Scope: protocol.Scope{Homes: []string{c.home.ID}}, From: now.Add(-time.Minute), To: now.AddDate(1, 0, 0), Reason: "works on the ward"}
}

func (c *clinic) give(g Grant) Grant {
	c.t.Helper()
	given, err := c.Give(c.t.Context(), "kari", g)
	if err != nil {
		c.t.Fatal(err)
	}
	return given
}

// current returns the authorisation that holds, as a terminal verifies it.
func (c *clinic) current() *protocol.Authorisation {
	c.t.Helper()
	signed, told, err := c.Current(c.t.Context(), c.anne.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := protocol.ParseKey(c.Authority.Authorities()[0])
	if err != nil {
		c.t.Fatal(err)
	}
	a := new(protocol.Authorisation)
	if err := protocol.Verify(signed, key, a); err != nil {
		c.t.Fatal(err)
	}
	if a.ID != told.ID || a.To != told.To {
		c.t.Errorf("told %+v, signed %+v", told, a)
	}
	return a
}

func (c *clinic) count(query string) (n int) {
	c.t.Helper()
	if err := c.Store.Read().QueryRow(query).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *clinic) pass(d time.Duration) {
	at := c.now().Add(d)
	c.now = func() time.Time { return at }
}

// ends collects of whom Watch would tell.
func (c *clinic) ends(last *int64) (persons []string) {
	c.t.Helper()
	if err := c.endsSince(c.t.Context(), last, func(p string) { persons = append(persons, p) }); err != nil {
		c.t.Fatal(err)
	}
	return persons
}

// TestAuthorisation (R27, R29): what terminals believe follows from grant and passkeys, for a week at a time.
func TestAuthorisation(t *testing.T) {
	c := open(t)
	last := int64(-1)
	c.ends(&last)
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrNoGrant) {
		t.Errorf("without a grant: %v", err)
	}
	g := c.give(c.grant())
	first := c.current()
	if first.Person != c.anne.ID || first.Party != c.anne.Party || first.Group != "staff" || first.Employment != "employed" || len(first.Credentials) != 1 ||
		!first.Scope.Contains(c.home.ID, nil) || first.Scope.Contains("1", nil) {
		t.Errorf("authorisation %+v", first)
	}
	if life := first.To.Time().Sub(first.From.Time()); life != 7*24*time.Hour {
		t.Errorf("it holds for %v", life)
	}
	used := first.Credentials[0]
	used.Counter = 42
	c.keys.set(c.anne.ID, used)
	c.pass(5*24*time.Hour + 20*time.Hour)
	if c.current().ID != first.ID {
		t.Error("made anew long before its end")
	}
	c.pass(5 * time.Hour)
	second := c.current()
	if n := second.Credentials[0].Counter; n != 42 {
		t.Errorf("the next one says that the passkey has counted to %d, want 42", n)
	}
	if second.ID == first.ID || second.To <= first.To {
		t.Error("not renewed a day before its end")
	}
	if told := c.ends(&last); len(told) != 0 {
		t.Errorf("a renewal ended calls of %v", told)
	}
	c.keys.set(c.anne.ID, second.Credentials[0], credential(t, 2))
	third := c.current()
	if len(third.Credentials) != 2 || len(c.ends(&last)) != 0 {
		t.Errorf("another passkey: %+v", third.Credentials)
	}
	c.keys.set(c.anne.ID, third.Credentials[1])
	fourth := c.current()
	if len(fourth.Credentials) != 1 || len(c.ends(&last)) != 1 {
		t.Errorf("a passkey fewer: %+v", fourth.Credentials)
	}
	wider := g
	other := c.newHome("Home 18")
	wider.Scope.Homes = []string{other.ID, c.home.ID, other.ID}
	c.give(wider)
	if a := c.current(); len(a.Scope.Homes) != 2 || len(c.ends(&last)) != 0 {
		t.Errorf("one home more: %+v", a.Scope)
	}
	c.give(g)
	if told := c.ends(&last); len(told) != 1 || told[0] != c.anne.ID {
		t.Errorf("one home fewer: told of %v", told)
	}
	for home, want := range map[string]bool{c.home.ID: true, other.ID: false} {
		if ok, err := c.Permits(t.Context(), c.anne.ID, home); err != nil || ok != want {
			t.Errorf("home %s: %v, %v", home, ok, err)
		}
	}
	c.keys.set(c.anne.ID)
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrNoPasskey) || len(c.ends(&last)) != 1 {
		t.Errorf("no passkey: %v", err)
	}
	c.keys.set(c.anne.ID, credential(t, 3))
	c.current()
	if _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, ""); !errors.Is(err, ErrBounds) {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, "has left"); err != nil {
		t.Fatal(err)
	}
	if told := c.ends(&last); len(told) != 1 {
		t.Errorf("withdrawn: told of %v", told)
	}
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrNoGrant) {
		t.Errorf("withdrawn: %v", err)
	}
	if _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, "again"); !errors.Is(err, ErrNoGrant) {
		t.Errorf("withdrawn twice: %v", err)
	}
	history, err := c.History(t.Context(), c.anne.ID)
	if err != nil || len(history) != 3 || history[0].EndedWhy != "has left" || history[0].EndedBy != "kari" || history[2].ID != g.ID || history[2].By != "kari" || history[2].Reason != g.Reason {
		t.Errorf("history %+v, %v", history, err)
	}
}

// TestGrantTime: a grant begins and ends by itself, and no authorisation holds for longer than it.
func TestGrantTime(t *testing.T) {
	c := open(t)
	g := c.grant()
	g.From, g.To = c.now().Add(time.Hour), c.now().Add(49*time.Hour)
	c.give(g)
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrNoGrant) {
		t.Errorf("before it begins: %v", err)
	}
	c.pass(2 * time.Hour)
	if a := c.current(); a.From.Time().Before(g.From.Truncate(time.Millisecond)) || a.To != protocol.At(g.To) {
		t.Errorf("from %v to %v", a.From.Time(), a.To.Time())
	}
	was := c.current()
	c.pass(30 * time.Hour) // less than a day before its end, but the grant ends then, too
	if c.current().ID != was.ID {
		t.Error("made anew without being longer")
	}
	if _, err := c.Renew(t.Context(), "kari", c.anne.ID, c.now().AddDate(0, 6, 0), "stays"); err != nil {
		t.Fatal(err)
	}
	if a := c.current(); a.ID == was.ID {
		t.Error("the grant was renewed, the authorisation not")
	}
	last := int64(-1)
	c.ends(&last)
	c.pass(200 * 24 * time.Hour)
	if err := c.sweepPersons(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told := c.ends(&last); len(told) != 1 {
		t.Errorf("it is over: told of %v", told)
	}
	if err := c.sweepPersons(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told := c.ends(&last); len(told) != 0 {
		t.Errorf("told twice of %v", told)
	}
}

// TestReview (R28): grants that nobody has looked at in a year.
func TestReview(t *testing.T) {
	c := open(t)
	g := c.grant()
	g.To = c.now().AddDate(3, 0, 0)
	c.give(g)
	c.pass(364 * 24 * time.Hour)
	if list, err := c.Review(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("after 364 days: %v, %v", list, err)
	}
	c.pass(2 * 24 * time.Hour)
	if list, err := c.Review(t.Context()); err != nil || len(list) != 1 || list[0].Person != c.anne.ID {
		t.Errorf("after 366 days: %v, %v", list, err)
	}
	if _, err := c.Renew(t.Context(), "kari", c.anne.ID, c.now().AddDate(1, 0, 0), "still works here"); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Review(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("renewed: %v, %v", list, err)
	}
	c.pass(2 * 365 * 24 * time.Hour)
	if list, err := c.Review(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("over: %v, %v", list, err)
	}
}

func TestBounds(t *testing.T) {
	c := open(t)
	if err := c.SetHomeGroups(t.Context(), "kari", c.home.ID, []string{"north"}); err != nil {
		t.Fatal(err)
	}
	many := make([]string, protocol.MaxScope+1)
	for i := range many {
		many[i] = c.newHome(fmt.Sprintf("Many %d", i)).ID
	}
	for name, tc := range map[string]struct {
		change func(*Grant)
		want   error
		says   string
	}{
		"no home":          {func(g *Grant) { g.Scope = protocol.Scope{} }, ErrBounds, "name homes"},
		"too many homes":   {func(g *Grant) { g.Scope.Homes = many }, ErrBounds, "at most 64; put them into a group"},
		"too many groups":  {func(g *Grant) { g.Scope.Groups = many }, ErrBounds, "at most 64"},
		"unknown home":     {func(g *Grant) { g.Scope.Homes = []string{"1"} }, register.ErrNotFound, "home"},
		"unknown group":    {func(g *Grant) { g.Scope.Groups = []string{"south"} }, register.ErrNotFound, "put a home into it first"},
		"unknown person":   {func(g *Grant) { g.Person = "1" }, register.ErrNotFound, "person"},
		"no employment":    {func(g *Grant) { g.Employment = "" }, ErrBounds, "employment"},
		"control in group": {func(g *Grant) { g.Callers = "staff\x1b[2J" }, ErrBounds, "printed"},
		"no reason":        {func(g *Grant) { g.Reason = "" }, ErrBounds, "why"},
		"over":             {func(g *Grant) { g.From, g.To = g.From.AddDate(-2, 0, 0), c.now() }, ErrBounds, "after today"},
		"backwards":        {func(g *Grant) { g.From = g.To.Add(time.Hour) }, ErrBounds, "after it begins"},
		"six years":        {func(g *Grant) { g.To = g.From.AddDate(6, 0, 0) }, ErrBounds, "five years"},
	} {
		g := c.grant()
		tc.change(&g)
		if _, err := c.Give(t.Context(), "kari", g); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := c.grant()
	g.Scope = protocol.Scope{Homes: many[:protocol.MaxScope], Groups: []string{"north"}}
	c.give(g)
	if a := c.current(); len(a.Scope.Homes) != protocol.MaxScope {
		t.Errorf("%d homes", len(a.Scope.Homes))
	}
	if _, err := New(t.Context(), Config{Store: c.Store, Life: 32 * 24 * time.Hour}); !errors.Is(err, ErrBounds) {
		t.Errorf("32 days: %v", err)
	}
	huge := make([]protocol.Credential, protocol.MaxCredentials)
	for i := range huge {
		huge[i] = protocol.Credential{ID: bytes.Repeat([]byte{byte(i + 1)}, 1023), Key: spki(t)}
	}
	c.keys.set(c.anne.ID, huge...)
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrBounds) || !strings.Contains(err.Error(), "put homes into a group") {
		t.Errorf("an authorisation that is too large: %v", err)
	}
}

// TestHistory (R17): nothing is rewritten or deleted, whoever asks the database.
func TestHistory(t *testing.T) {
	c := open(t)
	c.give(c.grant())
	c.current()
	if _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, "has left"); err != nil {
		t.Fatal(err)
	}
	c.give(c.grant())
	for _, query := range []string{
		"DELETE FROM grants", "UPDATE grants SET reason = 'x'", "UPDATE grants SET valid_to = valid_to + 1 WHERE ended IS NULL", "UPDATE grants SET ended = NULL",
		"UPDATE grants SET person = 'x' WHERE ended IS NULL", "DELETE FROM grant_authorisations", "UPDATE grant_authorisations SET ended = NULL",
		"UPDATE grant_authorisations SET signed = x'00' WHERE ended IS NULL", "UPDATE grant_authorisations SET body = x'00' WHERE ended IS NULL",
	} {
		if err := c.Store.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(query); return err }); err == nil {
			t.Errorf("%s: done", query)
		}
	}
}

// TestRacers: fifty at once, and one authorisation is made; fifty who give and withdraw, and one grant at most is left.
func TestRacers(t *testing.T) {
	c := open(t)
	c.keys.set(c.anne.ID)
	c.give(c.grant())
	c.keys.set(c.anne.ID, credential(t, 1))
	c.now = time.Now
	var group sync.WaitGroup
	ids := make(chan protocol.Nonce, 50)
	for range cap(ids) {
		group.Go(func() {
			_, a, err := c.Current(t.Context(), c.anne.ID)
			if err != nil {
				t.Error(err)
				return
			}
			ids <- a.ID
		})
	}
	group.Wait()
	first := <-ids
	for range len(ids) {
		if id := <-ids; id != first {
			t.Fatal("two authorisations")
		}
	}
	if n := c.count("SELECT count(*) FROM grant_authorisations"); n != 1 {
		t.Errorf("%d authorisations were made", n)
	}
	for i := range 50 {
		group.Go(func() {
			var err error
			switch i % 3 {
			case 0:
				_, err = c.Give(t.Context(), "kari", c.grant())
			case 1:
				_, err = c.Withdraw(t.Context(), "kari", c.anne.ID, "race")
			case 2:
				_, err = c.Renew(t.Context(), "kari", c.anne.ID, time.Now().AddDate(1, 0, i), "race")
			}
			if err != nil && !errors.Is(err, ErrNoGrant) {
				t.Error(err)
			}
			if _, _, err := c.Current(t.Context(), c.anne.ID); err != nil && !none(err) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := c.count("SELECT count(*) FROM grants WHERE ended IS NULL"); n > 1 {
		t.Errorf("%d grants hold", n)
	}
	if n := c.count("SELECT count(*) FROM grant_authorisations WHERE ended IS NULL"); n > 1 {
		t.Errorf("%d authorisations hold", n)
	}
	if n := c.count("SELECT count(*) FROM grant_authorisations AS a JOIN grants ON grants.id = a.grant_id WHERE a.ended IS NULL AND grants.ended IS NOT NULL"); n > 1 {
		t.Errorf("%d authorisations of grants that ended", n)
	}
}

// TestStoreFails: whichever write fails, either all of a change is there, or nothing of it.
func TestStoreFails(t *testing.T) {
	c := open(t)
	terminal := c.enrol(c.home)
	state := func() string {
		return fmt.Sprint(c.count("SELECT count(*) FROM grants"), c.count("SELECT count(*) FROM grants WHERE ended IS NULL"), c.count("SELECT count(*) FROM grant_authorisations"),
			c.count("SELECT count(*) FROM grant_authorisations WHERE ended IS NULL"), c.count("SELECT count(*) FROM grant_ends"), c.count("SELECT count(*) FROM grant_home_groups"),
			c.count("SELECT count(*) FROM grant_policies"), c.count("SELECT count(*) FROM grant_policy_settings"), c.count("SELECT count(*) FROM audit_entries"))
	}
	narrow := DefaultSettings()
	narrow.Volume = protocol.MinVolume
	for name, do := range map[string]func() error{
		"give": func() error { _, err := c.Give(t.Context(), "kari", c.grant()); return err },
		"renew": func() error {
			_, err := c.Renew(t.Context(), "kari", c.anne.ID, c.now().AddDate(2, 0, 0), "on")
			return err
		},
		"withdraw": func() error { _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, "has left"); return err },
		"groups":   func() error { return c.SetHomeGroups(t.Context(), "kari", c.home.ID, []string{"north"}) },
		"set":      func() error { return c.SetPolicy(t.Context(), "kari", c.home.ID, narrow) },
		"policy":   func() error { _, err := c.Policy(t.Context(), terminal); return err },
	} {
		c.Audit = c.log
		if name == "renew" || name == "withdraw" {
			c.give(c.grant())
		}
		failed := 0
		for at := 1; ; at++ {
			before := state()
			c.Audit = &failing{c.log, at}
			err := do()
			if err == nil {
				break
			}
			failed++
			if !errors.Is(err, errDisk) || state() != before {
				t.Errorf("%s, entry %d: %v; before %s, after %s", name, at, err, before, state())
			}
		}
		if failed == 0 {
			t.Errorf("%s writes nothing to the audit log", name)
		}
	}
}
