package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
			if r.passed != c.passed || r.failed != c.failed || r.skipped != c.skipped {
				t.Errorf("%d passed, %d failed, %d skipped, want %d, %d, %d",
					r.passed, r.failed, r.skipped, c.passed, c.failed, c.skipped)
			}
			if !strings.Contains(r.failures.String(), c.says) {
				t.Errorf("the report %q does not say %q", r.failures.String(), c.says)
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
	got := groups([]string{"vindu/scripts/lab", "vindu/scripts/years", "vindu/protocol", "vindu/scripts/lab/labguest"})
	if len(got) != 3 || !slices.Equal(got[2], []string{labPackage}) || !slices.Equal(got[1], []string{yearsPackage}) || len(got[0]) != 2 {
		t.Errorf("groups are %v", got)
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
