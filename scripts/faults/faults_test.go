package faults

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/protocol/faulttest"
)

var only = flag.String("only", "", "provoke the faults alone in whose name this is")

var whole = flag.Bool("whole", false, "provoke all of them; else those that say how the network of a home fails most, which do not wait for one another's calls")

var update = flag.Bool("update", false, "write the list of what was provoked anew; read what changed")

// fault is something that goes wrong with the network of a home, or of the caller.
type fault struct {
	name      string
	often     bool // it is among those that are provoked each time
	six       bool // the home has IPv6 besides
	early     bool // it is there before the terminal is switched on
	condition protocol.Code
	within    time.Duration // the condition shows; 0: the usual
	provoke   func(h *home)
	relieve   func(h *home)
	rule      string               // of package diagnosis, that speaks of a call that is made meanwhile
	first     bool                 // the call comes before the condition: it is what shows it, or what does not wait for it
	before    func(h *home)        // done while nobody else calls, before this call
	call      func(h *home) func() // what is done in that call; nil: nothing, it fails by itself
	after     func(h *home)        // done before somebody else calls
	inCall    bool                 // the condition holds in the call alone, which looks at it
	later     bool                 // the sentence is read after relief, when the terminal has told its half
	goesOn    bool                 // what is asked of the call is that it goes on until it is hung up
	again     bool                 // a call after relief shows that it works again
	stays     bool                 // nothing relieves it
}

// usual is within which a condition shows: a link's silence of 30 s, what it takes to look again, and the register's 20 s.
const usual = 100 * time.Second

func TestNetwork(t *testing.T) {
	all := faults()
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	list := faulttest.New(t, "network", "scripts/faults TestNetwork", *update, names...)
	all = slices.DeleteFunc(all, func(f fault) bool {
		return !strings.Contains(f.name, *only) || *only == "" && !*whole && !*update && !f.often
	})
	began := time.Now()
	w := newWorld(t)
	t.Logf("programs and clinic after %s", time.Since(began).Round(time.Second))
	homes := make([]*home, len(all))
	var making sync.WaitGroup
	for i, f := range all {
		homes[i] = &home{t: t, w: w, number: i + 1, six: f.six, label: fmt.Sprintf("Home %d", i+1)}
		making.Go(func() {
			homes[i].room, homes[i].router = network(t), network(t)
		})
	}
	making.Wait()
	for _, h := range homes {
		h.make()
	}
	t.Logf("homes after %s", time.Since(began).Round(time.Second))
	w.serve(t)
	w.open(t)
	var enrolling sync.WaitGroup
	for _, h := range homes {
		enrolling.Go(h.enrol)
	}
	enrolling.Wait()
	w.sit(t, homes)
	t.Logf("all is there after %s", time.Since(began).Round(time.Second))
	w.desk.calm.Add(len(homes))
	var running sync.WaitGroup
	for i, f := range all {
		running.Go(func() { // beside one another, however few processors there are: they wait
			t.Run(f.name, func(t *testing.T) { homes[i].provoked(t, f, list) })
		})
	}
	running.Wait()
}

// provoked has a fault be there, look at what is said of it, and be gone.
func (h *home) provoked(t *testing.T, f fault, list *faulttest.List) {
	h.t = t
	h.awaits = list.Hides(f.name)
	saw := faulttest.Fault{Fault: f.name, Condition: f.condition, Rule: f.rule}
	h.begun = sync.OnceFunc(h.w.desk.calm.Done)
	defer h.begun()
	defer func() {
		if t.Failed() && h.agent != nil {
			t.Logf("the end of the terminal's log:\n%s", h.agent.last())
		}
	}()
	if !f.early {
		h.start()
		h.online()
	}
	h.raised = time.Now()
	if f.provoke != nil {
		f.provoke(h)
	}
	if f.early {
		h.start()
		if f.condition == "" {
			h.online()
		}
	}
	call := func() {
		if f.later || f.goesOn {
			h.ring(f)
		} else if f.rule != "" {
			saw.Sentence = h.calls(f)
		}
	}
	if f.first || f.inCall || f.condition == "" {
		call()
	}
	if f.inCall {
		saw.Hidden = h.hidden
	} else if f.condition != "" {
		saw.Hidden = h.shows(f.condition, cmp.Or(f.within, usual))
		if !f.first {
			call()
		}
	}
	if f.stays {
		list.Saw(t, saw)
		return
	}
	relieved := time.Now()
	if f.inCall {
		relieved = h.raised
	}
	if f.relieve != nil {
		f.relieve(h)
	}
	if f.again { // what gets out of the home's network is looked at again after a call
		h.calls(fault{rule: "hung-up", call: talks(2 * time.Second)})
	}
	if f.condition != "" {
		h.clears(f.condition, relieved)
	}
	if f.later {
		saw.Sentence = h.diagnosed(f.rule)
	}
	list.Saw(t, saw)
}

// rules replaces what the home's router filters by these.
func (h *home) rules(rules string) {
	h.t.Helper()
	filter(h.t, h.router, "table inet fault {}\ndelete table inet fault\ntable inet fault {\n"+rules+"\n}")
}

func (h *home) noRules() { h.t.Helper(); h.rules("") }
