package protocol

import "slices"

// Paths that a test call may have to take. Without one it takes whichever is found.
const (
	DirectPath  = "direct"  // no relay is offered to either end
	RelayedPath = "relayed" // the terminal offers relayed candidates alone: RelayOnly in the robot's invitation
)

// RehearsalParts are those of a rehearsal, in their order.
func RehearsalParts() []string {
	return []string{"call.direct", "call.relayed", "microphone", "loudspeaker"}
}

// Rehearsal says how the parts of a call went when nobody called: an event, and part of Health. Its numbers are all that a rehearsal leaves.
type Rehearsal struct {
	Version uint            `cbor:"1,keyasint"`
	At      Time            `cbor:"2,keyasint"` // when the last of its parts was rehearsed
	Asked   bool            `cbor:"3,keyasint"` // by the clinic, on a person's wish; else it was time
	Parts   []RehearsalPart `cbor:"4,keyasint"` // in the order of RehearsalParts; what was never rehearsed is left out
}

// RehearsalPart is the last result of one part. Parts are rehearsed at different times: the loudspeaker is not heard at night.
type RehearsalPart struct {
	Name  string `cbor:"1,keyasint"`
	At    Time   `cbor:"2,keyasint"`
	State string `cbor:"3,keyasint"` // CheckPassed, CheckFailed or CheckSkipped
	Code  Code   `cbor:"4,keyasint,omitempty"`
	Took  uint32 `cbor:"5,keyasint,omitempty"` // ms from the ring until picture and sound had a way
	Loss  uint16 `cbor:"6,keyasint,omitempty"` // ‰ of the packets that should have reached the terminal
}

const maxTook = 10 * 60 * 1000

func (r *Rehearsal) valid() error {
	if err := checkVersion(r.Version); err != nil {
		return err
	}
	names := RehearsalParts()
	if r.At <= 0 || len(r.Parts) == 0 || len(r.Parts) > len(names) {
		return malformed("rehearsal lacks a time, or has %d parts", len(r.Parts))
	}
	last := -1
	for _, p := range r.Parts {
		place := slices.Index(names, p.Name)
		if place <= last {
			return malformed("parts of a rehearsal out of order, or not known")
		}
		last = place
		if p.State != CheckPassed && p.State != CheckFailed && p.State != CheckSkipped || (p.State == CheckPassed) != (p.Code == "") {
			return malformed("a part of a rehearsal has a code if, and only if, it did not pass")
		}
		if p.At <= 0 || p.At > r.At || p.Took > maxTook || p.Loss > 1000 {
			return malformed("part of a rehearsal out of bounds")
		}
		if p.Code != "" {
			if err := p.Code.valid(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Part returns the last result of a part, and whether there is one.
func (r *Rehearsal) Part(name string) (RehearsalPart, bool) {
	if r != nil {
		if i := slices.IndexFunc(r.Parts, func(p RehearsalPart) bool { return p.Name == name }); i >= 0 {
			return r.Parts[i], true
		}
	}
	return RehearsalPart{}, false
}

// With returns the rehearsal with these parts in place of earlier ones of their names. r may be nil, and is not changed.
func (r *Rehearsal) With(at Time, asked bool, parts ...RehearsalPart) *Rehearsal {
	next := &Rehearsal{Version: Version, At: at, Asked: asked}
	for _, name := range RehearsalParts() {
		if i := slices.IndexFunc(parts, func(p RehearsalPart) bool { return p.Name == name }); i >= 0 {
			next.Parts = append(next.Parts, parts[i])
		} else if p, ok := r.Part(name); ok {
			p.At = min(p.At, at) // the clock may have been put right since
			next.Parts = append(next.Parts, p)
		}
	}
	return next
}

// Verdict says whether a call would have worked when it was rehearsed last, when that was, and why not: the cause, or of a ready terminal what is wrong all the same. at is 0
// if no call was rehearsed. One path is enough to be ready: which one a call takes is for the networks at both ends to say.
func (r *Rehearsal) Verdict() (ready bool, at Time, cause Code) {
	var failed Code
	for _, name := range []string{"call.direct", "call.relayed"} {
		p, ok := r.Part(name)
		switch {
		case !ok || p.State == CheckSkipped:
			continue
		case p.State == CheckPassed:
			ready = true
		case failed == "":
			failed = p.Code
		}
		at = max(at, p.At)
	}
	if at != 0 && !ready {
		return false, at, failed
	}
	for _, c := range r.Conditions() {
		return ready, at, c
	}
	return ready, at, ""
}

// Conditions are those of the register that a rehearsal found to hold. Only what it was told can end them: the next good one.
func (r *Rehearsal) Conditions() []Code {
	var codes []Code
	direct, isDirect := r.Part("call.direct")
	relayed, isRelayed := r.Part("call.relayed")
	works := isDirect && direct.State == CheckPassed || isRelayed && relayed.State == CheckPassed
	fails := isRelayed && relayed.State == CheckFailed
	switch {
	case fails && works:
		codes = append(codes, ICENoRelayed)
	case !works && (fails || isDirect && direct.State == CheckFailed):
		codes = append(codes, MediaRehearsal)
	}
	for _, name := range []string{"microphone", "loudspeaker"} {
		if p, ok := r.Part(name); ok && p.State == CheckFailed && slices.Contains([]Code{CaptureSilent, CaptureLoud, CaptureNoEcho}, p.Code) {
			codes = append(codes, p.Code) // that there is none the inventory says
		}
	}
	return codes
}

// Window is when a terminal may rehearse by itself: minutes since midnight on the home's clocks. From is in it, To is not; To before From reaches into the next day.
type Window struct {
	From uint16 `cbor:"1,keyasint"`
	To   uint16 `cbor:"2,keyasint"`
}

func (w *Window) valid() error {
	if w.From >= minutes || w.To >= minutes || w.From == w.To {
		return malformed("window for rehearsals out of bounds")
	}
	return nil
}
