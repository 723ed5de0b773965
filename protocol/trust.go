package protocol

import (
	"slices"
	"strings"
)

const typeTrust = "vindu/trust.v1"

// Trust says whom a terminal believes. The first comes with its settings, signed by the authorisation key that its voucher names; each later one
// is signed by a key that the one before names, and has a higher Serial: so keys are followed by others, and nobody else can change them.
type Trust struct {
	Version     uint     `cbor:"1,keyasint"`
	Serial      uint64   `cbor:"2,keyasint"`
	Authorities [][]byte `cbor:"3,keyasint"` // DER SubjectPublicKeyInfo, ECDSA P-256: they sign authorisations, policies, mandates and orders
	// Service are the keys of the clinic's server: it tells the time by them, acknowledges events and ends calls whose caller is gone, and can do nothing else.
	Service      [][]byte     `cbor:"4,keyasint"`
	RelyingParty RelyingParty `cbor:"5,keyasint"`
	Issued       Time         `cbor:"6,keyasint"`
	// Relays are the URLs (RFC 7064, RFC 7065) of the only servers by which terminals look for a path: another one would learn their addresses.
	Relays []string `cbor:"7,keyasint,omitempty"`
}

// MaxKeys bounds the keys of each kind in a Trust, MaxRelays its relays.
const (
	MaxKeys   = 4
	MaxRelays = 8
)

func (t *Trust) valid() error {
	if err := checkVersion(t.Version); err != nil {
		return err
	}
	if t.Serial == 0 || t.Issued <= 0 {
		return malformed("trust lacks a serial number or a time")
	}
	for _, keys := range [][][]byte{t.Authorities, t.Service} {
		if len(keys) == 0 || len(keys) > MaxKeys {
			return malformed("trust has %d keys of a kind, has to have 1 to %d", len(keys), MaxKeys)
		}
		for _, k := range keys {
			if _, err := ParseKey(k); err != nil {
				return err
			}
		}
	}
	if len(t.Relays) > MaxRelays {
		return malformed("trust has %d relays, at most %d", len(t.Relays), MaxRelays)
	}
	for i, u := range t.Relays {
		if scheme, _, ok := strings.Cut(u, ":"); !ok || !slices.Contains([]string{"stun", "stuns", "turn", "turns"}, scheme) || slices.Contains(t.Relays[:i], u) {
			return malformed("trust names a relay twice, or one that is none")
		}
		if err := checkText("relay", u, true); err != nil {
			return err
		}
	}
	return t.RelyingParty.valid()
}

// KnownServers returns of the servers that are offered those whose URLs are known, and how many URLs are not. Credentials are the offer's: they change with each call.
func KnownServers(offered []ICEServer, known []string) (servers []ICEServer, unknown int) {
	for _, s := range offered {
		urls := make([]string, 0, len(s.URLs))
		for _, u := range s.URLs {
			if slices.Contains(known, u) {
				urls = append(urls, u)
			}
		}
		unknown += len(s.URLs) - len(urls)
		if len(urls) > 0 {
			s.URLs = urls
			servers = append(servers, s)
		}
	}
	return servers, unknown
}

func (*Trust) contentType() string { return typeTrust }
