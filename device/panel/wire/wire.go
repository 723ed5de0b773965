// Package wire is what a terminal and its panel say to each other over a serial line. docs/panel.md has it byte by byte.
//
//	00 | COBS( version 51 | kind | payload, at most 16 bytes | CRC-32C, big endian, of all before ) | 00
//
// These are the frames of a technician's cable with another version, so that a laptop that is plugged into the wrong socket is no panel and presses no
// button. A frame that is damaged, too long, of another version or of a length that its kind does not have is dropped. Nothing here allocates
// without bound, blocks, or believes what a frame says: a CRC finds accidents and is no protection against anybody who holds the wires.
package wire

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Times that both ends keep.
const (
	LeaseTime  = 1500 * time.Millisecond // how long the panel leaves the camera on after it was told to; below the 2 s that are promised
	RenewTime  = 500 * time.Millisecond  // between leases
	StatusTime = 100 * time.Millisecond  // between statuses at the longest
)

// Baud is the line's speed in bit/s, with 8 data bits, no parity and 1 stop bit.
const Baud = 115200

const (
	version    = 0x51
	overhead   = 2 + 4 // version, kind, CRC
	maxPayload = 16
	maxCoded   = maxPayload + overhead + 1 // below 254 bytes COBS adds one
)

// Kinds of frames.
const (
	kindHello  = 0x01
	kindLease  = 0x02
	kindStatus = 0x81
)

