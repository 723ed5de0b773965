package main

import (
	"fmt"
	"image"
	_ "image/jpeg"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/scripts/lab"
	"vindu/scripts/stack"
)

// A person: a browser at the clinician's page, or one at the terminal's screen.
type person struct {
	*lab.Browser
	t    *testing.T
	name string
}

func newPerson(t *testing.T, name string) *person {
	return &person{lab.NewBrowser(t, nil), t, name}
}

func (p *person) open(address string) {
	p.t.Helper()
	if err := p.Do(30*time.Second, chromedp.Navigate(address)); err != nil {
		p.t.Fatalf("%s opens a page: %v", p.name, err)
	}
}

// register makes a passkey under an invitation.
func (p *person) register(invitation string) {
	p.t.Helper()
	if err := p.MakePasskey(time.Minute, invitation); err != nil {
		p.fail("makes a passkey: %v", err)
	}
}

// click presses the button of that name, as soon as it can be pressed.
func (p *person) click(button string) {
	p.t.Helper()
	find := fmt.Sprintf("[...document.querySelectorAll('button')].find(b => b.innerText.trim() === %q && !b.disabled && b.checkVisibility())", button)
	if err := p.WaitFor(20*time.Second, find); err != nil {
		p.fail("wants to press %s: %v", button, err)
	}
	if err := p.Do(10*time.Second, chromedp.Evaluate[chromedp.Void](find+".click()")); err != nil {
		p.fail("presses %s: %v", button, err)
	}
}

const statusText = "document.querySelector('[role=status]').innerText.trim()"

// reads waits until the status holds all of the words.
func (p *person) reads(limit time.Duration, words ...string) string {
	p.t.Helper()
	var conditions []string
	for _, w := range words {
		conditions = append(conditions, fmt.Sprintf("%s.includes(%q)", statusText, w))
	}
	err := p.WaitFor(limit, strings.Join(conditions, " && "))
	text, readErr := lab.Evaluate[string](p.Browser, 5*time.Second, statusText)
	if err != nil {
		p.fail("reads %q, not %q (%v, %v)", text, words, err, readErr)
	}
	return text
}

// fail ends the test and keeps a picture of what the person saw.
func (p *person) fail(format string, args ...any) {
	p.t.Helper()
	dir := filepath.Join(projectRoot(p.t), "artefacts", "demo")
	path := filepath.Join(dir, strings.NewReplacer("/", "-", " ", "-").Replace(p.t.Name()+"-"+p.name)+".png")
	if err := os.MkdirAll(dir, 0o755); err == nil {
		err = p.Screenshot(path)
		p.t.Logf("what the %s saw: %s (%v)", p.name, path, err)
	}
	p.t.Fatalf("the %s %s", p.name, fmt.Sprintf(format, args...))
}

// screen returns the terminal's screen as it is now.
func screen(t *testing.T, terminal string) image.Image {
	t.Helper()
	r, err := http.Get(strings.TrimSuffix(terminal, "/") + "/screen")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("the terminal's screen: %s", r.Status)
	}
	img, _, err := image.Decode(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// seesCaller waits until the terminal's screen shows the caller's camera.
func seesCaller(t *testing.T, terminal string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) {
		if _, err = lab.FindCaller(screen(t, terminal)); err == nil {
			return
		}
	}
	t.Fatalf("the terminal's screen does not show the caller: %v", err)
}

