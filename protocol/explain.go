package protocol

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// conditionFiles are the register's texts: in each file an array for every code, with title, sentence, next step and, where it differs from the
// title, what the terminal's screen says.
//
//go:embed conditions/*.json
var conditionFiles embed.FS

// english is the language of the clinic's pages, of logs, and of Register itself.
const english = "en"

// TextLanguages returns the tags (BCP 47) of the languages that the register speaks.
func TextLanguages() []string {
	names, err := fs.Glob(conditionFiles, "conditions/*.json")
	if err != nil {
		panic(err) // a constant pattern: cannot happen
	}
	for i, n := range names {
		names[i] = strings.TrimSuffix(strings.TrimPrefix(n, "conditions/"), ".json")
	}
	return names
}

// readTexts reads one language.
func readTexts(tag string) (map[Code]Text, error) {
	b, err := conditionFiles.ReadFile("conditions/" + tag + ".json")
	if err != nil {
		return nil, fmt.Errorf("texts of conditions in %q: %w", tag, err)
	}
	var lines map[Code][]string
	if err := json.Unmarshal(b, &lines); err != nil {
		return nil, fmt.Errorf("texts of conditions in %q: %w", tag, err)
	}
	texts := make(map[Code]Text, len(lines))
	for c, line := range lines {
		if len(line) != 3 && len(line) != 4 {
			return nil, fmt.Errorf("texts of conditions in %q: %s has %d parts", tag, c, len(line))
		}
		t := Text{Title: line[0], Sentence: line[1], Next: line[2], Screen: line[0]}
		if len(line) == 4 {
			t.Screen = line[3]
		}
		texts[c] = t
	}
	return texts, nil
}

var texts struct {
	sync.Mutex
	by map[string]map[Code]Text
}

// textsIn returns one language, English for one that there is not.
func textsIn(tag string) map[Code]Text {
	if !slices.Contains(TextLanguages(), tag) {
		tag = english
	}
	texts.Lock()
	defer texts.Unlock()
	if t := texts.by[tag]; t != nil {
		return t
	}
	t, err := readTexts(tag)
	if err != nil {
		panic(err) // the files are part of the program, and tested
	}
	if texts.by == nil {
		texts.by = map[string]map[Code]Text{}
	}
	texts.by[tag] = t
	return t
}

func withTexts(register []Failure) []Failure {
	t := textsIn(english)
	for i := range register {
		register[i].Text = t[register[i].Code]
	}
	return register
}

var byCode = func() map[Code]Failure {
	m := make(map[Code]Failure, len(Register))
	for _, f := range Register {
		m[f.Code] = f
	}
	return m
}()

// Known tells whether the register has c.
func Known(c Code) bool {
	_, ok := byCode[c]
	return ok
}

// Explain returns the register's entry for c; an unknown code gets the entry of Unknown with c kept.
func Explain(c Code) Failure {
	if f, ok := byCode[c]; ok {
		return f
	}
	f := byCode[Unknown]
	f.Code = c
	return f
}

// Registered tells whether there is such a code.
func Registered(c Code) bool {
	_, ok := byCode[c]
	return ok
}

// In returns what is said of c in a language, by its tag; in English where there is no such language.
func (c Code) In(tag string) Text {
	t := textsIn(tag)
	if text, ok := t[c]; ok {
		return text
	}
	return t[Unknown]
}

// Stage returns the part of a code before the dot.
func (c Code) Stage() string {
	stage, _, _ := strings.Cut(string(c), ".")
	return stage
}

// order is a code's place among others: causes come before what depends on them.
func (c Code) order() int {
	if i := slices.Index(Stages, c.Stage()); i >= 0 {
		return i
	}
	return len(Stages)
}

// CompareCodes orders codes as people read them: by stage, then by name.
func CompareCodes(a, b Code) int {
	if d := a.order() - b.order(); d != 0 {
		return d
	}
	return strings.Compare(string(a), string(b))
}

// Showing returns those of raised that people are shown, in the order of CompareCodes: all but those that depend on another one that is raised, also by way of
// one that is not.
func Showing(raised []Code) []Code {
	var shown []Code
	for _, c := range raised {
		if !follows(c, raised, map[Code]bool{}) && !slices.Contains(shown, c) {
			shown = append(shown, c)
		}
	}
	slices.SortFunc(shown, CompareCodes)
	return shown
}

// follows tells whether something that c depends on is raised.
func follows(c Code, raised []Code, seen map[Code]bool) bool {
	if seen[c] {
		return false
	}
	seen[c] = true
	for _, d := range Explain(c).DependsOn {
		if slices.Contains(raised, d) || follows(d, raised, seen) {
			return true
		}
	}
	return false
}
