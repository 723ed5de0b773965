package session

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"vindu/protocol"
)

// Kinds of frames.
const (
	kindAsk      = 1 // laptop: who are you?
	kindGreeting = 2 // terminal: Greeting
	kindHello    = 3 // laptop: hello
	kindReply    = 4 // terminal: hello
	kindSealed   = 5 // either: tag, counter, and a request or reply, sealed
	kindLost     = 6 // terminal: the tag of a session that it does not know
)

// Requests, by name. opOpen has the number 0 and comes first.
const (
	opOpen         = "open"
	opInfo         = "info"
	opPress        = "press"
	opSetNetwork   = "network.set"
	opNetwork      = "network.get"
	opScan         = "network.scan"
	opLanguage     = "language.set"
	opEnrol        = "enrol"
	opEnrolStatus  = "enrol.status"
	opCSR          = "csr"
	opInstall      = "certificate.install"
	opCheck        = "check.start"
	opCheckStatus  = "check.status"
	opCheckStop    = "check.stop"
	opHandOver     = "handover.sign"
	opHandOverDone = "handover.finish"
	opReset        = "identity.reset"
)

// hello begins a session; both ends' hellos are the transcript.
type hello struct {
	Version   uint   `cbor:"1,keyasint"`
	Ephemeral []byte `cbor:"2,keyasint"` // X25519
	Public    []byte `cbor:"3,keyasint"` // DER SubjectPublicKeyInfo of the sender's own key
}

// request is what the laptop wants. A higher number is a new request, the same one a repetition.
type request struct {
	Number uint64          `cbor:"1,keyasint"`
	Op     string          `cbor:"2,keyasint"`
	Body   cbor.RawMessage `cbor:"3,keyasint,omitempty"`
}

// reply is what became of a request.
type reply struct {
	Number uint64          `cbor:"1,keyasint"`
	Wait   bool            `cbor:"2,keyasint,omitempty"` // it is being worked on
	Code   protocol.Code   `cbor:"3,keyasint,omitempty"` // why not
	Cause  string          `cbor:"4,keyasint,omitempty"`
	Body   cbor.RawMessage `cbor:"5,keyasint,omitempty"`
}

type openRequest struct {
	Proof   []byte `cbor:"1,keyasint"`           // protocol.Session signed by the laptop's key
	Mandate []byte `cbor:"2,keyasint,omitempty"` // for that key
}

type openReply struct {
	Proof []byte `cbor:"1,keyasint"` // protocol.Session signed by the terminal's key
}

type pressRequest struct {
	Begin bool `cbor:"1,keyasint"` // ask for a press if none is being asked for; otherwise only say how it is
}

type pressStatus struct {
	Pressed bool `cbor:"1,keyasint"` // or not needed
}

type scanReply struct {
	Found []AccessPoint `cbor:"1,keyasint"`
}

type languageRequest struct {
	Tag string `cbor:"1,keyasint"`
}

type enrolRequest struct {
	Voucher protocol.Secret `cbor:"1,keyasint"` // as text
}

type csrReply struct {
	CSR []byte `cbor:"1,keyasint"`
}

// signedReply and recordRequest carry statements of package protocol, encoded.
type (
	recordRequest struct {
		Record []byte `cbor:"1,keyasint"`
	}
	signedReply struct {
		Signed []byte `cbor:"1,keyasint"`
	}
)

var (
	encMode = func() cbor.EncMode {
		m, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			panic(err) // constant options: cannot happen
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
			ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 8, MaxArrayElements: 256, MaxMapPairs: 32,
		}.DecMode()
		if err != nil {
			panic(err) // constant options: cannot happen
		}
		return m
	}()
)

func encode(m any) ([]byte, error) {
	b, err := encMode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	return b, nil
}

// decode decodes exactly one message and refuses whatever it does not know.
func decode(b []byte, m any) error {
	if err := decMode.Unmarshal(b, m); err != nil {
		return protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("decode %T: %w: %w", m, ErrMalformed, err))
	}
	return nil
}

func malformed(format string, args ...any) error {
	return protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...)))
}

// clean leaves in all texts of a message only what may be printed: what is at the other end of a cable must not write to the
// technician's screen as it likes.
func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clean(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			clean(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				clean(v.Index(i))
			}
		}
	case reflect.String:
		v.SetString(protocol.Printable(v.String()))
	default:
	}
}

// Validate checks what can be checked without a network. The text of the error is for the technician.
func (n *Network) Validate() error {
	bad := func(format string, args ...any) error {
		return malformed("network: "+format, args...)
	}
	switch n.Kind {
	case Ethernet:
		if n.SSID != "" || n.Security != "" || n.Password != "" || n.Hidden || n.Country != "" {
			return bad("a cable has no Wi-Fi")
		}
	case WiFi:
		if len(n.SSID) == 0 || len(n.SSID) > 32 {
			return bad("the name of a Wi-Fi has 1 to 32 bytes")
		}
		if err := n.checkPassword(); err != nil {
			return bad("%v", err)
		}
		if n.Country != "" && (len(n.Country) != 2 || strings.Trim(n.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
			return bad("a country has two capital letters")
		}
	default:
		return bad("kind has to be %q or %q", Ethernet, WiFi)
	}
	return n.checkAddress(bad)
}

// checkPassword knows IEEE 802.11 annex J.4: a pass phrase has 8 to 63 printable ASCII characters; SAE takes any text.
func (n *Network) checkPassword() error {
	p := string(n.Password)
	switch n.Security {
	case Unsecured:
		if p != "" {
			return errors.New("an open Wi-Fi has no password")
		}
	case WPA2:
		if len(p) < 8 || len(p) > 63 {
			return errors.New("a WPA2 password has 8 to 63 characters")
		}
		for _, r := range p {
			if r < 0x20 || r > 0x7e {
				return errors.New("a WPA2 password has only letters, digits and signs of ASCII")
			}
		}
	case WPA3:
		if len(p) == 0 || len(p) > 128 || strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return errors.New("a WPA3 password has 1 to 128 bytes and no control characters")
		}
	default:
		return fmt.Errorf("security has to be %q, %q or %q", WPA2, WPA3, Unsecured)
	}
	return nil
}

func (n *Network) checkAddress(bad func(string, ...any) error) error {
	if n.Address == "" {
		if n.Gateway != "" || len(n.DNS) > 0 {
			return bad("a gateway or name servers need an address; leave all empty for DHCP")
		}
		return nil
	}
	p, err := netip.ParsePrefix(n.Address)
	if err != nil || p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().IsLoopback() {
		return bad("%q is no address such as 192.0.2.7/24", n.Address)
	}
	if g, err := netip.ParseAddr(n.Gateway); n.Gateway != "" && (err != nil || g.Zone() != "" || !p.Contains(g)) {
		return bad("%q is no gateway within %s", n.Gateway, n.Address)
	}
	if len(n.DNS) > 3 {
		return bad("at most three name servers")
	}
	for _, d := range n.DNS {
		if a, err := netip.ParseAddr(d); err != nil || a.Zone() != "" {
			return bad("%q is no address of a name server", d)
		}
	}
	return nil
}
