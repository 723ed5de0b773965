package grants

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vindu/clinic/authority"
	"vindu/protocol"
)

// takeKey takes the authorisation key away from the server.
func (c *clinic) takeKey() *ecdsa.PrivateKey {
	c.t.Helper()
	path := filepath.Join(c.dir, "authorisation.key")
	key, err := authority.ReadKey(path)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Authority.Refresh(); err != nil || c.Authority.KeyHere() {
		c.t.Fatal(err)
	}
	return key
}

// waiting returns what waits, as another machine reads it.
func (c *clinic) waiting() *File {
	c.t.Helper()
	f, err := c.Waiting(c.t.Context(), "Solvik clinic")
	if err != nil {
		c.t.Fatal(err)
	}
	return copyOf(c.t, f)
}

func copyOf(t *testing.T, f *File) *File {
	t.Helper()
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseFile(&b)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func sign(t *testing.T, f *File, key *ecdsa.PrivateKey) *File {
	t.Helper()
	f = copyOf(t, f)
	items, err := f.For(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		if err := i.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	return copyOf(t, f)
}

// Who signs a policy reads when it is quiet, not how often.
func TestQuietWords(t *testing.T) {
	for want, spans := range map[string][]protocol.Span{
		"no quiet hours":                      nil,
		"quiet every day from 22:00 to 07:05": {{Days: 0x7f, From: 22 * 60, To: 7*60 + 5}},
		"quiet mon sun from 00:00 to 24:00, every day from 12:30 to 13:00": {{Days: 0x41, To: 24 * 60}, {Days: 0x7f, From: 750, To: 780}},
	} {
		if got := quietWords(spans); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestElsewhere: with the key on another machine all goes on, by files, and nothing comes in that was not asked for.
func TestElsewhere(t *testing.T) {
	c := open(t)
	c.now = time.Now
	terminal := c.enrol(c.home)
	key := c.takeKey()
	c.give(c.grant())
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrWaits) || !errors.Is(err, authority.ErrKeyElsewhere) {
		t.Errorf("before it is signed: %v", err)
	}
	if signed, err := c.Policy(t.Context(), terminal); err != nil || signed != nil {
		t.Errorf("before it is signed: %x, %v", signed, err)
	}
	moved := protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}}
	if _, err := c.Authority.EnsureTrust(moved); !errors.Is(err, authority.ErrKeyElsewhere) {
		t.Error(err)
	}
	f := c.waiting()
	if len(f.Items) != 3 || f.Items[0].Kind != KindTrust || f.Items[1].Kind != KindAuthorisation || f.Items[2].Kind != KindPolicy || f.Items[2].For != "Home 17" {
		t.Fatalf("%d items wait", len(f.Items))
	}
	for n, want := range []string{"ALL TERMINALS are to believe", `"Anne Berg", "nurse", "Solvik clinic" ("employed"), may call as "staff" from `, "\"staff\" is answered after 10 s; everybody else is refused"} {
		if got := f.Items[n].Words(); !strings.Contains(got, want) {
			t.Errorf("item %d: %s", n, got)
		}
	}
	asked := new(protocol.Authorisation) // each passkey is named: who signs can see one that was not there before
	if err := protocol.Decode(f.Items[1].Body, asked); err != nil || len(asked.Credentials) == 0 {
		t.Fatalf("%d passkeys, %v", len(asked.Credentials), err)
	}
	for _, p := range asked.Credentials {
		if got := f.Items[1].Words(); !strings.Contains(got, protocol.HashSPKI(p.Key).Code()) {
			t.Errorf("a passkey is not named: %s", got)
		}
	}
	if again := c.waiting(); !bytes.Equal(again.Items[1].Body, f.Items[1].Body) || len(again.Items) != 3 {
		t.Error("asked again, another waits")
	}
	stranger, err := ecdsa.GenerateKey(key.Curve, rand.Reader)
	if err == nil {
		_, err = f.For(&stranger.PublicKey)
	}
	if !errors.Is(err, ErrOtherKey) {
		t.Errorf("another clinic's key: %v", err)
	}
	good := sign(t, f, key)
	swap := func(n int, change func(i *Item)) *File {
		g := copyOf(t, good)
		change(&g.Items[n])
		return g
	}
	resign := func(n int, change func(m any)) *File {
		return swap(n, func(i *Item) {
			m, err := i.statement()
			if err != nil {
				t.Fatal(err)
			}
			change(m)
			switch m := m.(type) {
			case *protocol.Authorisation:
				i.Body, err = protocol.Encode(m)
			case *protocol.Policy:
				i.Body, err = protocol.Encode(m)
			case *protocol.Trust:
				i.Body, err = protocol.Encode(m)
			}
			if err == nil {
				err = i.Sign(key)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	wide := func(m any) { m.(*protocol.Authorisation).Scope.Homes = []string{"1"} }
	state := func() [4]int {
		return [4]int{c.count("SELECT count(*) FROM grant_authorisations WHERE signed IS NOT NULL"), c.count("SELECT count(*) FROM grant_policies WHERE signed IS NOT NULL"),
			c.count("SELECT count(*) FROM audit_entries"), len(c.Authority.TrustAfter(0))}
	}
	for name, bad := range map[string]*File{
		"signature cut":                swap(1, func(i *Item) { i.Signed = i.Signed[:len(i.Signed)-1] }),
		"signed by another key":        swap(1, func(i *Item) { _ = i.Sign(stranger) }),
		"policy by another key":        swap(2, func(i *Item) { _ = i.Sign(stranger) }),
		"trust by another key":         swap(0, func(i *Item) { _ = i.Sign(stranger) }),
		"another scope, well signed":   resign(1, wide),
		"another volume, well signed":  resign(2, func(m any) { m.(*protocol.Policy).Volume = 1 }),
		"another origin, well signed":  resign(0, func(m any) { m.(*protocol.Trust).RelyingParty.Origins = []string{"https://x.clinic.example"} }),
		"another's signature":          swap(1, func(i *Item) { i.Signed = good.Items[2].Signed }),
		"a signature for another body": swap(1, func(i *Item) { i.Signed = resign(1, wide).Items[1].Signed }),
	} {
		before := state()
		if _, err := c.Accept(t.Context(), "kari", bad); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
		if state() != before {
			t.Errorf("%s: something was taken", name)
		}
	}
	if a, err := c.Accept(t.Context(), "kari", f); !errors.Is(err, ErrStale) || a.Unsigned != 3 {
		t.Errorf("unsigned: %+v, %v", a, err)
	}
	a, err := c.Accept(t.Context(), "kari", good)
	if err != nil || a.Taken != 3 || a.Stale != 0 {
		t.Fatal(a, err)
	}
	if a, err := c.Accept(t.Context(), "kari", good); !errors.Is(err, ErrStale) || a.Stale != 3 {
		t.Errorf("a second time: %+v, %v", a, err)
	}
	if p := c.policyOf(terminal); p.Rule("staff").Mode != protocol.ModeRing {
		t.Errorf("policy %+v", p)
	}
	first := c.current()
	if _, trust := c.Authority.Trust(); trust.RelyingParty.ID != "clinic.example" {
		t.Error("the trust is the old one")
	}
	if n := len(c.waiting().Items); n != 0 {
		t.Errorf("%d items still wait", n)
	}
	// Renewed in time for somebody to carry it; the old one holds until then.
	last := int64(-1)
	c.ends(&last)
	c.pass(4 * 24 * time.Hour)
	f = c.waiting()
	if len(f.Items) != 1 || c.current().ID != first.ID || len(c.ends(&last)) != 0 {
		t.Fatalf("%d items wait after half its life", len(f.Items))
	}
	old := sign(t, f, key)
	c.keys.set(c.anne.ID, append(first.Credentials, credential(t, 2))...)
	f = c.waiting() // another passkey: another one waits, and the one in the file does not any more
	if len(f.Items) != 1 || bytes.Equal(f.Items[0].Body, old.Items[0].Body) {
		t.Fatal("the next one does not wait")
	}
	if _, err := c.Accept(t.Context(), "kari", old); !errors.Is(err, ErrStale) {
		t.Errorf("a stale file: %v", err)
	}
	if c.current().ID != first.ID {
		t.Error("what was signed before does not hold until the next is")
	}
	if _, err := c.Accept(t.Context(), "kari", sign(t, f, key)); err != nil {
		t.Fatal(err)
	}
	if a := c.current(); len(a.Credentials) != 2 {
		t.Errorf("%d passkeys", len(a.Credentials))
	}
	// A right that is withdrawn ends at once, key or no key.
	c.keys.set(c.anne.ID)
	f = c.waiting()
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrNoPasskey) || len(c.ends(&last)) != 1 || len(f.Items) != 0 {
		t.Errorf("without a passkey: %v, %d items wait", err, len(f.Items))
	}
}

// TestElsewhereMoves: what was signed for another home, or by a key that has left, goes to nobody while the next one waits.
func TestElsewhereMoves(t *testing.T) {
	c := open(t)
	c.now = time.Now
	request := c.request()
	c.letIn(c.Register.Enrol, request, c.home)
	c.give(c.grant())
	c.current()
	c.policyOf(request.Hash)
	key := c.takeKey()
	next := filepath.Join(t.TempDir(), "next.key")
	public, err := authority.NewAuthorisationKey(next)
	if err != nil {
		t.Fatal(err)
	}
	nextKey, err := authority.ReadKey(next)
	if err != nil {
		t.Fatal(err)
	}
	signedBy := func(key *ecdsa.PrivateKey) {
		t.Helper()
		if _, err := c.Accept(t.Context(), "kari", sign(t, c.waiting(), key)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Authority.AddAuthority(public); !errors.Is(err, authority.ErrKeyElsewhere) {
		t.Fatal(err)
	}
	signedBy(key)
	c.current()
	c.policyOf(request.Hash)
	if _, err := c.Authority.DropAuthority(); !errors.Is(err, authority.ErrKeyElsewhere) {
		t.Fatal(err)
	}
	signedBy(nextKey)
	if signed, err := c.Policy(t.Context(), request.Hash); err != nil || signed != nil {
		t.Errorf("a policy by the key that has left: %x, %v", signed, err)
	}
	if _, _, err := c.Current(t.Context(), c.anne.ID); !errors.Is(err, ErrWaits) {
		t.Errorf("an authorisation by the key that has left: %v", err)
	}
	signedBy(nextKey)
	c.current()
	c.policyOf(request.Hash)
	c.letIn(c.Register.Move, request, c.newHome("Home 18"))
	if signed, err := c.Policy(t.Context(), request.Hash); err != nil || signed != nil {
		t.Errorf("the policy of the home before: %x, %v", signed, err)
	}
	signedBy(nextKey)
	if p := c.policyOf(request.Hash); p.Home == c.home.ID {
		t.Errorf("policy %+v", p)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"format":"vindu-waiting-1","clinic":"x","made":1,"items":[]}`))
	f.Add([]byte(`{"format":"vindu-waiting-1","clinic":"x","made":1,"items":[{"kind":"policy","key":"k","body":"oA=="}]}`))
	f.Add([]byte(`{"format":"vindu-waiting-1","clinic":"x","made":1,"items":[{"kind":"trust","key":"k","body":""}],"more":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := ParseFile(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrFile) {
				t.Error(err)
			}
			return
		}
		for _, i := range file.Items {
			if i.Words() == "unreadable" {
				t.Error("an item that cannot be read")
			}
		}
	})
}
