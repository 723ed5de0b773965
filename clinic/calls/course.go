package calls

import "vindu/protocol"

// course is where a call stands, and why it is being ended if it is.
//
//	         ringing             answered
//	Calling ─────────► Ringing ───────────► Talking
//	   │ no, refused,     │ no, end, lost,     │ end, lost, half
//	   │ end, lost, half, │ half               │
//	   │ hang-up          ▼                    ▼
//	   └───────────────► Ended ◄───────────────┘
//	                      ▲ end, lost, half, no, waited
//	Ringing, Talking ──hang-up──► (the same state, ending: the terminal is told and given time to prove its end)
type course struct {
	state  State
	ending protocol.Code // why; empty while nobody has asked to end it
}

type happening uint8

const (
	terminalRings    happening = iota + 1 // a proven answer: ringing
	terminalAnswers                       // a proven answer: answered
	terminalSaysNo                        // a proven answer with any other decision
	terminalRefuses                       // it did not believe the invitation
	terminalEnds                          // a proven end
	terminalReports                       // its half of the record came: for it, the call is over
	terminalLost                          // it is not there any more
	hangUp                                // the caller, the page's loss, a time limit, or a revocation
	endWaited                             // the time to prove the end is over
	happeningsBeyond                      // the number of happenings, for tests
)

type effect uint8

const (
	forward      effect = iota + 1 // the answer goes to the page
	tellTerminal                   // a signed hang-up goes to the terminal
	finish                         // the call is over: to the page, and on the record
)

// next is what follows when something happens. code is why, where the happening has a reason. fits is false if the happening
// does not fit the state; then nothing changes. The returned code is the call's outcome, if finish is among the effects.
func (c course) next(h happening, code protocol.Code) (to course, effects []effect, outcome protocol.Code, fits bool) {
	if c.state == Ended {
		return c, nil, "", false
	}
	end := func(effects ...effect) (course, []effect, protocol.Code, bool) {
		if c.ending != "" {
			code = c.ending
		}
		return course{Ended, c.ending}, append(effects, finish), code, true
	}
	switch h {
	case terminalRings:
		if c.state == Calling && c.ending == "" {
			return course{state: Ringing}, []effect{forward}, "", true
		}
	case terminalAnswers:
		if c.state == Ringing && c.ending == "" {
			return course{state: Talking}, []effect{forward}, "", true
		}
	case terminalSaysNo:
		if c.state != Talking && c.ending == "" {
			return end(forward)
		}
		if c.ending != "" {
			return end()
		}
	case terminalRefuses:
		if c.state == Calling {
			return end()
		}
	case terminalEnds, terminalReports, terminalLost:
		return end()
	case hangUp:
		switch {
		case c.ending != "":
		case c.state == Calling: // nothing was proven yet that could be ended by proof
			return end(tellTerminal)
		default:
			return course{c.state, code}, []effect{tellTerminal}, "", true
		}
	case endWaited:
		if c.ending != "" {
			return end()
		}
	}
	return c, nil, "", false
}
