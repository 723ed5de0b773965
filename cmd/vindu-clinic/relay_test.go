package main

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v5"

	"vindu/protocol"
)

// TestRevokedIsNotRelayed: what the server relays for a terminal ends when it is revoked.
func TestRevokedIsNotRelayed(t *testing.T) {
	s := start(t, newClinic(t))
	client, grant := letIn(t, s.dir, s.front())
	servers, err := client.Relay(t.Context(), grant)
	if err != nil || len(servers) == 0 {
		t.Fatalf("%+v, %v", servers, err)
	}
	i := slices.IndexFunc(servers[0].URLs, func(u string) bool { return strings.HasPrefix(u, "turn:") })
	if i < 0 {
		t.Fatalf("no relay over UDP: %q", servers[0].URLs)
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(servers[0].URLs[i], "turn:"), "?")
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := turn.NewClient(&turn.ClientConfig{TURNServerAddr: address, Conn: conn, Username: servers[0].Username, Password: string(servers[0].Credential)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	p, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	taken := func() bool { // is its port somebody's?
		l, err := net.ListenPacket("udp4", p.LocalAddr().String())
		if err != nil {
			return true
		}
		l.Close()
		return false
	}
	if !taken() {
		t.Fatal("nothing is relayed")
	}
	must(t, "revoke", "-dir", s.dir, "-home", "Home 17, Storgata", "-reason", "stolen")
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(time.Minute); taken(); {
		select {
		case <-poll.C:
		case <-late:
			t.Fatal("still relayed after a minute")
		}
	}
	if _, err := client.Relay(t.Context(), grant); protocol.CodeOf(err) != protocol.LinkRefused {
		t.Errorf("fresh credentials: %v", err)
	}
}
