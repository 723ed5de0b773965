package call_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vindu/device/call"
	"vindu/protocol"
)

var update = flag.Bool("update", false, "write the golden table anew")

var (
	one   = protocol.CallID{1}
	other = protocol.CallID{2}
	ring  = call.Decision{Decision: protocol.Ringing, Ring: 5 * time.Second, SeeFirst: 2 * time.Second, MaxDuration: time.Hour}
	now   = call.Decision{Decision: protocol.Ringing, MaxDuration: time.Hour}
	quiet = call.Decision{Decision: protocol.Quiet}
	ask   = call.Decision{Decision: protocol.Ringing, Ring: 30 * time.Second, SeeFirst: 2 * time.Second, MaxDuration: time.Hour, Ask: true}
)

// states are every phase, with those of its variants in which an event means something else.
func states() []named[call.State] {
	rings := call.State{Phase: call.Ringing, Call: one, SeeFirst: 2 * time.Second, Longest: time.Hour}
	with := func(s call.State, change func(*call.State)) call.State { change(&s); return s }
	prepared := with(rings, func(s *call.State) { s.Prepared = true })
	connected := with(prepared, func(s *call.State) { s.Connected = true })
	seen := with(connected, func(s *call.State) { s.Seen = true })
	asks := func(s *call.State) { s.Ask = true }
	over := func(s *call.State) { s.Phase, s.Rung = call.Connecting, true }
	answered := with(with(seen, over), func(s *call.State) { s.Answered, s.Open = true, true })
	talking := with(answered, func(s *call.State) { s.Phase = call.Talking })
	return []named[call.State]{
		{"idle", call.State{}},
		{"idle, link down", call.State{LinkDown: true}},
		{"verifying", call.State{Phase: call.Verifying, Call: one}},
		{"verifying, link down", call.State{Phase: call.Verifying, Call: one, LinkDown: true}},
		{"verifying, said no", call.State{Phase: call.Verifying, Call: one, Reason: protocol.EndPatientHungUp, No: true}},
		{"verifying, caller gone", call.State{Phase: call.Verifying, Call: one, Reason: protocol.EndCallerHungUp}},
		{"ringing", rings},
		{"ringing, prepared", prepared},
		{"ringing, connected", connected},
		{"ringing, seen", seen},
		{"ringing, link down", with(seen, func(s *call.State) { s.LinkDown = true })},
		{"ringing, asks", with(rings, asks)},
		{"ringing, asks, seen", with(seen, asks)},
		{"connecting, taken", with(with(connected, asks), over)},
		{"connecting", with(rings, over)},
		{"connecting, prepared", with(prepared, over)},
		{"connecting, seen without path", with(with(prepared, over), func(s *call.State) { s.Seen = true })},
		{"connecting, seeing", with(with(connected, over), func(s *call.State) { s.Seeing = true })},
		{"connecting, opening", answered},
		{"talking", talking},
		{"talking, one joined", with(talking, func(s *call.State) { s.Joined = 1 << 1 })},
		{"talking, one leaves", with(talking, func(s *call.State) { s.Joined, s.Leaving = 1<<1|1<<2, 1<<1 })},
		{"talking, another path looked for", with(talking, func(s *call.State) { s.Moving = true })},
		{"talking, path lost, another looked for", with(talking, func(s *call.State) { s.Connected, s.Moving = false, true })},
		{"talking, curtain drawn", with(talking, func(s *call.State) { s.Drawn, s.Blanked = call.DrawnByCaller, true })},
		{"talking, both curtains drawn", with(talking, func(s *call.State) { s.Drawn, s.Blanked = call.DrawnByCaller|call.DrawnByPatient, true })},
		{"talking, closing for a curtain", with(talking, func(s *call.State) { s.Drawn, s.Blanking = call.DrawnByPatient, true })},
		{"talking, curtain opened", with(talking, func(s *call.State) { s.Blanked = true })},
		{"talking, opening again", with(talking, func(s *call.State) { s.Blanked, s.Blanking = true, true })},
		{"connecting, closing for a curtain", with(answered, func(s *call.State) { s.Drawn, s.Blanking = call.DrawnByCaller, true })},
		{"connecting, curtain drawn before", with(answered, func(s *call.State) { s.Drawn, s.Blanking, s.Open = call.DrawnByCaller, true, false })},
		{"talking, curtain drawn before", with(talking, func(s *call.State) { s.Drawn, s.Blanked, s.Open = call.DrawnByCaller, true, false })},
		{"talking, opening for the first time", with(talking, func(s *call.State) { s.Blanked, s.Blanking, s.Open = true, true, false })},
		{"talking, path lost", with(talking, func(s *call.State) { s.Connected = false })},
		{"talking, link down", with(talking, func(s *call.State) { s.LinkDown = true })},
		{"ending", call.State{Phase: call.Ending, Call: one, Answered: true, Reason: protocol.EndCallerHungUp}},
	}
}

