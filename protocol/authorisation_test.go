package protocol_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

const day = protocol.Time(24 * 3600 * 1000)

func spkiOf(t *testing.T, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestAuthorisation: what an authorisation may say, and what neither end signs or believes (R14, R27).
func TestAuthorisation(t *testing.T) {
	key := newKey(t, elliptic.P256())
	good := func() *protocol.Authorisation {
		return &protocol.Authorisation{
			Version: 1, ID: protocol.NewNonce(), Person: "7", Party: protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Home care"},
			Employment: "employed", Group: "home care", Credentials: []protocol.Credential{passkeytest.New(t, passkeytest.ES256).Credential(t)},
			Scope: protocol.Scope{Groups: []string{"north"}}, From: day, To: 8 * day,
		}
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	names := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("%03d", i))
		}
		return all
	}
	for _, c := range []struct {
		name   string
		ok     bool
		change func(*protocol.Authorisation)
	}{
		{"as it should be", true, func(*protocol.Authorisation) {}},
		{"as much as there may be", true, func(a *protocol.Authorisation) { a.Scope = protocol.Scope{Homes: names(64), Groups: names(64)} }},
		{"for 31 days", true, func(a *protocol.Authorisation) { a.To = a.From + 31*day }},
		{"for longer", false, func(a *protocol.Authorisation) { a.To = a.From + 31*day + 1 }},
		{"for no time", false, func(a *protocol.Authorisation) { a.To = a.From }},
		{"from never", false, func(a *protocol.Authorisation) { a.From = 0 }},
		{"without an id", false, func(a *protocol.Authorisation) { a.ID = protocol.Nonce{} }},
		{"for nobody", false, func(a *protocol.Authorisation) { a.Person = "" }},
		{"without a name to show", false, func(a *protocol.Authorisation) { a.Party.Name = "" }},
		{"with a name that hides another", false, func(a *protocol.Authorisation) { a.Party.Name = "Anne\u202eBerg" }},
		{"without an employment", false, func(a *protocol.Authorisation) { a.Employment = "" }},
		{"in no group of callers", false, func(a *protocol.Authorisation) { a.Group = "" }},
		{"for no home", false, func(a *protocol.Authorisation) { a.Scope = protocol.Scope{} }},
		{"for a home without a number", false, func(a *protocol.Authorisation) { a.Scope.Homes = []string{""} }},
		{"for a home twice", false, func(a *protocol.Authorisation) { a.Scope.Homes = []string{"1", "1"} }},
		{"for homes in another order", false, func(a *protocol.Authorisation) { a.Scope.Homes = []string{"2", "1"} }},
		{"for too many homes", false, func(a *protocol.Authorisation) { a.Scope.Homes = names(65) }},
		{"for a group with a long name", false, func(a *protocol.Authorisation) { a.Scope.Groups = []string{strings.Repeat("g", 65)} }},
		{"without a passkey", false, func(a *protocol.Authorisation) { a.Credentials = nil }},
		{"with too many passkeys", false, func(a *protocol.Authorisation) {
			a.Credentials = nil
			for range 9 {
				a.Credentials = append(a.Credentials, passkeytest.New(t, passkeytest.ES256).Credential(t))
			}
		}},
		{"with a passkey twice", false, func(a *protocol.Authorisation) { a.Credentials = append(a.Credentials, a.Credentials[0]) }},
		{"with a passkey without an id", false, func(a *protocol.Authorisation) { a.Credentials[0].ID = nil }},
		{"with a passkey on another curve", false, func(a *protocol.Authorisation) { a.Credentials[0].Key = spkiOf(t, newKey(t, elliptic.P384()).Public()) }},
		{"with a short RSA passkey", false, func(a *protocol.Authorisation) { a.Credentials[0].Key = spkiOf(t, short.Public()) }},
		{"with bytes after the key", false, func(a *protocol.Authorisation) { a.Credentials[0].Key = append(slices.Clone(a.Credentials[0].Key), 0) }},
		{"of another version", false, func(a *protocol.Authorisation) { a.Version = 2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := good()
			c.change(a)
			signed, err := protocol.Sign(a, key)
			if (err == nil) != c.ok {
				t.Fatalf("signed: %v", err)
			}
			if err != nil {
				return
			}
			if err := protocol.Verify(signed, &key.PublicKey, new(protocol.Authorisation)); err != nil {
				t.Error(err)
			}
			if err := protocol.Verify(signed, &newKey(t, elliptic.P256()).PublicKey, new(protocol.Authorisation)); !errors.Is(err, protocol.ErrSignature) {
				t.Errorf("another clinic's: %v", err)
			}
			if err := protocol.Verify(signed, &key.PublicKey, new(protocol.Policy)); !errors.Is(err, protocol.ErrKind) {
				t.Errorf("as a policy: %v", err)
			}
		})
	}
}

