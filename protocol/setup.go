package protocol

import "time"

// Content types of the statements about setting up and taking back a terminal; part of what is signed.
const (
	typeMandate      = "vindu/mandate.v1"
	typeSession      = "vindu/session.v1"
	typeHandOver     = "vindu/hand-over.v1"
	typeDecommission = "vindu/decommission.v1"
	typeReceipt      = "vindu/decommissioned.v1"
	typeClock        = "vindu/clock.v1"
)

// PathClock answers, to anybody, a nonce with a signed Clock: how a terminal without a time learns it.
const PathClock = "/vindu/v1/clock"

// PathTrust answers, to anybody, with a signed Trust: how whoever knows an authorisation key alone learns the service key, which signs the time. With
// ParamTrust, here and at PathSettings, it is the newest that the asker can verify by the one that it has.
const PathTrust = "/vindu/v1/trust"

// ParamTrust is the query parameter with the serial number, in decimal, of the Trust that the asker has.
const ParamTrust = "trust"

// MaxMandateLife bounds To-From of a Mandate (R27).
const MaxMandateLife = 31 * 24 * time.Hour

// Mandate authorises a technician, by a key on that person's laptop, to work at terminals (R4, R27). The clinic's authorisation
// key signs it.
type Mandate struct {
	Version uint   `cbor:"1,keyasint"`
	ID      Nonce  `cbor:"2,keyasint"`
	Person  Party  `cbor:"3,keyasint"`
	Key     []byte `cbor:"4,keyasint"` // DER SubjectPublicKeyInfo, ECDSA P-256
	From    Time   `cbor:"5,keyasint"`
	To      Time   `cbor:"6,keyasint"`
}

func (t *Mandate) valid() error {
	if err := checkVersion(t.Version); err != nil {
		return err
	}
	if (t.ID == Nonce{}) || len(t.Key) == 0 || len(t.Key) > 512 {
		return malformed("mandate lacks an id or a key")
	}
	if t.From <= 0 || t.To <= t.From || t.To-t.From > Time(MaxMandateLife.Milliseconds()) {
		return malformed("mandate is not valid for any, or for too long a time")
	}
	return t.Person.valid()
}

// Session is what either end of a serial session proves to the other: that it holds its key, in this very session.
type Session struct {
	Version    uint    `cbor:"1,keyasint"`
	Transcript Hash    `cbor:"2,keyasint"` // of both ends' first messages, ephemeral keys included
	Terminal   KeyHash `cbor:"3,keyasint"`
	By         Side    `cbor:"4,keyasint"` // SideTerminal or SideTechnician
	At         Time    `cbor:"5,keyasint"`
}

// SideTechnician is the laptop's end of a serial session.
const SideTechnician Side = "technician"

func (s *Session) valid() error {
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if s.By != SideTerminal && s.By != SideTechnician {
		return malformed("unknown side")
	}
	if (s.Transcript == Hash{}) || (s.Terminal == KeyHash{}) || s.At <= 0 {
		return malformed("session lacks a transcript, terminal or time")
	}
	return nil
}

// States of a Check.
const (
	CheckPassed  = "passed"
	CheckFailed  = "failed"
	CheckSkipped = "skipped" // there is nothing to check, as Code says
)

// MaxChecks bounds the checks of one acceptance.
const MaxChecks = 24

// CheckNames are those that a whole acceptance consists of, in their order. A hand-over has all of them.
func CheckNames() []string {
	return []string{
		"screen", "panel", "camera.brightness", "camera.sharpness", "camera.motion", "microphone.level", "loudspeaker.chirp", "network.address",
		"wifi.signal", "network.tls", "network.udp", "relay.allocation", "clinic.latency", "clinic.loss", "time.offset", "call.robot",
	}
}

// Check is one thing that was looked at when a terminal was handed over.
type Check struct {
	Name   string `cbor:"1,keyasint" json:"name"`                    // such as "camera.brightness"
	State  string `cbor:"2,keyasint" json:"state"`                   // CheckPassed …
	Figure string `cbor:"3,keyasint,omitempty" json:"figure"`        // what was measured, with its unit, at most 40 bytes
	Code   Code   `cbor:"4,keyasint,omitempty" json:"code,omitzero"` // why it failed or was skipped
}

func (c Check) valid() error {
	if c.State != CheckPassed && c.State != CheckFailed && c.State != CheckSkipped {
		return malformed("unknown state of a check")
	}
	if len(c.Name) == 0 || len(c.Name) > 40 || len(c.Figure) > 40 {
		return malformed("check out of bounds")
	}
	if (c.State == CheckPassed) != (c.Code == "") {
		return malformed("a check has a code if, and only if, it did not pass")
	}
	if err := checkText("name of the check", c.Name, true); err != nil {
		return err
	}
	if c.Code != "" {
		if err := c.Code.valid(); err != nil {
			return err
		}
	}
	return checkText("figure", c.Figure, false)
}

