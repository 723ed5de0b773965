package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed words/*.json
var wordFiles embed.FS

// words are what diagnose says besides the register's texts, in one language: a file for each language of the screen, complete by test.
type words map[string]string

func loadWords(language string) (words, error) {
	b, err := wordFiles.ReadFile("words/" + language + ".json")
	if err != nil {
		return nil, fmt.Errorf("language %q: %w", language, err)
	}
	w := words{}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("language %q: %w", language, err)
	}
	return w, nil
}

// say returns a text with {name} filled in.
func (w words) say(key, name, value string) string {
	return strings.ReplaceAll(w[key], "{"+name+"}", value)
}
