package protocol

import "github.com/fxamacker/cbor/v2"

// Kinds of call messages.
const (
	KindInvite     = "invite"
	KindCandidate  = "candidate"  // the terminal's
	KindCandidates = "candidates" // the caller's
	KindHangUp     = "hang-up"
	KindAnswer     = "answer"
	KindEnd        = "end"
)

// CallIn is a call message to the terminal, on InCall. Exactly the field that Kind names is set.
type CallIn struct {
	Version    uint         `cbor:"1,keyasint"`
	Call       CallID       `cbor:"2,keyasint"`
	Kind       string       `cbor:"3,keyasint"`
	Invite     *Invite      `cbor:"4,keyasint,omitempty"`
	Candidates []byte       `cbor:"5,keyasint,omitempty"` // signed Candidates
	HangUp     *HangUp      `cbor:"6,keyasint,omitempty"`
	Curtain    *CallCurtain `cbor:"7,keyasint,omitempty"`
	Restart    *CallRestart `cbor:"8,keyasint,omitempty"`
}

// Invite carries the caller's proof and offer.
type Invite struct {
	// Invitation is the canonical encoding of the Invitation, over whose SHA-256 the Assertion was made.
	Invitation    []byte      `cbor:"1,keyasint"`
	Offer         SDP         `cbor:"2,keyasint"`
	ICE           []ICEServer `cbor:"3,keyasint,omitempty"`
	Assertion     *Assertion  `cbor:"4,keyasint,omitempty"`
	Authorisation []byte      `cbor:"5,keyasint,omitempty"` // signed Authorisation
}

// CallProof is what remains of an Invite in the records: what proves who called, whom, when and by what right.
type CallProof struct {
	Version       uint       `cbor:"1,keyasint"`
	Invitation    []byte     `cbor:"2,keyasint"`
	Assertion     *Assertion `cbor:"3,keyasint,omitempty"`
	Authorisation []byte     `cbor:"4,keyasint,omitempty"`
}

func (p *CallProof) valid() error {
	if err := checkVersion(p.Version); err != nil {
		return err
	}
	return (&Invite{Invitation: p.Invitation, Offer: "-", Assertion: p.Assertion, Authorisation: p.Authorisation}).valid()
}

// ICEServer is a STUN or TURN server with short-lived credentials.
type ICEServer struct {
	URLs       []string `cbor:"1,keyasint" json:"urls"`
	Username   string   `cbor:"2,keyasint,omitempty" json:"username,omitempty"`
	Credential Secret   `cbor:"3,keyasint,omitempty" json:"credential,omitempty"`
}

// Candidate is one trickled ICE candidate (RFC 8840); an empty Line ends the candidates.
type Candidate struct {
	Line  CandidateLine `cbor:"1,keyasint"`
	Mid   string        `cbor:"2,keyasint"`
	MLine uint16        `cbor:"3,keyasint"`
}

// CallCurtain carries a signed Curtain of the one who sends it.
type CallCurtain struct {
	Curtain []byte `cbor:"1,keyasint"`
}

// KindCurtain is a CallIn or a CallOut whose Curtain is set.
const KindCurtain = "curtain"

// HangUp ends the call from the caller's side.
type HangUp struct {
	End []byte `cbor:"1,keyasint"` // signed End, By SideCaller or SideClinic
}

// CallOut is a call message from the terminal, on OutCall. Exactly the field that Kind names is set.
type CallOut struct {
	Version   uint        `cbor:"1,keyasint"`
	Call      CallID      `cbor:"2,keyasint"`
	Kind      string      `cbor:"3,keyasint"`
	Answer    *CallAnswer `cbor:"4,keyasint,omitempty"`
	Candidate *Candidate  `cbor:"5,keyasint,omitempty"`
	End       *CallEnd    `cbor:"6,keyasint,omitempty"`
	// Refusal says why an invitation was not accepted where nothing can be signed about it: it could not be proven.
	Refusal Code         `cbor:"7,keyasint,omitempty"`
	Curtain *CallCurtain `cbor:"8,keyasint,omitempty"`
	Restart *CallRestart `cbor:"9,keyasint,omitempty"`
}

// KindRefusal is a CallOut whose Refusal is set.
const KindRefusal = "refusal"

