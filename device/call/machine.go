package call

import (
	"time"

	"vindu/protocol"
)

// Phase is a phase of a call.
//
//	             ┌─────────── not proven · busy · quiet · refused · caller gone ────────┐
//	             │                                                                      ▼
//	idle ──► verifying ──proven──► ringing ──ring over──► connecting ──opened──► talking
//	 ▲                               │      or taken        │                      │
//	 │                               └─ no · nobody · hang-up · failed · lost · lapsed ┤
//	 └───── shown: ended ◄── camera and microphone closed ── ending ◄──────────────┘
//
// Where policy asks, the ring's end ends the call, and only somebody at the terminal who takes it makes it go on. An authorisation that is over ends
// the call that was made by it, in every phase.
//
// While a call runs, others may join it and leave again (R14): each by an invitation of their own to this call, proven like the first. The call is the
// caller's, and ends with the caller's end.
//
// ICE and DTLS run during ringing. Connecting waits for what is still missing after the ring: the path, and for a
// moment the caller's picture (see first, be seen second). Then the answer goes out, and only then devices open.
type Phase uint8

const (
	Idle Phase = iota
	Verifying
	Ringing
	Connecting
	Talking
	Ending
)

func (p Phase) String() string {
	return [...]string{"idle", "verifying", "ringing", "connecting", "talking", "ending"}[p]
}

// Who ends a call.
type Who uint8

const (
	ByPatient  Who = iota + 1 // hang-up, or "no" while it rings
	ByCaller                  // a proven End of the caller
	ByTerminal                // the terminal's program stops
)

// State is all that Next knows. The zero State is idle.
type State struct {
	Phase     Phase
	Call      protocol.CallID // of every phase but Idle
	SeeFirst  time.Duration   // from policy
	Longest   time.Duration   // from policy
	Ask       bool            // from policy: it has to be taken
	Prepared  bool            // the session exists and ringing was sent
	Rung      bool            // the ring is over
	Connected bool            // the path is up and proven, now
	Seen      bool            // the caller's picture is on the screen, or has been waited for
	Seeing    bool            // it is being waited for
	Answered  bool            // the answer was sent
	Open      bool            // camera and microphone were told to open, and may be
	LinkDown  bool            // the clinic cannot be reached, now
	Moving    bool            // another path is looked for
	Reason    protocol.Code   // why it ends; set while Ending, and while Verifying if it ends before it began
	No        bool            // the person at the terminal ended it before it was answered
	Joined    Places          // who takes part besides the caller
	Leaving   Places          // of Joined: to whom something may still go
	Drawn     Curtains        // whose curtain is drawn
	Blanked   bool            // camera and microphone are closed for a curtain
	Blanking  bool            // they are being closed, or opened again
}

// Places are a set of places on the roster. Place 0 is the caller's, and in no set.
type Places uint8

// Has tells whether a place is in the set.
func (p Places) Has(place uint8) bool { return p&(1<<place) != 0 }

func (p Places) with(place uint8) Places    { return p | 1<<place }
func (p Places) without(place uint8) Places { return p &^ (1 << place) }

// Timer names a time limit.
type Timer uint8

const (
	TimerRing          Timer = iota + 1 // policy's ring
	TimerConnect                        // from the end of the ring to a path
	TimerSee                            // policy's SeeFirst
	TimerPath                           // a lost path may come back
	TimerLink                           // a lost link to the clinic may come back
	TimerMax                            // policy's longest call
	TimerEnded                          // how long "ended" stays on the screen
	TimerAuthorisation                  // how long the caller's authorisation lasts
	TimerCurtain                        // how long it is said before camera and microphone open again
)

func (t Timer) String() string {
	return [...]string{"none", "ring", "connect", "see", "path", "link", "max", "ended", "authorisation", "curtain"}[t]
}

// Limits that are not policy.
const (
	ConnectLimit = 15 * time.Second
	PathLimit    = 8 * time.Second // ICE says "disconnected" some seconds after the last sign of life (RFC 7675)
	// MoveLimit is how long another path may be looked for, however often the caller asks: with PathLimit before it, a call is without a path for at most 20 s.
	MoveLimit  = 12 * time.Second
	LinkLimit  = 7 * time.Second
	EndedShown = 8 * time.Second
	LiftAfter  = 3 * time.Second // so that nobody is seen unawares
)

