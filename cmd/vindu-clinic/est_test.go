package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vindu/protocol"
)

// TestESTCommands runs the commands of docs/est.md as they stand there: an independent client enrols and renews.
func TestESTCommands(t *testing.T) {
	text, err := os.ReadFile("../../docs/est.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 4 {
		t.Fatalf("docs/est.md has %d blocks of commands", len(blocks))
	}
	// Those about another key need an order for one.
	script, replace := "set -eu\n", "set -eu\n"
	for _, b := range blocks {
		if bytes.Contains(b[1], []byte("next-key.pem")) {
			replace += string(b[1])
		} else {
			script += string(b[1])
		}
	}
	s := start(t, newClinic(t))
	work := t.TempDir()
	environment := append(os.Environ(), "CLINIC="+s.front(), "NAME="+s.ready["terminals_name"].(string),
		"ROOT="+filepath.Join(s.dir, folderAuthority, "root.pem"), "VOUCHER="+strings.TrimSpace(must(t, "voucher", "-dir", s.dir, "-home", "Home 17")))
	bash := func(script string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", script)
		command.Dir, command.Env = work, environment
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	bash(script)
	s.orderKeys(t)
	bash(replace)
	bash("! curl -K clinic.curl --cert renewed.pem --key key.pem \"https://$NAME/vindu/v1/settings\"")

	enrolled, renewed := firstCertificate(t, filepath.Join(work, "terminal.pem")), firstCertificate(t, filepath.Join(work, "renewed.pem"))
	hash := protocol.HashSPKI(enrolled.RawSubjectPublicKeyInfo)
	if enrolled.Subject.CommonName != hash.Name() || !bytes.Equal(enrolled.RawSubjectPublicKeyInfo, renewed.RawSubjectPublicKeyInfo) || enrolled.Equal(renewed) {
		t.Errorf("enrolled %q, renewed %q with serial %v after %v", enrolled.Subject, renewed.Subject, renewed.SerialNumber, enrolled.SerialNumber)
	}
	if next := firstCertificate(t, filepath.Join(work, "next.pem")); next.Subject.CommonName != protocol.HashSPKI(next.RawSubjectPublicKeyInfo).Name() || next.Subject.CommonName == hash.Name() {
		t.Errorf("after the change of key %q", next.Subject)
	}
	signed, err := os.ReadFile(filepath.Join(work, "clock.cose"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", s.dir, "-home", "Home 18"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(v.Authority)
	if err != nil {
		t.Fatal(err)
	}
	signedTrust, err := os.ReadFile(filepath.Join(work, "trust.cose"))
	if err != nil {
		t.Fatal(err)
	}
	var trust protocol.Trust
	if err := protocol.Verify(signedTrust, key.(*ecdsa.PublicKey), &trust); err != nil {
		t.Fatal(err)
	}
	service, err := protocol.ParseKey(trust.Service[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Verify(signed, service, new(protocol.Clock)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"key.pem", "voucher.curl", "voucher.cbor"} {
		if info, err := os.Stat(filepath.Join(work, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func firstCertificate(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no certificate", file)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
