// Package policy decides what a proven call leads to at this terminal: ring and then answer, or not.
//
// It denies by default: a terminal that is not set up, or that cannot show who is calling, answers nobody. Quiet hours are
// hours of the terminal's own day. Hang-up and "no" are not policy: they always win.
package policy

import (
	"fmt"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

// Policy implements call.Policy. The zero Policy refuses everybody.
type Policy struct {
	Enrolled func() bool // nil: no
	Screen   func() bool // whether the person can see who calls; nil: no
	Ring     time.Duration
	SeeFirst time.Duration
	Longest  time.Duration
	Quiet    Hours
	Zone     *time.Location // nil: the system's
}

// Decide implements call.Policy.
func (p *Policy) Decide(_ *call.Proof, now time.Time) call.Decision {
	zone := p.Zone
	if zone == nil {
		zone = time.Local
	}
	switch {
	case p.Enrolled == nil || !p.Enrolled():
		return call.Decision{Decision: protocol.Refused, Reason: protocol.IdentityNone}
	case p.Screen == nil || !p.Screen():
		// Who cannot be told who is calling must not be seen (R24).
		return call.Decision{Decision: protocol.Refused, Reason: protocol.ScreenNone}
	case p.Quiet.Contain(now.In(zone)):
		return call.Decision{Decision: protocol.Quiet}
	}
	d := call.Decision{Decision: protocol.Ringing, Ring: p.Ring, SeeFirst: p.SeeFirst, MaxDuration: p.Longest}
	if p.Ring <= 0 {
		d.SeeFirst = 0 // whoever answers at once does not wait either
	}
	return d
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