func events() []named[call.Event] {
	return []named[call.Event]{
		{"invited", call.Invited{Call: one}},
		{"invited by another", call.Invited{Call: other}},
		{"proven, ring", call.Proven{Call: one, Decision: ring}},
		{"proven, answer at once", call.Proven{Call: one, Decision: now}},
		{"proven, quiet", call.Proven{Call: one, Decision: quiet}},
		{"proven, refused", call.Proven{Call: one, Decision: call.Decision{Decision: protocol.Refused, Reason: protocol.ScreenNone}}},
		{"proven, shutter", call.Proven{Call: one, Decision: call.Decision{Decision: protocol.Shutter}}},
		{"proven, declined", call.Proven{Call: one, Decision: call.Decision{Decision: protocol.Declined}}},
		{"proven, ask", call.Proven{Call: one, Decision: ask}},
		{"proven, ask for no time", call.Proven{Call: one, Decision: call.Decision{Decision: protocol.Ringing, Ask: true}}},
		{"proven, ring, authorised for a day", call.Proven{Call: one, Decision: ring, Lasts: 24 * time.Hour}},
		{"taken", call.Taken{Call: one}},
		{"taken another", call.Taken{Call: other}},
		{"authorisation over", call.Elapsed{Timer: call.TimerAuthorisation}},
		{"unproven", call.Unproven{Call: one, Code: protocol.AuthExpired}},
		{"prepared", call.Prepared{Call: one}},
		{"connected", call.Connected{Call: one}},
		{"connected another", call.Connected{Call: other}},
		{"disconnected", call.Disconnected{Call: one}},
		{"another path", call.Moved{Call: one}},
		{"another path of another", call.Moved{Call: other}},
		{"seen", call.Seen{Call: one}},
		{"opened", call.Opened{Call: one}},
		{"joins", call.Joins{Call: one, Place: 1}},
		{"joins in no place", call.Joins{Call: one, Place: protocol.MaxParties}},
		{"joins in the caller's place", call.Joins{Call: one}},
		{"joins another", call.Joins{Call: other, Place: 1}},
		{"leaves", call.Leaves{Call: one, Place: 1}},
		{"the caller leaves", call.Leaves{Call: one}},
		{"left", call.Left{Call: one, Place: 1}},
		{"failed", call.Failed{Call: one, Code: protocol.DTLSFailed}},
		{"patient hangs up", call.HungUp{Call: one, By: call.ByPatient, Reason: protocol.EndPatientHungUp}},
		{"caller hangs up", call.HungUp{Call: one, By: call.ByCaller, Reason: protocol.EndCallerHungUp}},
		{"terminal stops", call.HungUp{Call: one, By: call.ByTerminal, Reason: protocol.EndTerminalStopped}},
		{"another hangs up", call.HungUp{Call: other, By: call.ByCaller, Reason: protocol.EndCallerHungUp}},
		{"link down", call.Link{Up: false}},
		{"link up", call.Link{Up: true}},
		{"ring over", call.Elapsed{Timer: call.TimerRing}},
		{"connect over", call.Elapsed{Timer: call.TimerConnect}},
		{"see over", call.Elapsed{Timer: call.TimerSee}},
		{"path over", call.Elapsed{Timer: call.TimerPath}},
		{"link over", call.Elapsed{Timer: call.TimerLink}},
		{"max over", call.Elapsed{Timer: call.TimerMax}},
		{"caller draws", call.Curtained{Call: one, By: call.ByCaller, Drawn: true}},
		{"caller opens", call.Curtained{Call: one, By: call.ByCaller}},
		{"patient draws", call.Curtained{Call: one, By: call.ByPatient, Drawn: true}},
		{"patient opens", call.Curtained{Call: one, By: call.ByPatient}},
		{"another draws", call.Curtained{Call: other, By: call.ByCaller, Drawn: true}},
		{"nobody draws", call.Curtained{Call: one, By: call.ByTerminal, Drawn: true}},
		{"closed for a curtain", call.Blanked{Call: one, Closed: true}},
		{"open again", call.Blanked{Call: one}},
		{"another's is closed", call.Blanked{Call: other, Closed: true}},
		{"curtain over", call.Elapsed{Timer: call.TimerCurtain}},
		{"ended shown", call.Elapsed{Timer: call.TimerEnded}},
		{"closed", call.SessionClosed{Call: one}},
	}
}

