package agent

import (
	"slices"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/device/screen"
	"vindu/protocol"
)

// situation is all that decides what is on the screen.
type situation struct {
	started    bool // it is known whether the terminal is set up
	enrolled   bool
	online     bool // the link is up
	keyAway    bool // it counts as set up, but its key or enrolment is not there
	lost       bool // and will not be
	code       string
	call       call.Status
	check      acceptance.Status
	returning  bool // it is taken out of use
	returned   bool // and nothing is left of what it was
	conditions []protocol.Code
	pressing   *protocol.Party // the technician for whom the button is to be pressed, or nil
	covered    func()          // is called when that is not on the screen
	resetting  string          // the code to compare while a long press is to give up a key that is not there; "": none is
	button     bool            // there is one by which a person says no, besides the panel's
	panel      bool            // there is one
}

// Conditions in a call by which camera or microphone are not open.
var (
	noCamera = []protocol.Code{
		protocol.CaptureNoCamera, protocol.CaptureCameraBusy, protocol.CaptureCameraFormat, protocol.CaptureCameraGone, protocol.CaptureCameraStuck,
		protocol.AnswerShutter, protocol.PanelMissing, // it has no power
	}
	noMicrophone = []protocol.Code{protocol.CaptureNoMicrophone, protocol.CaptureSoundBusy, protocol.CaptureSoundGone}
)

// disturbed tells whether a person is called or looked at, which the button ends.
func (s *situation) disturbed() bool {
	return s.call.Scene == call.SceneRinging || s.call.Scene == call.SceneInCall || s.check.Running
}

// curtain says whose curtain is drawn, the person's own first: it is the one that she can open.
func curtain(s call.Status) screen.Curtain {
	switch {
	case s.Drawn&call.DrawnByPatient != 0:
		return screen.DrawnHere
	case s.Drawn != 0:
		return screen.DrawnByCaller
	case s.Lifting && s.Closed:
		return screen.Lifting
	}
	return screen.NoCurtain
}

// scene says what a person sees. A call comes before everything else, then a check, then the wish for a press.
func (s *situation) scene() screen.Scene {
	none := func(codes []protocol.Code) bool {
		return !slices.ContainsFunc(s.call.Conditions, func(c protocol.Code) bool { return slices.Contains(codes, c) })
	}
	switch s.call.Scene {
	case call.SceneRinging:
		return screen.Scene{
			Kind: screen.Ringing, Parties: s.call.Parties, Errand: s.call.Errand, AnswersAt: s.call.AnswersAt, Ask: s.call.Ask, Urgent: s.call.Urgent,
			CallCode: s.call.Code, Button: s.button || s.panel, Panel: s.panel, Notice: s.call.Notice, NoticeEnds: s.call.NoticeEnds,
		}
	case call.SceneInCall:
		return screen.Scene{
			Kind: screen.InCall, Parties: s.call.Parties, Camera: none(noCamera) && !s.call.Closed, Microphone: none(noMicrophone) && !s.call.Closed, Faults: s.call.Conditions,
			CallCode: s.call.Code, Button: s.button || s.panel, Panel: s.panel, Curtain: curtain(s.call),
		}
	case call.SceneEnded:
		scene := screen.Scene{
			Kind: screen.Ended, Parties: s.call.Parties, SaidNo: s.call.Reason == protocol.AnswerDeclined, HungUp: s.call.Reason == protocol.EndCallerHungUp,
		}
		if protocol.Explain(s.call.Reason).Who != protocol.Nobody {
			scene.Faults = []protocol.Code{s.call.Reason}
		}
		return scene
	case call.SceneReady:
	}
	switch {
	case s.returning:
		return screen.Scene{Kind: screen.Returned, Panel: s.panel}
	case s.check.Running:
		return screen.Scene{
			Kind: screen.Checking, Parties: []protocol.Party{s.check.Technician}, Camera: s.check.Camera, Microphone: s.check.Microphone, Button: s.button || s.panel, Panel: s.panel,
		}
	case s.pressing != nil:
		return screen.Scene{Kind: screen.Pressing, Parties: []protocol.Party{*s.pressing}, Code: s.code, Panel: s.panel}
	case s.keyAway && (s.lost || s.resetting != ""):
		return screen.Scene{Kind: screen.Lost, Code: s.resetting, Faults: s.conditions, Panel: s.panel}
	case !s.started:
		return screen.Scene{Kind: screen.Starting, Faults: s.conditions}
	case !s.enrolled:
		return screen.Scene{Kind: screen.NotSetUp, Code: s.code, Faults: s.conditions}
	}
	return screen.Scene{Kind: screen.Ready, Offline: !s.online, Faults: s.conditions}
}
