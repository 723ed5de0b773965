package protocol

import "testing"

func TestCryptoFlaw(t *testing.T) {
	for _, c := range []struct {
		crypto Crypto
		flaw   bool
	}{
		{Crypto{}, false},
		{Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", SRTP: "AEAD_AES_256_GCM"}, false},
		{Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", SRTP: "AEAD_AES_128_GCM"}, false},
		{Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", SRTP: "AEAD_AES_256_GCM"}, true},
		{Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", SRTP: "AES128_CM_HMAC_SHA1_80"}, true},
		{Crypto{SRTP: "AES128_CM_HMAC_SHA1_80"}, true},
		{Crypto{Suite: "NULL"}, true},
	} {
		if got := c.crypto.Flaw(); (got != "") != c.flaw {
			t.Errorf("%+v: %q", c.crypto, got)
		}
	}
}
