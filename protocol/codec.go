package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Version is the protocol version that this package speaks.
const Version = 1

// Size limits in bytes of what a peer accepts. They bound memory before a decoder sees the input.
const (
	MaxStatement = 2 << 10  // a signed statement, those excepted whose files name another limit
	MaxSDP       = 64 << 10 // an offer or an answer
	MaxMessage   = 96 << 10 // any MQTT payload
	MaxCandidate = 1 << 10  // an ICE candidate line
	MaxText      = 256      // a name, role, errand or label, in bytes of UTF-8
	MaxParties   = 4        // parties of one call (R14)
)

var (
	// ErrMalformed is wrapped by every error about bytes that are not a valid message: not canonical, unknown
	// field, wrong type, out of bounds.
	ErrMalformed = errors.New("malformed message")
	// ErrTooLarge is wrapped when the input exceeds the limit for its kind; nothing of it was decoded.
	ErrTooLarge = errors.New("message too large")
	// ErrVersion is wrapped when the message is of a version that this package does not speak.
	ErrVersion = errors.New("unknown protocol version")
)

var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.TagsMd = cbor.TagsForbidden
		m, err := o.EncMode()
		if err != nil {
			panic(err) // constant options: cannot happen
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey:         cbor.DupMapKeyEnforcedAPF,
			IndefLength:       cbor.IndefLengthForbidden,
			TagsMd:            cbor.TagsForbidden,
			ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
			MaxNestedLevels:   8,
			MaxArrayElements:  1024,
			MaxMapPairs:       64,
		}.DecMode()
		if err != nil {
			panic(err) // constant options: cannot happen
		}
		return m
	}()
)

// validator is implemented by every message: valid checks what the types alone cannot.
type validator interface{ valid() error }

// Encode returns the canonical encoding of a message of this package.
// It refuses a message that Decode would refuse.
func Encode(m validator) ([]byte, error) {
	if err := m.valid(); err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	b, err := encMode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("encode %T: %d bytes: %w", m, len(b), ErrTooLarge)
	}
	return b, nil
}

// Decode decodes exactly one message from all of b into m, which must be a pointer to a
// zero message. It returns an error wrapping ErrTooLarge, ErrMalformed or ErrVersion.
func Decode(b []byte, m validator) error { return decodeMax(b, m, MaxMessage) }

func decodeMax(b []byte, m validator, limit int) error {
	if len(b) > limit {
		return fmt.Errorf("decode %T: %d bytes, at most %d: %w", m, len(b), limit, ErrTooLarge)
	}
	if err := decMode.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode %T: %w: %w", m, ErrMalformed, err)
	}
	if err := m.valid(); err != nil {
		return fmt.Errorf("decode %T: %w", m, err)
	}
	again, err := encMode.Marshal(m)
	if err != nil {
		return fmt.Errorf("decode %T: %w: %w", m, ErrMalformed, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("decode %T: not canonical: %w", m, ErrMalformed)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func checkVersion(v uint) error {
	if v != Version {
		return fmt.Errorf("version %d: %w", v, ErrVersion)
	}
	return nil
}

func checkText(field, s string, required bool) error {
	if required && s == "" {
		return malformed("%s is empty", field)
	}
	if len(s) > MaxText {
		return malformed("%s has %d bytes, at most %d", field, len(s), MaxText)
	}
	if !utf8.ValidString(s) {
		return malformed("%s is not UTF-8", field)
	}
	for _, r := range s {
		if unprintable(r) {
			return malformed("%s has the control character %U", field, r)
		}
	}
	return nil
}

// Printable returns what a message may carry of a text that comes from elsewhere, such as a device's own name: at most MaxText bytes of it,
// without the characters that messages refuse and without what is not UTF-8.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || unprintable(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > MaxText {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// unprintable lists what has no place in a text that is shown to people: controls, line ends, and what turns or hides the text around it
// without being seen itself (Unicode UAX #9 §2, UTS #39 §3). The joiners U+200C and U+200D stay: names are spelt with them. The list is
// part of the protocol, and not Unicode's own categories, because both ends have to refuse the same whatever Unicode they know.
func unprintable(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f: // C0, DEL, C1
	case r == 0xad, r == 0x61c, r == 0x180e, r == 0x200b, r == 0x200e, r == 0x200f:
	case r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
	case r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f:
	default:
		return false
	}
	return true
}
