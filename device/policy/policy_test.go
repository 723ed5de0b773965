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
		{"by day", Policy{Enrolled: yes, Screen: yes, Ring: 5, SeeFirst: 6 * time.Second, Longest: 7, Quiet: night}, day, call.Decision{Decision: protocol.Ringing, Ring: 5, SeeFirst: 6 * time.Second, MaxDuration: 7}},
		{"at once, in a trial", Policy{Enrolled: yes, Screen: yes}, day, call.Decision{Decision: protocol.Ringing, SeeFirst: leastSeen}},
		{"at once, in a home", Policy{Enrolled: yes, Screen: yes, Least: 3}, day, call.Decision{Decision: protocol.Ringing, Ring: 3, SeeFirst: leastSeen}},
		{"at night", Policy{Enrolled: yes, Screen: yes, Quiet: night}, day.Add(11 * time.Hour), call.Decision{Decision: protocol.Quiet}},
		{"at night by its own zone", Policy{Enrolled: yes, Screen: yes, Quiet: night, Zone: time.FixedZone("", 10*3600)}, day, call.Decision{Decision: protocol.Quiet}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.policy.Zone == nil {
				test.policy.Zone = time.UTC
			}
			if got := test.policy.Decide(&call.Proof{Invitation: &protocol.Invitation{}}, test.at); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func policyOf(change ...func(*protocol.Policy)) *protocol.Policy {
	p := &protocol.Policy{
		Rules: []protocol.Rule{
			{Group: "doctors", Mode: protocol.ModeRing, After: 20, Urgent: true},
			{Group: "family", Mode: protocol.ModeAsk, After: 45},
			{Group: "former", Mode: protocol.ModeRefuse},
			{Group: "nurses", Mode: protocol.ModeRing, After: 5},
			{Group: "at-once", Mode: protocol.ModeRing},
			{Group: "in-a-blink", Mode: protocol.ModeRing, After: 1, Urgent: true},
			{Group: "soon-no", Mode: protocol.ModeAsk, After: 2},
		},
		Quiet: []protocol.Span{{Days: 0x7f, From: 22 * 60, To: 7 * 60}}, Zone: "Europe/Oslo", Longest: 1800, Volume: 70, Home: "17",
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// TestSigned: callers with an authorisation are judged by the clinic's policy, and by the terminal's configuration only where that is stricter.
func TestSigned(t *testing.T) {
	yes := func() bool { return true }
	noon, night := time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC), time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC)
	ringing := call.Decision{Decision: protocol.Ringing, Ring: 10 * time.Second, SeeFirst: 2 * time.Second, MaxDuration: 30 * time.Minute, Volume: 70, Notice: 40 * time.Second, Home: "17"}
	with := func(change func(*call.Decision)) call.Decision { d := ringing; change(&d); return d }
	lasting := func(c *Policy) { c.Answer = yes }
	for _, test := range []struct {
		name   string
		group  string
		urgent bool
		at     time.Time
		signed *protocol.Policy
		local  func(*Policy)
		want   call.Decision
	}{
		{"longer ring of the terminal's own", "nurses", false, noon, policyOf(), nil, ringing},
		{"longer ring of the policy", "doctors", false, noon, policyOf(), nil, with(func(d *call.Decision) { d.Ring = 20 * time.Second })},
		{"at once", "at-once", false, noon, policyOf(), func(p *Policy) { p.Ring = 0 }, with(func(d *call.Decision) { d.Ring = 5 * time.Second })},
		{"too soon to say no", "in-a-blink", false, noon, policyOf(), func(p *Policy) { p.Ring = 0 }, with(func(d *call.Decision) { d.Ring = 5 * time.Second })},
		{"too soon to say no, urgent", "in-a-blink", true, night, policyOf(), func(p *Policy) { p.Ring = 0 }, with(func(d *call.Decision) { d.Ring, d.Urgent = 5*time.Second, true })},
		{"too soon, where the terminal says little", "at-once", false, noon, policyOf(), func(p *Policy) { p.Ring = 2 * time.Second }, with(func(d *call.Decision) { d.Ring = 5 * time.Second })},
		{"at once and unseen", "at-once", false, noon, policyOf(), func(p *Policy) { p.SeeFirst = 0 }, with(func(d *call.Decision) { d.SeeFirst = leastSeen })},
		{"at once, in a trial", "at-once", false, noon, policyOf(), func(p *Policy) { p.Ring, p.Least = 0, 0 }, with(func(d *call.Decision) { d.Ring = 0 })},
		{"asks for a moment: who takes the call has said yes", "soon-no", false, noon, policyOf(), lasting, with(func(d *call.Decision) { d.Ring, d.Ask = 2*time.Second, true })},
		{"shorter limit of the terminal's own", "nurses", false, noon, policyOf(), func(p *Policy) { p.Longest = time.Minute }, with(func(d *call.Decision) { d.MaxDuration = time.Minute })},
		{"no limit of the terminal's own", "nurses", false, noon, policyOf(), func(p *Policy) { p.Longest = 0 }, ringing},
		{"a group that is refused", "former", false, noon, policyOf(), nil, call.Decision{Decision: protocol.Refused}},
		{"a group that is not named", "police", false, noon, policyOf(), nil, call.Decision{Decision: protocol.Refused}},
		{"a rule of a kind that is not known", "nurses", false, noon, policyOf(func(p *protocol.Policy) { p.Rules[3].Mode = "open" }), nil, call.Decision{Decision: protocol.Refused}},
		{"no policy", "nurses", false, noon, nil, nil, call.Decision{Decision: protocol.Refused}},
		{"nobody to ask for the policy", "nurses", false, noon, nil, func(p *Policy) { p.Signed = nil }, call.Decision{Decision: protocol.Refused}},
		{"as the policy says, where the terminal says nothing", "nurses", false, noon, policyOf(), func(p *Policy) { p.Ring = 0 }, with(func(d *call.Decision) { d.Ring = 5 * time.Second })},
		{"too soft to be heard", "nurses", false, noon, policyOf(func(p *protocol.Policy) { p.Volume = 1 }), nil, with(func(d *call.Decision) { d.Volume = protocol.MinVolume })},
		{"asks", "family", false, noon, policyOf(), lasting, with(func(d *call.Decision) { d.Ring, d.Ask = 45*time.Second, true })},
		{"asks without a key", "family", false, noon, policyOf(), nil, call.Decision{Decision: protocol.Refused, Reason: protocol.AnswerNoKey}},
		{"asks where there is a key but not now", "family", false, noon, policyOf(), func(p *Policy) { p.Answer = func() bool { return false } }, call.Decision{Decision: protocol.Refused, Reason: protocol.AnswerNoKey}},
		{"at night", "nurses", false, night, policyOf(), nil, call.Decision{Decision: protocol.Quiet}},
		{"urgent at night, by who may not", "nurses", true, night, policyOf(), nil, call.Decision{Decision: protocol.Quiet}},
		{"not urgent at night, by who may", "doctors", false, night, policyOf(), nil, call.Decision{Decision: protocol.Quiet}},
		{"urgent at night, by who may", "doctors", true, night, policyOf(), nil, with(func(d *call.Decision) { d.Ring, d.Urgent = 20*time.Second, true })},
		{"urgent by day, by who may", "doctors", true, noon, policyOf(), nil, with(func(d *call.Decision) { d.Ring, d.Urgent = 20*time.Second, true })},
		{"urgent by day, by who may not", "nurses", true, noon, policyOf(), nil, ringing},
		{"urgent in quiet hours of the terminal's own", "doctors", true, night, policyOf(), func(p *Policy) { p.Quiet = Hours{20 * time.Hour, 6 * time.Hour} }, call.Decision{Decision: protocol.Quiet}},
		{"quiet by the terminal's own hours", "nurses", false, noon, policyOf(), func(p *Policy) { p.Quiet = Hours{10 * time.Hour, 12 * time.Hour} }, call.Decision{Decision: protocol.Quiet}},
		{"a zone that is not known", "nurses", false, noon, policyOf(func(p *protocol.Policy) { p.Zone = "Europe/Atlantis" }), nil, call.Decision{Decision: protocol.Refused, Reason: protocol.TimeZone}},
		{"the system's zone", "nurses", false, noon, policyOf(func(p *protocol.Policy) { p.Zone = "Local" }), nil, call.Decision{Decision: protocol.Refused, Reason: protocol.TimeZone}},
		{"a file for a zone", "nurses", false, noon, policyOf(func(p *protocol.Policy) { p.Zone = "../../etc/localtime" }), nil, call.Decision{Decision: protocol.Refused, Reason: protocol.TimeZone}},
		{"an unknown zone, urgent and without quiet hours", "doctors", true, noon, policyOf(func(p *protocol.Policy) { p.Zone, p.Quiet = "x", nil }), nil, call.Decision{Decision: protocol.Refused, Reason: protocol.TimeZone}},
		{"no screen", "doctors", true, noon, policyOf(), func(p *Policy) { p.Screen = nil }, call.Decision{Decision: protocol.Refused, Reason: protocol.ScreenNone}},
		{"not set up", "doctors", true, noon, policyOf(), func(p *Policy) { p.Enrolled = nil }, call.Decision{Decision: protocol.Refused, Reason: protocol.IdentityNone}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Policy{
				Enrolled: yes, Screen: yes, Signed: func() *protocol.Policy { return test.signed }, Ring: 10 * time.Second, SeeFirst: 2 * time.Second, Longest: time.Hour, Zone: time.UTC, Notice: 40 * time.Second,
				Least: protocol.LeastRing * time.Second,
			}
			if test.local != nil {
				test.local(&p)
			}
			proof := &call.Proof{Invitation: &protocol.Invitation{Urgent: test.urgent}, Authorisation: &protocol.Authorisation{Group: test.group}}
			if got := p.Decide(proof, test.at); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestQuietHours: by the clocks of the home, through both changes of summer time, over midnight, and by the day on which a span begins.
func TestQuietHours(t *testing.T) {
	const (
		monday, tuesday = 1 << 0, 1 << 1
		saturday        = 1 << 5
		sunday          = 1 << 6
		every           = 0x7f
	)
	clock := func(h, m int) uint16 { return uint16(h*60 + m) }
	for _, test := range []struct {
		name string
		span protocol.Span
		zone string
		at   string // UTC
		want bool
	}{
		// Norway went to summer time on 2026-03-29 at 01:00 UTC (02:00 became 03:00), and back on 2026-10-25 at 01:00 UTC (03:00 became 02:00).
		{"winter, before", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-01-15T20:59:59Z", false},
		{"winter, from", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-01-15T21:00:00Z", true},
		{"summer, from", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-07-15T20:00:00Z", true},
		{"summer, before", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-07-15T19:59:59Z", false},
		{"the short night, its end", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-03-29T04:59:59Z", true},
		{"the short night, after", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-03-29T05:00:00Z", false},
		{"the long night, its end", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-10-25T05:59:59Z", true},
		{"the long night, after", protocol.Span{Days: every, From: clock(22, 0), To: clock(7, 0)}, "Europe/Oslo", "2026-10-25T06:00:00Z", false},
		{"to an hour that is left out: before", protocol.Span{Days: every, From: clock(22, 0), To: clock(2, 30)}, "Europe/Oslo", "2026-03-29T00:59:59Z", true},
		{"to an hour that is left out: after", protocol.Span{Days: every, From: clock(22, 0), To: clock(2, 30)}, "Europe/Oslo", "2026-03-29T01:00:00Z", false},
		{"from an hour that is left out: before", protocol.Span{Days: every, From: clock(2, 30), To: clock(7, 0)}, "Europe/Oslo", "2026-03-29T00:59:59Z", false},
		{"from an hour that is left out: after", protocol.Span{Days: every, From: clock(2, 30), To: clock(7, 0)}, "Europe/Oslo", "2026-03-29T01:00:00Z", true},
		{"an hour that is left out", protocol.Span{Days: every, From: clock(2, 0), To: clock(3, 0)}, "Europe/Oslo", "2026-03-29T01:00:00Z", false},
		{"an hour that comes twice: the first time", protocol.Span{Days: every, From: clock(2, 0), To: clock(3, 0)}, "Europe/Oslo", "2026-10-25T00:30:00Z", true},
		{"an hour that comes twice: the second time", protocol.Span{Days: every, From: clock(2, 0), To: clock(3, 0)}, "Europe/Oslo", "2026-10-25T01:30:00Z", true},
		{"an hour that comes twice: after", protocol.Span{Days: every, From: clock(2, 0), To: clock(3, 0)}, "Europe/Oslo", "2026-10-25T02:00:00Z", false},
		{"within a day, from", protocol.Span{Days: every, From: clock(12, 0), To: clock(14, 0)}, "Europe/Oslo", "2026-11-24T11:00:00Z", true},
		{"within a day, to", protocol.Span{Days: every, From: clock(12, 0), To: clock(14, 0)}, "Europe/Oslo", "2026-11-24T13:00:00Z", false},
		{"to midnight", protocol.Span{Days: every, From: clock(20, 0), To: 0}, "Europe/Oslo", "2026-11-24T22:59:59Z", true},
		{"midnight", protocol.Span{Days: every, From: clock(20, 0), To: 0}, "Europe/Oslo", "2026-11-24T23:00:00Z", false},
		{"from midnight", protocol.Span{Days: every, From: 0, To: clock(6, 0)}, "Europe/Oslo", "2026-11-24T23:00:00Z", true},
		{"Saturday night into Sunday", protocol.Span{Days: saturday, From: clock(23, 0), To: clock(10, 0)}, "Europe/Oslo", "2026-11-29T08:59:59Z", true}, // a Sunday
		{"Saturday morning", protocol.Span{Days: saturday, From: clock(23, 0), To: clock(10, 0)}, "Europe/Oslo", "2026-11-28T08:00:00Z", false},
		{"Sunday night", protocol.Span{Days: saturday, From: clock(23, 0), To: clock(10, 0)}, "Europe/Oslo", "2026-11-29T22:30:00Z", false},
		{"Sunday night into Monday", protocol.Span{Days: sunday, From: clock(23, 0), To: clock(10, 0)}, "Europe/Oslo", "2026-11-30T08:00:00Z", true},
		{"the Saturday before the short night into it", protocol.Span{Days: saturday, From: clock(23, 0), To: clock(10, 0)}, "Europe/Oslo", "2026-03-29T07:59:59Z", true},
		{"Monday only", protocol.Span{Days: monday, From: clock(12, 0), To: clock(14, 0)}, "Europe/Oslo", "2026-11-30T11:30:00Z", true},
		{"not Tuesday", protocol.Span{Days: monday, From: clock(12, 0), To: clock(14, 0)}, "Europe/Oslo", "2026-12-01T11:30:00Z", false},
		{"the day is the home's: already Tuesday there", protocol.Span{Days: tuesday, From: 0, To: clock(1, 0)}, "Europe/Oslo", "2026-11-30T23:30:00Z", true},
		{"still Monday there", protocol.Span{Days: monday, From: clock(17, 0), To: clock(20, 0)}, "America/New_York", "2026-12-01T00:30:00Z", true},
		{"a zone of half hours", protocol.Span{Days: every, From: clock(5, 30), To: clock(5, 31)}, "Asia/Kolkata", "2026-11-24T00:00:59Z", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, test.at)
			if err != nil {
				t.Fatal(err)
			}
			zone, err := Zone(&protocol.Policy{Zone: test.zone})
			if err != nil {
				t.Fatal(err)
			}
			spans := []protocol.Span{{Days: 0, From: 0, To: 1}, test.span}
			if got := quiet(spans, at.In(zone)); got != test.want {
				t.Errorf("at %s: %v", at.In(zone).Format("Monday 15:04:05"), got)
			}
			p := Policy{Signed: func() *protocol.Policy { return &protocol.Policy{Quiet: spans, Zone: test.zone} }, Zone: time.UTC}
			if got := p.Rests(at); got != test.want {
				t.Errorf("at %s the screen rests: %v", at.In(zone).Format("Monday 15:04:05"), got)
			}
		})
	}
	if quiet(nil, time.Now()) {
		t.Error("quiet by no hours at all")
	}
}

// TestRests: the screen rests in the terminal's own quiet hours, too, and not by a policy whose zone nobody knows.
func TestRests(t *testing.T) {
	night, err := ParseHours("22:00", "07:00")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC)
	signed := func(zone string) func() *protocol.Policy {
		return func() *protocol.Policy {
			return &protocol.Policy{Quiet: []protocol.Span{{Days: 0x7f, From: 0, To: 12 * 60}}, Zone: zone}
		}
	}
	for _, test := range []struct {
		name   string
		policy Policy
		want   bool
	}{
		{"no hours", Policy{}, false}, {"its own", Policy{Quiet: night}, true}, {"its own, elsewhere", Policy{Quiet: night, Zone: time.FixedZone("", 10*3600)}, false},
		{"no policy", Policy{Signed: func() *protocol.Policy { return nil }}, false}, {"the clinic's", Policy{Signed: signed("Europe/Oslo")}, true},
		{"the clinic's, over by then", Policy{Signed: signed("UTC")}, false}, {"in no zone", Policy{Signed: signed("Mars")}, false},
	} {
		if test.policy.Zone == nil {
			test.policy.Zone = time.UTC
		}
		if got := test.policy.Rests(at); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestZonesAreBuiltIn: a terminal whose system has no time zones knows them.
func TestZonesAreBuiltIn(t *testing.T) {
	t.Setenv("ZONEINFO", "/nowhere")
	for _, zone := range []string{"Europe/Oslo", "Arctic/Longyearbyen", "UTC"} {
		if _, err := Zone(&protocol.Policy{Zone: zone}); err != nil {
			t.Error(err)
		}
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
