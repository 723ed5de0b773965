package protocol

import "fmt"

const (
	typeCandidates = "vindu/candidates.v1"

	// MaxCandidates bounds one statement; MaxStatement bounds their length.
	MaxCandidates = 8
)

// Candidates are ICE candidates of the caller (RFC 8838), signed by the invitation's key: else whoever carries the messages could have the terminal look for paths
// to addresses of his choice, within the home's network too.
type Candidates struct {
	Version    uint        `cbor:"1,keyasint"`
	Call       CallID      `cbor:"2,keyasint"`
	Terminal   KeyHash     `cbor:"3,keyasint"`
	Invitation Hash        `cbor:"4,keyasint"` // SHA-256 of the invitation's bytes
	Number     uint64      `cbor:"5,keyasint"` // of this statement; it grows in a call, from 1 on
	List       []Candidate `cbor:"6,keyasint"`
}

func (c *Candidates) valid() error {
	switch {
	case c.Call == CallID{}, c.Terminal == KeyHash{}, c.Invitation == Hash{}, c.Number == 0:
		return malformed("candidates lack a call, terminal, invitation or number")
	case len(c.List) == 0 || len(c.List) > MaxCandidates:
		return malformed("%d candidates, has to be 1 to %d", len(c.List), MaxCandidates)
	}
	for i := range c.List {
		if err := c.List[i].valid(); err != nil {
			return err
		}
	}
	return checkVersion(c.Version)
}

func (*Candidates) contentType() string { return typeCandidates }

// VerifyCandidates returns the candidates that the caller has signed to go with an invitation, by whose hash it was proven. It does not know which numbers have been.
// The code of the error is AuthUnproven.
func VerifyCandidates(signed []byte, invitation *Invitation, hash Hash) (*Candidates, error) {
	refused := func(err error) error { return WithCode(AuthUnproven, fmt.Errorf("candidates: %w", err)) }
	key, err := ParseKey(invitation.Key)
	if err != nil {
		return nil, refused(err)
	}
	c := new(Candidates)
	if err := Verify(signed, key, c); err != nil {
		return nil, refused(err)
	}
	if c.Call != invitation.Call || c.Terminal != invitation.Terminal || c.Invitation != hash {
		return nil, refused(fmt.Errorf("they go with another invitation: %w", ErrMalformed))
	}
	return c, nil
}
