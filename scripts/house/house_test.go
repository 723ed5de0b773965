// Package house keeps the rules of the house as tests: who may import whom, what every package must say about
// itself, which names and words have no place here. ARCHITECTURE.md explains the rules; this is what enforces them.
package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "vindu/"
)

// mayImport says, for each part of the house, which parts of it a package may import. Tests obey the same rules.
// The assemblies (cmd, scripts) may import all but cmd.
var mayImport = map[string][]string{
	"protocol":     {"protocol"},
	"media":        {"media"},
	"device":       {"device", "protocol"},
	"provisioning": {"provisioning", "protocol"},
	"clinic":       {"clinic", "protocol"},
	"cmd":          {"protocol", "media", "device", "provisioning", "clinic"},
	"scripts":      {"protocol", "media", "device", "provisioning", "clinic", "scripts"},
}

func TestImports(t *testing.T) {
	for _, file := range goFiles(t) {
		part, _, _ := strings.Cut(file.name, "/")
		allowed, known := mayImport[part]
		if !known {
			t.Errorf("%s: no rule says what %q may import: add it to ARCHITECTURE.md and to this test", file.name, part)
			continue
		}
		for _, imported := range file.syntax.Imports {
			name, err := strconv.Unquote(imported.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", file.name, err)
			}
			ours, ok := strings.CutPrefix(name, module)
			if !ok {
				continue
			}
			if to, _, _ := strings.Cut(ours, "/"); !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import %s only", file.name, name, part, strings.Join(allowed, ", "))
			}
		}
	}
}

// TestPackageDocs asks each package to introduce itself, in a comment that a person reads to the end.
func TestPackageDocs(t *testing.T) {
	const longest = 25
	docs := map[string]string{}
	hasCode := map[string]bool{}
	for _, file := range goFiles(t) {
		directory := path.Dir(file.name)
		if !strings.HasSuffix(file.name, "_test.go") {
			hasCode[directory] = true
		} else if hasCode[directory] {
			continue
		}
		if file.syntax.Doc != nil && !onlyDirectives(file.syntax.Doc) {
			if earlier := docs[directory]; earlier != "" && !strings.HasSuffix(file.name, "_test.go") {
				t.Errorf("%s: a second package comment; the first is in %s", file.name, earlier)
			}
			docs[directory] = file.name
			if lines := strings.Count(file.syntax.Doc.Text(), "\n"); lines > longest {
				t.Errorf("%s: the package comment has %d lines, more than %d", file.name, lines, longest)
			}
		} else if docs[directory] == "" {
			docs[directory] = ""
		}
	}
	for directory, file := range docs {
		if file == "" {
			t.Errorf("%s: no file has a package comment", directory)
		}
	}
}

func onlyDirectives(comment *ast.CommentGroup) bool { return strings.TrimSpace(comment.Text()) == "" }

// TestNames keeps out the drawers into which everything is thrown.
func TestNames(t *testing.T) {
	drawer := regexp.MustCompile(`^(utils?|common|helpers?|misc|models?|shared|stuff)$`)
	for name := range files(t) {
		// What every board has in common, by the name that Buildroot's trees give it.
		name := strings.TrimPrefix(name, "buildroot/board/common/")
		for element := range strings.SplitSeq(strings.TrimSuffix(name, path.Ext(name)), "/") {
			if drawer.MatchString(strings.TrimSuffix(element, "_test")) {
				t.Errorf("%s: the name %q says nothing", name, element)
			}
		}
	}
}

// TestWords looks for words that must not stay. Each pattern is written so that it does not match itself. A line may
// be excused with a comment "allowed: " and its reason.
func TestWords(t *testing.T) {
	isTest := func(name string) bool { return strings.HasSuffix(name, "_test.go") }
	isCode := regexp.MustCompile(`\.(go|ts|c|h|cc|sh|mk)$`).MatchString
	rules := []struct {
		name    string
		applies func(name string) bool
		pattern *regexp.Regexp
	}{
		{"a path of one person's machine", func(string) bool { return true }, regexp.MustCompile(`/(?:root|work|farm|Users)/[\w.]|/tmp/(?:brief|bash)`)},
		{"unfinished work", isCode, regexp.MustCompile(`\b(?:TOD[O]|FIXM[E]|XX[X]|not implemente[d])\b`)},
		{"a test that is left out", isTest, regexp.MustCompile(`\b[tbf]\.(?:Skip|SkipNow|Skipf)\(|testing\.(?:Short)\(`)},
		{"a sleep in a test", func(name string) bool { return isTest(name) && path.Base(name) != "bench_test.go" }, regexp.MustCompile(`\btime\.(?:Sleep)\(`)},
		{"TLS without verification", func(name string) bool { return isCode(name) && !isTest(name) }, regexp.MustCompile(`Insecure(?:SkipVerify)`)},
	}
	for name := range files(t) {
		if isData(name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range rules {
			if !rule.applies(name) || !rule.pattern.Match(text) {
				continue
			}
			number := 0
			for line := range strings.Lines(string(text)) {
				number++
				if found := rule.pattern.FindString(line); found != "" && !strings.Contains(line, "allowed: ") {
					t.Errorf("%s:%d: %s: %s", name, number, rule.name, found)
				}
			}
		}
	}
}

type goFile struct {
	name   string // from the root of the house, with slashes
	syntax *ast.File
}

// goFiles parses every Go file as far as its imports, non-test files of a directory before its tests.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var result []goFile
	for name := range files(t) {
		if !strings.HasSuffix(name, ".go") || isData(name) {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		result = append(result, goFile{name, syntax})
	}
	slices.SortFunc(result, func(a, b goFile) int {
		if at, bt := strings.HasSuffix(a.name, "_test.go"), strings.HasSuffix(b.name, "_test.go"); at != bt {
			if at {
				return 1
			}
			return -1
		}
		return strings.Compare(a.name, b.name)
	})
	if len(result) == 0 {
		t.Fatal("no Go files found: is the test in its place?")
	}
	return result
}

// files are all files of the house but those that are made, not written.
func files(t *testing.T) map[string]fs.DirEntry {
	t.Helper()
	made := map[string]bool{".git": true, "bin": true, "build": true, "artefacts": true, ".demo": true, "node_modules": true}
	result := map[string]fs.DirEntry{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if made[name] || made[entry.Name()] {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.IsDir() {
			result[name] = entry
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// isData tells test data, and files that are not text.
func isData(name string) bool {
	if slices.Contains(strings.Split(name, "/"), "testdata") {
		return true
	}
	switch path.Ext(name) {
	case ".png", ".jpg", ".ttf", ".otf", ".woff", ".woff2", ".wav", ".test", ".prof", ".sum":
		return true
	}
	return false
}
