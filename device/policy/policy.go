// Package policy decides what a proven call leads to at this terminal: ring and then answer, ask, or not (R11, R14, R25).
//
// A caller with an authorisation is judged by the policy that the clinic has signed for this terminal (protocol.Policy): by the rule for the caller's group, by
// quiet hours on the clocks of the home's time zone, whose database is part of the program. The terminal's configuration can only make it stricter, where it says so itself: ring
// for longer, allow less time, and have quiet hours of its own, which hold for urgent calls, too. A caller for whom the clinic vouches is judged by the configuration
// alone.
//
// No policy, rule or signature skips that people see who calls before they are seen, and have the time to say no: whoever is answered without a person's doing has rung
// for Policy.Least, and the caller's picture is waited for.
//
// It denies by default: a terminal that is not set up, that has no policy, whose policy does not name the caller's group, or that cannot show who is
// calling, answers nobody. Hang-up and "no" are not policy: they always win.
package policy

import (
	"fmt"
	"time"
	_ "time/tzdata" // a terminal's system may have none

	"vindu/device/call"
	"vindu/protocol"
)

// Policy implements call.Policy. The zero Policy refuses everybody.
type Policy struct {
	Enrolled func() bool             // nil: no
	Safe     bool                    // the terminal is in safe mode: it refuses everybody
	Screen   func() bool             // whether the person can see who calls; nil: no
	Answer   func() bool             // whether there is a key by which the person can take a call; nil: no
	Shut     func() bool             // whether the shutter is closed where that refuses calls; nil: no
	Signed   func() *protocol.Policy // the clinic's, or nil; nil: none
	Ring     time.Duration           // at least; 0: as the clinic's policy says
	Least    time.Duration           // what answers by itself has rung for so long, whatever anything else says; less than protocol.LeastRing in trials only
	Notice   time.Duration           // for so long a home is told what this is, before its first call rings; 0: it is not
	SeeFirst time.Duration           // for so long the caller's picture is waited for; at least leastSeen
	Longest  time.Duration           // 0: no limit of the terminal's own
	Quiet    Hours
	Zone     *time.Location // of Quiet; nil: the system's
}

// leastSeen is how long the picture of a caller is waited for, whatever the configuration says.
const leastSeen = time.Second

// Decide implements call.Policy.
func (p *Policy) Decide(proof *call.Proof, now time.Time) call.Decision {
	zone := p.Zone
	if zone == nil {
		zone = time.Local
	}
	switch {
	case p.Enrolled == nil || !p.Enrolled():
		return call.Decision{Decision: protocol.Refused, Reason: protocol.IdentityNone}
	case p.Safe:
		return call.Decision{Decision: protocol.Refused, Reason: protocol.PowerSafe}
	case p.Screen == nil || !p.Screen():
		// Who cannot be told who is calling must not be seen (R24).
		return call.Decision{Decision: protocol.Refused, Reason: protocol.ScreenNone}
	case p.Quiet.Contain(now.In(zone)):
		return call.Decision{Decision: protocol.Quiet}
	}
	d := call.Decision{Decision: protocol.Ringing, Ring: p.Ring, MaxDuration: p.Longest}
	if proof.Authorisation != nil {
		if d = p.signed(proof, now); d.Decision != protocol.Ringing {
			return d
		}
	}
	if p.Shut != nil && p.Shut() { // urgent ones, too: the shutter is the person's own
		return call.Decision{Decision: protocol.Shutter}
	}
	if !d.Ask { // who takes a call has said yes; how long it asks is the rule's
		d.Ring = max(d.Ring, p.Least)
	}
	d.SeeFirst = max(p.SeeFirst, leastSeen)
	return d
}

