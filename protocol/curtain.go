package protocol

const typeCurtain = "vindu/curtain.v1"

// Curtain is what each end proves of its curtain in a call. While either is drawn nobody sees and nobody hears anybody: at home camera and microphone are closed
// devices. Each end draws and opens its own alone, so that no end can open what the other has drawn.
type Curtain struct {
	Version    uint    `cbor:"1,keyasint"`
	Call       CallID  `cbor:"2,keyasint"`
	Terminal   KeyHash `cbor:"3,keyasint"`
	Invitation Hash    `cbor:"4,keyasint"` // SHA-256 of the signed invitation's bytes
	By         Side    `cbor:"5,keyasint"`
	Drawn      bool    `cbor:"6,keyasint"` // the curtain of By
	Number     uint32  `cbor:"7,keyasint"` // from 1, in each end's own order: what is not newer says nothing, so that nobody opens a curtain with an old statement
	// CameraClosed and MicrophoneClosed are since when they are closed for a curtain, whosever it is; 0: they are not. Only the terminal can say.
	CameraClosed     Time `cbor:"8,keyasint"`
	MicrophoneClosed Time `cbor:"9,keyasint"`
	At               Time `cbor:"10,keyasint"`
}

func (*Curtain) contentType() string { return typeCurtain }

func (c *Curtain) valid() error {
	if err := checkVersion(c.Version); err != nil {
		return err
	}
	switch {
	case c.By != SideTerminal && c.By != SideCaller: // the clinic's server has none
		return malformed("a curtain of nobody who has one")
	case (c.Call == CallID{}) || (c.Terminal == KeyHash{}) || (c.Invitation == Hash{}) || c.At <= 0 || c.Number == 0:
		return malformed("curtain lacks a call, terminal, invitation, number or time")
	case c.CameraClosed < 0 || c.MicrophoneClosed < 0 || (c.CameraClosed == 0) != (c.MicrophoneClosed == 0):
		return malformed("camera and microphone are closed for a curtain together")
	case c.By != SideTerminal && c.CameraClosed != 0:
		return malformed("only the terminal can say that its camera and microphone are closed")
	case c.CameraClosed > c.At || c.MicrophoneClosed > c.At:
		return malformed("camera or microphone is closed in time to come")
	}
	return nil
}
