package protocol

const typeTrust = "vindu/trust.v1"

// Trust says whom a terminal believes. The first comes with its settings, signed by the authorisation key that its voucher names; each later one
// is signed by a key that the one before names, and has a higher Serial: so keys are followed by others, and nobody else can change them.
type Trust struct {
	Version     uint     `cbor:"1,keyasint"`
	Serial      uint64   `cbor:"2,keyasint"`
	Authorities [][]byte `cbor:"3,keyasint"` // DER SubjectPublicKeyInfo, ECDSA P-256: they sign authorisations, policies, mandates and orders
	// Service are the keys of the clinic's server: it tells the time by them and ends calls whose caller is gone, and can do nothing else.
	Service      [][]byte     `cbor:"4,keyasint"`
	RelyingParty RelyingParty `cbor:"5,keyasint"`
	Issued       Time         `cbor:"6,keyasint"`
}

// MaxKeys bounds the keys of each kind in a Trust.
const MaxKeys = 4

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
	return t.RelyingParty.valid()
}

func (*Trust) contentType() string { return typeTrust }
