package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"vindu/protocol"
)

const (
	clinicFile   = "identity/clinic.pem"
	clinicBlock  = "VINDU CLINIC"
	certBlock    = "CERTIFICATE"
	maxClinic    = 96 << 10
	maxChain     = 8
	grantVersion = 1
)

// record is the CBOR of the block VINDU CLINIC.
type record struct {
	Version    uint            `cbor:"1,keyasint"`
	Address    string          `cbor:"2,keyasint"`
	ServerName string          `cbor:"3,keyasint"`
	Settings   cbor.RawMessage `cbor:"4,keyasint"`
	// Trust and Policy as they were proven: the keys that signed them need not be known any more.
	Trust  cbor.RawMessage `cbor:"5,keyasint,omitempty"`
	Policy cbor.RawMessage `cbor:"6,keyasint,omitempty"`
	// Withdrawn are all mandates that settings ever named as withdrawn. Without it they are those that Settings names.
	Withdrawn []protocol.Nonce `cbor:"7,keyasint,omitempty"`
}

func encodeGrant(g *kept) ([]byte, error) {
	settings, err := protocol.Encode(g.Settings)
	if err != nil {
		return nil, err
	}
	r := record{Version: grantVersion, Address: g.Address, ServerName: g.ServerName, Settings: settings, Withdrawn: g.withdrawn}
	if g.Trust != nil {
		if r.Trust, err = protocol.Encode(g.Trust); err != nil {
			return nil, err
		}
	}
	if g.Policy != nil {
		if r.Policy, err = protocol.Encode(g.Policy); err != nil {
			return nil, err
		}
	}
	body, err := cbor.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	var b bytes.Buffer
	blocks := []*pem.Block{{Type: clinicBlock, Bytes: body}}
	for _, c := range g.Chain {
		blocks = append(blocks, &pem.Block{Type: certBlock, Bytes: c.Raw})
	}
	for _, block := range append(blocks, &pem.Block{Type: certBlock, Bytes: g.Root.Raw}) {
		if err := pem.Encode(&b, block); err != nil {
			return nil, fmt.Errorf("encode grant: %w", err)
		}
	}
	if b.Len() > maxClinic || len(g.Chain) > maxChain {
		return nil, errors.New("encode grant: too large")
	}
	return b.Bytes(), nil
}

func decodeGrant(b []byte) (*kept, error) {
	if len(b) > maxClinic {
		return nil, errors.New("decode grant: too large")
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != clinicBlock {
		return nil, fmt.Errorf("decode grant: does not begin with a block %q", clinicBlock)
	}
	var r record
	if err := DecodeRecord(block.Bytes, &r); err != nil {
		return nil, fmt.Errorf("decode grant: %w", err)
	}
	if r.Version != grantVersion {
		return nil, fmt.Errorf("decode grant: version %d is not known", r.Version)
	}
	g := &kept{Grant: Grant{Address: r.Address, ServerName: r.ServerName, Settings: new(protocol.Settings)}}
	if err := protocol.Decode(r.Settings, g.Settings); err != nil {
		return nil, fmt.Errorf("decode grant: %w", err)
	}
	if g.withdrawn = r.Withdrawn; len(g.withdrawn) == 0 {
		g.withdrawn = slices.Clone(g.Settings.Withdrawn)
	}
	if len(g.withdrawn) > maxRemembered {
		return nil, fmt.Errorf("decode grant: %d withdrawn mandates", len(g.withdrawn))
	}
	if len(r.Trust) > 0 {
		g.Trust = new(protocol.Trust)
		if err := protocol.Decode(r.Trust, g.Trust); err != nil {
			return nil, fmt.Errorf("decode grant: %w", err)
		}
	}
	if len(r.Policy) > 0 {
		g.Policy = new(protocol.Policy)
		if err := protocol.Decode(r.Policy, g.Policy); err != nil {
			return nil, fmt.Errorf("decode grant: %w", err)
		}
	}
	for len(bytes.TrimSpace(rest)) > 0 {
		if block, rest = pem.Decode(rest); block == nil || block.Type != certBlock || len(g.Chain) > maxChain {
			return nil, errors.New("decode grant: not only certificates after the first block, or too many")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("decode grant: %w", err)
		}
		g.Chain = append(g.Chain, c)
	}
	if len(g.Chain) < 2 {
		return nil, errors.New("decode grant: lacks the terminal's or the root certificate")
	}
	last := len(g.Chain) - 1
	g.Chain, g.Root = g.Chain[:last:last], g.Chain[last]
	return g, nil
}
