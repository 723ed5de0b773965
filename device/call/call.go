// Package call runs the calls of a terminal: it lets nobody in whose invitation is not proven, tells the person at
// the terminal who calls, opens camera and microphone, and closes them before it says that the call has ended.
//
// The rules are a pure function, Next, from a State and an Event to the next State and the Effects to carry
// out; the diagram stands on Phase. A Runner owns the state in one goroutine and carries the effects out by the
// interfaces that this package declares: Media, Sender, Outbox, Prover, Policy, View, Bell and Store.
//
// Guarantees, each kept by a test:
//   - Camera and microphone open only after an invitation was proven, the terminal answered, and the caller's
//     end of the media path was proven by DTLS to be the one that the invitation names.
//   - Every opening and closing is in the outbox: an opening that cannot be recorded does not happen.
//   - "The call has ended" is shown only after both are closed. A device that will not close ends the process,
//     and so closes (ErrDeviceStuck).
//   - A proven invitation counts once, also across a restart (Store).
//   - A call ends with the authorisation by which it was made, link or no link, by whichever clock says so first.
//   - Where policy asks, nothing opens unless somebody at the terminal took the call.
//   - Whoever says no at the terminal is obeyed in every phase.
//   - A call that was running when the process died is reported at the next start as power.restarted_in_call.
package call

import (
	"context"
	"errors"
	"time"

	"vindu/protocol"
)

// ErrDeviceStuck is returned by Run when camera or microphone could not be closed in time. The process has to exit:
// the kernel then closes them.
var ErrDeviceStuck = errors.New("camera or microphone did not close")

// Media makes the picture and sound of calls.
type Media interface {
	// Prepare answers an offer and starts to connect. It opens neither camera nor microphone. The error may carry a
	// protocol.Code by way of MediaError. When ctx ends, Prepare gives up; it does not end a session that it returned.
	Prepare(ctx context.Context, offer Offer) (Session, error)
}

// Offer is what a session is made from. All of it is proven.
type Offer struct {
	Call      protocol.CallID
	SDP       protocol.SDP
	Remote    protocol.Fingerprint // the only certificate that the far end may show
	ICE       []protocol.ICEServer
	RelayOnly bool
	Parties   []protocol.Party // who is at the far end
	Volume    uint8            // of the far end's sound, percent; 0: as it is
	Ledger    Ledger
}

// Ledger is told of every opening and closing of camera and microphone.
type Ledger interface {
	// Opening is called before a device is opened. On an error the device must not be opened, unless the error wraps ErrOpen and
	// a driver hangs in the device, so that it does not close.
	Opening(device Device) error
	// Closed is called after a device that Opening allowed was closed, or could not be opened.
	Closed(device Device)
}

// ErrOpen says that a device is on the ledger as open, and may be: the call goes on.
var ErrOpen = errors.New("it is open already")

// Device is one that can see or hear.
type Device string

const (
	Camera     Device = "camera"
	Microphone Device = "microphone"
)

// Session is the media of one call.
type Session interface {
	SDP() protocol.SDP         // the answer
	Key() protocol.Fingerprint // the certificate that this end shows
	AddCandidate(protocol.Candidate) error
	// Events is closed after Close. The session never blocks on it for longer than its own deadline.
	Events() <-chan MediaEvent
	// Open opens camera and microphone and begins to send. A missing camera or a missing microphone is not
	// an error but a MediaCondition; an error means that there is nothing to send or to hear by.
	Open(ctx context.Context) error
	// Close ends everything. It may be called while Open runs, which then gives up. When it returns nil,
	// no camera or microphone is open.
	Close(ctx context.Context) error
	// Report says how the call went. It is complete after Close.
	Report() Report
}

// MediaEventKind says what happened to a session.
type MediaEventKind uint8

const (
	MediaCandidate    MediaEventKind = iota + 1 // Candidate is to be sent to the far end
	MediaConnected                              // the path is up and the far end's certificate is the right one
	MediaDisconnected                           // the path gives no sign of life; it may come back
	MediaSeen                                   // the first picture of the far end is on the screen
	MediaFailed                                 // the session is over, because of Code
	MediaCondition                              // the condition Code holds (On) or no longer holds
)

// MediaEvent is one thing that happened to a session.
type MediaEvent struct {
	Kind      MediaEventKind
	Candidate protocol.Candidate
	Code      protocol.Code
	On        bool
}

// MediaError is an error with the code by which it is reported.
type MediaError struct {
	Code protocol.Code
	Err  error
}

func (e *MediaError) Error() string { return string(e.Code) + ": " + e.Err.Error() }
func (e *MediaError) Unwrap() error { return e.Err }

// Conference is a Session in which more than one far end can take part. In a session that is none, nobody joins a call.
type Conference interface {
	Session
	// Join lets one more take part. It returns when they do, or with an error when they do not, and gives up when ctx ends. Nothing goes to them before
	// it is called.
	Join(ctx context.Context, offer Offer) error
	// Leave ends that the one with this certificate takes part. It may be called while Join runs, which then gives up. When it returns nil,
	// nothing goes to them any more.
	Leave(ctx context.Context, remote protocol.Fingerprint) error
	// Chime plays, among what the loudspeaker plays of the call, that somebody has come or gone. It does not block.
	Chime()
}

// Movable is a Session that can look for another path while it runs. In one that cannot, a path that is lost ends the call.
type Movable interface {
	Session
	// Restart answers an offer for another path between the same two ends, by ICE credentials and candidates that are new: certificates, encryption and media
	// stay, or it is refused. It opens and closes nothing. MediaDisconnected follows at once, and MediaConnected when a path is found.
	Restart(ctx context.Context, offer protocol.SDP) (protocol.SDP, error)
}

