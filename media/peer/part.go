package peer

import (
	"errors"

	"vindu/media/codec"
)

// part is what the payload of one packet of a picture says of itself.
type part struct {
	start bool // of a frame; in H.264 also of its slices, if no packet of the same frame came before it
	key   bool // of a keyframe
	pid   int32
	bits  int // of the picture ID: 0, 7 or 15
}

var errPart = errors.New("payload cannot be read")

// takePart reads a payload and appends what the decoder is to get of it to out.
func takePart(k codec.Kind, out, payload []byte) (part, []byte, error) {
	if k == codec.H264 {
		return takeH264(out, payload)
	}
	d, err := parseDescriptor(payload)
	if err != nil {
		return part{}, out, err
	}
	vp8 := payload[d.size:]
	return part{start: d.start, key: d.start && len(vp8) > 0 && vp8[0]&1 == 0, pid: d.pid, bits: d.bits}, append(out, vp8...), nil
}

// takeH264 makes Annex B's byte stream of a payload (RFC 6184 §5.6 to 5.8).
//
// A frame begins with its parameter sets or whatever else precedes its first slice, or with the slice that holds macroblock 0, which in
// constrained baseline comes first. Only a frame that brings its sequence parameter set counts as a keyframe, as those of all browsers do.
func takeH264(out, payload []byte) (part, []byte, error) {
	p := part{pid: -1}
	switch payload[0] & 0x1f {
	case stapA:
		rest := payload[1:]
		for first := true; len(rest) > 0; first = false {
			if len(rest) < 2 {
				return part{}, out, errPart
			}
			n := int(rest[0])<<8 | int(rest[1])
			if rest = rest[2:]; n == 0 || n > len(rest) {
				return part{}, out, errPart
			}
			p.note(rest[:n], first)
			out = append(append(out, 0, 0, 0, 1), rest[:n]...)
			rest = rest[n:]
		}
	case fuA:
		if len(payload) < 3 {
			return part{}, out, errPart
		}
		body := payload[2:]
		if payload[1]&0x80 == 0 { // not the first
			return p, append(out, body...), nil
		}
		head := payload[0]&0xe0 | payload[1]&0x1f
		p.note([]byte{head, body[0]}, true)
		out = append(append(out, 0, 0, 0, 1, head), body...)
	case 0, 25, 26, 27, 29, 30, 31: // of modes that were not negotiated
		return part{}, out, errPart
	default:
		p.note(payload, true)
		out = append(append(out, 0, 0, 0, 1), payload...)
	}
	return p, out, nil
}

// note takes a NAL unit, of which two bytes are enough.
func (p *part) note(nal []byte, first bool) {
	t := nal[0] & 0x1f
	if t == 7 { // the sequence parameter set
		p.key = true
	}
	if !first {
		return
	}
	if t >= 1 && t <= 5 {
		p.start = len(nal) > 1 && nal[1]&0x80 != 0 // first_mb_in_slice is 0
		return
	}
	p.start = true
}
