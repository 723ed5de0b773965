package notice

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var place = regexp.MustCompile(`\{[a-z]+\}`)

// TestLanguages: each language says everything, with the same places to fill in, and nothing that nobody reads.
func TestLanguages(t *testing.T) {
	if got := Languages(); !slices.Equal(got, []string{"nb", "en", "nn"}) {
		t.Fatalf("languages %v", got)
	}
	first, err := Load("nb")
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range Languages() {
		w, err := Load(tag)
		if err != nil {
			t.Fatal(err)
		}
		b, err := files.ReadFile(tag + ".json")
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(new(Words)); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
		a, z := reflect.ValueOf(*first), reflect.ValueOf(*w)
		for i := range a.NumField() {
			name := a.Type().Field(i).Name
			if name == "Tag" {
				continue
			}
			texts, wants := list(z.Field(i)), list(a.Field(i))
			if len(texts) == 0 || len(texts) != len(wants) {
				t.Errorf("%s: %s has %d texts, and %d in nb", tag, name, len(texts), len(wants))
				continue
			}
			for j, text := range texts {
				if strings.TrimSpace(text) == "" || text != strings.TrimSpace(text) {
					t.Errorf("%s: %s is %q", tag, name, text)
				}
				got, want := place.FindAllString(text, -1), place.FindAllString(wants[j], -1)
				slices.Sort(got)
				slices.Sort(want)
				if got, want = slices.Compact(got), slices.Compact(want); !slices.Equal(got, want) {
					t.Errorf("%s: %s fills in %v, and %v in nb", tag, name, got, want)
				}
			}
		}
		if len(w.Days) != 7 || len(w.Months) != 12 {
			t.Errorf("%s: %d days, %d months", tag, len(w.Days), len(w.Months))
		}
	}
	if _, err := Load("fr"); err == nil || !strings.Contains(err.Error(), "nb, en, nn") {
		t.Errorf("French: %v", err)
	}
}

func list(v reflect.Value) []string {
	if v.Kind() == reflect.String {
		return []string{v.String()}
	}
	return v.Interface().([]string)
}

func TestFill(t *testing.T) {
	if got := Fill("{name} from {organisation}", "name", "{organisation}", "organisation", "Ås"); got != "{organisation} from Ås" {
		t.Errorf("a name was taken for a place: %q", got)
	}
	w, err := Load("nb")
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Date(time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)); got != "2. november 2026" {
		t.Errorf("date %q", got)
	}
	for _, ask := range []bool{false, true} {
		points := w.Points("Ås", ask)
		if ask != (points[0][0] == w.Asked) {
			t.Errorf("asks %v: %q", ask, points[0][0])
		}
		for _, p := range points {
			if strings.Contains(p[0]+p[1], "{") {
				t.Errorf("a place is not filled in: %q", p)
			}
		}
	}
}
