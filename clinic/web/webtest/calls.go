package webtest

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/diagnosis"
	"vindu/protocol"
)

// bounds of what a test can leave unread.
const queue = 256

// Calls stands in for the service that carries calls. What pages do arrives on its channels; what terminals do is said
// by the methods of Call.
type Calls struct {
	Placed   chan *Call
	HungUp   chan HangUp
	Reported chan *protocol.CallRecord
	Closed   chan string // the page whose stream has ended
	Curtains chan []byte // signed by pages

	mu             sync.Mutex
	register       *Register
	authorisations *Authorisations
	refuse         error
	seq            uint64
	log            []logged
	subs           map[chan calls.Update]subscriber
	records        []calls.Record
	unwanted       map[protocol.CallID]protocol.Code // hung up before they were known
	paths          map[protocol.CallID]chan []byte
	moves          map[protocol.CallID]chan *protocol.CallRestart
	held           []protocol.Code
}

type logged struct {
	person, page string
	update       calls.Update
}

type subscriber struct{ person, page string }

// HangUp is a call that a page has ended.
type HangUp struct {
	Call   protocol.CallID
	Reason protocol.Code
	Signed []byte // the caller's end; empty if there was none
}

// NewCalls returns a service to the homes of r.
func NewCalls(r *Register, a *Authorisations) *Calls {
	return &Calls{
		Placed: make(chan *Call, queue), HungUp: make(chan HangUp, queue),
		Reported: make(chan *protocol.CallRecord, queue), Closed: make(chan string, queue), Curtains: make(chan []byte, queue),
		register: r, authorisations: a, subs: map[chan calls.Update]subscriber{}, unwanted: map[protocol.CallID]protocol.Code{}, paths: map[protocol.CallID]chan []byte{}, moves: map[protocol.CallID]chan *protocol.CallRestart{},
	}
}

// Refuse has every Start fail with err from here on; nil has them succeed again.
func (c *Calls) Refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

// Hold says what holds of every terminal.
func (c *Calls) Hold(codes ...protocol.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = codes
}

// Start implements web.Calls.
func (c *Calls) Start(ctx context.Context, r calls.Request) (calls.Started, error) {
	home, err := c.register.Home(ctx, r.Home)
	if err != nil {
		return calls.Started{}, fmt.Errorf("%w: %w", calls.ErrNotFound, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	inv, err := c.prove(ctx, r)
	if err != nil {
		return calls.Started{}, err
	}
	id := inv.Call
	record := calls.Record{
		Call: id, Person: r.Person, Home: home.ID, HomeLabel: home.Label, Terminal: home.Terminal, RelayOnly: inv.RelayOnly, Urgent: inv.Urgent, Began: time.Now(),
	}
	if reason, ok := c.unwanted[id]; ok {
		record.EndedAt, record.Outcome = record.Began, reason
		c.records = append(c.records, record)
		return calls.Started{}, &calls.Failure{Call: id, Code: reason}
	}
	if inv.Terminal != home.Terminal {
		return calls.Started{}, fmt.Errorf("%w: %w", calls.ErrBadRequest, protocol.WithCode(protocol.BrowserFailed, errors.New("the home has another terminal")))
	}
	if c.refuse != nil {
		record.EndedAt, record.Outcome = record.Began, protocol.Unknown
		if f, ok := c.refuse.(*calls.Failure); ok {
			record.Outcome = f.Code
		}
		c.records = append(c.records, record)
		return calls.Started{}, c.refuse
	}
	c.records = append(c.records, record)
	call := &Call{ID: id, Request: r, Proven: inv, Terminal: home.Terminal, Invitation: r.Proof.Invitation, calls: c}
	c.Placed <- call
	return calls.Started{Call: id, Invitation: call.Invitation, Terminal: home.Terminal, SPKI: home.SPKI}, nil
}

// Site is the relying party of tests' passkeys.
var Site = protocol.RelyingParty{ID: "localhost"}

// prove is as strict as a terminal, but for the page's address, which every test has another one of.
func (c *Calls) prove(ctx context.Context, r calls.Request) (*protocol.Invitation, error) {
	inv := new(protocol.Invitation)
	if err := protocol.Decode(r.Proof.Invitation, inv); err != nil {
		return nil, fmt.Errorf("%w: %w", calls.ErrBadRequest, err)
	}
	signed, a, err := c.authorisations.Current(ctx, r.Person.ID)
	if err != nil {
		return nil, err
	}
	passkey, known := a.Credential(r.Proof.Assertion.Credential)
	if !known || inv.Authorisation != protocol.HashOf(signed) || !slices.Equal(inv.Parties, []protocol.Party{a.Party}) || inv.Offer != protocol.HashOf(r.Offer) ||
		!strings.Contains(string(r.Offer), inv.Caller.String()) {
		return nil, fmt.Errorf("%w: the invitation does not fit", calls.ErrBadRequest)
	}
	var said struct{ Origin string }
	if err := json.Unmarshal(r.Proof.Assertion.ClientData, &said); err != nil || !strings.HasPrefix(said.Origin, "http://localhost:") {
		return nil, fmt.Errorf("%w: origin %q: %w", calls.ErrBadRequest, said.Origin, err)
	}
	_, err = r.Proof.Assertion.Verify(passkey, protocol.RelyingParty{ID: Site.ID, Origins: []string{said.Origin}}, protocol.HashOf(r.Proof.Invitation))
	return inv, err
}

// Candidates implements web.Calls.
func (c *Calls) Candidates(_ context.Context, _ string, call protocol.CallID, signed []byte) error {
	c.Paths(call) <- signed
	return nil
}

// Paths has the signed candidates of a call's page.
func (c *Calls) Paths(call protocol.CallID) chan []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paths[call] == nil {
		c.paths[call] = make(chan []byte, queue)
	}
	return c.paths[call]
}

// Restart implements web.Calls.
func (c *Calls) Restart(_ context.Context, _ string, call protocol.CallID, restart *protocol.CallRestart) error {
	c.Moves(call) <- restart
	return nil
}

// Moves has the offers for other paths of a call's page.
func (c *Calls) Moves(call protocol.CallID) chan *protocol.CallRestart {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moves[call] == nil {
		c.moves[call] = make(chan *protocol.CallRestart, queue)
	}
	return c.moves[call]
}

// Curtain implements web.Calls.
func (c *Calls) Curtain(_ context.Context, _ string, _ protocol.CallID, signed []byte) error {
	c.Curtains <- signed
	return nil
}

// Present implements web.Calls.
func (c *Calls) Present(_ context.Context, person string, call protocol.CallID, p calls.Present) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.records {
		if r.Call == call && r.Person.ID == person {
			p.At = time.Now()
			c.records[i].Present = p
			return nil
		}
	}
	return calls.ErrNotFound
}

