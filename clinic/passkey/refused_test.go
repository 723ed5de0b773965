package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	wan "github.com/go-webauthn/webauthn/protocol"

	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

// What differs from an honest registration is refused.
func TestRegistrationRefused(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := p384.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		want   error
		kind   passkeytest.Kind
		change func(*newborn)
	}{
		{"a sign-in", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Type = "webauthn.get" }},
		{"another origin", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Origin = "https://clinic.example.evil" }},
		{"the origin in capitals", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Origin = "https://CLINIC.example" }},
		{"the origin with its port", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Origin = "https://clinic.example:443" }},
		{"in another site's frame", ErrRefused, passkeytest.ES256, func(n *newborn) { n.CrossOrigin = true }},
		{"another relying party", ErrRefused, passkeytest.ES256, func(n *newborn) { n.RPID = "evil.example" }},
		{"anybody was there", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Flags &^= 0x04 }},
		{"nobody was there", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Flags &^= 0x01 }},
		{"backed up, but cannot be", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Flags |= 0x10 }},
		{"no passkey", ErrMalformed, passkeytest.ES256, func(n *newborn) { n.Flags &^= 0x40 }},
		{"more than a passkey", ErrMalformed, passkeytest.ES256, func(n *newborn) { n.Extra = []byte{0xa0} }},
		{"another identifier than it says", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Said = []byte("another") }},
		{"no identifier", ErrRefused, passkeytest.ES256, func(n *newborn) { n.ID = nil }},
		{"a long identifier", ErrMalformed, passkeytest.ES256, func(n *newborn) { n.ID = make([]byte, maxID+1); n.Said = n.ID }},
		{"an attestation", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Format = "tpm" }},
		{"an attestation that is none", ErrRefused, passkeytest.ES256, func(n *newborn) { n.Statement = map[string]any{"alg": -7} }},
		{"an attestation by nobody", ErrRefused, passkeytest.ES256, func(n *newborn) {
			n.Format, n.Statement = "packed", map[string]any{"alg": -7, "sig": []byte("x")}
		}},
		{"P-384", ErrRefused, passkeytest.ES256, func(n *newborn) {
			n.COSE = map[int64]any{1: 2, 3: -35, -1: 2, -2: point[1:49], -3: point[49:]}
		}},
		{"P-384 as ES256", ErrRefused, passkeytest.ES256, func(n *newborn) {
			n.COSE = map[int64]any{1: 2, 3: -7, -1: 2, -2: point[1:49], -3: point[49:]}
		}},
		{"not on the curve", ErrRefused, passkeytest.ES256, func(n *newborn) { n.COSE[-2] = make([]byte, 32) }},
		{"RSA of 1,024 bits", ErrRefused, passkeytest.RS256, func(n *newborn) { n.COSE[-1] = small.N.Bytes() }},
		{"RS512", ErrRefused, passkeytest.RS256, func(n *newborn) { n.COSE[3] = -259 }},
		{"PS256", ErrRefused, passkeytest.RS256, func(n *newborn) { n.COSE[3] = -37 }},
		{"half an Ed25519 key", ErrRefused, passkeytest.EdDSA, func(n *newborn) { n.COSE[-2] = make([]byte, 16) }},
		{"X25519", ErrRefused, passkeytest.EdDSA, func(n *newborn) { n.COSE[-1] = 4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := o.invite(o.anne)
			begun, err := o.BeginInvited(ctx, token)
			if err != nil {
				t.Fatal(err)
			}
			a := passkeytest.New(t, c.kind)
			_, err = o.AddInvited(ctx, token, "x", creates(t, a, begun, c.change))
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.name == "an attestation" && !strings.Contains(err.Error(), "nobody asked for") { // and not by its own fault
				t.Error(err)
			}
			// It did not use the invitation up.
			if _, err := o.AddInvited(ctx, token, "x", creates(t, a, begun)); err != nil {
				t.Errorf("an honest one: %v", err)
			}
			if err := o.Remove(ctx, "x", o.anne, a.ID, true); err != nil {
				t.Error(err)
			}
		})
	}
	token := o.invite(o.anne)
	for _, response := range []string{"", "{}", "null", "[]", `{"id":"AA"}`, strings.Repeat(" ", MaxResponse+1)} {
		if _, err := o.AddInvited(ctx, token, "x", []byte(response)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.20q: %v", response, err)
		}
		if _, err := o.SignIn(ctx, []byte(response)); !errors.Is(err, ErrMalformed) {
			t.Errorf("sign-in by %.20q: %v", response, err)
		}
	}
}

