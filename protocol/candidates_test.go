package protocol

import (
	"bytes"
	"crypto/x509"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// candidatesOf returns a call's invitation and candidates that go with it, both by testKey(1).
func candidatesOf(t testing.TB) (*Invitation, Hash, *Candidates) {
	t.Helper()
	inv := *messages(t)["invitation"].(*Invitation)
	der, err := x509.MarshalPKIXPublicKey(testKey(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	inv.Key = der
	raw, err := Encode(&inv)
	if err != nil {
		t.Fatal(err)
	}
	return &inv, HashOf(raw), &Candidates{
		Version: 1, Call: inv.Call, Terminal: inv.Terminal, Invitation: HashOf(raw), Number: 1, List: []Candidate{{Line: "candidate:1 1 udp 1 192.0.2.1 9 typ host", Mid: "0"}, {Mid: "0"}},
	}
}

func TestVerifyCandidates(t *testing.T) {
	caller, stranger := testKey(1), testKey(2)
	inv, hash, base := candidatesOf(t)
	with := func(change func(*Candidates)) []byte {
		c := *base
		change(&c)
		return mustSign(t, &c, caller)
	}
	good := with(func(*Candidates) {})
	spoilt := bytes.Clone(good)
	spoilt[len(spoilt)-1] ^= 1
	for _, c := range []struct {
		name   string
		signed []byte
		want   error
		ok     bool
	}{
		{"the caller's", good, nil, true},
		{"by somebody else", mustSign(t, base, stranger), ErrSignature, false},
		{"signature spoilt", spoilt, ErrSignature, false},
		{"another address", replaceOnce(t, good, []byte("192.0.2.1"), []byte("192.0.2.9")), ErrSignature, false},
		{"of another call", with(func(c *Candidates) { c.Call[0] ^= 1 }), ErrMalformed, false},
		{"for another terminal", with(func(c *Candidates) { c.Terminal[0] ^= 1 }), ErrMalformed, false},
		{"with another invitation", with(func(c *Candidates) { c.Invitation[0] ^= 1 }), ErrMalformed, false},
		{"not signed", mustEncode(t, base), ErrMalformed, false},
		{"another statement", mustSign(t, &Clock{Version: 1, Nonce: fill[Nonce](1), At: 7}, caller), ErrKind, false},
		{"too large", make([]byte, MaxStatement+1), ErrTooLarge, false},
		{"nothing", nil, ErrMalformed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := VerifyCandidates(c.signed, inv, hash)
			if c.ok {
				if err != nil || !reflect.DeepEqual(got, base) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || got != nil || CodeOf(err) != AuthUnproven || !errors.Is(err, c.want) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if _, err := VerifyCandidates(good, &Invitation{Key: []byte{0x30, 0}, Call: inv.Call, Terminal: inv.Terminal}, hash); CodeOf(err) != AuthUnproven {
		t.Errorf("an invitation without a key: %v", err)
	}
	for name, change := range map[string]func(*Candidates){
		"no number": func(c *Candidates) { c.Number = 0 }, "no call": func(c *Candidates) { c.Call = CallID{} }, "no terminal": func(c *Candidates) { c.Terminal = KeyHash{} },
		"no invitation": func(c *Candidates) { c.Invitation = Hash{} }, "none": func(c *Candidates) { c.List = nil }, "too many": func(c *Candidates) { c.List = make([]Candidate, MaxCandidates+1) },
		"a long one": func(c *Candidates) { c.List = []Candidate{{Line: CandidateLine(strings.Repeat("x", MaxCandidate+1))}} },
	} {
		c := *base
		change(&c)
		if _, err := Sign(&c, caller); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzVerifyCandidates: whatever comes, no candidate is taken but those that the call's key has signed, and what is refused has one code.
func FuzzVerifyCandidates(f *testing.F) {
	inv, hash, c := candidatesOf(f)
	for _, by := range []int64{1, 2} {
		signed, err := Sign(c, testKey(by))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := VerifyCandidates(b, inv, hash)
		if err == nil && !reflect.DeepEqual(got, c) || err != nil && CodeOf(err) != AuthUnproven {
			t.Fatalf("%x: %+v, %v", b, got, err)
		}
	})
}

func BenchmarkVerifyCandidates(b *testing.B) {
	inv, hash, c := candidatesOf(b)
	signed, err := Sign(c, testKey(1))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := VerifyCandidates(signed, inv, hash); err != nil {
			b.Fatal(err)
		}
	}
}