// HangUp implements web.Calls.
func (c *Calls) HangUp(_ context.Context, person string, call protocol.CallID, reason protocol.Code, signed []byte) error {
	if !c.ended(person, call, reason) {
		c.mu.Lock()
		known := slices.ContainsFunc(c.records, func(r calls.Record) bool { return r.Call == call })
		if !known {
			c.unwanted[call] = reason
		}
		c.mu.Unlock()
		if known {
			return calls.ErrNotFound
		}
	}
	c.HungUp <- HangUp{call, reason, signed}
	return nil
}

func (c *Calls) ended(person string, call protocol.CallID, outcome protocol.Code) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.records {
		if r.Call == call && r.Person.ID == person {
			if r.Outcome == "" {
				c.records[i].Outcome, c.records[i].EndedAt = outcome, time.Now()
			}
			return true
		}
	}
	return false
}

// Report implements web.Calls.
func (c *Calls) Report(_ context.Context, person string, call protocol.CallID, half *protocol.CallRecord) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.records {
		if r.Call == call && r.Person.ID == person {
			c.records[i].CallerHalf = half
			c.Reported <- half
			return nil
		}
	}
	return calls.ErrNotFound
}

// Attempt implements web.Calls.
func (c *Calls) Attempt(_ context.Context, person calls.Person, home string, half *protocol.CallRecord) error {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = append(c.records, calls.Record{
		Call: half.Call, Person: person, Home: home, HomeLabel: home, Began: now, EndedAt: now, Outcome: half.Outcome, CallerHalf: half, NeverLeft: true,
	})
	return nil
}

// Subscribe implements web.Calls.
func (c *Calls) Subscribe(person, page string, seq uint64) (<-chan calls.Update, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan calls.Update, queue)
	c.subs[ch] = subscriber{person, page}
	for _, l := range c.log {
		if l.person == person && l.page == page && l.update.Seq > seq {
			ch <- l.update
		}
	}
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, ch)
		select {
		case c.Closed <- page:
		default:
		}
	}
}

// Records implements web.Calls.
func (c *Calls) Records(_ context.Context, person string, limit int) ([]calls.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var own []calls.Record
	for _, r := range c.records {
		if r.Person.ID == person {
			own = append(own, r)
		}
	}
	slices.SortStableFunc(own, latest)
	return own[:min(limit, len(own))], nil
}

// Record implements web.Calls. What is said of the call rests on the halves, and on what Hold has said.
func (c *Calls) Record(_ context.Context, person string, call protocol.CallID) (calls.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		if r.Call != call || r.Person.ID != person {
			continue
		}
		return c.judged(r), nil
	}
	return calls.Record{}, calls.ErrNotFound
}

