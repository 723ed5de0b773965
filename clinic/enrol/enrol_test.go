package enrol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const serverName = "terminals.vindu.invalid"

type clinic struct {
	*Server
	url  string
	home string
	log  *bytes.Buffer
	http *httptest.Server
}

func start(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	if err := authority.Create(filepath.Join(dir, "authority"), "Vestfold kommune"); err != nil {
		t.Fatal(err)
	}
	a, err := authority.Load(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.New(t.Context(), s, a.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := register.New(t.Context(), s, l)
	if err != nil {
		t.Fatal(err)
	}
	home, err := r.EnsureHome(t.Context(), "Kari", "Home 17, Storgata")
	if err != nil {
		t.Fatal(err)
	}
	c := &clinic{home: home.ID, log: new(bytes.Buffer)}
	c.Server = New(Config{
		Organisation: "Vestfold kommune", Authority: a, Register: r, Log: slog.New(slog.NewTextHandler(&lockedWriter{w: c.log}, nil)),
		Relay: func(protocol.KeyHash) []protocol.ICEServer { return servers }, TestCall: robot,
	})
	c.http = httptest.NewUnstartedServer(c.Server)
	c.http.TLS = TLS(a.Server(serverName))
	c.http.EnableHTTP2 = true
	c.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	c.http.StartTLS()
	t.Cleanup(func() {
		c.http.Close()
		s.Close()
	})
	c.url = "https://" + serverName
	return c
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// client connects with a chain of certificates, if there is a key.
func (c *clinic) client(t *testing.T, key crypto.Signer, chain ...*x509.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(c.Authority.Root())
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: serverName}
	if key != nil {
		own := &tls.Certificate{PrivateKey: key}
		for _, cert := range chain {
			own.Certificate = append(own.Certificate, cert.Raw)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, c.http.Listener.Addr().String())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (c *clinic) voucher(t *testing.T) register.Voucher {
	t.Helper()
	v, err := c.Register.IssueVoucher(t.Context(), "Kari", c.home, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csr(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "clinic"}, DNSNames: []string{serverName}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(der))
}

type answer struct {
	status int
	code   protocol.Code
	header http.Header
	body   []byte
}

func do(t *testing.T, client *http.Client, method, url string, v *register.Voucher, contentType string, body []byte) answer {
	t.Helper()
	a, err := try(client, method, url, v, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(client *http.Client, method, url string, v *register.Voucher, contentType string, body []byte) (answer, error) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if v != nil {
		user, password := (&protocol.Voucher{ID: v.ID, Secret: v.Secret}).Credentials()
		r.SetBasicAuth(user, string(password))
	}
	response, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, protocol.Code(response.Header.Get(protocol.FailureHeader)), response.Header, b}, err
}

// enrolled lets a new terminal in.
func (c *clinic) enrolled(t *testing.T) (*ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	key, v := newKey(t), c.voucher(t)
	return key, certificates(t, do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, key)))
}

func certificates(t *testing.T, a answer) []*x509.Certificate {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d, code %s: %s", a.status, a.code, a.body)
	}
	certs, err := protocol.DecodeCerts(a.body)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// TestLife goes from the voucher to the renewed certificate.
func TestLife(t *testing.T) {
	c := start(t)
	authorities := do(t, c.client(t, nil), http.MethodGet, c.url+protocol.PathCACerts, nil, "", nil)
	if got := authorities.header.Get("Content-Type"); got != "application/pkcs7-mime" {
		t.Errorf("content type %q", got)
	}
	if certs := certificates(t, authorities); len(certs) != 2 || !certs[0].Equal(c.Authority.Root()) || !certs[1].Equal(c.Authority.Issuing()) {
		t.Errorf("%d authorities", len(certs))
	}

	key, v := newKey(t), c.voucher(t)
	first := do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, key))
	if got := first.header.Get("Content-Type"); got != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("content type %q", got)
	}
	chain := certificates(t, first)
	name := protocol.KeyHash(mustHash(t, key)).Name()
	if len(chain) != 2 || chain[0].Subject.CommonName != name || len(chain[0].DNSNames) != 0 || !chain[0].PublicKey.(*ecdsa.PublicKey).Equal(&key.PublicKey) {
		t.Errorf("chain = %v", chain)
	}

	for name, client := range map[string]*http.Client{"with its chain": c.client(t, key, chain...), "leaf alone": c.client(t, key, chain[0])} {
		answer := do(t, client, http.MethodGet, c.url+protocol.PathSettings, nil, "", nil)
		settings := new(protocol.Settings)
		if err := protocol.Decode(answer.body, settings); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if settings.Home != "Home 17, Storgata" || settings.Organisation != "Vestfold kommune" || !bytes.Equal(settings.Authorities[0], c.Authority.Authorities()[0]) {
			t.Errorf("%s: settings = %+v", name, settings)
		}
	}

	renewed := certificates(t, do(t, c.client(t, key, chain...), http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, csr(t, key)))
	if renewed[0].SerialNumber.Cmp(chain[0].SerialNumber) == 0 {
		t.Error("the same certificate again")
	}
	again := certificates(t, do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, key)))
	if again[0].Subject.CommonName != name {
		t.Error("the same voucher and key again: another name")
	}
}

