package faults

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/scripts/lab"
	"vindu/scripts/stack"
)

type fleetPast = fleet.Past

// desk is the clinician's browser: one call at a time.
type desk struct {
	mu      sync.Mutex
	browser *lab.Browser
	person  string
	calm    sync.WaitGroup // of terminals that begin, which takes the processor: nobody is called meanwhile
}

// sit has the clinician sign in, who may call these homes.
func (w *world) sit(t *testing.T, homes []*home) {
	t.Helper()
	var labels []string
	for _, h := range homes {
		labels = append(labels, h.label)
	}
	named := []string{"-dir", w.path("clinic"), "-person", stack.Person, "-role", "nurse"}
	invitation := w.run(t, "vindu-clinic", append(append([]string{"person"}, named...), "-duty", "clinician", "-invite")...)
	w.run(t, "vindu-clinic", append(append([]string{"grant", "give"}, named...), "-homes", strings.Join(labels, ";"), "-reason", "to try it out")...)
	w.desk.browser = lab.NewBrowser(t, w.caller)
	fatal(t, w.desk.browser.MakePasskey(time.Minute, invitation))
	fatal(t, w.desk.browser.WaitFor(30*time.Second, fmt.Sprintf(`document.body.dataset.ready === "yes" && document.querySelectorAll("[data-home]").length === %d`, len(homes))))
	fatal(t, w.store.Read().QueryRowContext(t.Context(), "SELECT id FROM persons WHERE name = ?", stack.Person).Scan(&w.desk.person))
}

// phase waits until the call at the desk has come so far.
func (w *world) phase(t *testing.T, limit time.Duration, phase string) {
	t.Helper()
	if err := w.desk.browser.WaitFor(limit, fmt.Sprintf(`document.getElementById("call").dataset.phase === %q`, phase)); err != nil {
		text, _ := lab.Evaluate[string](w.desk.browser, 5*time.Second, `document.getElementById("call").innerText`) // for who reads why
		t.Fatalf("the call is not %s: %v\n%s", phase, err, text)
	}
}

// hangUp ends the call at the desk.
func (w *world) hangUp(t *testing.T) {
	t.Helper()
	find := "[...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'Hang up' && !b.disabled && b.checkVisibility())"
	fatal(t, w.desk.browser.WaitFor(10*time.Second, find))
	fatal(t, w.desk.browser.Do(10*time.Second, chromedp.Evaluate[chromedp.Void](find+".click()")))
	w.phase(t, 20*time.Second, "ended")
}

// state is what the page says of the home's presence.
func (h *home) state() string {
	h.t.Helper()
	s, err := lab.Evaluate[string](h.w.desk.browser, 10*time.Second, fmt.Sprintf(`document.querySelector("[data-label='%s']").dataset.state`, h.label))
	fatal(h.t, err)
	return s
}

// calls rings the home, and waits until the fault's rule speaks of the call. It returns the sentence.
func (h *home) calls(f fault) string {
	h.t.Helper()
	h.ring(f)
	return h.diagnosed(f.rule)
}

// ring rings the home, does what is to be done in the call, and waits until it has ended.
func (h *home) ring(f fault) {
	h.t.Helper()
	h.w.desk.calm.Wait()
	h.w.desk.mu.Lock()
	defer h.w.desk.mu.Unlock()
	button := fmt.Sprintf(`document.querySelector("[data-label='%s'] button.ring")`, h.label)
	fatal(h.t, h.w.desk.browser.WaitFor(60*time.Second, button+"?.disabled === false"))
	if f.after != nil {
		defer f.after(h)
	}
	if f.before != nil {
		f.before(h)
	}
	h.rang = time.Now()
	fatal(h.t, h.w.desk.browser.Do(10*time.Second, chromedp.Evaluate[chromedp.Void](button+".click()")))
	if f.call != nil {
		f.call(h)()
	}
	h.w.phase(h.t, 60*time.Second, "ended")
}

// diagnosed waits until a rule speaks of the latest call, and returns the sentence.
func (h *home) diagnosed(rule string) string {
	h.t.Helper()
	var r calls.Record
	for deadline := time.Now().Add(60 * time.Second); ; {
		list, err := h.w.calls.Records(h.t.Context(), h.w.desk.person, 100)
		fatal(h.t, err)
		for _, c := range list {
			if c.HomeLabel == h.label && !c.Began.Before(h.rang.Truncate(time.Millisecond)) {
				r, err = h.w.calls.Record(h.t.Context(), h.w.desk.person, c.Call)
				fatal(h.t, err)
			}
		}
		if r.Diagnosis.Rule == rule {
			break
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("rule %q speaks of the call, want %q: %s\noutcome %s, terminal %+v\ncaller %+v", r.Diagnosis.Rule, rule, r.Diagnosis.Sentence(), r.Outcome, r.TerminalHalf, r.CallerHalf)
		}
		select {
		case <-h.t.Context().Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	h.t.Logf("%s after %s", r.Diagnosis.Sentence(), time.Since(h.rang).Round(100*time.Millisecond))
	if r.TerminalHalf != nil && r.CallerHalf != nil {
		h.t.Logf("terminal %s-%s, caller %s-%s", r.TerminalHalf.LocalPath, r.TerminalHalf.RemotePath, r.CallerHalf.LocalPath, r.CallerHalf.RemotePath)
	}
	return r.Diagnosis.Sentence()
}

// talk waits until both are in the call, and then for so long.
func (h *home) talk(d time.Duration) {
	h.t.Helper()
	h.w.phase(h.t, 40*time.Second, "talking")
	select {
	case <-h.t.Context().Done():
	case <-time.After(d):
	}
}

// talkAndHangUp is a call that somebody at the desk ends.
func (h *home) talkAndHangUp(d time.Duration) func() {
	return func() {
		h.t.Helper()
		h.talk(d)
		h.w.hangUp(h.t)
	}
}
