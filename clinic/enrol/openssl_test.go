package enrol

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vindu/protocol"
)

// TestOpenSSL: others read what we write (Debian's openssl).
func TestOpenSSL(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	openssl := func(stdin []byte, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	openssl(nil, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
	openssl(nil, "req", "-new", "-key", "key.pem", "-subj", "/CN=ignored", "-outform", "DER", "-out", "request.der")
	der, err := os.ReadFile(filepath.Join(dir, "request.der"))
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(openssl(der, "base64")) // with line breaks
	v := c.voucher(t)
	answers := map[string]answer{
		"leaf.pem": do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, body),
		"ca.pem":   do(t, c.client(t, nil), http.MethodGet, c.url+protocol.PathCACerts, nil, "", nil),
	}
	for file, a := range answers {
		openssl(a.body, "base64", "-d", "-A", "-out", "p7.der")
		openssl(nil, "pkcs7", "-inform", "DER", "-in", "p7.der", "-print_certs", "-out", file)
	}
	if got := openssl(nil, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem", "leaf.pem"); strings.TrimSpace(got) != "leaf.pem: OK" {
		t.Errorf("verify: %s", got)
	}
	text := openssl(nil, "x509", "-in", "leaf.pem", "-noout", "-text")
	for _, want := range []string{"URI:urn:vindu:terminal:", "TLS Web Client Authentication", "ASN1 OID: prime256v1", "CA:FALSE"} {
		if !strings.Contains(text, want) {
			t.Errorf("the certificate does not say %q:\n%s", want, text)
		}
	}
}
