package identity

import "github.com/fxamacker/cbor/v2"

var recordDecoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err) // constant options: cannot happen
	}
	return m
}()

// DecodeRecord reads the CBOR of a record in the folder identity into to: nothing unknown, twice, tagged or of an indefinite length.
func DecodeRecord(b []byte, to any) error { return recordDecoder.Unmarshal(b, to) }