type named[T any] struct {
	name string
	v    T
}

// TestEveryStateAndEvent compares what each event does in each state with testdata/transitions.txt, which was read line by line.
func TestEveryStateAndEvent(t *testing.T) {
	var b strings.Builder
	for _, s := range states() {
		fmt.Fprintf(&b, "%s\n", s.name)
		for _, e := range events() {
			next, effects := call.Next(s.v, e.v)
			if next == s.v && len(effects) == 0 {
				fmt.Fprintf(&b, "\t%s: -\n", e.name)
				continue
			}
			fmt.Fprintf(&b, "\t%s: %s\n", e.name, describe(next))
			for _, effect := range effects {
				fmt.Fprintf(&b, "\t\t%s%s\n", reflect.TypeOf(effect).Name(), fields(effect))
			}
		}
	}
	const golden = "testdata/transitions.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(wanted)) {
		if got[i] != wanted[i] {
			t.Fatalf("%s:%d:\n got %q\nwant %q", golden, i+1, got[i], wanted[i])
		}
	}
	if len(got) != len(wanted) {
		t.Fatalf("%s has %d lines, the machine makes %d", golden, len(wanted), len(got))
	}
}

func describe(s call.State) string {
	parts := []string{s.Phase.String()}
	if s.Joined != 0 || s.Leaving != 0 {
		parts = append(parts, fmt.Sprintf("joined=%b leaving=%b", s.Joined, s.Leaving))
	}
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Bool && f.Bool() {
			parts = append(parts, strings.ToLower(v.Type().Field(i).Name))
		}
	}
	if s.Reason != "" {
		parts = append(parts, string(s.Reason))
	}
	return strings.Join(parts, " ")
}

func fields(effect call.Effect) string {
	v := reflect.ValueOf(effect)
	var b strings.Builder
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Type() == reflect.TypeFor[protocol.CallID]() {
			continue
		}
		fmt.Fprintf(&b, " %s=%v", strings.ToLower(v.Type().Field(i).Name), f.Interface())
	}
	return b.String()
}

// TestInvariants runs random sequences of events, fitting or not, past an observer that knows the promises and nothing else.
func TestInvariants(t *testing.T) {
	var reached [call.Ending + 1]bool
	taken := false
	rapid.Check(t, func(t *rapid.T) {
		broken := sequence(t, call.Next, func(s call.State) {
			reached[s.Phase] = true
			taken = taken || s.Phase == call.Talking && s.Ask
		})
		if broken != "" {
			t.Fatal(broken)
		}
	})
	if !taken {
		t.Error("no sequence reached talking after being asked: the test is too weak")
	}
	for phase, was := range reached {
		if !was {
			t.Errorf("no sequence reached %s: the test is too weak", call.Phase(phase))
		}
	}
}

