package main

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/scripts/lab"
	"vindu/scripts/stack"
)

// ownTracks keeps what the page opens of this computer's camera and microphone.
const ownTracks = `(() => {
	window.ownTracks = [];
	const open = MediaDevices.prototype.getUserMedia;
	MediaDevices.prototype.getUserMedia = async function (wish) {
		const stream = await open.call(this, wish);
		window.ownTracks.push(...stream.getTracks());
		return stream;
	};
})()`

// ending is a stack whose calls are ended from outside.
type ending struct {
	*stack.Stack
	t                   *testing.T
	clinician, terminal *person
}

// TestRightEnds: who loses the right to a call that runs, loses the call: the programs as they are, a browser with an authenticator, a clinic that takes back
// what it has given. Each time both ends say why, the browser's camera and microphone are closed, and the terminal has signed that its own are (R29).
func TestRightEnds(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := stack.Build(t.Context(), projectRoot(t), bin, true); err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(stack.Options{Dir: filepath.Join(dir, "state"), Bin: bin, Language: "en", Preview: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(context.Context) error { close(ready); return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	e := &ending{Stack: s, t: t, clinician: newPerson(t, "clinician"), terminal: newPerson(t, "terminal")}
	e.clinician.first(ownTracks)
	e.terminal.open(s.Terminal)
	e.clinician.register(s.Clinician)

	top := t
	step := func(name string, f func(e *ending)) {
		top.Run(name, func(t *testing.T) {
			e.t, e.clinician.t, e.terminal.t = t, t, t
			f(e)
		})
		e.t, e.clinician.t, e.terminal.t = top, top, top
		if top.Failed() {
			top.FailNow() // the next step begins where this one should have ended
		}
	}

	step("an administrator withdraws the right", func(e *ending) {
		e.talk()
		e.clinic("grant", "withdraw", "-person", stack.Person, "-role", "nurse", "-reason", "has left")
		e.over(5*time.Second, "Your right to call this home was withdrawn during the call.", "Ask the clinic's administrator")
		e.terminal.reads(5*time.Second, "ended", "camera is off")
		e.receipt()
		e.clinician.waits(10*time.Second, "!document.querySelector('[data-home]') && document.querySelector('#right').innerText.includes('You may not call any home now')")
		e.clinician.findsInRecord("The terminal's signed end: Your right to call this home was withdrawn during the call.")
		e.clinician.open(pages(s.Clinician))
		e.give("2030-01-01T00:00:00Z")
		e.clinician.waits(20*time.Second, "document.querySelector('[data-home]') && document.querySelector('#right').hidden") // by itself
	})

	step("the right runs out", func(e *ending) {
		until := e.give(time.Now().Add(15 * time.Second).UTC().Format(time.RFC3339))
		e.clinician.waits(20*time.Second, "document.querySelector('#right').innerText.includes('Your right to call homes holds until')")
		e.talk()
		e.clinician.waits(5*time.Second, "document.querySelector('#ends').innerText.includes('Your right to call this home ends at')") // before it happens
		e.over(time.Until(until)+5*time.Second, "Your right to call this home ended during the call.", "Ask the clinic's administrator to renew it")
		if left := time.Until(until); left > 0 {
			e.t.Errorf("ended %s too early", left)
		}
		e.terminal.reads(5*time.Second, "ended", "camera is off")
		e.receipt()
		e.clinician.findsInRecord("The terminal's signed end: Your right to call this home ended during the call.", "confirmed this call with the passkey “This computer”", "as they have to be")
	})

	step("the right runs out while the clinic cannot be reached", func(e *ending) {
		until := e.give(time.Now().Add(15 * time.Second).UTC().Format(time.RFC3339))
		e.clinician.open(pages(s.Clinician))
		e.talk()
		select { // pages and terminals do without the clinic for some seconds, and then end their calls for that reason
		case <-time.After(time.Until(until) - 3*time.Second):
		case <-e.t.Context().Done():
		}
		if err := syscall.Kill(s.ClinicPID(), syscall.SIGSTOP); err != nil {
			e.t.Fatal(err)
		}
		defer syscall.Kill(s.ClinicPID(), syscall.SIGCONT)
		e.terminal.reads(time.Until(until)+5*time.Second, "ended", "camera is off")
		e.over(5*time.Second, "Your right to call this home ended during the call.", "Ask the clinic's administrator to renew it")
		if err := syscall.Kill(s.ClinicPID(), syscall.SIGCONT); err != nil {
			e.t.Fatal(err)
		}
		e.clinician.findsInRecord("The terminal's signed end: Your right to call this home ended during the call.", "confirmed this call with the passkey “This computer”", "as they have to be")
		e.give("2030-01-01T00:00:00Z")
		e.clinician.open(pages(s.Clinician))
	})

	step("the passkey is removed", func(e *ending) {
		e.talk()
		again := strings.TrimSpace(e.clinic("person", "-person", stack.Person, "-role", "nurse", "-duty", "clinician", "-invite", "-remove-passkeys"))
		e.over(5*time.Second, "The passkey by which you made this call was removed.", "ask the clinic's administrator for an invitation")
		e.terminal.reads(5*time.Second, "ended", "camera is off")
		e.clinician.open(pages(s.Clinician))                                                  // who is signed out hears no more of the call; the record has the terminal's end
		e.clinician.waits(10*time.Second, "document.querySelector('form[data-passkey=get]')") // signed out
		e.clinician = newPerson(top, "clinician, again")
		e.clinician.t = e.t
		e.clinician.first(ownTracks)
		e.clinician.register(again)
		e.clinician.findsInRecord("The terminal's signed end: The passkey by which you made this call was removed.")
		e.clinician.open(pages(s.Clinician))
	})

	step("the terminal is cut off", func(e *ending) {
		e.talk()
		e.clinic("revoke", "-home", stack.Home, "-reason", "stolen")
		e.over(5*time.Second, "The clinic has cut the home's terminal off.", "a technician sets a terminal up there anew")
		e.terminal.reads(5*time.Second, "ended", "camera is off")
		e.clinician.findsInRecord("The terminal's signed end: The clinic has cut the home's terminal off.")
	})
}

// first has a script run in every page before its own.
func (p *person) first(script string) {
	p.t.Helper()
	add := func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	}
	if err := p.Do(10*time.Second, chromedp.Func(add)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) waits(limit time.Duration, condition string) {
	p.t.Helper()
	if err := p.WaitFor(limit, condition); err != nil {
		p.fail("waits: %v", err)
	}
}

// clinic runs one of the clinic's commands beside the server.
func (e *ending) clinic(command ...string) string {
	e.t.Helper()
	i := 1
	if len(command) > 1 && !strings.HasPrefix(command[1], "-") {
		i = 2
	}
	args := append(append(append([]string{}, command[:i]...), "-dir", filepath.Join(e.Dir, "clinic")), command[i:]...)
	cmd := exec.CommandContext(e.t.Context(), filepath.Join(e.Bin, "vindu-clinic"), args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		e.t.Fatalf("%v: %v\n%s", command, err, errs.String())
	}
	return string(out)
}

// give lets the clinician call the home until then.
func (e *ending) give(until string) time.Time {
	e.t.Helper()
	at, err := time.Parse(time.RFC3339, until)
	if err != nil {
		e.t.Fatal(err)
	}
	e.clinic("grant", "give", "-person", stack.Person, "-role", "nurse", "-homes", stack.Home, "-until", until, "-reason", "to try it out")
	return at
}

// talk makes a call in which each end sees the other.
func (e *ending) talk() {
	e.t.Helper()
	e.clinician.click("Ring")
	e.clinician.reads(15*time.Second, "In call", "verified")
	e.terminal.reads(10*time.Second, "You are talking with Anne Berg")
	if err := e.clinician.WaitForFarEnd(10 * time.Second); err != nil {
		e.clinician.fail("sees nothing of the terminal: %v", err)
	}
	e.clinician.waits(5*time.Second, "ownTracks.length === 2 && ownTracks.every((t) => t.readyState === 'live')")
}

// over waits until the page says why the call is over and what to do, and looks whether it has let go of camera and microphone.
func (e *ending) over(limit time.Duration, why, next string) {
	e.t.Helper()
	e.clinician.reads(limit, "The call has ended: "+why)
	e.clinician.waits(time.Second, "document.querySelector('#next').checkVisibility() && document.querySelector('#next').innerText.includes(\""+next+"\")")
	e.clinician.waits(time.Second, "ownTracks.length === 2 && ownTracks.every((t) => t.readyState === 'ended') && document.querySelector('#self').srcObject === null && document.querySelector('#far').srcObject === null")
	if _, err := lab.Evaluate[bool](e.clinician.Browser, time.Second, "(window.ownTracks = [], true)"); err != nil {
		e.t.Fatal(err)
	}
}

// receipt waits for what the terminal has signed.
func (e *ending) receipt() {
	e.t.Helper()
	e.clinician.waits(5*time.Second, "document.querySelector('#receipt').innerText.includes('were closed at')")
}
