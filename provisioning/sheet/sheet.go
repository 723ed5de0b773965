// Package sheet makes the page that stays in the home when a terminal was handed over: one A4 sheet, for printing.
//
// Its upper half tells the people in the home, in large type, what the terminal does and that they may say no (R23, R24); the lower
// half is what the hand-over record says: which terminal, who set it up and when, and what was checked. It says nothing about a patient and
// carries no secret. The page is one HTML file without scripts that loads nothing; every browser prints it, also to PDF. What people are told is
// protocol/notice's, in the same languages; the other words are the files in words/.
package sheet

import (
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"vindu/protocol"
	"vindu/protocol/notice"
)

//go:embed sheet.html words
var files embed.FS

// Languages are the tags that Write knows; the first is the one for lack of another.
var Languages = []string{"nb", "nn", "en"}

// Sheet is what is printed.
type Sheet struct {
	Record    *protocol.HandOver
	Telephone string         // whom to telephone; empty leaves a line to write it on
	Zone      *time.Location // in which the home reads a clock; nil is UTC
}

// words are a language's texts.
type words struct {
	Months []string          `toml:"months"`
	Text   map[string]string `toml:"text"`
	Check  map[string]string `toml:"check"`
	Figure map[string]string `toml:"figure"` // words within figures, in place of the terminal's English; empty: English
}

// row is one check, as printed.
type row struct {
	State, Name, Result, Figure string
}

// Language returns the one of Languages that a person who reads tag reads best.
func Language(tag string) string {
	if base, _, _ := strings.Cut(tag, "-"); slices.Contains(Languages, base) {
		return base
	}
	return Languages[0]
}

// Write writes the page in one of Languages.
func Write(w io.Writer, language string, s Sheet) error {
	if !slices.Contains(Languages, language) {
		return fmt.Errorf("make the sheet: no language %q, only %s", language, strings.Join(Languages, ", "))
	}
	texts, err := load(language)
	if err != nil {
		return fmt.Errorf("make the sheet: %w", err)
	}
	told, err := notice.Load(language)
	if err != nil {
		return fmt.Errorf("make the sheet: %w", err)
	}
	page, err := template.New("sheet.html").Funcs(template.FuncMap{
		"text": func(key string) (string, error) { return texts.text(key, s.Record) },
		"date": func(t protocol.Time) string { return texts.date(t, s.Zone) },
	}).ParseFS(files, "sheet.html")
	if err != nil {
		return fmt.Errorf("make the sheet: %w", err)
	}
	data := struct {
		Sheet
		Language, Code, Grade, ID string
		Title, Questions          string
		Points                    [][2]string
		Rows                      []row
		Wrong                     bool
	}{
		Title: notice.Fill(told.Title, "organisation", s.Record.Organisation), Questions: told.Questions, Points: told.Points(s.Record.Organisation, false),
		Sheet: s, Language: language, Code: s.Record.Terminal.Code(), ID: hex.EncodeToString(s.Record.ID[:]),
		Grade: texts.grade(s.Record.KeyGrade), Rows: texts.rows(s.Record.Checks),
		Wrong: slices.ContainsFunc(s.Record.Checks, func(c protocol.Check) bool { return c.State == protocol.CheckFailed }),
	}
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("make the sheet: %w", err)
	}
	return nil
}

// CheckName returns what a check is called in one of Languages; one that has no name there is called as it is.
func CheckName(language, check string) string {
	if texts, err := load(language); err == nil && texts.Check[check] != "" {
		return texts.Check[check]
	}
	return check
}

func load(language string) (*words, error) {
	b, err := files.ReadFile("words/" + language + ".toml")
	if err != nil {
		return nil, err
	}
	t := new(words)
	if err := toml.Unmarshal(b, t); err != nil {
		return nil, fmt.Errorf("words/%s.toml: %w", language, err)
	}
	return t, nil
}

// text fills in who lends the terminal.
func (t *words) text(key string, record *protocol.HandOver) (string, error) {
	text, ok := t.Text[key]
	if !ok {
		return "", fmt.Errorf("no text %q", key)
	}
	return strings.ReplaceAll(text, "{organisation}", record.Organisation), nil
}

func (t *words) date(at protocol.Time, zone *time.Location) string {
	if zone == nil {
		zone = time.UTC
	}
	d := at.Time().In(zone)
	return strings.NewReplacer(
		"{day}", strconv.Itoa(d.Day()), "{month}", t.Months[d.Month()-1], "{year}", strconv.Itoa(d.Year()),
		"{hour}", fmt.Sprintf("%02d", d.Hour()), "{minute}", fmt.Sprintf("%02d", d.Minute()), "{zone}", d.Format("MST"),
	).Replace(t.Text["date"])
}

func (t *words) grade(grade string) string {
	if text, ok := t.Text["grade_"+grade]; ok {
		return text
	}
	return grade
}

// measured is a figure that is one number with a decimal point, and its unit.
var measured = regexp.MustCompile(`^([+-]?[0-9]+)\.([0-9]+ \S+)$`)

// figure puts what the terminal measured into the page's language.
func (t *words) figure(text string) string {
	if len(t.Figure) == 0 {
		return text
	}
	if measured.MatchString(text) {
		return measured.ReplaceAllString(text, "$1,$2")
	}
	for _, english := range slices.Sorted(maps.Keys(t.Figure)) {
		text = strings.ReplaceAll(text, english, t.Figure[english])
	}
	return text
}

// rows puts what failed first: it is what somebody has to come back for.
func (t *words) rows(checks []protocol.Check) []row {
	rank := map[string]int{protocol.CheckFailed: 0, protocol.CheckPassed: 1, protocol.CheckSkipped: 2}
	checks = slices.Clone(checks)
	slices.SortStableFunc(checks, func(a, b protocol.Check) int { return rank[a.State] - rank[b.State] })
	rows := make([]row, 0, len(checks))
	for _, c := range checks {
		figure := t.figure(c.Figure)
		r := row{State: c.State, Name: c.Name, Result: t.Text[c.State], Figure: figure}
		if name, ok := t.Check[c.Name]; ok {
			r.Name = name
		}
		if c.State == protocol.CheckFailed {
			r.Figure = strings.TrimSpace(figure + " (" + string(c.Code) + ")")
		}
		rows = append(rows, r)
	}
	return rows
}
