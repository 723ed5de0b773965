package policy

import (
	"testing"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

func TestDecide(t *testing.T) {
	yes, no := func() bool { return true }, func() bool { return false }
	night, err := ParseHours("22:00", "07:00")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		policy Policy
		at     time.Time
		want   call.Decision
	}{
		{"zero policy", Policy{}, day, call.Decision{Decision: protocol.Refused, Reason: protocol.IdentityNone}},
		{"not set up", Policy{Enrolled: no, Screen: yes}, day, call.Decision{Decision: protocol.Refused, Reason: protocol.IdentityNone}},
		{"no screen", Policy{Enrolled: yes, Screen: no}, day, call.Decision{Decision: protocol.Refused, Reason: protocol.ScreenNone}},
		{"by day", Policy{Enrolled: yes, Screen: yes, Ring: 5, SeeFirst: 6, Longest: 7, Quiet: night}, day, call.Decision{Decision: protocol.Ringing, Ring: 5, SeeFirst: 6, MaxDuration: 7}},
		{"at once", Policy{Enrolled: yes, Screen: yes, SeeFirst: 6, Longest: 7}, day, call.Decision{Decision: protocol.Ringing, MaxDuration: 7}},
		{"at night", Policy{Enrolled: yes, Screen: yes, Quiet: night}, day.Add(11 * time.Hour), call.Decision{Decision: protocol.Quiet}},
		{"at night by its own zone", Policy{Enrolled: yes, Screen: yes, Quiet: night, Zone: time.FixedZone("", 10*3600)}, day, call.Decision{Decision: protocol.Quiet}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.policy.Zone == nil {
				test.policy.Zone = time.UTC
			}
			if got := test.policy.Decide(nil, test.at); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestHours(t *testing.T) {
	at := func(s string) time.Time {
		t, err := time.Parse("15:04:05", s)
		if err != nil {
			panic(err)
		}
		return t
	}
	for _, test := range []struct {
		from, to, at string
		want         bool
	}{
		{"", "", "00:00:00", false}, {"22:00", "07:00", "21:59:59", false}, {"22:00", "07:00", "22:00:00", true},
		{"22:00", "07:00", "06:59:59", true}, {"22:00", "07:00", "07:00:00", false}, {"12:00", "14:00", "13:00:00", true},
		{"12:00", "14:00", "14:00:00", false}, {"12:00", "14:00", "03:00:00", false}, {"00:00", "06:00", "00:00:00", true},
	} {
		h, err := ParseHours(test.from, test.to)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Contain(at(test.at)); got != test.want {
			t.Errorf("%s–%s at %s: %v", test.from, test.to, test.at, got)
		}
	}
	for _, bad := range [][2]string{{"22", "07:00"}, {"22:00", ""}, {"", "07:00"}, {"25:00", "07:00"}, {"08:00", "08:00"}} {
		if _, err := ParseHours(bad[0], bad[1]); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
