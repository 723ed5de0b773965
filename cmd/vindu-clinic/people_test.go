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
	command := func(args ...string) func(*testing.T, string) {
		return func(t *testing.T, name string) {
			must(t, append(args, "-dir", s.dir, "-person", name, "-role", "nurse")...)
		}
	}
	for n, test := range []struct {
		name, person string // another in each: who has a passkey does not sign in by a link
		do           func(t *testing.T, name string)
		why          protocol.Code
	}{
		{"the passkeys are removed", "Anne Berg", func(t *testing.T, name string) { // person -remove-passkeys, which wants pages on a port that stays
			if _, err := c.passkeys.Invite(t.Context(), "test", c.person(t, name), time.Hour, true); err != nil {
				t.Fatal(err)
			}
		}, protocol.EndPasskeyRemoved},
		{"the grant is withdrawn", "Bodil Vik", command("grant", "withdraw", "-reason", "has left"), protocol.EndWithdrawn},
		{"the duty is taken away", "Cato Lie", command("person", "-duty", "none"), protocol.EndWithdrawn},
	} {
		t.Run(test.name, func(t *testing.T) {
			page := signInAs(t, s, c, home.Home, test.person)
			call := page.ring(home.Home, id.Key())
			see("who calls", func(s screen.Scene) bool { return s.Kind == screen.Ringing })
			until(t, "prepared", func() bool { return len(media.Sessions()) == n+1 })
			session := media.Sessions()[n]
			session.Say(devicecall.MediaEvent{Kind: devicecall.MediaConnected})
			session.Say(devicecall.MediaEvent{Kind: devicecall.MediaSeen})
			see("the call", func(s screen.Scene) bool { return s.Kind == screen.InCall })
			until(t, "open", func() bool { return session.IsOpen(devicecall.Camera) })
			test.do(t, test.person)
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
			if why != test.why { // such as because the page was gone
				t.Errorf("the call ended because of %s, want %s", why, test.why)
			}
			select {
			case <-page.ended:
			case <-time.After(time.Minute):
				t.Error("the page goes on")
			}
			if _, _, err := c.grants.Current(t.Context(), c.person(t, test.person)); err == nil {
				t.Error("still authorised")
			}
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// person is one whom signInAs signs in.
func (c *clinic) person(t *testing.T, name string) string {
	t.Helper()
	p, err := c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: name, Role: "nurse", Organisation: "Fjordbyen kommune"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}
