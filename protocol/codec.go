package protocol

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Version is the protocol version that this package speaks.
const Version = 1

// Size limits in bytes of what a peer accepts. They bound memory before a decoder sees the input.
const (
	MaxStatement = 2 << 10  // a signed statement
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
	for _, r := range s {
		if r < 0x20 || r == 0x7f || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return malformed("%s has a control character", field)
		}
	}
	return nil
}
