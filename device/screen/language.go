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
	"vindu/protocol/notice"
)

//go:embed language/*.toml
var languageFiles embed.FS

// Language is everything that the screen says, in one language. Each is a file in the folder language, and two beside package protocol: what is told before the first call, which is
// on paper too, and the conditions. ARCHITECTURE.md has all that a language is.
type Language struct {
	Tag      string    `toml:"-"`
	Name     string    `toml:"name"`
	Weekdays []string  `toml:"weekdays"` // from Monday
	Months   []string  `toml:"months"`
	Date     string    `toml:"date"`
	Day      []DayPart `toml:"day"`
	Clock    Clock     `toml:"clock"`
	Text     Texts     `toml:"text"`
	Panel    AtPanel   `toml:"panel"`

	Notice *notice.Words `toml:"-"` // what is told before the first call

	atPanel Texts // Text, with Panel in it
}

// DayPart is what a day is called from an hour on.
type DayPart struct {
	From int    `toml:"from"`
	Text string `toml:"text"`
}

// Clock is how an hour is said in a sentence. {hour} is the hour that is over, {next} the one that comes, {time} both digits.
type Clock struct {
	Hours       []string `toml:"hours"` // from twelve
	On          string   `toml:"on"`
	QuarterPast string   `toml:"quarter_past"`
	Half        string   `toml:"half"`
	QuarterTo   string   `toml:"quarter_to"`
	Digits      string   `toml:"digits"`
}

// Texts are the sentences. Those tagged "deed" ask a person to do something: no scene has two.
type Texts struct {
	Starting       string `toml:"starting"`
	NotSetUp       string `toml:"not_set_up"`
	NotSetUpHelp   string `toml:"not_set_up_help"`
	Returned       string `toml:"returned" deed:"yes"`
	ReturnedHelp   string `toml:"returned_help"`
	ReturnedAgain  string `toml:"returned_again"`
	Lost           string `toml:"lost"`
	LostHelp       string `toml:"lost_help"`
	Hold           string `toml:"hold" deed:"yes"`
	HoldHelp       string `toml:"hold_help"`
	Ready          string `toml:"ready"`
	Coming         string `toml:"coming"`
	Calling        string `toml:"calling"`
	From           string `toml:"from"`
	AnswersIn      string `toml:"answers_in"`
	AnswersInOne   string `toml:"answers_in_one"`
	ByItself       string `toml:"by_itself"`
	Covered        string `toml:"covered"`
	Answering      string `toml:"answering"`
	NothingToDo    string `toml:"nothing_to_do"`
	Take           string `toml:"take" deed:"yes"`
	Urgent         string `toml:"urgent"`
	CallCode       string `toml:"call_code"`
	TalkingWith    string `toml:"talking_with"`
	BothOn         string `toml:"both_on"`
	BothOff        string `toml:"both_off"`
	BothTest       string `toml:"both_test"`
	CameraOn       string `toml:"camera_on"`
	CameraOff      string `toml:"camera_off"`
	CameraTest     string `toml:"camera_test"`
	MicrophoneOn   string `toml:"microphone_on"`
	MicrophoneOff  string `toml:"microphone_off"`
	MicrophoneTest string `toml:"microphone_test"`
	Came           string `toml:"came"`
	Went           string `toml:"went"`
	Ended          string `toml:"ended"`
	CallerHungUp   string `toml:"caller_hung_up"`
	CameraOffNow   string `toml:"camera_off_now"`
	YouSaidNo      string `toml:"you_said_no"`
	CallLater      string `toml:"call_later"`
	Checking       string `toml:"checking"`
	Press          string `toml:"press" deed:"yes"`
	PressCode      string `toml:"press_code"`
	PressAllows    string `toml:"press_allows"`
	PressHelp      string `toml:"press_help"`
	SayNo          string `toml:"say_no" deed:"yes"`
	EndCall        string `toml:"end_call" deed:"yes"`
	StopCheck      string `toml:"stop_check" deed:"yes"`
	CurtainDrawn   string `toml:"curtain_drawn"`
	CurtainCaller  string `toml:"curtain_caller"`
	CurtainNobody  string `toml:"curtain_nobody"`
	CurtainLifting string `toml:"curtain_lifting"`
	OpenCurtain    string `toml:"open_curtain" deed:"yes"`
}

// AtPanel are those of Texts that ask for a button, as they are where there is a panel: it has two, and each sentence names the one that does it. They are whole
// sentences, because languages bend words.
type AtPanel struct {
	ReturnedAgain string `toml:"returned_again"`
	LostHelp      string `toml:"lost_help"`
	Hold          string `toml:"hold"`
	Take          string `toml:"take"`
	Press         string `toml:"press"`
	SayNo         string `toml:"say_no"`
	EndCall       string `toml:"end_call"`
	StopCheck     string `toml:"stop_check"`
}

