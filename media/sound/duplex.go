package sound

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Duplex is a Device that knows what it played. The Devices of Open are Duplexes, with one direction missing as well.
type Duplex interface {
	Device
	// ReadBoth is Read into near, and fills far with what is played one frame later than near was captured: an echo in near comes
	// some 10 ms later than its cause in far. Cards with clocks of their own drift apart; far follows the clock of near, without
	// steps, so that its echo stays where it is. It is silence where nothing was played.
	ReadBoth(near, far []int16) error
}

const (
	lead = FrameSamples // by which far is early: a driver may be wrong about how much waits
	// What was played is kept for a second: a second is also when a card that moves nothing counts as gone.
	keptSamples = Rate

	// Taps and phases of the interpolation between samples.
	sincTaps, sincPhases = 16, 256
)

// played keeps what was written to a card, and where in it the card is.
type played struct {
	mu      sync.Mutex
	ring    [keptSamples]int16 // by number of the sample, modulo its length
	written int64
	heard   float64 // number of the sample that was heard
	at      time.Time
	known   bool
}

// wrote takes what the card has taken.
func (p *played) wrote(frame []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range frame {
		p.ring[p.written%keptSamples] = v
		p.written++
	}
}

// waits says that so many samples were still to be played at that time.
func (p *played) waits(delay int, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.at, p.known = float64(p.written-int64(delay)), at, true
}

// where returns the number of the sample that is heard at a time near the last one.
func (p *played) where(at time.Time) (float64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := at.Sub(p.at)
	if !p.known || d > time.Second || d < -time.Second {
		return 0, false
	}
	return p.heard + d.Seconds()*Rate, true
}

// copyTo fills frame with what begins at the sample of that number, between samples if need be.
func (p *played) copyTo(frame []int16, from float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	whole := math.Floor(from)
	first, phase := int64(whole), int(math.Round((from-whole)*sincPhases))
	if phase == 0 {
		for i := range frame {
			frame[i] = p.sample(first + int64(i))
		}
		return
	}
	row := &sinc[phase]
	var line [FrameSamples + sincTaps]float32
	for i := range line {
		line[i] = float32(p.sample(first - sincTaps/2 + 1 + int64(i)))
	}
	for i := range frame {
		sum := float32(0)
		for k, c := range row {
			sum += c * line[i+k]
		}
		frame[i] = int16(max(-32768, min(32767, sum)))
	}
}

func (p *played) sample(n int64) int16 {
	if n < 0 || n >= p.written || n < p.written-keptSamples {
		return 0
	}
	return p.ring[n%keptSamples]
}

// sinc are the coefficients for each fraction of a sample: a sine cardinal under a Hann window.
var sinc = func() (table [sincPhases + 1][sincTaps]float32) {
	for phase := range table {
		for k := range table[phase] {
			x := float64(k-sincTaps/2+1) - float64(phase)/sincPhases
			c := 1.0
			if x != 0 {
				c = math.Sin(math.Pi*x) / (math.Pi * x)
			}
			table[phase][k] = float32(c * (0.5 + 0.5*math.Cos(2*math.Pi*x/sincTaps)))
		}
	}
	return table
}()

const (
	// The first of so many measurements decide where to begin, by their median.
	settleFrames = 16
	// A measurement is off by what the driver's position is coarse, some milliseconds at worst, and counts for 2 ms at most. The loop is critically
	// damped. It is quick for its first twenty seconds, four seconds, and then ever slower, down to a sixth, when the clocks are known.
	firstGain, lastGain = 0.005, 0.0008
	gainFrames          = 2000
	mostError           = Rate * 2 / 1000
	// No clock is wrong by more.
	mostDrift = 500e-6 * FrameSamples
	// So many in a row that are this far off say that sound was lost on one side.
	lostError, lostFrames = Rate * 5 / 1000, 20
)

// follower smooths the distance between two clocks, in samples: the number of the sample that is played less that of the one which is
// captured. One clock has one distance until sound is lost.
type follower struct {
	oneClock bool
	offset   float64
	drift    float64 // per frame
	first    [settleFrames]float64
	n        int // of first; settled when all are there
	age      int // frames followed
	lost     int
}

// again begins anew, but for the drift, which is the clocks'.
func (f *follower) again() { f.n, f.lost = 0, 0 }

// next takes the measurement of a frame, if there is one, and returns the distance.
func (f *follower) next(measured float64, ok bool) float64 {
	if f.n < settleFrames {
		if ok {
			f.first[f.n] = measured
			f.n++
			sorted := f.first
			slices.Sort(sorted[:f.n])
			f.offset = math.Round(sorted[f.n/2])
		}
		return f.offset
	}
	if !f.oneClock {
		f.offset += f.drift
	}
	if !ok {
		return f.offset
	}
	wrong := measured - f.offset
	if math.Abs(wrong) > lostError {
		if f.lost++; f.lost > lostFrames {
			f.again()
		}
		return f.offset
	}
	f.lost = 0
	if !f.oneClock {
		wrong = max(-mostError, min(mostError, wrong))
		f.age++
		gain := max(firstGain*gainFrames/float64(max(f.age, gainFrames)), lastGain)
		f.offset += gain * wrong
		f.drift = max(-mostDrift, min(mostDrift, f.drift+gain*gain/4*wrong))
	}
	return f.offset
}

// ReadBoth implements Duplex.
func (d *device) ReadBoth(near, far []int16) error {
	if err := checkFrame(far); err != nil {
		return err
	}
	if err := d.Read(near); err != nil {
		return err
	}
	if d.out == nil {
		clear(far)
		return nil
	}
	waits, at, known := d.waits, d.readAt, d.waitsKnown
	measured := 0.0
	if known {
		var heard float64
		heard, known = d.played.where(at.Add(-time.Duration(waits) * time.Second / Rate))
		measured = heard - float64(d.read)
	}
	if lost := d.overruns.Load() + d.underruns.Load(); lost != d.lost {
		d.lost = lost
		d.follow.again()
	}
	offset := d.follow.next(measured, known)
	d.played.copyTo(far, float64(d.read)-FrameSamples+offset+lead)
	return nil
}
