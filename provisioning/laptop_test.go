package provisioning

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"testing"
	"time"

	"vindu/protocol"
)

// request is a terminal's, as it comes over the cable.
func request(t *testing.T) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "whatever"}}, key(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEnrolForATerminal(t *testing.T) {
	c, r := newClinic(t, time.Hour), request(t)
	laptop := &Client{Now: time.Now}
	for range 2 { // the cable was pulled before the certificate was in
		g, err := laptop.EnrolFor(t.Context(), &c.voucher, r)
		if err != nil {
			t.Fatal(err)
		}
		if protocol.HashSPKI(g.Chain[0].RawSubjectPublicKeyInfo) != protocol.HashSPKI(r.RawSubjectPublicKeyInfo) {
			t.Error("the certificate is for another key")
		}
		if len(g.Chain) != 2 || !g.Root.Equal(c.root) || g.Address != c.voucher.Address || g.ServerName != serverName {
			t.Errorf("grant: %+v", g)
		}
		if g.Settings.Home != "Home 17" {
			t.Errorf("settings: %+v", g.Settings)
		}
	}
	if _, err := laptop.EnrolFor(t.Context(), &c.voucher, request(t)); protocol.CodeOf(err) != protocol.IdentityVoucherUsed {
		t.Errorf("another terminal by the same voucher: %v", err)
	}
}

func TestEnrolForRefuses(t *testing.T) {
	tests := map[string]struct {
		spoil func(c *clinic, r *x509.CertificateRequest)
		want  protocol.Code
	}{
		"request that its key did not sign": {func(_ *clinic, r *x509.CertificateRequest) { r.Signature[8] ^= 1 }, protocol.SignalMalformed},
		"voucher of another clinic":         {func(c *clinic, _ *x509.CertificateRequest) { c.voucher.Root = newClinic(t, time.Hour).root.Raw }, protocol.IdentityPin},
		"root that is none":                 {func(c *clinic, _ *x509.CertificateRequest) { c.voucher.Root = []byte{1} }, protocol.IdentityVoucher},
		"voucher that is not known": {func(c *clinic, _ *x509.CertificateRequest) {
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == protocol.PathEnroll {
					refuse(w, http.StatusUnauthorized, protocol.IdentityVoucher)
				}
				return r.URL.Path == protocol.PathEnroll
			}
		}, protocol.IdentityVoucher},
		"settings not given": {func(c *clinic, _ *x509.CertificateRequest) {
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == protocol.PathSettings {
					refuse(w, http.StatusForbidden, protocol.LinkRefused)
				}
				return r.URL.Path == protocol.PathSettings
			}
		}, protocol.LinkRefused},
		"certificate of the past": {func(c *clinic, _ *x509.CertificateRequest) { c.life = -time.Hour }, protocol.TimeOff},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, r := newClinic(t, time.Hour), request(t)
			test.spoil(c, r)
			if _, err := (&Client{Now: time.Now}).EnrolFor(t.Context(), &c.voucher, r); protocol.CodeOf(err) != test.want {
				t.Errorf("got %v (%s), want %s", err, protocol.CodeOf(err), test.want)
			}
		})
	}
}
