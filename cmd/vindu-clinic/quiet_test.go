package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/audit"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/provisioning"
)

// come connects as a terminal with one of its certificates, says nothing, and goes.
func come(t *testing.T, front string, client *provisioning.Client, grant *provisioning.Grant, chain []*x509.Certificate) {
	t.Helper()
	key, err := protocol.HashKey(client.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(grant.Root)
	own := tls.Certificate{PrivateKey: client.Signer}
	for _, c := range chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tls://" + front).SetClientID(key.Name()).SetAutoReconnect(false).SetConnectTimeout(20 * time.Second).SetTLSConfig(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: grant.ServerName, Certificates: []tls.Certificate{own}, NextProtos: []string{protocol.ALPNMQTT},
	}))
	if token := c.Connect(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	c.Disconnect(100)
}

// alarmed waits for an alarm and returns all.
func alarmed(t *testing.T, c *clinic) []register.Alarm {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(time.Minute); ; {
		alarms, err := c.register.Alarms(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(alarms) > 0 {
			return alarms
		}
		select {
		case <-poll.C:
		case <-late:
			t.Fatal("no alarm in a minute")
		}
	}
}

// TestQuietCopy: two hold a terminal's key. Neither ever publishes a word, and they are never there together, but each has renewed its certificate. The
// clinic notices.
func TestQuietCopy(t *testing.T) {
	s := start(t, newClinic(t))
	client, grant := letIn(t, s.dir, s.front())
	c := beside(t, s.dir)
	renewed := func() []*x509.Certificate {
		t.Helper()
		chain, err := client.Renew(t.Context(), grant)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	come(t, s.front(), client, grant, grant.Chain)
	original, copied := renewed(), renewed()
	come(t, s.front(), client, grant, original)
	come(t, s.front(), client, grant, copied)
	if alarms, err := c.register.Alarms(t.Context(), 0); err != nil || len(alarms) != 0 {
		t.Fatalf("alarms %+v, %v", alarms, err) // so far it might be a terminal that did not get its first reply
	}
	for range 2 { // the first time it might have been on its way
		come(t, s.front(), client, grant, original)
		come(t, s.front(), client, grant, copied)
	}
	alarms := alarmed(t, c)
	if len(alarms) != 1 || alarms[0].Code != protocol.IdentityTwice || alarms[0].HomeLabel != "Home 17, Storgata" || !strings.Contains(alarms[0].Detail, original[0].SerialNumber.Text(16)) {
		t.Errorf("alarms %+v", alarms)
	}
	// By the older certificate the copy does not move the terminal to another home.
	v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", s.dir, "-home", "Home 18, Kirkeveien"))
	if err != nil {
		t.Fatal(err)
	}
	v.Address = s.front()
	client.Chain = original
	if _, err := client.Enrol(t.Context(), v); protocol.CodeOf(err) != protocol.IdentityClone {
		t.Errorf("moved by an older certificate: %v", err)
	}
}

// TestForgedOrder: somebody who has the broker, but not the clinic's authorisation key, orders a terminal to destroy itself. It refuses, and the operator
// hears of it.
func TestForgedOrder(t *testing.T) {
	s := start(t, newClinic(t))
	folder, id := setUp(t, s, "Home 17")
	cancel, done, see := runTerminal(t, folder)
	see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready && !s.Offline })
	c := beside(t, s.dir)

	thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	order, err := protocol.Sign(&protocol.Decommission{
		Version: protocol.Version, Terminal: id.Key(), Nonce: protocol.NewNonce(), Issued: protocol.At(time.Now()), Expires: protocol.At(time.Now().Add(time.Hour)),
	}, thief)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	own, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "thief.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	foreign, err := fleet.New(t.Context(), fleet.Config{
		Address: func() string { return s.front() }, ServerName: c.config.Terminals.Name, Roots: c.authority.Pool(),
		Certificate: c.authority.Client().Certificate, Store: own, Audit: c.audit, SignAck: c.authority.SignAck,
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	connected, disconnect := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- foreign.Run(connected) }()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for err := fleet.ErrDown; errors.Is(err, fleet.ErrDown); {
		<-poll.C
		if err = foreign.Order(t.Context(), id.Key(), order); err != nil && !errors.Is(err, fleet.ErrDown) {
			t.Fatal(err)
		}
	}

	alarms := alarmed(t, c)
	if len(alarms) != 1 || alarms[0].Code != protocol.AuthOrder || alarms[0].Terminal != id.Key() || alarms[0].HomeLabel != "Home 17" {
		t.Errorf("alarms %+v", alarms)
	}
	entries, err := c.audit.Entries(t.Context(), -1, 100)
	if err != nil {
		t.Fatal(err)
	}
	raised := 0
	for _, e := range entries {
		if e.What == audit.AlarmRaised && e.Subject == id.Key().Name() && e.Detail["code"] == string(protocol.AuthOrder) {
			raised++
		}
	}
	if raised != 1 {
		t.Errorf("%d in the audit log", raised)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	page := func(url string) string {
		t.Helper()
		response, err := browser.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		b, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	person, err := c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Ola Vik", Role: "operator", Organisation: "Fjordbyen kommune"}, register.Operator)
	if err != nil {
		t.Fatal(err)
	}
	link, err := c.sessions.Link(t.Context(), "test", person.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	page(s.ready["pages"].(string) + link)
	if text := page(s.ready["pages"].(string) + "/operator"); !strings.Contains(text, protocol.Explain(protocol.AuthOrder).Sentence) || !strings.Contains(text, id.Key().Code()) {
		t.Errorf("the operator's page: %s", text)
	}
	cancel()
	disconnect()
	if err := errors.Join(<-done, <-left); err != nil {
		t.Error(err)
	}
}
