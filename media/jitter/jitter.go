// Package jitter puts the far end's sound in order and gives it out in steps of 10 ms, as late as the line's jitter asks for and no later.
//
// Packets are Opus (RFC 6716) with RTP's sequence numbers and 48 kHz time stamps (RFC 7587); what comes out is 48 kHz, one channel, int16.
// A packet that is missing is made up from the copy that the next one carries (in-band FEC), else concealed by the decoder. While the
// far end sends nothing because nobody speaks (DTX), the decoder's comfort noise is played, and that is not counted as concealed.
//
// How late sound is follows the time stamps: the most by which a packet came later than the quickest, forgotten by half in 3 s, and 20 ms.
// It is reached by stretching: a period of the voice is left out, or said twice, where the waveform repeats itself or is silent; so no click is
// heard. A clock that runs faster or slower than ours is followed in the same way.
//
// Push and Pull may run in different goroutines. Neither allocates.
package jitter

import (
	"fmt"
	"sync"
	"time"

	"vindu/media/codec"
)

// FrameSamples is what Pull gives out: 10 ms.
const FrameSamples = 480

const (
	slots   = 64
	maxOpus = 1500

	minDelay = 20 * time.Millisecond
	maxDelay = 240 * time.Millisecond
	// A delay that was needed is kept in mind; this much of the peak is forgotten with each packet, half in 3 s.
	forget = 0.995
	// The least transit time is taken over two of these, so that a drifting clock is followed.
	transitWindow = 5 * time.Second
	// After so many frames of nothing, playing stops until there is a reserve again.
	maxConceal = 12

	// Each half second it is judged whether too much waited all the time, which is then played off, or whether a packet came so shortly before
	// it was needed that the next one may be late.
	watchFrames = 50
	tooMuch     = 30 * time.Millisecond
	tooShort    = 4 * time.Millisecond
	// A period is left out every so many frames at most.
	shortenEvery = 5
	// Over the target by this, one is left out though the waveform repeats itself badly.
	farTooMuch = 100 * time.Millisecond
)

// Packet is one of the far end's.
type Packet struct {
	Data      []byte
	Seq       uint16
	Timestamp uint32 // 48 kHz
}

// Buffer is the far end's sound on its way.
type Buffer struct {
	mu   sync.Mutex
	dec  *codec.OpusDecoder
	ring [slots]struct {
		full bool
		seq  uint16
		n    int
		dur  int
		data [maxOpus]byte
	}
	open    bool // packets are wanted
	started bool
	playing bool
	quiet   bool // the far end sends nothing until somebody speaks
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
	gap       int // frames since the last sound of the far end, without DTX's
	pulled    time.Time

	low       int           // least level, samples, in these watchFrames
	shortest  time.Duration // from a packet's coming until it was needed, in these watchFrames
	lowEnds   int           // frames until they are over
	shrinking bool
	growing   bool

	stats Stats
}

// Stats counts the far end's sound, in frames of 10 ms unless said otherwise.
type Stats struct {
	Played    uint64
	Concealed uint64        // made up
	Recovered uint64        // from the copy in the next packet
	Comfort   uint64        // noise, while the far end sends nothing
	Late      uint64        // packets that came too late
	Silent    uint64        // nothing to play, while filling up
	Shortened uint64        // periods that were left out because too much waited
	Stretched uint64        // periods that were said twice because too little did
	Gaps      uint64        // runs of frames that were made up or silent between the far end's own
	Gap       time.Duration // in gaps, in all
	Longest   time.Duration // gap
	Delay     time.Duration // now
	Target    time.Duration // of the delay, now
}

// New makes a Buffer. No packet is taken before Start.
func New() (*Buffer, error) {
	dec, err := codec.NewOpusDecoder()
	if err != nil {
		return nil, fmt.Errorf("make jitter buffer: %w", err)
	}
	return &Buffer{dec: dec}, nil
}

// Close frees the decoder. Neither Push nor Pull may follow.
func (j *Buffer) Close() error { return j.dec.Close() }

// Start lets packets in, from a clean slate.
func (j *Buffer) Start(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open, j.epoch = true, now
	j.reset()
}

