package screen

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"vindu/protocol"
	"vindu/protocol/notice"
)

func TestDays(t *testing.T) {
	for _, test := range []struct {
		tag, at, day, date string
	}{
		{"en", "2026-11-24T10:00", "Tuesday morning", "24 November 2026"},
		{"en", "2026-03-01T00:00", "Sunday, night", "1 March 2026"},
		{"en", "2026-05-17T18:00", "Sunday evening", "17 May 2026"},
		{"nb", "2026-11-24T10:00", "Tirsdag formiddag", "24. november 2026"},
		{"nb", "2026-11-28T03:00", "Natt til lørdag", "28. november 2026"},
		{"nn", "2026-11-24T08:59", "Tysdag morgon", "24. november 2026"},
		{"nn", "2026-11-28T12:00", "Laurdag ettermiddag", "28. november 2026"},
	} {
		at, err := time.Parse("2006-01-02T15:04", test.at)
		if err != nil {
			t.Fatal(err)
		}
		l := load(t, test.tag)
		if got := l.day(at); got != test.day {
			t.Errorf("%s %s: %q, want %q", test.tag, test.at, got, test.day)
		}
		if got := l.date(at); got != test.date {
			t.Errorf("%s %s: %q, want %q", test.tag, test.at, got, test.date)
		}
	}
}

// TestLanguagesSayTheSame asks that no language lacks a placeholder that another has.
func TestLanguagesSayTheSame(t *testing.T) {
	en := load(t, "en")
	for _, tag := range Languages() {
		l := load(t, tag)
		for _, texts := range [][2]reflect.Value{{reflect.ValueOf(en.Text), reflect.ValueOf(l.Text)}, {reflect.ValueOf(en.atPanel), reflect.ValueOf(l.atPanel)}} {
			a, b := texts[0], texts[1]
			for i := range a.NumField() {
				if got, want := placeholders(b.Field(i).String()), placeholders(a.Field(i).String()); !slices.Equal(got, want) {
					t.Errorf("%s: %s has %v, en %v", tag, a.Type().Field(i).Name, got, want)
				}
			}
		}
	}
	if _, err := LoadLanguage("xx"); err == nil || !strings.Contains(err.Error(), "nb") {
		t.Errorf("an unknown language: %v", err)
	}
}

func placeholders(s string) []string {
	found := regexp.MustCompile(`\{[a-z]+\}`).FindAllString(s, -1)
	slices.Sort(found)
	return found
}

// TestEveryLetterIsThere looks for letters that the typeface lacks, in both weights: those of the languages, of Northern Sámi, and of its neighbours' names.
func TestEveryLetterIsThere(t *testing.T) {
	face, err := newTypeface()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range Languages() {
		b, err := languageFiles.ReadFile("language/" + tag + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		words, err := json.Marshal(load(t, tag).Notice) // on the cards before a first call
		if err != nil {
			t.Fatal(err)
		}
		var faults strings.Builder
		for _, f := range protocol.Register {
			faults.WriteString(f.Code.In(tag).Screen)
		}
		for _, r := range string(b) + string(words) + faults.String() + "…–’" + northernSami + "ÄäÖöÉéÈèÜüÞþÐðŁłĄąĘę" {
			if r < ' ' {
				continue
			}
			for _, w := range []weight{regular, bold} {
				if g, err := face.fonts[w][face.which(w, r)].GlyphIndex(&face.buf, r); err != nil || g == 0 {
					t.Errorf("%s: no glyph for %q", tag, r)
				}
			}
		}
	}
}

// TestWholeLanguages: the terminal's languages are those of all their files, and one that lacks any is not loaded.
func TestWholeLanguages(t *testing.T) {
	want := slices.Sorted(slices.Values(Languages()))
	for where, there := range map[string][]string{"protocol/notice": notice.Languages(), "protocol/conditions": protocol.TextLanguages()} {
		if got := slices.Sorted(slices.Values(there)); !slices.Equal(got, want) {
			t.Errorf("%s has %v, the screen %v", where, got, want)
		}
	}
	b, err := languageFiles.ReadFile("language/en.toml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadLanguage(fstest.MapFS{"language/sv.toml": {Data: b}}, "sv"); err == nil || !strings.Contains(err.Error(), "protocol/conditions") {
		t.Errorf("a language without words for conditions: %v", err)
	}
	if _, err := loadLanguage(fstest.MapFS{"language/en.toml": {Data: bytes.Replace(b, []byte("\nsay_no = "), []byte("\n# "), 1)}}, "en"); err == nil || !strings.Contains(err.Error(), "say_no is missing") {
		t.Errorf("a language without a sentence: %v", err)
	}
}

// northernSami is the alphabet of Northern Sámi (1979).
const northernSami = "AaÁáBbCcČčDdĐđEeFfGgHhIiJjKkLlMmNnŊŋOoPpRrSsŠšTtŦŧUuVvZzŽž"
