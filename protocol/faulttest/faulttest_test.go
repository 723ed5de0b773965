package faulttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vindu/protocol"
)

// judge is a test whose complaints are kept, and whose end comes when it is asked for.
type judge struct {
	testing.TB
	ends []func()
	said []string
}

func (j *judge) Helper()                   {}
func (j *judge) Failed() bool              { return len(j.said) > 0 }
func (j *judge) Cleanup(f func())          { j.ends = append(j.ends, f) }
func (j *judge) Errorf(f string, a ...any) { j.said = append(j.said, fmt.Sprintf(f, a...)) }
func (j *judge) Error(a ...any)            { j.said = append(j.said, fmt.Sprint(a...)) }
func (j *judge) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }

func (j *judge) end() string {
	for _, f := range j.ends {
		f()
	}
	return strings.Join(j.said, "\n")
}

// TestList writes a list, and then sees what differs from it.
func TestList(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	cable := Fault{Fault: "cable out", Condition: protocol.IPNoCarrier, Hidden: []protocol.Code{protocol.LinkUnreachable, protocol.IPNone, protocol.IPNone}}
	call := Fault{Fault: "bell", Rule: "hung-up", Sentence: "The caller hung up."}
	run := func(update bool, declared []string, saw ...Fault) string {
		j := &judge{TB: t}
		l := New(j, "x", "pkg TestX", update, declared...)
		for _, f := range saw {
			l.Saw(j, f)
		}
		return j.end()
	}
	both := []string{"cable out", "bell"}
	if said := run(true, both, cable, call); said != "" {
		t.Fatal(said)
	}
	list, err := Read(filepath.Join(root, filepath.FromSlash(Folder), "x.json"))
	if err != nil || len(list) != 2 || list[0].Fault != "bell" || list[0].Test != "pkg TestX" || len(list[1].Hidden) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	other := cable
	other.Condition = protocol.IPNone
	for _, c := range []struct {
		name     string
		declared []string
		saw      []Fault
		says     string
	}{
		{"the same", both, []Fault{cable, call}, ""},
		{"only a part of it is run", both, []Fault{call}, ""},
		{"another condition", both, []Fault{other}, "cable out"},
		{"one that is not declared", both[:1], []Fault{cable, call}, "not among the faults"},
		{"one that is not in the file", append(both, "new"), nil, "has the faults"},
		{"one that is no longer provoked", both[:1], nil, "has the faults"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if said := run(false, c.declared, c.saw...); (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
				t.Errorf("said %q, want %q", said, c.says)
			}
		})
	}
	if err := os.WriteFile(filepath.Join(root, "y.json"), []byte(`[{"fault":"a"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(root, "y.json")); err == nil {
		t.Error("a file that a person wrote is taken")
	}
}
