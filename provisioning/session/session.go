// Package session is how a technician's laptop and a terminal talk over a cable: both ends. docs/serial.md has it byte by byte.
//
// Messages travel in frames (package frame). The terminal greets whoever asks, with its public key and what state it is in. Then
// both ends exchange X25519 ephemeral keys and public keys; everything from there on is sealed by AES-256-GCM under keys of that
// exchange (HKDF-SHA-256, RFC 5869), so that the line can lose and damage, but not read, inject, reorder or repeat. Within it each end
// signs protocol.Session over the hash of both hellos: the technician first, and a terminal that is set up signs, shows and does
// nothing for one without a Mandate of its clinic (R4, R27). On a terminal that is set up a person must also press its button.
//
// A request has a number and is repeated until its reply comes; a terminal that has done it already repeats the reply. What takes long
// (an enrolment, an acceptance check) is a job of the terminal: it is started, then asked after. An enrolment survives the loss of the
// session, so that a cable pulled at any instant costs a new session and nothing else; a check, which opens camera and microphone, ends with the
// session of the technician who is there for it.
//
// There is no request for a shell, a file or a command, and none that returns a secret.
package session

import (
	"errors"
	"time"

	"vindu/protocol"
)

// Version of the session protocol.
const Version = 1

// Timing of a session.
const (
	ButtonTime = time.Minute      // for the press of the terminal's button
	PressTime  = 15 * time.Minute // for which a press is good; then the terminal asks for another one
	AskedTime  = 30 * time.Second // after which a check stops that nobody asks after
	IdleTime   = 10 * time.Minute // after which the terminal forgets a session in which nothing was asked
	JobTime    = 10 * time.Minute // the longest that an enrolment or a check may take
	AnswerTime = 30 * time.Second // for a terminal to answer one request
)

const maxFound = 32 // access points that a terminal tells of

var (
	// ErrSilent is wrapped when the terminal does not answer: cable, power, or another thing at the other end.
	ErrSilent = errors.New("the terminal does not answer")
	// ErrClosed is wrapped when the port is gone or Run has ended.
	ErrClosed = errors.New("the port is closed")
	// ErrLost is wrapped when the terminal does not know this session any more: Open has to be called again.
	ErrLost = errors.New("the terminal has forgotten the session")
	// ErrMalformed is wrapped by every error about a message that is not one.
	ErrMalformed = errors.New("malformed message")
	// ErrUnproven is wrapped when the other end does not prove that it holds its key.
	ErrUnproven = errors.New("the other end did not prove its key")
)

// State says how far a terminal is set up.
type State string

const (
	Factory  State = "factory"  // anybody with a cable may set it up
	SetUp    State = "set_up"   // only a technician of its clinic, with a press of its button
	Returned State = "returned" // taken out of use: greets and does nothing else
	KeyAway  State = "key_away" // its key or its enrolment is not there: greets in another's name, and can be reset by a long press of its button
)

// Greeting is what a terminal tells whoever asks. Open proves Public, and nothing else.
type Greeting struct {
	Version  uint   `cbor:"1,keyasint" json:"-"`
	Public   []byte `cbor:"2,keyasint" json:"-"` // DER SubjectPublicKeyInfo of the terminal's key
	State    State  `cbor:"3,keyasint" json:"state"`
	KeyGrade string `cbor:"4,keyasint" json:"key_grade"` // "hardware" or "file"
	Software string `cbor:"5,keyasint" json:"software"`
	// Why the state is KeyAway. Public is then no more than a name for this run of the terminal: the screen shows its code while it asks for the button.
	Cause protocol.Code `cbor:"6,keyasint,omitempty" json:"cause,omitempty"`
}

// Terminal returns the identity of the terminal; its Code is what its screen shows.
func (g *Greeting) Terminal() protocol.KeyHash { return protocol.HashSPKI(g.Public) }

// Info is what a terminal says about itself in a session.
type Info struct {
	State        State         `cbor:"1,keyasint" json:"state"`
	KeyGrade     string        `cbor:"2,keyasint" json:"key_grade"`
	Software     string        `cbor:"3,keyasint" json:"software"`
	Organisation string        `cbor:"4,keyasint" json:"organisation"` // empty if not set up, as Home and Address
	Home         string        `cbor:"5,keyasint" json:"home"`
	Address      string        `cbor:"6,keyasint" json:"address"`    // host:port of the clinic
	Expires      protocol.Time `cbor:"7,keyasint" json:"expires"`    // of its certificate
	Connected    bool          `cbor:"8,keyasint" json:"connected"`  // to the clinic
	Language     string        `cbor:"9,keyasint" json:"language"`   // tag of what the screen speaks
	Languages    []string      `cbor:"10,keyasint" json:"languages"` // that it can
	Time         protocol.Time `cbor:"11,keyasint" json:"time"`      // the terminal's
	TimeKnown    bool          `cbor:"12,keyasint" json:"time_known"`
	Button       string        `cbor:"13,keyasint" json:"button"` // what it is, as the device calls itself; empty if there is none
	Conditions   []string      `cbor:"14,keyasint" json:"conditions"`
	Authorised   bool          `cbor:"15,keyasint" json:"authorised"` // the technician may ask for everything now: see Client.Authorise
}

