package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestReportCounts(t *testing.T) {
	cases := []struct {
		name                    string
		events                  string
		passed, failed, skipped int
		says                    string
	}{
		{"passes", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"pass","Package":"p","Test":"A"}
			{"Action":"pass","Package":"p"}`, 1, 0, 0, ""},
		{"subtests count instead of their parent", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"run","Package":"p","Test":"A/x"}
			{"Action":"run","Package":"p","Test":"A/y"}
			{"Action":"pass","Package":"p","Test":"A/x"}
			{"Action":"skip","Package":"p","Test":"A/y"}
			{"Action":"pass","Package":"p","Test":"A"}
			{"Action":"pass","Package":"p"}`, 1, 0, 1, ""},
		{"a failed subtest counts once", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"run","Package":"p","Test":"A/x"}
			{"Action":"output","Package":"p","Test":"A/x","Output":"broken leg\n"}
			{"Action":"fail","Package":"p","Test":"A/x"}
			{"Action":"fail","Package":"p","Test":"A"}
			{"Action":"fail","Package":"p"}`, 0, 1, 0, "broken leg"},
		{"a parent may fail by itself", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"run","Package":"p","Test":"A/x"}
			{"Action":"pass","Package":"p","Test":"A/x"}
			{"Action":"fail","Package":"p","Test":"A"}
			{"Action":"fail","Package":"p"}`, 1, 1, 0, "p A"},
		{"a test that never ends", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"output","Package":"p","Test":"A","Output":"panic: timed out\n"}
			{"Action":"fail","Package":"p"}`, 0, 1, 0, "panic: timed out"},
		{"a package dies after its tests", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"pass","Package":"p","Test":"A"}
			{"Action":"output","Package":"p","Output":"leaked goroutine\n"}
			{"Action":"fail","Package":"p"}`, 1, 1, 0, "leaked goroutine"},
		{"a package does not build", `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:1: no such thing\n"}
			{"ImportPath":"p [p.test]","Action":"build-fail"}
			{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`, 0, 1, 0, "no such thing"},
		{"a test says what it did not judge", `{"Action":"run","Package":"p","Test":"A"}
			{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:7: NOT JUDGED: the rate\n"}
			{"Action":"pass","Package":"p","Test":"A"}
			{"Action":"pass","Package":"p"}`, 1, 0, 0, "passed, but: p A\n    a_test.go:7: NOT JUDGED: the rate\n"},
		{"a package has no tests", `{"Action":"skip","Package":"p"}`, 0, 0, 0, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			r := newReport(&out)
			for line := range strings.Lines(c.events) {
				var e event
				if err := json.Unmarshal([]byte(strings.TrimSpace(line)), &e); err != nil {
					t.Fatal(err)
				}
				r.add(e)
			}
			if gist := "failed: p A"; strings.Contains(out.String(), gist) != strings.Contains(c.events, `"fail","Package":"p","Test":"A"`) {
				t.Errorf("it prints %q; when a test fails, it is said at once", out.String())
			}
			if r.passed != c.passed || r.failed != c.failed || r.skipped != c.skipped {
				t.Errorf("%d passed, %d failed, %d skipped, want %d, %d, %d",
					r.passed, r.failed, r.skipped, c.passed, c.failed, c.skipped)
			}
			if said := r.failures.String() + r.said.String(); !strings.Contains(said, c.says) {
				t.Errorf("the report %q does not say %q", said, c.says)
			}
		})
	}
}

func TestGist(t *testing.T) {
	r := newReport(new(bytes.Buffer))
	var output strings.Builder
	output.WriteString("=== RUN   TestCall\n    call_test.go:9: first\n")
	for range 6 {
		output.WriteString("    call_test.go:10: " + strings.Repeat("å", 300) + "\n        and its second line\n")
	}
	output.WriteString("--- FAIL: TestCall (0.0s)\n")
	r.fail("p TestCall", &output)
	r.fail("p", nil)
	lines := strings.Split(r.said.String(), "\n")
	if len(lines) != 9 || lines[0] != "failed: p TestCall" || lines[7] != "failed: p" {
		t.Fatalf("the gist is %q", lines)
	}
	for _, line := range lines[1:7] {
		if !strings.HasPrefix(line, "    call_test.go:10: åå") || !strings.HasSuffix(line, "å …") {
			t.Errorf("a line is %q", line)
		}
	}
}

func TestLabRunsLast(t *testing.T) {
	got := stages([]string{"vindu/clinic/audit", "vindu/clinic/web", "vindu/scripts/lab", "vindu/scripts/days", "vindu/scripts/years", "vindu/scripts/lab/labguest", "vindu/scripts/demo"})
	if len(got) != 2 || len(got[0]) != 2 || len(got[1]) != 1 {
		t.Fatalf("stages are %v", got)
	}
	if want := []string{"vindu/scripts/demo", "vindu/clinic/web", "vindu/clinic/audit", "vindu/scripts/lab/labguest"}; !slices.Equal(got[0][0].packages, want) {
		t.Errorf("first %v run, want %v", got[0][0].packages, want)
	}
	if !slices.Equal(got[0][0].flags, []string{"-race"}) || !slices.Equal(got[0][1].packages, []string{"vindu/scripts/days", "vindu/scripts/years"}) || !slices.Equal(got[1][0].packages, []string{labPackage}) {
		t.Errorf("stages are %v", got)
	}
	if got := stages([]string{"vindu/scripts/lab"}); len(got) != 1 {
		t.Errorf("the lab alone has stages %v", got)
	}
	for _, name := range slices.Concat([]string{labPackage}, bubblePackages, longest) {
		if _, err := os.Stat(filepath.Join("..", "..", strings.TrimPrefix(name, "vindu/"))); err != nil {
			t.Error(err)
		}
	}
}

