package diagnosis

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"vindu/protocol"
)

// said are all the English texts that rules say by themselves; the register's have files of their own.
func said() []string {
	all := map[string]bool{}
	for _, r := range Rules {
		for _, text := range []string{r.What, r.Now, r.Next, r.Because, string(r.Where), string(r.Sure)} {
			all[text] = true
		}
	}
	for _, text := range now {
		all[text], all[withoutRelay(text)] = true, true
	}
	for _, text := range acts {
		all[text] = true
	}
	delete(all, "")
	return slices.Sorted(maps.Keys(all))
}

// Every text is there in every language, and none is left over.
func TestLanguages(t *testing.T) {
	if len(languages()) == 0 {
		t.Fatal("no languages")
	}
	for tag, texts := range languages() {
		for _, english := range said() {
			if strings.TrimSpace(texts[english]) == "" {
				t.Errorf("%s: not there: %s", tag, english)
			}
		}
		for english := range texts {
			if !slices.Contains(said(), english) {
				t.Errorf("%s: nobody says: %s", tag, english)
			}
		}
	}
}

// In another language nothing of a sentence stays English, whichever rule speaks.
func TestIn(t *testing.T) {
	for tag := range languages() {
		for _, c := range cases {
			english := Diagnose(c.evidence)
			other := english.In(tag)
			if other.Rule != english.Rule || other.Code != english.Code || other.Who != english.Who || other.Where != english.Where || other.Sure != english.Sure {
				t.Errorf("%s: %s: another diagnosis", tag, c.name)
			}
			for _, pair := range [][2]string{{english.What, other.What}, {english.Now, other.Now}, {english.Next, other.Next}, {english.Because, other.Because}} {
				if pair[0] != "" && pair[0] == pair[1] {
					t.Errorf("%s: %s: %s", tag, c.name, pair[0])
				}
			}
			if s := other.Sentence(); !strings.HasPrefix(s, other.What+" (") || strings.Contains(s, string(english.Where)) || strings.Contains(s, acts[english.Who]) {
				t.Errorf("%s: %s: %s", tag, c.name, s)
			}
		}
	}
	d := Diagnosis{Code: protocol.ICELost, What: "x"}
	if d.In("xx") != d || d.In("en") != d {
		t.Error("a language that there is not changes something")
	}
	if fmt.Sprint(Diagnosis{Code: "future.code", What: "x"}.In("nb").What) != "x" {
		t.Error("a text of a later version is not kept")
	}
}
