package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSoak(t *testing.T) {
	dir := t.TempDir()
	say := func(name, script string) long {
		return long{name, []string{"sh", "-c", script}, regexp.MustCompile("^figure")}
	}
	for name, c := range map[string]struct {
		rows [][]long
		only string
		good bool
		want []string
	}{
		"all hold":       {[][]long{{say("a", "echo figure 1; echo els''e"), say("b", "echo figure 2")}, {say("c", "exit 0")}}, "", true, []string{"figure 1", "figure 2", "3 held, 0 failed"}},
		"one fails":      {[][]long{{say("a", "exit 1")}, {say("b", "echo figure 2")}}, "", false, []string{"a (0s): FAILED: exit status 1", "figure 2", "1 held, 1 failed"}},
		"one of them":    {[][]long{{say("a", "exit 1")}, {say("b", "echo figure 2")}}, "^b$", true, []string{"1 held, 0 failed"}},
		"nothing":        {[][]long{{say("a", "exit 0")}}, "none", false, []string{"0 held, 0 failed"}},
		"a wrong filter": {nil, "(", false, []string{"soak:"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := soak(t.Context(), c.rows, c.only, filepath.Join(dir, "artefacts"), &out); (err == nil) != c.good {
				t.Errorf("error %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in\n%s", want, &out)
				}
			}
			if strings.Contains(out.String(), "else") {
				t.Error("all that it says is in the summary")
			}
		})
	}
}

// What make soak runs is there.
func TestAll(t *testing.T) {
	names := map[string]bool{}
	for _, row := range all {
		for _, l := range row {
			if names[l.name] {
				t.Errorf("%s is there twice", l.name)
			}
			names[l.name] = true
			for _, a := range l.args {
				if strings.HasPrefix(a, "./") {
					if _, err := os.Stat(filepath.Join("../..", a)); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
}