// Event is something that happened. Those about a call carry its id; an event about another call than the
// running one does not fit.
type Event interface{ event() }

type (
	// Invited: an invitation came. Nothing about it is proven.
	Invited struct{ Call protocol.CallID }
	// Proven: the invitation is proven, and this is what policy says.
	Proven struct {
		Call     protocol.CallID
		Decision Decision
		Lasts    time.Duration // of the caller's authorisation, from now; 0: as long as the call
	}
	// Unproven: the invitation is refused.
	Unproven struct {
		Call protocol.CallID
		Code protocol.Code
	}
	// Taken: somebody at the terminal takes the call.
	Taken struct{ Call protocol.CallID }
	// Prepared: the session exists.
	Prepared struct{ Call protocol.CallID }
	// Connected: the path is up and the far end proven.
	Connected struct{ Call protocol.CallID }
	// Disconnected: the path gives no sign of life.
	Disconnected struct{ Call protocol.CallID }
	// Moved: the caller has proven to look for another path in this call (an ICE restart).
	Moved struct{ Call protocol.CallID }
	// Seen: the caller's picture is on the screen.
	Seen struct{ Call protocol.CallID }
	// Opened: the session sends.
	Opened struct{ Call protocol.CallID }
	// Joins: the invitation of another to this call is proven, and they have this place on the roster.
	Joins struct {
		Call  protocol.CallID
		Place uint8
	}
	// Leaves: one who joined has proven to leave, or may not take part any more.
	Leaves struct {
		Call  protocol.CallID
		Place uint8
	}
	// Left: nothing goes to them any more, or never did.
	Left struct {
		Call  protocol.CallID
		Place uint8
	}
	// Failed: the session could not be prepared or opened, or is over.
	Failed struct {
		Call protocol.CallID
		Code protocol.Code
	}
	// HungUp: somebody ended the call.
	HungUp struct {
		Call   protocol.CallID
		By     Who
		Reason protocol.Code
	}
	// Link: the connection to the clinic went (Up false) or came.
	Link struct{ Up bool }
	// Elapsed: a time limit that was started has passed.
	Elapsed struct{ Timer Timer }
	// SessionClosed: camera and microphone are closed and the session is over.
	SessionClosed struct{ Call protocol.CallID }
	// Curtained: an end has drawn its curtain, proven, or opened it. The terminal's is drawn by a button.
	Curtained struct {
		Call  protocol.CallID
		By    Who
		Drawn bool
	}
	// Blanked: camera and microphone are closed for a curtain, or open again.
	Blanked struct {
		Call   protocol.CallID
		Closed bool
	}
)

func (Invited) event()       {}
func (Proven) event()        {}
func (Unproven) event()      {}
func (Taken) event()         {}
func (Prepared) event()      {}
func (Connected) event()     {}
func (Disconnected) event()  {}
func (Moved) event()         {}
func (Seen) event()          {}
func (Opened) event()        {}
func (Joins) event()         {}
func (Leaves) event()        {}
func (Left) event()          {}
func (Failed) event()        {}
func (HungUp) event()        {}
func (Link) event()          {}
func (Elapsed) event()       {}
func (SessionClosed) event() {}
func (Curtained) event()     {}
func (Blanked) event()       {}

// Effect is something to do, in the order given.
type Effect interface{ effect() }

