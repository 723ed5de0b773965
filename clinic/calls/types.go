package calls

import (
	"errors"
	"fmt"
	"time"

	"vindu/clinic/diagnosis"
	"vindu/protocol"
)

var (
	// ErrNotFound is wrapped when there is no such home, or no such call that this person may see or act on.
	ErrNotFound = errors.New("not found")
	// ErrBadRequest is wrapped when what the caller sent is malformed, too large or out of place; nothing was done.
	ErrBadRequest = errors.New("bad request")
	// ErrTooMany is wrapped when a person, or the whole service, has as many calls or candidates as it may have.
	ErrTooMany = errors.New("too many")
	// ErrStopped is wrapped when the clinic's server is about to stop.
	ErrStopped = errors.New("the server is stopping")
)

// Failure is returned by Start when a call could not be set up; its record is committed.
type Failure struct {
	Call protocol.CallID
	Code protocol.Code
	Err  error // the cause, for the log; may be nil
}

func (f *Failure) Error() string {
	if f.Err != nil {
		return fmt.Sprintf("start call %s: %s: %v", f.Call, f.Code, f.Err)
	}
	return fmt.Sprintf("start call %s: %s", f.Call, f.Code)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Person is the signed-in clinician who calls.
type Person struct {
	ID    string
	Party protocol.Party // as the patient will see it
}

// Request asks for a call.
type Request struct {
	Person Person
	Page   string // names the open page; the call ends when this page's subscription is gone. Empty: any page of the person
	Home   string // the home's ID
	Offer  protocol.SDP
	// Proof is the person's. It names the call, by chance, so that its page can end it whatever becomes of the reply; a name that was used before is refused
	// with ErrBadRequest.
	Proof Proof
	// Test is set, in place of Proof, by the clinic's robot: the name of a test call that the terminal has asked for.
	Test protocol.CallID
	// Path is the one that a test call has to take, protocol.DirectPath or RelayedPath: it is then a rehearsal's. Empty: any.
	Path string
}

// Started is a call on its way to the terminal.
type Started struct {
	Call       protocol.CallID
	Invitation []byte // as it was sent; the caller compares the answer with its SHA-256
	Terminal   protocol.KeyHash
	SPKI       []byte // DER SubjectPublicKeyInfo of the terminal
}

// Kind is what an Update tells.
type Kind string

const (
	KindAnswer    Kind = "answer"    // Answer is set; SDP with the first, ringing one
	KindCandidate Kind = "candidate" // Candidate is set
	KindRestart   Kind = "restart"   // Restart and SDP are set: the terminal's answer to an offer for another path
	KindState     Kind = "state"     // State is set
	KindCurtain   Kind = "curtain"   // Curtain is set
	// KindEnd ends a call: Code is set, and End if the terminal signed one. Where its signed end comes only after the call was over, as
	// after a no, the same follows once more, with End.
	KindEnd Kind = "end"
)

// State is where a call stands at the clinic.
type State string

const (
	Calling State = "calling" // the invitation is on its way
	Ringing State = "ringing" // the terminal has proven itself and rings
	Talking State = "talking" // the terminal says that it has answered
	Ended   State = "ended"
)

// Update is something that a page has to know about one of its calls.
type Update struct {
	Seq       uint64 // ascending; Subscribe takes it to go on where a stream broke off
	Call      protocol.CallID
	Kind      Kind
	State     State // the call's state after this update; always set
	Answer    []byte
	SDP       protocol.SDP
	Restart   []byte // the terminal's signed protocol.Restart
	Candidate *protocol.Candidate
	End       []byte        // the terminal's signed protocol.End
	Curtain   []byte        // the terminal's signed protocol.Curtain
	Code      protocol.Code // why it ended
}

// Record is what is known of one call attempt.
type Record struct {
	Call      protocol.CallID
	Person    Person
	Home      string // ID
	HomeLabel string // as it was at the time of the call
	Terminal  protocol.KeyHash
	SPKI      []byte // of the terminal; what TerminalEnd is verified against
	Errand    string
	RelayOnly bool
	Urgent    bool
	Proof     []byte // canonical protocol.CallProof; nil if nobody was asked
	Rehearsal bool   // of the clinic's robot with a terminal, in which nobody takes part: no person calls, and nothing of the home goes out

	Began     time.Time
	RangAt    time.Time // when the terminal said that it rings; zero if it never did
	TalkingAt time.Time // when the terminal said that it answered; zero if it never did
	EndedAt   time.Time // zero while the call runs

	// Outcome is the clinic's, or one of the halves' where that one knows better. Empty while the call runs.
	Outcome  protocol.Code
	Failure  protocol.Failure // Explain(Outcome)
	Sentence string           // one sentence for people: what and where
	// Diagnosis says what became of the call, where, who acts, and how sure that is; of a call that runs, and in a list, nothing.
	Diagnosis diagnosis.Diagnosis
	NeverLeft bool // it ended in the caller's page; the clinic was not asked to call anybody

	clinic protocol.Code // why it ended, as the clinic saw it

	TerminalEnd  []byte    // signed protocol.End of the terminal, nil if none came
	CallerEnd    []byte    // signed protocol.End of the caller, by the call's own key; nil if the clinic had to end it, or the terminal did
	Curtains     []Curtain // what was proven of them, in the order in which the clinic heard of it; not if its server died in the call
	Present      Present
	TerminalHalf *protocol.CallRecord // nil until it came
	CallerHalf   *protocol.CallRecord // nil until it came
}
