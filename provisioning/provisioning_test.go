package provisioning

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opaque is a key of which only signatures are seen, as in a TPM.
type opaque struct{ crypto.Signer }

func terminal(t *testing.T) *Client {
	return &Client{Signer: opaque{key(t)}, Now: time.Now}
}

func TestEnrolAndRenew(t *testing.T) {
	c, device := newClinic(t, time.Hour), terminal(t)
	g, err := device.Enrol(t.Context(), &c.voucher)
	if err != nil {
		t.Fatal(err)
	}
	name, err := protocol.HashKey(device.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Chain) != 2 || g.Chain[0].Subject.CommonName != name.Name() || !g.Chain[1].Equal(c.issuing) || !g.Root.Equal(c.root) ||
		g.Address != c.voucher.Address || g.ServerName != serverName || g.Settings.Home != "Home 17" {
		t.Errorf("got %+v", g)
	}
	chain, err := device.Renew(t.Context(), g)
	if err != nil || len(chain) != 2 || chain[0].Equal(g.Chain[0]) {
		t.Errorf("renewed %v, %v", chain, err)
	}
	settings, took, err := device.Settings(t.Context(), g)
	if err != nil || settings.Organisation != "Nordbyen clinic" || took <= 0 {
		t.Errorf("settings %v, %v, %v", settings, took, err)
	}
	want := []string{"GET /.well-known/est/cacerts", "POST /.well-known/est/simpleenroll", "GET /vindu/v1/settings",
		"POST /.well-known/est/simplereenroll", "GET /vindu/v1/settings"}
	if !slices.Equal(c.requests, want) {
		t.Errorf("requests %v", c.requests)
	}
}

func TestExpiredCertificateRenews(t *testing.T) {
	c, device := newClinic(t, time.Hour), terminal(t)
	g, err := device.Enrol(t.Context(), &c.voucher)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.life = -time.Minute
	g.Chain[0] = c.issue(device.Signer.Public(), g.Chain[0].Subject.CommonName)
	c.mu.Unlock()
	if !time.Now().After(g.Chain[0].NotAfter) {
		t.Fatal("the certificate has not expired")
	}
	chain, err := device.Renew(t.Context(), g)
	if err != nil || time.Now().After(chain[0].NotAfter) {
		t.Errorf("got %v, %v", chain, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*clinic, *Client)
		want   protocol.Code
	}{
		{"voucher wrong", func(c *clinic, _ *Client) { c.voucher.Secret = make([]byte, 32); c.before = wrongVoucher }, protocol.IdentityVoucher},
		{"voucher expired", func(c *clinic, _ *Client) { c.voucher.Expires = 1 }, protocol.IdentityVoucherOld},
		{"voucher used", func(c *clinic, _ *Client) { c.used = protocol.KeyHash{1} }, protocol.IdentityVoucherUsed},
		{"key seen before", answer(protocol.PathEnroll, func(w http.ResponseWriter) { refuse(w, 403, protocol.IdentityClone) }), protocol.IdentityClone},
		{"another clinic's server", func(c *clinic, _ *Client) { c.voucher.Root = newClinic(c.t, time.Hour).root.Raw }, protocol.IdentityPin},
		{"another name", func(c *clinic, _ *Client) { c.voucher.ServerName = "other.example" }, protocol.IdentityPin},
		{"damaged root in the voucher", func(c *clinic, _ *Client) { c.voucher.Root = []byte("x") }, protocol.IdentityVoucher},
		{"root not among the authorities", answerCerts(protocol.PathCACerts, func(c *clinic) []*x509.Certificate { return []*x509.Certificate{c.issuing} }), protocol.IdentityPin},
		{"clock in the past", func(_ *clinic, d *Client) { d.Now = func() time.Time { return time.Unix(0, 0) } }, protocol.TimeOff},
		{"clock in the future", func(_ *clinic, d *Client) { d.Now = func() time.Time { return time.Now().AddDate(50, 0, 0) } }, protocol.TimeOff},
		{"nobody there", func(_ *clinic, d *Client) {
			d.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		}, protocol.LinkUnreachable},
		{"not TLS", func(c *clinic, _ *Client) { c.voucher.Address = plainServer(c.t) }, protocol.LinkUnreachable},
		{"server in trouble", answer(protocol.PathEnroll, func(w http.ResponseWriter) { http.Error(w, "", 503) }), protocol.LinkUnreachable},
		{"refused without a reason", answer(protocol.PathEnroll, func(w http.ResponseWriter) { http.Error(w, "", 403) }), protocol.LinkRefused},
		{"refused for a reason from the future", answer(protocol.PathEnroll, func(w http.ResponseWriter) { refuse(w, 403, "identity.wrong_moon") }), protocol.Unknown},
		{"refused for a reason that is none", answer(protocol.PathEnroll, func(w http.ResponseWriter) { refuse(w, 403, "<script>") }), protocol.Unknown},
		{"redirection", answer(protocol.PathEnroll, func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://"+serverName+protocol.PathCACerts)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}), protocol.LinkUnreachable},
		{"malformed certificates", answer(protocol.PathEnroll, func(w http.ResponseWriter) { fmt.Fprint(w, "AAAA") }), protocol.SignalMalformed},
		{"endless answer", answer(protocol.PathCACerts, func(w http.ResponseWriter) {
			for range 1000 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}), protocol.SignalMalformed},
		{"endless header", answer(protocol.PathCACerts, func(w http.ResponseWriter) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}), protocol.LinkUnreachable},
		{"certificate for another key", answerCerts(protocol.PathEnroll, func(c *clinic) []*x509.Certificate {
			return []*x509.Certificate{c.issue(key(c.t).Public(), "x"), c.issuing}
		}), protocol.IdentityOtherClinic},
		{"certificate of another clinic", func(c *clinic, d *Client) {
			other := newClinic(c.t, time.Hour)
			answerCerts(protocol.PathEnroll, func(*clinic) []*x509.Certificate {
				return []*x509.Certificate{other.issue(d.Signer.Public(), "x"), other.issuing, other.root}
			})(c, d)
		}, protocol.IdentityOtherClinic},
		{"certificate that has expired", func(c *clinic, _ *Client) { c.life = -time.Minute }, protocol.TimeOff},
		{"malformed settings", answer(protocol.PathSettings, func(w http.ResponseWriter) { fmt.Fprint(w, "x") }), protocol.SignalMalformed},
		{"settings with no key", answer(protocol.PathSettings, func(w http.ResponseWriter) {
			b, _ := protocol.Encode(&protocol.Settings{Version: 1, Organisation: "x", Home: "y", Authorities: [][]byte{{1}}, At: 1})
			_, _ = w.Write(b)
		}), protocol.SignalMalformed},
		{"settings refused", answer(protocol.PathSettings, func(w http.ResponseWriter) { refuse(w, 403, protocol.LinkRefused) }), protocol.LinkRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			clinic, device := newClinic(t, time.Hour), terminal(t)
			c.change(clinic, device)
			g, err := device.Enrol(t.Context(), &clinic.voucher)
			if g != nil || protocol.CodeOf(err) != c.want {
				t.Fatalf("got %v with code %q, want %q", err, protocol.CodeOf(err), c.want)
			}
			for _, secret := range []string{hex.EncodeToString(clinic.voucher.Secret), base64.RawURLEncoding.EncodeToString(clinic.voucher.Secret)} {
				if strings.Contains(err.Error(), secret) {
					t.Error("the error tells the voucher's secret")
				}
			}
		})
	}
}