func TestScope(t *testing.T) {
	s := protocol.Scope{Homes: []string{"17"}, Groups: []string{"north"}}
	for _, c := range []struct {
		home   string
		groups []string
		want   bool
	}{
		{"17", nil, true},
		{"18", []string{"north"}, true},
		{"18", []string{"east", "north"}, true},
		{"18", []string{"south"}, false},
		{"18", nil, false},
		{"1", nil, false},
		{"north", []string{"17"}, false}, // a group is no home
		{"", nil, false},
		{"", []string{""}, false},
	} {
		if got := s.Contains(c.home, c.groups); got != c.want {
			t.Errorf("home %q in %q: %t", c.home, c.groups, got)
		}
	}
	if (protocol.Scope{Homes: []string{""}, Groups: []string{""}}).Contains("", []string{""}) {
		t.Error("a home that is not known is in a scope")
	}
}

func TestPolicy(t *testing.T) {
	good := func() *protocol.Policy {
		return &protocol.Policy{
			Version: 1, Serial: 1, Terminal: protocol.KeyHash{1}, Home: "17", Rules: []protocol.Rule{{Group: "a", Mode: protocol.ModeRing, After: 20}, {Group: "b", Mode: protocol.ModeAsk, After: 60}},
			Quiet: []protocol.Span{{Days: 0x7f, From: 22 * 60, To: 7 * 60}}, Zone: "Europe/Oslo", Longest: 3600, Volume: 80, Issued: day,
		}
	}
	for _, c := range []struct {
		name   string
		ok     bool
		change func(*protocol.Policy)
	}{
		{"as it should be", true, func(*protocol.Policy) {}},
		{"no rules: nobody", true, func(p *protocol.Policy) { p.Rules = nil }},
		{"answers at once", true, func(p *protocol.Policy) { p.Rules[0].After = 0 }},
		{"no serial number", false, func(p *protocol.Policy) { p.Serial = 0 }},
		{"no terminal", false, func(p *protocol.Policy) { p.Terminal = protocol.KeyHash{} }},
		{"no home", false, func(p *protocol.Policy) { p.Home = "" }},
		{"asks for no time", false, func(p *protocol.Policy) { p.Rules[1].After = 0 }},
		{"rings for an hour", false, func(p *protocol.Policy) { p.Rules[0].After = 3600 }},
		{"an unknown mode", false, func(p *protocol.Policy) { p.Rules[0].Mode = "open" }},
		{"refuses, but not in quiet hours", false, func(p *protocol.Policy) {
			p.Rules[0] = protocol.Rule{Group: "a", Mode: protocol.ModeRefuse, Urgent: true}
		}},
		{"two rules for a group", false, func(p *protocol.Policy) { p.Rules[1].Group = "a" }},
		{"quiet on no day", false, func(p *protocol.Policy) { p.Quiet[0].Days = 0 }},
		{"quiet on an eighth day", false, func(p *protocol.Policy) { p.Quiet[0].Days = 0x80 }},
		{"quiet until 24:00", false, func(p *protocol.Policy) { p.Quiet[0].To = 24 * 60 }},
		{"quiet for no time", false, func(p *protocol.Policy) { p.Quiet[0].To = p.Quiet[0].From }},
		{"calls without an end", false, func(p *protocol.Policy) { p.Longest = 0 }},
		{"no volume", false, func(p *protocol.Policy) { p.Volume = 0 }},
		{"too loud", false, func(p *protocol.Policy) { p.Volume = 101 }},
		{"no time zone", false, func(p *protocol.Policy) { p.Zone = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := good()
			c.change(p)
			if _, err := protocol.Encode(p); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
	p := good()
	for group, want := range map[string]protocol.Mode{"a": protocol.ModeRing, "b": protocol.ModeAsk, "c": protocol.ModeRefuse, "": protocol.ModeRefuse} {
		if got := p.Rule(group).Mode; got != want {
			t.Errorf("group %q: %s, want %s", group, got, want)
		}
	}
}

func TestTrust(t *testing.T) {
	one, p384 := spkiOf(t, newKey(t, elliptic.P256()).Public()), spkiOf(t, newKey(t, elliptic.P384()).Public())
	good := func() *protocol.Trust {
		return &protocol.Trust{Version: 1, Serial: 1, Authorities: [][]byte{one}, Service: [][]byte{one}, RelyingParty: site, Issued: day}
	}
	for _, c := range []struct {
		name   string
		ok     bool
		change func(*protocol.Trust)
	}{
		{"as it should be", true, func(*protocol.Trust) {}},
		{"to try it out", true, func(p *protocol.Trust) {
			p.RelyingParty = protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost:8080"}}
		}},
		{"with relays", true, func(p *protocol.Trust) {
			p.Relays = []string{"turn:192.0.2.1:3478?transport=udp", "turns:clinic.example:443?transport=tcp"}
		}},
		{"a relay twice", false, func(p *protocol.Trust) { p.Relays = []string{"turn:a", "turn:a"} }},
		{"a relay that is none", false, func(p *protocol.Trust) { p.Relays = []string{"https://clinic.example"} }},
		{"a relay without a scheme", false, func(p *protocol.Trust) { p.Relays = []string{"turn"} }},
		{"too many relays", false, func(p *protocol.Trust) {
			p.Relays = []string{"turn:a", "turn:b", "turn:c", "turn:d", "turn:e", "turn:f", "turn:g", "turn:h", "turn:i"}
		}},
		{"no serial number", false, func(p *protocol.Trust) { p.Serial = 0 }},
		{"nobody", false, func(p *protocol.Trust) { p.Authorities = nil }},
		{"a key on another curve", false, func(p *protocol.Trust) { p.Authorities = [][]byte{one, p384} }},
		{"no service", false, func(p *protocol.Trust) { p.Service = nil }},
		{"too many keys", false, func(p *protocol.Trust) { p.Service = [][]byte{one, one, one, one, one} }},
		{"no origin", false, func(p *protocol.Trust) { p.RelyingParty.Origins = nil }},
		{"another site's origin", false, func(p *protocol.Trust) { p.RelyingParty.Origins = []string{"https://evil.example"} }},
		{"an origin that ends alike", false, func(p *protocol.Trust) { p.RelyingParty.Origins = []string{"https://evilclinic.example"} }},
		{"plain http", false, func(p *protocol.Trust) { p.RelyingParty.Origins = []string{"http://clinic.example"} }},
		{"an origin with a path", false, func(p *protocol.Trust) { p.RelyingParty.Origins = []string{"https://clinic.example/"} }},
		{"an origin with a user", false, func(p *protocol.Trust) { p.RelyingParty.Origins = []string{"https://a@clinic.example"} }},
		{"an origin in capitals", false, func(p *protocol.Trust) { p.RelyingParty.Origins = []string{"https://Clinic.example"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := good()
			p.RelyingParty.Origins = slices.Clone(p.RelyingParty.Origins)
			c.change(p)
			if _, err := protocol.Encode(p); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

func TestCallCode(t *testing.T) {
	code := protocol.CallCode(protocol.HashOf("invitation"), protocol.Fingerprint{1})
	if len(code) != 7 || code[3] != ' ' {
		t.Errorf("%q", code)
	}
	if code == protocol.CallCode(protocol.HashOf("invitation"), protocol.Fingerprint{2}) || code == protocol.CallCode(protocol.HashOf("another"), protocol.Fingerprint{1}) {
		t.Error("another call has the same code")
	}
}
