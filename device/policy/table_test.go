package policy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

// conditions are all that a decision can depend on, each with all its values. A terminal that is asked is in one of their combinations.
var conditions = []struct {
	name   string
	values []string
}{
	{"set up", []string{"yes", "no"}},
	{"mode", []string{"whole", "safe"}},
	{"screen", []string{"yes", "no"}},
	{"own hours", []string{"day", "quiet"}}, // of the terminal's configuration
	{"proof", []string{"passkey", "robot"}},
	{"policy", []string{"yes", "none"}},
	{"rule", []string{"ask", "ring", "refuse", "none", "unknown"}}, // for the caller's group
	{"zone", []string{"known", "unknown"}},
	{"hours", []string{"day", "quiet"}}, // of the policy
	{"rule urgent", []string{"yes", "no"}},
	{"call urgent", []string{"yes", "no"}},
	{"key", []string{"yes", "no"}},          // by which a call can be taken
	{"shutter", []string{"open", "closed"}}, // where a closed one refuses calls
}

// decisions is the whole of what a terminal decides. A condition that a row does not name makes no difference to it. Every combination of conditions is in one
// row, and in no other. What it lets ring does not where the shutter is closed and that refuses calls: who may not ring is not told of it.
var decisions = []struct {
	when   map[string]string
	want   protocol.Decision
	reason protocol.Code
	asks   bool
	urgent bool
}{
	{when: when("set up", "no"), want: protocol.Refused, reason: protocol.IdentityNone},
	{when: when("set up", "yes", "mode", "safe"), want: protocol.Refused, reason: protocol.PowerSafe},
	{when: when("set up", "yes", "mode", "whole", "screen", "no"), want: protocol.Refused, reason: protocol.ScreenNone},
	{when: usable("own hours", "quiet"), want: protocol.Quiet},
	{when: usable("own hours", "day", "proof", "robot"), want: protocol.Ringing},
	{when: usable("own hours", "day", "proof", "passkey", "policy", "none"), want: protocol.Refused},
	{when: signed("rule", "none"), want: protocol.Refused},
	{when: signed("rule", "refuse"), want: protocol.Refused},
	{when: signed("rule", "unknown"), want: protocol.Refused},

	{when: signed("rule", "ring", "zone", "unknown"), want: protocol.Refused, reason: protocol.TimeZone},
	{when: known("rule", "ring", "hours", "quiet", "rule urgent", "no"), want: protocol.Quiet},
	{when: known("rule", "ring", "hours", "quiet", "rule urgent", "yes", "call urgent", "no"), want: protocol.Quiet},
	{when: known("rule", "ring", "rule urgent", "yes", "call urgent", "yes"), want: protocol.Ringing, urgent: true},
	{when: known("rule", "ring", "hours", "day", "rule urgent", "yes", "call urgent", "no"), want: protocol.Ringing},
	{when: known("rule", "ring", "hours", "day", "rule urgent", "no"), want: protocol.Ringing},

	{when: signed("rule", "ask", "zone", "unknown"), want: protocol.Refused, reason: protocol.TimeZone},
	{when: known("rule", "ask", "hours", "quiet", "rule urgent", "no"), want: protocol.Quiet},
	{when: known("rule", "ask", "hours", "quiet", "rule urgent", "yes", "call urgent", "no"), want: protocol.Quiet},
	{when: known("rule", "ask", "rule urgent", "yes", "call urgent", "yes", "key", "no"), want: protocol.Refused, reason: protocol.AnswerNoKey, urgent: true},
	{when: known("rule", "ask", "hours", "day", "rule urgent", "yes", "call urgent", "no", "key", "no"), want: protocol.Refused, reason: protocol.AnswerNoKey},
	{when: known("rule", "ask", "hours", "day", "rule urgent", "no", "key", "no"), want: protocol.Refused, reason: protocol.AnswerNoKey},
	{when: known("rule", "ask", "rule urgent", "yes", "call urgent", "yes", "key", "yes"), want: protocol.Ringing, asks: true, urgent: true},
	{when: known("rule", "ask", "hours", "day", "rule urgent", "yes", "call urgent", "no", "key", "yes"), want: protocol.Ringing, asks: true},
	{when: known("rule", "ask", "hours", "day", "rule urgent", "no", "key", "yes"), want: protocol.Ringing, asks: true},
}

