package call_test

import (
	"fmt"

	"vindu/device/call"
	"vindu/protocol"
)

// observer follows one call from outside.
type observer struct {
	proven, connected, answeredSent bool
	asks, taken, lapsed             bool
	prepared, open, closing, closed bool
	linkDown                        bool
	said                            bool           // the person at the terminal said no
	chimed, showed, changed         bool           // somebody was heard to come or go; the roster has changed
	invited, receive                map[uint8]bool // places on the roster: proven, on the screen, to whom picture and sound may go
	joined                          call.Places
	drawn                           call.Curtains
	blanking, blanked, announced    bool // closed for a curtain: asked for, so, and that it ends was said
	bell                            bool
	timers                          map[call.Timer]bool
}

func (o *observer) event(e call.Event) {
	switch e := e.(type) {
	case call.Proven:
		if e.Call == one && e.Decision.Decision == protocol.Ringing {
			if !o.proven {
				o.asks = e.Decision.Ask
			}
			o.proven = true
		}
	case call.Taken:
		if e.Call == one && o.bell {
			o.taken = true
		}
	case call.Elapsed:
		if e.Timer == call.TimerAuthorisation && o.prepared {
			o.lapsed = true
		}
	case call.Joins:
		if e.Call == one && o.invited != nil {
			o.invited[e.Place] = true
		}
	case call.Left:
		if e.Call == one {
			delete(o.receive, e.Place)
		}
	case call.Connected:
		if e.Call == one {
			o.connected = true
		}
	case call.Link:
		o.linkDown = !e.Up
	case call.Disconnected:
		if e.Call == one {
			o.connected = false
		}
	case call.Blanked:
		if e.Call == one && o.blanking {
			o.blanking, o.blanked = false, e.Closed
		}
	case call.SessionClosed:
		if e.Call == one && o.closing {
			o.closed, o.open = true, false
		}
	}
}

func (o *observer) effect(e call.Effect) string {
	if o.timers == nil {
		o.timers = map[call.Timer]bool{}
	}
	switch e := e.(type) {
	case call.Verify:
		*o = observer{timers: o.timers, linkDown: o.linkDown, invited: map[uint8]bool{}, receive: map[uint8]bool{}}
	case call.Admit:
		switch {
		case !o.invited[e.Place]:
			return "somebody was let in who has proven nothing"
		case !o.open && !o.blanked && !o.blanking, o.closing:
			return "somebody was let into what is not open"
		case !o.joined.Has(e.Place) || !o.chimed || !o.showed:
			return "somebody was let in who was not shown and heard to come"
		}
		o.receive[e.Place] = true
	case call.Prepare:
		if !o.proven {
			return "a session without a proven invitation"
		}
		o.prepared = true
	case call.SendRinging:
		if !o.prepared {
			return "ringing was sent without a session"
		}
	case call.SendAnswered:
		if o.linkDown {
			return "answered while the caller cannot be told"
		}
		o.answeredSent = true
	case call.Open:
		switch {
		case !o.proven, !o.prepared, !o.connected, !o.answeredSent:
			return "camera and microphone opened without proof, path and answer"
		case o.asks && !o.taken:
			return "opened although nobody took the call"
		case o.lapsed:
			return "opened after the authorisation was over"
		case o.open, o.closing:
			return "opened twice, or while closing"
		case o.drawn != 0, o.blanking, o.blanked:
			return "opened for the first time behind a curtain"
		}
		o.open = true
	case call.Blank:
		if !o.answeredSent || o.closing || o.blanking {
			return "closed for a curtain what is not open, or is being closed or opened"
		}
		o.blanking, o.announced = true, false
	case call.Unblank:
		switch {
		case o.drawn != 0:
			return "opened behind a drawn curtain"
		case !o.blanked, o.blanking, o.closing:
			return "opened again what is not closed for a curtain"
		case !o.announced:
			return "opened again and nobody was told before"
		}
		o.blanking, o.announced = true, false
	case call.SendCurtain:
		if !o.answeredSent || o.closing {
			return "told of a curtain where there is nothing to hide"
		}
	case call.Ring:
		o.bell = e.On
	case call.Chime:
		o.chimed = true
	case call.Close:
		clear(o.receive)
		if o.closing {
			return "closed twice"
		}
		o.closing, o.blanking, o.blanked, o.announced = true, false, false, false
	case call.Show:
		o.showed = true
		if e.Scene == call.SceneInCall && (o.open && !o.changed || o.bell) {
			return "in-call was shown after opening, or while the bell rings"
		}
		if e.Scene == call.SceneEnded && (o.open || !o.closed) {
			return "ended was shown while something may be open"
		}
		if e.Scene == call.SceneReady && o.prepared && !o.closed {
			return "ready was shown in a call"
		}
	case call.Finish:
		if o.open || (o.prepared && !o.closed) {
			return "the record was written before everything was closed"
		}
	case call.Start:
		o.timers[e.Timer] = true
		o.announced = o.announced || e.Timer == call.TimerCurtain && o.chimed
	case call.Stop:
		delete(o.timers, e.Timer)
		o.announced = o.announced && e.Timer != call.TimerCurtain
	case call.StopAll:
		clear(o.timers)
	}
	return ""
}

func (o *observer) state(s call.State) string {
	for place := range o.receive {
		if !s.Joined.Has(place) {
			return "picture and sound go to somebody who is not on the roster"
		}
	}
	for place := range uint8(8) {
		if s.Joined.Has(place) && !o.receive[place] && s.Phase != call.Idle {
			return "somebody is on the roster to whom nothing goes"
		}
	}
	switch {
	case s.Phase == call.Idle && o.open:
		return "idle with something open"
	case s.Phase == call.Idle && o.bell:
		return "idle with the bell ringing"
	case s.Phase == call.Talking && !o.open && !o.blanked && !o.blanking && o.connected:
		return "talking with nothing open, and a path"
	case o.open && !o.closing && s.Drawn != 0 && !o.blanked && !o.blanking:
		return "camera and microphone are open behind a drawn curtain"
	case s.Blanking != o.blanking, s.Blanked != o.blanked:
		return "camera and microphone are not as the machine takes them to be"
	case s.Phase == call.Ending && !o.closing:
		return "ending without closing"
	case o.lapsed && !o.closing && s.Phase != call.Idle:
		return "the call goes on without an authorisation"
	}
	if s.Phase == call.Ending {
		for timer := range o.timers {
			if timer != call.TimerEnded {
				return fmt.Sprintf("timer %d runs while ending", timer)
			}
		}
	}
	if s.Phase == call.Connecting && !s.Answered && !o.timers[call.TimerConnect] {
		return "connecting without a limit"
	}
	return ""
}