// Kinds of a network.
const (
	Ethernet = "ethernet"
	WiFi     = "wifi"
)

// How a Wi-Fi is secured.
const (
	Unsecured = "open"
	WPA2      = "wpa2" // pre-shared key
	WPA3      = "wpa3" // SAE
)

// Network is how a terminal is to reach the clinic. It replaces what was set before for its kind.
type Network struct {
	Kind     string          `cbor:"1,keyasint" json:"kind"`
	SSID     string          `cbor:"2,keyasint,omitempty" json:"ssid,omitempty"`
	Security string          `cbor:"3,keyasint,omitempty" json:"security,omitempty"`
	Password protocol.Secret `cbor:"4,keyasint,omitempty" json:"-"` // never comes back
	Hidden   bool            `cbor:"5,keyasint,omitempty" json:"hidden,omitempty"`
	Country  string          `cbor:"6,keyasint,omitempty" json:"country,omitempty"` // two letters (ISO 3166-1), for the radio's rules
	Address  string          `cbor:"7,keyasint,omitempty" json:"address,omitempty"` // such as 192.0.2.7/24; empty: by DHCP
	Gateway  string          `cbor:"8,keyasint,omitempty" json:"gateway,omitempty"`
	DNS      []string        `cbor:"9,keyasint,omitempty" json:"dns,omitempty"`
}

// NetworkState is how the terminal is connected now.
type NetworkState struct {
	Interfaces []Interface `cbor:"1,keyasint" json:"interfaces"`
}

// Interface is one way out of the terminal.
type Interface struct {
	Name      string        `cbor:"1,keyasint" json:"name"`
	Kind      string        `cbor:"2,keyasint" json:"kind"`
	Up        bool          `cbor:"3,keyasint" json:"up"` // there is a carrier
	Addresses []string      `cbor:"4,keyasint" json:"addresses"`
	SSID      string        `cbor:"5,keyasint,omitempty" json:"ssid,omitempty"` // what is set
	Security  string        `cbor:"6,keyasint,omitempty" json:"security,omitempty"`
	Signal    int           `cbor:"7,keyasint,omitempty" json:"signal,omitempty"` // dBm; 0 if not known
	Code      protocol.Code `cbor:"8,keyasint,omitempty" json:"code,omitempty"`   // what is wrong, or ""
}

// AccessPoint is a Wi-Fi that the terminal hears.
type AccessPoint struct {
	SSID     string `cbor:"1,keyasint" json:"ssid"`
	Security string `cbor:"2,keyasint" json:"security"` // WPA3 if it offers WPA2 too; "" if none of ours
	Signal   int    `cbor:"3,keyasint" json:"signal"`   // dBm
}

// Grant is what an enrolment through the laptop gave: the certificate comes back over the cable, the key never leaves.
type Grant struct {
	Address    string   `cbor:"1,keyasint"` // host:port of the clinic's front door
	ServerName string   `cbor:"2,keyasint"`
	Chain      [][]byte `cbor:"3,keyasint"` // DER: the terminal's certificate, then those between it and Root
	Root       []byte   `cbor:"4,keyasint"` // DER
	Settings   []byte   `cbor:"5,keyasint"` // protocol.Settings, encoded
}

// States of a job.
const (
	JobNone    = "none" // there was none since the terminal started
	JobRunning = "running"
	JobDone    = "done"
	JobFailed  = "failed"
)

// EnrolStatus is how the last enrolment goes.
type EnrolStatus struct {
	State string        `cbor:"1,keyasint" json:"state"`
	Code  protocol.Code `cbor:"2,keyasint,omitempty" json:"code,omitempty"` // why it failed
	Cause string        `cbor:"3,keyasint,omitempty" json:"cause,omitempty"`
}

// CheckOptions are what is to be checked.
type CheckOptions struct {
	Names []string `cbor:"1,keyasint" json:"names"` // as in protocol.Check; none: all
	Seen  bool     `cbor:"2,keyasint" json:"seen"`  // a person has compared the code on the terminal's screen
}

// CheckStatus is how the last acceptance check goes.
type CheckStatus struct {
	Run     uint64           `cbor:"1,keyasint" json:"run"` // counts from 1; another number is another run
	State   string           `cbor:"2,keyasint" json:"state"`
	Current string           `cbor:"3,keyasint,omitempty" json:"current,omitempty"` // name of the check that runs
	Total   uint             `cbor:"4,keyasint" json:"total"`
	Done    []protocol.Check `cbor:"5,keyasint" json:"done"`
	Code    protocol.Code    `cbor:"6,keyasint,omitempty" json:"code,omitempty"` // why the whole run failed
	Cause   string           `cbor:"7,keyasint,omitempty" json:"cause,omitempty"`
}