// CallAnswer carries the terminal's proof and, with Ringing, its session description.
type CallAnswer struct {
	Answer []byte `cbor:"1,keyasint"` // signed Answer
	SDP    SDP    `cbor:"2,keyasint,omitempty"`
}

// CallEnd carries the terminal's signed End.
type CallEnd struct {
	End []byte `cbor:"1,keyasint"`
}

func (m *CallIn) valid() error {
	if err := checkVersion(m.Version); err != nil {
		return err
	}
	if (m.Call == CallID{}) {
		return malformed("call message lacks a call")
	}
	set := 0
	for _, b := range []bool{m.Invite != nil, len(m.Candidates) != 0, m.HangUp != nil, m.Restart != nil, m.Curtain != nil} {
		if b {
			set++
		}
	}
	if set != 1 {
		return malformed("call message has %d bodies", set)
	}
	switch {
	case m.Kind == KindInvite && m.Invite != nil:
		return m.Invite.valid()
	case m.Kind == KindCandidates && len(m.Candidates) != 0:
		return checkStatement(m.Candidates)
	case m.Kind == KindHangUp && m.HangUp != nil:
		return checkStatement(m.HangUp.End)
	case m.Kind == KindRestart && m.Restart != nil:
		return m.Restart.valid()
	case m.Kind == KindCurtain && m.Curtain != nil:
		return checkStatement(m.Curtain.Curtain)
	}
	return malformed("kind and body of the call message differ")
}

func checkStatement(b []byte) error {
	if len(b) == 0 || len(b) > MaxStatement {
		return malformed("statement has %d bytes", len(b))
	}
	return nil
}

func (i *Invite) valid() error {
	if err := checkStatement(i.Invitation); err != nil {
		return err
	}
	if i.Offer == "" || len(i.Offer) > MaxSDP {
		return malformed("offer has %d bytes", len(i.Offer))
	}
	if i.Assertion != nil {
		if err := i.Assertion.valid(); err != nil {
			return err
		}
		if n := len(i.Authorisation); n == 0 || n > MaxAuthorisation {
			return malformed("authorisation has %d bytes", n)
		}
	} else if i.Authorisation != nil {
		return malformed("invite has an authorisation, but no passkey's proof")
	}
	return checkServers(i.ICE)
}

func checkServers(servers []ICEServer) error {
	if len(servers) > 8 {
		return malformed("%d ICE servers, at most 8", len(servers))
	}
	for _, s := range servers {
		if len(s.URLs) == 0 || len(s.URLs) > 8 || len(s.Username) > MaxText || len(s.Credential) > MaxText {
			return malformed("ICE server out of bounds")
		}
		for _, u := range s.URLs {
			if u == "" || len(u) > MaxText {
				return malformed("ICE URL out of bounds")
			}
		}
	}
	return nil
}

func (c *Candidate) valid() error {
	if len(c.Line) > MaxCandidate || len(c.Mid) > 32 {
		return malformed("candidate out of bounds")
	}
	return nil
}

func (m *CallOut) valid() error {
	if err := checkVersion(m.Version); err != nil {
		return err
	}
	if (m.Call == CallID{}) {
		return malformed("call message lacks a call")
	}
	set := 0
	for _, b := range []bool{m.Answer != nil, m.Candidate != nil, m.End != nil, m.Refusal != "", m.Restart != nil, m.Curtain != nil} {
		if b {
			set++
		}
	}
	if set != 1 {
		return malformed("call message has %d bodies", set)
	}
	switch {
	case m.Kind == KindAnswer && m.Answer != nil:
		if len(m.Answer.SDP) > MaxSDP {
			return malformed("answer has %d bytes", len(m.Answer.SDP))
		}
		return checkStatement(m.Answer.Answer)
	case m.Kind == KindCandidate && m.Candidate != nil:
		return m.Candidate.valid()
	case m.Kind == KindEnd && m.End != nil:
		return checkStatement(m.End.End)
	case m.Kind == KindRestart && m.Restart != nil:
		return m.Restart.valid()
	case m.Kind == KindCurtain && m.Curtain != nil:
		return checkStatement(m.Curtain.Curtain)
	case m.Kind == KindRefusal && m.Refusal != "":
		return m.Refusal.valid()
	}
	return malformed("kind and body of the call message differ")
}

