package protocol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"testing"
)

func TestVerifyAck(t *testing.T) {
	server, before, stranger := testKey(1), testKey(2), testKey(3)
	der := func(k *ecdsa.PrivateKey) []byte {
		b, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	terminal, other := fill[KeyHash](4), fill[KeyHash](5)
	ack := &Ack{Version: 1, Terminal: terminal, Epoch: fill[Nonce](6), Seq: 7}
	good := mustSign(t, ack, server)
	spoilt := bytes.Clone(good)
	spoilt[len(spoilt)-1] ^= 1
	both := [][]byte{der(before), der(server)}
	for _, c := range []struct {
		name     string
		signed   []byte
		service  [][]byte
		terminal KeyHash
		want     error // nil: any
		ok       bool
	}{
		{"by the only key", good, both[1:], terminal, nil, true},
		{"by the second key", good, both, terminal, nil, true},
		{"by the key before, while it counts", mustSign(t, ack, before), both, terminal, nil, true},
		{"by the key before, when it counts no more", mustSign(t, ack, before), both[1:], terminal, ErrSignature, false},
		{"by a stranger", mustSign(t, ack, stranger), both, terminal, ErrSignature, false},
		{"for another terminal", good, both, other, nil, false},
		{"no key is known", good, nil, terminal, nil, false},
		{"a key that is none", good, [][]byte{{0x30, 0}, both[1]}, terminal, ErrMalformed, false},
		{"signature spoilt", spoilt, both, terminal, ErrSignature, false},
		{"not signed", mustEncode(t, ack), both, terminal, ErrMalformed, false},
		{"another statement", mustSign(t, &Clock{Version: 1, Nonce: ack.Epoch, At: 7}, server), both, terminal, ErrKind, false},
		{"too large", make([]byte, MaxStatement+1), both, terminal, ErrTooLarge, false},
		{"nothing", nil, both, terminal, ErrMalformed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := VerifyAck(c.signed, c.service, c.terminal)
			if c.ok {
				if err != nil || *got != *ack {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || got != nil || CodeOf(err) != AuthAck || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for name, bad := range map[string]*Ack{
		"no terminal": {Version: 1, Epoch: ack.Epoch, Seq: 7}, "no epoch": {Version: 1, Terminal: terminal, Seq: 7}, "no number": {Version: 1, Terminal: terminal, Epoch: ack.Epoch},
	} {
		if _, err := Sign(bad, server); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzVerifyAck: whatever comes, nothing is acknowledged but what the service key has signed, and what is refused has one code.
func FuzzVerifyAck(f *testing.F) {
	key := testKey(1)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	terminal := fill[KeyHash](4)
	ack := &Ack{Version: 1, Terminal: terminal, Epoch: fill[Nonce](6), Seq: 7}
	for _, by := range []*ecdsa.PrivateKey{key, testKey(2)} {
		signed, err := Sign(ack, by)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := VerifyAck(b, [][]byte{spki}, terminal)
		if err == nil && *got != *ack || err != nil && CodeOf(err) != AuthAck {
			t.Fatalf("%x: %+v, %v", b, got, err)
		}
	})
}

func BenchmarkSignAck(b *testing.B) {
	key := testKey(1)
	ack := &Ack{Version: 1, Terminal: fill[KeyHash](4), Epoch: fill[Nonce](6), Seq: 7}
	for b.Loop() {
		if _, err := Sign(ack, key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyAck(b *testing.B) {
	key := testKey(1)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	terminal := fill[KeyHash](4)
	signed, err := Sign(&Ack{Version: 1, Terminal: terminal, Epoch: fill[Nonce](6), Seq: 7}, key)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := VerifyAck(signed, [][]byte{spki}, terminal); err != nil {
			b.Fatal(err)
		}
	}
}
