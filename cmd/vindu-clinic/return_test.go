package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"vindu/clinic/config"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// terminal is the part of a terminal's program that talks to the clinic.
type terminal struct {
	*link.Link
	key      protocol.KeyHash
	signer   crypto.Signer
	outbox   *outbox.Outbox
	commands chan *protocol.Command
	states   chan link.State
}

// serviceOf returns the keys of the clinic's server, as a terminal was told of them when it was enrolled.
func serviceOf(t *testing.T, grant *provisioning.Grant) func() [][]byte {
	t.Helper()
	trust := new(protocol.Trust)
	if _, err := protocol.Unverified(grant.Settings.Trust, trust); err != nil {
		t.Fatal(err)
	}
	return func() [][]byte { return trust.Service }
}

// connect runs one until the test ends.
func connect(t *testing.T, front string, client *provisioning.Client, grant *provisioning.Grant) *terminal {
	t.Helper()
	folder, err := state.Open(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	d := &terminal{signer: client.Signer, commands: make(chan *protocol.Command, 64), states: make(chan link.State, 64)}
	if d.outbox, err = outbox.Open(folder, 1<<20, time.Now, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if d.key, err = protocol.HashKey(client.Signer.Public()); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(grant.Root)
	own := tls.Certificate{PrivateKey: client.Signer, Leaf: grant.Chain[0]}
	for _, c := range grant.Chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	d.Link = link.New(link.Config{
		Address: front, Terminal: d.key, Software: "test", Now: time.Now, Outbox: d.outbox, Service: serviceOf(t, grant),
		TLS: func() *tls.Config {
			return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: grant.ServerName, Certificates: []tls.Certificate{own}, NextProtos: []string{protocol.ALPNMQTT}}
		},
	}, link.Handlers{
		State:   func(s link.State) { d.states <- s },
		Command: func(c *protocol.Command) { d.commands <- c },
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := d.outbox.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// is waits until the link is up, or is not.
func (d *terminal) is(t *testing.T, up bool) link.State {
	t.Helper()
	for {
		select {
		case s := <-d.states:
			if s.Up == up {
				return s
			}
		case <-time.After(time.Minute):
			t.Fatalf("not up = %v", up)
		}
	}
}

func (d *terminal) report(t *testing.T, started time.Time) {
	t.Helper()
	none := protocol.DeviceState{Kind: "none"}
	now := time.Now()
	if err := d.SetHealth(&protocol.Health{
		Version: protocol.Version, At: protocol.At(now), Uptime: uint64(now.Sub(started).Seconds()), Software: "test", KeyGrade: "file",
		Camera: none, Microphone: none, Speaker: none, Screen: none,
	}); err != nil {
		t.Fatal(err)
	}
}

// beside opens the clinic beside its running server, as the commands do.
func beside(t *testing.T, dir string) *clinic {
	t.Helper()
	c, err := open(t.Context(), filepath.Join(dir, config.FileName), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestReturn: a terminal is ordered to end, proves that it did, gets the acknowledgement, and is cut off.
func TestReturn(t *testing.T) {
	s := start(t, newClinic(t))
	client, grant := letIn(t, s.dir, s.front())
	must(t, "decommission", "-dir", s.dir, "-home", "Home 17, Storgata", "-reason", "returned by the family")
	c := beside(t, s.dir)
	d := connect(t, s.front(), client, grant) // the order was waiting
	d.is(t, true)
	var order []byte
	for order == nil {
		select {
		case command := <-d.commands:
			if command.Kind == protocol.CommandDecommission {
				order = command.Order
			}
		case <-time.After(time.Minute):
			t.Fatal("no order came")
		}
	}
	authority, err := x509.ParsePKIXPublicKey(grant.Settings.Authorities[0])
	if err != nil {
		t.Fatal(err)
	}
	var asked protocol.Decommission
	if err := protocol.Verify(order, authority.(*ecdsa.PublicKey), &asked); err != nil || asked.Terminal != d.key {
		t.Fatalf("order %+v, %v", asked, err)
	}
	receipt, err := protocol.Sign(&protocol.Decommissioned{Version: protocol.Version, Terminal: d.key, Order: protocol.HashOf(order), KeyGrade: "file", At: protocol.At(time.Now())}, d.signer)
	if err != nil {
		t.Fatal(err)
	}
	body, err := protocol.Encode(&protocol.ReceiptEvent{Version: protocol.Version, Receipt: receipt})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.outbox.Append(protocol.EventReceipt, body); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	down := d.is(t, false)
	if left := d.outbox.Status().Pending; left != 0 {
		t.Errorf("cut off before the receipt was acknowledged: %d wait, %v", left, down.Err)
	}
	t.Logf("cut off %v after the receipt was written", time.Since(began))
	orders, err := c.setup.Orders(t.Context(), d.key)
	if err != nil || len(orders) != 1 || orders[0].State != setup.OrderDone || orders[0].Grade != "file" {
		t.Errorf("orders %+v, %v", orders, err)
	}
	if k, err := c.register.ByTerminal(t.Context(), d.key); err != nil || k.Revoked.IsZero() {
		t.Errorf("terminal %+v, %v", k, err)
	}
}

// TestMove: a terminal that shows its certificate beside a voucher moves to that home; with the voucher alone it is taken for a copy.
func TestMove(t *testing.T) {
	s := start(t, newClinic(t))
	client, grant := letIn(t, s.dir, s.front())
	v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", s.dir, "-home", "Home 18, Kirkeveien"))
	if err != nil {
		t.Fatal(err)
	}
	v.Address = s.front()
	if _, err := client.Enrol(t.Context(), v); protocol.CodeOf(err) != protocol.IdentityClone {
		t.Errorf("without its certificate: %v", err)
	}
	client.Chain = grant.Chain
	for range 2 { // the reply to the first was lost
		moved, err := client.Enrol(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if moved.Settings.Home != "Home 18, Kirkeveien" {
			t.Errorf("moved to %q", moved.Settings.Home)
		}
	}
	if code, _, stderr := do(t, "revoke", "-dir", s.dir, "-home", "Home 17, Storgata", "-reason", "x"); code != 1 {
		t.Errorf("the former home has a terminal: %s", stderr)
	}
}

// TestTwice: two terminals that run with one identity push each other out; the operator gets an alarm. It takes as long as the terminals' backoff.
func TestTwice(t *testing.T) {
	s := start(t, newClinic(t))
	client, grant := letIn(t, s.dir, s.front())
	c := beside(t, s.dir)
	now := time.Now()
	original := connect(t, s.front(), client, grant)
	original.report(t, now.Add(-time.Hour))
	original.is(t, true)
	copied := connect(t, s.front(), client, grant)
	copied.report(t, now.Add(-time.Minute))
	copied.is(t, true)
	var alarms []register.Alarm
	for deadline := now.Add(time.Minute); len(alarms) == 0; {
		select {
		case <-original.states:
		case <-copied.states:
		case <-time.After(100 * time.Millisecond):
		}
		var err error
		if alarms, err = c.register.Alarms(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("not noticed")
		}
	}
	if alarms[0].Code != protocol.IdentityTwice || alarms[0].Terminal != original.key || alarms[0].HomeLabel != "Home 17, Storgata" {
		t.Errorf("alarms %+v", alarms)
	}
	t.Logf("noticed after %v: %s", time.Since(now), alarms[0].Detail)
}
