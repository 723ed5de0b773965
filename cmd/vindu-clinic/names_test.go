package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vindu/clinic/grants"
	devicecall "vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/screen"
	"vindu/protocol"
)

// TestNothingTellsNames: of a terminal that was set up for a home and had a call, nothing that it has told the clinic of its health and of what happened names the
// home, the person who called, or why; nor does anything that waits in its outbox (R39).
func TestNothingTellsNames(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	if err := c.grants.SetPolicy(t.Context(), "test", "", grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}}); err != nil {
		t.Fatal(err)
	}
	const planted = "Storgata Plantet"
	folder, id := setUp(t, s, planted)
	media := &calltest.Media{}
	cancel, done, see := runTerminalWith(t, folder, media)
	see("that it is ready", ready)
	home, err := c.register.ByTerminal(t.Context(), id.Key())
	if err != nil {
		t.Fatal(err)
	}
	page := signIn(t, s, c, home.Home)
	call := page.ring(home.Home, id.Key())
	see("who calls", func(s screen.Scene) bool { return s.Kind == screen.Ringing })
	until(t, "prepared", func() bool { return len(media.Sessions()) == 1 })
	session := media.Sessions()[0]
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaConnected})
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaSeen})
	see("the call", func(s screen.Scene) bool { return s.Kind == screen.InCall })
	until(t, "open", func() bool { return session.IsOpen(devicecall.Camera) })
	c.heard(t, id.Key())
	cancel() // the call ends, and its record is told
	if err := <-done; err != nil {
		t.Error(err)
	}
	key := id.Key()
	told := map[string][]byte{}
	collect := func(query string) {
		rows, err := c.store.Read().QueryContext(t.Context(), query, key[:])
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var kind string
			var body []byte
			if err := rows.Scan(&kind, &body); err != nil {
				t.Fatal(err)
			}
			told[kind] = append(told[kind], body...)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "told of the call", func() bool {
		var n int
		err := c.store.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM fleet_events WHERE terminal = ? AND kind = 'call'", key[:]).Scan(&n)
		return err == nil && n == 1
	})
	collect("SELECT kind, body FROM fleet_events WHERE terminal = ?")
	collect("SELECT 'health', health FROM fleet_terminals WHERE terminal = ?")
	box, err := os.ReadFile(filepath.Join(folder, "outbox.db"))
	if err != nil {
		t.Fatal(err)
	}
	told["outbox"] = box
	for _, kind := range []string{protocol.EventCall, protocol.EventOpening} {
		if !bytes.Contains(told[kind], call[:]) {
			t.Errorf("no %s of the call was told: nothing is proven", kind)
		}
	}
	for kind, body := range told {
		for _, name := range []string{planted, "Plantet", "Anne Berg", "Fjordbyen", "nurse", home.Home} {
			if len(body) == 0 || bytes.Contains(bytes.ToLower(body), bytes.ToLower([]byte(name))) {
				t.Errorf("%s (%d bytes) tells %q", kind, len(body), name)
			}
		}
	}
}
