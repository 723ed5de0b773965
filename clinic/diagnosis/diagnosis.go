package diagnosis

import (
	"slices"
	"strings"

	"vindu/protocol"
)

// Evidence is what is known of a call attempt. No part has to be there but Outcome.
type Evidence struct {
	Outcome          protocol.Code // why it ended, all that was said taken together
	Clinic           protocol.Code // why it ended, as the clinic saw it
	Rang, Talked     bool          // as the clinic heard from the terminal
	NeverLeft        bool          // it ended in the page: the clinic was not asked to call anybody
	RelayOnly        bool          // the caller asked for the relayed path
	Terminal, Caller *protocol.CallRecord
	Held             []protocol.Code // of the terminal, at any time during the call
}

// Where something is.
type Where string

// Places, from the home to the caller.
const (
	Home          Where = "in the home"
	Terminal      Where = "at the terminal"
	HomeNetwork   Where = "in the home's network"
	Between       Where = "between the two ends"
	OnTheWay      Where = "at the caller, the clinic's server or between"
	Clinic        Where = "at the clinic's server"
	Relay         Where = "at the clinic's relay"
	Rights        Where = "in the rights and rules of the clinic"
	CallerNetwork Where = "in the caller's network"
	CallerPC      Where = "at the caller's computer"
	Caller        Where = "with the caller"
	Somewhere     Where = "it is not known where"
)

// Sure is how sure a sentence is.
type Sure string

// See the package's comment.
const (
	Certain Sure = "certain"
	Likely  Sure = "likely"
	Unsure  Sure = "unsure"
)

// Diagnosis is what is said of a call attempt.
type Diagnosis struct {
	Rule    string // the rule's name, stable
	Code    protocol.Code
	What    string // without a full stop
	Where   Where
	Who     protocol.Who
	Sure    Sure
	Now     string // what the caller can do now; empty: nothing has to be done
	Next    string // what the one who acts does
	Because string // what it rests on

	language string // its tag; empty: English
}

// acts says who acts.
var acts = map[protocol.Who]string{
	protocol.Nobody: "nobody has to act", protocol.Patient: "somebody in the home acts", protocol.Clinician: "the clinician acts",
	protocol.Technician: "the technician acts", protocol.Operator: "the operator acts",
}

// Sentence is all of it in one.
func (d Diagnosis) Sentence() string {
	say := textsIn(d.language).say
	return d.What + " (" + say(string(d.Where)) + "; " + say(acts[d.Who]) + "; " + say(string(d.Sure)) + ")."
}

// Rule is one line of the table.
type Rule struct {
	Name       string
	If, Unless []string // facts
	Where      Where
	Who        protocol.Who
	Sure       Sure
	What       string // empty: the register's sentence
	Now        string // empty: as for the outcome's stage
	Next       string // empty: the register's
	Because    string
}

func (r Rule) fits(facts map[string]bool) bool {
	return !slices.ContainsFunc(r.If, func(f string) bool { return !facts[f] }) && !slices.ContainsFunc(r.Unless, func(f string) bool { return facts[f] })
}

// Diagnose returns what the first rule that fits says.
func Diagnose(e Evidence) Diagnosis {
	facts := map[string]bool{}
	for _, f := range Facts(e) {
		facts[f] = true
	}
	for _, r := range Rules {
		if r.fits(facts) {
			return r.say(e)
		}
	}
	f := protocol.Explain(e.Outcome) // not reached: the last rule has no conditions
	return Diagnosis{Rule: "none", Code: e.Outcome, What: strings.TrimSuffix(f.Sentence, "."), Where: Somewhere, Who: f.Who, Sure: Unsure, Next: f.Next}
}

func (r Rule) say(e Evidence) Diagnosis {
	f := protocol.Explain(e.Outcome)
	d := Diagnosis{Rule: r.Name, Code: e.Outcome, What: r.What, Where: r.Where, Who: r.Who, Sure: r.Sure, Now: r.Now, Next: r.Next, Because: r.Because}
	if d.What == "" {
		d.What = strings.TrimSuffix(f.Sentence, ".")
	}
	if d.Who == "" {
		d.Who = f.Who
	}
	if d.Next == "" {
		d.Next = f.Next
	}
	if d.Now == "" && d.Who != protocol.Nobody {
		d.Now = now[e.Outcome.Stage()]
		if d.Who == protocol.Clinician {
			d.Now = d.Next
		}
	}
	if e.RelayOnly { // which is what failed
		d.Now = withoutRelay(d.Now)
	}
	return d
}

// withoutRelay says what is to be done where the relayed path is what failed.
func withoutRelay(text string) string {
	return strings.Replace(text, "with the relayed path", "without the relayed path", 1)
}

// now is what a caller can do, where a rule has nothing better, by the stage of the outcome.
var now = map[string]string{
	"power":         "Ring again in two minutes; telephone if it does not come back.",
	"storage":       "Ring again; telephone if it fails again.",
	"time":          "Ring again in a minute; telephone if it fails again.",
	"link":          "Telephone the home.",
	"egress":        "Ring again with the relayed path; telephone if that fails as well.",
	"identity":      "Telephone the home; this terminal cannot be called for now.",
	"signalling":    "Ring again; telephone if it fails again.",
	"authorisation": "Telephone the home; do not try again until it is explained.",
	"answer":        "Telephone the home, or try again later.",
	"capture":       "Ring again; telephone if picture or sound is still missing.",
	"ice":           "Ring again with the relayed path; telephone if that fails as well.",
	"dtls":          "Telephone the home; do not try again until it is explained.",
	"proof":         "Telephone the home; do not ring it again until it is explained.",
	"media":         "Ring again; telephone if it fails again.",
	"quality":       "Ring again; go on without picture if it stays bad.",
	"browser":       "Reload the page and ring again.",
	"end":           "Ring again if the conversation was not over.",
	"unknown":       "Ring again; telephone if it fails again.",
}
