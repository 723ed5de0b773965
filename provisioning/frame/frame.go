// Package frame carries messages over a line that loses, damages and invents bytes, such as a serial port with a console's
// chatter on it.
//
//	00 | COBS( version 01 | kind | payload, at most 16 KiB | CRC-32C, big endian, of all before ) | 00
//
// COBS is consistent overhead byte stuffing (Cheshire and Baker, SIGCOMM 1997): no byte within a frame is zero, so that a reader finds the
// beginning of the next frame whatever came before. The zero in front ends whatever noise the line had. CRC-32C is that of RFC 3720
// appendix B.4. A frame that is damaged, too long or of another version is dropped, and counted; nothing is asked for again
// here: that is for who knows what the frame was. A CRC finds accidents and is no protection against anybody.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxPayload bounds a payload in bytes.
const MaxPayload = 16 << 10

const (
	version   = 1
	overhead  = 2 + 4                       // version, kind, CRC
	maxPlain  = MaxPayload + overhead       // before stuffing
	maxCoded  = maxPlain + maxPlain/254 + 1 // after
	maxStill  = 100                         // reads in a row that return nothing
	runLength = 0xfe                        // the most bytes that one code byte stands before
)

// ErrTooLarge is wrapped by Append for a payload above MaxPayload.
var ErrTooLarge = errors.New("payload does not fit into a frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Frame is one message. What kinds there are is the user's business.
type Frame struct {
	Kind    byte
	Payload []byte
}

// Append appends f as it goes over the line.
func Append(dst []byte, f Frame) ([]byte, error) {
	if len(f.Payload) > MaxPayload {
		return dst, fmt.Errorf("frame of %d bytes, at most %d: %w", len(f.Payload), MaxPayload, ErrTooLarge)
	}
	plain := make([]byte, 0, len(f.Payload)+overhead)
	plain = append(plain, version, f.Kind)
	plain = append(plain, f.Payload...)
	plain = binary.BigEndian.AppendUint32(plain, crc32.Checksum(plain, castagnoli))
	return append(stuff(append(dst, 0), plain), 0), nil
}

// stuff appends plain so that it has no zero: each code byte says how many bytes follow it until a zero, 0xff that 254 follow
// and no zero.
func stuff(dst, plain []byte) []byte {
	at := len(dst)
	dst = append(dst, 1)
	for i, b := range plain {
		if b != 0 {
			dst = append(dst, b)
			dst[at]++
		}
		if b == 0 || (dst[at] == runLength+1 && i < len(plain)-1) {
			at = len(dst)
			dst = append(dst, 1)
		}
	}
	return dst
}

// unstuff undoes stuff in place and returns nil if coded is not what stuff makes.
func unstuff(coded []byte) []byte {
	plain := coded[:0]
	for i := 0; i < len(coded); {
		code := int(coded[i])
		if code == 0 || i+code > len(coded) {
			return nil
		}
		plain = append(plain, coded[i+1:i+code]...)
		if i += code; i < len(coded) && code <= runLength {
			plain = append(plain, 0)
		}
	}
	return plain
}

// parse undoes what Append does between the zeros.
func parse(coded []byte) (Frame, bool) {
	plain := unstuff(coded)
	if len(plain) < overhead || plain[0] != version {
		return Frame{}, false
	}
	body := plain[:len(plain)-4]
	if binary.BigEndian.Uint32(plain[len(body):]) != crc32.Checksum(body, castagnoli) {
		return Frame{}, false
	}
	return Frame{body[1], append([]byte(nil), body[2:]...)}, true
}

// Reader finds frames in what comes over a line. It is not safe for concurrent use.
type Reader struct {
	in      io.Reader
	chunk   [1024]byte
	pending []byte // of chunk, not looked at
	coded   []byte // of the frame that has begun
	long    bool   // it is too long already, and is not kept
	damaged uint64
}

// NewReader returns a Reader of in, of which it needs at most 18 KiB at a time.
func NewReader(in io.Reader) *Reader { return &Reader{in: in} }

// Next returns the next frame that is whole. It fails only if reading does.
func (r *Reader) Next() (Frame, error) {
	for still := 0; ; {
		for i, b := range r.pending {
			if b != 0 {
				r.keep(b)
				continue
			}
			coded, long := r.coded, r.long
			r.coded, r.long = r.coded[:0], false
			if len(coded) == 0 {
				continue // between frames
			}
			if f, ok := parse(coded); ok && !long {
				r.pending = r.pending[i+1:]
				return f, nil
			}
			r.damaged++
		}
		n, err := r.in.Read(r.chunk[:])
		r.pending = r.chunk[:n]
		if n > 0 {
			still = 0
			continue // an error comes again
		}
		if err != nil {
			return Frame{}, err
		}
		if still++; still > maxStill {
			return Frame{}, io.ErrNoProgress
		}
	}
}

func (r *Reader) keep(b byte) {
	if len(r.coded) >= maxCoded {
		r.long = true
		return
	}
	r.coded = append(r.coded, b)
}

// Damaged returns how many frames were dropped.
func (r *Reader) Damaged() uint64 { return r.damaged }
