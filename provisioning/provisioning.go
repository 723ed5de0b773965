// Package provisioning sets a terminal up: it exchanges a voucher for a certificate, and a certificate for the next.
// It is the client of the clinic's Enrolment over Secure Transport (RFC 7030).
//
// Enrol asks for the authorities' certificates (§4.1), sends a certification request for the terminal's own
// key with the voucher's id and secret by HTTP Basic (§3.2.3, §4.2), and fetches the clinic's settings over mutual TLS. The
// first connection is verified like every later one: TLS 1.3, the voucher's root, the voucher's server name. Renew is the
// simple re-enrolment of §4.2.2, authenticated by the current certificate alone, which may have expired.
//
// Nothing is stored here. A run that was cut off at any instant is run again with the same key and voucher: the clinic gives the
// same key a certificate again, so that what got lost with the power costs nothing. The private key is
// only ever asked to sign.
//
// Time proves the clinic's time by a nonce and the authorisation key, whatever clock the terminal has. A voucher that
// carries that key lets Enrol go by it from the first connection on.
//
// Every refusal is an error with a code of the register (protocol.CodeOf), which says who can act and what to do.
package provisioning

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"vindu/protocol"
)

// Timeout bounds each request, from dialling to the last byte.
const Timeout = 30 * time.Second

const maxBody = 32 << 10

const typeRequest = "application/pkcs10" // RFC 7030 §4.2.1

// Grant is what an enrolment gave.
type Grant struct {
	Address    string              // host:port of the clinic's front door
	ServerName string              // by which terminals know the clinic (SNI)
	Chain      []*x509.Certificate // the terminal's certificate, then those between it and Root
	Root       *x509.Certificate
	Settings   *protocol.Settings
	Trust      *protocol.Trust  // that the terminal has proven since, or nil
	Policy     *protocol.Policy // so, too
}

// Client enrols and renews one terminal.
type Client struct {
	Signer crypto.Signer    // the terminal's key, ECDSA P-256
	Now    func() time.Time // by which certificates are verified
	// Chain is the terminal's certificate, if it is set up at the clinic of the voucher: shown beside a voucher, it moves the terminal to another
	// home. Without it the clinic refuses a key that it knows, as protocol.IdentityClone.
	Chain []*x509.Certificate
	// Dial opens the connections below TLS; nil means TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Enrol exchanges the voucher for a certificate and settings.
func (c *Client) Enrol(ctx context.Context, v *protocol.Voucher) (*Grant, error) {
	root, err := x509.ParseCertificate(v.Root)
	if err != nil {
		return nil, protocol.WithCode(protocol.IdentityVoucher, fmt.Errorf("read the voucher's root certificate: %w", err))
	}
	// Whether the voucher has expired is for the clinic to say: its clock is right, and it knows a run that was cut off.
	g := &Grant{Address: v.Address, ServerName: v.ServerName, Root: root}
	if c, err = c.onTime(ctx, g, v); err != nil {
		return nil, fmt.Errorf("enrol at the clinic at %s: %w", v.Address, err)
	}
	s := c.session(g, c.Chain, c.Now)
	defer s.close()
	if err := s.checkAuthorities(ctx); err != nil {
		return nil, fmt.Errorf("enrol at the clinic at %s: %w", v.Address, err)
	}
	password := func(r *http.Request) {
		user, secret := v.Credentials()
		r.SetBasicAuth(user, string(secret))
	}
	if g.Chain, err = c.request(ctx, s, protocol.PathEnroll, password); err != nil {
		return nil, fmt.Errorf("enrol at the clinic at %s: %w", v.Address, err)
	}
	if g.Settings, _, err = c.Settings(ctx, g); err != nil {
		return nil, fmt.Errorf("enrol at the clinic at %s: %w", v.Address, err)
	}
	if err := v.Names(g.Settings); err != nil {
		return nil, fmt.Errorf("enrol at the clinic at %s: %w", v.Address, err)
	}
	return g, nil
}

// onTime returns a client that goes by the time that the clinic proves by the voucher's authorisation key, if that has one: a terminal out of the
// box may have no time, and a laptop a wrong one.
func (c *Client) onTime(ctx context.Context, g *Grant, v *protocol.Voucher) (*Client, error) {
	if len(v.Authority) == 0 {
		return c, nil
	}
	keys, err := authorities([][]byte{v.Authority})
	if err != nil {
		return nil, protocol.WithCode(protocol.IdentityVoucher, fmt.Errorf("read the voucher: %w", err))
	}
	at, took, err := c.time(ctx, g, keys)
	if err != nil {
		return nil, fmt.Errorf("learn the time: %w", err)
	}
	at, since := at.Add(took/2), time.Now()
	return &Client{Signer: c.Signer, Chain: c.Chain, Dial: c.Dial, Now: func() time.Time { return at.Add(time.Since(since)) }}, nil
}

// Renew asks for a new certificate for the same key.
func (c *Client) Renew(ctx context.Context, g *Grant) ([]*x509.Certificate, error) {
	s := c.session(g, g.Chain, c.Now)
	defer s.close()
	chain, err := c.request(ctx, s, protocol.PathReenroll, nil)
	if err != nil {
		return nil, fmt.Errorf("renew the certificate at the clinic at %s: %w", g.Address, err)
	}
	return chain, nil
}

// Replace asks for a certificate for the key of next, which is to replace the terminal's, authenticated by the current certificate. The request is signed by the new key and names
// the present one, so that neither can be put beside another.
func (c *Client) Replace(ctx context.Context, g *Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	s := c.session(g, g.Chain, c.Now)
	defer s.close()
	key, err := protocol.HashKey(c.Signer.Public())
	if err != nil {
		return nil, err
	}
	chain, err := requestFor(ctx, s, protocol.PathReenroll, next, key.Name(), c.Now(), nil)
	if err != nil {
		return nil, fmt.Errorf("have a new key certified by the clinic at %s: %w", g.Address, err)
	}
	return chain, nil
}

// Settings fetches the clinic's settings over mutual TLS, with the time that the round trip took: what they say of the clinic's
// clock is so old at most.
func (c *Client) Settings(ctx context.Context, g *Grant) (*protocol.Settings, time.Duration, error) {
	s := c.session(g, g.Chain, c.Now)
	defer s.close()
	began := time.Now()
	var has uint64
	if g.Trust != nil {
		has = g.Trust.Serial
	}
	body, err := s.do(ctx, http.MethodGet, protocol.PathSettings+trustQuery(has), "", nil, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch settings: %w", err)
	}
	took := time.Since(began)
	settings, err := readSettings(body)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch settings: %w", err)
	}
	return settings, took, nil
}

