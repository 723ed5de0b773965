package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
)

func load(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "authority")
	if err := Create(dir, "Vestfold kommune"); err != nil {
		t.Fatal(err)
	}
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t *testing.T, der []byte) *Request {
	t.Helper()
	r, err := ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCreate(t *testing.T) {
	a, dir := load(t)
	if err := Create(dir, "Another"); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if len(entries) != 7 {
		t.Errorf("%d files, want 7", len(entries))
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	if n := len(a.Root().Raw); n > 2048 {
		t.Errorf("root has %d bytes: too many for a voucher", n)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".authority-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestLoad(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	if err := Create(other, "Another"); err != nil {
		t.Fatal(err)
	}
	copyFrom := func(name string) func(string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(other, name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
	}
	for name, tc := range map[string]struct {
		change func(dir string) error
		want   string // in the error; empty if it loads
	}{
		"whole":                 {func(string) error { return nil }, ""},
		"root key taken away":   {func(dir string) error { return os.Remove(RootKeyPath(dir)) }, ""},
		"issuing key missing":   {func(dir string) error { return os.Remove(filepath.Join(dir, fileIssuingKey)) }, "restore"},
		"others may read a key": {func(dir string) error { return os.Chmod(filepath.Join(dir, fileSigningKey), 0o640) }, "chmod 600"},
		"key damaged": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, fileSigningKey), []byte("gone"), 0o600)
		}, "damaged"},
		"log key damaged": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, fileLogKey), []byte("gone"), 0o600)
		}, "damaged"},
		"key of another":         {copyFrom(fileIssuingKey), "is not the key of"},
		"root of another":        {copyFrom(fileRoot), "was not issued by"},
		"certificate of another": {copyFrom(fileIssuing), "was not issued by"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "authority")
			if err := Create(dir, "Vestfold kommune"); err != nil {
				t.Fatal(err)
			}
			if err := tc.change(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "init") {
		t.Errorf("no folder: %v", err)
	}
}

// TestIssueTerminal asks for much and gets what the clinic gives.
func TestIssueTerminal(t *testing.T) {
	a, _ := load(t)
	key := newKey(t, elliptic.P256())
	r := parse(t, request(t, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "clinic", Organization: []string{"Somebody else"}},
		DNSNames:    []string{"terminals.vindu.invalid"},
		IPAddresses: []net.IP{{127, 0, 0, 1}},
		URIs:        []*url.URL{{Scheme: "urn", Opaque: "vindu:clinic"}},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}, // CA: true
		},
	}, key))
	c, err := a.IssueTerminal(r)
	if err != nil {
		t.Fatal(err)
	}
	name := r.Hash.Name()
	if c.Subject.String() != "CN="+name || len(c.URIs) != 1 || c.URIs[0].String() != "urn:vindu:terminal:"+name {
		t.Errorf("subject %s, URIs %v", c.Subject, c.URIs)
	}
	if c.IsCA || len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) > 0 || c.KeyUsage != x509.KeyUsageDigitalSignature ||
		len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("the certificate may do more than it should: %+v", c)
	}
	if life := c.NotAfter.Sub(c.NotBefore); life != TerminalLife+backdate {
		t.Errorf("life = %v", life)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if got, err := a.Terminal(c); err != nil || got != r.Hash {
		t.Errorf("terminal = %v, %v", got, err)
	}
	if IsClinic(c) {
		t.Error("a terminal passes for the clinic")
	}
	if before, ok := Before(c); ok {
		t.Errorf("it has replaced %v", before)
	}
	replacing := *r
	replacing.Before = protocol.KeyHash{7}
	c, err = a.IssueTerminal(&replacing)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Terminal(c); err != nil || got != r.Hash || IsClinic(c) {
		t.Errorf("one that has replaced another: terminal = %v, %v", got, err)
	}
	if before, ok := Before(c); !ok || before != replacing.Before {
		t.Errorf("it has replaced %v, %v", before, ok)
	}
	again, err := a.IssueTerminal(r)
	if err != nil || again.SerialNumber.Cmp(c.SerialNumber) == 0 {
		t.Errorf("serial number repeated: %v, %v", again.SerialNumber, err)
	}
}

func TestParseRequest(t *testing.T) {
	key := newKey(t, elliptic.P256())
	good := request(t, &x509.CertificateRequest{}, key)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, der := range map[string][]byte{
		"empty":             nil,
		"garbage":           []byte("certificate, please"),
		"trailing bytes":    append(bytes.Clone(good), 0),
		"too large":         make([]byte, MaxRequest+1),
		"forged":            forged,
		"RSA":               request(t, &x509.CertificateRequest{}, rsaKey),
		"P-384":             request(t, &x509.CertificateRequest{}, newKey(t, elliptic.P384())),
		"Ed25519":           request(t, &x509.CertificateRequest{}, edKey),
		"weak hash":         weak(t, key),
		"compressed point":  compressed(t, key),
		"another key's sig": swapped(t, good, newKey(t, elliptic.P256())),
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := ParseRequest(der); !errors.Is(err, ErrRequest) {
				t.Errorf("request = %+v, error = %v", r, err)
			}
		})
	}
	if r := parse(t, good); !r.Key.Equal(&key.PublicKey) {
		t.Error("another key came out")
	}
}