// Stop keeps packets out.
func (j *Buffer) Stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open = false
}

func (j *Buffer) reset() {
	for i := range j.ring {
		j.ring[i].full = false
	}
	j.started, j.playing, j.quiet, j.peak = false, false, false, 0
	j.concealed, j.gap, j.shrinking, j.growing = 0, 0, false, false
	j.from, j.to = 0, 0
	j.dec.Reset()
}

func after(x, y uint16) bool { return x != y && x-y < 1<<15 }

// Push takes a packet that came at now.
func (j *Buffer) Push(p Packet, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.open || len(p.Data) > maxOpus {
		return
	}
	dur, err := codec.OpusSamples(p.Data)
	if err != nil {
		return
	}
	if j.started && p.Seq-j.next >= slots && j.next-p.Seq >= slots {
		j.reset() // the far end began anew, or much was lost
	}
	if !j.started {
		j.started, j.next, j.highest, j.dur = true, p.Seq, p.Seq, dur
		j.least, j.leastBefore, j.windowEnds = 1<<62, 1<<62, now.Add(transitWindow)
	}
	j.measure(p.Timestamp, now)
	if j.playing && p.Seq-j.next < slots { // how long before it is needed, holes included
		before := j.to - j.from + int(p.Seq-j.next)*j.dur
		j.shortest = min(j.shortest, duration(before)-now.Sub(j.pulled))
	}
	if after(j.next, p.Seq) {
		if !j.playing && j.highest-p.Seq < slots {
			j.next = p.Seq // the first packets came in the wrong order
		} else {
			j.stats.Late++
			return
		}
	}
	if after(p.Seq, j.highest) {
		j.highest = p.Seq
	}
	s := &j.ring[p.Seq%slots]
	s.full, s.seq, s.dur = true, p.Seq, dur
	s.n = copy(s.data[:], p.Data)
}

