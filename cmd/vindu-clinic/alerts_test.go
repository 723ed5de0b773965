package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vindu/clinic/config"
	"vindu/device/call/calltest"
)

// TestAlertsTold: the server tells the webhook of its configuration that a terminal is not heard of any more, by the number of its home; a secret that others can read it does
// not take.
func TestAlertsTold(t *testing.T) {
	heard := make(chan string, 64)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		select {
		case heard <- string(b):
		default:
		}
	}))
	defer hook.Close()
	dir := newClinic(t)
	file, secret := filepath.Join(dir, config.FileName), filepath.Join(dir, "alerts.secret")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{`webhook = ""`, `webhook = "` + hook.URL + `"`}, {`secret = ""`, `secret = "alerts.secret"`}, {"after_minutes = 5", "after_minutes = 0"}} {
		if !strings.Contains(string(text), change[0]) {
			t.Fatalf("the configuration has no %s", change[0])
		}
		text = []byte(strings.Replace(string(text), change[0], change[1], 1))
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte(strings.Repeat("5e", 32)), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, said := do(t, "serve", "-config", file); code == 0 || !strings.Contains(said, "alerts.secret") {
		t.Fatalf("with a secret that others can read: exit %d, %s", code, said)
	}
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	c := beside(t, s.dir)
	folder, id := setUp(t, s, "Storgata Plantet")
	cancel, done, see := runTerminalWith(t, folder, &calltest.Media{})
	see("that it is ready", ready)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	home, err := c.register.ByTerminal(t.Context(), id.Key())
	if err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case told := <-heard:
			if strings.Contains(told, "Plantet") {
				t.Errorf("the home's name is told: %s", told)
			}
			if strings.Contains(told, "signalling.terminal_offline") && strings.Contains(told, home.Home) {
				return
			}
		case <-t.Context().Done():
			t.Fatal("the webhook was told nothing")
		}
	}
}
