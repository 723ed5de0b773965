package register

import (
	"crypto/x509"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// Certificates of one key, in the order in which they were issued, are shown in another. Two holders that renew by themselves cannot hide it.
func TestShown(t *testing.T) {
	const long = time.Hour
	type step struct {
		after time.Duration
		shown int
		want  bool // newest
	}
	for name, tc := range map[string]struct {
		steps  []step
		alarms int64 // times that it was raised; more often counts once a minute
	}{
		"a terminal that renews":                  {[]step{{0, 0, true}, {long, 0, true}, {long, 1, true}, {long, 1, true}, {long, 2, true}}, 0},
		"replies that were lost":                  {[]step{{0, 0, true}, {long, 3, true}, {long, 3, true}}, 0},
		"a connection that was begun before":      {[]step{{0, 0, true}, {long, 1, true}, {time.Second, 0, false}, {long, 1, true}}, 0},
		"two that renewed":                        {[]step{{0, 1, true}, {long, 2, true}, {long, 1, false}}, 1},
		"two, of which one has not":               {[]step{{0, 0, true}, {long, 1, true}, {long, 0, false}}, 1},
		"the copy comes while the other is away":  {[]step{{0, 0, true}, {long, 2, true}, {31 * 24 * time.Hour, 1, false}}, 1},
		"two that push each other out":            {[]step{{0, 1, true}, {time.Second, 2, true}, {time.Second, 1, false}, {time.Second, 2, true}, {time.Second, 1, false}, {time.Second, 1, false}}, 1},
		"two that come in turn for a long time":   {[]step{{0, 1, true}, {long, 2, true}, {long, 1, false}, {long, 2, true}, {long, 1, false}}, 2},
		"two that renew again, each from its own": {[]step{{0, 1, true}, {long, 2, true}, {long, 3, true}, {long, 2, false}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			request := newRequest(t)
			first, err := c.enrol(t.Context(), c.voucher(t, "a"), request)
			if err != nil {
				t.Fatal(err)
			}
			issued := []*x509.Certificate{first}
			for range 3 {
				next, err := c.Renew(t.Context(), request, c.authority.IssueTerminal)
				if err != nil {
					t.Fatal(err)
				}
				issued = append(issued, next)
			}
			for i, s := range tc.steps {
				c.clock = c.clock.Add(s.after)
				if newest, err := c.Shown(t.Context(), request.Hash, issued[s.shown]); err != nil || newest != s.want {
					t.Errorf("step %d: newest %v, %v", i, newest, err)
				}
			}
			alarms, err := c.Alarms(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			var count int64
			for _, a := range alarms {
				if count += a.Count; a.Code != protocol.IdentityTwice || a.Terminal != request.Hash || a.HomeLabel != "a" {
					t.Errorf("alarm %+v", a)
				}
			}
			if count != tc.alarms {
				t.Errorf("raised %d times, want %d: %+v", count, tc.alarms, alarms)
			}
		})
	}
}

// A certificate that is not in the register, restored from a backup, says nothing.
func TestShownUnknown(t *testing.T) {
	c := open(t)
	request := newRequest(t)
	if _, err := c.enrol(t.Context(), c.voucher(t, "a"), request); err != nil {
		t.Fatal(err)
	}
	unknown, err := c.authority.IssueTerminal(request)
	if err != nil {
		t.Fatal(err)
	}
	if newest, err := c.Shown(t.Context(), request.Hash, unknown); err != nil || !newest {
		t.Errorf("newest %v, %v", newest, err)
	}
	for _, what := range c.audited(t) {
		if what == audit.AlarmRaised {
			t.Error("it raised an alarm")
		}
	}
}
