package protocol

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os/exec"
	"strings"
	"testing"
)

func TestVoucherText(t *testing.T) {
	v := messages(t)["voucher"].(*Voucher)
	text, err := v.Text()
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	wrapped := " " + s[:20] + "\r\n  " + s[20:70] + "\n" + s[70:] + "\n"
	for name, in := range map[string]string{"as printed": s, "wrapped by a mail program": wrapped} {
		got, err := ParseVoucher(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.ID != v.ID || !bytes.Equal(got.Secret, v.Secret) || got.Address != v.Address || !bytes.Equal(got.Root, v.Root) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"empty":           {"", ErrMalformed},
		"another prefix":  {"vindu-voucher-2." + s[len(voucherPrefix):], ErrMalformed},
		"end missing":     {s[:len(s)-4], ErrMalformed},
		"start missing":   {s[3:], ErrMalformed},
		"letter replaced": {s[:40] + "!" + s[41:], ErrMalformed},
		"huge":            {strings.Repeat("a", MaxVoucher+1), ErrTooLarge},
	} {
		if _, err := ParseVoucher(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func testCert(t testing.TB) *x509.Certificate {
	t.Helper()
	k := testKey(7)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCerts(t *testing.T) {
	c := testCert(t)
	body, err := EncodeCerts(c, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCerts(body)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !got[0].Equal(c) || !got[1].Equal(c) {
		t.Errorf("decoded %d certificates", len(got))
	}
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"empty":      {nil, ErrMalformed},
		"not base64": {[]byte("<html>"), ErrMalformed},
		"not CMS":    {[]byte(base64.StdEncoding.EncodeToString([]byte{0x30, 0})), ErrMalformed},
		"too large":  {bytes.Repeat([]byte("A"), 17<<10), ErrTooLarge},
		"truncated":  {body[:len(body)-8], ErrMalformed},
	} {
		if _, err := DecodeCerts(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	none, err := EncodeCerts()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeCerts(none); !errors.Is(err, ErrMalformed) {
		t.Errorf("no certificate: %v", err)
	}
}

// Somebody else's reader and writer of PKCS #7 agree with ours.
func TestCertsAgainstOpenSSL(t *testing.T) {
	c := testCert(t)
	body, err := EncodeCerts(c)
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		t.Fatal(err)
	}
	read := exec.Command("openssl", "pkcs7", "-inform", "DER", "-print_certs")
	read.Stdin = bytes.NewReader(der)
	out, err := read.Output()
	if err != nil {
		t.Fatalf("openssl pkcs7: %v", err)
	}
	_, pemText, _ := strings.Cut(string(out), "-----BEGIN")
	block, _ := pem.Decode([]byte("-----BEGIN" + pemText))
	if block == nil || !bytes.Equal(block.Bytes, c.Raw) {
		t.Fatalf("openssl read another certificate:\n%s", out)
	}
	write := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER")
	write.Stdin = bytes.NewReader(pem.EncodeToMemory(block))
	theirs, err := write.Output()
	if err != nil {
		t.Fatalf("openssl crl2pkcs7: %v", err)
	}
	got, err := DecodeCerts([]byte(base64.StdEncoding.EncodeToString(theirs)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !got[0].Equal(c) {
		t.Errorf("decoded %d certificates", len(got))
	}
}
