package sound

import "math"

// Voice generates sound that resembles speech in what matters to codecs, level meters and echo
// cancellers: syllables of voiced, formant-shaped sound, with falling pitch, consonant-like noise
// between them, short pauses between words and longer ones between sentences. It is always
// the same sequence. The zero Voice is not usable; for one goroutine.
//
// A pulse train is shaped by three resonators in parallel (Klatt, JASA 67 (1980) 971, without
// the details); the formants are those of Peterson and Barney (JASA 24 (1952) 175) for men.
type Voice struct {
	random   uint32
	filter   [3]resonator
	phase    float64 // of the pitch, 0…1
	pitch    float64 // Hz
	left     int     // samples left in the current part
	length   int     // samples of the current part
	part     part
	words    int // left in the sentence
	syllable int // left in the word
	lastIn   float64
}

type part int

const (
	pause part = iota
	consonant
	vowel
)

// vowels are the first three formants in Hz.
var vowels = [5][3]float64{
	{730, 1090, 2440}, // a
	{530, 1840, 2480}, // e
	{270, 2290, 3010}, // i
	{570, 840, 2410},  // o
	{300, 870, 2240},  // u
}

// NewVoice returns a Voice that starts to speak at once.
func NewVoice() *Voice { return &Voice{random: 0x2545F491} }

// Fill continues the voice for len(frame) samples. Peaks stay below half of full scale.
func (v *Voice) Fill(frame []int16) {
	for i := range frame {
		if v.left == 0 {
			v.next()
		}
		frame[i] = int16(v.sample())
		v.left--
	}
}

// next chooses the part that follows.
func (v *Voice) next() {
	switch {
	case v.part == consonant:
		v.start(vowel, 110+v.upTo(120))
		formants := vowels[v.upTo(len(vowels))]
		for i, f := range formants {
			v.filter[i].tune(f, []float64{80, 100, 140}[i])
		}
		v.pitch *= 0.96 // the fall of a sentence
	case v.part == vowel && v.syllable > 0:
		v.syllable--
		v.start(consonant, 30+v.upTo(40))
	case v.part == vowel && v.words > 0:
		v.words--
		v.syllable = v.upTo(3)
		v.start(pause, 50+v.upTo(60))
	case v.part == vowel:
		v.words = 2 + v.upTo(3)
		v.start(pause, 450+v.upTo(350))
		v.pitch = 0
	default:
		if v.pitch == 0 {
			v.pitch = 125 + float64(v.upTo(25))
		}
		v.start(consonant, 30+v.upTo(40))
	}
}

func (v *Voice) start(p part, milliseconds int) {
	v.part = p
	v.length = milliseconds * Rate / 1000
	v.left = v.length
}

func (v *Voice) sample() float64 {
	done := float64(v.length-v.left) / float64(v.length)
	in, noise := 0.0, 0.0
	switch v.part {
	case consonant:
		noise = (float64(v.rand())/(1<<31) - 1) * 500 * math.Sin(math.Pi*done)
	case vowel:
		// A saw tooth has the −12 dB per octave of the glottis once differentiated by the lips.
		v.phase += v.pitch * (1 + 0.02*math.Sin(2*math.Pi*done)) / Rate
		if v.phase >= 1 {
			v.phase--
		}
		attack := min(done*8, 1)
		decay := min((1-done)*4, 1)
		in = (v.phase - 0.5) * attack * decay
	}
	excitation := in - v.lastIn
	v.lastIn = in
	out := noise
	for i := range v.filter {
		out += v.filter[i].step(excitation) * [3]float64{100000, 60000, 33000}[i]
	}
	return max(-16000, min(16000, out))
}

// rand is xorshift32 (Marsaglia, 2003).
func (v *Voice) rand() uint32 {
	v.random ^= v.random << 13
	v.random ^= v.random >> 17
	v.random ^= v.random << 5
	return v.random
}

func (v *Voice) upTo(n int) int { return int(v.rand() % uint32(n)) }

// resonator is a two-pole filter with unit gain at its centre, about.
type resonator struct{ a, b, c, y1, y2 float64 }

func (r *resonator) tune(frequency, bandwidth float64) {
	radius := math.Exp(-math.Pi * bandwidth / Rate)
	r.c = -radius * radius
	r.b = 2 * radius * math.Cos(2*math.Pi*frequency/Rate)
	r.a = (1 - radius*radius) * math.Sin(2*math.Pi*frequency/Rate) * 4
}

func (r *resonator) step(x float64) float64 {
	y := r.a*x + r.b*r.y1 + r.c*r.y2
	r.y2, r.y1 = r.y1, y
	return y
}
