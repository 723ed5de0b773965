package codec

import (
	"errors"
	"fmt"
)

// NAL unit types (ITU-T H.264 table 7-1).
const (
	nalSlice = 1
	nalIDR   = 5
	nalSPS   = 7
	nalPPS   = 8
)

// maxMacroblocks is what level 4 has for all pictures that a decoder keeps (ITU-T H.264 table A-1, MaxDpbMbs).
const maxMacroblocks = 32768

// maxReferences is how many pictures may be referred to (§A.3.1: MaxDpbFrames).
const maxReferences = 16

// H264Header is what an access unit says about itself.
type H264Header struct {
	Keyframe      bool // an IDR picture with its sequence parameter set
	Width, Height int  // of a keyframe
}

// NextNAL cuts the first NAL unit, without its start code, off an Annex B byte stream. It returns nil if there is none.
func NextNAL(stream []byte) (nal, rest []byte) {
	for {
		from, ok := startCode(stream)
		if !ok {
			return nil, nil
		}
		stream, rest = stream[from:], nil
		end := len(stream)
		next, more := startCode(stream)
		if more {
			end = next - 3
			rest = stream[end:]
		}
		for end > 0 && stream[end-1] == 0 { // zeros before a start code, and at the end, are no part of the unit
			end--
		}
		if end > 0 {
			return stream[:end], rest
		}
		stream = rest
	}
}

// startCode returns where the bytes after the first start code begin.
func startCode(p []byte) (int, bool) {
	for i := 2; i < len(p); {
		switch {
		case p[i] > 1:
			i += 3
		case p[i] == 0:
			i++
		case p[i-1] == 0 && p[i-2] == 0:
			return i + 1, true
		default:
			i += 3
		}
	}
	return 0, false
}

// ParseH264 reads what an access unit in Annex B's byte stream says about itself, and refuses what a decoder should not see: a sequence parameter set, too, that does not come
// with a keyframe, before it, and alone. Errors wrap ErrCorrupt or ErrTooLarge.
func ParseH264(frame []byte) (H264Header, error) {
	head, _, err := parseUnit(frame)
	return head, err
}

func parseUnit(frame []byte) (head H264Header, set sps, err error) {
	refuse := func(why string) (H264Header, sps, error) {
		return H264Header{}, sps{}, fmt.Errorf("H.264 frame %s: %w", why, ErrCorrupt)
	}
	var idr, slice bool
	for nal, rest := NextNAL(frame); nal != nil; nal, rest = NextNAL(rest) {
		switch nal[0] & 0x1f {
		case nalSPS:
			if idr || slice || set != (sps{}) {
				return refuse("with a parameter set too many")
			}
			if set, err = parseSPS(nal); err != nil {
				return H264Header{}, sps{}, err
			}
		case nalIDR:
			idr = true
		case nalSlice:
			slice = true
		case 14, 15, 20, 21: // of scalable and multi-view streams, which nobody has negotiated
			return refuse(fmt.Sprintf("with a unit of type %d", nal[0]&0x1f))
		}
	}
	switch {
	case !idr && !slice:
		return refuse("without a picture")
	case idr && slice:
		return refuse("of two kinds")
	case set != (sps{}) && !idr:
		return refuse("with a parameter set, and no keyframe")
	}
	return H264Header{Keyframe: set != (sps{}), Width: set.width, Height: set.height}, set, nil
}

// sps is what a sequence parameter set says of pictures; the zero value is none's.
type sps struct {
	width, height int
	refs          uint32 // pictures that are kept to refer to
}

var errShort = errors.New("it is cut short")

// parseSPS reads a sequence parameter set as far as the picture's size (ITU-T H.264 §7.3.2.1.1).
func parseSPS(nal []byte) (s sps, err error) {
	refuse := func(why string) (sps, error) {
		return sps{}, fmt.Errorf("H.264 sequence parameter set: %s: %w", why, ErrCorrupt)
	}
	var b bits
	b.fill(nal[1:])
	profile := b.read(8)
	b.read(8) // constraints
	b.read(8) // level
	b.ue()    // id
	switch profile {
	case 66, 77:
	case 100:
		if b.ue() != 1 || b.ue() != 0 || b.ue() != 0 {
			return refuse("it is not 4:2:0 of 8 bits")
		}
		b.read(1)
		if b.read(1) != 0 {
			return refuse("it has scaling matrices")
		}
	default:
		return refuse("its profile is not taken")
	}
	b.ue() // log2_max_frame_num
	switch b.ue() {
	case 0:
		b.ue()
	case 1:
		b.read(1)
		b.ue()
		b.ue()
		n := b.ue()
		if n > 255 {
			return refuse("its cycle is too long")
		}
		for range n {
			b.ue()
		}
	}
	refs := b.ue()
	b.read(1)
	w, h := b.ue()+1, b.ue()+1
	if b.read(1) != 1 {
		return refuse("it is interlaced")
	}
	b.read(1)
	var left, right, top, bottom uint32
	if b.read(1) == 1 {
		left, right, top, bottom = b.ue(), b.ue(), b.ue(), b.ue()
	}
	if b.short {
		return refuse(errShort.Error())
	}
	if refs > maxReferences || w > (maxSide+15)/16 || h > (maxSide+15)/16 || w*h*max(refs, 1) > maxMacroblocks {
		return sps{}, fmt.Errorf("H.264 picture of %d×%d macroblocks and %d to refer to: %w", w, h, refs, ErrTooLarge)
	}
	if left > 8*w || right > 8*w || top > 8*h || bottom > 8*h || 2*(left+right) >= 16*w || 2*(top+bottom) >= 16*h {
		return refuse("nothing is left of its picture")
	}
	return sps{width: int(16*w - 2*(left+right)), height: int(16*h - 2*(top+bottom)), refs: refs}, nil
}

// bits reads the payload of a NAL unit, without the bytes that keep start codes out of it (§7.4.1.1).
type bits struct {
	data  [192]byte
	n     int // bytes
	at    int // bits
	short bool
}

func (b *bits) fill(p []byte) {
	zeros := 0
	for _, v := range p {
		if b.n == len(b.data) {
			return
		}
		if zeros >= 2 && v == 3 {
			zeros = 0
			continue
		}
		if v == 0 {
			zeros++
		} else {
			zeros = 0
		}
		b.data[b.n] = v
		b.n++
	}
}

func (b *bits) read(n int) (v uint32) {
	for range n {
		if b.at >= 8*b.n {
			b.short = true
			return 0
		}
		v = v<<1 | uint32(b.data[b.at/8]>>(7-b.at%8)&1)
		b.at++
	}
	return v
}

// ue reads an Exp-Golomb code (§9.1).
func (b *bits) ue() uint32 {
	zeros := 0
	for b.read(1) == 0 {
		if zeros++; b.short || zeros > 24 {
			b.short = true
			return 0
		}
	}
	return 1<<zeros - 1 + b.read(zeros)
}
