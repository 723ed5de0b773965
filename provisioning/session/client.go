package session

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"vindu/protocol"
	"vindu/provisioning/frame"
)

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
	who  Technician
	log  *slog.Logger
	line *line
	gone chan struct{} // closed when Run has ended
	turn chan struct{} // holds one token: whoever has it uses the line and the fields below

	session *sealer // nil unless open
	number  uint64  // of the last request

	mu       sync.Mutex
	greeting *Greeting
	awaited  bool // in this session the terminal waited for a press
}

// NewClient returns the laptop's end of the line port.
func NewClient(port io.ReadWriteCloser, who Technician, log *slog.Logger) *Client {
	c := &Client{who: who, log: log, line: newLine(port), gone: make(chan struct{}), turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Run carries until ctx ends, which closes the port and returns nil, or until the port is gone, which wraps ErrClosed. It is called once.
func (c *Client) Run(ctx context.Context) error {
	defer close(c.gone)
	return c.line.run(ctx)
}

// Greet asks who is at the other end. The error wraps ErrSilent if nobody answers for SilentTime; a shorter ctx
// suffices to look whether there is a terminal at a port.
func (c *Client) Greet(ctx context.Context) (*Greeting, error) {
	done, err := c.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return c.greet(ctx)
}

func (c *Client) greet(ctx context.Context) (*Greeting, error) {
	g := new(Greeting)
	ask := func() error { return c.line.send(kindAsk, nil) }
	err := c.exchange(ctx, "greet the terminal", resendTime, ask, func(f frame.Frame) (answered, error) {
		if f.Kind != kindGreeting {
			return unrelated, nil
		}
		read := new(Greeting)
		if err := decode(f.Payload, read); err != nil {
			return unrelated, nil // of another version, or not a terminal
		}
		if _, err := publicKey(read.Public); err != nil {
			return final, err
		}
		clean(reflect.ValueOf(read))
		*g = *read
		return final, nil
	})
	if err != nil {
		return nil, err
	}
	if g.Version != Version {
		return nil, malformed("the terminal speaks version %d of the session, this program %d", g.Version, Version)
	}
	c.mu.Lock()
	c.greeting = g
	c.mu.Unlock()
	return g, nil
}

// Open begins a session: afterwards the terminal has proven the key of the last Greet (of one now, if there was none), and an earlier
// session is over. A terminal that is set up refuses with protocol.AuthTechnician who has no mandate that it accepts.
func (c *Client) Open(ctx context.Context) error {
	done, err := c.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	g := c.greeting
	c.mu.Unlock()
	if g == nil {
		if g, err = c.greet(ctx); err != nil {
			return err
		}
	}
	if err := c.shakeHands(ctx, g); err != nil {
		c.session = nil
		return fmt.Errorf("open a session with the terminal %s: %w", g.Terminal().Code(), err)
	}
	return nil
}

func (c *Client) shakeHands(ctx context.Context, g *Greeting) error {
	key, err := publicKey(g.Public)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(c.who.Key.Public())
	if err != nil {
		return fmt.Errorf("encode the laptop's key: %w", err)
	}
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a session key: %w", err)
	}
	mine, err := encode(hello{Version, ephemeral.PublicKey().Bytes(), public})
	if err != nil {
		return err
	}
	var theirs []byte
	greet := func() error { return c.line.send(kindHello, mine) }
	err = c.exchange(ctx, "agree on keys", resendTime, greet, func(f frame.Frame) (answered, error) {
		if f.Kind != kindReply {
			return unrelated, nil
		}
		var h hello
		if decode(f.Payload, &h) != nil || h.Version != Version {
			return unrelated, nil
		}
		if !bytes.Equal(h.Public, g.Public) {
			return final, fmt.Errorf("%w: it is another terminal than the one that greeted", ErrUnproven)
		}
		theirs = f.Payload
		c.session, err = newSealer(ephemeral, h.Ephemeral, mine, theirs, true)
		return final, err
	})
	if err != nil {
		return err
	}
	c.number = 0
	c.mu.Lock()
	c.awaited = false
	c.mu.Unlock()
	s := &protocol.Session{
		Version: protocol.Version, Transcript: c.session.hash, Terminal: g.Terminal(), By: protocol.SideTechnician, At: protocol.At(c.who.Now()),
	}
	proof, err := protocol.Sign(s, c.who.Key)
	if err != nil {
		return err
	}
	var r openReply
	if err := c.ask(ctx, request{Op: opOpen}, openRequest{proof, c.who.Mandate}, &r); err != nil {
		return err
	}
	return checkProof(r.Proof, key, c.session.hash, g.Terminal(), protocol.SideTerminal)
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

// AskPress has the terminal's screen ask for its button, with the terminal's code beside it, and tells whether it was pressed in this session, or does
// not have to be. The error wraps ErrUnproven if it says that it was pressed although it was never asked: every terminal that is set up asks.
func (c *Client) AskPress(ctx context.Context) (pressed bool, err error) { return c.press(ctx, true) }

func (c *Client) press(ctx context.Context, begin bool) (bool, error) {
	var s pressStatus
	if err := c.call(ctx, opPress, pressRequest{Begin: begin}, &s); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Pressed {
		c.awaited = true
	} else if !c.awaited && c.greeting.State == SetUp {
		return false, fmt.Errorf("%w: it says that its button was pressed before it was asked for", ErrUnproven)
	}
	return s.Pressed, nil
}

// Authorise waits until somebody pressed the terminal's button, as its screen asks, where that is needed; it returns at once where
// it is not, or was done in this session not longer than PressTime ago. A terminal that is set up does nothing else before; one that becomes set up in this
// session needs it for what follows, as does Check. prompt, if not nil, is called once if a press is awaited. The error's
// code is protocol.AuthButton if nobody pressed within ButtonTime, and protocol.AnswerBusy if the screen shows something else; AskPress says when it
// wraps ErrUnproven.
func (c *Client) Authorise(ctx context.Context, prompt func()) error {
	prompted := false
	for begin := true; ; begin = false {
		pressed, err := c.press(ctx, begin)
		if err != nil || pressed {
			return err
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

// Reset has the terminal destroy its key, its enrolment and all that it keeps. Soon after it greets with another key, as one from the factory.
func (c *Client) Reset(ctx context.Context) error {
	return c.call(ctx, opReset, nil, nil)
}

// StartCheck begins an acceptance check, unless one of this session is running, and returns its run. It goes on while it is asked after
// (CheckStatus) in this session.
func (c *Client) StartCheck(ctx context.Context, o CheckOptions) (run uint64, err error) {
	s := new(CheckStatus)
	err = c.call(ctx, opCheck, o, s)
	return s.Run, err
}

// StopCheck ends the check that runs, if one does: camera and microphone are closed soon after.
func (c *Client) StopCheck(ctx context.Context) error { return c.call(ctx, opCheckStop, nil, nil) }

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
	record, err := protocol.Encode(h)
	if err != nil {
		return nil, err
	}
	var r signedReply
	if err := c.call(ctx, opHandOver, recordRequest{record}, &r); err != nil {
		return nil, err
	}
	c.mu.Lock()
	g := c.greeting
	c.mu.Unlock()
	key, err := publicKey(g.Public)
	if err != nil {
		return nil, err
	}
	var signed protocol.HandOver
	if err := protocol.Verify(r.Signed, key, &signed); err != nil {
		return nil, fmt.Errorf("hand-over record of the terminal: %w", err)
	}
	if again, err := protocol.Encode(&signed); err != nil || !bytes.Equal(again, record) {
		return nil, malformed("the terminal signed another hand-over record")
	}
	e := &protocol.HandOverEvent{Version: protocol.Version, Terminal: r.Signed, Authorisation: c.who.Mandate}
	if e.Technician, err = protocol.Sign(h, c.who.Key); err != nil {
		return nil, err
	}
	b, err := protocol.Encode(e)
	if err != nil {
		return nil, err
	}
	return e, c.call(ctx, opHandOverDone, recordRequest{b}, nil)
}