// signed decides by the clinic's policy.
func (p *Policy) signed(proof *call.Proof, now time.Time) call.Decision {
	var signed *protocol.Policy
	if p.Signed != nil {
		signed = p.Signed()
	}
	if signed == nil {
		return call.Decision{Decision: protocol.Refused}
	}
	rule := signed.Rule(proof.Authorisation.Group)
	if rule.Mode != protocol.ModeRing && rule.Mode != protocol.ModeAsk {
		return call.Decision{Decision: protocol.Refused}
	}
	zone, err := Zone(signed)
	if err != nil {
		return call.Decision{Decision: protocol.Refused, Reason: protocol.TimeZone}
	}
	d := call.Decision{
		Decision: protocol.Ringing, Ring: time.Duration(rule.After) * time.Second, Urgent: rule.Urgent && proof.Invitation.Urgent,
		MaxDuration: time.Duration(signed.Longest) * time.Second, Volume: max(signed.Volume, protocol.MinVolume), Notice: p.Notice, Home: signed.Home,
	}
	if !d.Urgent && quiet(signed.Quiet, now.In(zone)) {
		return call.Decision{Decision: protocol.Quiet}
	}
	if rule.Mode == protocol.ModeAsk {
		if p.Answer == nil || !p.Answer() {
			return call.Decision{Decision: protocol.Refused, Reason: protocol.AnswerNoKey}
		}
		d.Ask = true
	} else {
		d.Ring = max(d.Ring, p.Ring)
	}
	if p.Longest > 0 {
		d.MaxDuration = min(d.MaxDuration, p.Longest)
	}
	return d
}

// Rests tells whether it is quiet at now for those who may not ring urgently: the screen gives little light then, or none.
func (p *Policy) Rests(now time.Time) bool {
	zone := p.Zone
	if zone == nil {
		zone = time.Local
	}
	if p.Quiet.Contain(now.In(zone)) {
		return true
	}
	if p.Signed == nil {
		return false
	}
	signed := p.Signed()
	if signed == nil {
		return false
	}
	zone, err := Zone(signed)
	return err == nil && quiet(signed.Quiet, now.In(zone))
}

// Zone returns the time zone of a policy's quiet hours. One that is not in the IANA time zone database of this program or system is an error: nobody can say
// then when it is quiet.
func Zone(p *protocol.Policy) (*time.Location, error) {
	if p.Zone == "" || p.Zone == "Local" { // Go's own names
		return nil, fmt.Errorf("time zone %q is not known", p.Zone)
	}
	zone, err := time.LoadLocation(p.Zone)
	if err != nil {
		return nil, fmt.Errorf("time zone of the policy: %w", err)
	}
	return zone, nil
}

// quiet tells whether the clocks on the wall show at t what one of the spans contains. So they do when summer time begins and ends: an hour that the
// clocks leave out is in no span, one that they show twice is in it twice.
func quiet(spans []protocol.Span, t time.Time) bool {
	at := uint16(t.Hour()*60 + t.Minute())
	today := (int(t.Weekday()) + 6) % 7 // from Monday
	begins := func(s protocol.Span, day int) bool { return s.Days&(1<<day) != 0 }
	for _, s := range spans {
		switch {
		case s.From < s.To:
			if begins(s, today) && at >= s.From && at < s.To {
				return true
			}
		case begins(s, today) && at >= s.From, begins(s, (today+6)%7) && at < s.To:
			return true
		}
	}
	return false
}

// Hours are a part of each day, to the minute. The zero Hours contain nothing.
type Hours struct {
	From, To time.Duration // since midnight; To may be before From: over midnight
}

// ParseHours reads "22:00" and "07:30"; both empty are no hours.
func ParseHours(from, to string) (Hours, error) {
	if from == "" && to == "" {
		return Hours{}, nil
	}
	var h Hours
	for _, x := range []struct {
		text string
		to   *time.Duration
	}{{from, &h.From}, {to, &h.To}} {
		t, err := time.Parse("15:04", x.text)
		if err != nil {
			return Hours{}, fmt.Errorf("%q is no time of day such as 22:00", x.text)
		}
		*x.to = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	if h.From == h.To {
		return Hours{}, fmt.Errorf("from %s to %s is no time at all", from, to)
	}
	return h, nil
}

// Contain tells whether t's time of day is in h: From is, To is not.
func (h Hours) Contain(t time.Time) bool {
	if h.From == h.To {
		return false
	}
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	if h.From < h.To {
		return at >= h.From && at < h.To
	}
	return at >= h.From || at < h.To
}
