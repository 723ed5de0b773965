// Package grade puts a call's quality into numbers: for each second, for the call, and as one grade from 1 to 4.5.
//
// The grade is that of the E-model (ITU-T G.107, 06/2015): R = 93.2 − Idd − Ie,eff, with all parameters that are not named here at the defaults of
// its table 2; Idd by equations 7-27 and 7-28 from the delay from mouth to ear; Ie,eff by equation 7-29; the mean opinion score by equation B-4.
//
// Two things differ, and make it a comparison between our own calls and not a planning value. What equation 7-29 calls packet loss is here the share
// of sound that had to be made up: what forward error correction and the jitter buffer repair nobody hears. And Opus has no entry
// in G.113 appendix I, so that Ie = 0 and Bpl = 25.1 are those of G.711 with concealment; BurstR is 1. That the voice is wide-band, which people rate
// higher (G.107.1), is left out: an empty line grades 4.4.
//
// A picture has no part in the grade: G.1070 needs coefficients for codec and screen that nobody has measured for ours. Its freezes stand beside it
// (W3C webrtc-stats, freezeCount and totalFreezesDuration).
//
// A Meter belongs to one goroutine. It keeps no clock and starts nothing.
package grade

import (
	"math"
	"slices"
	"time"
)

const (
	base = 93.2 // R0 − Is at the defaults (G.107 §7.7)
	bpl  = 25.1 // G.711 with concealment (G.113 appendix I, table I.2)
)

// R is the transmission rating of sound that takes delay from mouth to ear, and of which concealed, 0…1, had to be made up.
func R(delay time.Duration, concealed float64) float64 {
	concealed = min(max(concealed, 0), 1)
	if math.IsNaN(concealed) {
		concealed = 1
	}
	loss := concealed * 100
	return base - late(delay) - 95*loss/(loss+bpl)
}

// late is Idd (G.107 equations 7-27 and 7-28).
func late(delay time.Duration) float64 {
	ms := float64(delay) / float64(time.Millisecond)
	if ms <= 100 {
		return 0
	}
	x := math.Log2(ms / 100)
	sixth := func(v float64) float64 { return math.Pow(1+math.Pow(v, 6), 1.0/6) }
	return 25 * (sixth(x) - 3*sixth(x/3) + 2)
}

// MOS is the mean opinion score, 1…4.5, of a transmission rating (G.107 equation B-4).
func MOS(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	// Below R = 6.5 the cubic dips under 1.
	return max(1+0.035*r+r*(r-60)*(100-r)*7e-6, 1)
}

// Totals are counters since the call's beginning, and what holds now.
type Totals struct {
	Packets, Lost         uint64        // received, and missing for good
	BytesIn, BytesOut     uint64        // of sound and picture
	Sound, Concealed      time.Duration // played, and made up of it
	Pictures              uint64        // shown
	Freezes               uint64
	Frozen                time.Duration
	CPU                   time.Duration // of the process
	RTT, Jitter, Buffered time.Duration // now; Buffered is what the jitter buffer holds
	Devices               time.Duration // from mouth to coder and from decoder to ear, here
	ERLE                  float64       // dB, now
	Heat                  float64       // °C, now; 0 is not known
}

// Second is what a call was like for about a second.
type Second struct {
	At                  time.Duration // since the first reading
	RTT, Jitter, Delay  time.Duration // Delay is from mouth to ear, reckoned
	Loss, Concealed     float64       // shares, 0…1
	BitrateIn           int           // bit/s
	BitrateOut          int
	Pictures, FrozenFor float64 // per second; share of the time, 0…1
	CPU                 float64 // processors
	ERLE, Heat          float64
	Grade               float64 // 1…4.5; 0 if no sound was played
}

// Call sums a call up.
type Call struct {
	Seconds   int // with sound
	Grade     float64
	Worst     float64       // grade that one second in ten was worse than
	Concealed time.Duration // in all
	Freezes   uint64
	Frozen    time.Duration
	RTT       time.Duration // median
	ERLE      float64       // at the end
	CPU       float64       // mean
	Heat      float64       // most
}

// keep bounds what is remembered of a call: the last six hours.
const keep = 6 * 3600

// Meter makes Seconds of Totals. The zero value is ready.
type Meter struct {
	began, last time.Time
	first, then Totals
	started     bool
	grades      []float32
	rtts        []time.Duration
	at          int // where the next goes once they are full
	heat        float64
}

// Note takes a reading, about once a second. The first returns false: there is nothing to compare it with. So does one that is not later
// than the one before.
func (m *Meter) Note(now time.Time, t Totals) (Second, bool) {
	if !m.started {
		m.started, m.began, m.last, m.first, m.then, m.heat = true, now, now, t, t, t.Heat
		return Second{}, false
	}
	span := now.Sub(m.last)
	if span <= 0 {
		return Second{}, false
	}
	was := m.then
	m.last, m.then = now, t
	m.heat = max(m.heat, t.Heat)
	bits := func(a, b uint64) int { return int(float64(more(a, b)) * 8 / span.Seconds()) }
	s := Second{
		At: now.Sub(m.began), RTT: t.RTT, Jitter: t.Jitter, Delay: t.RTT/2 + t.Buffered + t.Devices,
		BitrateIn: bits(t.BytesIn, was.BytesIn), BitrateOut: bits(t.BytesOut, was.BytesOut),
		Pictures:  float64(more(t.Pictures, was.Pictures)) / span.Seconds(),
		FrozenFor: min(share(t.Frozen-was.Frozen, span), 1), CPU: share(t.CPU-was.CPU, span), ERLE: t.ERLE, Heat: t.Heat,
	}
	if lost, got := more(t.Lost, was.Lost), more(t.Packets, was.Packets); lost+got > 0 {
		s.Loss = float64(lost) / float64(lost+got)
	}
	if played := t.Sound - was.Sound; played > 0 {
		s.Concealed = min(share(t.Concealed-was.Concealed, played), 1)
		s.Grade = MOS(R(s.Delay, s.Concealed))
		m.remember(float32(s.Grade), t.RTT)
	}
	return s, true
}

func (m *Meter) remember(grade float32, rtt time.Duration) {
	if len(m.grades) < keep {
		m.grades, m.rtts = append(m.grades, grade), append(m.rtts, rtt)
		return
	}
	m.grades[m.at], m.rtts[m.at] = grade, rtt
	m.at = (m.at + 1) % keep
}

// more is a−b of counters, 0 if one was set back.
func more(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

func share(a, b time.Duration) float64 { return max(float64(a)/float64(b), 0) }

// Call sums up what was noted so far. The grade is the mean of the seconds' grades.
func (m *Meter) Call() Call {
	c := Call{
		Seconds: len(m.grades), Concealed: max(m.then.Concealed-m.first.Concealed, 0), Freezes: more(m.then.Freezes, m.first.Freezes),
		Frozen: max(m.then.Frozen-m.first.Frozen, 0), ERLE: m.then.ERLE, Heat: m.heat,
	}
	if span := m.last.Sub(m.began); span > 0 {
		c.CPU = share(m.then.CPU-m.first.CPU, span)
	}
	if len(m.grades) == 0 {
		return c
	}
	sum := 0.0
	for _, g := range m.grades {
		sum += float64(g)
	}
	c.Grade = sum / float64(len(m.grades))
	grades, rtts := slices.Sorted(slices.Values(m.grades)), slices.Sorted(slices.Values(m.rtts))
	c.Worst, c.RTT = float64(grades[len(grades)/10]), rtts[len(rtts)/2]
	return c
}