// uses are honest and dishonest uses of a passkey.
var uses = []struct {
	name   string
	good   bool
	change func(*passkeytest.Use)
}{
	{"honest", true, func(*passkeytest.Use) {}},
	{"the other origin", true, func(u *passkeytest.Use) { u.Origin = site.Origins[1] }},
	{"with extensions", true, func(u *passkeytest.Use) { u.Flags, u.Extra = u.Flags|0x80, []byte{0xa0} }},
	{"with new members", true, func(u *passkeytest.Use) { u.Members = map[string]any{"other_keys_can_be_added_here": "x"} }},
	{"another challenge", false, func(u *passkeytest.Use) { u.Challenge = make([]byte, 32) }},
	{"no challenge", false, func(u *passkeytest.Use) { u.Challenge = nil }},
	{"a registration", false, func(u *passkeytest.Use) { u.Type = "webauthn.create" }},
	{"a payment", false, func(u *passkeytest.Use) { u.Type = "payment.get" }},
	{"another origin", false, func(u *passkeytest.Use) { u.Origin = "https://clinic.example.evil" }},
	{"a port of the origin", false, func(u *passkeytest.Use) { u.Origin = "https://clinic.example:8443" }},
	{"plain http", false, func(u *passkeytest.Use) { u.Origin = "http://clinic.example" }},
	{"in another site's frame", false, func(u *passkeytest.Use) { u.CrossOrigin = true }},
	{"below another site's page", false, func(u *passkeytest.Use) { u.TopOrigin = "https://evil.example" }},
	{"another relying party", false, func(u *passkeytest.Use) { u.RPID = "evil.example" }},
	{"nobody was there", false, func(u *passkeytest.Use) { u.Flags = 0x04 }},
	{"anybody was there", false, func(u *passkeytest.Use) { u.Flags = 0x01 }},
	{"backed up, but cannot be", false, func(u *passkeytest.Use) { u.Flags |= 0x10 }},
	{"extensions without a flag", false, func(u *passkeytest.Use) { u.Extra = []byte{0xa0} }},
	{"a flag without extensions", false, func(u *passkeytest.Use) { u.Flags |= 0x80 }},
	{"a new passkey's data", false, func(u *passkeytest.Use) { u.Flags |= 0x40; u.Extra = make([]byte, 64) }},
}

// differ are uses on which go-webauthn alone would be more generous than terminals are.
var differ = []struct {
	name   string
	change func(*passkeytest.Use)
}{
	{"the origin in capitals", func(u *passkeytest.Use) { u.Origin = "https://CLINIC.example" }},
	{"the origin with its port", func(u *passkeytest.Use) { u.Origin = "https://clinic.example:443" }},
	{"the origin with a path", func(u *passkeytest.Use) { u.Origin = "https://clinic.example/x" }},
}