func weak(t *testing.T, key *ecdsa.PrivateKey) []byte {
	der := request(t, &x509.CertificateRequest{}, key)
	sha256, sha1 := []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1}
	// ecdsa-with-SHA1 is one byte shorter; a byte of padding inside the OID keeps the lengths.
	return bytes.Replace(der, sha256, append(sha1, 1), 1)
}

// compressed re-signs a request in which the key is written in the compressed form of SEC 1 §2.3.3.
func compressed(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	type info struct {
		Version    int
		Subject    asn1.RawValue
		Key        any
		Attributes asn1.RawValue `asn1:"tag:0"`
	}
	type spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	point := elliptic.MarshalCompressed(elliptic.P256(), key.X, key.Y)
	tbs, err := asn1.Marshal(info{
		Subject: asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true},
		Key: spki{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: curve}},
			asn1.BitString{Bytes: point, BitLength: 8 * len(point)}},
		Attributes: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, tbs, key)
}

func sign(t *testing.T, tbs []byte, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	h := crypto.SHA256.New()
	h.Write(tbs)
	signature, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func swapped(t *testing.T, good []byte, other *ecdsa.PrivateKey) []byte {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(good)
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, csr.RawTBSCertificateRequest, other)
}

func TestTerminal(t *testing.T) {
	a, _ := load(t)
	other, _ := load(t)
	issue := func(a *Authority, at time.Time) *x509.Certificate {
		now := a.now
		defer func() { a.now = now }()
		a.now = func() time.Time { return at }
		c, err := a.IssueTerminal(parse(t, request(t, &x509.CertificateRequest{}, newKey(t, elliptic.P256()))))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	clinic, err := a.Client().Certificate()
	if err != nil {
		t.Fatal(err)
	}
	server, err := a.Server("terminals.vindu.invalid").Certificate()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := parse(t, request(t, &x509.CertificateRequest{}, newKey(t, elliptic.P256())))
	named := func(more ...string) *x509.Certificate {
		t.Helper()
		template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		for _, name := range append([]string{uriTerminal + r.Hash.Name()}, more...) {
			template.URIs = append(template.URIs, &url.URL{Scheme: "urn", Opaque: strings.TrimPrefix(name, "urn:")})
		}
		c, err := a.issue(template, TerminalLife, r.Key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := uriBefore + protocol.KeyHash{7}.Name()
	for name, tc := range map[string]struct {
		c  *x509.Certificate
		ok bool
	}{
		"has replaced another":        {named(before), true},
		"has replaced two":            {named(before, before), false},
		"is the clinic's too":         {named(uriClinic), false},
		"has replaced what is no key": {named(uriBefore + "x"), false},
		"current":                     {issue(a, now), true},
		"a year old":                  {issue(a, now.AddDate(-1, 0, 0)), false}, // before the CA was: see below
		"not yet":                     {issue(a, now.Add(48*time.Hour)), false},
		"another clinic":              {issue(other, now), false},
		"clinic's client":             {clinic.Leaf, false},
		"server":                      {server.Leaf, false},
		"CA":                          {a.Issuing(), false},
		"root":                        {a.Root(), false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, when := range []string{"for the first time", "again"} {
				hash, err := a.Terminal(tc.c)
				if tc.ok && err != nil || !tc.ok && !errors.Is(err, ErrCertificate) {
					t.Errorf("%s: error = %v", when, err)
				}
				if ok := hash == protocol.HashSPKI(tc.c.RawSubjectPublicKeyInfo); ok != tc.ok {
					t.Errorf("%s: is it the terminal's: %v", when, ok)
				}
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		c := issue(a, now)
		for _, at := range []time.Time{now, now.AddDate(1, 0, 0)} {
			a.now = func() time.Time { return at }
			if _, err := a.Terminal(c); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("known, and the clock goes back", func(t *testing.T) {
		c := issue(a, now)
		for at, ok := range map[time.Time]bool{now: true, c.NotBefore.Add(-time.Minute): false, c.NotBefore: true} {
			a.now = func() time.Time { return at }
			if _, err := a.Terminal(c); ok != (err == nil) {
				t.Errorf("at %v: %v", at, err)
			}
		}
	})
	t.Run("another signature under a known one's words", func(t *testing.T) {
		a.now = func() time.Time { return now }
		good := issue(a, now)
		if _, err := a.Terminal(good); err != nil {
			t.Fatal(err)
		}
		raw := bytes.Clone(good.Raw)
		raw[len(raw)-1] ^= 1
		forged, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Terminal(forged); !errors.Is(err, ErrCertificate) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("no more is remembered than is bounded", func(t *testing.T) {
		var v verified
		for n := range uint32(mostVerified + 100) {
			v.put(sha256.Sum256(binary.BigEndian.AppendUint32(nil, n)), verdict{})
		}
		if _, ok := v.get(sha256.Sum256(binary.BigEndian.AppendUint32(nil, mostVerified+99))); len(v.good) != mostVerified || !ok {
			t.Errorf("%d are remembered, the last: %v", len(v.good), ok)
		}
	})
}

func TestSign(t *testing.T) {
	a, dir := load(t)
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(again.Service())
	if err != nil {
		t.Fatal(err)
	}
	now := protocol.At(time.Now())
	invitation := &protocol.Invitation{
		Version: 1, Call: protocol.NewCallID(), Terminal: protocol.KeyHash{1}, Caller: protocol.Fingerprint{1}, Offer: protocol.Hash{1},
		Parties: []protocol.Party{{Name: "Anne Berg", Role: "nurse", Organisation: "Vestfold kommune"}},
		Issued:  now, Expires: now + 1000, Nonce: protocol.NewNonce(),
	}
	signed, err := a.SignTestCall(invitation)
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Verify(signed, key.(*ecdsa.PublicKey), new(protocol.Invitation)); err != nil {
		t.Error(err)
	}
	end := &protocol.End{Version: 1, Call: invitation.Call, Terminal: invitation.Terminal, Invitation: protocol.HashOf(signed), By: protocol.SideClinic, Reason: protocol.EndCallerHungUp, At: now}
	if signed, err = a.SignEnd(end); err != nil {
		t.Fatal(err)
	}
	if err := protocol.Verify(signed, key.(*ecdsa.PublicKey), new(protocol.End)); err != nil {
		t.Error(err)
	}
	for _, side := range []protocol.Side{protocol.SideTerminal, protocol.SideCaller} {
		end.By = side
		if _, err := a.SignEnd(end); err == nil {
			t.Errorf("signed in the name of the %s", side)
		}
	}
	if got := fmt.Sprintf("%v %s", a.LogKey(), a.LogKey()); strings.Contains(got, string(a.LogKey())) {
		t.Error("the log's key prints itself")
	}
}

func TestTLS(t *testing.T) {
	a, _ := load(t)
	server, client := a.Server("terminals.vindu.invalid"), a.Client()
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	result := make(chan error, 1)
	s := tls.Server(left, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: server.GetCertificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()})
	go func() { result <- s.HandshakeContext(t.Context()) }()
	roots := x509.NewCertPool()
	roots.AddCert(a.Root())
	c := tls.Client(right, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "terminals.vindu.invalid", RootCAs: roots, GetClientCertificate: client.GetClientCertificate})
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if !IsClinic(s.ConnectionState().PeerCertificates[0]) {
		t.Error("the clinic's client is not recognised")
	}
}

func TestLeafRenews(t *testing.T) {
	a, _ := load(t)
	now := time.Now()
	a.now = func() time.Time { return now }
	leaf := a.Server("terminals.vindu.invalid")
	serial := func() string {
		c, err := leaf.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial()
	now = now.Add(serverLife * 6 / 10)
	if serial() != first {
		t.Error("renewed too early")
	}
	now = now.Add(serverLife / 10)
	if serial() == first {
		t.Error("not renewed")
	}
}

// To its last day the issuing CA issues; what it issues ends with it.
func TestLastDays(t *testing.T) {
	a, _ := load(t)
	r := parse(t, request(t, new(x509.CertificateRequest), newKey(t, elliptic.P256())))
	end := a.Expires()
	for left, want := range map[time.Duration]bool{TerminalLife / 2: true, 24 * time.Hour: true, shortest: true, shortest - time.Second: false, -time.Second: false} {
		a.now = func() time.Time { return end.Add(-left) }
		c, err := a.IssueTerminal(r)
		if (err == nil) != want || (err != nil && !strings.Contains(err.Error(), "issuing CA ends")) {
			t.Errorf("%v before the end: %v", left, err)
		}
		if err == nil && !c.NotAfter.Equal(end) {
			t.Errorf("%v before the end: good until %v, the CA until %v", left, c.NotAfter, end)
		}
	}
	// The clinic's own goes on to the very end, and is not made anew for every connection.
	a.now = func() time.Time { return end.Add(-time.Hour) }
	leaf := a.Server("x")
	first, err := leaf.Certificate()
	if err != nil || !first.Leaf.NotAfter.Equal(end) {
		t.Fatalf("the clinic's own: %v", err)
	}
	a.now = func() time.Time { return end.Add(-time.Second) }
	if again, err := leaf.Certificate(); err != nil || again != first {
		t.Errorf("made anew: %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request(f, &x509.CertificateRequest{}, key))
	f.Add(request(f, &x509.CertificateRequest{DNSNames: []string{"a"}}, key))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseRequest(der)
		if err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if h, err := protocol.HashKey(r.Key); err != nil || h != r.Hash {
			t.Errorf("key and hash differ: %v", err)
		}
	})
}
