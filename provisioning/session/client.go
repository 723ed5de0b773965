package session

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"vindu/protocol"
)

const pollTime = 500 * time.Millisecond // of jobs and of the button

// Technician is who uses the laptop.
type Technician struct {
	Key     crypto.Signer // of the laptop, ECDSA P-256
	Mandate []byte        // protocol.Mandate for Key, signed by the clinic; nil if there is none
	Now     func() time.Time
}

// Client is the laptop's end. Run owns the port and has to run while the other methods are used; they may be called from any
// goroutine and wait for one another. An error has the code of the register that says what to do (protocol.CodeOf), whether it comes from
// the terminal or from here. After ErrLost or ErrSilent, Open again and go on: nothing that was done is lost, and
// what may not have been done can be asked for again.
type Client struct {
	port io.ReadWriteCloser
	who  Technician
	log  *slog.Logger

	mu       sync.Mutex
	greeting *Greeting
}

// NewClient returns the laptop's end of the line port.
func NewClient(port io.ReadWriteCloser, who Technician, log *slog.Logger) *Client {
	return &Client{port: port, who: who, log: log}
}

// Run reads the port until ctx ends, which closes it and returns nil, or until it is gone.
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	return c.port.Close()
}

// Greet asks who is at the other end. It answers within ctx, or with ErrSilent; a few seconds suffice to look whether
// there is a terminal at a port.
func (c *Client) Greet(ctx context.Context) (*Greeting, error) {
	return nil, ErrClosed
}

// Open begins a session: afterwards the terminal has proven the key of the last Greet, and an earlier session is over. A terminal that is
// set up refuses with protocol.AuthTechnician who has no mandate that it accepts.
func (c *Client) Open(ctx context.Context) error {
	return ErrClosed
}

// Terminal returns the terminal's identity, as told by the last Greet and proven by Open.
func (c *Client) Terminal() protocol.KeyHash {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.greeting == nil {
		return protocol.KeyHash{}
	}
	return c.greeting.Terminal()
}

// Authorise waits until somebody pressed the terminal's button, as its screen asks, where that is needed; it returns at once where
// it is not, or was done in this session. A terminal that is set up does nothing else before; one that becomes set up in this
// session needs it for what follows, as does Check. prompt, if not nil, is called once if a press is awaited. The error's
// code is protocol.AuthButton if nobody pressed within ButtonTime.
func (c *Client) Authorise(ctx context.Context, prompt func()) error {
	prompted := false
	var s pressStatus
	for begin := true; ; begin = false {
		if err := c.call(ctx, opPress, pressRequest{Begin: begin}, &s); err != nil {
			return err
		}
		if s.Pressed {
			return nil
		}
		if !prompted && prompt != nil {
			prompt()
		}
		prompted = true
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// Info asks what the terminal says about itself.
func (c *Client) Info(ctx context.Context) (*Info, error) {
	i := new(Info)
	return i, c.call(ctx, opInfo, nil, i)
}

// SetNetwork sets the network. It returns when it is stored; Network tells whether it came up.
func (c *Client) SetNetwork(ctx context.Context, n *Network) error {
	return c.call(ctx, opSetNetwork, n, nil)
}

// Network asks how the terminal is connected.
func (c *Client) Network(ctx context.Context) (*NetworkState, error) {
	n := new(NetworkState)
	return n, c.call(ctx, opNetwork, nil, n)
}

// ScanNetworks asks which Wi-Fi the terminal hears; the strongest first.
func (c *Client) ScanNetworks(ctx context.Context) ([]AccessPoint, error) {
	var s scanReply
	err := c.call(ctx, opScan, nil, &s)
	return s.Found, err
}

// SetLanguage sets what the terminal speaks to one of Info.Languages.
func (c *Client) SetLanguage(ctx context.Context, tag string) error {
	return c.call(ctx, opLanguage, languageRequest{tag}, nil)
}

// StartEnrol has the terminal spend a voucher over its own network. A run that goes on is left to go on.
func (c *Client) StartEnrol(ctx context.Context, v *protocol.Voucher) error {
	text, err := v.Text()
	if err != nil {
		return err
	}
	return c.call(ctx, opEnrol, enrolRequest{text}, nil)
}

// EnrolStatus asks how the last enrolment goes, also one that an earlier session began.
func (c *Client) EnrolStatus(ctx context.Context) (*EnrolStatus, error) {
	s := new(EnrolStatus)
	return s, c.call(ctx, opEnrolStatus, nil, s)
}

// Enrol has the terminal spend a voucher and waits until that is done.
func (c *Client) Enrol(ctx context.Context, v *protocol.Voucher) error {
	if err := c.StartEnrol(ctx, v); err != nil {
		return err
	}
	for {
		s, err := c.EnrolStatus(ctx)
		if err != nil {
			return err
		}
		switch s.State {
		case JobDone:
			return nil
		case JobRunning:
		default:
			return told(s.Code, s.Cause)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// CSR asks for a certification request for the terminal's key, whose signature was verified.
func (c *Client) CSR(ctx context.Context) (*x509.CertificateRequest, error) {
	var r csrReply
	if err := c.call(ctx, opCSR, nil, &r); err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("certification request of the terminal: %w", err))
	}
	if protocol.HashSPKI(csr.RawSubjectPublicKeyInfo) != c.Terminal() {
		return nil, protocol.WithCode(protocol.SignalMalformed, errors.New("certification request of the terminal: for another key"))
	}
	return csr, nil
}

// Install gives the terminal what an enrolment through the laptop brought.
func (c *Client) Install(ctx context.Context, g *Grant) error {
	return c.call(ctx, opInstall, g, nil)
}

// StartCheck begins an acceptance check, unless one is running, and returns its run.
func (c *Client) StartCheck(ctx context.Context, o CheckOptions) (run uint64, err error) {
	s := new(CheckStatus)
	err = c.call(ctx, opCheck, o, s)
	return s.Run, err
}

// CheckStatus asks how the last check goes, also one that an earlier session began.
func (c *Client) CheckStatus(ctx context.Context) (*CheckStatus, error) {
	s := new(CheckStatus)
	return s, c.call(ctx, opCheckStatus, nil, s)
}

// Check runs an acceptance check to its end and returns what was found; progress, if not nil, is called with each status.
func (c *Client) Check(ctx context.Context, o CheckOptions, progress func(*CheckStatus)) ([]protocol.Check, error) {
	if _, err := c.StartCheck(ctx, o); err != nil {
		return nil, err
	}
	for {
		s, err := c.CheckStatus(ctx)
		if err != nil {
			return nil, err
		}
		if progress != nil {
			progress(s)
		}
		switch s.State {
		case JobDone:
			return s.Done, nil
		case JobRunning:
		default:
			return s.Done, told(s.Code, s.Cause)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// HandOver has both ends sign the record h, and the terminal send it to the clinic. The terminal refuses what it
// does not know to be true. The same h again does no harm.
func (c *Client) HandOver(ctx context.Context, h *protocol.HandOver) (*protocol.HandOverEvent, error) {
	return nil, ErrClosed
}

func (c *Client) call(ctx context.Context, op string, request, reply any) error { return ErrClosed }

// told is a failure that the terminal told of.
func told(code protocol.Code, cause string) error {
	if code == "" {
		code = protocol.Unknown
	}
	return protocol.WithCode(code, fmt.Errorf("the terminal says: %s", cause))
}

// pause waits a moment between two questions.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollTime + rand.N(pollTime/4)):
		return nil
	}
}
