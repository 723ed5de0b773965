package session

import (
	"sync"
	"time"

	"vindu/media/codec"
	"vindu/media/peer"
)

const (
	frameSamples = 480 // 10 ms
	jitterSlots  = 64
	maxOpus      = 1500

	minDelay = 20 * time.Millisecond
	maxDelay = 240 * time.Millisecond
	// A delay that was needed is kept in mind; this much of the peak is forgotten with each packet, half in 3 s.
	forget = 0.995
	// The least transit time is taken over two of these, so that a drifting clock is followed.
	transitWindow = 5 * time.Second
	// After so many frames of nothing, playing stops until there is a reserve again.
	maxConceal = 12
	// More than this over the target for half a second is played off, a fifth faster.
	tooMuch      = 30 * time.Millisecond
	watchFrames  = 50
	squeezeEvery = 5
)

// jitter puts the far end's sound in order and gives it out in steps of 10 ms. Delay follows the network's jitter; what is missing
// comes from the copy in the next packet (in-band FEC), else is concealed. push and pull may run in different goroutines.
type jitter struct {
	mu   sync.Mutex
	dec  *codec.OpusDecoder
	ring [jitterSlots]struct {
		full bool
		seq  uint16
		n    int
		dur  int
		data [maxOpus]byte
	}
	open    bool // packets are wanted
	started bool
	playing bool
	next    uint16
	highest uint16
	dur     int // samples of the last packet

	pcm      [2 * codec.MaxOpusSamples]int16
	from, to int

	epoch              time.Time
	least, leastBefore int64 // of arrival − time stamp, samples, in this window and the one before
	windowEnds         time.Time
	peak               float64 // samples

	concealed int // frames in a row
	low       int // least level, samples, in these watchFrames
	lowEnds   int // frames until they are over
	shrinking bool

	stats SoundStats
}

// SoundStats counts the far end's sound, in frames of 10 ms unless said otherwise.
type SoundStats struct {
	Played    uint64
	Concealed uint64 // made up
	Recovered uint64 // from the copy in the next packet
	Late      uint64 // packets that came too late
	Silent    uint64 // nothing to play, while filling up
	Squeezed  uint64 // played off because too much waited
	Delay     time.Duration
}

func newJitter(dec *codec.OpusDecoder) *jitter {
	j := &jitter{dec: dec}
	return j
}

// start lets packets in, from a clean slate.
func (j *jitter) start(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open, j.epoch = true, now
	j.reset()
}

// stop keeps packets out.
func (j *jitter) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open = false
}

func (j *jitter) reset() {
	for i := range j.ring {
		j.ring[i].full = false
	}
	j.started, j.playing, j.peak = false, false, 0
	j.from, j.to = 0, 0
	j.dec.Reset()
}

func after(x, y uint16) bool { return x != y && x-y < 1<<15 }

// push takes a packet that came at now.
func (j *jitter) push(p peer.AudioPacket, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.open || len(p.Data) > maxOpus {
		return
	}
	dur, err := codec.OpusSamples(p.Data)
	if err != nil {
		return
	}
	if j.started && p.Seq-j.next >= jitterSlots && j.next-p.Seq >= jitterSlots {
		j.reset() // the far end began anew, or much was lost
	}
	if !j.started {
		j.started, j.next, j.highest, j.dur = true, p.Seq, p.Seq, dur
		j.least, j.leastBefore, j.windowEnds = 1<<62, 1<<62, now.Add(transitWindow)
	}
	j.measure(p.Timestamp, now)
	if after(j.next, p.Seq) {
		if !j.playing && j.highest-p.Seq < jitterSlots {
			j.next = p.Seq // the first packets came in the wrong order
		} else {
			j.stats.Late++
			return
		}
	}
	if after(p.Seq, j.highest) {
		j.highest = p.Seq
	}
	s := &j.ring[p.Seq%jitterSlots]
	s.full, s.seq, s.dur = true, p.Seq, dur
	s.n = copy(s.data[:], p.Data)
}

// measure follows by how much packets come later than the quickest.
func (j *jitter) measure(ts uint32, now time.Time) {
	transit := int64(now.Sub(j.epoch).Seconds()*codec.SampleRate) - int64(ts)
	// The time stamp wraps after a day; a call that long begins anew here.
	if d := transit - min(j.least, j.leastBefore); j.least < 1<<62 && (d > 1<<31 || d < -(1<<31)) {
		j.least, j.leastBefore = 1<<62, 1<<62
	}
	if now.After(j.windowEnds) {
		j.least, j.leastBefore, j.windowEnds = 1<<62, j.least, now.Add(transitWindow)
	}
	j.least = min(j.least, transit)
	late := float64(transit - min(j.least, j.leastBefore))
	j.peak = max(late, j.peak*forget)
}