// text are the sentences for a scene.
func (l *Language) text(s Scene) *Texts {
	if s.Panel {
		return &l.atPanel
	}
	return &l.Text
}

// Languages returns the tags (BCP 47) of the languages that there are.
func Languages() []string { return languagesIn(languageFiles) }

func languagesIn(files fs.FS) []string {
	names, err := fs.Glob(files, "language/*.toml")
	if err != nil {
		panic(err) // a constant pattern: cannot happen
	}
	for i, n := range names {
		names[i] = strings.TrimSuffix(strings.TrimPrefix(n, "language/"), ".toml")
	}
	return names
}

// LoadLanguage reads one language. An unknown one is an error that names those that there are; so is one of whose files one is missing.
func LoadLanguage(tag string) (*Language, error) { return loadLanguage(languageFiles, tag) }

func loadLanguage(files fs.FS, tag string) (*Language, error) {
	if !slices.Contains(languagesIn(files), tag) {
		return nil, fmt.Errorf("language %q is not there: choose one of %s", tag, strings.Join(languagesIn(files), ", "))
	}
	b, err := fs.ReadFile(files, "language/"+tag+".toml")
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
	l.atPanel = l.Text
	for i, named := 0, reflect.ValueOf(l.Panel); i < named.NumField(); i++ {
		reflect.ValueOf(&l.atPanel).Elem().FieldByName(named.Type().Field(i).Name).Set(named.Field(i))
	}
	if !slices.Contains(protocol.TextLanguages(), tag) { // they would be said in English
		return nil, fmt.Errorf("language %s: conditions: protocol/conditions has none in it", tag)
	}
	if l.Notice, err = notice.Load(tag); err != nil {
		return nil, fmt.Errorf("language %s: notice before the first call: %w", tag, err)
	}
	return l, nil
}

