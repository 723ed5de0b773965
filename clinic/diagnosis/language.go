package diagnosis

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"vindu/protocol"
)

// languageFiles are the texts of rules in other languages than English, by their tags (BCP 47): from the English text to the other.
//
//go:embed lang/*.json
var languageFiles embed.FS

// texts are those of one language; nil: English.
type texts map[string]string

// say returns a text, in English if there is no other.
func (t texts) say(english string) string {
	if text, ok := t[english]; ok {
		return text
	}
	return english
}

func readTexts(tag string) (texts, error) {
	b, err := languageFiles.ReadFile("lang/" + tag + ".json")
	if err != nil {
		return nil, fmt.Errorf("texts of diagnoses in %q: %w", tag, err)
	}
	var t texts
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("texts of diagnoses in %q: %w", tag, err)
	}
	return t, nil
}

// languages are all that there are.
var languages = sync.OnceValue(func() map[string]texts {
	entries, err := languageFiles.ReadDir("lang")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	all := map[string]texts{}
	for _, e := range entries {
		tag := strings.TrimSuffix(e.Name(), ".json")
		t, err := readTexts(tag)
		if err != nil {
			panic(err) // the files are part of the program, and tested
		}
		all[tag] = t
	}
	return all
})

func textsIn(tag string) texts { return languages()[tag] }

// In returns what a diagnosis says in another language, by its tag; in English where there is no such language.
func (d Diagnosis) In(tag string) Diagnosis {
	t := textsIn(tag)
	if t == nil {
		return d
	}
	english, other := protocol.Explain(d.Code).Text, d.Code.In(tag)
	say := func(text, registered, translated string) string {
		if text == registered {
			return translated
		}
		return t.say(text)
	}
	d.What = say(d.What, strings.TrimSuffix(english.Sentence, "."), strings.TrimSuffix(other.Sentence, "."))
	d.Next, d.Now = say(d.Next, english.Next, other.Next), say(d.Now, english.Next, other.Next)
	d.Because, d.language = t.say(d.Because), tag
	return d
}