// wrongVoucher makes the clinic's voucher another than the terminal's.
func wrongVoucher(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != protocol.PathEnroll {
		return false
	}
	if _, _, ok := r.BasicAuth(); !ok {
		http.Error(w, "no credentials", http.StatusBadRequest)
		return true
	}
	refuse(w, http.StatusUnauthorized, protocol.IdentityVoucher)
	return true
}

// answer makes the clinic answer one path in its own way.
func answer(path string, with func(http.ResponseWriter)) func(*clinic, *Client) {
	return func(c *clinic, _ *Client) {
		c.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			with(w)
			return true
		}
	}
}

func answerCerts(path string, certs func(*clinic) []*x509.Certificate) func(*clinic, *Client) {
	return func(c *clinic, d *Client) {
		answer(path, func(w http.ResponseWriter) { c.certs(w, certs(c)...) })(c, d)
	}
}

// plainServer is one that speaks something else.
func plainServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 mail.example ESMTP\r\n")
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// TestCutOff breaks the connection at each request, before and after the clinic did its part: running it again with the
// same key and voucher succeeds, even after the voucher's time.
func TestCutOff(t *testing.T) {
	for _, path := range []string{protocol.PathCACerts, protocol.PathEnroll, protocol.PathSettings} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", path, late), func(t *testing.T) {
				c, device := newClinic(t, time.Hour), terminal(t)
				c.before = func(_ http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != path {
						return false
					}
					if late && path == protocol.PathEnroll {
						c.enrol(nowhere{}, r)
					}
					panic(http.ErrAbortHandler)
				}
				if _, err := device.Enrol(t.Context(), &c.voucher); protocol.CodeOf(err) != protocol.LinkUnreachable {
					t.Fatalf("cut off: %v", err)
				}
				c.mu.Lock()
				c.before = nil
				if c.used != (protocol.KeyHash{}) {
					c.voucher.Expires = 1
				}
				c.mu.Unlock()
				if _, err := device.Enrol(t.Context(), &c.voucher); err != nil {
					t.Errorf("again: %v", err)
				}
				if other := terminal(t); true {
					if _, err := other.Enrol(t.Context(), &c.voucher); protocol.CodeOf(err) != protocol.IdentityVoucherUsed {
						t.Errorf("the voucher let a second terminal in: %v", err)
					}
				}
			})
		}
	}
}

// nowhere is where an answer goes that gets lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

func TestCancelled(t *testing.T) {
	c, device := newClinic(t, time.Hour), terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.before = func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done() // the terminal gives up
		return true
	}
	if _, err := device.Enrol(ctx, &c.voucher); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRevokedCannotRenew(t *testing.T) {
	c, device := newClinic(t, time.Hour), terminal(t)
	g, err := device.Enrol(t.Context(), &c.voucher)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	answer(protocol.PathReenroll, func(w http.ResponseWriter) { refuse(w, 403, protocol.LinkRefused) })(c, device)
	c.mu.Unlock()
	if _, err := device.Renew(t.Context(), g); protocol.CodeOf(err) != protocol.LinkRefused {
		t.Errorf("got %v", err)
	}
}

// A server that takes the connection and then says nothing, at whatever stage, is given up, and nothing is left of it.
func TestSilentServer(t *testing.T) {
	root := newClinic(t, time.Hour).root
	for _, c := range []struct {
		name string
		dial func(context.Context) (net.Conn, error)
	}{
		{"before TCP", func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{"before TLS", func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			return near, nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // it fails if a goroutine stays
				device := terminal(t)
				device.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }
				began := time.Now()
				_, err := device.Enrol(t.Context(), &protocol.Voucher{Secret: make([]byte, 32), Address: "192.0.2.1:443", ServerName: serverName, Root: root.Raw})
				if protocol.CodeOf(err) != protocol.LinkUnreachable || time.Since(began) != Timeout {
					t.Errorf("got %v after %v", err, time.Since(began))
				}
			})
		})
	}
}
