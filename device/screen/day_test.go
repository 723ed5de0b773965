package screen

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"vindu/protocol"
)

// everyScene yields each combination of what decides a scene's words.
func everyScene(yield func(Scene)) {
	both := []bool{false, true}
	for kind := Starting; kind <= Resting; kind++ {
		for button := range 3 { // none, one, and those of a panel
			for _, more := range both { // what is urgent, covered, out of reach or said no to
				for _, faults := range [][]protocol.Code{nil, {protocol.PanelMissing, protocol.ICELost, protocol.LinkUnreachable}} {
					s := Scene{Kind: kind, Button: button > 0, Panel: button == 2, Parties: []protocol.Party{anne, relief}, Errand: "Morning medicine", CallCode: "482 193", Code: "ABCD-EFGH-IJKL-MNOP",
						Urgent: more, Covered: more, Offline: more, SaidNo: more, HungUp: more, Camera: !more, Microphone: !more, Faults: faults}
					if more {
						s.Coming = Coming{Name: "Anne", Role: "nurse", At: noon.Add(time.Hour)}
					}
					switch kind {
					case Ringing:
						for _, ask := range both {
							s.Ask, s.NoticeEnds = ask, time.Time{}
							for _, left := range []time.Duration{0, 1, 7} {
								s.AnswersAt = noon.Add(left * time.Second)
								yield(s)
							}
							s.Notice = 28 * time.Second
							for card := range cardCount {
								s.NoticeEnds = noon.Add(s.Notice - time.Duration(card)*7*time.Second - time.Second)
								yield(s)
							}
						}
					case InCall:
						for s.Curtain = NoCurtain; s.Curtain <= Lifting; s.Curtain++ {
							yield(s)
						}
					default:
						yield(s)
					}
				}
			}
		}
	}
}

// TestNothingElseAsks: what is shown besides the screen's own words asks for nothing. A fault is for a helper, who reads elsewhere what to do. Of the cards before a first call only one
// does: the last, on a screen without a button, says how to say no all the same. What the button or the answer key does is below each card.
func TestNothingElseAsks(t *testing.T) {
	for _, tag := range Languages() {
		lang := load(t, tag)
		asksFor := func(text string) bool {
			for sentence := range strings.SplitSeq(text, ". ") {
				if slices.ContainsFunc(asks[tag], func(verb string) bool { return verb != "Call " && strings.HasPrefix(sentence, verb) }) { // "Call not proven" is no wish
					return true
				}
			}
			return false
		}
		for _, f := range protocol.Register {
			if text := lang.fault(f.Code); asksFor(text) {
				t.Errorf("%s: %s asks for something: %q", tag, f.Code, text)
			}
		}
		for _, s := range []Scene{{}, {Button: true}, {Ask: true}, {Button: true, Ask: true}} {
			s.Parties = []protocol.Party{anne}
			for n, card := range lang.cards(s) {
				want := 0
				if n == cardCount-1 && !s.Button && !s.Ask {
					want = 1
				}
				if got := len(wishes[tag].FindAllString(card[0]+"\n"+card[1], -1)); got != want {
					t.Errorf("%s: card %d asks for %d things, want %d: %q", tag, n+1, got, want, card)
				}
			}
		}
	}
}

// asks are the words by which each language asks a person for something.
var asks = map[string][]string{
	"en": {"Press ", "Please ", "Hold ", "Turn ", "Say ", "Call "},
	"nb": {"Trykk ", "Lever ", "Hold ", "Slå ", "Si ", "Ring "}, "nn": {"Trykk ", "Lever ", "Hald ", "Slå ", "Sei ", "Ring "},
}

// wishes are the same within a text, and what a person is told that she may do.
var wishes = map[string]*regexp.Regexp{
	"en": regexp.MustCompile(`(?im)(?:^|[.,:] )(?:press|please|hold|turn|say|tell|take|call) |you may also `),
	"nb": regexp.MustCompile(`(?im)(?:^|[.,:] )(?:trykk|lever|hold|slå|si|ring|fortell|ta) |kan du (?:også )?ta |du kan også `),
	"nn": regexp.MustCompile(`(?im)(?:^|[.,:] )(?:trykk|lever|hald|slå|sei|ring|fortel|ta) |kan du (?:òg )?ta |du kan òg `),
}