type (
	// Verify the invitation and ask policy; leads to Proven or Unproven.
	Verify struct{}
	// RefuseBusy verifies another call's invitation and answers that the terminal is busy.
	RefuseBusy struct{ Call protocol.CallID }
	// Refuse the invitation that is not proven, and report it (R18).
	Refuse struct{ Code protocol.Code }
	// Decline the proven invitation with a signed answer.
	Decline struct{ Decision protocol.Decision }
	// Prepare the session; leads to Prepared or Failed.
	Prepare struct{}
	// SendRinging sends the signed answer "ringing" with the session's description.
	SendRinging struct{}
	// SendAnswered sends the signed answer "answered".
	SendAnswered struct{}
	// Open camera and microphone; leads to Opened or Failed.
	Open struct{}
	// Move has the session look for another path. Whom it is with, and what is open, stays as it is.
	Move struct{}
	// Admit one who joins to the session, to see and hear and be seen and heard. They are on the screen before. Leads to Left if it fails.
	Admit struct{ Place uint8 }
	// Dismiss one who leaves from the session; leads to Left. They are on the screen until then.
	Dismiss struct{ Place uint8 }
	// Chime tells by a sound that somebody has come or gone.
	Chime struct{}
	// Close the session, if there is one, and whatever it has open; leads to SessionClosed.
	Close struct{}
	// Blank closes camera and microphone, and lets the far end's picture and sound out no more; the path stays. Leads to Blanked, or to Failed.
	Blank struct{}
	// Unblank undoes Blank; leads to Blanked, or to Failed.
	Unblank struct{}
	// SendCurtain tells the far end, signed, whether the patient's curtain is drawn and whether camera and microphone are closed for one.
	SendCurtain struct{}
	// Finish writes the record, and the signed end if the invitation was accepted.
	Finish struct {
		Reason   protocol.Code
		Accepted bool
	}
	// Ring starts or stops the bell.
	Ring struct{ On bool }
	// Show a scene. AnswersIn is how long a ringing call still rings; Ask, that it has to be taken meanwhile.
	Show struct {
		Scene     Scene
		AnswersIn time.Duration
		Ask       bool
		Drawn     Curtains // whose curtain is; of SceneInCall
		Closed    bool     // camera and microphone are, for one
		Lifting   bool     // it was, and camera and microphone come back in a moment
		Reason    protocol.Code
	}
	// Start a timer anew; leads to Elapsed.
	Start struct {
		Timer Timer
		After time.Duration
	}
	// Stop a timer, if it runs.
	Stop struct{ Timer Timer }
	// StopAll stops every timer.
	StopAll struct{}
)

func (Verify) effect()       {}
func (RefuseBusy) effect()   {}
func (Refuse) effect()       {}
func (Decline) effect()      {}
func (Prepare) effect()      {}
func (SendRinging) effect()  {}
func (SendAnswered) effect() {}
func (Open) effect()         {}
func (Move) effect()         {}
func (Admit) effect()        {}
func (Dismiss) effect()      {}
func (Chime) effect()        {}
func (Close) effect()        {}
func (Blank) effect()        {}
func (Unblank) effect()      {}
func (SendCurtain) effect()  {}
func (Finish) effect()       {}
func (Ring) effect()         {}
func (Show) effect()         {}
func (Start) effect()        {}
func (Stop) effect()         {}
func (StopAll) effect()      {}

// Next says what an event leads to. It is pure. An event that does not fit leaves the state as it is and has
// no effects.
func Next(s State, e Event) (State, []Effect) {
	if inv, ok := e.(Invited); ok {
		switch {
		case s.Phase == Idle:
			return State{Phase: Verifying, Call: inv.Call, LinkDown: s.LinkDown}, []Effect{Verify{}}
		case inv.Call == s.Call:
			return s, nil // the same invitation again
		default:
			return s, []Effect{RefuseBusy{inv.Call}}
		}
	}
	if call, about := callOf(e); about && (call != s.Call || s.Phase == Idle) {
		return s, nil
	}
	switch s.Phase {
	case Idle:
		switch e := e.(type) {
		case Elapsed:
			if e.Timer == TimerEnded {
				return s, []Effect{Show{Scene: SceneReady}}
			}
		case Link:
			s.LinkDown = !e.Up
		}
	case Verifying:
		return verifying(s, e)
	case Ringing, Connecting, Talking:
		return running(s, e)
	case Ending:
		switch e := e.(type) {
		case Link:
			s.LinkDown = !e.Up
		case SessionClosed:
			effects := []Effect{
				Show{Scene: SceneEnded, Reason: s.Reason},
				Finish{Reason: s.Reason, Accepted: true},
				Start{TimerEnded, EndedShown},
			}
			return idle(s), effects
		}
	}
	return s, nil
}

// idle is what is left when a call is over.
func idle(s State) State { return State{LinkDown: s.LinkDown} }

func callOf(e Event) (protocol.CallID, bool) {
	switch e := e.(type) {
	case Proven:
		return e.Call, true
	case Unproven:
		return e.Call, true
	case Taken:
		return e.Call, true
	case Prepared:
		return e.Call, true
	case Connected:
		return e.Call, true
	case Disconnected:
		return e.Call, true
	case Moved:
		return e.Call, true
	case Seen:
		return e.Call, true
	case Opened:
		return e.Call, true
	case Joins:
		return e.Call, true
	case Leaves:
		return e.Call, true
	case Left:
		return e.Call, true
	case Failed:
		return e.Call, true
	case HungUp:
		return e.Call, true
	case SessionClosed:
		return e.Call, true
	case Curtained:
		return e.Call, true
	case Blanked:
		return e.Call, true
	}
	return protocol.CallID{}, false
}

