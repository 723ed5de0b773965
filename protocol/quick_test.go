package protocol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
)

func TestQuick(t *testing.T) {
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h, _ := HashKey(k.Public())
	inv := &Invitation{Version: 1, Call: NewCallID(), Terminal: h, Caller: Fingerprint{1}, Offer: HashOf("x"), Parties: []Party{{"Anne", "nurse", "Clinic"}}, Issued: 5, Expires: 60, Nonce: NewNonce()}
	b, err := Sign(inv, k)
	if err != nil {
		t.Fatal(err)
	}
	var got Invitation
	if err := Verify(b, &k.PublicKey, &got); err != nil {
		t.Fatal(err)
	}
	t.Log(len(b), got.Parties)
	v := &Voucher{Version: 1, ID: NewNonce(), Secret: make([]byte, 32), Address: "a:1", ServerName: "x", Root: []byte{1}, Expires: 1}
	s, err := v.Text()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseVoucher(string(s)); err != nil {
		t.Fatal(err)
	}
}
