package house

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vindu/protocol"
)

// TestConditionsAreReal asks that every code of the register is raised by the product, that a test knows it, and that the tests that
// the register names as proofs exist and are about it.
func TestConditionsAreReal(t *testing.T) {
	constant := regexp.MustCompile(`(?m)^\t(\w+)\s+Code = "([^"]+)"`)
	failures, err := os.ReadFile(filepath.Join(root, "protocol/failure.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[protocol.Code]string{}
	for _, m := range constant.FindAllStringSubmatch(string(failures), -1) {
		names[protocol.Code(m[2])] = m[1]
	}
	word := regexp.MustCompile(`\w+\.\w+|\w+`)
	product, tests := map[string]bool{}, map[string]bool{} // what is named in them
	functions := map[string][]string{}                     // the files of a test
	words := map[string]map[string]bool{}                  // of a file with tests
	testFunction := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for name := range files(t) {
		isTest := strings.HasSuffix(name, "_test.go")
		if extension := path.Ext(name); isData(name) || extension != ".go" && extension != ".ts" || strings.HasPrefix(name, "protocol/register") || name == "protocol/failure.go" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		into := product
		if isTest || strings.HasSuffix(path.Dir(name), "test") {
			into = tests
		}
		if isTest {
			words[name] = map[string]bool{}
			for _, m := range testFunction.FindAllStringSubmatch(string(b), -1) {
				key := path.Dir(name) + " " + m[1]
				functions[key] = append(functions[key], name)
			}
		}
		for _, w := range word.FindAllString(string(b), -1) {
			into[w] = true
			if _, last, dotted := strings.Cut(w, "."); dotted {
				into[last] = true
			}
			if isTest {
				words[name][w] = true
				words[name][strings.TrimPrefix(w, "protocol.")] = true
			}
		}
	}
	for _, f := range protocol.Register {
		name := names[f.Code]
		if strings.HasPrefix(f.Proof, "not here: ") {
			continue
		}
		switch {
		case name == "":
			t.Errorf("%s has no constant", f.Code)
		case !product[name] && !product[string(f.Code)]:
			t.Errorf("%s (%s): nothing raises it", f.Code, name)
		case !tests[name] && !tests[string(f.Code)]:
			t.Errorf("%s (%s): no test knows it", f.Code, name)
		}
		if f.Proof == "" {
			continue
		}
		if len(functions[f.Proof]) == 0 {
			t.Errorf("%s: there is no %s", f.Code, f.Proof)
		}
		for _, file := range functions[f.Proof] {
			if !words[file][name] && !words[file][string(f.Code)] {
				t.Errorf("%s: %s is not about it", f.Code, f.Proof)
			}
		}
	}
}