func verifying(s State, e Event) (State, []Effect) {
	switch e := e.(type) {
	case Unproven:
		return idle(s), []Effect{Refuse{e.Code}}
	case HungUp:
		// Kept until it is known whether there was a call at all.
		if s.Reason == "" {
			s.Reason, s.No = e.Reason, e.By == ByPatient
		}
		return s, nil
	case Link:
		s.LinkDown = !e.Up
		return s, nil
	case Proven:
		switch {
		case s.No:
			return idle(s), []Effect{Decline{protocol.Declined}, Finish{Reason: protocol.AnswerDeclined}}
		case s.Reason != "":
			return idle(s), []Effect{Decline{protocol.Refused}, Finish{Reason: s.Reason}}
		case e.Decision.Decision != protocol.Ringing:
			reason := e.Decision.Reason
			if reason == "" {
				reason = e.Decision.Decision.Outcome()
			}
			return idle(s), []Effect{Decline{e.Decision.Decision}, Finish{Reason: reason}}
		case e.Decision.Ask && e.Decision.Ring <= 0: // there is no time to take it in
			return idle(s), []Effect{Decline{protocol.Refused}, Finish{Reason: protocol.AnswerNobody}}
		}
		s.Phase = Ringing
		s.SeeFirst, s.Longest, s.Ask = e.Decision.SeeFirst, e.Decision.MaxDuration, e.Decision.Ask
		s.Seen = s.SeeFirst <= 0
		effects := []Effect{Prepare{}, Stop{TimerEnded}, Show{Scene: SceneRinging, AnswersIn: e.Decision.Ring, Ask: s.Ask}}
		if e.Lasts > 0 {
			effects = append(effects, Start{TimerAuthorisation, e.Lasts})
		}
		if s.LinkDown {
			effects = append(effects, Start{TimerLink, LinkLimit})
		}
		if e.Decision.Ring > 0 {
			return s, append(effects, Ring{true}, Start{TimerRing, e.Decision.Ring})
		}
		s.Rung = true
		s.Phase = Connecting
		return s, append(effects, Start{TimerConnect, ConnectLimit})
	}
	return s, nil
}

func running(s State, e Event) (State, []Effect) {
	switch e := e.(type) {
	case Taken:
		if s.Phase != Ringing || !s.Ask {
			return s, nil
		}
		s.Phase, s.Rung = Connecting, true
		return advance(s, Ring{false}, Stop{TimerRing}, Show{Scene: SceneRinging}, Start{TimerConnect, ConnectLimit})
	case Prepared:
		if s.Prepared {
			return s, nil
		}
		s.Prepared = true
		return advance(s, SendRinging{})
	case Connected:
		if s.Connected || !s.Prepared {
			return s, nil
		}
		s.Connected, s.Moving = true, false
		if s.Answered && !s.Open && s.Drawn == 0 && !s.Blanked && !s.Blanking { // the path was lost when the curtain was opened
			return settle(s, Stop{TimerPath})
		}
		return advance(s, Stop{TimerPath})
	case Disconnected:
		if !s.Connected {
			return s, nil
		}
		s.Connected = false
		if s.Moving {
			return s, []Effect{Start{TimerPath, MoveLimit}}
		}
		return s, []Effect{Start{TimerPath, PathLimit}}
	case Moved:
		switch {
		case !s.Connected && !s.Answered: // there was no path yet
			return s, nil
		case s.Connected || s.Moving: // the path's loss has still to be told, or its time runs
			s.Moving = true
			return s, []Effect{Move{}}
		}
		s.Moving = true
		return s, []Effect{Start{TimerPath, MoveLimit}, Move{}}
	case Seen:
		if s.Seen {
			return s, nil
		}
		s.Seen, s.Seeing = true, false
		return advance(s, Stop{TimerSee})
	case Opened:
		if s.Phase != Connecting || !s.Open {
			return s, nil
		}
		s.Phase = Talking
		return s, nil
	case Curtained, Blanked:
		return curtain(s, e)
	case Link:
		if e.Up == !s.LinkDown {
			return s, nil
		}
		s.LinkDown = !e.Up
		if s.LinkDown {
			return s, []Effect{Start{TimerLink, LinkLimit}}
		}
		return advance(s, Stop{TimerLink})
	case Joins, Leaves, Left:
		return roster(s, e)
	case Failed:
		return end(s, e.Code)
	case HungUp:
		if e.By == ByPatient && !s.Answered {
			s.No = true
			return end(s, protocol.AnswerDeclined)
		}
		return end(s, e.Reason)
	case Elapsed:
		return elapsed(s, e.Timer)
	}
	return s, nil
}