// measure follows by how much packets come later than the quickest.
func (j *Buffer) measure(ts uint32, now time.Time) {
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
func (j *Buffer) target() int {
	d := time.Duration(j.peak/codec.SampleRate*float64(time.Second)) + minDelay
	return int(min(max(d, minDelay), maxDelay).Seconds() * codec.SampleRate)
}

// level is how much waits, samples, holes included.
func (j *Buffer) level() int {
	waiting := 0
	if j.started && !after(j.next, j.highest) {
		waiting = int(j.highest-j.next+1) * j.dur
	}
	return j.to - j.from + waiting
}

// Pull fills a frame of FrameSamples, at now.
func (j *Buffer) Pull(out []int16, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pulled = now
	level, target := j.level(), j.target()
	j.stats.Delay, j.stats.Target = duration(level), duration(target)
	if !j.playing {
		if level < target || level == 0 {
			j.stats.Silent++
			if j.gap > 0 {
				j.gap++
			}
			clear(out)
			return
		}
		j.playing, j.concealed = true, 0
		j.watch(level)
		// Whatever is before the first packet is not missing.
		for !j.ring[j.next%slots].full && after(j.highest, j.next) {
			j.next++
		}
	}
	j.adapt(level, target)
	if j.to-j.from < FrameSamples {
		j.decode()
	}
	n := copy(out, j.pcm[j.from:j.to])
	clear(out[n:])
	j.from += n
	j.stats.Played++
}

func duration(samples int) time.Duration {
	return time.Duration(samples) * time.Second / codec.SampleRate
}

// watch begins to judge anew.
func (j *Buffer) watch(level int) { j.low, j.shortest, j.lowEnds = level, time.Hour, watchFrames }

// adapt brings the delay closer to the target.
func (j *Buffer) adapt(level, target int) {
	j.low = min(j.low, level)
	if j.lowEnds--; j.lowEnds <= 0 {
		over := duration(j.low - target)
		j.shrinking = over > tooMuch
		j.growing = !j.shrinking && j.shortest < tooShort && duration(level) < maxDelay
		j.watch(level)
	}
	switch {
	case j.quiet:
	case j.shrinking && j.lowEnds%shortenEvery == 0:
		if j.shrinking = level > target+FrameSamples; j.shrinking && j.gather(2*longestPeriod) {
			if n := shorten(j.pcm[j.from:j.to], duration(level-target) > farTooMuch); n > 0 {
				j.to -= n
				j.stats.Shortened++
			}
		}
	case j.growing:
		if have := j.to - j.from; have >= 2*FrameSamples || j.gather(2*FrameSamples) {
			if n := stretch(j.pcm[j.from:], j.to-j.from); n > 0 {
				j.to += n
				j.stats.Stretched++
				j.growing = false
			}
		}
	}
}

// gather decodes packets that are there until so many samples are, and says whether they are.
func (j *Buffer) gather(samples int) bool {
	for j.to-j.from < samples {
		s := &j.ring[j.next%slots]
		if !s.full || s.seq != j.next {
			return false
		}
		j.to = copy(j.pcm[:], j.pcm[j.from:j.to])
		j.from = 0
		j.to += j.take(j.pcm[j.to:])
	}
	return true
}

// take decodes the next packet, which is there.
func (j *Buffer) take(room []int16) int {
	s := &j.ring[j.next%slots]
	s.full = false
	j.next++
	j.dur = s.dur
	// A packet without content says that nothing follows until somebody speaks (RFC 7587 §3.1.3).
	j.quiet = s.n <= 2
	n, err := j.dec.Decode(s.data[:s.n], room[:codec.MaxOpusSamples])
	if err != nil {
		return j.conceal(room[:s.dur])
	}
	j.sounded()
	return n
}

// sounded ends a gap, if there was one.
func (j *Buffer) sounded() {
	j.concealed = 0
	if j.gap == 0 {
		return
	}
	d := duration(j.gap * FrameSamples)
	j.gap = 0
	j.stats.Gaps++
	j.stats.Gap += d
	j.stats.Longest = max(j.stats.Longest, d)
}

// decode adds at least one frame to pcm.
func (j *Buffer) decode() {
	j.to = copy(j.pcm[:], j.pcm[j.from:j.to])
	j.from = 0
	for j.to < FrameSamples {
		room := j.pcm[j.to:]
		s := &j.ring[j.next%slots]
		switch {
		case j.quiet && j.level() < j.target():
			// The far end is silent, or has begun to speak and less waits than should: the pause is where nobody misses time.
			j.to += j.comfort(room[:FrameSamples])
		case s.full && s.seq == j.next:
			j.to += j.take(room)
		case after(j.highest, j.next) && j.level() < j.target() && j.concealed < maxConceal:
			// One is missing, but less waits than should: it may only be late. Its time is filled, and the reserve grows.
			j.to += j.conceal(room[:FrameSamples])
		case after(j.highest, j.next): // one is missing, later ones are there
			s := &j.ring[(j.next+1)%slots]
			j.next++
			j.quiet = false
			if s.full && s.seq == j.next {
				if n, err := j.dec.DecodeFEC(s.data[:s.n], room[:j.dur]); err == nil {
					j.stats.Recovered += uint64(n / FrameSamples)
					j.sounded()
					j.to += n
					continue
				}
			}
			j.to += j.conceal(room[:j.dur])
		default: // nothing waits: fill the time without moving on
			j.to += j.conceal(room[:FrameSamples])
			if j.concealed >= maxConceal {
				j.playing = false
			}
		}
	}
}

func (j *Buffer) conceal(pcm []int16) int {
	n := j.invent(pcm)
	frames := max(n/FrameSamples, 1)
	j.concealed += frames
	j.gap += frames
	j.stats.Concealed += uint64(frames)
	return n
}

func (j *Buffer) comfort(pcm []int16) int {
	n := j.invent(pcm)
	j.stats.Comfort += uint64(n / FrameSamples)
	return n
}

func (j *Buffer) invent(pcm []int16) int {
	n, err := j.dec.Conceal(pcm)
	if err != nil {
		clear(pcm)
		return len(pcm)
	}
	return n
}

// Playing says whether the far end is heard.
func (j *Buffer) Playing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.playing
}

// Stats may be called from any goroutine.
func (j *Buffer) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats
}
