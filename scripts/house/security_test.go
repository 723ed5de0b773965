package house

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSecurityNamesItsProofs asks that the tests exist that SECURITY.md names, in the package that it names behind them.
func TestSecurityNamesItsProofs(t *testing.T) {
	where := map[string][]string{} // the packages of a test
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			where[m[1]] = append(where[m[1]], path.Dir(name))
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`(?: \\(([a-z/,. -]+)\\))?").FindAllStringSubmatch(string(text), -1)
	if len(named) < 40 {
		t.Errorf("SECURITY.md names %d tests", len(named))
	}
	for _, m := range named {
		if len(where[m[1]]) == 0 {
			t.Errorf("SECURITY.md: there is no %s", m[1])
		}
		for pkg := range strings.SplitSeq(m[2], ", ") {
			if strings.Contains(pkg, "/") && !slices.Contains(where[m[1]], pkg) {
				t.Errorf("SECURITY.md: there is no %s in %s, but in %s", m[1], pkg, strings.Join(where[m[1]], ", "))
			}
		}
	}
}
