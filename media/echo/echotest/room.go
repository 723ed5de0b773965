// Package echotest has a room in which a loudspeaker is heard by a microphone, and measures how well an echo canceller copes. Everything
// is generated and always the same. Tests and the benchmarks use it.
package echotest

import (
	"math"

	"vindu/media/echo"
	"vindu/media/sound"
)

const frameSamples = echo.FrameSamples

// Room is a loudspeaker, the way from it to a microphone, and the microphone's own noise.
type Room struct {
	// Distorts is how much the loudspeaker does: 0 is not at all, 1 clips softly at a third of full scale.
	Distorts float64
	// Late is by how many samples the echo is later than it should be.
	Late int
	// Gain is how loud the echo is: 1 as loud as the loudspeaker. 0 means 0.3.
	Gain float64

	taps    [taps]tap
	line    []float64
	at      int
	noise   uint32
	started bool
}

// The room answers for 80 ms: single reflections at random places, which fall by 60 dB over that time.
const (
	answers = sound.Rate * 80 / 1000
	taps    = 64
)

type tap struct {
	late int
	gain float64
}

func (r *Room) start() {
	r.started, r.noise = true, 0x2545F491
	sum := 0.0
	for i := range r.taps {
		late := answers * i / taps
		if i > 0 {
			late += int(r.random() % (answers / taps))
		}
		gain := math.Pow(10, -3*float64(late)/answers)
		if r.random()&1 == 0 && i > 0 {
			gain = -gain
		}
		sum += gain * gain
		r.taps[i] = tap{late, gain}
	}
	if r.Gain == 0 {
		r.Gain = 0.3
	}
	for i := range r.taps {
		r.taps[i].gain *= r.Gain / math.Sqrt(sum)
	}
	r.line = make([]float64, answers+r.Late+1)
}

func (r *Room) random() uint32 { // xorshift32 (Marsaglia, 2003)
	r.noise ^= r.noise << 13
	r.noise ^= r.noise >> 17
	r.noise ^= r.noise << 5
	return r.noise
}

// Hear adds to near what a microphone hears of far, and noise at −85 dBFS.
//
//go:norace
func (r *Room) Hear(near, far []int16) {
	if !r.started {
		r.start()
	}
	for i := range near {
		r.at++
		if r.at == len(r.line) {
			r.at = 0
		}
		v := float64(far[i])
		if r.Distorts > 0 {
			const knee = 32768 / 3
			v += r.Distorts * (knee*math.Tanh(v/knee) - v)
		}
		r.line[r.at] = v
		heard := float64(int32(r.random())) / (1 << 31) * 3
		for _, t := range r.taps {
			from := r.at - t.late - r.Late
			if from < 0 {
				from += len(r.line)
			}
			heard += t.gain * r.line[from]
		}
		near[i] = int16(max(-32768, min(32767, float64(near[i])+heard)))
	}
}

// ERLE plays seconds of speech in room, of which the first five are not judged, and returns by how many dB c makes the echo of
// the rest quieter.
func ERLE(c echo.Canceller, room *Room, seconds int) (float64, error) {
	voice := sound.NewVoice()
	var far, near [frameSamples]int16
	var before, after float64
	for i := range seconds * 100 {
		voice.Fill(far[:])
		clear(near[:])
		room.Hear(near[:], far[:])
		in := Power(near[:])
		if err := c.Process(near[:], far[:]); err != nil {
			return 0, err
		}
		if i >= 500 {
			before += in
			after += Power(near[:])
		}
	}
	return 10 * math.Log10(before/max(after, 1e-3)), nil
}

// DoubleTalk lets both ends speak at once after five seconds of the far end alone, and returns by how many dB c makes the near end quieter
// than it is.
func DoubleTalk(c echo.Canceller, room *Room, seconds int) (float64, error) {
	voice, own := sound.NewVoice(), sound.NewVoice()
	var far, near [frameSamples]int16
	for range 137 { // another text
		own.Fill(near[:])
	}
	var before, after float64
	for i := range seconds * 100 {
		voice.Fill(far[:])
		clear(near[:])
		speaks := i >= 500
		if speaks {
			own.Fill(near[:])
		}
		in := Power(near[:])
		room.Hear(near[:], far[:])
		if err := c.Process(near[:], far[:]); err != nil {
			return 0, err
		}
		if speaks {
			before += in
			after += Power(near[:])
		}
	}
	return 10 * math.Log10(before/max(after, 1e-3)), nil
}

// Power returns a frame's mean square.
//
//go:norace
func Power(frame []int16) float64 {
	sum := 0.0
	for _, v := range frame {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(frame))
}

// Howl closes the loop: what c lets through is heard by the far end's microphone, gain times as loud, 100 ms later, beside half a second of the
// far end's own speech. It returns the loudest frame's mean square of the near end's last second, of seconds.
func Howl(c echo.Canceller, room *Room, gain float64, seconds int) (float64, error) {
	voice := sound.NewVoice()
	var far, near [frameSamples]int16
	var way [10][frameSamples]int16
	loudest := 0.0
	for i := range seconds * 100 {
		clear(far[:])
		if i < 50 {
			voice.Fill(far[:])
		}
		back := &way[i%len(way)]
		for k, v := range back {
			far[k] = int16(max(-32768, min(32767, float64(far[k])+gain*float64(v))))
		}
		clear(near[:])
		room.Hear(near[:], far[:])
		if err := c.Process(near[:], far[:]); err != nil {
			return 0, err
		}
		*back = near
		if i >= (seconds-1)*100 {
			loudest = max(loudest, Power(near[:]))
		}
	}
	return loudest, nil
}
