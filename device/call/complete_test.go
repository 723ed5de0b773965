package call_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"vindu/device/call"
	"vindu/protocol"
)

// source is the package's machine as it is written: what events and effects there are, and the values of its enumerations.
type source struct {
	implement map[string][]string // by marker method: "event" or "effect"
	values    map[string][]string // by type: names of its constants
	texts     map[string][]string // by type: those constants that are written as texts
}

func readSource(t *testing.T, names ...string) source {
	t.Helper()
	s := source{implement: map[string][]string{}, values: map[string][]string{}, texts: map[string][]string{}}
	files := token.NewFileSet()
	for _, name := range names {
		file, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && (d.Name.Name == "event" || d.Name.Name == "effect") {
					s.implement[d.Name.Name] = append(s.implement[d.Name.Name], d.Recv.List[0].Type.(*ast.Ident).Name)
				}
			case *ast.GenDecl:
				of := ""
				for _, spec := range d.Specs {
					v, ok := spec.(*ast.ValueSpec)
					if !ok || d.Tok != token.CONST {
						continue
					}
					if id, named := v.Type.(*ast.Ident); named {
						of = id.Name
					} else if v.Values != nil {
						of = ""
					}
					for _, n := range v.Names {
						if of != "" {
							s.values[of] = append(s.values[of], n.Name)
						}
					}
					for _, x := range v.Values {
						if l, ok := x.(*ast.BasicLit); ok && l.Kind == token.STRING && of != "" {
							text, err := strconv.Unquote(l.Value)
							if err != nil {
								t.Fatal(err)
							}
							s.texts[of] = append(s.texts[of], text)
						}
					}
				}
			}
		}
	}
	return s
}

// TestTableIsComplete: the table of TestEveryStateAndEvent, and the sequences of TestInvariants, know every phase, every field of the state by which it can
// differ, every event, and every value of what an event carries. Whoever adds one without saying what it does in each state is told here.
func TestTableIsComplete(t *testing.T) {
	code := readSource(t, "machine.go")
	if len(code.implement["event"]) < 14 || len(code.implement["effect"]) < 15 || len(code.values["Phase"]) != int(call.Ending)+1 {
		t.Fatalf("the machine's source was not understood: %v", code)
	}
	var seen struct {
		events, phases, timers, who, decisions map[string]bool
		flags                                  map[string]map[bool]bool
	}
	seen.events, seen.phases, seen.timers = map[string]bool{}, map[string]bool{}, map[string]bool{}
	seen.who, seen.decisions, seen.flags = map[string]bool{}, map[string]bool{}, map[string]map[bool]bool{}
	for _, e := range events() {
		kind := reflect.TypeOf(e.v).Name()
		seen.events[kind] = true
		switch e := e.v.(type) {
		case call.Elapsed:
			seen.timers[fmt.Sprint(uint8(e.Timer))] = true
		case call.HungUp:
			seen.who[fmt.Sprint(uint8(e.By))] = true
		case call.Proven:
			seen.decisions[string(e.Decision.Decision)] = true
		}
	}
	for _, s := range states() {
		seen.phases[s.v.Phase.String()] = true
		v := reflect.ValueOf(s.v)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Bool {
				name := v.Type().Field(i).Name
				if seen.flags[name] == nil {
					seen.flags[name] = map[bool]bool{}
				}
				seen.flags[name][f.Bool()] = true
			}
		}
	}
	for _, name := range code.implement["event"] {
		if !seen.events[name] {
			t.Errorf("no event %s in the table", name)
		}
	}
	for p := range call.Phase(len(code.values["Phase"])) {
		if !seen.phases[p.String()] {
			t.Errorf("no state in phase %s in the table", p)
		}
	}
	for name, both := range seen.flags {
		if len(both) != 2 {
			t.Errorf("%s is never %v in the table", name, !both[true])
		}
	}
	for what, n := range map[string]int{"Timer": len(code.values["Timer"]), "Who": len(code.values["Who"])} {
		got := seen.timers
		if what == "Who" {
			got = seen.who
		}
		if n == 0 || len(got) != n {
			t.Errorf("%d values of %s in the table, there are %d: %v", len(got), what, n, code.values[what])
		}
	}
	for _, d := range decisions(t) {
		if d != string(protocol.Answered) && d != string(protocol.Busy) && !seen.decisions[d] { // those are the machine's own
			t.Errorf("no invitation in the table for which policy decides %q", d)
		}
	}
}