func readSettings(body []byte) (*protocol.Settings, error) {
	s := new(protocol.Settings)
	if err := protocol.Decode(body, s); err != nil {
		return nil, protocol.WithCode(protocol.SignalMalformed, err)
	}
	if _, err := authorities(s.Authorities); err != nil {
		return nil, err
	}
	return s, nil
}

// authorities parses authorisation keys. Those of a kind that this version cannot verify by are an error.
func authorities(keys [][]byte) ([]*ecdsa.PublicKey, error) {
	parsed := make([]*ecdsa.PublicKey, 0, len(keys))
	for _, der := range keys {
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("authorisation key: %w", err))
		}
		k, ok := key.(*ecdsa.PublicKey)
		if !ok || k.Curve != elliptic.P256() {
			return nil, protocol.WithCode(protocol.SignalMalformed, errors.New("authorisation key is not ECDSA P-256"))
		}
		parsed = append(parsed, k)
	}
	return parsed, nil
}

// request sends a certification request (RFC 2986) and checks what comes back.
func (c *Client) request(ctx context.Context, s *session, path string, authorise func(*http.Request)) ([]*x509.Certificate, error) {
	key, err := protocol.HashKey(c.Signer.Public())
	if err != nil {
		return nil, err
	}
	return requestFor(ctx, s, path, c.Signer, key.Name(), c.Now(), authorise)
}

// requestFor is request for any key, by that name.
func requestFor(ctx context.Context, s *session, path string, signer crypto.Signer, name string, now time.Time, authorise func(*http.Request)) ([]*x509.Certificate, error) {
	key, err := protocol.HashKey(signer.Public())
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, signer)
	if err != nil {
		return nil, fmt.Errorf("make certification request: %w", err)
	}
	body := []byte(base64.StdEncoding.EncodeToString(der))
	answer, err := s.do(ctx, http.MethodPost, path, typeRequest, body, authorise)
	if err != nil {
		return nil, err
	}
	return readChain(answer, key, s.grant.Root, now)
}

