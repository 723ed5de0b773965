package provisioning

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"vindu/protocol"
)

// Time asks the clinic what time it is, and proves the answer: it is signed by the service key, which one of the authorisation keys that the terminal
// pinned has signed for (protocol.Trust), over a nonce made for this question. took is the round trip: at is so old at most. It works whatever the
// terminal's clock says, and leaves no certificate unjudged: name and path of the server's are verified in the handshake, by the
// instant that its dates name if the terminal's clock does not fit them; and its dates, and those of every certificate above
// it, by the time that was proven. A server whose certificate has expired, or is yet to begin, is refused with protocol.TimeOff.
func (c *Client) Time(ctx context.Context, g *Grant) (at time.Time, took time.Duration, err error) {
	known := g.Settings.Authorities
	if g.Trust != nil {
		known = g.Trust.Authorities
	}
	keys, err := authorities(known)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("ask the clinic at %s for the time: %w", g.Address, err)
	}
	at, took, err = c.time(ctx, g, keys)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("ask the clinic at %s for the time: %w", g.Address, err)
	}
	return at, took, nil
}

func (c *Client) time(ctx context.Context, g *Grant, keys []*ecdsa.PublicKey) (time.Time, time.Duration, error) {
	at, took, err := c.timeBy(ctx, g, keys, c.Now)
	verification, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || protocol.HandshakeCode(err) != protocol.TimeOff || len(verification.UnverifiedCertificates) == 0 {
		return at, took, err
	}
	// The path is verified as of the middle of the certificate's own life. That asserts nothing about today; judge does, afterwards.
	leaf := verification.UnverifiedCertificates[0]
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	return c.timeBy(ctx, g, keys, func() time.Time { return middle })
}

// timeBy asks over a connection whose handshake goes by now.
func (c *Client) timeBy(ctx context.Context, g *Grant, keys []*ecdsa.PublicKey, now func() time.Time) (time.Time, time.Duration, error) {
	s := c.session(g, nil, now)
	defer s.close()
	var connected time.Time
	var state *tls.ConnectionState
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(s tls.ConnectionState, _ error) { state = &s },
		GotConn:          func(httptrace.GotConnInfo) { connected = time.Now() },
	})
	nonce := protocol.NewNonce()
	body, err := s.do(ctx, http.MethodGet, protocol.PathClock+"?nonce="+hex.EncodeToString(nonce[:]), "", nil, nil)
	if err != nil {
		return time.Time{}, 0, err
	}
	took := time.Since(connected)
	known := &protocol.Trust{}
	if g.Trust != nil {
		known = g.Trust
	} else if g.Settings != nil && len(g.Settings.Trust) > 0 {
		if known, err = readTrust(g.Settings.Trust, keys); err != nil { // it tells nothing then
			known = &protocol.Trust{}
		}
	}
	at, err := readClock(body, nonce, known.Service)
	if protocol.CodeOf(err) == protocol.AuthUnproven { // another service key may have followed
		at, err = s.clockByTrust(ctx, body, nonce, keys, known.Serial)
	}
	if err != nil {
		return time.Time{}, 0, err
	}
	return at, took, judge(state, at)
}

// clockByTrust asks for the trust and reads the time by it. An older trust than the one that is known says nothing any more.
func (s *session) clockByTrust(ctx context.Context, body []byte, nonce protocol.Nonce, keys []*ecdsa.PublicKey, known uint64) (time.Time, error) {
	signed, err := s.do(ctx, http.MethodGet, protocol.PathTrust+trustQuery(known), "", nil, nil)
	if err != nil {
		return time.Time{}, err
	}
	trust, err := readTrust(signed, keys)
	if err == nil && trust.Serial < known {
		err = protocol.WithCode(protocol.AuthTrust, errors.New("it is older than the one that is known"))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("whom the clinic says to believe: %w", err)
	}
	return readClock(body, nonce, trust.Service)
}

// trustQuery asks for the newest trust that who has the one with this serial number can verify; 0: who has none.
func trustQuery(serial uint64) string {
	if serial == 0 {
		return ""
	}
	return "?" + protocol.ParamTrust + "=" + strconv.FormatUint(serial, 10)
}

// readTrust returns a trust that one of the keys has signed.
func readTrust(signed []byte, keys []*ecdsa.PublicKey) (*protocol.Trust, error) {
	err := errors.New("no authorisation key is known")
	for _, key := range keys {
		trust := new(protocol.Trust)
		if err = protocol.Verify(signed, key, trust); err == nil {
			return trust, nil
		}
	}
	return nil, protocol.WithCode(unproven(err), err)
}

func unproven(err error) protocol.Code {
	if errors.Is(err, protocol.ErrMalformed) || errors.Is(err, protocol.ErrVersion) {
		return protocol.SignalMalformed
	}
	return protocol.AuthUnproven
}

// readClock returns the time in a signed protocol.Clock that answers nonce.
func readClock(body []byte, nonce protocol.Nonce, service [][]byte) (time.Time, error) {
	err := errors.New("no service key is known")
	for _, der := range service {
		clock := new(protocol.Clock)
		key, parsed := protocol.ParseKey(der)
		if err = parsed; err != nil {
			continue
		}
		if err = protocol.Verify(body, key, clock); err != nil {
			continue
		}
		if clock.Nonce != nonce {
			return time.Time{}, protocol.WithCode(protocol.AuthReplayed, errors.New("the clinic's time answers another question"))
		}
		return clock.At.Time(), nil
	}
	return time.Time{}, protocol.WithCode(unproven(err), fmt.Errorf("the clinic's time: %w", err))
}

// judge asks of every certificate by which a connection was verified whether it is good at a time.
func judge(state *tls.ConnectionState, at time.Time) error {
	if state == nil || len(state.VerifiedChains) == 0 {
		return protocol.WithCode(protocol.IdentityPin, errors.New("the clinic's server was not verified"))
	}
	var err error
	for _, chain := range state.VerifiedChains {
		if err = judgeChain(chain, at); err == nil {
			return nil
		}
	}
	return protocol.WithCode(protocol.TimeOff, err)
}

func judgeChain(chain []*x509.Certificate, at time.Time) error {
	for _, cert := range chain {
		if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
			return fmt.Errorf("the clinic says that it is %s, and shows a certificate %q that is good from %s to %s",
				at.Format(time.DateTime), cert.Subject.CommonName, cert.NotBefore.Format(time.DateTime), cert.NotAfter.Format(time.DateTime))
		}
	}
	return nil
}
