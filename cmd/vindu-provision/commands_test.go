package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
)

// TestCommands runs those that are not setup, for people and for programs.
func TestCommands(t *testing.T) {
	b := newBench(t)
	if status := b.run(t, b.all("--sheet-language", "nb")...); status != exitDone {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	record := b.result(t).HandOver.Record
	for name, c := range map[string]struct {
		args   []string
		status int
		shown  string // on standard output
		has    func(r result) bool
	}{
		"info":               {[]string{"info"}, exitDone, "Home 17, Storgata", func(r result) bool { return r.Info.State == session.SetUp && r.Network != nil }},
		"check":              {[]string{"check"}, exitDone, "", func(r result) bool { return len(r.Checks) == 3 }},
		"check of one":       {[]string{"check", "clinic.latency"}, exitDone, "", func(r result) bool { return len(r.Checks) == 1 }},
		"ports":              {[]string{"ports"}, exitDone, b.port + "\tVindu terminal", func(r result) bool { return len(r.Ports) == 1 }},
		"key":                {[]string{"key"}, exitDone, "vindu-laptop-1.", func(r result) bool { return strings.HasPrefix(r.LaptopKey, "vindu-laptop-1.") }},
		"mandate":            {[]string{"mandate"}, exitDone, "Tor Tekniker, Nordbyen clinic, until 2026-11-21 20:00", func(r result) bool { return r.Technician.Name == "Tor Tekniker" }},
		"mandate stored":     {[]string{"mandate", b.path("mandate")}, exitDone, "Tor Tekniker", func(r result) bool { return *r.MandateUntil > 0 }},
		"mandate not whole":  {[]string{"mandate", b.path("voucher")}, exitFailed, "", func(r result) bool { return r.Failure.Code == "tool.mandate_text" }},
		"sheet":              {[]string{"sheet", record, "--sheet-language", "en"}, exitDone, "You may always say no.", func(r result) bool { return r.HandOver.Record == record }},
		"sheet of no record": {[]string{"sheet", b.path("voucher")}, exitFailed, "", func(r result) bool { return r.Failure.Code == "tool.record" }},
		"sheet in French":    {[]string{"sheet", record, "--sheet-language", "fr"}, exitUsage, "", func(r result) bool { return r.Failure.Code == "tool.language" }},
		"version":            {[]string{"version"}, exitDone, "vindu-provision " + version, func(r result) bool { return r.Version != "" }},
	} {
		t.Run(name, func(t *testing.T) {
			if status := b.run(t, c.args...); status != c.status || !strings.Contains(b.out.String(), c.shown) {
				t.Errorf("exit status %d, want %d; want %q\n%s%s", status, c.status, c.shown, &b.out, &b.err)
			}
			if status := b.run(t, append(c.args, "--json")...); status != c.status {
				t.Errorf("with --json: exit status %d, want %d\n%s", status, c.status, &b.err)
			}
			if r := b.result(t); !c.has(r) || r.OK != (c.status == exitDone) {
				t.Errorf("with --json: %s", &b.out)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		args   []string
		status int
		shown  string
	}{
		"unknown flag":    {[]string{"--colour"}, exitUsage, "--help"},
		"unknown command": {[]string{"dance"}, exitUsage, "--help"},
		"two networks":    {[]string{"--wifi", "a", "--ethernet"}, exitUsage, "--wifi"},
		"help":            {[]string{"--help"}, exitDone, "Set a terminal up"},
		"help of setup":   {[]string{"setup", "--help"}, exitDone, "--voucher-file"},
	} {
		t.Run(name, func(t *testing.T) {
			if status := b.run(t, c.args...); status != c.status || !strings.Contains(b.out.String()+b.err.String(), c.shown) {
				t.Errorf("exit status %d, want %d with %q\n%s%s", status, c.status, c.shown, &b.out, &b.err)
			}
		})
	}
}

// TestFind: without --port every port is tried, and what stands in the way is told.
func TestFind(t *testing.T) {
	b := newBench(t)
	_, dead := pty(t) // nobody answers there
	file := filepath.Join(b.dir, "voucher")
	ports := func(paths ...string) {
		b.world.ports = func() (list []port, err error) {
			for _, p := range paths {
				list = append(list, port{Path: p})
			}
			return list, nil
		}
	}
	for name, c := range map[string]struct {
		paths  []string
		status int
		code   string
	}{
		"the second of two":       {[]string{file, b.port}, exitDone, ""},
		"none that can be opened": {[]string{file}, exitFailed, "tool.port_unusable"},
		"none that answers":       {[]string{dead}, exitFailed, "tool.no_terminal"},
		"two":                     {[]string{b.port, b.port}, exitUsage, "tool.several_terminals"},
	} {
		t.Run(name, func(t *testing.T) {
			ports(c.paths...)
			status := b.run(t, "info", "--json")
			r := b.result(t)
			if status != c.status || (r.Failure == nil) != (c.code == "") || r.Failure != nil && r.Failure.Code != c.code {
				t.Errorf("exit status %d, want %d %s\n%s", status, c.status, c.code, &b.err)
			}
		})
	}
}

// TestOtherTerminal: a cable that is put into another terminal does not go on there.
func TestOtherTerminal(t *testing.T) {
	b, other := newBench(t), newBench(t)
	other.Lock()
	other.Key = fixedKey(t, 9)
	other.Unlock()
	a := newApp(&cli{Folder: b.folder}, b.world)
	c, _, err := a.session(t.Context(), &portFlags{Port: b.port, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.path = other.port
	c.unplugged(t)
	err = c.do(t.Context(), func(s *session.Client) error {
		_, err := s.Info(t.Context())
		return err
	})
	if f := explain(err); f.Code != "tool.other_terminal" {
		t.Errorf("got %v", err)
	}
}

// unplugged ends the line below a session.
func (c *cable) unplugged(t *testing.T) {
	t.Helper()
	c.hangUp()
	<-c.gone
}

// TestReset gives up what a terminal is: with an authorisation and a press; where its key is away by a long press beside its code.
func TestReset(t *testing.T) {
	for name, c := range map[string]struct {
		state  session.State
		args   []string
		status int
		code   string // of the failure
		did    bool
		says   string
	}{
		"set up":           {session.SetUp, []string{"--yes"}, exitDone, "", true, "from the factory now"},
		"nobody to ask":    {session.SetUp, nil, exitUsage, "tool.needs_flag", false, "--yes"},
		"another terminal": {session.SetUp, []string{"--yes", "--code", "AAAA-AAAA-AAAA-AAAA"}, exitFailed, "tool.code_differs", false, "not the one"},
		"key away":         {session.KeyAway, []string{"--yes"}, exitDone, "", true, "security chip does not answer"},
		"from the factory": {session.Factory, []string{"--yes"}, exitDone, "", false, "already"},
		"taken out of use": {session.Returned, []string{"--yes"}, exitFailed, "identity.decommissioned", false, "Return it"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.Lock()
			b.State = c.state
			if c.state == session.KeyAway {
				b.Cause = protocol.IdentityTPMGone
			}
			b.Unlock()
			if status := b.run(t, append([]string{"reset", "--json"}, c.args...)...); status != c.status || !strings.Contains(b.err.String(), c.says) {
				t.Errorf("exit status %d, want %d with %q\n%s", status, c.status, c.says, &b.err)
			}
			r := b.result(t)
			if c.code != "" && (r.Failure == nil || r.Failure.Code != c.code) {
				t.Errorf("failure %+v", r.Failure)
			}
			b.Lock()
			defer b.Unlock()
			if did := slices.Contains(b.Log, "Reset"); did != c.did || did && b.State != session.Factory {
				t.Errorf("did %v, state %s", b.Log, b.State)
			}
		})
	}
}

// TestKeyAway: what another command meets there is told as it is, and not as a cable that is loose.
func TestKeyAway(t *testing.T) {
	b := newBench(t)
	b.Lock()
	b.State, b.Cause = session.KeyAway, protocol.IdentityDamaged
	b.Unlock()
	if status := b.run(t, "info", "--json"); status != exitFailed || b.result(t).Failure.Code != string(protocol.IdentityDamaged) {
		t.Errorf("exit status %d\n%s", status, &b.out)
	}
}