// Presence is retained on OutPresence. The will carries Online false.
type Presence struct {
	Version  uint   `cbor:"1,keyasint"`
	Online   bool   `cbor:"2,keyasint"`
	Session  Nonce  `cbor:"3,keyasint"` // of this connection, so that a late will cannot clear a newer presence
	Since    Time   `cbor:"4,keyasint"`
	Software string `cbor:"5,keyasint"`
	// Beat numbers what is said in this session, from a number by chance on. The clinic answers each with a CommandHeard, by way of the broker. 0 asks for no answer.
	Beat uint64 `cbor:"6,keyasint,omitempty"`
	// Heard is the latest Beat that the clinic has answered, or 0: by it the clinic knows that the way leads both there and back.
	Heard uint64 `cbor:"7,keyasint,omitempty"`
}

func (p *Presence) valid() error {
	if p.Heard > p.Beat {
		return malformed("presence was heard before it was said")
	}
	if err := checkVersion(p.Version); err != nil {
		return err
	}
	return checkText("software", p.Software, true)
}

// DeviceState says which device a terminal would use; nothing is opened to find out.
type DeviceState struct {
	Kind string `cbor:"1,keyasint" json:"kind"` // "v4l2", "alsa", "drm", "memory", "synthetic", "none"
	Name string `cbor:"2,keyasint" json:"name"`
}

// Condition is one entry of the register of conditions that holds now.
type Condition struct {
	Code   Code   `cbor:"1,keyasint" json:"code"`
	Since  Time   `cbor:"2,keyasint" json:"since"`
	Figure string `cbor:"3,keyasint,omitempty" json:"figure,omitempty"` // what was measured: a number with its unit and fixed words
}

// ConditionChange is the event that a condition began, or is over.
type ConditionChange struct {
	Version uint   `cbor:"1,keyasint"`
	Code    Code   `cbor:"2,keyasint"`
	Since   Time   `cbor:"3,keyasint"`
	Until   Time   `cbor:"4,keyasint,omitempty"` // 0: it holds
	Figure  string `cbor:"5,keyasint,omitempty"`
}

func (c *ConditionChange) valid() error {
	if c.Since <= 0 || c.Until < 0 {
		return malformed("condition lacks its beginning")
	}
	if err := c.Code.valid(); err != nil {
		return err
	}
	if err := checkText("figure", c.Figure, false); err != nil {
		return err
	}
	return checkVersion(c.Version)
}

// Health is retained on OutHealth.
type Health struct {
	Version    uint        `cbor:"1,keyasint"`
	At         Time        `cbor:"2,keyasint"`
	Uptime     uint64      `cbor:"3,keyasint"` // seconds since the agent started
	Software   string      `cbor:"4,keyasint"`
	KeyGrade   string      `cbor:"5,keyasint"` // "file" or "hardware"
	Camera     DeviceState `cbor:"6,keyasint"`
	Microphone DeviceState `cbor:"7,keyasint"`
	Speaker    DeviceState `cbor:"8,keyasint"`
	Screen     DeviceState `cbor:"9,keyasint"`
	Conditions []Condition `cbor:"10,keyasint"`
	Pending    uint64      `cbor:"11,keyasint"` // events in the outbox
	Dropped    uint64      `cbor:"12,keyasint"` // events that the bound of the outbox cost
	InCall     bool        `cbor:"13,keyasint"`
	Malformed  uint64      `cbor:"14,keyasint"` // messages refused since start
	// Rehearsed is the last rehearsal; nil if there never was one.
	Rehearsed *Rehearsal `cbor:"15,keyasint,omitempty"`
	// What an older terminal does not tell is not there.
	Figures *Figures `cbor:"20,keyasint,omitempty"`
	About   *About   `cbor:"21,keyasint,omitempty"`
	Quiet   bool     `cbor:"22,keyasint,omitempty"` // its quiet hours are now: only what is urgent rings, if the rules say so
	Covered bool     `cbor:"23,keyasint,omitempty"` // the camera's shutter is closed
}

