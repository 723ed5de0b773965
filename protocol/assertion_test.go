package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

var site = protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://video.clinic.example", "https://clinic.example"}}

func TestAssertion(t *testing.T) {
	challenge := protocol.HashOf("transcript")
	for _, kind := range []passkeytest.Kind{passkeytest.ES256, passkeytest.EdDSA, passkeytest.RS256} {
		t.Run(string(kind), func(t *testing.T) {
			passkey := passkeytest.New(t, kind)
			for want := uint32(1); want < 4; want++ {
				got, err := passkey.Assert(t, site, challenge).Verify(passkey.Credential(t), site, challenge)
				if err != nil || got != want {
					t.Fatalf("counter %d, %v; want %d", got, err, want)
				}
			}
		})
	}
}

// TestAssertionRefused: whatever differs from an honest use is refused, and by its own cause (R10).
func TestAssertionRefused(t *testing.T) {
	challenge := protocol.HashOf("transcript")
	other := protocol.HashOf("another transcript")
	for _, c := range []struct {
		name   string
		want   error
		change func(*passkeytest.Use)
	}{
		{"another transcript", protocol.ErrChallenge, func(u *passkeytest.Use) { u.Challenge = other[:] }},
		{"no challenge", protocol.ErrChallenge, func(u *passkeytest.Use) { u.Challenge = nil }},
		{"half a challenge", protocol.ErrChallenge, func(u *passkeytest.Use) { u.Challenge = u.Challenge[:16] }},
		{"a registration", protocol.ErrChallenge, func(u *passkeytest.Use) { u.Type = "webauthn.create" }},
		{"a payment", protocol.ErrChallenge, func(u *passkeytest.Use) { u.Type = "payment.get" }},
		{"another origin", protocol.ErrOrigin, func(u *passkeytest.Use) { u.Origin = "https://clinic.example.evil" }},
		{"a port of the origin", protocol.ErrOrigin, func(u *passkeytest.Use) { u.Origin = "https://clinic.example:8443" }},
		{"plain http", protocol.ErrOrigin, func(u *passkeytest.Use) { u.Origin = "http://clinic.example" }},
		{"the origin in capitals", protocol.ErrOrigin, func(u *passkeytest.Use) { u.Origin = "https://CLINIC.example" }},
		{"in another site's frame", protocol.ErrOrigin, func(u *passkeytest.Use) { u.CrossOrigin = true }},
		{"below another site's page", protocol.ErrOrigin, func(u *passkeytest.Use) { u.TopOrigin = "https://evil.example" }},
		{"another relying party", protocol.ErrOrigin, func(u *passkeytest.Use) { u.RPID = "evil.example" }},
		{"nobody was there", protocol.ErrUserVerification, func(u *passkeytest.Use) { u.Flags = 0x04 }},
		{"anybody was there", protocol.ErrUserVerification, func(u *passkeytest.Use) { u.Flags = 0x01 }},
		{"backed up, but cannot be", protocol.ErrMalformed, func(u *passkeytest.Use) { u.Flags |= 0x10 }},
		{"a new passkey's data", protocol.ErrMalformed, func(u *passkeytest.Use) { u.Flags |= 0x40; u.Extra = make([]byte, 64) }},
		{"extensions without a flag", protocol.ErrMalformed, func(u *passkeytest.Use) { u.Extra = []byte{0xa0} }},
		{"a flag without extensions", protocol.ErrMalformed, func(u *passkeytest.Use) { u.Flags |= 0x80 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			passkey := passkeytest.New(t, passkeytest.ES256)
			_, err := passkey.Assert(t, site, challenge, c.change).Verify(passkey.Credential(t), site, challenge)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	t.Run("another passkey of the person", func(t *testing.T) {
		one, two := passkeytest.New(t, passkeytest.ES256), passkeytest.New(t, passkeytest.ES256)
		if _, err := one.Assert(t, site, challenge).Verify(two.Credential(t), site, challenge); !errors.Is(err, protocol.ErrSignature) {
			t.Error(err)
		}
		forged := one.Assert(t, site, challenge)
		forged.Credential = two.ID
		if _, err := forged.Verify(two.Credential(t), site, challenge); !errors.Is(err, protocol.ErrSignature) {
			t.Error(err)
		}
	})
	for _, kind := range []passkeytest.Kind{passkeytest.ES256, passkeytest.EdDSA, passkeytest.RS256} {
		passkey := passkeytest.New(t, kind)
		for _, c := range []struct {
			name string
			part func(*protocol.Assertion) *[]byte
		}{
			{"signature", func(a *protocol.Assertion) *[]byte { return &a.Signature }},
			{"authenticator data", func(a *protocol.Assertion) *[]byte { return &a.AuthenticatorData }},
			{"client data", func(a *protocol.Assertion) *[]byte { return &a.ClientData }},
		} {
			t.Run(string(kind)+" with a changed bit of the "+c.name, func(t *testing.T) {
				honest := passkey.Assert(t, site, challenge)
				for i := range *c.part(honest) {
					a := *honest
					p := c.part(&a)
					*p = bytes.Clone(*p)
					(*p)[i] ^= 0x20
					if _, err := a.Verify(passkey.Credential(t), site, challenge); err == nil {
						t.Fatalf("accepted with byte %d changed", i)
					}
				}
			})
		}
	}
}

// TestAssertionExtensions: an honest authenticator's extensions, and members of the client data that come with newer browsers, are no obstacle (WebAuthn §5.8.1).
func TestAssertionExtensions(t *testing.T) {
	challenge := protocol.HashOf("transcript")
	passkey := passkeytest.New(t, passkeytest.ES256)
	a := passkey.Assert(t, site, challenge, func(u *passkeytest.Use) {
		u.Flags, u.Extra = u.Flags|0x98, []byte{0xa0}
		u.Members = map[string]any{"other_keys_can_be_added_here": "do not compare clientDataJSON against a template"}
	})
	if _, err := a.Verify(passkey.Credential(t), site, challenge); err != nil {
		t.Error(err)
	}
}

func FuzzAssertion(f *testing.F) {
	challenge := protocol.HashOf("transcript")
	passkey := passkeytest.New(f, passkeytest.ES256)
	honest := passkey.Assert(f, site, challenge)
	f.Add(honest.AuthenticatorData, honest.ClientData, honest.Signature)
	f.Add(make([]byte, 37), []byte(`{"type":"webauthn.get","challenge":"AA","origin":"https://clinic.example","crossOrigin":false}`), []byte{0x30, 0x00})
	f.Add(make([]byte, 36), []byte("null"), []byte{})
	f.Fuzz(func(t *testing.T, data, client, signature []byte) {
		a := &protocol.Assertion{Credential: passkey.ID, AuthenticatorData: data, ClientData: client, Signature: signature}
		if _, err := a.Verify(passkey.Credential(t), site, challenge); err == nil {
			if !bytes.Equal(data, honest.AuthenticatorData) || !bytes.Equal(client, honest.ClientData) {
				t.Fatal("accepted what was not signed")
			}
		}
		// Signed, whatever it says: what is accepted has to say what was asked for.
		a.Signature = passkey.Sign(t, data, client)
		if _, err := a.Verify(passkey.Credential(t), site, challenge); err == nil {
			var c struct{ Type, Origin string }
			if json.Unmarshal(client, &c) != nil || c.Type != "webauthn.get" || (c.Origin != site.Origins[0] && c.Origin != site.Origins[1]) || data[32]&5 != 5 {
				t.Fatalf("accepted %q with %x", client, data)
			}
		}
	})
}
