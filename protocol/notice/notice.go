// Package notice is what people in a home are told of the terminal that stands there, in each language: before the first call on its screen (R24), on the
// page that a technician leaves, and on the leaflet and the sheets of settings that a clinic prints (R23). It is one text for all of them, so that they
// say the same. Each language has one file here, complete by test; {braces} are filled in.
package notice

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed *.json
var files embed.FS

// Words are a language's texts.
type Words struct {
	Tag string `json:"-"` // BCP 47

	// What everybody is told, each a sentence and what there is to add. {organisation} is who lends the terminal.
	Title       string `json:"title"`
	Wishes      string `json:"wishes"` // {name}
	Nothing     string `json:"nothing"`
	NothingMore string `json:"nothing_more"`
	Asked       string `json:"asked"` // in place of Nothing, where a call has to be answered
	AskedMore   string `json:"asked_more"`
	Private     string `json:"private"`
	PrivateMore string `json:"private_more"`
	No          string `json:"no"`
	NoMore      string `json:"no_more"`
	NoAsked     string `json:"no_asked"` // in place of NoMore on the screen, where a call has to be answered
	NoPlug      string `json:"no_plug"`  // in place of NoMore on a screen without a button: while it rings, nobody hears what is said to the caller
	Leave       string `json:"leave"`
	LeaveMore   string `json:"leave_more"`
	Questions   string `json:"questions"`

	// The printed pages.
	Language     string   `json:"language"`
	Leaflet      string   `json:"leaflet"`
	Home         string   `json:"home"`
	Staff        string   `json:"staff"`
	Place        string   `json:"place"`
	Printed      string   `json:"printed"`
	Terminal     string   `json:"terminal"`
	TerminalNone string   `json:"terminal_none"`
	Groups       string   `json:"groups"`
	GroupsNone   string   `json:"groups_none"`
	Version      string   `json:"version"`
	VersionFirst string   `json:"version_first"`
	Who          string   `json:"who"`
	WhoNone      string   `json:"who_none"`
	Until        string   `json:"until"` // {date}
	Happens      string   `json:"happens"`
	Ring         string   `json:"ring"` // {seconds}
	Ask          string   `json:"ask"`  // {seconds}
	Refuse       string   `json:"refuse"`
	Group        string   `json:"group"` // {group}, as a sentence quotes it
	Others       string   `json:"others"`
	First        string   `json:"first"`
	Quiet        string   `json:"quiet"`
	QuietNone    string   `json:"quiet_none"`
	QuietSpan    string   `json:"quiet_span"`   // {days} {from} {to}
	QuietNight   string   `json:"quiet_night"`  // {days} {from} {to}
	QuietUrgent  string   `json:"quiet_urgent"` // {groups}
	EveryDay     string   `json:"every_day"`
	Days         []string `json:"days"` // from Monday
	Bounds       string   `json:"bounds"`
	Longest      string   `json:"longest"` // {minutes}
	Volume       string   `json:"volume"`  // {percent}
	Always       string   `json:"always"`
	AlwaysLines  []string `json:"always_lines"`
	Change       string   `json:"change"`
	StaffLines   []string `json:"staff_lines"`
	Months       []string `json:"months"`
	DateForm     string   `json:"date"` // {day} {month} {year}
}

// Languages returns the tags that there are; bokmål is the first, for who speaks none of them.
func Languages() []string {
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		panic(err) // a constant pattern: cannot happen
	}
	for i, n := range names {
		names[i] = strings.TrimSuffix(n, ".json")
	}
	slices.SortFunc(names, func(a, b string) int { // nb before the others
		switch {
		case a == b:
			return 0
		case a == "nb":
			return -1
		case b == "nb":
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}

// Load reads one language. An unknown one is an error that names those that there are.
func Load(tag string) (*Words, error) {
	if !slices.Contains(Languages(), tag) {
		return nil, fmt.Errorf("no language %q; there are %s", tag, strings.Join(Languages(), ", "))
	}
	b, err := files.ReadFile(tag + ".json")
	if err != nil {
		return nil, fmt.Errorf("language %q: %w", tag, err)
	}
	w := &Words{Tag: tag}
	if err := json.Unmarshal(b, w); err != nil {
		return nil, fmt.Errorf("language %q: %w", tag, err)
	}
	return w, nil
}

// Fill puts values in the {places} of a text: Fill(text, "name", "Anne", "role", "nurse"). What a value says is never taken for a place.
func Fill(text string, pairs ...string) string {
	places := make([]string, len(pairs))
	for i, p := range pairs {
		if places[i] = p; i%2 == 0 {
			places[i] = "{" + p + "}"
		}
	}
	return strings.NewReplacer(places...).Replace(text)
}

// Date says a day.
func (w *Words) Date(t time.Time) string {
	return Fill(w.DateForm, "day", strconv.Itoa(t.Day()), "month", w.Months[t.Month()-1], "year", strconv.Itoa(t.Year()))
}

// Points are what a person is told of calls, in order, before the first of them: a sentence each, and what there is to add. ask says that a call is
// answered only by somebody there.
func (w *Words) Points(organisation string, ask bool) [][2]string {
	how := [2]string{w.Nothing, w.NothingMore}
	if ask {
		how = [2]string{w.Asked, w.AskedMore}
	}
	points := [][2]string{how, {w.No, w.NoMore}, {w.Private, w.PrivateMore}, {w.Leave, w.LeaveMore}}
	for i := range points {
		points[i] = [2]string{Fill(points[i][0], "organisation", organisation), Fill(points[i][1], "organisation", organisation)}
	}
	return points
}
