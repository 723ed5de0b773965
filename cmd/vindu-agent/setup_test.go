package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vindu/device/agent"
	"vindu/device/identity"
	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

// pty returns the path of a pseudo-terminal, which stands for the terminal's serial port, and the laptop's end of it.
func pty(t *testing.T) (path string, laptop *os.File) {
	t.Helper()
	laptop, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { laptop.Close() })
	c, err := laptop.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Control(func(fd uintptr) {
		if err := unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			t.Error(err)
		}
		n, err := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		if err != nil {
			t.Error(err)
		}
		path = "/dev/pts/" + strconv.Itoa(n)
	}); err != nil {
		t.Fatal(err)
	}
	return path, laptop
}

// TestSetUpOverACable sets the agent that ships up over a pseudo-terminal: from the factory by a certificate that came through the
// laptop, and then again, with a press of the button, for another home.
func TestSetUpOverACable(t *testing.T) {
	path, port := pty(t)
	dir := t.TempDir()
	button := filepath.Join(dir, "button")
	if err := unix.Mkfifo(button, 0o600); err != nil {
		t.Fatal(err)
	}
	thumb, err := os.OpenFile(button, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer thumb.Close()
	cfg := agent.Default()
	cfg.Call.Notice = 0
	cfg.State, cfg.Identity.TPM, cfg.Devices.Display, cfg.Devices.Camera = filepath.Join(dir, "state"), "none", "memory", "none"
	cfg.Devices.Microphone, cfg.Devices.Speaker, cfg.Serial.Port, cfg.Devices.Button = "none", "none", path, button
	cfg.Network.WiFi = "none"
	var logged syncBuffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx, cfg, "", log); err != nil {
			t.Error(err)
		}
	})
	clinic, own := sessiontest.Key(), sessiontest.Key()
	// The terminal has proven no time: by the system's clock, which may be ahead, the mandate is over.
	who := session.Technician{Key: own, Mandate: sessiontest.Mandate(clinic, own, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)), Now: time.Now}
	laptop := session.NewClient(port, who, slog.New(slog.DiscardHandler))
	running.Go(func() {
		if err := laptop.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer stop()

	install := func(home string) (*session.Info, error) {
		csr, err := laptop.CSR(ctx)
		if err != nil {
			return nil, err
		}
		g, err := grant(clinic, csr, home)
		if err != nil {
			return nil, err
		}
		if err := laptop.Install(ctx, g); err != nil {
			return nil, err
		}
		return laptop.Info(ctx)
	}
	var g *session.Greeting
	for range 10 { // while the agent starts it does not know who it is
		if g, err = laptop.Greet(ctx); err == nil {
			break
		}
	}
	if err != nil || g.State != session.Factory || g.KeyGrade != "file" || g.Software != software() {
		t.Fatalf("greeting %+v, %v", g, err)
	}
	if err := laptop.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := laptop.SetLanguage(ctx, "nn"); err != nil {
		t.Error(err)
	}
	if err := laptop.SetNetwork(ctx, &session.Network{Kind: session.Ethernet}); err != nil {
		t.Error(err)
	}
	if err := laptop.SetNetwork(ctx, &session.Network{Kind: session.WiFi, SSID: "x", Security: session.Unsecured}); protocol.CodeOf(err) != protocol.IPNoWiFi {
		t.Errorf("Wi-Fi that is not there: %v", err)
	}
	i, err := install("Home 17")
	if err != nil || i.State != session.SetUp || i.Home != "Home 17" || i.Language != "nn" || i.Authorised {
		t.Fatalf("after the first time: %+v, %v", i, err)
	}

	// Now it is set up, nothing goes without the button.
	if err := laptop.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.CSR(ctx); protocol.CodeOf(err) != protocol.AuthButton {
		t.Errorf("without a press: %v", err)
	}
	press := bytes.Repeat([]byte{0}, 24)
	press[16], press[18], press[20] = 1, 57, 1 // EV_KEY, KEY_SPACE, pressed; the time before it is of no interest
	if err := laptop.Authorise(ctx, func() {
		if _, err := thumb.Write(press[24-inputEvent:]); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if i, err = install("Home 18"); err != nil || i.Home != "Home 18" || !i.Authorised {
		t.Fatalf("after the move: %+v, %v", i, err)
	}

	// It is given up, and then greets as from the factory with another key.
	greet := func(want session.State) *session.Greeting {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if g, err := laptop.Greet(ctx); err == nil && g.State == want {
				return g
			}
		}
		t.Fatalf("it does not greet as %s\n%s", want, logged.String())
		return nil
	}
	if err := laptop.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if again := greet(session.Factory); bytes.Equal(again.Public, g.Public) {
		t.Error("the key is the same")
	}

	// Set up anew by a clinic that has withdrawn this laptop's authorisation, it knows that at once.
	if err := laptop.Open(ctx); err != nil {
		t.Fatal(err)
	}
	csr, err := laptop.CSR(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last, err := grant(clinic, csr, "Home 19")
	if err != nil {
		t.Fatal(err)
	}
	mandate, settings := new(protocol.Mandate), new(protocol.Settings)
	if err := errors.Join(protocol.Verify(who.Mandate, &clinic.PublicKey, mandate), protocol.Decode(last.Settings, settings)); err != nil {
		t.Fatal(err)
	}
	settings.Withdrawn = []protocol.Nonce{protocol.NewNonce(), mandate.ID}
	if last.Settings, err = protocol.Encode(settings); err != nil {
		t.Fatal(err)
	}
	if err := laptop.Install(ctx, last); err != nil {
		t.Fatal(err)
	}
	greet(session.SetUp)
	if _, err := laptop.CSR(ctx); protocol.CodeOf(err) != protocol.AuthWithdrawn {
		t.Errorf("by an authorisation that was withdrawn, in the same session: %v", err)
	}
	if err := laptop.Open(ctx); protocol.CodeOf(err) != protocol.AuthWithdrawn {
		t.Errorf("by an authorisation that was withdrawn, in another session: %v", err)
	}
}

const inputEvent = 8 + 2*strconv.IntSize/8

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// grant is what a clinic would give for csr; its authorisation key signs everything here.
func grant(clinic *ecdsa.PrivateKey, csr *x509.CertificateRequest, home string) (*session.Grant, error) {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, clinic.Public(), clinic)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	chain, err := x509.CreateCertificate(rand.Reader, leaf, ca, csr.PublicKey, clinic)
	if err != nil {
		return nil, err
	}
	settings, err := protocol.Encode(&protocol.Settings{
		Version: 1, Organisation: "Nordbyen clinic", Home: home, Authorities: [][]byte{sessiontest.Public(clinic)}, At: protocol.At(time.Now()),
	})
	return &session.Grant{Address: "127.0.0.1:1", ServerName: "terminals.clinic.example", Chain: [][]byte{chain}, Root: root, Settings: settings}, err
}

// A voucher is of the terminal's clinic also if one of the two is older than a change of the clinic's root.
func TestSameClinic(t *testing.T) {
	g := &identity.Grant{Root: &x509.Certificate{Raw: []byte("root")}, Settings: &protocol.Settings{Authorities: [][]byte{[]byte("key"), []byte("next")}}}
	for name, tc := range map[string]struct {
		voucher protocol.Voucher
		want    bool
	}{
		"same root":               {protocol.Voucher{Root: []byte("root"), Authority: []byte("other")}, true},
		"another root, same key":  {protocol.Voucher{Root: []byte("new"), Authority: []byte("next")}, true},
		"another clinic":          {protocol.Voucher{Root: []byte("new"), Authority: []byte("other")}, false},
		"another root and no key": {protocol.Voucher{Root: []byte("new")}, false},
	} {
		if got := sameClinic(g, &tc.voucher); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
