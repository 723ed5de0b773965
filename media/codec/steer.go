package codec

const (
	steerEvery = videoClock / 2 // between changes of what the library is told
	steerTime  = 1.5            // seconds in which what was sent too much is saved
	steerMost  = 0.15           // of the target, either way
	steerDebt  = 0.5            // seconds of the target that are remembered of what was too much
	steerSaved = 0.2            // and of what was too little: a still picture, and the first ones, save nothing up
	steerSame  = 0.2            // of the target: a change by less keeps account of what was sent
	steerSlack = 0.01           // of the target, that is not worth a change
)

// steer has an encoder send what it was asked to: rate controls are off by some percent, one way or the other by what the picture holds. It
// keeps account of what was sent beyond the target, and asks for as much less.
type steer struct {
	target, asked int     // bit/s: what is wanted, and what the library is told
	debt          float64 // bits beyond the target
	since         float64 // the last change, 90 kHz
}

// note takes a coded picture, 0 bits for one that was dropped, and the time since the one before, 90 kHz.
func (s *steer) note(bits int, ticks float64) {
	s.debt += float64(bits) - float64(s.target)*ticks/videoClock
	s.debt = min(max(s.debt, -steerSaved*float64(s.target)), steerDebt*float64(s.target))
	s.since += ticks
}

// rate is what the library is to be told for target.
func (s *steer) rate(target int) int {
	switch {
	case s.target == 0 || absDiff(uint(target), uint(s.target)) > uint(steerSame*float64(s.target)):
		*s = steer{target: target, asked: target}
		return target
	case target != s.target: // what is off stays off
		s.asked = int(float64(s.asked) * float64(target) / float64(s.target))
		s.target = target
	}
	if s.since < steerEvery {
		return s.asked
	}
	s.since = 0
	off := min(max(s.debt/float64(target)/steerTime, -steerMost), steerMost)
	if want := int(float64(target) * (1 - off)); absDiff(uint(want), uint(s.asked)) > uint(steerSlack*float64(target)) {
		s.asked = want
	}
	return s.asked
}
