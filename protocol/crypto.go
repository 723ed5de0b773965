package protocol

import (
	"fmt"
	"slices"
)

// CryptoPolicy is what may encrypt a call's picture and sound, in one place for both ends and for who looks afterwards (R6, R8). A change of it is a new Version.
var CryptoPolicy = struct {
	Version int
	Suites  []string // of DTLS 1.2, as IANA names them
	SRTP    []string // protection profiles (RFC 7714)
}{
	Version: 1,
	Suites:  []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
	SRTP:    []string{"AEAD_AES_256_GCM", "AEAD_AES_128_GCM"},
}

// Flaw says in what the encryption of a call is not as CryptoPolicy has it; "" if it is. What was not negotiated is no flaw.
func (c Crypto) Flaw() string {
	switch {
	case c.Suite != "" && !slices.Contains(CryptoPolicy.Suites, c.Suite):
		return fmt.Sprintf("cipher suite %q", c.Suite)
	case c.SRTP != "" && !slices.Contains(CryptoPolicy.SRTP, c.SRTP):
		return fmt.Sprintf("SRTP profile %q", c.SRTP)
	}
	return ""
}