func (h *Health) valid() error {
	if err := checkVersion(h.Version); err != nil {
		return err
	}
	if h.At <= 0 || len(h.Conditions) > 64 {
		return malformed("health out of bounds")
	}
	for _, d := range []DeviceState{h.Camera, h.Microphone, h.Speaker, h.Screen} {
		if err := checkText("device kind", d.Kind, true); err != nil {
			return err
		}
		if err := checkText("device name", d.Name, false); err != nil {
			return err
		}
	}
	for _, c := range h.Conditions {
		if err := c.Code.valid(); err != nil {
			return err
		}
		if err := checkText("figure", c.Figure, false); err != nil {
			return err
		}
	}
	if err := checkText("key grade", h.KeyGrade, false); err != nil {
		return err
	}
	if h.Figures != nil {
		if err := h.Figures.valid(); err != nil {
			return err
		}
	}
	if h.Rehearsed != nil {
		if err := h.Rehearsed.valid(); err != nil {
			return err
		}
	}
	if h.About != nil {
		if err := h.About.valid(); err != nil {
			return err
		}
	}
	return checkText("software", h.Software, true)
}

// Kinds of events.
const (
	EventCall     = "call"           // CallRecord
	EventEnd      = "end"            // EndReceipt
	EventOpening  = "opening"        // Opening: the ledger of camera and microphone
	EventNotice   = "notice"         // Notice: something happened that somebody should know
	EventHandOver = "hand-over"      // HandOverEvent
	EventReceipt  = "decommissioned" // ReceiptEvent
	// EventCondition is a ConditionChange. Health tells all that holds anyway, so that it may be dropped where there is no room for others.
	EventCondition = "condition"
	EventRehearsal = "rehearsal" // Rehearsal. Health tells the last one anyway
)

// Event is one entry of a terminal's outbox, on OutEvent. Epoch and Seq identify it: a clinic that has committed (Epoch,
// Seq) once recognises it again. A rebuilt outbox begins a new Epoch.
type Event struct {
	Version uint            `cbor:"1,keyasint"`
	Epoch   Nonce           `cbor:"2,keyasint"`
	Seq     uint64          `cbor:"3,keyasint"`
	At      Time            `cbor:"4,keyasint"`
	Kind    string          `cbor:"5,keyasint"`
	Body    cbor.RawMessage `cbor:"6,keyasint"` // canonical encoding of the kind's message
	// Link chains the openings of cameras and microphones, so that none can be left out or changed unnoticed (R19). Other kinds have none.
	Link *Link `cbor:"7,keyasint,omitempty"`
}

// Link is an opening's place in the terminal's ledger.
type Link struct {
	N        uint64 `cbor:"1,keyasint"` // from 1, for as long as the terminal's database lives; an outbox that was made anew begins again
	Previous Hash   `cbor:"2,keyasint"` // SHA-256 of the encoding of the Event with the opening before; zero for the first
}

func (e *Event) valid() error {
	if err := checkVersion(e.Version); err != nil {
		return err
	}
	if (e.Epoch == Nonce{}) || e.Seq == 0 || e.At <= 0 {
		return malformed("event lacks an epoch, sequence number or time")
	}
	if l := e.Link; l != nil && (e.Kind != EventOpening || l.N == 0 || (l.N == 1) != (l.Previous == Hash{})) {
		return malformed("event has a link that it cannot have")
	}
	_, err := e.Open()
	return err
}

// Open decodes the event's body: *CallRecord, *EndReceipt, *Opening, *Notice, *HandOverEvent, *ReceiptEvent, *ConditionChange or *Rehearsal.
func (e *Event) Open() (any, error) {
	var m validator
	switch e.Kind {
	case EventCall:
		m = new(CallRecord)
	case EventEnd:
		m = new(EndReceipt)
	case EventOpening:
		m = new(Opening)
	case EventNotice:
		m = new(Notice)
	case EventHandOver:
		m = new(HandOverEvent)
	case EventReceipt:
		m = new(ReceiptEvent)
	case EventCondition:
		m = new(ConditionChange)
	case EventRehearsal:
		m = new(Rehearsal)
	default:
		return nil, malformed("unknown kind of event")
	}
	if err := Decode(e.Body, m); err != nil {
		return nil, err
	}
	return m, nil
}

// Kinds of commands.
const (
	CommandReport       = "report"       // publish health now
	CommandRenew        = "renew"        // renew the certificate now
	CommandSettings     = "settings"     // fetch the settings now
	CommandHeard        = "heard"        // the presence with this Beat has arrived
	CommandRehearse     = "rehearse"     // rehearse now; the terminal decides whether it may, and how often
	CommandDecommission = "decommission" // destroy keys and state; Order is a signed Decommission
)