// The demo as a person walks through it, from a folder that does not exist to the second start.
func TestDemo(t *testing.T) {
	top := t
	program := buildDemo(t)
	dir := filepath.Join(t.TempDir(), "state")
	d := startDemo(t, program, dir, "1s")
	clinician, terminal := newPerson(t, "clinician"), newPerson(t, "terminal")
	terminal.open(d.terminal)
	terminal.reads(20*time.Second, "Ready")
	used := d.clinician
	clinician.register(used)
	clinician.reads(20*time.Second, "No call")

	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			clinician.t, terminal.t = t, t
			f(t)
		})
		clinician.t, terminal.t = t, t
		if t.Failed() {
			t.FailNow() // the next step begins where this one should have ended
		}
	}
	calls := 0
	ring := func() {
		t.Helper()
		calls++
		clinician.click("Ring")
		terminal.reads(20*time.Second, "Anne Berg is calling", "nurse")
		clinician.reads(30*time.Second, "In call", "Home 17", "verified")
		terminal.reads(20*time.Second, "You are talking with Anne Berg", "test picture", "Camera and microphone are not in use")
		if err := clinician.WaitForFarEnd(30 * time.Second); err != nil {
			clinician.fail("sees nothing of the terminal: %v", err)
		}
	}
	hungUp := func(why string) {
		t.Helper()
		clinician.reads(10*time.Second, "ended", why)
		terminal.reads(10*time.Second, "ended", "camera is off")
	}

	step("a call is seen and heard on both sides", func(t *testing.T) {
		ring()
		end, err := clinician.Watch()
		if err != nil {
			t.Fatal(err)
		}
		seesCaller(t, d.terminal)
		rate, err := clinician.movement(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		watched, err := end()
		if err != nil {
			t.Fatal(err)
		}
		if rate < 5 {
			t.Errorf("the terminal's picture moves %.1f times a second", rate)
		}
		if loud := rms(watched.Sound); loud < 200 {
			t.Errorf("the terminal's sound is as good as silent: %.0f of 32767", loud)
		}
		stats, err := clinician.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if cipher := stats["transport.srtpCipher"]; !strings.Contains(cipher, "AEAD_AES_") {
			t.Errorf("SRTP by %q", cipher)
		}
		clinician.click("Hang up")
		hungUp("You hung up")
	})

	step("the record of the call is on the page", func(t *testing.T) {
		clinician.findsInRecord("You hung up.", "Anne Berg", "Home 17, Storgata", "AEAD_AES_", "The terminal's signed end:", "generated test signal")
		clinician.open(pages(d.clinician))
	})

	step("the terminal hangs up", func(t *testing.T) {
		ring()
		terminal.click("Hang up")
		hungUp("ended at the terminal")
	})

	step("through the relay alone", func(t *testing.T) {
		if err := clinician.Do(10*time.Second, chromedp.Evaluate[chromedp.Void]("document.querySelector('details.options').open = true; document.querySelector('#relay-only').click()")); err != nil {
			t.Fatal(err)
		}
		ring()
		seesCaller(t, d.terminal)
		clinician.click("Hang up")
		hungUp("You hung up")
		clinician.findsInRecord("through the clinic's relay", "relay – relay")
		clinician.open(pages(d.clinician))
	})

	step("the terminal dies in a call", func(t *testing.T) {
		ring()
		d.kill(t, "vindu-agent")
		clinician.reads(10*time.Second, "ended", "The terminal restarted during a call")
		terminal.reads(30*time.Second, "Ready")
	})

	step("the clinic dies in a call", func(t *testing.T) {
		ring()
		d.kill(t, "vindu-clinic")
		terminal.reads(10*time.Second, "ended", "camera is off")
		clinician.reads(10*time.Second, "ended", "clinic")
		terminal.reads(60*time.Second, "Ready")
	})

	code := func() string {
		t.Helper()
		text, err := lab.Evaluate[string](clinician.Browser, 10*time.Second, "document.querySelector('[data-code]').dataset.code")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	step("a second start finds its state", func(t *testing.T) {
		clinician.open(pages(d.clinician))
		before := code()
		d.stop(t)
		d = startDemo(top, program, dir, "0s")
		terminal.open(d.terminal)
		terminal.reads(20*time.Second, "Ready")
		clinician.open(pages(d.clinician)) // the session outlives the clinic's programs
		if after := code(); after != before {
			t.Errorf("the terminal was %s and is %s", before, after)
		}
		if n, err := lab.Evaluate[int](clinician.Browser, 10*time.Second, "document.querySelectorAll('#recent-calls li').length"); err != nil || n != calls {
			t.Errorf("%d earlier calls on the page, not %d (%v)", n, calls, err)
		}
		clinician.click("Ring")
		clinician.reads(20*time.Second, "In call", "verified")
		clinician.click("Hang up")
		hungUp("You hung up")
	})

	step("the invitation works once", func(t *testing.T) {
		stranger := newPerson(t, "stranger")
		stranger.open(used)
		if signedIn, err := lab.Evaluate[bool](stranger.Browser, 10*time.Second, "Boolean(document.querySelector('[data-home], form[data-passkey=create]'))"); err != nil || signedIn {
			t.Errorf("a used invitation let somebody in (%v)", err)
		}
	})

	step("the terminal is revoked in a call", func(t *testing.T) {
		ring()
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "vindu-clinic"), "revoke", "-dir", filepath.Join(dir, "clinic"), "-home", stack.Home, "-reason", "stolen")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("revoke: %v\n%s", err, out)
		}
		clinician.reads(5*time.Second, "ended", "The clinic has cut the home's terminal off.")
		terminal.reads(5*time.Second, "ended", "camera is off")
	})
	d.stop(t)
}

// pages returns the address of the clinician's page without the invitation.
func pages(invitation string) string {
	u, err := url.Parse(invitation)
	if err != nil {
		return invitation // it cannot be opened, which says so
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}).String()
}

// findsInRecord opens the newest call's record and reloads it until it holds all of the words: the halves arrive when they arrive.
func (p *person) findsInRecord(words ...string) {
	p.t.Helper()
	if err := p.WaitFor(15*time.Second, "!document.querySelector('#recent-calls .sentence').innerText.includes('running')"); err != nil {
		p.fail("does not see that the call is recorded")
	}
	address, err := lab.Evaluate[string](p.Browser, 10*time.Second, "document.querySelector('#recent-calls a').href")
	if err != nil {
		p.t.Fatal(err)
	}
	var missing string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); <-time.After(300 * time.Millisecond) {
		p.open(address)
		text, err := lab.Evaluate[string](p.Browser, 10*time.Second, "(document.querySelectorAll('details').forEach((d) => d.open = true), document.body.innerText)")
		if err != nil {
			p.t.Fatal(err)
		}
		missing = ""
		for _, w := range words {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
	}
	p.fail("does not find %q in the record", missing)
}
