package lab

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// barRow draws the bars, moved to the left, with some noise.
func barRow(width, moved int) []color.RGBA {
	row := make([]color.RGBA, width)
	for x := range row {
		row[x] = Bars[(x+moved)%width*len(Bars)/width]
		row[x].G = uint8(min(255, int(row[x].G)+x%5))
	}
	return row
}

func TestReadBars(t *testing.T) {
	cases := []struct {
		name  string
		row   []color.RGBA
		phase int
		fails string
	}{
		{"as they are", barRow(320, 0), 0, ""},
		{"moved", barRow(320, 100), 220, ""},
		{"grey", slices.Repeat([]color.RGBA{{100, 100, 100, 255}}, 320), 0, "pixels wide"},
		{"nothing", nil, 0, "too short"},
		{"mirrored", func() []color.RGBA { row := barRow(320, 0); slices.Reverse(row); return row }(), 0, "begins"},
		{"red and blue exchanged", func() []color.RGBA {
			row := barRow(320, 0)
			for i := range row {
				row[i].R, row[i].B = row[i].B, row[i].R
			}
			return row
		}(), 0, "begins"},
		{"full range taken for video range", func() []color.RGBA {
			row := barRow(320, 0)
			for i := range row {
				row[i].R, row[i].G, row[i].B = 16+uint8(int(row[i].R)*219/255), 16+uint8(int(row[i].G)*219/255), 16+uint8(int(row[i].B)*219/255)
			}
			return row
		}(), 0, "more than 15"},
		{"one bar missing", func() []color.RGBA {
			row := barRow(320, 0)
			copy(row[40:80], row[0:40])
			return row
		}(), 0, "wide"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bars, err := ReadBars(c.row)
			if c.fails == "" && (err != nil || bars.Phase != c.phase) || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("phase %d, error %v, want %d, %q", bars.Phase, err, c.phase, c.fails)
			}
		})
	}
}

// callerScreen draws the caller's picture as a terminal would, larger and letterboxed.
func callerScreen(frame int, tint func(color.RGBA) color.RGBA) *image.RGBA {
	screen := image.NewRGBA(image.Rect(0, 0, 1280, 720))
	draw.Draw(screen, screen.Bounds(), image.NewUniform(color.RGBA{20, 20, 24, 255}), image.Point{}, draw.Src)
	for y := range 600 {
		for x := range 800 {
			screen.SetRGBA(240+x, 60+y, tint(callerPixel(x*callerWidth/800, y*callerHeight/600, frame)))
		}
	}
	return screen
}

func TestFindCaller(t *testing.T) {
	as := func(c color.RGBA) color.RGBA { return c }
	found, err := FindCaller(callerScreen(0, as))
	if err != nil {
		t.Fatal(err)
	}
	if want := image.Rect(240, 60, 1040, 660); found.Where != want {
		t.Errorf("found at %v, want %v", found.Where, want)
	}
	for _, frame := range []int{0, 1, callerFrames / 2, callerFrames - 1} {
		seen, err := FindCaller(callerScreen(frame, as))
		if err != nil || seen.Frame(seen.Where.Min.Y+seen.Square) != frame {
			t.Errorf("frame %d was taken for %d, %v", frame, seen.Frame(seen.Where.Min.Y+seen.Square), err)
		}
	}
	later, err := FindCaller(callerScreen(15, as))
	if err != nil || later.Square <= found.Square {
		t.Errorf("the square went from %d to %d, %v", found.Square, later.Square, err)
	}
	fails := map[string]*image.RGBA{
		"nothing there":          image.NewRGBA(image.Rect(0, 0, 1280, 720)),
		"red and blue exchanged": callerScreen(0, func(c color.RGBA) color.RGBA { c.R, c.B = c.B, c.R; return c }),
		"too dark":               callerScreen(0, func(c color.RGBA) color.RGBA { return color.RGBA{c.R - c.R/7, c.G - c.G/7, c.B - c.B/7, 255} }),
	}
	for name, screen := range fails {
		if found, err := FindCaller(screen); err == nil {
			t.Errorf("%s: found %+v", name, found)
		}
	}
}

func TestTone(t *testing.T) {
	beeps := Beeps(1000, 4)
	samples, rate, err := DecodeWAV(EncodeWAV(beeps))
	if err != nil || rate != SampleRate || !slices.Equal(samples, beeps) {
		t.Fatalf("a WAV file of %d samples came back with %d at %d/s, %v", len(beeps), len(samples), rate, err)
	}
	noise := make([]int16, 4*SampleRate)
	state := uint32(1)
	for i := range noise {
		state = state*1664525 + 1013904223
		noise[i] = int16(state>>16) / 4
	}
	steady := make([]int16, 4*SampleRate)
	for i := range steady {
		steady[i] = int16(9000 * math.Sin(2*math.Pi*1000*float64(i)/SampleRate))
	}
	cases := []struct {
		name    string
		samples []int16
		heard   bool
	}{
		{"the tone", beeps, true},
		{"another tone", Beeps(700, 4), false},
		{"noise", noise, false},
		{"silence", make([]int16, 4*SampleRate), false},
		{"no pauses", steady, false},
		{"nothing", nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if heard := Listen(c.samples, SampleRate, 1000); heard.Beeped() != c.heard {
				t.Errorf("%v: beeped %v, want %v", heard, heard.Beeped(), c.heard)
			}
		})
	}
	for _, broken := range []string{"", "RIFF....WAVE", "RIFF....WAVEdata\x04\x00\x00\x00abcd", "RIFF....WAVEfmt \x01\x00\x00\x00a"} {
		if _, _, err := DecodeWAV([]byte(broken)); err == nil {
			t.Errorf("%q was taken for sound", broken)
		}
	}
}

func TestIdle(t *testing.T) {
	before, err := parseCPU("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0\ncpu1 1 0 0 0 0 0 0 0\nintr 5\n")
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseCPU("cpu  190 0 100 705 105 0 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0\ncpu1 1 0 0 0 0 0 0 0\nintr 5\n")
	if err != nil {
		t.Fatal(err)
	}
	if idle := after.IdleSince(before); math.Abs(idle-0.2) > 1e-9 {
		t.Errorf("%v cores were idle, want 0.2", idle)
	}
	if _, err := parseCPU("nothing"); err == nil {
		t.Error("nothing was taken for /proc/stat")
	}
	if _, err := ReadCPU(); err != nil {
		t.Error(err)
	}
}

func TestRate(t *testing.T) {
	const second = time.Second
	var steady, gap []time.Duration
	for at := time.Duration(0); at < 30*second; at += second / 10 {
		steady = append(steady, at)
		if at < 10*second || at >= 14*second {
			gap = append(gap, at)
		}
	}
	cases := []struct {
		name   string
		events []time.Duration
		want   Rate
	}{
		{"steady", steady, Rate{10, 10, 300}},
		{"a gap of four seconds", gap, Rate{260.0 / 30, 2, 260}},
		{"nothing", nil, Rate{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := RateOf(c.events, 30*second, 5*second)
			if math.Abs(got.Mean-c.want.Mean) > 1e-9 || math.Abs(got.Worst-c.want.Worst) > 1e-9 || got.Events != c.want.Events {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	moved := Moving([]time.Duration{0, 1, 2, 3}, []int{5, 5, 6, 5})
	if !slices.Equal(moved, []time.Duration{2, 3}) {
		t.Errorf("moved at %v", moved)
	}
}
