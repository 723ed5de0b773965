package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/provisioning/laptop"
	"vindu/provisioning/session"
)

// TestNamesWhat: a sentence says which port, file, code, check, address or authorisation it is about.
func TestNamesWhat(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(b *bench)
		args   func(b *bench) []string
		status int
		code   string
		names  string
	}{
		"port":          {nil, func(b *bench) []string { return b.all("--port", "/dev/none7") }, exitFailed, "tool.port_missing", "/dev/none7"},
		"file":          {nil, func(b *bench) []string { return b.all("--voucher-file", b.path("none")) }, exitFailed, "tool.file", "none (no such file"},
		"record":        {nil, func(b *bench) []string { return []string{"sheet", b.path("voucher"), "--json"} }, exitFailed, "tool.record", "voucher"},
		"half a code":   {nil, func(b *bench) []string { return b.all("--code", "7BL2-4TWW") }, exitUsage, "tool.code_text", "7BL2-4TWW"},
		"check":         {nil, func(*bench) []string { return []string{"check", "camera", "--json"} }, exitUsage, "tool.check_name", "camera"},
		"address":       {nil, func(b *bench) []string { return b.all("--address", "10.0.0.999/24") }, exitUsage, "tool.address", "10.0.0.999/24"},
		"gateway":       {nil, func(b *bench) []string { return b.all("--address", "10.0.0.9/24", "--gateway", "10.0.1.1") }, exitUsage, "tool.address", "10.0.1.1"},
		"name server":   {nil, func(b *bench) []string { return b.all("--address", "10.0.0.9/24", "--dns", "x") }, exitUsage, "tool.address", `"x"`},
		"none yet":      {func(b *bench) { os.Remove(filepath.Join(b.folder, "mandate.txt")) }, (*bench).all0, exitFailed, string(protocol.AuthTechnician), "not authorised yet"},
		"over":          {func(b *bench) { b.world.now = func() time.Time { return noon.Add(9 * time.Hour) } }, (*bench).all0, exitFailed, string(protocol.AuthTechnician), "ended on 21 November 2026"},
		"another's":     {anothers, (*bench).all0, exitFailed, string(protocol.AuthTechnician), "another laptop"},
		"none for info": {func(b *bench) { os.Remove(filepath.Join(b.folder, "mandate.txt")); b.State = session.SetUp }, func(*bench) []string { return []string{"info", "--json"} }, exitFailed, string(protocol.AuthTechnician), "not authorised yet"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.spoil != nil {
				b.Lock()
				c.spoil(b)
				b.Unlock()
			}
			status := b.run(t, c.args(b)...)
			r := b.result(t)
			if status != c.status || r.Failure == nil || r.Failure.Code != c.code || !strings.Contains(r.Failure.Sentence, c.names) || r.Failure.Next == "" {
				t.Errorf("exit status %d, %+v; want %d, %s, and %q named", status, r.Failure, c.status, c.code, c.names)
			}
		})
	}
}

// anothers has the laptop lose its key: the next one is another laptop's.
func anothers(b *bench) {
	if err := os.Remove(filepath.Join(b.folder, "key.pem")); err != nil {
		panic(err)
	}
	if _, err := laptop.Open(b.folder); err != nil {
		panic(err)
	}
}

// TestAskedAgain: what cannot be is said at the question, and the next answer counts.
func TestAskedAgain(t *testing.T) {
	b := newBench(t)
	b.Lock()
	b.Refuse = map[string]error{"ScanNetworks": protocol.WithCode(protocol.IPNoWiFi, os.ErrNotExist)}
	b.Networks = []session.Network{{Kind: session.WiFi, SSID: "Storgata 17"}} // it is connected, so that nobody waits
	b.Unlock()
	// The code, the language; a Wi-Fi that is not there, again, a fixed address; and then to stop.
	b.answers("2", "1", "2", "1", "4", "10.0.0.999/24", "10.0.0.9", "10.0.0.9/24", "10.0.1.1", "10.0.0.1", "one", "10.0.0.1", b.path("mandate"), "nonsense")
	b.run(t, "--port", b.port)
	b.Lock()
	defer b.Unlock()
	b.Networks = slices.DeleteFunc(b.Networks, func(n session.Network) bool { return n.Kind != session.Ethernet })
	if len(b.Networks) != 1 || b.Networks[0].Address != "10.0.0.9/24" || b.Networks[0].Gateway != "10.0.0.1" || len(b.Networks[0].DNS) != 1 {
		t.Errorf("set: %+v\n%s", b.Networks, &b.err)
	}
	for _, want := range []string{
		protocol.Explain(protocol.IPNoWiFi).Sentence, `"10.0.0.999/24" is no address`, `"10.0.0.9" is no address`, `"10.0.1.1" is no gateway within 10.0.0.9/24`,
		`"one" is no address of a name server`, "This is the laptop's authorisation.", "This is neither a voucher nor the name of a file with one.",
	} {
		if !strings.Contains(b.err.String(), want) {
			t.Errorf("not told: %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", &b.err)
	}
}