// Command asks a terminal to do something, on InCommand. Anything that is not harmless carries a signed order.
type Command struct {
	Version uint   `cbor:"1,keyasint"`
	Kind    string `cbor:"2,keyasint"`
	Order   []byte `cbor:"3,keyasint,omitempty"`
	Beat    uint64 `cbor:"4,keyasint,omitempty"` // with CommandHeard
	Confirm bool   `cbor:"5,keyasint,omitempty"` // with CommandHeard: the terminal is to say at once that it got it
}

func (c *Command) valid() error {
	if (c.Kind == CommandHeard) != (c.Beat != 0) || c.Confirm && c.Beat == 0 {
		return malformed("command and beat do not fit")
	}
	switch c.Kind {
	case CommandReport, CommandRenew, CommandSettings, CommandHeard, CommandRehearse:
		if len(c.Order) != 0 {
			return malformed("command carries an order that it does not need")
		}
	case CommandDecommission:
		if err := checkStatement(c.Order); err != nil {
			return err
		}
	default:
		return malformed("unknown command")
	}
	return checkVersion(c.Version)
}

// EndReceipt is a signed End kept until the clinic has it.
type EndReceipt struct {
	Version uint   `cbor:"1,keyasint"`
	Call    CallID `cbor:"2,keyasint"`
	End     []byte `cbor:"3,keyasint"`
}

func (e *EndReceipt) valid() error {
	if (e.Call == CallID{}) {
		return malformed("end receipt lacks a call")
	}
	if err := checkStatement(e.End); err != nil {
		return err
	}
	return checkVersion(e.Version)
}

// Opening is one entry of the ledger: a camera or microphone was opened or closed, in a proven call, for a technician's check or, the microphone alone, in a rehearsal.
type Opening struct {
	Version uint   `cbor:"1,keyasint"`
	Device  string `cbor:"2,keyasint"` // "camera" or "microphone"
	Open    bool   `cbor:"3,keyasint"`
	Call    CallID `cbor:"4,keyasint"` // zero if it is a check's or a rehearsal's
	At      Time   `cbor:"5,keyasint"`
	Reason  string `cbor:"6,keyasint,omitempty"` // empty: Call; or OpeningCheck, OpeningRehearsal
	Mandate []byte `cbor:"7,keyasint,omitempty"` // with OpeningCheck: the id of the technician's Mandate
}

// OpeningCheck is the reason of an opening for the acceptance check, which a technician began with a press of the terminal's button.
const OpeningCheck = "check"

// OpeningRehearsal is the reason of an opening of the microphone for a chirp of the terminal's own loudspeaker. No camera opens for it.
const OpeningRehearsal = "rehearsal"

func (o *Opening) valid() error {
	if o.Device != "camera" && o.Device != "microphone" {
		return malformed("unknown device")
	}
	if o.At <= 0 {
		return malformed("opening lacks a time")
	}
	switch {
	case o.Reason == "" && len(o.Mandate) == 0:
	case o.Reason == OpeningCheck && len(o.Mandate) == len(Nonce{}) && o.Call == (CallID{}):
	case o.Reason == OpeningRehearsal && o.Device == "microphone" && len(o.Mandate) == 0 && o.Call == (CallID{}):
	default:
		return malformed("opening is neither of a call nor of a technician's check or a rehearsal of the microphone")
	}
	return checkVersion(o.Version)
}

// Notice reports something that happened outside a call or was refused (R18).
type Notice struct {
	Version uint   `cbor:"1,keyasint"`
	Code    Code   `cbor:"2,keyasint"`
	Call    CallID `cbor:"3,keyasint"` // zero if none
	Detail  string `cbor:"4,keyasint"` // technical, without names, addresses or secrets
	At      Time   `cbor:"5,keyasint"`
}

func (n *Notice) valid() error {
	if n.At <= 0 {
		return malformed("notice lacks a time")
	}
	if err := n.Code.valid(); err != nil {
		return err
	}
	if err := checkText("detail", n.Detail, false); err != nil {
		return err
	}
	return checkVersion(n.Version)
}
