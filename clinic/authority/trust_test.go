package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
)

var site = protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost:8080"}}

func ensured(t *testing.T) (*Authority, string) {
	t.Helper()
	a, dir := load(t)
	if changed, err := a.EnsureTrust(site); err != nil || !changed {
		t.Fatal(changed, err)
	}
	return a, dir
}

// terminal is what follows the trust as a terminal does.
type terminal struct{ trust *protocol.Trust }

func (m *terminal) follow(signed []byte) bool {
	got, err := verifyTrust(signed, m.trust.Authorities)
	if err != nil || got.trust.Serial < m.trust.Serial {
		return false
	}
	m.trust = got.trust
	return true
}

func TestTrust(t *testing.T) {
	a, dir := ensured(t)
	signed, trust := a.Trust()
	if _, err := verifyTrust(signed, a.Authorities()); err != nil {
		t.Error(err)
	}
	if len(trust.Service) != 1 || !bytes.Equal(trust.Service[0], a.Service()) || bytes.Equal(a.Service(), a.Authorities()[0]) || trust.RelyingParty.ID != "localhost" {
		t.Errorf("trust %+v", trust)
	}
	if changed, err := a.EnsureTrust(site); err != nil || changed {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	const relay = "turns:clinic.example:443?transport=tcp"
	for n, want := range []bool{true, false} {
		if changed, err := a.EnsureTrust(site, relay); err != nil || changed != want {
			t.Errorf("a relay, the %d. time: %v, %v", n+1, changed, err)
		}
	}
	if signed, trust = a.Trust(); len(trust.Relays) != 1 || trust.Relays[0] != relay {
		t.Errorf("relays %q", trust.Relays)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if loaded, _ := again.Trust(); !bytes.Equal(loaded, signed) || !bytes.Equal(again.Service(), a.Service()) {
		t.Error("loaded another trust, or service key")
	}
	again.now = func() time.Time { return time.Now().AddDate(-1, 0, 0) } // the clock goes back, the number does not
	moved := protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}}
	if changed, err := again.EnsureTrust(moved); err != nil || !changed {
		t.Fatal(changed, err)
	}
	old := terminal{trust}
	if next, n := again.Trust(); n.Serial != trust.Serial+1 || !old.follow(next) {
		t.Errorf("a terminal does not follow from %d to %d", trust.Serial, n.Serial)
	}
	if changed, err := a.Refresh(); err != nil || !changed {
		t.Errorf("a server beside: %v, %v", changed, err)
	}
	if _, n := a.Trust(); n.RelyingParty.ID != "clinic.example" {
		t.Error("a server beside has the old one")
	}
	if changed, err := a.Refresh(); err != nil || changed {
		t.Errorf("a second time: %v, %v", changed, err)
	}
}