func when(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func usable(pairs ...string) map[string]string {
	return when(append(pairs, "set up", "yes", "mode", "whole", "screen", "yes")...)
}

func signed(pairs ...string) map[string]string {
	return usable(append(pairs, "own hours", "day", "proof", "passkey", "policy", "yes")...)
}

func known(pairs ...string) map[string]string { return signed(append(pairs, "zone", "known")...) }

// TestEveryCombination asks the policy about each of the combinations, and compares with the one row that it is in.
func TestEveryCombination(t *testing.T) {
	tried := make([]int, len(decisions))
	combinations := 0
	var try func(at int, c map[string]string)
	try = func(at int, c map[string]string) {
		if at < len(conditions) {
			for _, v := range conditions[at].values {
				c[conditions[at].name] = v
				try(at+1, c)
			}
			return
		}
		combinations++
		row := -1
		for i, d := range decisions {
			if !matches(d.when, c) {
				continue
			}
			if row >= 0 {
				t.Fatalf("%v is in the rows %v and %v", c, decisions[row].when, d.when)
			}
			row = i
		}
		if row < 0 {
			t.Fatalf("%v is in no row", c)
		}
		tried[row]++
		d := decisions[row]
		if d.want == protocol.Ringing && c["shutter"] == "closed" {
			d.want, d.reason, d.asks, d.urgent = protocol.Shutter, "", false, false
		}
		got := decide(c)
		open := got.Decision == protocol.Ringing
		if got.Decision != d.want || got.Reason != d.reason || open && (got.Ask != d.asks || got.Urgent != d.urgent) {
			t.Errorf("%v: %+v, want %+v", c, got, d)
		}
		// Whoever is answered by the clinic's policy may be the first; the home's number says whether (Runner).
		if tells := open && c["proof"] == "passkey"; tells != (got.Notice == time.Minute && got.Home == "17") || !tells && (got.Notice != 0 || got.Home != "") {
			t.Errorf("%v: tells home %q for %v", c, got.Home, got.Notice)
		}
		if !open && (got.Ask || got.Ring != 0 || got.MaxDuration != 0 || got.SeeFirst != 0) {
			t.Errorf("%v: not answered, but %+v", c, got)
		}
	}
	try(0, map[string]string{})
	if combinations != 5*1<<12 {
		t.Errorf("%d combinations", combinations)
	}
	for i, n := range tried {
		if n == 0 {
			t.Errorf("no combination is in the row %v", decisions[i].when)
		}
	}
}

func matches(when, c map[string]string) bool {
	for name, v := range when {
		if c[name] != v {
			return false
		}
	}
	return true
}

func decide(c map[string]string) call.Decision {
	is := func(name, value string) func() bool { return func() bool { return c[name] == value } }
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	rule := protocol.Rule{Group: "nurses", Mode: protocol.Mode(c["rule"]), After: 20, Urgent: c["rule urgent"] == "yes"}
	if c["rule"] == "none" {
		rule.Group = "others"
	}
	terms := &protocol.Policy{Rules: []protocol.Rule{rule}, Zone: "UTC", Longest: 600, Volume: 50, Home: "17"}
	if c["zone"] == "unknown" {
		terms.Zone = "Europe/Atlantis"
	}
	if c["hours"] == "quiet" {
		terms.Quiet = []protocol.Span{{Days: 0x7f, From: 11 * 60, To: 13 * 60}}
	}
	p := Policy{
		Enrolled: is("set up", "yes"), Safe: c["mode"] == "safe", Screen: is("screen", "yes"), Answer: is("key", "yes"), Shut: is("shutter", "closed"), Ring: 5 * time.Second, SeeFirst: time.Second, Notice: time.Minute,
		Longest: time.Hour, Zone: time.UTC, Signed: func() *protocol.Policy { return terms },
	}
	if c["policy"] == "none" {
		p.Signed = func() *protocol.Policy { return nil }
	}
	if c["own hours"] == "quiet" {
		p.Quiet = Hours{11 * time.Hour, 13 * time.Hour}
	}
	proof := &call.Proof{Invitation: &protocol.Invitation{Urgent: c["call urgent"] == "yes"}}
	if c["proof"] == "passkey" {
		proof.Authorisation = &protocol.Authorisation{Group: "nurses"}
	}
	return p.Decide(proof, noon)
}

// TestConditionsAreComplete: whoever adds something that a decision could depend on, or a mode of rules, is told that the table lacks it.
func TestConditionsAreComplete(t *testing.T) {
	for _, c := range []struct {
		of     reflect.Type
		fields []string
	}{
		{reflect.TypeFor[Policy](), []string{"Enrolled", "Safe", "Screen", "Answer", "Shut", "Signed", "Ring", "Least", "Notice", "SeeFirst", "Longest", "Quiet", "Zone"}},
		{reflect.TypeFor[protocol.Policy](), []string{"Version", "Serial", "Terminal", "Home", "Groups", "Rules", "Quiet", "Zone", "Longest", "Volume", "Issued"}},
		{reflect.TypeFor[protocol.Rule](), []string{"Group", "Mode", "After", "Urgent"}},
		{reflect.TypeFor[call.Decision](), []string{"Decision", "Ring", "SeeFirst", "MaxDuration", "Ask", "Urgent", "Notice", "Home", "Volume", "Reason"}},
		{reflect.TypeFor[call.Proof](), []string{"Invitation", "Hash", "Authorisation", "Passkey", "Counter", "Counted"}},
	} {
		var fields []string
		for i := range c.of.NumField() {
			fields = append(fields, c.of.Field(i).Name)
		}
		if !slices.Equal(fields, c.fields) {
			t.Errorf("%v has the fields %v: say in the table what the new ones change", c.of, fields)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../../protocol/policy.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var modes []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && fmt.Sprint(v.Type) == "Mode" {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Error(err)
			}
			modes = append(modes, text)
		}
		return true
	})
	slices.Sort(modes)
	if !slices.Equal(modes, []string{"ask", "refuse", "ring"}) {
		t.Errorf("rules have the modes %v", modes)
	}
}
