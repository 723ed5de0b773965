package protocol

const typeKeyOrder = "vindu/key-order.v1"

// KeyOrder asks a terminal to make a new key in the place of the one that it names. The clinic's authorisation key signs it. It names the very
// key that is to go, so it cannot be used again: with that key it is done.
type KeyOrder struct {
	Version  uint    `cbor:"1,keyasint"`
	Terminal KeyHash `cbor:"2,keyasint"` // the key that is to be replaced
	At       Time    `cbor:"3,keyasint"` // when it was signed
}

func (o *KeyOrder) valid() error {
	if (o.Terminal == KeyHash{}) || o.At <= 0 {
		return malformed("order for a new key lacks a terminal or a time")
	}
	return checkVersion(o.Version)
}

func (*KeyOrder) contentType() string { return typeKeyOrder }
