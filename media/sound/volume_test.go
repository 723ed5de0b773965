package sound

import (
	"math"
	"testing"
)

// tone is a second of a sine wave in frames, peak being a share of full scale.
func tone(peak float64) [][]int16 {
	frames := make([][]int16, Rate/FrameSamples)
	for n := range frames {
		frames[n] = make([]int16, FrameSamples)
		for i := range frames[n] {
			at := float64(n*FrameSamples+i) / Rate
			frames[n][i] = int16(math.Round(peak * math.MaxInt16 * math.Sin(2*math.Pi*440*at)))
		}
	}
	return frames
}

// level is the RMS in decibels below full scale.
func level(frames [][]int16) float64 {
	sum, n := 0.0, 0
	for _, f := range frames {
		for _, s := range f {
			sum += float64(s) * float64(s)
			n++
		}
	}
	return 10 * math.Log10(sum/float64(n)/math.MaxInt16/math.MaxInt16)
}

// TestVolumeCurve: a quiet voice becomes as much louder or softer as the curve says, sample for sample.
func TestVolumeCurve(t *testing.T) {
	for _, test := range []struct {
		name    string
		percent int
		want    float64 // decibels
	}{
		{"as it came, because nothing is said", 0, 0},
		{"as it came", UnityVolume, 0},
		{"the loudest", 100, 9},
		{"more than the loudest", 250, 9},
		{"softer", 20, -15},
		{"the softest", 1, -20.7},
		{"below the softest", -5, -20.7},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after := tone(0.1), tone(0.1)
			v := NewVolume(test.percent)
			for _, f := range after {
				v.Apply(f)
			}
			if got := level(after) - level(before); math.Abs(got-test.want) > 0.05 {
				t.Errorf("%d %% changed the level by %.2f dB, want %.2f", test.percent, got, test.want)
			}
			if test.want != 0 {
				return
			}
			for n, f := range before {
				for i, s := range f {
					if after[n][i] != s {
						t.Fatalf("sample %d of frame %d is %d, was %d: it was to be left as it came", i, n, after[n][i], s)
					}
				}
			}
		})
	}
}

// TestVolumeNeverClips: at the loudest, a caller who shouts is held below full scale and stays a sine wave; a quiet voice after it is loud again within a second.
func TestVolumeNeverClips(t *testing.T) {
	v := NewVolume(100)
	shout := tone(1)
	before := level(shout)
	for _, f := range shout {
		v.Apply(f)
	}
	peak, flat, steepest := 0, 0, 0
	for n, f := range shout {
		for i, s := range f {
			peak = max(peak, int(math.Abs(float64(s))))
			if n < 2 || i == 0 {
				continue
			}
			if s >= math.MaxInt16 || s <= -math.MaxInt16 {
				flat++
			}
			steepest = max(steepest, int(math.Abs(float64(s)-float64(f[i-1]))))
		}
	}
	if peak > math.MaxInt16 || flat > 0 {
		t.Errorf("a shout peaks at %d, %d samples are at full scale: it is cut", peak, flat)
	}
	if got := level(shout[2:]) - before; math.Abs(got+3.1) > 0.1 {
		t.Errorf("a shout is %.2f dB louder than it came, want -3.1: held at the limiter's ceiling", got)
	}
	if most := 2075; steepest > most { // 2π × 440 Hz ÷ 48 kHz × full scale, and 10 %
		t.Errorf("a step of %d between samples, a sine wave has at most %d: it has an edge", steepest, most)
	}
	quiet := tone(0.1)
	was := level(quiet)
	for _, f := range quiet {
		v.Apply(f)
	}
	if got := level(quiet[95:]) - was; math.Abs(got-9) > 0.1 {
		t.Errorf("a quiet voice a second after a shout is %.2f dB louder than it came, want 9", got)
	}
	quiet = tone(0.1)
	if n := testing.AllocsPerRun(10, func() { v.Apply(quiet[0]) }); n != 0 {
		t.Errorf("%v allocations for a frame", n)
	}
}