// TestOneThingToDo: no scene asks a person for two things. Every text that does ask has its tag, by which it is found.
func TestOneThingToDo(t *testing.T) {
	for _, tag := range Languages() {
		lang := load(t, tag)
		if len(asks[tag]) == 0 {
			t.Fatalf("how does %s ask for something?", tag)
		}
		var deeds []string
		texts, atPanel := reflect.ValueOf(lang.Text), reflect.ValueOf(lang.atPanel)
		for i := range 2 * texts.NumField() {
			i, texts := i/2, []reflect.Value{texts, atPanel}[i%2]
			text, field := texts.Field(i).String(), texts.Type().Field(i)
			if field.Name == "CallCode" { // "Call" is no verb there
				continue
			}
			tagged := field.Tag.Get("deed") != ""
			for sentence := range strings.SplitSeq(text, ". ") {
				if !tagged && slices.ContainsFunc(asks[tag], func(verb string) bool { return strings.HasPrefix(sentence, verb) }) {
					t.Errorf("%s: %s asks for something and is not tagged: %q", tag, field.Name, text)
				}
			}
			if tagged {
				deeds = append(deeds, text)
			}
		}
		for _, size := range []image.Point{{800, 480}, {1920, 1080}, {720, 1280}} {
			c, err := newComposer(lang, size.X, size.Y)
			if err != nil {
				t.Fatal(err)
			}
			all := scenes()
			if size.X == 800 { // where there is least room
				everyScene(func(s Scene) { all[fmt.Sprintf("%+v", s)] = s })
			}
			for name, scene := range all {
				shown := 0
				for _, e := range c.compose(scene, noon).elements {
					text, _, _ := strings.Cut(e.key, "|")
					text = strings.ReplaceAll(text, "\n", " ")
					if e.text && text != "" && slices.ContainsFunc(deeds, func(deed string) bool { return strings.HasPrefix(deed, strings.TrimSuffix(text, "…")) }) {
						shown++
					}
				}
				if card, told := scene.card(noon); told { // whose words are not the screen's
					want := 0
					if scene.Button || scene.Ask || card == cardCount-1 {
						want = 1
					}
					var texts []string
					for _, e := range c.compose(scene, noon).elements {
						text, _, _ := strings.Cut(e.key, "|")
						texts = append(texts, strings.ReplaceAll(text, "\n", " "))
					}
					if shown = len(wishes[tag].FindAllString(strings.Join(texts, "\n"), -1)); shown != want {
						t.Errorf("%s in %s at %v asks for %d things, want %d: %q", name, tag, size, shown, want, texts)
					}
				}
				if shown > 1 {
					t.Errorf("%s in %s at %v shows %d things to do", name, tag, size, shown)
				}
				if want := scene.Button && (scene.Kind == InCall || scene.Kind == Checking) || scene.Ask || scene.Kind == Pressing; want && shown != 1 {
					t.Errorf("%s in %s at %v shows %d things to do, want one", name, tag, size, shown)
				}
			}
		}
	}
}

// oneOf is how each language speaks of a button where there is only one, and of the key by which calls are taken.
var oneOf = map[string]*regexp.Regexp{
	"en": regexp.MustCompile(`(?i)\bthe button|\banswer key`), "nb": regexp.MustCompile(`(?i)(^| )knappen\b|svartasten`), "nn": regexp.MustCompile(`(?i)(^| )knappen\b|svartasten`),
}

// ofTwo is how it speaks of a panel's.
var ofTwo = map[string]*regexp.Regexp{
	"en": regexp.MustCompile(`\b(No|Answer) button`), "nb": regexp.MustCompile(`\b(Nei|Svar)-knappen`), "nn": regexp.MustCompile(`\b(Nei|Svar)-knappen`),
}

// TestWhichButton: where there is a panel, whatever is shown or said of a button says which of the two it is, and elsewhere none of them is named.
func TestWhichButton(t *testing.T) {
	for _, tag := range Languages() {
		lang := load(t, tag)
		c, err := newComposer(lang, 1920, 1080)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		everyScene(func(s Scene) {
			said := append(lang.Aloud(s), lang.Say(s))
			if s.Kind == Ringing {
				said = append(said, lang.NoticeAloud(s)...)
			}
			for _, e := range c.compose(s, noon).elements {
				text, _, _ := strings.Cut(e.key, "|")
				said = append(said, strings.ReplaceAll(text, "\n", " "))
			}
			for _, text := range said {
				wrong := ofTwo[tag]
				if s.Panel {
					wrong = oneOf[tag]
				}
				if wrong.MatchString(text) {
					t.Errorf("%s: %q, panel: %v", tag, text, s.Panel)
				}
				if s.Panel && ofTwo[tag].MatchString(text) {
					named++
				}
			}
		})
		if named == 0 {
			t.Errorf("%s: no button is ever named", tag)
		}
	}
}

