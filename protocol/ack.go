package protocol

import (
	"errors"
	"fmt"
)

const typeAck = "vindu/ack.v1"

// Ack says that every event of Epoch up to and including Seq is committed at the clinic; the terminal forgets them then. It is a statement of the clinic's service
// key, so that nobody in between can swallow an event and have the terminal forget it. Sent once more it says nothing new: the numbers of an epoch only grow.
type Ack struct {
	Version  uint    `cbor:"1,keyasint"`
	Terminal KeyHash `cbor:"2,keyasint"` // whose events
	Epoch    Nonce   `cbor:"3,keyasint"`
	Seq      uint64  `cbor:"4,keyasint"`
}

func (a *Ack) valid() error {
	if (a.Terminal == KeyHash{}) || (a.Epoch == Nonce{}) || a.Seq == 0 {
		return malformed("ack lacks a terminal, an epoch or a sequence number")
	}
	return checkVersion(a.Version)
}

func (*Ack) contentType() string { return typeAck }

// VerifyAck returns an acknowledgement that one of the service keys (DER SubjectPublicKeyInfo, Trust.Service) has signed for this terminal. The code of the
// error is AuthAck.
func VerifyAck(signed []byte, service [][]byte, terminal KeyHash) (*Ack, error) {
	refused := func(err error) error { return WithCode(AuthAck, fmt.Errorf("acknowledgement: %w", err)) }
	err := errors.New("no service key is known")
	for _, der := range service {
		key, keyErr := ParseKey(der)
		if keyErr != nil {
			return nil, refused(keyErr)
		}
		a := new(Ack)
		if err = Verify(signed, key, a); err != nil {
			continue
		}
		if a.Terminal != terminal {
			return nil, refused(fmt.Errorf("it is for the terminal %s", a.Terminal.Code()))
		}
		return a, nil
	}
	return nil, refused(err)
}
