package steady

import (
	"math"
	"os"
	"testing"
	"time"
)

func at(minutes float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(minutes * float64(time.Minute)))
}

func TestSlope(t *testing.T) {
	var rises, swings Series
	for n := range 60 {
		rises.Add(at(float64(n)), 100+float64(n))
		swings.Add(at(float64(n)), 100+float64(n%2))
	}
	for name, c := range map[string]struct {
		of   Series
		want float64
	}{
		"nothing":               {nil, 0},
		"one":                   {rises[:1], 0},
		"one a minute":          {rises, 60},
		"its second half":       {rises.Since(at(30)), 60},
		"up and down":           {swings, 0},
		"two at the same time":  {Series{{at(0), 1}, {at(0), 2}}, 0},
		"floors of a saw":       {saw(0).Floors(10 * time.Minute), 0},
		"floors of a leaky saw": {saw(0.5).Floors(10 * time.Minute), 30},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.of.Slope(); math.Abs(got-c.want) > 0.6 {
				t.Errorf("%.2f an hour, want %.2f", got, c.want)
			}
		})
	}
}

// saw is a heap that is collected every ten minutes; leak is what each minute leaves.
func saw(leak float64) (s Series) {
	for n := range 120 {
		s.Add(at(float64(n)), 10+float64(n%10)*3+leak*float64(n))
	}
	return s
}

func TestBounds(t *testing.T) {
	if least, most := saw(0).Bounds(); least != 10 || most != 37 {
		t.Errorf("%v to %v", least, most)
	}
	if least, most := Series(nil).Bounds(); least != 0 || most != 0 {
		t.Errorf("of nothing: %v to %v", least, most)
	}
	if n := len(saw(0).Floors(10 * time.Minute)); n < 11 || n > 12 {
		t.Errorf("%d floors of twelve windows", n)
	}
	if s := saw(0).Since(at(500)); s != nil {
		t.Errorf("%d samples after the last", len(s))
	}
}

// A descriptor that is opened is seen.
func TestLook(t *testing.T) {
	before, err := Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	after, err := Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 || before.PSS <= 0 || before.PSS > before.RSS*1.5 || before.Threads < 1 || after.Files <= before.Files-1 || after.Files < 1 {
		t.Errorf("%+v, and then %+v", before, after)
	}
	if _, err := Look(0); err == nil {
		t.Error("nobody was found")
	}
}