// decisions are all that a terminal can answer, as the protocol's source has them.
func decisions(t *testing.T) []string {
	t.Helper()
	found := readSource(t, "../../protocol/statement.go").texts["Decision"]
	if !slices.Contains(found, string(protocol.Ringing)) {
		t.Fatalf("the protocol's decisions were not understood: %v", found)
	}
	return found
}

// TestEveryReachableState tries every event in every state that can be reached at all, not only in those that the table shows, and looks at what the states
// themselves promise.
func TestEveryReachableState(t *testing.T) {
	promises := []struct {
		name string
		kept func(s call.State) bool
	}{
		{"nothing of a call is left when it is over", func(s call.State) bool { return s.Phase != call.Idle || s == call.State{LinkDown: s.LinkDown} }},
		{"every other phase is of a call", func(s call.State) bool { return s.Phase == call.Idle || s.Call != protocol.CallID{} }},
		{"nothing is answered but after the ring, by a session, to somebody who was seen", func(s call.State) bool { return !s.Answered || s.Rung && s.Prepared && s.Seen }},
		{"nobody talks who was not answered", func(s call.State) bool { return s.Phase != call.Talking || s.Answered }},
		{"nothing is prepared before it is proven", func(s call.State) bool { return s.Phase > call.Verifying || !s.Prepared && !s.Answered }},
		{"an end has a reason", func(s call.State) bool { return s.Phase != call.Ending || s.Reason != "" }},
		{"a no is an end", func(s call.State) bool {
			return !s.No || s.Phase == call.Ending || s.Phase == call.Verifying && s.Reason != ""
		}},
		{"nothing is opened that was not answered", func(s call.State) bool { return !s.Open || s.Answered }},
		{"behind a drawn curtain nothing is open", func(s call.State) bool { return !s.Open || s.Drawn == 0 || s.Blanked || s.Blanking }},
		{"who talks has something open, a curtain, or no path", func(s call.State) bool {
			return s.Phase != call.Talking || s.Open || s.Blanked || s.Blanking || !s.Connected
		}},
		{"curtains are a call's that talks, or is about to", func(s call.State) bool {
			runs := s.Phase >= call.Ringing && s.Phase <= call.Talking
			return (runs && s.Answered || !s.Blanking && s.Drawn&call.DrawnByPatient == 0) && (s.Phase == call.Talking || !s.Blanked) && (runs || s.Drawn == 0)
		}},
		{"only a ring goes on without its end", func(s call.State) bool { return s.Phase < call.Connecting || s.Phase == call.Ending || s.Rung }},
	}
	found := map[call.State]bool{{}: true}
	for todo := []call.State{{}}; len(todo) > 0; todo = todo[1:] {
		s := todo[0]
		for _, p := range promises {
			if !p.kept(s) {
				t.Errorf("not so: %s, in %+v", p.name, s)
			}
		}
		for _, e := range events() {
			next, effects := call.Next(s, e.v)
			for _, effect := range effects {
				_, opens := effect.(call.Open)
				answers := !s.Answered && next.Connected && !next.LinkDown
				returns := s.Answered && !s.Connected // the path
				if opens && (!next.Answered || !next.Connected || !answers && !returns && !s.Blanking || s.Open || next.Drawn != 0 || s.Phase < call.Ringing || s.Phase == call.Ending) {
					t.Errorf("devices open in %+v on %s", s, e.name)
				}
			}
			if !found[next] {
				found[next] = true
				todo = append(todo, next)
			}
		}
	}
	t.Logf("%d states", len(found))
	if len(found) < 300 {
		t.Errorf("%d states were reached", len(found))
	}
}
