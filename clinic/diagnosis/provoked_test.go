package diagnosis

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// readProvoked returns what the tests of this project provoked, as their files have it, and judges what they claim.
func readProvoked(t *testing.T) []faulttest.Fault {
	t.Helper()
	paths, err := filepath.Glob("testdata/provoked/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []faulttest.Fault
	for _, path := range paths {
		list, err := faulttest.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Fault == "" || f.Test == "" || strings.Contains(f.Fault+f.Sentence, "|") || (f.Rule == "") != (f.Sentence == "") {
				t.Errorf("%s: not all is said: %+v", path, f)
			}
			for _, c := range append(slices.Clone(f.Hidden), f.Condition) {
				if c != "" && (!protocol.Known(c) || !protocol.Explain(c).Lasts && !checkFinds(c)) {
					t.Errorf("%s: %s: %q is no condition of the register", path, f.Fault, c)
				}
			}
			if raised := append(slices.Clone(f.Hidden), f.Condition); f.Condition != "" && !slices.Equal(protocol.Showing(raised), []protocol.Code{f.Condition}) {
				t.Errorf("%s: %s: of %q %q would show", path, f.Fault, raised, protocol.Showing(raised))
			}
		}
		all = append(all, list...)
	}
	return all
}

// checkFinds tells whether a code is what a technician's check alone finds, which does not last.
func checkFinds(c protocol.Code) bool {
	return protocol.Explain(c).Found == protocol.Explain(protocol.CheckStopped).Found
}

// tableOfProvoked writes what was provoked, for people.
func tableOfProvoked(b *bytes.Buffer, list []faulttest.Fault) {
	b.WriteString(`
## What was provoked

Faults that a test made with real parts: the programs that ship, a real browser, real servers, network namespaces, the emulated terminal; for probes, files as the kernel shows them; and for what a look or a
listen finds, devices that see black or hear nothing. For each: the condition that showed
at the clinic or on the terminal within its time, and was gone after relief (but a terminal that the clinic refuses stays refused); what was told besides and is hidden under it; and what the clinic says of a call
that was tried meanwhile. Where there is no condition (–) the test looks at the call alone: then this table does not prove whether one shows, or ends. What the
technician's check alone finds is no condition that lasts: such a line says what the check found, and did not find before and after. Each test compares what it sees with its file in ` + "`" + faulttest.Folder + "`" + `, from which this table is made.

| Fault | Condition | Hidden under it | Of the call is said | Rule | Test |
|---|---|---|---|---|---|
`)
	code := func(c protocol.Code) string { return "`" + string(c) + "`" }
	distinct, ways := map[string]bool{}, 0
	for _, f := range list {
		if f.Condition != "" || !strings.Contains(f.Sentence, "nobody has to act") { // a call as it should be is there to compare with
			distinct[f.Fault] = true
			ways++
		}
		condition, hidden, sentence, rule := "–", "–", "–", "–"
		if f.Condition != "" {
			condition = code(f.Condition)
			if checkFinds(f.Condition) {
				condition += ", by the check"
			}
		}
		if len(f.Hidden) > 0 {
			var names []string
			for _, c := range f.Hidden {
				names = append(names, code(c))
			}
			hidden = strings.Join(names, ", ")
		}
		if f.Rule == "" && f.Condition == "" {
			sentence = "the call went on"
		}
		if f.Rule != "" {
			sentence, rule = f.Sentence, f.Rule
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | `%s` |\n", f.Fault, condition, hidden, sentence, rule, f.Test)
	}
	fmt.Fprintf(b, "\n%d faults were provoked, %d lines; %d more are calls as they should be.\n", len(distinct), ways, len(list)-ways)
}
