package main

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"vindu/clinic/grants"
	devicecall "vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/screen"
	"vindu/protocol"
)

// TestPeopleCommandsEndCalls: what a command beside a running server takes from a person ends that person's call at the terminal, with its cause, and what the person's open
// page shows (R29).
func TestPeopleCommandsEndCalls(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	if err := c.grants.SetPolicy(t.Context(), "test", "", grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}}); err != nil {
		t.Fatal(err)
	}
	folder, id := setUp(t, s, "Home 17")
	media := &calltest.Media{}
	cancel, done, see := runTerminalWith(t, folder, media)
	see("that it is ready", ready)
	home, err := c.register.ByTerminal(t.Context(), id.Key())
	if err != nil {
		t.Fatal(err)
	}
	person := []string{"-dir", s.dir, "-person", "Anne Berg", "-role", "nurse"}
	command := func(args ...string) func(*testing.T) {
		return func(t *testing.T) { must(t, append(args, person...)...) }
	}
	for n, test := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"the passkeys are removed", func(t *testing.T) { // person -remove-passkeys, which wants pages on a port that stays
			if _, err := c.passkeys.Invite(t.Context(), "test", c.anne(t), time.Hour, true); err != nil {
				t.Fatal(err)
			}
		}},
		{"the grant is withdrawn", command("grant", "withdraw", "-reason", "has left")},
		{"the duty is taken away", command("person", "-duty", "none")},
	} {
		t.Run(test.name, func(t *testing.T) {
			page := signIn(t, s, c, home.Home)
			call := page.ring(home.Home, id.Key())
			see("who calls", func(s screen.Scene) bool { return s.Kind == screen.Ringing })
			until(t, "prepared", func() bool { return len(media.Sessions()) == n+1 })
			session := media.Sessions()[n]
			session.Say(devicecall.MediaEvent{Kind: devicecall.MediaConnected})
			session.Say(devicecall.MediaEvent{Kind: devicecall.MediaSeen})
			see("the call", func(s screen.Scene) bool { return s.Kind == screen.InCall })
			until(t, "open", func() bool { return session.IsOpen(devicecall.Camera) })
			test.do(t)
			see("that the call has ended", func(s screen.Scene) bool { return s.Kind == screen.Ended })
			if session.IsOpen(devicecall.Camera) || session.IsOpen(devicecall.Microphone) {
				t.Error("camera or microphone is open")
			}
			var why protocol.Code
			until(t, "the call's record", func() bool {
				if err := c.store.Read().QueryRowContext(t.Context(), "SELECT outcome FROM calls WHERE call = ? AND ended <> 0", call[:]).Scan(&why); err != nil && !errors.Is(err, sql.ErrNoRows) {
					t.Fatal(err)
				}
				return why != ""
			})
			if why != protocol.AuthRevoked { // such as because the page was gone
				t.Errorf("the call ended because of %s", why)
			}
			select {
			case <-page.ended:
			case <-time.After(time.Minute):
				t.Error("the page goes on")
			}
			if _, _, err := c.grants.Current(t.Context(), c.anne(t)); err == nil {
				t.Error("still authorised")
			}
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// anne is the person whom signIn signs in.
func (c *clinic) anne(t *testing.T) string {
	t.Helper()
	p, err := c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Fjordbyen kommune"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}