// TestTwoRunsInOneReport: what a run says of itself is not taken for the other's.
func TestTwoRunsInOneReport(t *testing.T) {
	var out, raw bytes.Buffer
	r := newReport(&out)
	failed := make([]bool, 2)
	var runs sync.WaitGroup
	for i, action := range []string{"pass", "fail"} {
		runs.Go(func() {
			name := "vindu/" + action
			for n := range 100 {
				for _, line := range []string{
					fmt.Sprintf(`{"Action":"run","Package":%q,"Test":"T%d"}`, name, n),
					fmt.Sprintf(`{"Action":%q,"Package":%q,"Test":"T%d"}`, action, name, n),
				} {
					if err := r.take([]byte(line+"\n"), &raw, &failed[i]); err != nil {
						t.Error(err)
					}
				}
			}
			if failed[i] {
				t.Error("a test that fails is not yet a package that does")
			}
			if err := r.take(fmt.Appendf(nil, "{\"Action\":%q,\"Package\":%q}\n", action, name), &raw, &failed[i]); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if failed[0] || !failed[1] || r.passed != 100 || r.failed != 100 || bytes.Count(raw.Bytes(), []byte("\n")) != 402 {
		t.Errorf("failed %v; %d passed, %d failed, %d lines kept", failed, r.passed, r.failed, bytes.Count(raw.Bytes(), []byte("\n")))
	}
}

// TestSecondTry: what failed is run once more if it is little, and if another run can say anything of it.
func TestSecondTry(t *testing.T) {
	events := func(test, says, result string) string {
		return fmt.Sprintf(`{"Action":"run","Package":"p","Test":%[1]q}
			{"Action":"run","Package":"p","Test":"%[1]s/x"}
			{"Action":"output","Package":"p","Test":"%[1]s/x","Output":%[2]q}
			{"Action":%[3]q,"Package":"p","Test":"%[1]s/x"}
			{"Action":%[3]q,"Package":"p","Test":%[1]q}`, test, says, result)
	}
	const late = "    a_test.go:7: late\n"
	end := "\n" + `{"Action":"fail","Package":"p"}`
	feed := func(r *report, events string) {
		for line := range strings.Lines(events) {
			var e event
			if err := json.Unmarshal([]byte(strings.TrimSpace(line)), &e); err != nil {
				t.Fatal(err)
			}
			r.add(e)
		}
	}
	for _, c := range []struct {
		name           string
		first          string
		second         string // "": there is no second try
		passed, failed int
		says           string
	}{
		{"it passes", events("A", late, "fail") + end, "pass", 1, 0, "UNSTEADY: p A failed"},
		{"it fails again", events("A", late, "fail") + end, "fail", 0, 1, "failed twice: p A"},
		{"nothing runs", events("A", late, "fail") + end, "skip", 0, 1, "failed twice: p A"},
		{"two fail", events("A", late, "fail") + "\n" + events("B", late, "fail") + end, "pass", 2, 0, "p A, B failed"},
		{"three fail", events("A", late, "fail") + "\n" + events("B", late, "fail") + "\n" + events("C", late, "fail") + end, "", 0, 3, "failed: p C"},
		{"all pass", events("A", late, "pass") + strings.Replace(end, "fail", "pass", 1), "", 1, 0, ""},
		{"a data race", events("A", "WARNING: DATA RACE\n", "fail") + end, "", 0, 1, "failed: p A"},
		{"a panic", events("A", "goes well\npanic: no\n", "fail") + end, "", 0, 1, "failed: p A"},
		{"a test that never ended", events("A", late, "fail") + "\n" + `{"Action":"run","Package":"p","Test":"B"}` + end, "", 0, 2, "failed: p B"},
		{"something else that does not build", events("A", late, "fail") + end + "\n" + `{"Action":"fail","Package":"q","FailedBuild":"q [q.test]"}`, "", 0, 2, "failed: p A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReport(new(bytes.Buffer))
			feed(r, c.first)
			tried := false
			err := r.secondTry(2, func(name, tests string, into *report) error {
				tried = true
				if name != "p" || tests != "^(A)$" && tests != "^(A|B)$" {
					t.Errorf("run once more: %s %s", name, tests)
				}
				feed(into, events("A", late, c.second)+strings.Replace(end, "fail", c.second, 1))
				return nil
			})
			if err != nil || tried != (c.second != "") {
				t.Errorf("tried once more: %v, %v", tried, err)
			}
			if r.passed != c.passed || r.failed != c.failed || !strings.Contains(r.said.String(), c.says) {
				t.Errorf("%d passed, %d failed, want %d, %d; it says %q", r.passed, r.failed, c.passed, c.failed, r.said.String())
			}
		})
	}
}

func TestTemporaryFiles(t *testing.T) {
	for _, c := range []struct {
		name        string
		failed      int
		interrupted bool
		file        bool // a test left one
		kept        bool
	}{
		{name: "removed when all passed", file: true},
		{name: "kept after a failure", failed: 1, file: true, kept: true},
		{name: "an empty folder is never kept", failed: 1},
		{name: "removed when interrupted", failed: 1, interrupted: true, file: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			directory := filepath.Join(t.TempDir(), "temporary")
			if err := os.Mkdir(directory, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.file {
				if err := os.WriteFile(filepath.Join(directory, "screenshot.png"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := newReport(new(bytes.Buffer))
			r.failed = c.failed
			if err := r.leave(directory, c.interrupted); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(directory)
			if kept := err == nil; kept != c.kept {
				t.Errorf("kept: %v, want %v", kept, c.kept)
			}
			if said := strings.Contains(r.failures.String(), directory); said != c.kept {
				t.Errorf("the report names the folder: %v, want %v", said, c.kept)
			}
		})
	}
}