// HomeCalls implements web.Calls.
func (c *Calls) HomeCalls(ctx context.Context, home string, from time.Time, limit int) ([]calls.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []calls.Record
	for _, r := range c.records {
		if r.Home == home && !r.Began.Before(from) {
			list = append(list, c.judged(r).Overseen())
		}
	}
	slices.SortStableFunc(list, latest)
	return list[:min(limit, len(list))], nil
}

// HomeCall implements web.Calls.
func (c *Calls) HomeCall(_ context.Context, call protocol.CallID) (calls.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		if r.Call == call {
			return c.judged(r).Overseen(), nil
		}
	}
	return calls.Record{}, calls.ErrNotFound
}

// judged says what became of a call. c.mu is held.
func (c *Calls) judged(r calls.Record) calls.Record {
	if r.Outcome != "" {
		r.Failure = protocol.Explain(r.Outcome)
		r.Diagnosis = diagnosis.Diagnose(diagnosis.Evidence{
			Outcome: r.Outcome, Clinic: r.Outcome, Talked: !r.TalkingAt.IsZero(), NeverLeft: r.NeverLeft, RelayOnly: r.RelayOnly,
			Terminal: r.TerminalHalf, Caller: r.CallerHalf, Held: c.held,
		})
	}
	return r
}

// AddRecord adds what has happened before.
func (c *Calls) AddRecord(r calls.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = append(c.records, r)
}

// Call is one that a page has placed.
type Call struct {
	ID         protocol.CallID
	Request    calls.Request
	Proven     *protocol.Invitation
	Terminal   protocol.KeyHash
	Invitation []byte
	calls      *Calls
}

// Send delivers an update as it is.
func (c *Call) Send(u calls.Update) {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	c.calls.seq++
	u.Seq, u.Call = c.calls.seq, c.ID
	l := logged{c.Request.Person.ID, c.Request.Page, u}
	c.calls.log = append(c.calls.log, l)
	for i := range c.calls.records {
		r := &c.calls.records[i]
		if r.Call != c.ID {
			continue
		}
		switch {
		case u.Kind == calls.KindEnd && r.Outcome == "":
			r.Outcome, r.EndedAt, r.TerminalEnd = u.Code, time.Now(), u.End
		case u.State == calls.Talking && r.TalkingAt.IsZero():
			r.TalkingAt = time.Now()
		}
	}
	for ch, s := range c.calls.subs {
		if s.person == l.person && s.page == l.page {
			ch <- u
		}
	}
}

// Statement returns what a terminal would sign about this call: with a session description and the DTLS certificate's
// fingerprint if it connects.
func (c *Call) Statement(d protocol.Decision, sdp string, certificate protocol.Fingerprint) *protocol.Answer {
	a := &protocol.Answer{
		Version: protocol.Version, Call: c.ID, Terminal: c.Terminal, Invitation: protocol.HashOf(c.Invitation), Decision: d,
		Software: "webtest", At: protocol.At(time.Now()),
	}
	if d == protocol.Ringing || d == protocol.Answered {
		a.Answer, a.Key = protocol.HashOf(sdp), certificate
	}
	return a
}

// Answer signs a and delivers it.
func (c *Call) Answer(a *protocol.Answer, sdp string, key crypto.Signer) error {
	signed, err := protocol.Sign(a, key)
	if err != nil {
		return err
	}
	u := calls.Update{Kind: calls.KindAnswer, State: calls.Ringing, Answer: signed}
	if a.Decision == protocol.Ringing {
		u.SDP = protocol.SDP(sdp)
	} else if a.Decision == protocol.Answered {
		u.State = calls.Talking
	}
	c.Send(u)
	return nil
}

// Candidate delivers one of the terminal's ICE candidates.
func (c *Call) Candidate(candidate protocol.Candidate) {
	c.Send(calls.Update{Kind: calls.KindCandidate, State: calls.Ringing, Candidate: &candidate})
}

// End ends the call from the terminal, which signs that its camera was closed now.
func (c *Call) End(code protocol.Code, key crypto.Signer) error {
	now := protocol.At(time.Now())
	signed, err := protocol.Sign(&protocol.End{
		Version: protocol.Version, Call: c.ID, Terminal: c.Terminal, Invitation: protocol.HashOf(c.Invitation), By: protocol.SideTerminal,
		Reason: code, Duration: 1000, CameraClosed: now, MicrophoneClosed: now, At: now,
	}, key)
	if err != nil {
		return err
	}
	c.Send(calls.Update{Kind: calls.KindEnd, State: calls.Ended, Code: code, End: signed})
	return nil
}