// HandOver is the record that a terminal was set up and what was found (R4). Terminal and technician each sign the same
// bytes. It says nothing about a patient.
type HandOver struct {
	Version      uint    `cbor:"1,keyasint"`
	ID           Nonce   `cbor:"2,keyasint"`
	Terminal     KeyHash `cbor:"3,keyasint"`
	Organisation string  `cbor:"4,keyasint"`
	Home         string  `cbor:"5,keyasint"` // label
	Technician   Party   `cbor:"6,keyasint"`
	Software     string  `cbor:"7,keyasint"`
	KeyGrade     string  `cbor:"8,keyasint"`
	Checks       []Check `cbor:"9,keyasint"`
	At           Time    `cbor:"10,keyasint"`
}

func (h *HandOver) valid() error {
	if err := checkVersion(h.Version); err != nil {
		return err
	}
	if (h.ID == Nonce{}) || (h.Terminal == KeyHash{}) || h.At <= 0 || len(h.Checks) > MaxChecks {
		return malformed("hand-over record lacks an id, terminal or time, or has too many checks")
	}
	for _, c := range h.Checks {
		if err := c.valid(); err != nil {
			return err
		}
	}
	if err := h.Technician.valid(); err != nil {
		return err
	}
	for _, f := range [...]struct{ name, text string }{{"organisation", h.Organisation}, {"home", h.Home}, {"software", h.Software}, {"key grade", h.KeyGrade}} {
		if err := checkText(f.name, f.text, true); err != nil {
			return err
		}
	}
	return nil
}

// HandOverEvent brings a hand-over record to the clinic: the same HandOver signed by both.
type HandOverEvent struct {
	Version       uint   `cbor:"1,keyasint"`
	Terminal      []byte `cbor:"2,keyasint"` // HandOver signed by the terminal's key
	Technician    []byte `cbor:"3,keyasint"` // HandOver signed by the technician's key
	Authorisation []byte `cbor:"4,keyasint"` // signed Mandate
}

func (e *HandOverEvent) valid() error {
	for _, b := range [][]byte{e.Terminal, e.Technician, e.Authorisation} {
		if err := checkStatement(b); err != nil {
			return err
		}
	}
	return checkVersion(e.Version)
}

// MaxOrderLife bounds how long an order to take a terminal out of use waits for a terminal that is away.
const MaxOrderLife = 365 * 24 * time.Hour

// Decommission orders a terminal to destroy its keys and state (R35). The clinic's authorisation key signs it.
type Decommission struct {
	Version  uint    `cbor:"1,keyasint"`
	Terminal KeyHash `cbor:"2,keyasint"`
	Nonce    Nonce   `cbor:"3,keyasint"`
	Issued   Time    `cbor:"4,keyasint"`
	Expires  Time    `cbor:"5,keyasint"`
}

func (d *Decommission) valid() error {
	if err := checkVersion(d.Version); err != nil {
		return err
	}
	if (d.Terminal == KeyHash{}) || (d.Nonce == Nonce{}) {
		return malformed("order lacks a terminal or a nonce")
	}
	if d.Issued <= 0 || d.Expires <= d.Issued || d.Expires-d.Issued > Time(MaxOrderLife.Milliseconds()) {
		return malformed("order is not valid for any, or for too long a time")
	}
	return nil
}

// Decommissioned is the last that a terminal's key signs: from now on it destroys itself.
type Decommissioned struct {
	Version  uint    `cbor:"1,keyasint"`
	Terminal KeyHash `cbor:"2,keyasint"`
	Order    Hash    `cbor:"3,keyasint"` // SHA-256 of the signed order
	KeyGrade string  `cbor:"4,keyasint"`
	At       Time    `cbor:"5,keyasint"`
}

func (d *Decommissioned) valid() error {
	if err := checkVersion(d.Version); err != nil {
		return err
	}
	if (d.Terminal == KeyHash{}) || (d.Order == Hash{}) || d.At <= 0 {
		return malformed("receipt lacks a terminal, an order or a time")
	}
	return checkText("key grade", d.KeyGrade, true)
}

// ReceiptEvent brings a signed Decommissioned to the clinic.
type ReceiptEvent struct {
	Version uint   `cbor:"1,keyasint"`
	Receipt []byte `cbor:"2,keyasint"`
}

func (e *ReceiptEvent) valid() error {
	if err := checkStatement(e.Receipt); err != nil {
		return err
	}
	return checkVersion(e.Version)
}

// Clock is the clinic's time, fresh because of the terminal's nonce, signed by the authorisation key: true whatever clock
// the terminal has, and whatever certificate the connection.
type Clock struct {
	Version uint  `cbor:"1,keyasint"`
	Nonce   Nonce `cbor:"2,keyasint"`
	At      Time  `cbor:"3,keyasint"`
}

func (c *Clock) valid() error {
	if (c.Nonce == Nonce{}) || c.At <= 0 {
		return malformed("clock lacks a nonce or a time")
	}
	return checkVersion(c.Version)
}

func (*Mandate) contentType() string        { return typeMandate }
func (*Session) contentType() string        { return typeSession }
func (*HandOver) contentType() string       { return typeHandOver }
func (*Decommission) contentType() string   { return typeDecommission }
func (*Decommissioned) contentType() string { return typeReceipt }
func (*Clock) contentType() string          { return typeClock }
