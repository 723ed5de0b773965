package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/config"
	"vindu/protocol"
)

const pagesName = "clinic.example"

// newCertificate writes a certificate for the pages, and its key, and returns what to verify it against.
func newCertificate(t *testing.T, certificate, key string, life time.Duration) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), DNSNames: []string{pagesName}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPages looks at every way in for browsers.
func TestPages(t *testing.T) {
	dir := newClinic(t)
	certificate := newCertificate(t, filepath.Join(dir, "pages.pem"), filepath.Join(dir, "pages.key"), time.Hour)
	path := filepath.Join(dir, config.FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`names = []`, `names = ["`+pagesName+`"]`, `certificate = ""`, `certificate = "pages.pem"`).Replace(string(b))
	text = strings.Replace(text, `key = ""`, `key = "pages.key"`, 1) // of the pages; the next is of the identity provider
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, pagesName) {
				address = s.front()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for name, tc := range map[string]struct {
		url    string
		status int
	}{
		"plain":                 {s.ready["pages"].(string) + "/sign-in", 200},
		"plain by address":      {strings.Replace(s.ready["pages"].(string), "localhost", "127.0.0.1", 1) + "/sign-in", 200},
		"over TLS":              {"https://" + pagesName + "/sign-in", 200},
		"enrolment is not here": {"https://" + pagesName + protocol.PathCACerts, 404},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := client.Get(tc.url)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tc.status || response.Header.Get("Content-Security-Policy") == "" {
				t.Errorf("status %d, %v", response.StatusCode, response.Header)
			}
			if strings.HasPrefix(tc.url, "https") && response.ProtoMajor != 2 {
				t.Errorf("%s", response.Proto)
			}
		})
	}
	// TURN over TLS shows browsers that certificate and terminals the clinic's own.
	clinic, err := open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer clinic.close()
	for name, c := range map[string]*tls.Config{
		"TURN of a browser":      {ServerName: pagesName, RootCAs: roots},
		"TURN of a terminal":     {ServerName: "terminals.vindu.invalid", RootCAs: clinic.authority.Pool(), NextProtos: []string{protocol.ALPNTURN}},
		"TURN, name in capitals": {ServerName: strings.ToUpper(pagesName), RootCAs: roots},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", s.front(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// A STUN binding request (RFC 8489 §5).
			if _, err := conn.Write([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 20)
			if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 1 || answer[1] != 1 {
				t.Errorf("answered %x, %v", answer, err)
			}
		})
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	log := slog.New(slog.DiscardHandler)
	if _, err := newFiles(certificate, key, log); err == nil || !strings.Contains(err.Error(), "web.certificate") {
		t.Errorf("no files: %v", err)
	}
	newCertificate(t, certificate, key, -time.Minute)
	if _, err := newFiles(certificate, key, log); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %v", err)
	}
	first := newCertificate(t, certificate, key, 1000*24*time.Hour)
	f, err := newFiles(certificate, key, log)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		c, err := f.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	if shown() != first.SerialNumber.String() {
		t.Error("another certificate")
	}
	if err := os.WriteFile(key, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), certificateCheck+time.Second)
			defer cancel()
			if err := f.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if run(); shown() != first.SerialNumber.String() {
		t.Error("files that cannot be used took the certificate away")
	}
	second := newCertificate(t, certificate, key, time.Hour)
	if run(); shown() != second.SerialNumber.String() {
		t.Error("the new certificate is not shown")
	}
}
