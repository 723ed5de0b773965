// Package faulttest is the form in which tests say which faults they provoked with real parts, and what was said of each: the condition that showed, what was
// hidden under it, and the sentence about a call.
//
// What a test saw is compared with a file of its own, clinic/diagnosis/testdata/provoked/<name>.json: a list sorted by fault. A test that is run with -update
// writes its file anew. docs/diagnosis.md has a table of all of them, made by package clinic/diagnosis, which also judges what they claim.
package faulttest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	"vindu/protocol"
)

// Fault is one that a test provoked.
type Fault struct {
	Fault     string          `json:"fault"`     // in plain words
	Test      string          `json:"test"`      // package and function: "scripts/faults TestX"
	Condition protocol.Code   `json:"condition"` // that showed, and ended after relief; "": none has to
	Hidden    []protocol.Code `json:"hidden"`    // what was published too and is hidden under another
	Rule      string          `json:"rule"`      // of package diagnosis, that spoke of the call; "": no call was made
	Sentence  string          `json:"sentence"`  // that it said
}

// Folder is where the files are, from the project's root.
const Folder = "clinic/diagnosis/testdata/provoked"

// List is what a test provokes. Its methods may be called by several goroutines.
type List struct {
	path   string
	test   string
	update bool
	names  []string
	frozen map[string]Fault

	mu   sync.Mutex
	seen map[string]Fault
}

// New begins the list of a test, called "package Function", whose file is name and ".json". faults are all that the test provokes when it is run whole: the file has
// these and no others, which is checked even if only some are run. update has the file written when the test ends.
func New(t testing.TB, name, test string, update bool, faults ...string) *List {
	t.Helper()
	folder, err := find()
	if err != nil {
		t.Fatal(err)
	}
	l := &List{path: filepath.Join(folder, name+".json"), test: test, update: update, names: slices.Sorted(slices.Values(faults)), frozen: map[string]Fault{}, seen: map[string]Fault{}}
	if twice := len(slices.Compact(slices.Clone(l.names))); twice != len(l.names) {
		t.Fatalf("%s: two faults have one name: %q", test, l.names)
	}
	list, err := Read(l.path)
	if err != nil && !(update && errors.Is(err, fs.ErrNotExist)) {
		t.Fatal(err)
	}
	for _, f := range list {
		l.frozen[f.Fault] = f
	}
	t.Cleanup(func() { l.end(t) })
	return l
}

// Hides is what the file says to be hidden under a fault's condition, for a test that waits until all of it is there: what follows from a fault comes after it.
func (l *List) Hides(fault string) []protocol.Code { return l.frozen[fault].Hidden }

// Saw compares what was seen of a fault with the file.
func (l *List) Saw(t testing.TB, f Fault) {
	t.Helper()
	f.Test = l.test
	f.Hidden = slices.Compact(slices.Sorted(slices.Values(f.Hidden)))
	if f.Hidden == nil {
		f.Hidden = []protocol.Code{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.names, f.Fault) {
		t.Errorf("%q was provoked, and is not among the faults of %s", f.Fault, l.test)
	}
	l.seen[f.Fault] = f
	if want, known := l.frozen[f.Fault]; !l.update && !(known && reflect.DeepEqual(f, want)) {
		t.Errorf("%q is not what %s says (run with -update, and read what changed):\n saw %+v\nwant %+v", f.Fault, l.path, f, want)
	}
}

// end checks, or writes, which faults the file has.
func (l *List) end(t testing.TB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.update {
		if got := slices.Sorted(maps.Keys(l.frozen)); !slices.Equal(got, l.names) {
			t.Errorf("%s has the faults\n%q, and %s provokes\n%q (run it with -update)", l.path, got, l.test, l.names)
		}
		return
	}
	list := []Fault{} // of what failed the file keeps what it had
	for _, name := range l.names {
		if f, ok := l.seen[name]; ok {
			list = append(list, f)
		} else if f, ok := l.frozen[name]; ok {
			list = append(list, f)
		}
	}
	if err := write(l.path, list); err != nil {
		t.Error(err)
	}
}

// find looks for the folder from where the test runs upwards.
func find() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the project's root: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, filepath.FromSlash(Folder)), nil
		}
		above := filepath.Dir(at)
		if above == at {
			return "", errors.New("find the project's root: no go.mod above the test")
		}
		at = above
	}
}

// Read reads a file of faults. It accepts what New writes and nothing else.
func Read(path string) ([]Fault, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	var list []Fault
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	again, err := encode(list)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%s is not as its test writes it: run that with -update", path)
	}
	return list, nil
}

func encode(list []Fault) ([]byte, error) {
	list = slices.SortedFunc(slices.Values(list), func(a, b Fault) int { return cmp.Compare(a.Fault, b.Fault) })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(list)
	return b.Bytes(), err
}

func write(path string, list []Fault) error {
	b, err := encode(list)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
