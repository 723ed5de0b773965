package session

import (
	"context"
	"crypto"
	"time"

	"vindu/protocol"
)

// Host is what the terminal can do for a technician; the server of this package asks it only for what the session allows. The first
// six methods are called at any time. Of the others one runs at a time, beside at most one job (Enrol or Check), and must return
// soon after its context ends. An error's code (protocol.CodeOf) and text reach the technician: the text must carry no secret.
type Host interface {
	// Greeting tells who the terminal is; Version is filled in by the server. While Public is empty nobody is answered.
	Greeting() Greeting
	// Signer signs with the terminal's key.
	Signer() crypto.Signer
	// Authorities returns the pinned authorisation keys of the terminal's clinic (DER SubjectPublicKeyInfo); none unless it is set up.
	Authorities() [][]byte
	// Withdrawn tells whether the terminal's clinic has taken the mandate with this id back.
	Withdrawn(mandate protocol.Nonce) bool
	// Now is the time by which mandates are judged. While it is not known it is a floor, which is never ahead, whatever the terminal's own clock says.
	Now() (now time.Time, known bool)
	// AwaitPress asks on the screen for a press of the button, and returns nil once it was pressed after the call began. When it
	// returns, the screen asks no more. In the state KeyAway it asks for a long press, and technician is empty: nobody is known to be one.
	// An error with a code reaches the technician by it; any other, as the end of ctx, says that nobody pressed.
	AwaitPress(ctx context.Context, technician protocol.Party) error

	// Info tells about the terminal; the server fills in Authorised.
	Info(ctx context.Context) (*Info, error)
	// SetNetwork stores and applies n, without waiting for the network to come up. Doing it again changes nothing.
	SetNetwork(ctx context.Context, n *Network) error
	Network(ctx context.Context) (*NetworkState, error)
	ScanNetworks(ctx context.Context) ([]AccessPoint, error)
	SetLanguage(ctx context.Context, tag string) error

	// Enrol spends the voucher and makes the terminal one of that clinic and home. Doing it again with the same voucher is no error.
	// On a terminal that is set up it is the move to another home. Afterwards Greeting, Authorities and Info tell of the new state.
	Enrol(ctx context.Context, v *protocol.Voucher) error
	// CSR returns a certification request (RFC 2986, DER) for the terminal's key.
	CSR(ctx context.Context) ([]byte, error)
	// Install is the end of an enrolment that went through the laptop, otherwise as Enrol.
	Install(ctx context.Context, g *Grant) error
	// Reset destroys the key, the enrolment and all that the terminal keeps; when it returns nil, that is certain, and soon it greets with
	// another key as one from the factory. One from the factory stays as it is.
	Reset(ctx context.Context) error

	// Check runs the acceptance checks; p proves that a technician may have camera and microphone opened now. progress may be
	// called from any goroutine until Check returns.
	Check(ctx context.Context, p *Proof, o CheckOptions, progress func(CheckProgress)) ([]protocol.Check, error)
	// ConfirmHandOver returns nil if all that h says of the terminal and its checks is true. The server then signs it.
	ConfirmHandOver(ctx context.Context, h *protocol.HandOver) error
	// FinishHandOver sends e, whose signatures were verified, to the clinic, at the latest when it is reached. The same
	// h.ID again is no error and sends nothing.
	FinishHandOver(ctx context.Context, h *protocol.HandOver, e *protocol.HandOverEvent) error
}

// CheckProgress is where a run is.
type CheckProgress struct {
	Current string
	Total   int
	Done    []protocol.Check
}

// Proof is a session in which a technician with a valid mandate had the button pressed. Only this package makes one; its zero
// value proves nothing.
type Proof struct {
	technician protocol.Party
	mandate    protocol.Nonce
	pressed    time.Time // with a reading of the monotonic clock, by which alone it is judged
}

// Technician returns who it is.
func (p *Proof) Technician() protocol.Party { return p.technician }

// Mandate returns the id of the mandate.
func (p *Proof) Mandate() protocol.Nonce { return p.mandate }

// Pressed returns how long ago the button was pressed, whatever the terminal's clock was set to since, and false if it was not.
func (p *Proof) Pressed() (ago time.Duration, ok bool) {
	if p == nil || p.pressed.IsZero() {
		return 0, false
	}
	return time.Since(p.pressed), true
}