// The library that signs people in and the code with which terminals let calls in agree; where they do not, both have to be satisfied.
func TestContract(t *testing.T) {
	o := newOffice(t)
	for _, kind := range kinds {
		a := o.registered(o.anne, kind)
		r, err := one(t.Context(), o.store.Read(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		both := func(made *protocol.Assertion, challenge []byte) (library, terminal error) {
			parsed, err := wan.ParseCredentialRequestResponseBytes(sent(t, made, o.anne))
			if err != nil {
				library = err
			} else if library = o.library(r, parsed); library == nil && parsed.Response.CollectedClientData.Challenge != b64(challenge) {
				library = ErrCeremony // what challenged sees to
			}
			_, terminal = made.Verify(protocol.Credential{ID: r.ID, Key: r.spki}, site, protocol.Hash(challenge))
			return library, terminal
		}
		for _, c := range uses {
			t.Run(string(kind)+"/"+c.name, func(t *testing.T) {
				request := o.begun()
				made := a.Assert(t, site, protocol.Hash(request.Challenge), c.change)
				library, terminal := both(made, request.Challenge)
				if (library == nil) != c.good || (terminal == nil) != c.good {
					t.Errorf("go-webauthn: %v; terminals: %v", library, terminal)
				}
				if _, err := o.SignIn(t.Context(), sent(t, made, o.anne)); (err == nil) != c.good {
					t.Errorf("sign-in: %v", err)
				}
			})
		}
		for _, c := range differ {
			t.Run(string(kind)+"/"+c.name, func(t *testing.T) {
				request := o.begun()
				made := a.Assert(t, site, protocol.Hash(request.Challenge), c.change)
				library, terminal := both(made, request.Challenge)
				if library != nil || !errors.Is(terminal, protocol.ErrOrigin) {
					t.Errorf("no difference any more: go-webauthn: %v; terminals: %v", library, terminal)
				}
				if _, err := o.SignIn(t.Context(), sent(t, made, o.anne)); !errors.Is(err, ErrRefused) {
					t.Errorf("sign-in: %v", err)
				}
			})
		}
		request := o.begun()
		honest := a.Assert(t, site, protocol.Hash(request.Challenge))
		for _, part := range []func(*protocol.Assertion) *[]byte{
			func(m *protocol.Assertion) *[]byte { return &m.Signature },
			func(m *protocol.Assertion) *[]byte { return &m.AuthenticatorData },
			func(m *protocol.Assertion) *[]byte { return &m.ClientData },
		} {
			for i := 0; i < len(*part(honest)); i += 7 {
				m := *honest
				p := part(&m)
				*p = bytes.Clone(*p)
				(*p)[i] ^= 0x20
				if library, terminal := both(&m, request.Challenge); library == nil || terminal == nil {
					t.Fatalf("byte %d changed: go-webauthn: %v; terminals: %v", i, library, terminal)
				}
			}
		}
		if _, err := o.SignIn(t.Context(), sent(t, honest, o.olav)); !errors.Is(err, ErrRefused) {
			t.Errorf("as another: %v", err)
		}
		if _, err := o.SignIn(t.Context(), sent(t, honest, "")); !errors.Is(err, ErrRefused) {
			t.Errorf("as nobody: %v", err)
		}
		if _, err := o.SignIn(t.Context(), sent(t, honest, o.anne)); err != nil {
			t.Errorf("honest: %v", err)
		}
	}
	stranger := passkeytest.New(t, passkeytest.ES256)
	if _, err := o.SignIn(t.Context(), asserts(t, stranger, o.begun(), o.anne)); !errors.Is(err, ErrUnknown) {
		t.Errorf("a stranger: %v", err)
	}
}

// FuzzSignIn: whatever a browser sends, nobody signs in but who has signed the challenge.
func FuzzSignIn(f *testing.F) {
	o := newOffice(f)
	a := o.registered(o.anne, passkeytest.ES256)
	honest := asserts(f, a, o.begun(), o.anne)
	f.Add(honest)
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AA","signature":"AA","userHandle":null}}`))
	f.Add([]byte(`{"id":"","response":{}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, response []byte) {
		p, err := o.SignIn(t.Context(), response)
		if err == nil && (p.Person != o.anne || !bytes.Contains(response, []byte(base64.RawURLEncoding.EncodeToString(a.ID)))) {
			t.Fatalf("%+v by %q", p, response)
		}
	})
}

// FuzzRegister: whatever a browser sends, what is registered is a passkey that terminals accept, made for the challenge.
func FuzzRegister(f *testing.F) {
	o := newOffice(f)
	token := o.invite(o.anne)
	begun, err := o.BeginInvited(f.Context(), token)
	if err != nil {
		f.Fatal(err)
	}
	for _, kind := range kinds[:2] { // a key of the third takes seconds to make in each worker
		f.Add(creates(f, passkeytest.New(f, kind), begun))
	}
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"oA"}}`))
	f.Add([]byte("null"))
	u := &user{id: o.anne, name: "x", display: "x"}
	f.Fuzz(func(t *testing.T, response []byte) {
		r, _, err := o.created(u, forInvited, string(hashToken(token)), response)
		if err != nil {
			return
		}
		// Any error but that about the key: it would be malformed.
		a := &protocol.Assertion{Credential: r.ID, AuthenticatorData: make([]byte, 37), ClientData: []byte("{}"), Signature: []byte{0}}
		if _, err := a.Verify(protocol.Credential{ID: r.ID, Key: r.spki}, site, protocol.Hash{}); !errors.Is(err, protocol.ErrChallenge) {
			t.Fatalf("registered what terminals refuse: %v", err)
		}
	})
}