// target is how much should wait when a frame is taken, samples.
func (j *jitter) target() int {
	d := time.Duration(j.peak/codec.SampleRate*float64(time.Second)) + minDelay
	return int(min(max(d, minDelay), maxDelay).Seconds() * codec.SampleRate)
}

// level is how much waits, samples, holes included.
func (j *jitter) level() int {
	waiting := 0
	if j.started && !after(j.next, j.highest) {
		waiting = int(j.highest-j.next+1) * j.dur
	}
	return j.to - j.from + waiting
}

// pull fills one frame of 480 samples.
func (j *jitter) pull(out []int16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	level, target := j.level(), j.target()
	j.stats.Delay = time.Duration(level) * time.Second / codec.SampleRate
	if !j.playing {
		if level < target || level == 0 {
			j.stats.Silent++
			clear(out)
			return
		}
		j.playing, j.concealed = true, 0
		j.low, j.lowEnds, j.shrinking = level, watchFrames, false
		// Whatever is before the first packet is not missing.
		for !j.ring[j.next%jitterSlots].full && after(j.highest, j.next) {
			j.next++
		}
	}
	j.low = min(j.low, level)
	if j.lowEnds--; j.lowEnds <= 0 {
		j.shrinking = j.low > target+int(tooMuch.Seconds()*codec.SampleRate)
		j.low, j.lowEnds = level, watchFrames
	}
	if j.shrinking && j.lowEnds%squeezeEvery == 0 {
		if j.shrinking = level > target+frameSamples; j.shrinking {
			j.squeeze()
		}
	}
	if j.to-j.from < frameSamples {
		j.decode()
	}
	n := copy(out, j.pcm[j.from:j.to])
	clear(out[n:])
	j.from += n
	j.stats.Played++
}

// decode adds at least one frame to pcm.
func (j *jitter) decode() {
	j.to = copy(j.pcm[:], j.pcm[j.from:j.to])
	j.from = 0
	for j.to < frameSamples {
		room := j.pcm[j.to:]
		s := &j.ring[j.next%jitterSlots]
		switch {
		case s.full && s.seq == j.next:
			s.full = false
			j.next++
			n, err := j.dec.Decode(s.data[:s.n], room[:codec.MaxOpusSamples])
			if err != nil {
				n = j.conceal(room[:s.dur])
			} else {
				j.concealed = 0
			}
			j.dur = s.dur
			j.to += n
		case after(j.highest, j.next) && j.level() < j.target() && j.concealed < maxConceal:
			// One is missing, but less waits than should: it may only be late. Its time is filled, and the reserve grows.
			j.to += j.conceal(room[:frameSamples])
		case after(j.highest, j.next): // one is missing, later ones are there
			s := &j.ring[(j.next+1)%jitterSlots]
			j.next++
			if s.full && s.seq == j.next {
				if n, err := j.dec.DecodeFEC(s.data[:s.n], room[:j.dur]); err == nil {
					j.stats.Recovered += uint64(n / frameSamples)
					j.concealed = 0
					j.to += n
					continue
				}
			}
			j.to += j.conceal(room[:j.dur])
		default: // nothing waits: fill the time without moving on
			j.to += j.conceal(room[:frameSamples])
			if j.concealed >= maxConceal {
				j.playing = false
			}
		}
	}
}

func (j *jitter) conceal(pcm []int16) int {
	n, err := j.dec.Conceal(pcm)
	if err != nil {
		clear(pcm)
		n = len(pcm)
	}
	frames := max(n/frameSamples, 1)
	j.concealed += frames
	j.stats.Concealed += uint64(frames)
	return n
}

// squeeze makes 10 ms out of 20, fading from one to the other.
func (j *jitter) squeeze() {
	for j.to-j.from < 2*frameSamples {
		if !j.playing || j.level() < 3*frameSamples {
			return
		}
		at := j.to - j.from
		j.decode()
		if j.to-j.from <= at {
			// decode stops at one frame; take the next packet too.
			j.append()
			if j.to-j.from <= at {
				return
			}
		}
	}
	a, b := j.pcm[j.from:j.from+frameSamples], j.pcm[j.from+frameSamples:j.from+2*frameSamples]
	for i := range a {
		b[i] = int16((int(a[i])*(frameSamples-i) + int(b[i])*i) / frameSamples)
	}
	j.from += frameSamples
	j.stats.Squeezed++
}

// append decodes the next packet behind what waits.
func (j *jitter) append() {
	s := &j.ring[j.next%jitterSlots]
	if !s.full || s.seq != j.next {
		return
	}
	s.full = false
	j.next++
	j.to = copy(j.pcm[:], j.pcm[j.from:j.to])
	j.from = 0
	if n, err := j.dec.Decode(s.data[:s.n], j.pcm[j.to:][:codec.MaxOpusSamples]); err == nil {
		j.to += n
	}
}

func (j *jitter) snapshot() SoundStats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats
}
