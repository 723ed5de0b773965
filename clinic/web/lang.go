package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

//go:embed lang/*.json
var langFiles embed.FS

// words are the texts of one language, from lang/<language>.json. Keys begin with the page that they are on.
type words map[string]string

// names fill the {places} of a text.
type names map[string]string

func loadWords(language string) (words, error) {
	b, err := langFiles.ReadFile("lang/" + language + ".json")
	if err != nil {
		return nil, fmt.Errorf("language %q: %w", language, err)
	}
	w := words{}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("language %q: %w", language, err)
	}
	return w, nil
}

// say returns a text with its places filled in. A key that does not exist is returned as it is, so that it is seen.
func (w words) say(key string, n names) string {
	text, ok := w[key]
	if !ok {
		return key
	}
	var pairs []string
	for name, value := range n {
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(text) // all at once: what people have written is filled in nowhere
}

// under returns the texts whose keys begin with one of prefixes: what scripts need.
func (w words) under(prefixes ...string) words {
	some := words{}
	for key, text := range w {
		for _, p := range prefixes {
			if strings.HasPrefix(key, p) {
				some[key] = text
			}
		}
	}
	return some
}

// when says a time as briefly as it can be understood now.
func (w words) when(t, now time.Time) string {
	now = local(now)
	t = local(t)
	if y, m, d := t.Date(); y == now.Year() && m == now.Month() && d == now.Day() {
		return t.Format(w["time.today"])
	}
	return t.Format(w["time.other"])
}

func (w words) full(t time.Time) string { return local(t).Format(w["time.full"]) }

// decimal writes a number with so many decimals (-1: as many as it has), and the language's own sign before them.
func (w words) decimal(v float64, decimals int) string {
	return strings.Replace(strconv.FormatFloat(v, 'f', decimals, 64), ".", w["lang.decimal"], 1)
}

// failure is an entry of protocol.Register as scripts get it.
type failure struct {
	Sentence string `json:"sentence"`
	Next     string `json:"next"`
	Kind     string `json:"kind"` // as in recentView
}

func (w words) failures() map[protocol.Code]failure {
	m := map[protocol.Code]failure{}
	for _, f := range protocol.Register {
		m[f.Code] = failure{w.outcome(f.Code), w.explain(f.Code).Next, kindOf(f.Code)}
	}
	return m
}

// outcome says to the caller how the caller's own call came out; the register speaks of the caller as of somebody else.
func (w words) outcome(c protocol.Code) string {
	if text, ok := w["outcome."+string(c)]; ok {
		return text
	}
	return w.explain(c).Sentence
}

// explain returns the register's entry in the words' language.
func (w words) explain(c protocol.Code) protocol.Failure {
	f := protocol.Explain(c)
	f.Text = c.In(w["lang"])
	return f
}

// spell writes a duration for people: "2 min 5 s".
func spell(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d <= 0:
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}
