package peer

import "vindu/media/codec"

// cutter cuts a frame into the payloads of packets. begin says how many there are; next writes each, into room for maxPayload, and
// returns its size.
type cutter interface {
	begin(frame []byte) int
	next(dst []byte) int
}

func newCutter(k codec.Kind) cutter {
	if k == codec.H264 {
		return &h264Cutter{}
	}
	return &vp8Cutter{}
}

// vp8Cutter cuts VP8 (RFC 7741), into packets of equal size, so that the last is not a crumb.
type vp8Cutter struct {
	frame     []byte
	at, count int
	pid       uint16 // of the last frame of which a packet was made
}

func (c *vp8Cutter) begin(frame []byte) int {
	const room = maxPayload - vp8Head
	c.frame, c.at, c.count = frame, 0, (len(frame)+room-1)/room
	return c.count
}

func (c *vp8Cutter) next(dst []byte) int {
	dst[0] = 0x80 // X
	if c.at == 0 {
		c.pid = (c.pid + 1) & 0x7fff
		dst[0] |= 0x10 // S
	}
	dst[1], dst[2], dst[3] = 0x80, 0x80|byte(c.pid>>8), byte(c.pid) // I, M
	from, to := len(c.frame)*c.at/c.count, len(c.frame)*(c.at+1)/c.count
	c.at++
	return vp8Head + copy(dst[vp8Head:], c.frame[from:to])
}

// Types of H.264's payloads beyond those of NAL units (RFC 6184 §5.2).
const (
	nalAUD    = 9
	nalFiller = 12
	stapA     = 24
	fuA       = 28
)

// h264Cutter cuts an access unit in Annex B's byte stream (RFC 6184, packetization-mode 1): what is small goes together, what is large is
// cut into parts of equal size.
type h264Cutter struct {
	units [][]byte
	at    int // the unit
	part  int // of it
}

func (c *h264Cutter) begin(frame []byte) (count int) {
	c.units, c.at, c.part = c.units[:0], 0, 0
	for nal, rest := codec.NextNAL(frame); nal != nil; nal, rest = codec.NextNAL(rest) {
		if t := nal[0] & 0x1f; t == nalAUD || t == nalFiller {
			continue // of no use in packets
		}
		c.units = append(c.units, nal)
	}
	for i := 0; i < len(c.units); {
		if n := parts(c.units[i]); n > 1 {
			count += n
			i++
			continue
		}
		i += c.together(i)
		count++
	}
	return count
}

// parts is how many packets a unit needs.
func parts(nal []byte) int {
	if len(nal) <= maxPayload {
		return 1
	}
	const room = maxPayload - 2
	return (len(nal) - 1 + room - 1) / room
}

// together is how many units from i on fit into one packet.
func (c *h264Cutter) together(i int) (n int) {
	for size := 1; i+n < len(c.units); n++ {
		if size += 2 + len(c.units[i+n]); size > maxPayload {
			break
		}
	}
	return max(n, 1)
}

func (c *h264Cutter) next(dst []byte) int {
	nal := c.units[c.at]
	if count := parts(nal); count > 1 {
		body := nal[1:]
		from, to := len(body)*c.part/count, len(body)*(c.part+1)/count
		dst[0], dst[1] = nal[0]&0xe0|fuA, nal[0]&0x1f
		if c.part == 0 {
			dst[1] |= 0x80 // S
		}
		if c.part++; c.part == count {
			dst[1] |= 0x40 // E
			c.at, c.part = c.at+1, 0
		}
		return 2 + copy(dst[2:], body[from:to])
	}
	count := c.together(c.at)
	if count == 1 {
		c.at++
		return copy(dst, nal)
	}
	n, importance := 1, byte(0)
	for _, u := range c.units[c.at : c.at+count] {
		importance = max(importance, u[0]&0x60)
		dst[n], dst[n+1] = byte(len(u)>>8), byte(len(u))
		n += 2 + copy(dst[n+2:], u)
	}
	dst[0] = importance | stapA
	c.at += count
	return n
}
