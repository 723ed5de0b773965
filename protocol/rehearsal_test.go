package protocol

import (
	"slices"
	"testing"
)

func TestVerdict(t *testing.T) {
	part := func(name string, at Time, code Code) RehearsalPart {
		p := RehearsalPart{Name: name, At: at, State: CheckPassed, Code: code}
		if code != "" {
			p.State = CheckFailed
		}
		return p
	}
	skipped := func(name string, at Time, code Code) RehearsalPart {
		return RehearsalPart{Name: name, At: at, State: CheckSkipped, Code: code}
	}
	for _, c := range []struct {
		name  string
		parts []RehearsalPart
		ready bool
		at    Time
		cause Code
		holds []Code
	}{
		{"nothing yet", nil, false, 0, "", nil},
		{"all is well", []RehearsalPart{part("call.direct", 8, ""), part("call.relayed", 9, ""), part("microphone", 3, ""), part("loudspeaker", 3, "")}, true, 9, "", nil},
		{"by the relay alone", []RehearsalPart{part("call.direct", 8, ICEFailed), part("call.relayed", 9, "")}, true, 9, "", nil},
		{"not by the relay", []RehearsalPart{part("call.direct", 8, ""), part("call.relayed", 9, EgressRelay)}, true, 9, ICENoRelayed, []Code{ICENoRelayed}},
		{"by neither", []RehearsalPart{part("call.direct", 8, ICEFailed), part("call.relayed", 9, EgressRelay)}, false, 9, ICEFailed, []Code{MediaRehearsal}},
		{"nobody is heard", []RehearsalPart{part("call.direct", 8, ""), part("call.relayed", 9, ""), part("microphone", 3, CaptureSilent), skipped("loudspeaker", 3, CaptureSilent)}, true, 9, CaptureSilent, []Code{CaptureSilent}},
		{"no microphone, which others say", []RehearsalPart{part("call.relayed", 9, ""), part("microphone", 3, CaptureNoMicrophone)}, true, 9, "", nil},
		{"sound alone", []RehearsalPart{part("microphone", 3, ""), part("loudspeaker", 3, CaptureNoEcho)}, false, 0, CaptureNoEcho, []Code{CaptureNoEcho}},
		{"calls that were put off", []RehearsalPart{skipped("call.direct", 8, AnswerBusy), skipped("call.relayed", 8, AnswerBusy)}, false, 0, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Rehearsal{Version: Version, At: 9, Parts: c.parts}
			if ready, at, cause := r.Verdict(); ready != c.ready || at != c.at || cause != c.cause {
				t.Errorf("%v, %d, %q", ready, at, cause)
			}
			if got := r.Conditions(); !slices.Equal(got, c.holds) {
				t.Errorf("conditions %v", got)
			}
		})
	}
	var none *Rehearsal
	if ready, at, cause := none.Verdict(); ready || at != 0 || cause != "" {
		t.Errorf("of none: %v, %d, %q", ready, at, cause)
	}
}

// TestWith: what was rehearsed replaces what was, the rest stays.
func TestWith(t *testing.T) {
	var none *Rehearsal
	r := none.With(5, false, RehearsalPart{Name: "call.relayed", At: 5, State: CheckPassed}, RehearsalPart{Name: "call.direct", At: 4, State: CheckPassed})
	r = r.With(9, true, RehearsalPart{Name: "loudspeaker", At: 9, State: CheckPassed}, RehearsalPart{Name: "call.direct", At: 8, State: CheckFailed, Code: ICEFailed})
	want := []RehearsalPart{{Name: "call.direct", At: 8, State: CheckFailed, Code: ICEFailed}, {Name: "call.relayed", At: 5, State: CheckPassed}, {Name: "loudspeaker", At: 9, State: CheckPassed}}
	if !slices.Equal(r.Parts, want) || r.At != 9 || !r.Asked {
		t.Errorf("%+v", r)
	}
	if back := r.With(3, false, RehearsalPart{Name: "microphone", At: 3, State: CheckPassed}); back.valid() != nil { // the clock went back
		t.Errorf("%+v: %v", back, back.valid())
	}
}
