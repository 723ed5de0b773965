package agent

import (
	"testing"
	"time"

	"vindu/device/link"
	"vindu/protocol"
)

// TestRefusal: who was refused for a quarter of an hour and never let in between is cut off, whatever else was in the way meanwhile.
func TestRefusal(t *testing.T) {
	up, refused, away := link.State{Up: true}, link.State{Cause: protocol.LinkRefused}, link.State{Cause: protocol.LinkUnreachable}
	for name, c := range map[string]struct {
		states []link.State // five minutes apart
		want   bool
	}{
		"refused for a quarter of an hour":   {[]link.State{refused, refused, refused, refused}, true},
		"not long enough":                    {[]link.State{refused, refused, refused}, false},
		"away once in between":               {[]link.State{refused, away, refused, refused}, true},
		"away in the end":                    {[]link.State{refused, refused, refused, away}, false},
		"only away":                          {[]link.State{away, away, away, away}, false},
		"let in in between":                  {[]link.State{refused, refused, up, refused, refused}, false},
		"let in in between, and then not":    {[]link.State{refused, up, refused, refused, refused, refused}, true},
		"refused at last, after having been": {[]link.State{refused, away, away, away, refused}, true},
	} {
		var r refusal
		got, now := false, time.Now()
		for _, s := range c.states {
			got = r.forGood(s, now)
			now = now.Add(5 * time.Minute)
		}
		if got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
