package screen

import (
	"fmt"
	"image"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"vindu/device/policy"
)

// diary is a display that notes what a person would notice: when the screen goes to rest and comes back, how much light it gives, the part of the day, and of what call it tells.
type diary struct {
	s     *Screen
	light *lamp
	now   func() time.Time
	pages []string
	last  string
}

func (*diary) Size() (w, h int) { return 400, 240 }

// SetScene is called by the screen's own goroutine.
func (d *diary) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	var day, coming string
	for _, e := range d.s.paint.on.elements {
		text, _, _ := strings.Cut(e.key, "|")
		text = strings.NewReplacer("\n", " ", "\u00a0", " ").Replace(text)
		switch {
		case strings.Contains(text, "ringer"):
			coming = ", " + text
		case day == "" && !(len(text) == 5 && text[2] == ':'):
			day = text
		}
	}
	seen := fmt.Sprintf("%s: %s%s", map[Kind]string{Ready: "ready", Resting: "rests"}[d.s.paint.on.kind], day, coming)
	if seen != d.last {
		d.pages = append(d.pages, d.now().Format("2 15:04 MST ")+seen)
	}
	d.last = seen
	return nil
}

// TestDaysOfChange is a day, a night and a day in which the clocks are changed, in spring and in autumn: quiet hours begin and end, parts of the day follow each other, and the call
// that was announced for three is told of, each once and when the clock on the wall says so.
func TestDaysOfChange(t *testing.T) {
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	hours, err := policy.ParseHours("22:00", "07:00")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		from  time.Time
		hours int // of two days
		see   []string
	}{
		{"summer time begins", time.Date(2026, 3, 28, 8, 30, 0, 0, oslo), 47, []string{
			"28 08:30 CET ready: Lørdag morgen",
			"28 09:00 CET ready: Lørdag formiddag",
			"28 12:00 CET ready: Lørdag ettermiddag",
			"28 18:00 CET ready: Lørdag kveld",
			"28 22:00 CET rests: ",
			"29 07:00 CEST ready: Søndag morgen, Anne, sykepleier, ringer klokka tre",
			"29 09:00 CEST ready: Søndag formiddag, Anne, sykepleier, ringer klokka tre",
			"29 12:00 CEST ready: Søndag ettermiddag, Anne, sykepleier, ringer klokka tre",
			"29 15:15 CEST ready: Søndag ettermiddag",
			"29 18:00 CEST ready: Søndag kveld",
			"29 22:00 CEST rests: ",
			"30 07:00 CEST ready: Mandag morgen",
		}},
		{"summer time ends", time.Date(2026, 10, 24, 8, 30, 0, 0, oslo), 49, []string{
			"24 08:30 CEST ready: Lørdag morgen",
			"24 09:00 CEST ready: Lørdag formiddag",
			"24 12:00 CEST ready: Lørdag ettermiddag",
			"24 18:00 CEST ready: Lørdag kveld",
			"24 22:00 CEST rests: ",
			"25 07:00 CET ready: Søndag morgen, Anne, sykepleier, ringer klokka tre",
			"25 09:00 CET ready: Søndag formiddag, Anne, sykepleier, ringer klokka tre",
			"25 12:00 CET ready: Søndag ettermiddag, Anne, sykepleier, ringer klokka tre",
			"25 15:15 CET ready: Søndag ettermiddag",
			"25 18:00 CET ready: Søndag kveld",
			"25 22:00 CET rests: ",
			"26 07:00 CET ready: Mandag morgen",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				now := func() time.Time { return test.from.Add(time.Since(began)) }
				anne := Coming{Name: "Anne", Role: "sykepleier", At: time.Date(test.from.Year(), test.from.Month(), test.from.Day()+1, 15, 0, 0, 0, oslo)}
				d := &diary{now: now, light: new(lamp)}
				s, err := New(d, load(t, "nb"), now, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				d.s = s
				s.Rest(hours.Contain, d.light)
				s.Announce(func() Coming { return anne })
				s.Show(Scene{Kind: Ready})
				var nights []string // when the light went out, and when it came back
				stop := make(chan struct{})
				done := make(chan struct{})
				go func() {
					defer close(done)
					was := Bright
					for tick := time.NewTicker(10 * time.Second); ; {
						select {
						case <-tick.C:
						case <-stop:
							tick.Stop()
							return
						}
						if lit := d.light.is(); lit != 0 && lit != was {
							nights = append(nights, fmt.Sprintf("%s %d", now().Truncate(time.Minute).Format("2 15:04 MST"), lit))
							was = lit
						}
					}
				}()
				run(t, s, time.Duration(test.hours)*time.Hour+time.Second)
				close(stop)
				<-done
				if !slices.Equal(d.pages, test.see) {
					t.Errorf("seen:\n%s\nwant:\n%s", strings.Join(d.pages, "\n"), strings.Join(test.see, "\n"))
				}
				if len(nights) != 4 {
					t.Errorf("the light: %v", nights)
				}
				for i, night := range nights {
					if want := []string{" 22:00 ", " 07:00 "}[i%2]; !strings.Contains(night, want) {
						t.Errorf("the light: %v", nights)
					}
				}
			})
		})
	}
}
