package peer

import (
	"errors"
	"time"

	"vindu/media/codec"
)

// Sizes of the assembler.
const (
	slots       = 512 // packets kept; at 2 Mbit/s more than 2 s. A power of two
	maxJump     = 256 // a larger step of the sequence number is a new beginning
	maxFrame    = 1 << 20
	maxNacks    = 10 // tries for one packet
	nackBatch   = 64 // packets asked for at once
	minWait     = 150 * time.Millisecond
	maxWait     = 600 * time.Millisecond
	minNackWait = 25 * time.Millisecond
)

var errDescriptor = errors.New("VP8 payload descriptor is cut short")

// descriptor is what a VP8 payload descriptor says (RFC 7741 §4.2).
type descriptor struct {
	start bool // first packet of a frame
	pid   int32
	bits  int // of the picture ID: 0, 7 or 15
	size  int
}

func parseDescriptor(p []byte) (descriptor, error) {
	d := descriptor{pid: -1}
	if len(p) < 1 {
		return d, errDescriptor
	}
	d.start = p[0]&0x10 != 0 && p[0]&0x07 == 0
	n := 1
	if p[0]&0x80 != 0 {
		if len(p) < 2 {
			return d, errDescriptor
		}
		x := p[1]
		n = 2
		if x&0x80 != 0 {
			if len(p) < n+1 {
				return d, errDescriptor
			}
			d.pid, d.bits = int32(p[n]&0x7f), 7
			if p[n]&0x80 != 0 {
				if len(p) < n+2 {
					return d, errDescriptor
				}
				d.pid, d.bits = d.pid<<8|int32(p[n+1]), 15
				n++
			}
			n++
		}
		if x&0x40 != 0 { // TL0PICIDX
			n++
		}
		if x&0x30 != 0 { // TID, Y, KEYIDX
			n++
		}
	}
	if len(p) < n {
		return d, errDescriptor
	}
	d.size = n
	return d, nil
}

type slotState uint8

const (
	empty   slotState = iota // never seen
	missing                  // a later one was seen
	padding                  // seen, holds nothing
	present
)

type slot struct {
	state slotState
	seq   uint16

	// present
	start, key, marker bool
	pid                int32
	bits               int
	ts                 uint32
	data               []byte

	// missing
	nacks int
	since time.Time
	retry time.Time
}

// assembler puts the packets of one stream in order and gives out whole frames that can be decoded: a keyframe, or a
// frame that follows on the last one given out. It knows no clock and does no I/O. For one goroutine.
//
//	          keyframe whole
//	waiting ──────────────────► flowing ──► frames in order
//	   ▲                           │
//	   └─── hole older than wait ──┘   (also: sequence jumps, buffer full)
//
// A hole in the sequence numbers between two frames whose picture IDs follow each other held padding and is passed over. H.264 has no such
// number, so there a hole is waited for.
type assembler struct {
	kind    codec.Kind
	ring    [slots]slot
	started bool
	flowing bool
	next    uint16 // first number not yet given out or given up
	highest uint16
	pid     int32 // of the last frame given out
	bits    int
	frame   []byte
	nackBuf [nackBatch]uint16

	rtt time.Duration

	lost, recovered, dropped uint64
}

func (a *assembler) at(seq uint16) *slot { return &a.ring[seq%slots] }

// after reports whether x comes after y (RFC 1982).
func after(x, y uint16) bool { return x != y && x-y < 1<<15 }

// push takes a packet. payload is without padding; it may be empty. It is copied.
func (a *assembler) push(seq uint16, ts uint32, marker bool, payload []byte, now time.Time) {
	if !a.started {
		a.started, a.next, a.highest = true, seq, seq-1
	}
	switch {
	case after(a.next, seq):
		return // too late, or twice
	case !after(seq, a.highest):
	case seq-a.highest > maxJump:
		a.reset(seq)
	}
	// Room: what lies a whole ring behind is given up.
	for seq-a.next >= slots {
		a.drop(a.next)
		a.lose()
	}
	for a.highest != seq && after(seq, a.highest) {
		a.highest++
		s := a.at(a.highest)
		s.state, s.seq, s.nacks, s.since, s.retry = missing, a.highest, 0, now, now
	}
	s := a.at(seq)
	if s.state == present || s.state == padding {
		return // twice
	}
	if s.nacks > 0 {
		a.recovered++
	}
	s.data = s.data[:0]
	if len(payload) == 0 {
		s.state = padding
		return
	}
	var d part
	var err error
	if d, s.data, err = takePart(a.kind, s.data, payload); err != nil {
		return // as if it had not come
	}
	s.state, s.ts, s.marker = present, ts, marker
	s.start, s.key, s.pid, s.bits = d.start, d.key, d.pid, d.bits
}

// turn has it take another kind of frames from now on.
func (a *assembler) turn(k codec.Kind) {
	if a.kind == k {
		return
	}
	a.kind = k
	if a.started {
		a.reset(a.highest + 1)
	}
}

// reset begins anew at seq.
func (a *assembler) reset(seq uint16) {
	for i := range a.ring {
		a.ring[i].state = empty
	}
	a.next, a.highest = seq, seq-1
	a.lose()
}

func (a *assembler) lose() {
	a.flowing = false
}