// Veiled is a Session whose camera and microphone can be closed for a while and opened again, in which nothing of the far end is seen or heard. A session that is
// none has no curtain, and a call ends that has to draw one.
type Veiled interface {
	Session
	// Curtain draws or opens it. When it returns nil after drawing, no camera or microphone is open; after opening, they may open. The path stays. It may
	// be called while Open runs, and Close while it runs.
	Curtain(ctx context.Context, drawn bool) error
	// Chime plays that something is about to change. It does not block.
	Chime()
}

// Report is a session's share of the call's record.
type Report struct {
	Crypto                protocol.Crypto
	LocalPath, RemotePath string
	Camera, Sound         string // kinds, as in protocol.CallRecord
	Quality               protocol.Quality
	Stages                []Stage
	Pairs                 []protocol.Pair  // that were tried, where no path was found
	Series                *protocol.Series // nil: it was never connected
}

// Stage is an instant of a call's course.
type Stage struct {
	Name string
	At   time.Time
}

// Sender sends to the clinic. It fails fast while there is no connection.
type Sender interface {
	PublishCall(ctx context.Context, m *protocol.CallOut) error
}

// Outbox keeps events until the clinic has them. When Append returns, the event is on disk.
type Outbox interface {
	// body is the canonical encoding of kind's message.
	Append(kind string, body []byte) error
}

// Prover says whether what came about a call proves what it has to. It checks who calls and by what right; the runner checks that the invitation is
// about this terminal, this offer and this moment, and was not used before. It keeps nothing.
type Prover interface {
	// Invite returns what an invite proves, or the code by which it is refused and an error that says why.
	Invite(invite *protocol.Invite, now time.Time) (*Proof, protocol.Code, error)
	// End returns the end, by its caller or by the clinic, of a call that began with p. The error says why it proves nothing.
	End(signed []byte, p *Proof) (*protocol.End, error)
}

// Proof is what an invite proved.
type Proof struct {
	Invitation *protocol.Invitation
	Hash       protocol.Hash // of Invitation's bytes as they came, to which answer and end refer
	// Authorisation is by what right the caller calls; nil where the clinic vouches for the caller.
	Authorisation *protocol.Authorisation
	Passkey       protocol.Hash // SHA-256 of the passkey's public key; zero where there is none
	Counter       uint32        // the passkey's, 0 if it does not count
	Counted       uint32        // how far it had counted when the authorisation was written
}

// Policy decides what a proven invitation leads to.
type Policy interface {
	Decide(p *Proof, now time.Time) Decision
}

// Decision is what policy says about one invitation.
type Decision struct {
	Decision    protocol.Decision // Ringing, Quiet, Shutter, Declined or Refused
	Ring        time.Duration     // from "who is calling" to the answer; may be 0
	SeeFirst    time.Duration     // after the ring, how long to wait for the caller's picture before being seen; may be 0
	MaxDuration time.Duration     // of talking
	Ask         bool              // answered only if somebody at the terminal takes it while it rings
	Urgent      bool              // and the person is told so
	Notice      time.Duration     // of Ring: for how long people are told first what this is, if this home never was
	Home        string            // whose home it is, by the clinic's number
	Volume      uint8             // of the far end's sound, percent; 0: as it is
	Reason      protocol.Code     // why not, on the record, where Decision alone does not say it; may be empty
}

// Scene is what a person is shown.
type Scene uint8

const (
	SceneReady   Scene = iota // nothing happens
	SceneRinging              // somebody proven calls
	SceneInCall               // camera and microphone are, or are about to be, open
	SceneEnded                // they are closed
)

func (s Scene) String() string { return [...]string{"ready", "ringing", "in call", "ended"}[s] }

// Status is what is to be shown, said and reported about the call.
type Status struct {
	Scene      Scene
	Call       protocol.CallID
	Parties    []protocol.Party // who takes part: those, and no others, to whom picture and sound of the terminal go (R12)
	Errand     string
	Code       string          // six digits that the caller sees, too (protocol.CallCode); empty until they are known
	Urgent     bool            // and policy lets it be
	AnswersAt  time.Time       // when a ringing call answers itself; zero if at once
	Notice     time.Duration   // for so long before NoticeEnds people are told what this is, before the first call
	NoticeEnds time.Time       // zero if they were told
	Ask        bool            // it does not: somebody has to take it until TakeBy
	TakeBy     time.Time       //
	Reason     protocol.Code   // of SceneEnded
	Drawn      Curtains        // whose curtain is: nobody sees or hears anybody
	Closed     bool            // camera and microphone are, for one: by now nothing is seen or heard
	Lifting    bool            // none is any more, and camera and microphone come back in a moment
	Conditions []protocol.Code // that hold in this call, in the order in which they arose
}

// View is told of every change of status. It must not block.
type View interface{ Show(Status) }

// Bell rings. It never touches the microphone, and holds nobody up: the session's sound waits for the loudspeaker where it is opened.
type Bell interface {
	// Start says for how long it is going to ring, and for how long of that people are told first what this is: it is soft meanwhile, and no more pressing.
	Start(ring, told time.Duration)
	Stop()
}

// Store keeps one small document across restarts and power cuts.
type Store interface {
	Load() ([]byte, error) // nil, nil if there is none
	Save([]byte) error     // durable when it returns
}