func mustHash(t *testing.T, key *ecdsa.PrivateKey) protocol.KeyHash {
	t.Helper()
	h, err := protocol.HashKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEnrollRefused(t *testing.T) {
	c := start(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	used, fresh, unknown := c.voucher(t), c.voucher(t), register.Voucher{ID: protocol.NewNonce(), Secret: make([]byte, 32)}
	cloned := newKey(t)
	certificates(t, do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, &used, typeRequest, csr(t, cloned)))
	for _, tc := range []struct {
		name        string
		voucher     *register.Voucher
		contentType string
		body        []byte
		status      int
		code        protocol.Code
	}{
		{"no voucher", nil, typeRequest, csr(t, newKey(t)), 401, protocol.IdentityVoucher},
		{"unknown voucher", &unknown, typeRequest, csr(t, newKey(t)), 401, protocol.IdentityVoucher},
		{"short secret", &register.Voucher{ID: fresh.ID, Secret: fresh.Secret[:31]}, typeRequest, csr(t, newKey(t)), 401, protocol.IdentityVoucher},
		{"used voucher", &used, typeRequest, csr(t, newKey(t)), 403, protocol.IdentityVoucherUsed},
		{"key seen before", &fresh, typeRequest, csr(t, cloned), 403, protocol.IdentityClone},
		{"RSA", &fresh, typeRequest, csr(t, rsaKey), 400, protocol.SignalMalformed},
		{"P-384", &fresh, typeRequest, csr(t, p384), 400, protocol.SignalMalformed},
		{"empty body", &fresh, typeRequest, nil, 400, protocol.SignalMalformed},
		{"not base64", &fresh, typeRequest, []byte("?!"), 400, protocol.SignalMalformed},
		{"not a request", &fresh, typeRequest, []byte("AAAA"), 400, protocol.SignalMalformed},
		{"another content type", &fresh, "application/json", csr(t, newKey(t)), 415, protocol.SignalMalformed},
		{"oversized", &fresh, typeRequest, bytes.Repeat([]byte("A"), 1<<20), 413, protocol.SignalMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, tc.voucher, tc.contentType, tc.body)
			if got.status != tc.status || got.code != tc.code {
				t.Errorf("status %d, code %s; want %d, %s", got.status, got.code, tc.status, tc.code)
			}
			f := protocol.Explain(tc.code)
			if want := strings.TrimSpace(f.Sentence+" "+f.Next) + "\n"; string(got.body) != want || got.header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("said %q, want %q", got.body, want)
			}
		})
	}
	for _, secret := range [][]byte{used.Secret, fresh.Secret} {
		if strings.Contains(c.log.String(), base64.RawURLEncoding.EncodeToString(secret)) {
			t.Error("a secret is in the log")
		}
	}
	// After all that the voucher is as good as before.
	certificates(t, do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, &fresh, typeRequest, csr(t, newKey(t))))
}

