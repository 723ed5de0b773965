package main

import (
	"fmt"
	"slices"
	"time"

	"vindu/device/agent"
	"vindu/protocol"
)

// vigil is what the clinic hears of a terminal's conditions from before a fault until after its relief.
type vigil struct {
	x     *bench
	since time.Time
	held  []protocol.Code // before the fault: it may begin anew with the terminal
	want  protocol.Code   // has to show, and nothing else
}

// vigil begins before a fault.
func (x *bench) vigil(want protocol.Code) *vigil {
	x.t.Helper()
	v := &vigil{x: x, since: time.Now(), want: want}
	if h := x.c.fleet.State(x.c.home.Terminal).Health; h != nil {
		for _, c := range h.Conditions {
			v.held = append(v.held, c.Code)
		}
	}
	return v
}

// ofTheMachine tells whether a condition is about the machine that the test runs on. The terminal looks at that as it would at its own, and whatever it finds there, as under the
// load of other tests, is of no fault in a call.
func ofTheMachine(c protocol.Code) bool {
	switch c.Stage() {
	case "power", "heat", "memory", "storage", "ip", "check":
		return true
	}
	return c == protocol.SignalSlow
}

func (v *vigil) excused(c protocol.Code) bool {
	return c != v.want && (ofTheMachine(c) || slices.Contains(v.held, c))
}

// among returns what of a health message began in the vigil.
func (v *vigil) among(h *protocol.Health) (codes []protocol.Code) {
	if h == nil {
		return nil
	}
	for _, c := range h.Conditions {
		if !c.Since.Time().Before(v.since) && !v.excused(c.Code) {
			codes = append(codes, c.Code)
		}
	}
	return codes
}

// begun returns what the clinic has heard to begin in the vigil, and whether all of it is over.
func (v *vigil) begun() (codes []protocol.Code, over bool) {
	v.x.t.Helper()
	past, err := v.x.c.fleet.Conditions(v.x.t.Context(), v.x.c.home.Terminal, 1000)
	v.x.c.check(err)
	codes = v.among(v.x.c.fleet.State(v.x.c.home.Terminal).Health)
	over = len(codes) == 0
	for _, p := range past {
		if !p.Since.Before(v.since) && !v.excused(p.Code) {
			codes = append(codes, p.Code)
			over = over && !p.Until.IsZero()
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes), over
}

// isIt tells whether codes show what is wanted and hide what is to be hidden.
func (v *vigil) isIt(codes, hides []protocol.Code) bool {
	shown := protocol.Showing(codes)
	return slices.Equal(shown, []protocol.Code{v.want}) && !slices.ContainsFunc(hides, func(c protocol.Code) bool { return !slices.Contains(codes, c) })
}

// shows waits until what is wanted shows at the clinic, and what hides under it has come as well.
func (v *vigil) shows(hides ...protocol.Code) {
	v.x.t.Helper()
	v.x.c.await(fmt.Sprintf("condition %s at the clinic", v.want), func() bool { codes, _ := v.begun(); return v.isIt(codes, hides) })
}

// tells waits until the terminal tells, to whoever stands there, what the clinic cannot hear before it is relieved, and returns what is hidden under it.
func (v *vigil) tells(hides ...protocol.Code) (hidden []protocol.Code) {
	v.x.t.Helper()
	v.x.c.await(fmt.Sprintf("condition %s at the terminal", v.want), func() bool {
		h, _, err := agent.LastHealth(v.x.terminal.cfg)
		hidden = v.among(h)
		return err == nil && v.isIt(hidden, hides)
	})
	return slices.DeleteFunc(hidden, func(c protocol.Code) bool { return c == v.want })
}

// over waits after relief until all that began is over, and returns what was hidden under what has shown. Nothing else may have shown.
func (v *vigil) over() (hidden []protocol.Code) {
	v.x.t.Helper()
	v.x.heardAll()
	ended := func() bool { _, over := v.begun(); return over }
	if !eventually(ended) && !eventually(ended) { // two minutes: what a probe has found is over when it looks again, as that of the disk does each minute
		codes, _ := v.begun()
		v.x.t.Fatalf("after relief it does not end that %q", codes)
	}
	codes, _ := v.begun()
	shown := protocol.Showing(codes)
	if !slices.Equal(shown, []protocol.Code{v.want}) {
		v.x.t.Errorf("from the fault to its relief %q have shown (of %q), want %s", shown, codes, v.want)
	}
	return slices.DeleteFunc(codes, func(c protocol.Code) bool { return slices.Contains(shown, c) })
}

// heardAll has the terminal report, and returns when nothing waits there of which the clinic has not heard.
func (x *bench) heardAll() {
	x.t.Helper()
	for range 2 { // what was noticed in the moment of the first report is in the second
		var was protocol.Time
		if h := x.c.fleet.State(x.c.home.Terminal).Health; h != nil {
			was = h.At
		}
		ask := func() { x.c.check(x.c.fleet.Command(x.t.Context(), x.c.home.Terminal, protocol.CommandReport)) }
		ask()
		x.c.await("a report of a terminal that has told all", func() bool {
			h := x.c.fleet.State(x.c.home.Terminal).Health
			if h == nil || h.At <= was {
				return false
			}
			if h.Pending > 0 { // as it was then
				was = h.At
				ask()
			}
			return h.Pending == 0
		})
	}
}