// TestSizes: what a scene is about is large enough for three metres. On a screen of 13 inches (16 cm high) 6 hundredths are 10 mm, whose small letters are seen
// under some 6 minutes of arc, which is what an acuity of 0.8 needs; the time of day under three times that.
func TestSizes(t *testing.T) {
	for _, tag := range Languages() {
		for _, size := range sizes {
			c, err := newComposer(load(t, tag), size.X, size.Y)
			if err != nil {
				t.Fatal(err)
			}
			short := min(size.X, size.Y)
			for name, least := range map[string]int{
				"starting": 8, "ready": 20, "ready-coming": 20, "resting": 20, "ringing": 6, "in-call": 5, "ended": 9, "ended-no": 9, "ended-hung": 9, "returned": 6, "lost": 6,
			} {
				largest := 0
				for _, e := range c.compose(scenes()[name], noon).elements {
					var at, w int
					if fields := strings.Split(e.key, "|"); e.text && len(fields) == 4 {
						if _, err := fmt.Sscan(fields[1]+" "+fields[2], &at, &w); err != nil {
							t.Fatal(err)
						}
					}
					largest = max(largest, at)
				}
				if largest*100 < least*short {
					t.Errorf("%s in %s at %v: the largest text has %d pixels, want %d hundredths of %d", name, tag, size, largest, least, short)
				}
			}
		}
	}
}

// clockwork is a display that reads the clock on it.
type clockwork struct {
	s     *Screen
	tag   string
	times []string // "15:04 Tuesday morning", once for each painting

	mu    sync.Mutex
	kind  Kind
	texts int
}

func (*clockwork) Size() (w, h int) { return 400, 240 }

// SetScene is called by the screen's own goroutine, to which what it has painted belongs.
func (c *clockwork) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	var day, at string
	for _, e := range c.s.paint.on.elements {
		text, _, _ := strings.Cut(e.key, "|")
		switch {
		case len(text) == 5 && text[2] == ':':
			at = text
		case day == "":
			day = strings.ReplaceAll(text, "\n", " ")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kind, c.texts = c.s.paint.on.kind, len(c.s.paint.on.elements)
	c.times = append(c.times, at+" "+day)
	return nil
}

func (c *clockwork) painted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

// TestDayAndNight lets the clock run through the days on which it is changed, minute by minute as a person would see it.
func TestDayAndNight(t *testing.T) {
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		from  time.Time
		hours int // of two days
		see   []string
		never []string
		twice []string
	}{
		{
			"summer time begins", time.Date(2026, 3, 28, 12, 0, 0, 0, oslo), 47,
			[]string{"12:01 Lørdag ettermiddag", "18:00 Lørdag kveld", "23:59 Lørdag kveld", "00:00 Natt til søndag", "01:59 Natt til søndag", "03:00 Natt til søndag", "06:00 Søndag morgen", "09:00 Søndag formiddag"},
			[]string{"02:00 Natt til søndag", "02:30 Natt til søndag", "02:59 Natt til søndag"}, nil,
		},
		{
			"summer time ends", time.Date(2026, 10, 24, 12, 0, 0, 0, oslo), 49,
			[]string{"23:59 Lørdag kveld", "00:00 Natt til søndag", "01:59 Natt til søndag", "03:00 Natt til søndag", "06:00 Søndag morgen"},
			nil, []string{"02:00 Natt til søndag", "02:30 Natt til søndag", "02:59 Natt til søndag"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, asked := time.Now(), 0
				d := &clockwork{}
				s, err := New(d, load(t, "nb"), func() time.Time {
					asked++
					return test.from.Add(time.Since(began))
				}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				d.s = s
				s.Show(Scene{Kind: Ready})
				run(t, s, time.Duration(test.hours)*time.Hour+time.Second)
				if want := test.hours*60 + 1; len(d.times) != want {
					t.Errorf("painted %d times, want %d: once a minute", len(d.times), want)
				}
				if want := test.hours*60 + 2; asked > want { // Show, and each minute
					t.Errorf("awake %d times, want at most %d", asked, want)
				}
				count := map[string]int{}
				for _, seen := range d.times {
					count[seen]++
				}
				for _, want := range test.see {
					if count[want] != 1 {
						t.Errorf("%q was seen %d times, want once", want, count[want])
					}
				}
				for _, never := range test.never {
					if count[never] != 0 {
						t.Errorf("%q was seen", never)
					}
				}
				for _, twice := range test.twice {
					if count[twice] != 2 {
						t.Errorf("%q was seen %d times, want twice", twice, count[twice])
					}
				}
			})
		})
	}
}

