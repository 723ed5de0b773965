package protocol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

func laptopAndMandate(t *testing.T) (key *ecdsa.PrivateKey, der, signed []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	from := time.UnixMilli(1_700_000_000_000)
	signed, err = Sign(&Mandate{
		Version: Version, ID: NewNonce(), Person: Party{Name: "Ola Vik", Role: "technician", Organisation: "Fjord Clinic"},
		Key: der, From: At(from), To: At(from.Add(time.Hour)),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der, signed
}

func TestLaptopText(t *testing.T) {
	key, der, _ := laptopAndMandate(t)
	text, err := LaptopText(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, copied := range map[string]string{"as it is": text, "broken by mail": " " + text[:20] + "\r\n" + text[20:] + "\n"} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseLaptop(copied)
			if err != nil || !bytes.Equal(got, der) {
				t.Errorf("got %x, %v; want %x", got, err, der)
			}
		})
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKIXPublicKey(p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LaptopText(p384.Public()); err == nil {
		t.Error("P-384 was accepted")
	}
	for name, wrong := range map[string]string{
		"empty":         "",
		"no prefix":     text[len(laptopPrefix):],
		"a mandate":     strings.Replace(text, "laptop", "mandate", 1),
		"cut":           text[:len(text)-4],
		"not base64url": text + "=",
		"another curve": laptopPrefix + base64.RawURLEncoding.EncodeToString(other),
		"bytes behind":  laptopPrefix + base64.RawURLEncoding.EncodeToString(append(bytes.Clone(der), 0)),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseLaptop(wrong); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
	if _, err := ParseLaptop(strings.Repeat(" ", MaxMandate+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func TestMandateText(t *testing.T) {
	key, der, signed := laptopAndMandate(t)
	text := MandateText(signed)
	got, m, err := ParseMandate(text[:30] + "\n  " + text[30:] + "\n")
	if err != nil || !bytes.Equal(got, signed) || !bytes.Equal(m.Key, der) || m.Person.Name != "Ola Vik" {
		t.Fatalf("got %+v, %v", m, err)
	}
	if err := Verify(got, &key.PublicKey, new(Mandate)); err != nil {
		t.Errorf("what was parsed does not verify: %v", err)
	}
	clock, err := Sign(&Clock{Version: Version, Nonce: NewNonce(), At: 1}, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":             {"", ErrMalformed},
		"a voucher":         {voucherPrefix + "AAAA", ErrMalformed},
		"cut":               {text[:len(text)-8], ErrMalformed},
		"another statement": {MandateText(clock), ErrKind},
		"no statement":      {MandateText([]byte("hello")), ErrMalformed},
		"too long":          {text + strings.Repeat(" ", MaxMandate), ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := ParseMandate(c.text); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzParseMandate(f *testing.F) {
	f.Add(mandatePrefix + "AAAA")
	f.Add(laptopPrefix + "AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if signed, m, err := ParseMandate(text); err == nil {
			again, _, err := ParseMandate(MandateText(signed))
			if err != nil || !bytes.Equal(again, signed) || m == nil {
				t.Errorf("not the same again: %v", err)
			}
		}
		if der, err := ParseLaptop(text); err == nil {
			if k, err := ParseKey(der); err != nil {
				t.Error(err)
			} else if again, err := LaptopText(k); err != nil || again != strings.Join(strings.Fields(text), "") {
				t.Errorf("laptop key: not the same again: %v", err)
			}
		}
	})
}
