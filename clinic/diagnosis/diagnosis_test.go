package diagnosis

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"vindu/protocol"
)

var update = flag.Bool("update", false, "write docs/diagnosis.md anew; read every line of it by eye before it is committed")

const document = "../../docs/diagnosis.md"

// TestSentences is the table of failures: for each the rule that has to speak, and its sentence, frozen in docs/diagnosis.md.
func TestSentences(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# What is said of calls

<!-- Made by TestSentences of package clinic/diagnosis (go test ./clinic/diagnosis -update). Read each line before committing it. -->

Of every call attempt the clinic says in one sentence what happened, where, who acts, and how sure that is. The sentence comes from a table of rules,
of which the first that fits speaks; what it is fed with is the clinic's own view, both ends' halves of the record, and the conditions of the terminal at
the time. Each case below is evidence put together in the test, as the two ends would tell it. Those that say so were also provoked with real parts; what was
provoked, and by which test, is the [second table](#what-was-provoked).

*Certain*: an end measured the cause itself, or decided it. *Likely*: what was seen fits this cause and nothing speaks against it. *Unsure*: something is
missing, and the sentence says no more than is known.

| Case | Sentence | What the caller can do now | What the one who acts does | It rests on | Provoked |
|---|---|---|---|---|---|
`)
	provoked := readProvoked(t)
	rules := map[string]bool{} // that spoke of a real fault
	for _, f := range provoked {
		rules[f.Rule] = f.Rule != ""
	}
	delete(rules, "")
	names, said, sentences := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		if names[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		names[c.name] = true
		d := Diagnose(c.evidence)
		said[d.Rule], sentences[d.Rule+": "+d.Sentence()] = true, true
		if d.Rule != c.rule {
			t.Errorf("%s: rule %q speaks, want %q; facts %q", c.name, d.Rule, c.rule, Facts(c.evidence))
		}
		if d.Because == "" || d.Where == "" || d.Who == "" || d.Sure == "" || strings.HasSuffix(d.What, ".") || d.What == "" {
			t.Errorf("%s: not all is said: %+v", c.name, d)
		}
		if d.Who != protocol.Nobody && (d.Now == "" || d.Next == "") {
			t.Errorf("%s: nobody is told what to do: %+v", c.name, d)
		}
		real := "–"
		if rules[d.Rule] {
			real = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", c.name, d.Sentence(), d.Now, d.Next, d.Because, real)
	}
	for _, r := range Rules {
		if !said[r.Name] {
			t.Errorf("no case leads to rule %q: it is behind another one, or not tested", r.Name)
		}
	}
	if len(cases) < 60 {
		t.Errorf("%d cases, want 60 or more", len(cases))
	}
	fmt.Fprintf(&b, "\n%d cases, %d rules, %d of them provoked.\n", len(cases), len(Rules), len(rules))
	for _, f := range provoked {
		if f.Rule != "" && !sentences[f.Rule+": "+f.Sentence] {
			t.Errorf("%s, %s: no case has rule %q say %q", f.Test, f.Fault, f.Rule, f.Sentence)
		}
	}
	tableOfProvoked(&b, provoked)
	if *update {
		if err := os.WriteFile(document, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, b.Bytes()) {
		t.Errorf("%s is not what the rules say now; run with -update and read what changed", document)
	}
}

// TestWords checks that no rule waits for a fact that nothing says.
func TestWords(t *testing.T) {
	known, names := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		for _, f := range Facts(c.evidence) {
			known[f] = true
		}
	}
	for _, r := range Rules {
		if names[r.Name] {
			t.Errorf("two rules are named %q", r.Name)
		}
		names[r.Name] = true
		for _, f := range slices.Concat(r.If, r.Unless) {
			if !known[f] {
				t.Errorf("rule %q waits for %q, which no case says", r.Name, f)
			}
			if _, code, ok := strings.Cut(f, "="); ok && strings.Contains(code, ".") && !protocol.Known(protocol.Code(code)) {
				t.Errorf("rule %q names %q, which is not in the register", r.Name, code)
			}
			if code, ok := strings.CutPrefix(f, "held="); ok && !protocol.Explain(protocol.Code(code)).Lasts {
				t.Errorf("rule %q waits for %q to hold, which happens once and does not last", r.Name, code)
			}
		}
	}
}

// TestEveryOutcome checks that whatever code a call ends with, something is said that is not beside the point, whichever half is missing.
func TestEveryOutcome(t *testing.T) {
	for _, f := range protocol.Register {
		for _, e := range []Evidence{{Outcome: f.Code}, {Outcome: f.Code, Terminal: end(f.Code)}, {Outcome: f.Code, Caller: end(f.Code)}} {
			d := Diagnose(e)
			if d.What == "" || d.Code != f.Code || d.Because == "" || d.Who == "" {
				t.Errorf("%s: %+v", f.Code, d)
			}
			if f.Severity == protocol.Alarm && strings.HasPrefix(string(f.Code), "proof.") && d.What+"." != f.Sentence {
				t.Errorf("%s: an alarm is said in other words than the register's: %q", f.Code, d.What)
			}
		}
	}
}

// TestAlarmsFirst checks that no half, and no condition, takes a sentence about proof away.
func TestAlarmsFirst(t *testing.T) {
	for _, c := range cases {
		e := c.evidence
		e.Outcome = protocol.ProofFingerprint
		if d := Diagnose(e); d.Rule != "proof-fingerprint" || d.Sure != Certain {
			t.Errorf("%s: %q is said instead of the alarm", c.name, d.Sentence())
		}
	}
}

// TestMissing checks that a sentence of a call of which a half is missing is never surer than with it, where it rests on that half.
func TestMissing(t *testing.T) {
	for _, c := range cases {
		e := c.evidence
		e.Terminal, e.Caller = nil, nil
		d := Diagnose(e)
		if d.Because == byPairs || d.Because == bySeries || d.Because == byBoth {
			t.Errorf("%s: without any half it rests on %q", c.name, d.Because)
		}
	}
}