// readChain finds the terminal's certificate in an answer and the way from it to root, which itself is left out.
func readChain(answer []byte, key protocol.KeyHash, root *x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	certs, err := protocol.DecodeCerts(answer)
	if err != nil {
		return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("read the certificate: %w", err))
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	var leaf *x509.Certificate
	for _, cert := range certs {
		if protocol.HashSPKI(cert.RawSubjectPublicKeyInfo) == key {
			leaf = cert
			continue
		}
		between.AddCert(cert)
	}
	if leaf == nil {
		return nil, protocol.WithCode(protocol.IdentityOtherClinic, errors.New("the clinic's answer has no certificate for this terminal's key"))
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		code := protocol.HandshakeCode(err)
		if code != protocol.TimeOff {
			code = protocol.IdentityOtherClinic
		}
		return nil, protocol.WithCode(code, fmt.Errorf("verify the certificate that the clinic gave: %w", err))
	}
	return chains[0][:len(chains[0])-1], nil
}

// session makes requests to one clinic.
type session struct {
	grant     *Grant
	client    *http.Client
	transport *http.Transport
}

// session returns one that verifies by now, and authenticates by chain unless that is nil.
func (c *Client) session(g *Grant, chain []*x509.Certificate, now func() time.Time) *session {
	roots := x509.NewCertPool()
	roots.AddCert(g.Root)
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: g.ServerName, Time: now, NextProtos: []string{"http/1.1"}}
	if len(chain) > 0 {
		own := &tls.Certificate{PrivateKey: c.Signer, Leaf: chain[0]}
		for _, cert := range chain {
			own.Certificate = append(own.Certificate, cert.Raw)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	transport := &http.Transport{
		// Whatever the URL says, connect to the front door: the URL has the name under which the clinic's certificate is made out.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := dial(ctx, network, g.Address)
			return conn, protocol.WithCode(protocol.LinkUnreachable, err)
		},
		TLSClientConfig:        config,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
	}
	return &session{g, &http.Client{
		Transport: transport, Timeout: Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the clinic answered with a redirection")
		},
	}, transport}
}

func (s *session) close() { s.transport.CloseIdleConnections() }

// checkAuthorities asks for the clinic's authorities and looks for the root that is pinned. The TLS connection has proven
// already that the server's certificate leads to it; this tells a clinic that is about to use another root.
func (s *session) checkAuthorities(ctx context.Context) error {
	body, err := s.do(ctx, http.MethodGet, protocol.PathCACerts, "", nil, nil)
	if err != nil {
		return err
	}
	certs, err := protocol.DecodeCerts(body)
	if err != nil {
		return protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("read the authorities' certificates: %w", err))
	}
	for _, cert := range certs {
		if cert.Equal(s.grant.Root) {
			return nil
		}
	}
	return protocol.WithCode(protocol.IdentityPin, errors.New("the clinic does not name the voucher's root among its authorities"))
}

// do makes one request and returns the body of a successful answer.
func (s *session) do(ctx context.Context, method, path, contentType string, body []byte, authorise func(*http.Request)) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+s.grant.ServerName+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if contentType == typeRequest {
		r.Header.Set("Content-Transfer-Encoding", "base64")
	}
	if authorise != nil {
		authorise(r)
	}
	response, err := s.client.Do(r)
	if err != nil {
		code := protocol.HandshakeCode(err)
		if code == "" {
			code = protocol.LinkUnreachable
		}
		return nil, protocol.WithCode(code, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err == nil {
		err = ctx.Err() // an answer to what was given up is none: its server may have stopped in the middle of it
	}
	if err != nil {
		return nil, protocol.WithCode(protocol.LinkUnreachable, fmt.Errorf("read the answer to %s: %w", path, err))
	}
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response)
	}
	if len(answer) > maxBody {
		return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("read the answer to %s: more than %d bytes: %w", path, maxBody, protocol.ErrTooLarge))
	}
	return answer, nil
}

// refusal reads why the clinic said no. What it writes for people is not repeated: the register has the sentence for the code.
func refusal(response *http.Response) error {
	code := protocol.Code(response.Header.Get(protocol.FailureHeader))
	err := fmt.Errorf("the clinic answered %s with status %d", response.Request.URL.Path, response.StatusCode)
	switch f := protocol.Explain(code); {
	case code == "" && response.StatusCode >= 500:
		return protocol.WithCode(protocol.LinkUnreachable, err)
	case code == "":
		return protocol.WithCode(protocol.LinkRefused, err)
	default:
		if f.Sentence == protocol.Explain(protocol.Unknown).Sentence {
			return protocol.WithCode(protocol.Unknown, err)
		}
		return protocol.WithCode(code, fmt.Errorf("%w: %s", err, f.Sentence))
	}
}