// TestRollOver: the authorisation key is followed by another, and every terminal follows, one that was away from before the first step until after the second too.
func TestRollOver(t *testing.T) {
	a, dir := ensured(t)
	first, begin := a.Trust()
	if _, err := a.DropAuthority(); !errors.Is(err, ErrTrust) {
		t.Errorf("the only key leaves: %v", err)
	}
	signedBefore, err := a.SignAuthorisation(authorisation(t))
	if err != nil {
		t.Fatal(err)
	}
	oldKey := a.Authorities()[0]
	added, err := a.AddAuthority(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.AddAuthority(nil); !errors.Is(err, ErrTrust) {
		t.Errorf("a third key: %v", err)
	}
	both, trust := a.Trust()
	if len(trust.Authorities) != 2 || !bytes.Equal(trust.Authorities[0], oldKey) || protocol.HashSPKI(trust.Authorities[1]) != added {
		t.Fatalf("authorities %x", trust.Authorities)
	}
	here := terminal{begin}
	if !here.follow(both) {
		t.Error("a terminal does not take the second key")
	}
	if key, _, err := a.signing(); err != nil || !bytes.Equal(spki(t, &key.PublicKey), oldKey) {
		t.Errorf("during the roll-over another key signs: %v", err)
	}
	if dropped, err := a.DropAuthority(); err != nil || dropped != protocol.HashSPKI(oldKey) {
		t.Fatal(dropped, err)
	}
	last, end := a.Trust()
	if len(end.Authorities) != 1 || protocol.HashSPKI(end.Authorities[0]) != added {
		t.Fatalf("authorities %x", end.Authorities)
	}
	if !here.follow(last) {
		t.Error("a terminal does not follow the second step")
	}
	fresh := terminal{&protocol.Trust{Authorities: a.Authorities()}}
	if !fresh.follow(last) {
		t.Error("a terminal that is set up now does not take the trust")
	}
	away := terminal{begin}
	if away.follow(last) {
		t.Error("the second step is signed by the old key")
	}
	for range 2 {
		if !away.follow(a.TrustAfter(away.trust.Serial)) {
			t.Error("a terminal that was away does not follow")
		}
	}
	if away.trust.Serial != end.Serial || !bytes.Equal(a.TrustAfter(end.Serial), last) || !bytes.Equal(a.TrustAfter(1), last) || bytes.Equal(first, last) {
		t.Errorf("it stands at %d, not %d", away.trust.Serial, end.Serial)
	}
	if err := protocol.Verify(signedBefore, parseKey(t, a.Authorities()[0]), new(protocol.Authorisation)); !errors.Is(err, protocol.ErrSignature) {
		t.Errorf("what the old key has signed: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, fileSigningKey)); err != nil { // the old key is worth nothing
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.SignAuthorisation(authorisation(t)); err != nil {
		t.Error(err)
	}
}

// TestKeyElsewhere: without its authorisation key the server tells the time, ends calls, certifies terminals, and says of what it cannot do what to do.
func TestKeyElsewhere(t *testing.T) {
	a, dir := load(t)
	away := filepath.Join(t.TempDir(), "authorisation.key")
	if err := os.Rename(filepath.Join(dir, fileSigningKey), away); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "it is needed here until") {
		t.Errorf("without a trust: %v", err)
	}
	if err := os.Rename(away, filepath.Join(dir, fileSigningKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.EnsureTrust(site); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, fileSigningKey), away); err != nil {
		t.Fatal(err)
	}
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.KeyHere() {
		t.Error("the key is here")
	}
	clock, err := a.SignClock(&protocol.Clock{Version: 1, Nonce: protocol.Nonce{1}, At: 1})
	if err == nil {
		err = protocol.Verify(clock, parseKey(t, a.Service()), new(protocol.Clock))
	}
	if err != nil {
		t.Error(err)
	}
	end := &protocol.End{Version: 1, Call: protocol.NewCallID(), Terminal: protocol.KeyHash{1}, Invitation: protocol.Hash{1}, By: protocol.SideClinic, Reason: protocol.SignalLostClinic, At: 1}
	signed, err := a.SignEnd(end)
	if err == nil {
		err = protocol.Verify(signed, parseKey(t, a.Service()), new(protocol.End))
	}
	if err != nil {
		t.Error(err)
	}
	end.By = protocol.SideCaller
	for name, err := range map[string]error{
		"authorisation": second(a.SignAuthorisation(authorisation(t))),
		"policy":        second(a.SignPolicy(new(protocol.Policy))),
		"mandate":       second(a.SignMandate(new(protocol.Mandate))),
		"order":         second(a.SignDecommission(new(protocol.Decommission))),
		"key order":     second(a.SignKeyOrder(new(protocol.KeyOrder))),
	} {
		if !errors.Is(err, ErrKeyElsewhere) {
			t.Errorf("%s: %v", name, err)
		}
	}
	before, was := a.Trust()
	moved := protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}}
	for range 2 { // asked again, the same waits
		if changed, err := a.EnsureTrust(moved); changed || !errors.Is(err, ErrKeyElsewhere) {
			t.Errorf("%v, %v", changed, err)
		}
	}
	if now, _ := a.Trust(); !bytes.Equal(now, before) {
		t.Error("an unsigned trust holds")
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	waiting, by := again.WaitingTrust()
	if waiting == nil || waiting.RelyingParty.ID != "clinic.example" || !bytes.Equal(by, a.Authorities()[0]) {
		t.Fatalf("waiting %+v", waiting)
	}
	key, err := ReadKey(away)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(change func(*protocol.Trust)) []byte {
		c := *waiting
		change(&c)
		signed, err := protocol.Sign(&c, key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	stranger, err := protocol.Sign(waiting, newKey(t, key.Curve))
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string][]byte{
		"another origin": sign(func(w *protocol.Trust) {
			w.RelyingParty = protocol.RelyingParty{ID: "evil.example", Origins: []string{"https://evil.example"}}
		}),
		"another key": stranger, "the one before": before,
		"another number":  sign(func(w *protocol.Trust) { w.Serial++ }),
		"another instant": sign(func(w *protocol.Trust) { w.Issued++ }),
	} {
		if err := again.AcceptTrust(signed); !errors.Is(err, ErrTrust) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := sign(func(*protocol.Trust) {})
	if err := again.AcceptTrust(good); err != nil {
		t.Fatal(err)
	}
	if err := again.AcceptTrust(good); !errors.Is(err, ErrNoTrustWaits) {
		t.Errorf("a second time: %v", err)
	}
	if changed, err := a.Refresh(); err != nil || !changed {
		t.Error(changed, err)
	}
	m := terminal{was}
	if signed, _ := a.Trust(); !m.follow(signed) || m.trust.RelyingParty.ID != "clinic.example" {
		t.Error("a terminal does not follow")
	}
	// A key cannot sign itself in: terminals would refuse it.
	file := filepath.Join(t.TempDir(), "next.key")
	public, err := NewAuthorisationKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.AddAuthority(public); !errors.Is(err, ErrKeyElsewhere) {
		t.Fatal(err)
	}
	waiting, _ = again.WaitingTrust()
	next, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if itself, err := protocol.Sign(waiting, next); err != nil || !errors.Is(again.AcceptTrust(itself), ErrTrust) {
		t.Errorf("a key that signs itself in: %v", err)
	}
	if err := again.AcceptTrust(sign(func(*protocol.Trust) {})); err != nil {
		t.Error(err)
	}
}

// TestKeyTaken: from the instant at which the key's file is gone a running server signs nothing by it.
func TestKeyTaken(t *testing.T) {
	a, dir := ensured(t)
	if _, err := a.SignAuthorisation(authorisation(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, fileSigningKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SignAuthorisation(authorisation(t)); !errors.Is(err, ErrKeyElsewhere) || a.KeyHere() {
		t.Error(err)
	}
}

// TestOldFolder: a folder from before there were service keys gets one, once.
func TestOldFolder(t *testing.T) {
	_, dir := load(t)
	path := filepath.Join(dir, fileServiceKey)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	keys := make(chan []byte, 8)
	for range cap(keys) {
		go func() {
			a, err := Load(dir)
			if err != nil {
				t.Error(err)
				keys <- nil
				return
			}
			keys <- a.Service()
		}()
	}
	made := <-keys
	for range cap(keys) - 1 {
		if k := <-keys; !bytes.Equal(k, made) {
			t.Error("two service keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.EnsureTrust(site); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("a service key that terminals believe is gone: %v", err)
	}
}

func TestDamagedTrust(t *testing.T) {
	a, dir := ensured(t)
	if _, err := a.AddAuthority(nil); err != nil {
		t.Fatal(err)
	}
	signed, _ := a.Trust()
	files, err := filepath.Glob(filepath.Join(dir, "trust-*.cose"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	key := newKey(t, a.service.Curve)
	_, trust := a.Trust()
	foreign := *trust
	foreign.Authorities = [][]byte{spki(t, &key.PublicKey)}
	other, err := protocol.Sign(&foreign, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cut": signed[:50], "another key's": other, "empty": nil, "the other's": read(t, files[0])} {
		if err := os.WriteFile(files[1], content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "restore the folder from a backup") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.Refresh(); err == nil {
			t.Errorf("%s: taken over by a running server", name)
		}
		if now, _ := a.Trust(); !bytes.Equal(now, signed) {
			t.Errorf("%s: the running server has another trust", name)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func second(_ []byte, err error) error { return err }

func spki(t *testing.T, key *ecdsa.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parseKey(t *testing.T, spki []byte) *ecdsa.PublicKey {
	t.Helper()
	k, err := protocol.ParseKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func authorisation(t *testing.T) *protocol.Authorisation {
	t.Helper()
	key := newKey(t, elliptic.P256())
	return &protocol.Authorisation{
		Version: 1, ID: protocol.NewNonce(), Person: "123", Party: protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Solvik clinic"},
		Employment: "employed", Group: "staff", Credentials: []protocol.Credential{{ID: []byte{1}, Key: spki(t, &key.PublicKey)}},
		Scope: protocol.Scope{Homes: []string{"17"}}, From: 1, To: 2,
	}
}