const (
	helloSize  = 4
	leaseSize  = 7
	statusSize = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Message is a Hello, a Lease or a Status.
type Message interface {
	// Append appends the message as it goes over the line.
	Append(dst []byte) []byte
}

// Hello begins a session: whatever lease the panel still had from another one is over.
type Hello struct{ Session uint32 } // by chance, and not 0

// Lease is what the terminal wants until LeaseTime from now.
type Lease struct {
	Session  uint32
	Sequence uint8 // one more than the last; one that is not newer is dropped
	Camera   bool  // power for the camera, and with it the light
	Lamp     Lamp
}

// Lamp is what the call lamp shows. The camera's light is another one, and nobody's to switch.
type Lamp uint8

const (
	LampOff     Lamp = iota
	LampRinging      // it breathes slowly
	LampCall         // it is on
	lamps
)

// Status is what the panel is and does.
type Status struct {
	Session  uint32 // of the hello that it goes by; 0: none since it was started
	Sequence uint8
	Camera   bool  // power and light are on
	Open     bool  // the shutter is known to be open
	Denied   bool  // somebody said no to the call that rings or runs: the camera stays off until it is over, which a lease for nothing says
	NoHeld   bool  // the buttons, now
	Held     bool  //
	No       uint8 // presses of the no button since the panel was started, modulo 256
	Answer   uint8 // of the answer button
	Volume   uint8 // the knob, percent
	Light    uint8 // in the room, from 0 (dark)
	Left     uint8 // of the lease, in hundredths of a second
	Firmware uint8 // its version
}

const (
	flagCamera = 1 << iota
	flagOpen
	flagDenied
	flagNoHeld
	flagHeld
)

// Append implements Message.
func (h Hello) Append(dst []byte) []byte {
	var p [helloSize]byte
	binary.BigEndian.PutUint32(p[:], h.Session)
	return frame(dst, kindHello, p[:])
}

// Append implements Message.
func (l Lease) Append(dst []byte) []byte {
	var p [leaseSize]byte
	binary.BigEndian.PutUint32(p[:], l.Session)
	p[4] = l.Sequence
	if l.Camera {
		p[5] = 1
	}
	p[6] = byte(l.Lamp)
	return frame(dst, kindLease, p[:])
}

// Append implements Message.
func (s Status) Append(dst []byte) []byte {
	var p [statusSize]byte
	binary.BigEndian.PutUint32(p[:], s.Session)
	p[4] = s.Sequence
	for flag, on := range map[byte]bool{flagCamera: s.Camera, flagOpen: s.Open, flagDenied: s.Denied, flagNoHeld: s.NoHeld, flagHeld: s.Held} {
		if on {
			p[5] |= flag
		}
	}
	p[6], p[7], p[8], p[9], p[10], p[11] = s.No, s.Answer, s.Volume, s.Light, s.Left, s.Firmware
	return frame(dst, kindStatus, p[:])
}

func frame(dst []byte, kind byte, payload []byte) []byte {
	return frameOf(dst, version, kind, payload)
}

func frameOf(dst []byte, version, kind byte, payload []byte) []byte {
	plain := append([]byte{version, kind}, payload...)
	plain = binary.BigEndian.AppendUint32(plain, crc32.Checksum(plain, castagnoli))
	dst = append(dst, 0)
	at := len(dst)
	dst = append(dst, 1)
	for _, b := range plain { // below 254 bytes, so no code byte is full
		if b == 0 {
			at = len(dst)
			dst = append(dst, 1)
			continue
		}
		dst = append(dst, b)
		dst[at]++
	}
	return append(dst, 0)
}

// Decoder finds messages in what comes over a line. The zero value is ready. It is not safe for concurrent use.
type Decoder struct {
	coded   [maxCoded]byte
	n       int
	long    bool
	dropped uint64
}

// Feed takes the next byte and returns the message that it ends; nil if it ends none.
func (d *Decoder) Feed(b byte) Message {
	if b != 0 {
		if d.n == maxCoded {
			d.long = true
			return nil
		}
		d.coded[d.n] = b
		d.n++
		return nil
	}
	n, long := d.n, d.long
	d.n, d.long = 0, false
	if n == 0 {
		return nil // between frames
	}
	if !long {
		if m := parse(d.coded[:n]); m != nil {
			return m
		}
	}
	d.dropped++
	return nil
}

// Dropped returns how many frames were none.
func (d *Decoder) Dropped() uint64 { return d.dropped }

// parse undoes what frame does between the zeros; nil if it cannot be.
func parse(coded []byte) Message {
	var space [maxCoded]byte
	plain := space[:0]
	for i := 0; i < len(coded); {
		code := int(coded[i])
		if i+code > len(coded) {
			return nil
		}
		plain = append(plain, coded[i+1:i+code]...)
		if i += code; i < len(coded) {
			plain = append(plain, 0)
		}
	}
	if len(plain) < overhead || plain[0] != version {
		return nil
	}
	body, payload := plain[:len(plain)-4], plain[2:len(plain)-4]
	if binary.BigEndian.Uint32(plain[len(body):]) != crc32.Checksum(body, castagnoli) {
		return nil
	}
	switch kind := plain[1]; {
	case kind == kindHello && len(payload) == helloSize:
		return Hello{binary.BigEndian.Uint32(payload)}
	case kind == kindLease && len(payload) == leaseSize && payload[5] <= 1 && payload[6] < byte(lamps):
		return Lease{Session: binary.BigEndian.Uint32(payload), Sequence: payload[4], Camera: payload[5] == 1, Lamp: Lamp(payload[6])}
	case kind == kindStatus && len(payload) == statusSize && payload[5]>>5 == 0 && payload[8] <= 100:
		f := payload[5]
		return Status{
			Session: binary.BigEndian.Uint32(payload), Sequence: payload[4],
			Camera: f&flagCamera != 0, Open: f&flagOpen != 0, Denied: f&flagDenied != 0, NoHeld: f&flagNoHeld != 0, Held: f&flagHeld != 0,
			No: payload[6], Answer: payload[7], Volume: payload[8], Light: payload[9], Left: payload[10], Firmware: payload[11],
		}
	}
	return nil
}

// Newer tells whether a sequence number comes after another: at most 127 later.
func Newer(a, b uint8) bool { return int8(a-b) > 0 } //nolint:gosec // the wrap is meant
