package authority

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"vindu/protocol"
)

// Terminal returns the identity in a peer's certificate if it was issued to a terminal by this clinic, even if it has
// expired since: use it for renewal, and where TLS has verified the certificate and its time before. The error wraps ErrCertificate.
func (a *Authority) Terminal(c *x509.Certificate) (protocol.KeyHash, error) {
	at := c.NotAfter // was it good when it was last valid?
	if now := a.now(); now.Before(at) {
		at = now
	}
	sum := sha256.Sum256(c.Raw)
	if v, ok := a.terminals.get(sum); ok && !at.Before(v.from) && !at.After(v.until) {
		return v.hash, nil
	}
	v, err := a.verify(c, at)
	if err != nil {
		return protocol.KeyHash{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	a.terminals.put(sum, v)
	return v.hash, nil
}

// verify finds out whether a terminal's certificate is good at a time.
func (a *Authority) verify(c *x509.Certificate, at time.Time) (v verdict, err error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return v, errors.New("not an ECDSA key")
	}
	chains, err := c.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return v, err
	}
	if v.hash, err = protocol.HashKey(key); err != nil {
		return v, err
	}
	_, replaces := Before(c)
	if len(c.URIs) == 0 || c.URIs[0].String() != uriTerminal+v.hash.Name() || len(c.URIs) > 2 || len(c.URIs) == 2 && !replaces {
		return v, errors.New("its name is not a terminal's, or not its key's")
	}
	v.from, v.until = c.NotBefore, c.NotAfter
	for _, above := range chains[0][1:] {
		v.from, v.until = later(v.from, above.NotBefore), earlier(v.until, above.NotAfter)
	}
	return v, nil
}

// Before returns the key that the terminal whose certificate this is, as Terminal has found, has replaced by its own; false if there is none.
func Before(c *x509.Certificate) (protocol.KeyHash, bool) {
	if len(c.URIs) < 2 {
		return protocol.KeyHash{}, false
	}
	name, ok := strings.CutPrefix(c.URIs[1].String(), uriBefore)
	if !ok {
		return protocol.KeyHash{}, false
	}
	key, err := protocol.ParseName(name)
	return key, err == nil
}

// mostVerified bounds what is remembered, at some 150 bytes each: a clinic of 10,000 terminals has no more that are in use.
const mostVerified = 1 << 15

// verified remembers certificates by the SHA-256 of all that was signed and the signature. A terminal shows the same one for 20 days, and to
// verify its signature is most of what it costs to let it in. Only what is good is remembered, which only this clinic
// can make more of, and no longer than this Authority: other CAs come by a restart.
type verified struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]verdict
}

// verdict is whose a certificate is, and when it and all above it are valid.
type verdict struct {
	hash        protocol.KeyHash
	from, until time.Time
}

func (v *verified) get(sum [sha256.Size]byte) (verdict, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d, ok := v.good[sum]
	return d, ok
}

func (v *verified) put(sum [sha256.Size]byte, d verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.good == nil {
		v.good = map[[sha256.Size]byte]verdict{}
	}
	if len(v.good) >= mostVerified {
		for old := range v.good { // any: it is verified again when it is shown again
			delete(v.good, old)
			break
		}
	}
	v.good[sum] = d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
