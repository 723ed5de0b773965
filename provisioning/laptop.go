package provisioning

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"

	"vindu/protocol"
)

// EnrolFor exchanges the voucher on behalf of a terminal that reaches no network yet: request is its certification request, made by the
// terminal's key, which stays there. The clinic tells the settings by the right of the voucher, since only the terminal could
// authenticate by the certificate. Again with the same request and voucher, it gives the same terminal a certificate again. c needs no Signer.
func (c *Client) EnrolFor(ctx context.Context, v *protocol.Voucher, request *x509.CertificateRequest) (*Grant, error) {
	g, err := c.enrolFor(ctx, v, request)
	if err != nil {
		return nil, fmt.Errorf("enrol the terminal at the clinic at %s: %w", v.Address, err)
	}
	return g, nil
}

func (c *Client) enrolFor(ctx context.Context, v *protocol.Voucher, request *x509.CertificateRequest) (*Grant, error) {
	root, err := x509.ParseCertificate(v.Root)
	if err != nil {
		return nil, protocol.WithCode(protocol.IdentityVoucher, fmt.Errorf("read the voucher's root certificate: %w", err))
	}
	if err := request.CheckSignature(); err != nil {
		return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("certification request: %w", err))
	}
	g := &Grant{Address: v.Address, ServerName: v.ServerName, Root: root}
	if c, err = c.onTime(ctx, g, v); err != nil {
		return nil, err
	}
	s := c.session(g, nil, c.Now)
	defer s.close()
	if err := s.checkAuthorities(ctx); err != nil {
		return nil, err
	}
	authorise := func(r *http.Request) {
		user, secret := v.Credentials()
		r.SetBasicAuth(user, string(secret))
	}
	body := []byte(base64.StdEncoding.EncodeToString(request.Raw))
	answer, err := s.do(ctx, http.MethodPost, protocol.PathEnroll, typeRequest, body, authorise)
	if err != nil {
		return nil, err
	}
	if g.Chain, err = readChain(answer, protocol.HashSPKI(request.RawSubjectPublicKeyInfo), root, c.Now()); err != nil {
		return nil, err
	}
	answer, err = s.do(ctx, http.MethodGet, protocol.PathSettings, "", nil, authorise)
	if err != nil {
		return nil, fmt.Errorf("fetch settings: %w", err)
	}
	if g.Settings, err = readSettings(answer); err != nil {
		return nil, fmt.Errorf("fetch settings: %w", err)
	}
	if err := v.Names(g.Settings); err != nil {
		return nil, err
	}
	return g, nil
}