func TestPaths(t *testing.T) {
	c := start(t)
	for _, tc := range []struct{ method, path string }{
		{http.MethodGet, "/"}, {http.MethodPost, protocol.PathCACerts}, {http.MethodGet, protocol.PathEnroll}, {http.MethodGet, "/.well-known/est/serverkeygen"},
	} {
		if got := do(t, c.client(t, nil), tc.method, c.url+tc.path, nil, "", nil); got.status != 404 || got.code != protocol.SignalMalformed {
			t.Errorf("%s %s: status %d, code %s", tc.method, tc.path, got.status, got.code)
		}
	}
}

func TestRacers(t *testing.T) {
	c := start(t)
	v := c.voucher(t)
	var won, used atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		client, body := c.client(t, nil), csr(t, newKey(t))
		wg.Go(func() {
			a, err := try(client, http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, body)
			switch {
			case err != nil:
				t.Error(err)
			case a.status == 200:
				won.Add(1)
			case a.code == protocol.IdentityVoucherUsed:
				used.Add(1)
			default:
				t.Errorf("status %d, code %s", a.status, a.code)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || used.Load() != 49 {
		t.Errorf("%d won and %d were refused, want 1 and 49", won.Load(), used.Load())
	}
}

func TestReenrollRefused(t *testing.T) {
	c, other := start(t), start(t)
	key, chain := c.enrolled(t)
	otherKey, otherChain := other.enrolled(t)
	revokedKey, revokedChain := c.enrolled(t) // into the same home: the first is replaced by it
	if err := c.Register.Revoke(t.Context(), "Kari", mustHash(t, revokedKey), "stolen"); err != nil {
		t.Fatal(err)
	}
	clinicLeaf, err := c.Authority.Client().Certificate()
	if err != nil {
		t.Fatal(err)
	}
	current, currentChain := c.enrolled(t)
	for _, tc := range []struct {
		name   string
		client *http.Client
		body   []byte
		status int
		code   protocol.Code
	}{
		{"no certificate", c.client(t, nil), csr(t, current), 403, protocol.IdentityNone},
		{"another clinic's", c.client(t, otherKey, otherChain...), csr(t, otherKey), 403, protocol.IdentityOtherClinic},
		{"the clinic's own", c.client(t, clinicLeaf.PrivateKey.(crypto.Signer), clinicLeaf.Leaf), csr(t, current), 403, protocol.IdentityOtherClinic},
		{"revoked", c.client(t, revokedKey, revokedChain...), csr(t, revokedKey), 403, protocol.LinkRefused},
		{"replaced", c.client(t, key, chain...), csr(t, key), 403, protocol.LinkRefused},
		{"for another key", c.client(t, current, currentChain...), csr(t, newKey(t)), 400, protocol.SignalMalformed},
		{"malformed", c.client(t, current, currentChain...), []byte("AAAA"), 400, protocol.SignalMalformed},
		{"oversized", c.client(t, current, currentChain...), bytes.Repeat([]byte("A"), 1<<20), 413, protocol.SignalMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := do(t, tc.client, http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, tc.body); got.status != tc.status || got.code != tc.code {
				t.Errorf("renewal: status %d, code %s; want %d, %s", got.status, got.code, tc.status, tc.code)
			}
			if tc.status != 403 {
				return
			}
			if got := do(t, tc.client, http.MethodGet, c.url+protocol.PathSettings, nil, "", nil); got.status != tc.status || got.code != tc.code {
				t.Errorf("settings: status %d, code %s; want %d, %s", got.status, got.code, tc.status, tc.code)
			}
		})
	}
}

// TestExpired: a terminal that was off for too long renews, and does nothing else, with its old certificate. Time is what
// the handler thinks it is; a certificate made out in the past would be the same to it.
func TestExpired(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	c.now = func() time.Time { return chain[0].NotAfter.AddDate(1, 0, 0) }
	client := c.client(t, key, chain...)
	if got := do(t, client, http.MethodGet, c.url+protocol.PathSettings, nil, "", nil); got.status != 403 || got.code != protocol.IdentityExpired {
		t.Errorf("settings: status %d, code %s", got.status, got.code)
	}
	certificates(t, do(t, client, http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, csr(t, key)))
	if err := c.Register.Revoke(t.Context(), "Kari", mustHash(t, key), "stolen"); err != nil {
		t.Fatal(err)
	}
	if got := do(t, client, http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, csr(t, key)); got.status != 403 || got.code != protocol.LinkRefused {
		t.Errorf("revoked: status %d, code %s", got.status, got.code)
	}
}

func TestOldTLS(t *testing.T) {
	c := start(t)
	client := c.client(t, nil)
	config := client.Transport.(*http.Transport).TLSClientConfig
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err := client.Get(c.url + protocol.PathCACerts); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("error = %v", err)
	}
}

func TestStoreFails(t *testing.T) {
	c := start(t)
	_, chain := c.enrolled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, protocol.PathSettings, nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: chain}
	c.ServeHTTP(w, r)
	if w.Code != 503 || protocol.Code(w.Header().Get(protocol.FailureHeader)) != protocol.LinkClinicFailed || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	if strings.Contains(w.Body.String(), "context") {
		t.Errorf("the peer was told %q", w.Body)
	}
}

