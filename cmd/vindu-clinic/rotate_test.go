package main

import (
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vindu/clinic/config"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/provisioning"
)

// orderKeys orders all terminals to replace their keys, as if the day was over in which the fleet is told. It returns the clinic beside the server.
func (s *serving) orderKeys(t *testing.T) *clinic {
	t.Helper()
	must(t, "replace-keys", "-dir", s.dir)
	c, err := open(t.Context(), filepath.Join(s.dir, config.FileName), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	if err := c.store.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE key_orders SET given = given - ?", (48 * time.Hour).Milliseconds())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReplaceKey: a terminal replaces its key on the clinic's order. What runs is a terminal's whole program but for its devices, and the clinic's. It is
// the home's terminal afterwards, online, with one key; and the old key, used once more, is an alarm.
func TestReplaceKey(t *testing.T) {
	s := start(t, newClinic(t))
	folder, id := setUp(t, s, "Home 17")
	grant := id.Grant()
	clinic := s.orderKeys(t)
	cancel, done, see := runTerminal(t, folder)
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(time.Minute); ; {
		homes, err := clinic.register.Homes(t.Context())
		if err != nil || len(homes) != 1 {
			t.Fatal(homes, err)
		}
		var left []string
		for _, name := range []string{"key.pem", "key-2.pem", "before.pem", "clinic.pem"} {
			if _, err := os.Stat(filepath.Join(folder, "identity", name)); err == nil {
				left = append(left, name)
			}
		}
		if homes[0].Terminal != id.Key() && len(left) == 2 && left[0] == "key-2.pem" && left[1] == "clinic.pem" {
			break
		}
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("after a minute the home has the same key: %v; on the terminal are %v", homes[0].Terminal == id.Key(), left)
		}
	}
	see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready && !s.Offline && len(s.Faults) == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if alarms, err := clinic.register.Alarms(t.Context(), 0); err != nil || len(alarms) != 0 {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
	// The clinic is restored from a backup from before: the terminal, which has that key no more, is the home's all the same.
	homes, err := clinic.register.Homes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next, old := homes[0].Terminal, id.Key()
	if err := clinic.store.Write(t.Context(), func(tx *sql.Tx) error {
		for _, query := range []string{"DELETE FROM certificates WHERE key = ?", "DELETE FROM placements WHERE key = ?", "DELETE FROM successions WHERE key = ?", "DELETE FROM terminals WHERE key = ?"} {
			if _, err := tx.Exec(query, next[:]); err != nil {
				return err
			}
		}
		_, err := tx.Exec("UPDATE terminals SET revoked = NULL, reason = NULL, revocation = NULL WHERE key = ?", old[:])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	cancel, done, see = runTerminal(t, folder)
	see("that it is ready for the restored clinic", func(s screen.Scene) bool { return s.Kind == screen.Ready && !s.Offline && len(s.Faults) == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if homes, err = clinic.register.Homes(t.Context()); err != nil || homes[0].Terminal != next {
		t.Errorf("in the home is %v, %v", homes[0].Terminal, err)
	}
	copied := provisioning.Client{Signer: id.Signer(), Now: time.Now}
	if _, err := copied.Renew(t.Context(), (*provisioning.Grant)(grant)); protocol.CodeOf(err) != protocol.LinkRefused {
		t.Errorf("the old key: %v", err)
	}
	if alarms, err := clinic.register.Alarms(t.Context(), 0); err != nil || len(alarms) != 1 || alarms[0].Code != protocol.IdentityClone || alarms[0].HomeLabel != "Home 17" {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
}