// run runs s for a while, in a bubble.
func run(t *testing.T, s *Screen, long time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

// lamp is as it was set last.
type lamp struct {
	mu  sync.Mutex
	lit Brightness
	err error
}

func (l *lamp) Set(to Brightness) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lit = to
	return l.err
}

func (l *lamp) is() Brightness {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lit
}

// TestRest: quiet hours from 13 to 15 and from 22 to 7. By day the screen is dim, by night dark, and a call wakes it.
func TestRest(t *testing.T) {
	quiet := func(at time.Time) bool { return at.Hour() == 13 || at.Hour() == 14 || at.Hour() >= 22 || at.Hour() < 7 }
	for _, failing := range []error{nil, errors.New("read-only")} {
		synctest.Test(t, func(t *testing.T) {
			began, light := time.Now(), &lamp{err: failing}
			from := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
			d := &clockwork{}
			s, err := New(d, load(t, "nb"), func() time.Time { return from.Add(time.Since(began)) }, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			d.s = s
			s.Rest(quiet, light)
			s.Show(Scene{Kind: Ready})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			at := func(clock string, after time.Duration, want Kind, lit Brightness, texts bool) {
				t.Helper()
				<-time.After(after)
				synctest.Wait()
				d.mu.Lock()
				defer d.mu.Unlock()
				if d.kind != want || light.is() != lit || (d.texts > 0) != texts {
					t.Errorf("at %s: scene %d, light %d, %d elements; want scene %d, light %d", clock, d.kind, light.is(), d.texts, want, lit)
				}
			}
			at("12:00", 30*time.Second, Ready, Bright, true)
			at("13:00", time.Hour, Resting, Dim, true)
			at("15:00", 2*time.Hour, Ready, Bright, true)
			at("22:00", 7*time.Hour, Resting, Dark, false)
			painted := d.painted()
			at("02:00", 4*time.Hour, Resting, Dark, false)
			if again := d.painted() - painted; again != 0 {
				t.Errorf("painted %d times in a dark night", again)
			}
			s.Show(Scene{Kind: Ringing, Parties: []protocol.Party{anne}, Urgent: true})
			at("02:00, when it is urgent", time.Second, Ringing, Bright, true)
			s.Show(Scene{Kind: InCall, Parties: []protocol.Party{anne}, Camera: true})
			at("02:00, in a call", time.Minute, InCall, Bright, true)
			s.Show(Scene{Kind: Ended})
			at("02:01, when it has ended", time.Second, Ended, Bright, true)
			s.Show(Scene{Kind: Ready})
			at("02:01, afterwards", time.Second, Resting, Dark, false)
			s.Show(Scene{Kind: NotSetUp, Code: "ABCD"})
			at("02:02, with something to say", time.Second, NotSetUp, Bright, true)
			s.Show(Scene{Kind: Ready})
			at("02:02", time.Second, Resting, Dark, false)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := light.is(); got != Bright {
				t.Errorf("left at %d when it ends", got)
			}
		})
	}
}

// TestComing: an announced call is told of on its day until a quarter of an hour after its time, as each language says it.
func TestComing(t *testing.T) {
	at := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	anne := Coming{Name: "Anne", Role: "nurse", At: at}
	for _, test := range []struct {
		tag    string
		coming Coming
		now    time.Time
		want   string
	}{
		{"en", anne, at.Add(-time.Hour), "Anne, nurse, calls at three"},
		{"en", anne, at.Add(14*time.Minute + 59*time.Second), "Anne, nurse, calls at three"},
		{"en", anne, at.Add(15 * time.Minute), ""},
		{"en", anne, at.Add(-15*time.Hour - time.Second), ""},
		{"en", anne, at.Add(-15 * time.Hour), "Anne, nurse, calls at three"},
		{"en", Coming{}, at, ""},
		{"nb", Coming{Name: "Anne", Role: "sykepleier", At: at.Add(-30 * time.Minute)}, at.Add(-time.Hour), "Anne, sykepleier, ringer halv tre"},
		{"nb", Coming{Name: "Anne", Role: "sykepleier", At: at.Add(15 * time.Minute)}, at, "Anne, sykepleier, ringer kvart over tre"},
		{"nn", Coming{Name: "Anne", Role: "sjukepleiar", At: at.Add(-2 * time.Hour)}, at.Add(-3 * time.Hour), "Anne, sjukepleiar, ringjer klokka eitt"},
		{"nn", Coming{Name: "Anne", Role: "sjukepleiar", At: at.Add(45 * time.Minute)}, at, "Anne, sjukepleiar, ringjer kvart på fire"},
		{"en", Coming{Name: "Anne", Role: "nurse", At: at.Add(20 * time.Minute)}, at, "Anne, nurse, calls at 15:20"},
		{"en", Coming{Name: "Anne", Role: "nurse", At: at.Add(-2*time.Hour - 15*time.Minute)}, at.Add(-6 * time.Hour), "Anne, nurse, calls at a quarter to one"},
	} {
		got := load(t, test.tag).coming(test.coming, test.now)
		if got = strings.ReplaceAll(got, "\u00a0", " "); got != test.want {
			t.Errorf("%+v at %s: %q, want %q", test.coming, test.now, got, test.want)
		}
	}
}

// TestBreaks: what has to stay together stays, and what comes apart in letters and accents is one.
func TestBreaks(t *testing.T) {
	face, err := newTypeface()
	if err != nil {
		t.Fatal(err)
	}
	width := face.width("Ta to tabletter à 500", regular, 30)
	if got := face.fit("Ta to tabletter à 500\u00a0mg", regular, 30, 30, width, 3).lines; !slices.Equal(got, []string{"Ta to tabletter à", "500\u00a0mg"}) {
		t.Errorf("%q", got)
	}
	if got := face.fit("Håkonsen-Sjursæther", bold, 30, 30, face.width("Håkonsen-Sju", bold, 30), 2).lines; !slices.Equal(got, []string{"Håkonsen-", "Sjursæther"}) {
		t.Errorf("%q", got)
	}
	if got := face.fit("A\u030asane", bold, 30, 30, 500, 1).lines; !slices.Equal(got, []string{"Åsane"}) {
		t.Errorf("%q", got)
	}
	if face.width("a\u00a0b", regular, 30) != face.width("a b", regular, 30) {
		t.Error("a space that does not break is not as wide as one that does")
	}
}

// TestBacklight reads and writes files as the kernel's.
func TestBacklight(t *testing.T) {
	if light, err := OpenBacklight(t.TempDir()); err != nil || light != nil {
		t.Errorf("%v, %v where there is none", light, err)
	}
	for _, test := range []struct {
		name, was      string
		bright, dimmed string
		power          bool
	}{
		{"as it was", "160", "160", "20", true}, {"without power", "200", "200", "25", false}, {"left dark", "0", "255", "31", true}, {"left dim", "20", "255", "31", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "lcd")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("max_brightness", "255\n")
			write("brightness", test.was)
			if test.power {
				write("bl_power", "0")
			}
			light, err := OpenBacklight(filepath.Dir(folder))
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []struct {
				b            Brightness
				level, power string
			}{{Dim, test.dimmed, "0"}, {Dark, "0", "4"}, {Bright, test.bright, "0"}} {
				write("brightness", "")
				if err := light.Set(to.b); err != nil {
					t.Error(err)
				}
				level, err := os.ReadFile(filepath.Join(folder, "brightness"))
				if err != nil || string(level) != to.level {
					t.Errorf("%d: brightness %q, %v; want %s", to.b, level, err, to.level)
				}
				if power, err := os.ReadFile(filepath.Join(folder, "bl_power")); test.power && (err != nil || string(power) != to.power) {
					t.Errorf("%d: power %q, %v; want %s", to.b, power, err, to.power)
				}
			}
			write("brightness", "bright")
			if _, err := OpenBacklight(filepath.Dir(folder)); err == nil {
				t.Error("a light that tells no number was opened")
			}
		})
	}
}
