package grants

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// TestRun: terminals are told when what they are to do has changed, and at no other time; and who loses a right is told of within seconds.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t)
		c.now = time.Now
		terminal := c.enrol(c.home)
		ctx, cancel := context.WithCancel(t.Context())
		var told, ended atomic.Int64
		done := make(chan error, 2)
		go func() {
			done <- c.Run(ctx, func(_ context.Context, key protocol.KeyHash) error {
				if key != terminal {
					t.Errorf("told %s", key.Code())
				}
				told.Add(1)
				return nil
			})
		}()
		go func() {
			done <- c.Watch(ctx, func(person string) {
				if person != c.anne.ID {
					t.Errorf("ended %s", person)
				}
				ended.Add(1)
			})
		}()
		after := func(what string, wait time.Duration, tells, ends int64) {
			t.Helper()
			time.Sleep(wait) // allowed: of the bubble
			synctest.Wait()
			if a, b := told.Swap(0), ended.Swap(0); a != tells || b != ends {
				t.Errorf("%s: told %d times, want %d; ended %d, want %d", what, a, tells, b, ends)
			}
		}
		after("at first", time.Second, 1, 0)
		after("nothing", 3*time.Minute, 0, 0)
		loud := DefaultSettings()
		loud.Volume = 99
		c.setPolicy("", loud)
		after("another policy", 5*time.Second, 1, 0)
		if _, err := c.Authority.EnsureTrust(protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}}); err != nil {
			t.Fatal(err)
		}
		after("another trust", 5*time.Second, 1, 0)
		c.give(c.grant())
		after("a grant", 5*time.Second, 0, 0)
		if err := c.SetHomeGroups(t.Context(), "kari", c.home.ID, []string{"north"}); err != nil {
			t.Fatal(err)
		}
		after("a group", 5*time.Second, 1, 0)
		was := c.keys.of[c.anne.ID]
		c.keys.set(c.anne.ID)
		c.Changed(c.anne.ID)
		after("no passkey", 1500*time.Millisecond, 0, 1)
		c.keys.set(c.anne.ID, was...)
		after("a passkey again", 5*time.Second, 0, 0)
		if _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, "has left"); err != nil {
			t.Fatal(err)
		}
		after("withdrawn", 1500*time.Millisecond, 0, 1)
		g := c.grant()
		g.To = time.Now().Add(time.Hour)
		c.give(g)
		after("it holds", 59*time.Minute, 0, 0)
		after("it is over", time.Minute+5*time.Second, 0, 1)
		key := c.takeKey()
		c.setPolicy("", DefaultSettings())
		after("a policy that waits to be signed", 5*time.Second, 0, 0)
		if _, err := c.Accept(t.Context(), "kari", sign(t, c.waiting(), key)); err != nil {
			t.Fatal(err)
		}
		after("it is signed", 5*time.Second, 1, 0)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
