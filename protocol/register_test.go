package protocol

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestTextsAreComplete asks that every language says everything of every code, and of no other.
func TestTextsAreComplete(t *testing.T) {
	tags := TextLanguages()
	if !slices.Equal(tags, []string{"en", "nb", "nn"}) {
		t.Errorf("languages %v", tags)
	}
	for _, tag := range tags {
		texts, err := readTexts(tag)
		if err != nil {
			t.Fatal(err)
		}
		titles := map[string]Code{}
		for _, f := range Register {
			text, ok := texts[f.Code]
			switch {
			case !ok:
				t.Errorf("%s: %s has no text", tag, f.Code)
				continue
			case text.Title == "" || utf8.RuneCountInString(text.Title) > 40 || strings.HasSuffix(text.Title, "."):
				t.Errorf("%s: %s: not a title: %q", tag, f.Code, text.Title)
			case !strings.HasSuffix(text.Sentence, "."):
				t.Errorf("%s: %s: not a sentence: %q", tag, f.Code, text.Sentence)
			case (text.Next == "") != (f.Next == ""):
				t.Errorf("%s: %s: a next step in one language only: %q, %q", tag, f.Code, text.Next, f.Next)
			case text.Next != "" && !strings.HasSuffix(text.Next, "."):
				t.Errorf("%s: %s: not a sentence: %q", tag, f.Code, text.Next)
			case text.Screen == "":
				t.Errorf("%s: %s: nothing for the screen", tag, f.Code)
			case titles[text.Title] != "":
				t.Errorf("%s: %s and %s have one title", tag, f.Code, titles[text.Title])
			case tag != english && text.Sentence == f.Sentence:
				t.Errorf("%s: %s is not translated", tag, f.Code)
			}
			titles[text.Title] = f.Code
		}
		if len(texts) != len(Register) {
			t.Errorf("%s has %d texts for %d codes", tag, len(texts), len(Register))
		}
	}
	if got := PowerCut.In("nb").Title; got != "Strømmen ble borte" {
		t.Errorf("in nb: %q", got)
	}
	if got := PowerCut.In("xx"); got != Explain(PowerCut).Text {
		t.Errorf("in a language that there is not: %+v", got)
	}
	if got := Code("power.made_up").In("nn"); got != Unknown.In("nn") {
		t.Errorf("of a code that there is not: %+v", got)
	}
}

// TestRegisterIsSound asks what has to hold between the columns of the table.
func TestRegisterIsSound(t *testing.T) {
	for _, f := range Register {
		switch {
		case (f.Who == Nobody) != (f.Severity == Note):
			t.Errorf("%s: a note is what nobody acts on: %s, %s", f.Code, f.Who, f.Severity)
		case f.Severity != Note && f.Severity != Warning && f.Severity != Serious && f.Severity != Alarm:
			t.Errorf("%s: severity %q", f.Code, f.Severity)
		case f.Severity == Alarm && !strings.HasPrefix(f.Next, "Treat this as a security event") && f.Code != IdentityClone && f.Code != IdentityTwice:
			t.Errorf("%s: an alarm that does not say so: %q", f.Code, f.Next)
		case f.Found == "":
			t.Errorf("%s: found by nothing", f.Code)
		case f.Lasts && (f.Probe == "") == (f.Proof == ""):
			t.Errorf("%s: either a probe finds it, or a test of its own proves it: %q, %q", f.Code, f.Probe, f.Proof)
		case !f.Lasts && (f.Visible != 0 || f.DependsOn != nil):
			t.Errorf("%s happens once: it neither waits nor depends", f.Code)
		case f.Visible < 0 || f.Visible > 5*time.Minute:
			t.Errorf("%s: shown after %v", f.Code, f.Visible)
		}
		if follows(f.Code, []Code{f.Code}, map[Code]bool{}) {
			t.Errorf("%s depends on itself", f.Code)
		}
		for _, d := range f.DependsOn {
			if !Known(d) || !Explain(d).Lasts {
				t.Errorf("%s depends on %s, which does not last", f.Code, d)
			}
		}
	}
}