// drop gives up the packet at a.next.
func (a *assembler) drop(seq uint16) {
	s := a.at(seq)
	if s.seq == seq && s.state == missing {
		a.lost++
	}
	s.state = empty
	a.next = seq + 1
}

// whole returns the number after the frame that begins at seq, and whether all of it is there.
func (a *assembler) whole(seq uint16) (end uint16, ok bool) {
	first := a.at(seq)
	for ; !after(seq, a.highest); seq++ {
		s := a.at(seq)
		switch {
		case s.state == missing:
			return 0, false
		case s.state == padding:
			continue
		case s.ts != first.ts:
			return seq, true // the marker's packet was padding, or the sender sets none
		case s.marker:
			return seq + 1, true
		}
	}
	return 0, false
}

// pull returns the next frame that can be decoded. Data is valid until the next push or pull.
func (a *assembler) pull(now time.Time) (f VideoFrame, ok bool) {
	for a.started && !after(a.next, a.highest) {
		s := a.at(a.next)
		if s.state == padding {
			a.drop(a.next)
			continue
		}
		if s.state == present && !s.start {
			a.drop(a.next) // the tail of a frame whose head was given up
			continue
		}
		if s.state == present {
			if end, whole := a.whole(a.next); whole {
				if f, ok := a.take(a.next, end); ok {
					return f, true
				}
				continue
			}
		}
		// There is a hole, in this frame or before it.
		if seq, found := a.beyond(); found {
			for a.next != seq {
				a.drop(a.next)
			}
			continue
		}
		if !a.expired(now) {
			return VideoFrame{}, false
		}
		a.lose()
		a.skip()
	}
	return VideoFrame{}, false
}

// keyed reports whether the frame from seq up to end is a keyframe. In H.264 its parameter sets need not be in its first packet.
func (a *assembler) keyed(seq, end uint16) bool {
	for ; seq != end; seq++ {
		if s := a.at(seq); s.state == present && s.key {
			return true
		}
	}
	return false
}

// take gives out the frame from seq up to end, or drops it if it cannot be decoded.
func (a *assembler) take(seq, end uint16) (VideoFrame, bool) {
	first := a.at(seq)
	key := a.keyed(seq, end)
	if !a.flowing && !key {
		for a.next != end {
			a.drop(a.next)
		}
		a.dropped++
		return VideoFrame{}, false
	}
	a.frame = a.frame[:0]
	f := VideoFrame{Codec: a.kind, Timestamp: first.ts, Keyframe: key}
	a.pid, a.bits = first.pid, first.bits
	for a.next != end {
		if s := a.at(a.next); s.state == present && len(a.frame)+len(s.data) <= maxFrame {
			a.frame = append(a.frame, s.data...)
		}
		a.drop(a.next)
	}
	a.flowing = true
	f.Data = a.frame
	return f, true
}

// beyond looks past a hole at a.next for a frame that is whole and can be decoded: the one whose picture ID follows, so that
// the hole held nothing that matters; or, while waiting, a keyframe.
func (a *assembler) beyond() (uint16, bool) {
	follow := a.at(a.next).state == missing
	for seq := a.next; !after(seq, a.highest); seq++ {
		s := a.at(seq)
		if s.state != present || !s.start || seq == a.next {
			continue
		}
		if end, ok := a.whole(seq); ok {
			if !a.flowing && a.keyed(seq, end) {
				return seq, true
			}
			if a.flowing && follow && s.bits != 0 && s.bits == a.bits && s.pid == (a.pid+1)&(1<<s.bits-1) {
				return seq, true
			}
		}
		follow = false
		if a.flowing {
			return 0, false
		}
	}
	return 0, false
}

// wait is how long a hole may hold the picture up: a few round trips, since another keyframe costs more.
func (a *assembler) wait() time.Duration {
	return min(max(4*a.rtt+50*time.Millisecond, minWait), maxWait)
}

// expired reports whether the first hole is older than wait.
func (a *assembler) expired(now time.Time) bool {
	for seq := a.next; !after(seq, a.highest); seq++ {
		if s := a.at(seq); s.state == missing {
			return now.Sub(s.since) >= a.wait()
		}
	}
	return false
}

// skip gives up everything up to the next packet after the first hole that begins a frame.
func (a *assembler) skip() {
	hole := false
	for !after(a.next, a.highest) {
		s := a.at(a.next)
		if hole && s.state == present && s.start {
			return
		}
		hole = hole || s.state == missing
		a.drop(a.next)
	}
}

// nacks returns the numbers to ask for now (RFC 4585 §6.2.1), valid until the next call.
func (a *assembler) nacks(now time.Time) []uint16 {
	out := a.nackBuf[:0]
	if !a.started {
		return out
	}
	pause := max(a.rtt+a.rtt/4, minNackWait)
	for seq := a.next; !after(seq, a.highest) && len(out) < nackBatch; seq++ {
		s := a.at(seq)
		if s.state != missing || s.nacks >= maxNacks || now.Before(s.retry) {
			continue
		}
		s.nacks++
		s.retry = now.Add(pause)
		out = append(out, seq)
	}
	return out
}

// waiting reports whether there are holes, so that time alone can change something.
func (a *assembler) waiting() bool {
	for seq := a.next; a.started && !after(seq, a.highest); seq++ {
		if a.at(seq).state == missing {
			return true
		}
	}
	return false
}
