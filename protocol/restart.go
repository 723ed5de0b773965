package protocol

import (
	"crypto/ecdsa"
	"crypto/subtle"
	"errors"
	"fmt"
)

// ErrRestart is wrapped when a Restart is well signed and does not belong where it came.
var ErrRestart = errors.New("restart does not fit")

// MaxRestarts bounds how often another path is looked for in one call.
const MaxRestarts = 32

const typeRestart = "vindu/restart.v1"

// KindRestart is a CallIn or a CallOut whose Restart is set.
const KindRestart = "restart"

// CallRestart carries a signed Restart of the one who sends it, and the session description that it is about: the caller's offer, or the terminal's answer.
type CallRestart struct {
	Restart []byte `cbor:"1,keyasint"`
	SDP     SDP    `cbor:"2,keyasint"`
}

func (c *CallRestart) valid() error {
	if c.SDP == "" || len(c.SDP) > MaxSDP {
		return malformed("session description has %d bytes", len(c.SDP))
	}
	return checkStatement(c.Restart)
}

// Restart is what each end proves when another path is looked for in a call that runs (an ICE restart, RFC 8839 §4.4.1): the caller's, by the key of the call,
// which of its session descriptions is the new offer; the terminal's, by its own key, which answer goes with it. Whose certificate may speak stays what
// the invitation and the first answer say.
type Restart struct {
	Version    uint    `cbor:"1,keyasint"`
	Call       CallID  `cbor:"2,keyasint"`
	Terminal   KeyHash `cbor:"3,keyasint"`
	Invitation Hash    `cbor:"4,keyasint"`
	By         Side    `cbor:"5,keyasint"`
	N          uint64  `cbor:"6,keyasint"` // 1 for the first of the call; the answer has its offer's
	SDP        Hash    `cbor:"7,keyasint"`
	At         Time    `cbor:"8,keyasint"`
}

func (*Restart) contentType() string { return typeRestart }

func (r *Restart) valid() error {
	if err := checkVersion(r.Version); err != nil {
		return err
	}
	if r.By != SideTerminal && r.By != SideCaller {
		return malformed("unknown side")
	}
	if (r.Call == CallID{}) || (r.Terminal == KeyHash{}) || (r.Invitation == Hash{}) || (r.SDP == Hash{}) || r.At <= 0 {
		return malformed("restart lacks a call, terminal, invitation, description or time")
	}
	if r.N == 0 || r.N > MaxRestarts {
		return malformed("restart has the number %d", r.N)
	}
	return nil
}

// VerifyRestart returns the Restart that key has signed for side, if it is about that call of that terminal and about sdp, and comes after the one with the
// number last (0: none yet), so that nothing that was said before can be said again. Errors wrap ErrRestart or those of Verify.
func VerifyRestart(signed []byte, key *ecdsa.PublicKey, side Side, call CallID, terminal KeyHash, invitation Hash, sdp SDP, last uint64) (*Restart, error) {
	r := new(Restart)
	if err := Verify(signed, key, r); err != nil {
		return nil, err
	}
	sum := HashOf(sdp)
	switch {
	case r.By != side:
		return nil, fmt.Errorf("restart by the %s: %w", r.By, ErrRestart)
	case r.Call != call, r.Terminal != terminal, subtle.ConstantTimeCompare(r.Invitation[:], invitation[:]) != 1:
		return nil, fmt.Errorf("restart of another call: %w", ErrRestart)
	case subtle.ConstantTimeCompare(r.SDP[:], sum[:]) != 1:
		return nil, fmt.Errorf("restart with another session description: %w", ErrRestart)
	case r.N <= last:
		return nil, fmt.Errorf("restart number %d after number %d: %w", r.N, last, ErrRestart)
	}
	return r, nil
}
