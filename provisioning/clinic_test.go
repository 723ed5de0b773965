package provisioning

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"vindu/protocol"
)

const serverName = "terminals.clinic.example"

// clinic is a small clinic: an authority, one voucher, and an EST server.
type clinic struct {
	t       *testing.T
	rootKey *ecdsa.PrivateKey
	root    *x509.Certificate
	key     *ecdsa.PrivateKey // of the issuing CA, and to authorise
	service *ecdsa.PrivateKey
	issuing *x509.Certificate
	voucher protocol.Voucher

	life   time.Duration // of certificates
	late   time.Duration // the clinic's clock, of the machine's
	before func(w http.ResponseWriter, r *http.Request) (done bool)

	mu       sync.Mutex
	used     protocol.KeyHash
	issued   int
	requests []string
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newClinic starts it. life is that of the certificates it issues.
func newClinic(t *testing.T, life time.Duration) *clinic {
	t.Helper()
	return newClinicServing(t, life, -time.Minute, time.Hour)
}

// newClinicServing starts one whose server's certificate is good from and until then.
func newClinicServing(t *testing.T, life, from, until time.Duration) *clinic {
	t.Helper()
	c := &clinic{t: t, rootKey: key(t), key: key(t), service: key(t), life: life}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	c.root = c.sign(ca, ca, c.rootKey.Public(), c.rootKey)
	ca.Subject.CommonName = "Issuing"
	c.issuing = c.sign(ca, c.root, c.key.Public(), c.rootKey)
	serverKey := key(t)
	server := c.sign(&x509.Certificate{DNSNames: []string{serverName}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, c.issuing, serverKey.Public(), c.key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler:  c,
		ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert,
			Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw, c.issuing.Raw}, PrivateKey: serverKey}}},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	c.voucher = protocol.Voucher{Version: 1, ID: protocol.NewNonce(), Secret: make([]byte, 32), Address: l.Addr().String(), ServerName: serverName,
		Root: c.root.Raw, Expires: protocol.At(time.Now().Add(time.Hour))}
	rand.Read(c.voucher.Secret)
	return c
}

func (c *clinic) sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	c.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

func (c *clinic) issue(pub crypto.PublicKey, name string) *x509.Certificate {
	begin := time.Now().Add(-time.Minute)
	if c.life < 0 {
		begin = time.Now().Add(10 * c.life)
	}
	return c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: begin, NotAfter: time.Now().Add(c.life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, c.issuing, pub, c.key)
}

func (c *clinic) settings() *protocol.Settings {
	return &protocol.Settings{Version: 1, Organisation: "Nordbyen clinic", Home: "Home 17", Authorities: [][]byte{c.authority()}, At: protocol.At(time.Now())}
}

func refuse(w http.ResponseWriter, status int, code protocol.Code) {
	w.Header().Set(protocol.FailureHeader, string(code))
	http.Error(w, "no", status)
}

func (c *clinic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r.Method+" "+r.URL.Path)
	if c.before != nil && c.before(w, r) {
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET " + protocol.PathCACerts:
		c.certs(w, c.root, c.issuing)
	case "POST " + protocol.PathEnroll:
		c.enrol(w, r)
	case "POST " + protocol.PathReenroll:
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].CheckSignatureFrom(c.issuing) != nil {
			refuse(w, http.StatusForbidden, protocol.LinkRefused)
			return
		}
		c.life = time.Hour
		c.certs(w, c.issue(r.TLS.PeerCertificates[0].PublicKey, r.TLS.PeerCertificates[0].Subject.CommonName), c.issuing)
	case "GET " + protocol.PathSettings:
		if user, password, ok := r.BasicAuth(); ok {
			id, secret, err := protocol.ParseCredentials(user, protocol.Secret(password))
			if err != nil || id != c.voucher.ID || string(secret) != string(c.voucher.Secret) || c.used == (protocol.KeyHash{}) {
				refuse(w, http.StatusUnauthorized, protocol.IdentityVoucher)
				return
			}
		} else if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].CheckSignatureFrom(c.issuing) != nil {
			refuse(w, http.StatusForbidden, protocol.LinkRefused)
			return
		}
		b, err := protocol.Encode(c.settings())
		if err != nil {
			c.t.Error(err)
		}
		_, _ = w.Write(b)
	case "GET " + protocol.PathClock:
		c.clock(w, r)
	case "GET " + protocol.PathTrust:
		_, _ = w.Write(c.trust(1, c.key))
	default:
		http.NotFound(w, r)
	}
}

func (c *clinic) clock(w http.ResponseWriter, r *http.Request) {
	b, err := hex.DecodeString(r.URL.Query().Get("nonce"))
	if err != nil || len(b) != 16 {
		http.Error(w, "no nonce", http.StatusBadRequest)
		return
	}
	signed, err := protocol.Sign(&protocol.Clock{Version: 1, Nonce: protocol.Nonce(b), At: protocol.At(time.Now().Add(c.late))}, c.service)
	if err != nil {
		c.t.Error(err)
	}
	_, _ = w.Write(signed)
}

// trust names the service key.
func (c *clinic) trust(serial uint64, by crypto.Signer) []byte {
	signed, err := protocol.Sign(&protocol.Trust{Version: 1, Serial: serial, Authorities: [][]byte{c.authority()}, Service: [][]byte{c.serviceKey()},
		RelyingParty: protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost"}}, Issued: 1}, by)
	if err != nil {
		c.t.Error(err)
	}
	return signed
}

func (c *clinic) serviceKey() []byte {
	spki, err := x509.MarshalPKIXPublicKey(c.service.Public())
	if err != nil {
		c.t.Error(err)
	}
	return spki
}

// authority is the authorisation key as vouchers and settings carry it.
func (c *clinic) authority() []byte {
	spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		c.t.Error(err)
	}
	return spki
}

func (c *clinic) enrol(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	id, secret, err := protocol.ParseCredentials(user, protocol.Secret(password))
	if err != nil || id != c.voucher.ID || string(secret) != string(c.voucher.Secret) {
		refuse(w, http.StatusUnauthorized, protocol.IdentityVoucher)
		return
	}
	body, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, r.Body))
	if err != nil || r.Header.Get("Content-Type") != "application/pkcs10" {
		http.Error(w, "not a certification request", http.StatusBadRequest)
		return
	}
	csr, err := x509.ParseCertificateRequest(body)
	if err != nil || csr.CheckSignature() != nil {
		http.Error(w, "not a certification request", http.StatusBadRequest)
		return
	}
	hash, err := protocol.HashKey(csr.PublicKey)
	if err != nil {
		c.t.Error(err)
	}
	switch {
	case c.used == hash:
	case c.used != protocol.KeyHash{}:
		refuse(w, http.StatusForbidden, protocol.IdentityVoucherUsed)
		return
	case time.Now().After(c.voucher.Expires.Time()):
		refuse(w, http.StatusForbidden, protocol.IdentityVoucherOld)
		return
	}
	c.used = hash
	c.issued++
	c.certs(w, c.issue(csr.PublicKey, hash.Name()), c.issuing)
}

func (c *clinic) certs(w http.ResponseWriter, certs ...*x509.Certificate) {
	b, err := protocol.EncodeCerts(certs...)
	if err != nil {
		c.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime")
	_, _ = w.Write(b)
}
