package codec

import (
	"errors"
	"math"
	"testing"
)

func tone(pcm []int16, hz float64, from int) {
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(from+i)/SampleRate))
	}
}

// power is the share of pcm's energy that lies at hz (Goertzel).
func power(pcm []int16, hz float64) float64 {
	c := 2 * math.Cos(2*math.Pi*hz/SampleRate)
	var s1, s2, total float64
	for _, v := range pcm {
		x := float64(v)
		total += x * x
		s1, s2 = x+c*s1-s2, s1
	}
	if total == 0 {
		return 0
	}
	return (s1*s1 + s2*s2 - c*s1*s2) / (total * float64(len(pcm)) / 2)
}

func newOpus(t testing.TB, cfg OpusConfig) (*OpusEncoder, *OpusDecoder) {
	t.Helper()
	e, err := NewOpusEncoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewOpusDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); d.Close() })
	return e, d
}

func TestOpusKeepsTone(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  OpusConfig
	}{
		{"20 ms", OpusConfig{}},
		{"10 ms", OpusConfig{FrameSamples: 480}},
		{"low", OpusConfig{Bitrate: 12_000, Complexity: 1}},
		{"DTX, no FEC", OpusConfig{DTX: true, NoFEC: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, d := newOpus(t, tt.cfg)
			in := make([]int16, e.cfg.FrameSamples)
			out := make([]int16, MaxOpusSamples)
			var heard []int16
			bytes := 0
			for i := range 50 {
				tone(in, 1000, i*len(in))
				p, err := e.Encode(in)
				if err != nil {
					t.Fatal(err)
				}
				bytes += len(p)
				if n, err := OpusSamples(p); err != nil || n != len(in) {
					t.Fatalf("packet of %d samples, %v; want %d", n, err, len(in))
				}
				n, err := d.Decode(p, out)
				if err != nil {
					t.Fatal(err)
				}
				heard = append(heard, out[:n]...)
			}
			if got := power(heard[len(heard)/2:], 1000); got < 0.9 {
				t.Errorf("%.2f of what is heard is the tone", got)
			}
			if got := bytes * 8 * SampleRate / (50 * len(in)); got > e.bitrate*3/2 {
				t.Errorf("%d bit/s, want about %d", got, e.bitrate)
			}
		})
	}
}

// One packet of four is lost: what was lost must come back from the copy in the next packet, better than from nothing.
func TestOpusRecoversLoss(t *testing.T) {
	e, d := newOpus(t, OpusConfig{Bitrate: 24_000})
	e.SetLoss(25)
	_, blind := newOpus(t, OpusConfig{})
	in := make([]int16, 960)
	var byCopy, byGuess, wanted []int16
	out, guess := make([]int16, MaxOpusSamples), make([]int16, MaxOpusSamples)
	lost := false
	for i := range 100 {
		// A tone that changes with each frame, so that guessing from the last one is wrong.
		tone(in, 300+float64(i*37%11)*100, i*960)
		p, err := e.Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			lost = true
			wanted = append(wanted, in...)
			continue
		}
		if lost {
			lost = false
			if n, err := d.DecodeFEC(p, out[:960]); err != nil || n != 960 {
				t.Fatalf("recover: %d samples, %v", n, err)
			}
			if n, err := blind.Conceal(guess[:960]); err != nil || n != 960 {
				t.Fatalf("conceal: %d samples, %v", n, err)
			}
			byCopy, byGuess = append(byCopy, out[:960]...), append(byGuess, guess[:960]...)
		}
		for dec, buf := range map[*OpusDecoder][]int16{d: out, blind: guess} {
			if _, err := dec.Decode(p, buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	right := func(got []int16) (n int) {
		for i := 0; i < len(got); i += 960 {
			best, bestHz := 0.0, 0.0
			for hz := 300.0; hz <= 1300; hz += 100 {
				if p := power(got[i:i+960], hz); p > best {
					best, bestHz = p, hz
				}
			}
			if power(wanted[i:i+960], bestHz) > 0.5 {
				n++
			}
		}
		return n
	}
	c, g := right(byCopy), right(byGuess)
	t.Logf("right tone in lost frames: %d by copy, %d by guess, of %d", c, g, len(byCopy)/960)
	if c < len(byCopy)/960*3/4 || c <= g {
		t.Errorf("right tone in lost frames: %d by copy, %d by guess, of %d", c, g, len(byCopy)/960)
	}
}

func TestOpusDTX(t *testing.T) {
	e, _ := newOpus(t, OpusConfig{DTX: true})
	in := make([]int16, 960)
	small := 0
	for range 100 {
		p, err := e.Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		if len(p) <= 2 {
			small++
		}
	}
	if small < 50 {
		t.Errorf("%d of 100 frames of silence cost nothing", small)
	}
}

func TestOpusRefuses(t *testing.T) {
	_, d := newOpus(t, OpusConfig{})
	pcm := make([]int16, MaxOpusSamples)
	for _, tt := range []struct {
		name   string
		packet []byte
		pcm    []int16
		want   error
	}{
		{"empty", nil, pcm, ErrCorrupt},
		{"2 kB", make([]byte, 2000), pcm, ErrTooLarge},
		{"frame count of zero", []byte{0x03, 0x00}, pcm, ErrCorrupt},
		{"63 frames", []byte{0x03, 0x3f}, pcm, ErrCorrupt},
		{"no room", []byte{0x08, 0x01}, pcm[:10], ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := d.Decode(tt.packet, tt.pcm); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	d.Close()
	if _, err := d.Conceal(pcm[:960]); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := NewOpusEncoder(OpusConfig{FrameSamples: 500}); err == nil {
		t.Error("an encoder of 500-sample frames was made")
	}
}

func TestOpusDoesNotAllocate(t *testing.T) {
	e, d := newOpus(t, OpusConfig{})
	in, out := make([]int16, 960), make([]int16, MaxOpusSamples)
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		n++
		tone(in, 440, n*960)
		e.SetLoss(n % 20)
		p, err := e.Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Decode(p, out); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Conceal(out[:960]); err != nil {
			t.Fatal(err)
		}
		if _, err := d.DecodeFEC(p, out[:960]); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations per frame", got)
	}
}

func FuzzOpusDecode(f *testing.F) {
	e, _ := newOpus(f, OpusConfig{})
	in := make([]int16, 960)
	for i := range 4 {
		tone(in, 700, i*960)
		p, err := e.Encode(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		d, err := NewOpusDecoder()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		pcm := make([]int16, MaxOpusSamples)
		n, err := d.Decode(packet, pcm)
		if want, werr := OpusSamples(packet); err == nil && (werr != nil || n != want) {
			t.Fatalf("%d samples, announced %d, %v", n, want, werr)
		}
		if _, err := d.DecodeFEC(packet, pcm[:960]); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
		if n, err := d.Conceal(pcm[:960]); err != nil || n != 960 {
			t.Fatalf("conceal after it: %d, %v", n, err)
		}
	})
}

func BenchmarkOpusEncode(b *testing.B) {
	e, _ := newOpus(b, OpusConfig{})
	in := make([]int16, 960)
	tone(in, 440, 0)
	for b.Loop() {
		if _, err := e.Encode(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpusDecode(b *testing.B) {
	e, d := newOpus(b, OpusConfig{})
	in, out := make([]int16, 960), make([]int16, MaxOpusSamples)
	tone(in, 440, 0)
	p, err := e.Encode(in)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := d.Decode(p, out); err != nil {
			b.Fatal(err)
		}
	}
}