type next func(call.State, call.Event) (call.State, []call.Effect)

// sequence plays random events to a machine and returns the promise that it breaks.
func sequence(t *rapid.T, next next, at func(call.State)) string {
	all := events()
	way := []call.Event{
		call.Invited{Call: one}, call.Proven{Call: one, Decision: ring}, call.Prepared{Call: one}, call.Connected{Call: one},
		call.Seen{Call: one}, call.Elapsed{Timer: call.TimerRing}, call.Opened{Call: one},
	}
	var s call.State
	var o observer
	if rapid.Bool().Draw(t, "asked") {
		way[1], way[5] = call.Proven{Call: one, Decision: ask, Lasts: time.Hour}, call.Taken{Call: one}
	}
	undisturbed := rapid.IntRange(0, len(way)).Draw(t, "undisturbed")
	for i := range rapid.IntRange(10, 100).Draw(t, "length") {
		e := rapid.SampledFrom(all).Draw(t, "event").v
		if i < undisturbed {
			e = way[i]
		} else if rapid.IntRange(0, 9).Draw(t, "natural") < 7 {
			if fit := fitting(next, s, all); len(fit) > 0 {
				e = rapid.SampledFrom(fit).Draw(t, "fitting event").v
			}
		}
		o.event(e)
		var effects []call.Effect
		before := s
		s, effects = next(s, e)
		o.joined, o.drawn, o.chimed, o.showed = s.Joined, s.Drawn, false, false
		o.changed = s.Joined != before.Joined || s.Drawn != before.Drawn
		if _, blanked := e.(call.Blanked); blanked || s.Blanking != before.Blanking {
			o.changed = true
		}
		for _, effect := range effects {
			if broken := o.effect(effect); broken != "" {
				return fmt.Sprintf("%s, in %+v on %T%+v with %+v", broken, before, e, e, effects)
			}
		}
		if broken := o.state(s); broken != "" {
			return fmt.Sprintf("%s, in %+v on %T%+v", broken, before, e, e)
		}
		at(s)
	}
	return ""
}