func FuzzParseBody(f *testing.F) {
	key := newKey(f)
	f.Add(csr(f, key))
	f.Add([]byte("AAAA\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := parseBody(body); err == nil && (r.Key == nil || protocol.HashSPKI(r.SPKI) != r.Hash) {
			t.Error("a request without a key was accepted")
		}
	})
}

// TestClock: anybody gets the time, signed for the nonce that was sent.
func TestClock(t *testing.T) {
	c := start(t)
	var trust protocol.Trust
	if a := do(t, c.client(t, nil), http.MethodGet, c.url+protocol.PathTrust, nil, "", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("before there is a trust: status %d", a.status)
	}
	if _, err := c.Authority.EnsureTrust(protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost"}}); err != nil {
		t.Fatal(err)
	}
	authority, err := protocol.ParseKey(c.Authority.Authorities()[0])
	if err != nil {
		t.Fatal(err)
	}
	if a := do(t, c.client(t, nil), http.MethodGet, c.url+protocol.PathTrust, nil, "", nil); protocol.Verify(a.body, authority, &trust) != nil {
		t.Fatalf("trust: status %d", a.status)
	}
	key, err := protocol.ParseKey(trust.Service[0])
	if err != nil {
		t.Fatal(err)
	}
	nonce := protocol.NewNonce()
	a := do(t, c.client(t, nil), http.MethodGet, c.url+protocol.PathClock+"?nonce="+hex.EncodeToString(nonce[:]), nil, "", nil)
	var clock protocol.Clock
	if err := protocol.Verify(a.body, key, &clock); err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d, %v", a.status, err)
	}
	if off := time.Since(clock.At.Time()); clock.Nonce != nonce || off < 0 || off > time.Minute || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %+v, %v", clock, a.header)
	}
	for _, query := range []string{"", "?nonce=", "?nonce=00", "?nonce=" + strings.Repeat("x", 32), "?nonce=" + strings.Repeat("0", 32), "?nonce=" + strings.Repeat("ab", 17)} {
		if a := do(t, c.client(t, nil), http.MethodGet, c.url+protocol.PathClock+query, nil, "", nil); a.status != http.StatusBadRequest || a.code != protocol.SignalMalformed {
			t.Errorf("%q: status %d, code %q", query, a.status, a.code)
		}
	}
}