func TestShowing(t *testing.T) {
	for _, c := range []struct {
		name         string
		raised, want []Code
	}{
		{"nothing", nil, nil},
		{"one", []Code{HeatHot}, []Code{HeatHot}},
		{"a dependent one is hidden", []Code{HeatThrottled, HeatHot}, []Code{HeatHot}},
		{"and shown where it stands alone", []Code{HeatThrottled}, []Code{HeatThrottled}},
		{"by way of one that is raised", []Code{LinkUnreachable, IPNone, IPNoCarrier}, []Code{IPNoCarrier}},
		{"by way of one that is not", []Code{TimeUnknown, IPDNS}, []Code{IPDNS}},
		{"causes come first", []Code{CaptureNoCamera, LinkUnreachable, PowerLow}, []Code{PowerLow, LinkUnreachable, CaptureNoCamera}},
		{"twice", []Code{PowerLow, PowerLow}, []Code{PowerLow}},
		{"of a newer version", []Code{"zeta.new", PowerLow}, []Code{PowerLow, "zeta.new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Showing(c.raised); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// document writes the register for people.
func document() []byte {
	var b bytes.Buffer
	b.WriteString(`# Conditions

<!-- Made by TestConditionsDocument of package protocol (go test ./protocol -run TestConditionsDocument -update). -->

Everything that a screen, a page, a log or a technician's laptop says about a terminal or a call is an entry of one table, ` + "`protocol.Register`" + `.
Its texts are in ` + "`protocol/conditions`" + `, in Bokmål, Nynorsk and English. A **condition** begins and ends; an **event** happens once. A condition is
hidden as long as one that it depends on holds, and is told only after it has held for the time given.

| Severity | Means |
|---|---|
| note | it is as it should be; nobody has to act |
| warning | calls work; or one did not, and the next may |
| serious | calls fail or suffer until somebody acts |
| alarm | a security event, or what looks like one |

Every event and condition is raised by the program itself and known to a test, but for those that say why not: ` + "`scripts/house`" + ` looks for who raises it. Conditions are also cleared there: those of probes by
` + "`device/health`" + ` against faults that the test provokes, the others by the test that is named.
`)
	for _, stage := range Stages {
		var list []Failure
		for _, f := range Register {
			if f.Code.Stage() == stage {
				list = append(list, f)
			}
		}
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n", stage)
		for _, f := range list {
			fmt.Fprintf(&b, "\n**`%s`** %s. %s %s\n", f.Code, f.Title, f.Sentence, f.Next)
			kind := "event"
			if f.Lasts {
				kind = "condition"
			}
			fmt.Fprintf(&b, "*%s, %s; %s acts; found by %s.", kind, f.Severity, f.Who, strings.TrimSuffix(f.Found, "."))
			if f.Visible > 0 {
				fmt.Fprintf(&b, " Told after %v.", f.Visible)
			}
			if len(f.DependsOn) > 0 {
				var names []string
				for _, d := range f.DependsOn {
					names = append(names, "`"+string(d)+"`")
				}
				fmt.Fprintf(&b, " Hidden under %s.", strings.Join(names, ", "))
			}
			if f.Probe != "" {
				fmt.Fprintf(&b, " Probe `%s`.", f.Probe)
			}
			if why, ok := strings.CutPrefix(f.Proof, notHere); ok {
				fmt.Fprintf(&b, " Not raised in a test: %s.", why)
			} else if f.Proof != "" {
				fmt.Fprintf(&b, " Proven by `%s`.", f.Proof)
			}
			b.WriteString("*\n")
		}
	}
	return bytes.ReplaceAll(b.Bytes(), []byte(" \n"), []byte("\n"))
}

func TestConditionsDocument(t *testing.T) {
	const path = "../docs/conditions.md"
	if *update {
		if err := os.WriteFile(path, document(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, document()) {
		t.Errorf("%s is not what the register says: make it with -update", path)
	}
}

func BenchmarkTexts(b *testing.B) {
	for b.Loop() {
		if _, err := readTexts(english); err != nil {
			b.Fatal(err)
		}
	}
}
