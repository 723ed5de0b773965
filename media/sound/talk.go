package sound

import (
	"math"
	"sync"
)

const (
	// What else is played becomes softer by 12 dB while something is said, within attack, and comes back within release.
	ducked  = 0.25
	attack  = (1 - ducked) / (0.06 * Rate)
	release = (1 - ducked) / (0.4 * Rate)
	// cutFrames is how many frames it takes to fade out what is said no further.
	cutFrames = 2
)

// Talk says things among what a loudspeaker plays: Mix is called with each frame, in whose hands the loudspeaker is, so that what is said goes on from
// one to the next. What is said is heard above what else is played, which becomes softer meanwhile; never jumps; and never clips. An echo canceller that gets what is
// written to the card gets all of it. The zero Talk says nothing. Its methods may be called from any goroutine.
type Talk struct {
	mu    sync.Mutex
	queue []*Said
	held  bool
	far   float64 // how much softer the rest is than it may be: 0 not at all
	frame [FrameSamples]int16
}

// Said is one thing that is, or was, to be said.
type Said struct {
	samples []int16
	at      int
	volume  Volume
	cut     int  // frames that are left to fade out; 0: it is neither cut nor held
	again   bool // and is then said from its beginning
	whole   bool
	done    chan struct{}
}

// Done is closed when it was handed to a loudspeaker to its end, or cut.
func (s *Said) Done() <-chan struct{} { return s.done }

// Whole tells, after Done was closed, whether it was said to its end.
func (s *Said) Whole() bool { return s.whole }

// Say has samples (48 kHz, one channel) said after what is to be said already, at a volume in percent as NewVolume takes it. The samples must not change meanwhile.
func (t *Talk) Say(samples []int16, volume int) *Said {
	s := &Said{samples: samples, volume: NewVolume(volume), done: make(chan struct{})}
	if len(samples) == 0 {
		s.whole = true
		close(s.done)
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, s)
	return s
}

// Cut has something fall silent, softly if it is being said. It may be called when it is over.
func (t *Talk) Cut(s *Said) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, q := range t.queue {
		switch {
		case q != s:
		case i == 0 && s.at > 0:
			if s.again = false; s.cut == 0 {
				s.cut = cutFrames
			}
			return
		default:
			t.queue = append(t.queue[:i], t.queue[i+1:]...)
			close(s.done)
			return
		}
	}
}

// Drop has all that is to be said be forgotten at once, because there is no loudspeaker any more.
func (t *Talk) Drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		t.drop(false)
	}
}

// Hold has it fall silent, softly, because the loudspeaker is given away; what was not said to its end waits for Go, and is said from its beginning.
func (t *Talk) Hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		return
	}
	t.held = true
	if len(t.queue) > 0 && t.queue[0].at > 0 && t.queue[0].cut == 0 {
		t.queue[0].cut, t.queue[0].again = cutFrames, true
	}
}

// Go ends Hold: there is another loudspeaker.
func (t *Talk) Go() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = false
	if len(t.queue) > 0 && t.queue[0].again { // the one before closed before it was silent
		t.queue[0].at, t.queue[0].cut, t.queue[0].again = 0, 0, false
	}
}

// Busy tells whether something is being said or waits to be.
func (t *Talk) Busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) > 0
}

// Mix adds what is to be said to a frame that is about to be played. It does not allocate.
func (t *Talk) Mix(frame []int16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	speaking := len(t.queue) > 0 && len(frame) <= FrameSamples && (!t.held || t.queue[0].cut > 0)
	if !speaking && t.far == 0 {
		return
	}
	var said []int16
	if speaking && t.far >= 1-ducked { // the rest is soft enough
		said = t.next(len(frame))
	}
	for i, v := range frame {
		if speaking {
			t.far = min(t.far+attack, 1-ducked)
		} else {
			t.far = max(t.far-release, 0)
		}
		x := float64(v) * (1 - t.far)
		if said != nil {
			x = soft((x+float64(said[i]))/fullScale) * fullScale
		}
		frame[i] = int16(math.Round(x))
	}
}

// next returns the next n samples of what is said. t.mu is held.
func (t *Talk) next(n int) []int16 {
	out := t.frame[:n]
	clear(out)
	s := t.queue[0]
	copied := copy(out, s.samples[s.at:])
	s.at += copied
	s.volume.Apply(out)
	if s.cut > 0 {
		from, each := float64(s.cut)/cutFrames, 1/(float64(cutFrames)*float64(n))
		for i := range out {
			out[i] = int16(float64(out[i]) * max(from-float64(i)*each, 0))
		}
		if s.cut--; s.cut == 0 && s.again {
			s.at, s.again = 0, false
		} else if s.cut == 0 {
			t.drop(false)
		}
		return out
	}
	if s.at == len(s.samples) {
		t.drop(true)
	}
	return out
}

// drop ends what is being said. t.mu is held.
func (t *Talk) drop(whole bool) {
	s := t.queue[0]
	t.queue = t.queue[1:]
	s.whole = whole
	close(s.done)
}