// roster changes who takes part besides the caller. Whoever joins is shown before anything goes to them, and whoever leaves until nothing does any more.
func roster(s State, e Event) (State, []Effect) {
	switch e := e.(type) {
	case Joins:
		if s.Phase != Talking || !s.Open && !s.Blanked && !s.Blanking || e.Place == 0 || e.Place >= protocol.MaxParties || s.Joined.Has(e.Place) {
			return s, nil
		}
		s.Joined = s.Joined.with(e.Place)
		return s, []Effect{inCall(s), Chime{}, Admit{e.Place}}
	case Leaves:
		if !s.Joined.Has(e.Place) || s.Leaving.Has(e.Place) {
			return s, nil
		}
		s.Leaving = s.Leaving.with(e.Place)
		return s, []Effect{Dismiss{e.Place}}
	case Left:
		if !s.Joined.Has(e.Place) {
			return s, nil
		}
		s.Joined, s.Leaving = s.Joined.without(e.Place), s.Leaving.without(e.Place)
		return s, []Effect{inCall(s), Chime{}}
	}
	return s, nil
}

func elapsed(s State, t Timer) (State, []Effect) {
	switch {
	case t == TimerRing && s.Phase == Ringing && s.Ask:
		return end(s, protocol.AnswerNobody)
	case t == TimerRing && s.Phase == Ringing:
		s.Phase, s.Rung = Connecting, true
		return advance(s, Ring{false}, Start{TimerConnect, ConnectLimit})
	case t == TimerSee && s.Seeing:
		s.Seen, s.Seeing = true, false
		return advance(s)
	case t == TimerConnect && s.Phase == Connecting && !s.Answered:
		if !s.Prepared {
			return end(s, protocol.AnswerTimeout)
		}
		return end(s, protocol.ICEFailed)
	case t == TimerPath && s.Prepared && !s.Connected:
		return end(s, protocol.ICELost)
	case t == TimerLink && s.LinkDown:
		return end(s, protocol.SignalLostClinic)
	case t == TimerAuthorisation:
		return end(s, protocol.EndLapsed)
	case t == TimerMax && s.Answered:
		return end(s, protocol.EndMaxDuration)
	case t == TimerCurtain && s.Phase == Talking && lifting(s) && !s.Blanking:
		s.Blanking = true
		return s, []Effect{inCall(s), Unblank{}}
	}
	return s, nil
}

// advance answers as soon as nothing is missing any more: the ring is over, the path is up, the caller was seen, and the answer can
// be sent.
func advance(s State, effects ...Effect) (State, []Effect) {
	if s.Phase != Connecting || s.Answered || !s.Prepared || !s.Connected || s.LinkDown {
		return s, effects
	}
	if !s.Seen {
		if !s.Seeing {
			s.Seeing = true
			effects = append(effects, Start{TimerSee, s.SeeFirst})
		}
		return s, effects
	}
	s.Answered = true
	s, devices := enter(s)
	effects = append(effects, Stop{TimerConnect}, inCall(s), SendAnswered{}, devices)
	if s.Longest > 0 {
		effects = append(effects, Start{TimerMax, s.Longest})
	}
	return s, effects
}

func end(s State, reason protocol.Code) (State, []Effect) {
	effects := []Effect{Close{}, Ring{false}, StopAll{}}
	s.Joined, s.Leaving, s.Drawn, s.Blanked, s.Blanking = 0, 0, 0, false, false // Close is for all
	if s.No {
		effects = append(effects, Decline{protocol.Declined})
	}
	s.Phase, s.Reason = Ending, reason
	return s, effects
}
