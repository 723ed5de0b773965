package provisioning

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"vindu/protocol"
)

// The seeds are what a clinic answered once; testdata/root.der is its root.
func recorded(f *testing.F) (root *x509.Certificate, chain, settings []byte) {
	f.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	root, err := x509.ParseCertificate(read("root.der"))
	if err != nil {
		f.Fatal(err)
	}
	return root, read("chain.p7"), read("settings.cbor")
}

// FuzzChain: an answer is refused with a code, or is a chain for the terminal's key below the root.
func FuzzChain(f *testing.F) {
	root, sound, _ := recorded(f)
	certs, err := protocol.DecodeCerts(sound)
	if err != nil {
		f.Fatal(err)
	}
	key, now := protocol.HashSPKI(certs[0].RawSubjectPublicKeyInfo), certs[0].NotBefore.Add(time.Minute)
	if _, err := readChain(sound, key, root, now); err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	f.Fuzz(func(t *testing.T, answer []byte) {
		chain, err := readChain(answer, key, root, now)
		if err != nil {
			if code := protocol.CodeOf(err); code == protocol.Unknown {
				t.Errorf("no code: %v", err)
			}
			return
		}
		if len(chain) == 0 || protocol.HashSPKI(chain[0].RawSubjectPublicKeyInfo) != key {
			t.Errorf("got %v", chain)
		}
	})
}

// FuzzSettings: an answer is refused as malformed, or its authorisation keys can be used.
func FuzzSettings(f *testing.F) {
	_, _, sound := recorded(f)
	if _, err := readSettings(sound); err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	f.Fuzz(func(t *testing.T, answer []byte) {
		s, err := readSettings(answer)
		if err != nil {
			if protocol.CodeOf(err) != protocol.SignalMalformed {
				t.Errorf("code %q for %v", protocol.CodeOf(err), err)
			}
			return
		}
		for _, k := range s.Authorities {
			if _, err := x509.ParsePKIXPublicKey(k); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzClock: an answer is refused with a code, or is the time that was signed.
func FuzzClock(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	nonce, at := protocol.Nonce{1}, time.UnixMilli(1_800_000_000_000)
	sound, err := protocol.Sign(&protocol.Clock{Version: 1, Nonce: nonce, At: protocol.At(at)}, key)
	if err != nil {
		f.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	keys := [][]byte{spki}
	if got, err := readClock(sound, nonce, keys); err != nil || !got.Equal(at) {
		f.Fatal(got, err)
	}
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := readClock(answer, nonce, keys)
		if err == nil && !got.Equal(at) || err != nil && protocol.CodeOf(err) == protocol.Unknown {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// FuzzTrust: an answer is refused with a code, or was signed by the key.
func FuzzTrust(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	sound, err := protocol.Sign(&protocol.Trust{Version: 1, Serial: 7, Authorities: [][]byte{spki}, Service: [][]byte{spki},
		RelyingParty: protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost"}}, Issued: 1}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := readTrust(answer, []*ecdsa.PublicKey{&key.PublicKey})
		if err == nil && got.Serial != 7 || err != nil && protocol.CodeOf(err) == protocol.Unknown {
			t.Errorf("got %v, %v", got, err)
		}
	})
}
