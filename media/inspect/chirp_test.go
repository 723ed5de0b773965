package inspect_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"vindu/media/inspect"
	"vindu/media/sound"
)

const second = 48000

// room is 2 s of a microphone's sound, as floats.
type room []float64

func newRoom() room { return make(room, 2*second) }

// chirp adds the chirp at a delay, as loud as factor says.
func (r room) chirp(delay int, factor float64) room {
	for i, s := range inspect.Chirp() {
		if delay+i < len(r) {
			r[delay+i] += factor * float64(s)
		}
	}
	return r
}

func (r room) noise(amplitude float64, seed uint64) room {
	random := rand.New(rand.NewPCG(seed, 2))
	for i := range r {
		r[i] += amplitude * random.NormFloat64()
	}
	return r
}

func (r room) tone(hz, amplitude float64) room {
	for i := range r {
		r[i] += amplitude * math.Sin(2*math.Pi*hz*float64(i)/second)
	}
	return r
}

func (r room) speech(factor float64) room {
	v := sound.NewVoice()
	frame := make([]int16, sound.FrameSamples)
	for at := 0; at < len(r); at += len(frame) {
		v.Fill(frame)
		for i, s := range frame {
			r[at+i] += factor * float64(s)
		}
	}
	return r
}

func (r room) clicks(amplitude float64) room {
	for at := 3000; at < len(r)-48; at += 31000 {
		for i := range 48 {
			r[at+i] += amplitude * float64(1-2*(i%2))
		}
	}
	return r
}

// walls adds a decaying tail of echoes to all that is there, each of them later and weaker.
func (r room) walls(seed uint64) room {
	random := rand.New(rand.NewPCG(seed, 3))
	dry := append(room(nil), r...)
	for delay := 100; delay < second/5; delay += 50 + random.IntN(400) {
		factor := 0.5 * math.Exp(-float64(delay)/(second/20)) * float64(1-2*random.IntN(2))
		for i := delay; i < len(r); i++ {
			r[i] += factor * dry[i-delay]
		}
	}
	return r
}

// samples is what a converter of 16 bits makes of it.
func (r room) samples() []int16 {
	s := make([]int16, len(r))
	for i, v := range r {
		s[i] = int16(min(max(v, math.MinInt16), math.MaxInt16))
	}
	return s
}

// stretched is the room as heard by a converter whose clock is off.
func (r room) stretched(by float64) room {
	to := newRoom()
	for i := range to {
		at := float64(i) * by
		if n := int(at); n+1 < len(r) {
			to[i] = r[n] + (at-float64(n))*(r[n+1]-r[n])
		}
	}
	return to
}

func TestFindChirp(t *testing.T) {
	const delay = 12345
	for _, c := range []struct {
		name  string
		room  room
		heard bool
	}{
		{"alone", newRoom().chirp(delay, 1), true},
		{"at once", newRoom().chirp(0, 1), true},
		{"very quiet", newRoom().chirp(delay, 0.002), true},
		{"in noise of its own loudness", newRoom().chirp(delay, 0.1).noise(600, 1), true},
		{"15 dB under noise", newRoom().chirp(delay, 0.1).noise(3000, 1), true},
		{"beside speech", newRoom().chirp(delay, 1).speech(0.5), true},
		{"with hum", newRoom().chirp(delay, 0.1).tone(50, 8000).tone(1000, 800), true},
		{"in a room with walls", newRoom().chirp(delay, 0.5).walls(1).noise(100, 1), true},
		{"overdriven", newRoom().chirp(delay, 20), true},
		{"upside down", newRoom().chirp(delay, -0.3).noise(50, 1), true},
		{"clocks 200 ppm apart", newRoom().chirp(delay, 0.5).noise(100, 1).stretched(1.0002), true},

		{"silence", newRoom(), false},
		{"noise", newRoom().noise(3000, 1), false},
		{"overdriven noise", newRoom().noise(60000, 1), false},
		{"hum", newRoom().tone(50, 8000).noise(10, 1), false},
		{"a tone in its band", newRoom().tone(1000, 8000).noise(10, 1), false},
		{"speech", newRoom().speech(1), false},
		{"loud speech between walls", newRoom().speech(3).walls(1), false},
		{"clicks", newRoom().clicks(20000).noise(10, 1), false},
		{"half of it", newRoom().chirp(len(newRoom())-len(inspect.Chirp())/4, 1).noise(300, 1), false},
		{"30 dB under noise", newRoom().chirp(delay, 0.02).noise(3500, 1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := inspect.FindChirp(c.room.samples())
			t.Logf("%+v", got)
			if got.Heard != c.heard {
				t.Fatalf("%+v", got)
			}
			if want := delay * time.Second / second; c.heard && c.name != "at once" && (got.Delay-want).Abs() > 200*time.Microsecond {
				t.Errorf("delay %v, want %v", got.Delay, want)
			}
		})
	}
}

func TestFindChirpNeedsMore(t *testing.T) {
	chirp := inspect.Chirp()
	for _, n := range []int{0, 1, len(chirp)} {
		if got := inspect.FindChirp(chirp[:n]); got != (inspect.Echo{}) {
			t.Errorf("%d samples: %+v", n, got)
		}
	}
	if got := inspect.FindChirp(append(chirp, make([]int16, second*4/10)...)); !got.Heard || got.Delay != 0 || got.Likeness < 0.99 {
		t.Errorf("the shortest sound: %+v", got)
	}
}

func TestChirp(t *testing.T) {
	chirp := inspect.Chirp()
	l := inspect.Measure(chirp)
	if l.Peak > -11.9 || l.Peak < -12.2 || l.Clipped > 0 || chirp[0] != 0 || chirp[len(chirp)-1] != 0 {
		t.Errorf("%+v, from %d to %d", l, chirp[0], chirp[len(chirp)-1])
	}
}

func FuzzFindChirp(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add([]byte{0xff, 0x7f}, 1)
	f.Fuzz(func(t *testing.T, pattern []byte, extra int) {
		heard := make([]int16, second*4/5+min(max(extra, 0), 2000))
		for i := range heard {
			if len(pattern) > 0 {
				heard[i] = int16(pattern[i%len(pattern)])<<8 | int16(pattern[(i*7)%len(pattern)])
			}
		}
		e := inspect.FindChirp(heard)
		if math.IsNaN(e.Clarity) || math.IsNaN(e.Likeness) || e.Likeness > 1.5 || e.Delay < 0 {
			t.Errorf("%+v", e)
		}
	})
}

func BenchmarkFindChirp(b *testing.B) {
	heard := newRoom().chirp(5000, 1).samples()
	for b.Loop() {
		inspect.FindChirp(heard)
	}
}
