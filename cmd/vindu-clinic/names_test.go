package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vindu/clinic/grants"
	"vindu/protocol"
)

// TestNothingTellsNames: of a terminal that was set up for a home and had a call, nothing that it has published (presence, health, events, messages of the call), nothing that
// the clinic keeps of it, nothing that it has sent by HTTPS, nothing that waits in its outbox and nothing that the broker has retained names the home, the person who called, or why (R39).
// What the clinic publishes to it says who calls, which the screen shows, and nothing of the home but the number that an authorisation names.
func TestNothingTellsNames(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	if err := c.grants.SetPolicy(t.Context(), "test", "", grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}}); err != nil {
		t.Fatal(err)
	}
	const planted = "Storgata Plantet"
	h := newHome(t, s, c, planted)
	h.start()
	homes, err := c.homesCalled(t.Context(), planted)
	if err != nil {
		t.Fatal(err)
	}
	home, key := homes[0].ID, homes[0].Terminal
	h.call(signIn(t, s, c, home), home, key)
	c.heard(t, key)
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
	h.stop()
	collect("SELECT 'kept '||kind, body FROM fleet_events WHERE terminal = ?")
	collect("SELECT 'kept health', health FROM fleet_terminals WHERE terminal = ?")
	if told["outbox"], err = os.ReadFile(filepath.Join(h.folder, "outbox.db")); err != nil {
		t.Fatal(err)
	}
	// What went over the line, by channel, the farewell last.
	var call protocol.CallID
	last := map[string][]byte{}
	until(t, "gone", func() bool {
		p := lastPresence(h.tap.recordings())
		return p != nil && !p.Online
	})
	for _, r := range h.tap.enough() {
		if r.topic == "" {
			told["https"] = append(append(told["https"], r.path...), r.payload...)
			continue
		}
		_, direction, channel := cutTopic(r.topic)
		channel = direction + "/" + channel
		told[channel] = append(append(told[channel], r.topic...), r.payload...)
		if r.retain {
			last[channel] = r.payload
		}
		if m := new(protocol.CallOut); channel == "out/call" && protocol.Decode(r.payload, m) == nil {
			call = m.Call
		}
	}
	for _, kind := range []string{"kept " + protocol.EventCall, "kept " + protocol.EventOpening, "out/event", "out/call", "in/call"} {
		if (call == protocol.CallID{}) || !bytes.Contains(told[kind], call[:]) {
			t.Errorf("no %s of the call was told: nothing is proven", kind)
		}
	}
	// What the broker keeps for whoever comes later is as it was published.
	retained := [][]byte{last["out/health"], last["out/presence"]}
	until(t, "retained", func() bool {
		told["retained"] = below(t, filepath.Join(c.config.State, folderBroker))
		for _, payload := range retained {
			if len(payload) == 0 || !bytes.Contains(told["retained"], payload) {
				return false
			}
		}
		return true
	})
	for _, kind := range []string{"kept health", "outbox", "https", "retained", "out/presence", "out/health", "in/ack"} {
		if len(told[kind]) == 0 {
			t.Errorf("nothing of %s was seen", kind)
		}
	}
	for kind, body := range told {
		names := []string{planted, "Plantet"}
		if !strings.HasPrefix(kind, "in/") {
			names = append(names, "Anne Berg", "Fjordbyen", "nurse", home)
		}
		for _, name := range names {
			if bytes.Contains(bytes.ToLower(body), bytes.ToLower([]byte(name))) {
				t.Errorf("%s (%d bytes) tells %q", kind, len(body), name)
			}
		}
	}
	if !bytes.Contains(told["in/call"], []byte("Anne Berg")) {
		t.Error("the invitation does not say who calls: what was searched is not what was published")
	}
}

// lastPresence is what a terminal has said last of being there; nil: nothing that can be read.
func lastPresence(list []recorded) (last *protocol.Presence) {
	for _, r := range list {
		if strings.HasSuffix(r.topic, "/out/"+protocol.OutPresence) {
			p := new(protocol.Presence)
			if last = p; protocol.Decode(r.payload, p) != nil {
				last = nil
			}
		}
	}
	return last
}

// below is all that is in the files of a folder. A file that goes meanwhile is in none.
func below(t *testing.T, dir string) (all []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return all
}