// TestInvariantsCanFail: machines that each forget one thing are found out by the observer, and for that thing.
func TestInvariantsCanFail(t *testing.T) {
	without := func(drop func(call.Effect) bool) next {
		return func(s call.State, e call.Event) (call.State, []call.Effect) {
			to, effects := call.Next(s, e)
			return to, slices.DeleteFunc(slices.Clone(effects), drop)
		}
	}
	is := func(wanted call.Effect) func(call.Effect) bool {
		return func(e call.Effect) bool { return reflect.TypeOf(e) == reflect.TypeOf(wanted) }
	}
	for _, mutant := range []struct {
		name, broken string
		next         next
	}{
		{"takes a refusal for a proof", "without a proven invitation", func(s call.State, e call.Event) (call.State, []call.Effect) {
			if u, ok := e.(call.Unproven); ok {
				e = call.Proven{Call: u.Call, Decision: ring}
			}
			return call.Next(s, e)
		}},
		{"takes a closed policy for an open one", "without a proven invitation", func(s call.State, e call.Event) (call.State, []call.Effect) {
			if p, ok := e.(call.Proven); ok && p.Decision.Decision == protocol.Quiet {
				e = call.Proven{Call: p.Call, Decision: ring}
			}
			return call.Next(s, e)
		}},
		{"opens before it has answered", "without proof, path and answer", without(is(call.SendAnswered{}))},
		{"does not wait for the path", "without proof, path and answer", func(s call.State, e call.Event) (call.State, []call.Effect) {
			if s.Phase == call.Connecting && s.Prepared {
				s.Connected = true
			}
			return call.Next(s, e)
		}},
		{"does not wait until it is taken", "nobody took the call", func(s call.State, e call.Event) (call.State, []call.Effect) {
			s.Ask = s.Ask && e != call.Elapsed{Timer: call.TimerRing}
			return call.Next(s, e)
		}},
		{"answers while the clinic is away", "cannot be told", func(s call.State, e call.Event) (call.State, []call.Effect) {
			s.LinkDown = false
			return call.Next(s, e)
		}},
		{"does not close", "ending without closing", without(is(call.Close{}))},
		{"does not wait until it is closed", "may be open", func(s call.State, e call.Event) (call.State, []call.Effect) {
			to, effects := call.Next(s, e)
			if to.Phase == call.Ending && s.Phase != call.Ending {
				return call.State{}, append(effects, call.Show{Scene: call.SceneEnded})
			}
			return to, effects
		}},
		{"goes on without an authorisation", "without an authorisation", func(s call.State, e call.Event) (call.State, []call.Effect) {
			if e == (call.Elapsed{Timer: call.TimerAuthorisation}) {
				return s, nil
			}
			return call.Next(s, e)
		}},
		{"shows nobody who joins", "shown and heard to come", without(is(call.Show{}))},
		{"tells nobody who joins", "shown and heard to come", without(is(call.Chime{}))},
		{"lets nobody in", "to whom nothing goes", without(is(call.Admit{}))},
		{"takes who leaves off the screen at once", "not on the roster", func(s call.State, e call.Event) (call.State, []call.Effect) {
			to, effects := call.Next(s, e)
			to.Joined &^= to.Leaving
			return to, effects
		}},
		{"does not close for a curtain", "open behind a drawn curtain", func(s call.State, e call.Event) (call.State, []call.Effect) {
			to, effects := call.Next(s, e)
			if slices.ContainsFunc(effects, is(call.Blank{})) {
				to.Blanking = false
			}
			return to, slices.DeleteFunc(slices.Clone(effects), is(call.Blank{}))
		}},
		{"opens the other's curtain", "opened behind a drawn curtain", func(s call.State, e call.Event) (call.State, []call.Effect) {
			drawn := s.Drawn
			if e == (call.Elapsed{Timer: call.TimerCurtain}) {
				s.Drawn = 0
			}
			to, effects := call.Next(s, e)
			if e == (call.Elapsed{Timer: call.TimerCurtain}) && to.Phase == call.Talking {
				to.Drawn = drawn
			}
			return to, effects
		}},
		{"opens again unheard", "nobody was told before", func(s call.State, e call.Event) (call.State, []call.Effect) {
			to, effects := call.Next(s, e)
			if i := slices.Index(effects, call.Effect(call.Start{Timer: call.TimerCurtain, After: call.LiftAfter})); i >= 0 {
				effects[i], to.Blanking = call.Unblank{}, true
			}
			return to, effects
		}},
		{"forgets its timers", "runs while ending", without(is(call.StopAll{}))},
	} {
		t.Run(mutant.name, func(t *testing.T) {
			found := map[string]bool{}
			for range 100 { // what few sequences come to takes more of them
				rapid.Check(t, func(t *rapid.T) {
					if broken := sequence(t, mutant.next, func(call.State) {}); broken != "" {
						found[strings.SplitN(broken, ", in ", 2)[0]] = true
					}
				})
				for what := range found {
					if strings.Contains(what, mutant.broken) {
						return
					}
				}
			}
			t.Errorf("not found out: %v", found)
		})
	}
}

// fitting are the events that do something in s. Those that end a call are rarer, so that sequences get far.
func fitting(machine next, s call.State, all []named[call.Event]) []named[call.Event] {
	var fit []named[call.Event]
	for _, e := range all {
		next, effects := machine(s, e.v)
		if next == s && len(effects) == 0 {
			continue
		}
		fit = append(fit, e)
		if next.Phase >= s.Phase && next.Phase != call.Ending {
			fit = append(fit, e, e, e, e)
		}
	}
	return fit
}
