package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"vindu/protocol"
)

// FuzzGrant: whatever is in the file, decoding it ends with an error or with a complete grant that encodes again.
func FuzzGrant(f *testing.F) {
	sound, err := os.ReadFile("testdata/clinic.pem")
	if err != nil {
		f.Fatal(err)
	}
	g, err := decodeGrant(sound)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	g.Trust = &protocol.Trust{
		Version: 1, Serial: 1, Authorities: g.Settings.Authorities[:1], Service: g.Settings.Authorities[:1], Issued: 1,
		RelyingParty: protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}},
	}
	g.Policy = &protocol.Policy{Version: 1, Serial: 1, Terminal: protocol.KeyHash{1}, Home: "17", Zone: "Europe/Oslo", Longest: 60, Volume: 50, Issued: 1}
	g.withdrawn = []protocol.Nonce{{1}, {2}}
	believing, err := encodeGrant(g)
	if err != nil {
		f.Fatal(err)
	}
	if again, err := decodeGrant(believing); err != nil || again.Trust == nil || again.Policy == nil || len(again.withdrawn) != 2 {
		f.Fatalf("%+v, %v", again, err)
	}
	f.Add(believing)
	f.Add(bytes.ReplaceAll(sound, []byte("CERTIFICATE"), []byte("VINDU CLINIC")))
	f.Add([]byte("-----BEGIN VINDU CLINIC-----\noA==\n-----END VINDU CLINIC-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeGrant(b)
		if err != nil {
			return
		}
		if len(g.Chain) == 0 || g.Root == nil || g.Settings == nil {
			t.Fatalf("incomplete grant %+v", g)
		}
		again, err := encodeGrant(g)
		if err != nil {
			return // more than the bounds of writing allow
		}
		if _, err := decodeGrant(again); err != nil {
			t.Errorf("own encoding does not decode: %v", err)
		}
	})
}

// FuzzKey: whatever is in the file, parsing it does not panic, and a key that is accepted can be written.
func FuzzKey(f *testing.F) {
	traits := []Trait{{"device-tree serial", "1000000012345678"}}
	for _, name := range []string{"testdata/key.pem", "testdata/sealed.pem"} {
		sound, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if _, _, err := parseKey(sound, traits); err != nil {
			f.Fatal(err)
		}
		f.Add(sound)
		f.Add(sound[:len(sound)/2])
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: keyBlock}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: sealBlock, Bytes: []byte{0xa0}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, _, err := parseKey(b, traits)
		if err != nil {
			return
		}
		if _, err := x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Error(err)
		}
	})
}