func (l *Language) complete() error {
	if len(l.Weekdays) != 7 || len(l.Months) != 12 || len(l.Day) == 0 || l.Day[0].From != 0 {
		return fmt.Errorf("weekdays, months, or parts of the day are incomplete")
	}
	for table, texts := range map[string]any{"text": l.Text, "panel": l.Panel} {
		v := reflect.ValueOf(texts)
		for i := range v.NumField() {
			if v.Field(i).String() == "" {
				return fmt.Errorf("%s.%s is missing", table, v.Type().Field(i).Tag.Get("toml"))
			}
		}
	}
	c := l.Clock
	if len(c.Hours) != 12 || slices.Contains([]string{c.On, c.QuarterPast, c.Half, c.QuarterTo, c.Digits}, "") {
		return fmt.Errorf("clock is incomplete")
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

// clock says a time of day within a sentence: in words where people do, else in digits.
func (l *Language) clock(t time.Time) string {
	c := l.Clock
	pattern, ok := map[int]string{0: c.On, 15: c.QuarterPast, 30: c.Half, 45: c.QuarterTo}[t.Minute()]
	if !ok {
		pattern = c.Digits
	}
	return fill(pattern, "hour", c.Hours[t.Hour()%12], "next", c.Hours[(t.Hour()+1)%12], "time", t.Format("15:04"))
}

// coming says who has said to call today; "" if nobody has. The time is not broken over lines: it is what is looked for.
func (l *Language) coming(c Coming, now time.Time) string {
	if !c.shown(now) {
		return ""
	}
	return fill(l.Text.Coming, "name", c.Name, "role", c.Role, "clock", strings.ReplaceAll(l.clock(c.At.In(now.Location())), " ", "\u00a0"))
}

// fault says a fault for a helper, as the register of conditions has it. Its code is not for reading: see composer.bottomLine.
func (l *Language) fault(c protocol.Code) string { return c.In(l.Tag).Screen }

// devices says what of a call is on, and what is sent in its place where that is a test.
func (l *Language) devices(s Scene) string {
	t := l.Text
	is := func(on, test bool) int {
		switch {
		case !on:
			return 0
		case test:
			return 1
		}
		return 2
	}
	camera := is(s.Camera, slices.Contains(s.Faults, protocol.CaptureTestPicture))
	microphone := is(s.Microphone, slices.Contains(s.Faults, protocol.CaptureTestSound))
	if camera == microphone {
		return [...]string{t.BothOff, t.BothTest, t.BothOn}[camera]
	}
	said := []string{[...]string{t.CameraOff, t.CameraTest, t.CameraOn}[camera], [...]string{t.MicrophoneOff, t.MicrophoneTest, t.MicrophoneOn}[microphone]}
	if microphone > camera {
		slices.Reverse(said) // first what is on
	}
	return strings.Join(said, " ")
}

// Say returns in a sentence or two what a scene shows, for those who do not see it.
func (l *Language) Say(s Scene) string {
	t := l.text(s)
	party := func(p protocol.Party) string { return p.Name + ", " + p.Role }
	var who []string
	for _, p := range s.Parties {
		who = append(who, party(p))
	}
	with := func(text, button string) string { // what the button does, if there is one
		if s.Button {
			return strings.TrimSuffix(text, ".") + ". " + button
		}
		return text
	}
	code := func(text string) string { // what the caller sees, too
		if s.CallCode != "" {
			return strings.TrimSuffix(text, ".") + ". " + fill(t.CallCode, "code", s.CallCode)
		}
		return text
	}
	switch s.Kind {
	case NotSetUp:
		return t.NotSetUp + ": " + s.Code
	case Returned:
		return t.Returned + ". " + t.ReturnedHelp + " " + t.ReturnedAgain
	case Lost:
		if s.Code == "" {
			return t.Lost + ". " + t.LostHelp
		}
		return t.Hold + ". " + t.HoldHelp + " " + s.Code
	case Ready:
		if s.Offline {
			return l.fault(protocol.LinkUnreachable)
		}
		return t.Ready
	case Ringing:
		if !s.NoticeEnds.IsZero() {
			var told []string
			for _, card := range l.cards(s) {
				told = append(told, strings.TrimSpace(strings.TrimSuffix(card[0], ".")+". "+card[1]))
			}
			if s.Ask {
				return strings.Join(told, " ") + " " + t.Take
			}
			return with(strings.Join(told, " "), t.SayNo)
		}
		caller := first(s.Parties)
		said := fill(t.Calling, "name", caller.Name) + " (" + fill(t.From, "role", caller.Role, "organisation", caller.Organisation) + ")"
		for _, p := range rest(s.Parties) {
			said += "; " + party(p)
		}
		if s.Urgent {
			said += ". " + t.Urgent
		}
		if s.Covered {
			said = strings.TrimSuffix(said, ".") + ". " + t.Covered
		}
		if s.Ask {
			said = strings.TrimSuffix(said, ".") + ". " + t.Take
		}
		if s.Ask {
			return code(said)
		}
		return code(with(said, t.SayNo))
	case InCall:
		said := t.TalkingWith + " " + strings.Join(who, "; ") + ". " + strings.Join(append(l.curtain(s), l.devices(s)), " ")
		if s.Curtain == DrawnHere {
			return code(strings.TrimSuffix(said, ".") + ". " + t.OpenCurtain)
		}
		return code(with(said, t.EndCall))
	case Ended:
		return strings.Join(append(l.ended(s), l.later(s)...), " ")
	case Pressing:
		return t.Press + ": " + party(first(s.Parties)) + ". " + fill(t.PressCode, "code", s.Code) + ". " + t.PressAllows + " " + t.PressHelp
	case Checking:
		return with(t.Checking+". "+l.devices(s), t.StopCheck)
	case Resting: // those who do not see it are not told
		return ""
	case Starting:
	}
	return t.Starting
}

// curtain says whose curtain is drawn, and what that means; nothing if none is.
func (l *Language) curtain(s Scene) []string {
	t := l.Text
	switch s.Curtain {
	case DrawnHere:
		return []string{t.CurtainDrawn, t.CurtainNobody}
	case DrawnByCaller:
		return []string{fill(t.CurtainCaller, "name", first(s.Parties).Name), t.CurtainNobody}
	case Lifting:
		return []string{t.CurtainLifting}
	case NoCurtain:
	}
	return nil
}

// ended says that a call is over, and that nobody sees or hears any more.
func (l *Language) ended(s Scene) []string {
	said := []string{l.Text.Ended}
	if s.SaidNo {
		said[0] = l.Text.YouSaidNo
	}
	if s.HungUp && len(s.Parties) > 0 {
		said = append(said, fill(l.Text.CallerHungUp, "name", s.Parties[0].Name))
	}
	return append(said, l.Text.CameraOffNow)
}

// later says, when what has to be said is, that a no is not for good.
func (l *Language) later(s Scene) []string {
	if !s.SaidNo {
		return nil
	}
	return []string{l.Text.CallLater}
}

func capital(s string) string {
	for i, r := range s {
		return strings.ToUpper(string(r)) + s[i+len(string(r)):]
	}
	return s
}
