package screen

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"vindu/protocol"
)

//go:embed language/*.toml
var languageFiles embed.FS

// Language is everything that the screen says, in one language. Each is one file in the folder language.
type Language struct {
	Tag      string            `toml:"-"`
	Name     string            `toml:"name"`
	Weekdays []string          `toml:"weekdays"` // from Monday
	Months   []string          `toml:"months"`
	Date     string            `toml:"date"`
	Day      []DayPart         `toml:"day"`
	Text     Texts             `toml:"text"`
	Fault    map[string]string `toml:"fault"`
}

// DayPart is what a day is called from an hour on.
type DayPart struct {
	From int    `toml:"from"`
	Text string `toml:"text"`
}

// Texts are the sentences.
type Texts struct {
	Starting         string `toml:"starting"`
	NotSetUp         string `toml:"not_set_up"`
	NotSetUpHelp     string `toml:"not_set_up_help"`
	Ready            string `toml:"ready"`
	Calling          string `toml:"calling"`
	From             string `toml:"from"`
	AnswersIn        string `toml:"answers_in"`
	AnswersInOne     string `toml:"answers_in_one"`
	Answering        string `toml:"answering"`
	NothingToDo      string `toml:"nothing_to_do"`
	TalkingWith      string `toml:"talking_with"`
	CameraOn         string `toml:"camera_on"`
	CameraOffSoundOn string `toml:"camera_off_sound_on"`
	SoundOffCameraOn string `toml:"sound_off_camera_on"`
	BothOff          string `toml:"both_off"`
	Ended            string `toml:"ended"`
	CameraOff        string `toml:"camera_off"`
	YouSaidNo        string `toml:"you_said_no"`
}

// Languages returns the tags (BCP 47) of the languages that there are.
func Languages() []string {
	names, err := fs.Glob(languageFiles, "language/*.toml")
	if err != nil {
		panic(err) // a constant pattern: cannot happen
	}
	for i, n := range names {
		names[i] = strings.TrimSuffix(strings.TrimPrefix(n, "language/"), ".toml")
	}
	return names
}

// LoadLanguage reads one language. An unknown one is an error that names those that there are.
func LoadLanguage(tag string) (*Language, error) {
	if !slices.Contains(Languages(), tag) {
		return nil, fmt.Errorf("language %q is not there: choose one of %s", tag, strings.Join(Languages(), ", "))
	}
	b, err := languageFiles.ReadFile("language/" + tag + ".toml")
	if err != nil {
		return nil, fmt.Errorf("language %s: %w", tag, err)
	}
	l := &Language{Tag: tag}
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(l); err != nil {
		return nil, fmt.Errorf("language %s: %w", tag, err)
	}
	if err := l.complete(); err != nil {
		return nil, fmt.Errorf("language %s: %w", tag, err)
	}
	return l, nil
}

func (l *Language) complete() error {
	if len(l.Weekdays) != 7 || len(l.Months) != 12 || len(l.Day) == 0 || l.Day[0].From != 0 || l.Fault["other"] == "" {
		return fmt.Errorf("weekdays, months, parts of the day or faults are incomplete")
	}
	v := reflect.ValueOf(l.Text)
	for i := range v.NumField() {
		if v.Field(i).String() == "" {
			return fmt.Errorf("text.%s is missing", v.Type().Field(i).Tag.Get("toml"))
		}
	}
	return nil
}

// fill replaces {name} by value, for pairs of names and values.
func fill(pattern string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = "{" + pairs[i] + "}"
	}
	return strings.NewReplacer(pairs...).Replace(pattern)
}

// day says which day and part of the day it is, as day clocks for people with dementia do.
func (l *Language) day(t time.Time) string {
	part := l.Day[0]
	for _, p := range l.Day {
		if t.Hour() >= p.From {
			part = p
		}
	}
	return capital(fill(part.Text, "weekday", l.Weekdays[(int(t.Weekday())+6)%7]))
}

func (l *Language) date(t time.Time) string {
	return fill(l.Date, "day", strconv.Itoa(t.Day()), "month", l.Months[t.Month()-1], "year", strconv.Itoa(t.Year()))
}

// fault says a fault for a helper, with its code.
func (l *Language) fault(c protocol.Code) string {
	text, ok := l.Fault[string(c)]
	if !ok {
		text = l.Fault["other"]
	}
	return text + " (" + string(c) + ")"
}

func capital(s string) string {
	for i, r := range s {
		return strings.ToUpper(string(r)) + s[i+len(string(r)):]
	}
	return s
}
