package web

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// TestScope: a clinician sees the homes that may be called, and hears of no other, whatever happens to it.
func TestScope(t *testing.T) {
	c := newClinic(t)
	other, key := c.register.AddHome("Home 99, Hemmelig", nil), webtest.NewKey()
	c.authorisations.Cover(other.ID, false)
	b := c.open(`window.heard = []; { const Native = EventSource; window.EventSource = class extends Native {
		constructor(...a) { super(...a); for (const n of ["homes", "rights"]) this.addEventListener(n, (e) => window.heard.push(e.data)); } } }`)
	listed := func() []string {
		return eval[[]string](b, `[...document.querySelectorAll("[data-home]")].map((e) => e.dataset.home)`)
	}
	if got := listed(); !slices.Equal(got, []string{c.home.ID}) {
		t.Fatalf("homes %v", got)
	}
	c.register.Exchange(other.ID, key) // which is news of it
	_, terminal := webtest.Public(key)
	c.fleet.Set(online(terminal))
	h := online(c.home.Terminal)
	h.Health.InCall = true
	c.fleet.Set(h) // and of the other
	b.until(`document.querySelector("[data-slot=word]").textContent === "In a call"`)
	if leaked := eval[bool](b, fmt.Sprintf(`document.documentElement.outerHTML.includes("Hemmelig") || window.heard.join().match(/%s|%s/) !== null`, terminal.Name(), `"`+other.ID+`"`)); leaked {
		t.Errorf("told of a home that may not be called: %s", eval[string](b, `window.heard.join()`))
	}
	c.fleet.Set(online(c.home.Terminal))

	c.authorisations.Cover(other.ID, true)
	c.web.RightsChanged(c.person)
	b.until(`document.body.dataset.ready === "yes" && document.querySelectorAll("[data-home]").length === 2`)

	c.authorisations.Cover(c.home.ID, false)
	c.web.RightsChanged(c.person)
	b.until(`document.querySelectorAll("[data-home]").length === 1`)
	if got := listed(); !slices.Equal(got, []string{other.ID}) {
		t.Errorf("homes %v", got)
	}
	c.authorisations.Refuse(protocol.WithCode(protocol.AuthNone, errors.New("withdrawn")))
	c.web.RightsChanged(c.person)
	b.until(`document.querySelectorAll("[data-home]").length === 0 && document.getElementById("right").checkVisibility() && document.getElementById("no-homes").hidden`)
	b.look("homes, no right")
	reload(b)
	if eval[bool](b, `document.querySelectorAll("[data-home]").length > 0 || !document.getElementById("right").textContent.startsWith("You may not call any home now")`) {
		t.Error("after it was loaded again, the page is another")
	}
	b.forgive("403 (Forbidden)")
}

// TestCallBesideScope: who asks for a home that may not be called learns as little as who asks for one that is not there, and it is in the audit log.
func TestCallBesideScope(t *testing.T) {
	c := newClinic(t)
	other := c.register.AddHome("Home 99, Hemmelig", webtest.NewKey())
	c.authorisations.Cover(other.ID, false)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	defer client.CloseIdleConnections()
	response, err := client.Get(c.link())
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for _, home := range []string{other.ID, "there is none"} {
		body := fmt.Sprintf(`{"home": %q, "page": %q, "offer": "v=0", "invitation": "", "assertion": {}}`, home, strings.Repeat("0a", 16))
		response, err := client.Post(c.server.URL+"/api/calls", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden || response.Header.Get(protocol.FailureHeader) != string(protocol.AuthNone) {
			t.Errorf("%s: %s, %s", home, response.Status, response.Header.Get(protocol.FailureHeader))
		}
	}
	for _, home := range []string{other.ID, "there is none"} {
		body := fmt.Sprintf(`{"home": %q, "half": {"version": 1, "by": "caller", "began": 1, "outcome": "browser.failed"}}`, home)
		response, err := client.Post(c.server.URL+"/api/calls/"+protocol.NewCallID().String()+"/attempt", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("attempt at %s: %s", home, response.Status)
		}
	}
	if list, err := c.calls.Records(t.Context(), c.person, 9); err != nil || len(list) != 0 {
		t.Errorf("on record is %+v, %v", list, err)
	}
	if len(c.calls.Placed) != 0 {
		t.Error("a home was called")
	}
	if what := c.audit.What(); !slices.Contains(what, audit.PageRefused) {
		t.Errorf("audit log: %v", what)
	}
}

// TestScopeUnknown: where it cannot be found out what a person may see, nothing is shown.
func TestScopeUnknown(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	c.authorisations.Refuse(errors.New("disk"))
	b.forgive("500 (Internal Server Error)")
	response := eval[[]any](b, `(async () => { const r = await fetch("/"); return [r.status, (await r.text()).includes("data-home")] })()`)
	if response[0] != 500.0 || response[1] != false {
		t.Errorf("page: %v", response)
	}
	if got := eval[float64](b, `(async () => (await fetch("/events?page=" + "0b".repeat(16))).status)()`); got != 500 {
		t.Errorf("stream: %v", got)
	}
}

// TestRightEndsSoon: the page says in time that the right to call ends, on the list and in a call; and ends that call if nobody else does.
func TestRightEndsSoon(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call")
	if eval[bool](b, `document.getElementById("ends").checkVisibility() || document.getElementById("right").checkVisibility()`) {
		t.Error("speaks of an end that is a week away")
	}
	b.button("Hang up")
	b.says("You hung up")
	receive(t, c.calls.HungUp)

	c.authorisations.Change(func(a *protocol.Authorisation) { a.To = protocol.At(time.Now().Add(10 * time.Second)) })
	c.web.RightsChanged(c.person)
	b.until(`document.getElementById("right").textContent.startsWith("Your right to call homes holds until ")`)
	b.look("homes, right ends")
	b.button("Ring")
	f = newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call")
	b.until(`document.getElementById("ends").checkVisibility() && document.getElementById("ends").textContent.startsWith("Your right to call this home ends at ")`)
	b.look("in-call, right ends")
	b.says("The call has ended: Your right to call this home ended during the call.")
	hungUp := receive(t, c.calls.HungUp)
	if hungUp.Reason != protocol.EndLapsed {
		t.Errorf("hung up for %s", hungUp.Reason)
	}
	f.callerEnds(hungUp)
	b.until(`!document.getElementById("ends").checkVisibility()`)
	b.look("call-ended, right ended")
	b.forgive("403 (Forbidden)")
}

// TestSignedOutInCall: a session does not outlive its passkey, and a page that is in a call says that this is why.
func TestSignedOutInCall(t *testing.T) {
	for _, x := range []struct {
		name string
		out  func(c *clinic, b *tab)
		want string
	}{
		{"signed out by an administrator", func(c *clinic, _ *tab) {
			if err := c.sessions.End(t.Context(), "test", c.person); err != nil {
				t.Fatal(err)
			}
		}, "The call has ended: You were signed out."},
		{"the passkey is gone", func(c *clinic, _ *tab) {
			if err := c.sessions.store.Write(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), "UPDATE web_sessions SET passkey = x'01'") // which is nobody's
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, "The call has ended: The passkey by which you made this call was removed."},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open()
			b.forgive("401 (Unauthorized)")
			b.button("Ring")
			f := newTerminal(t, c, c.placed())
			f.ring()
			f.answer()
			b.says("In call")
			x.out(c, b)
			c.web.Dismiss(c.person)
			b.says(x.want)
			b.until(`document.getElementById("self").srcObject === null`)
			b.until(`document.getElementById("banner").textContent === "You are no longer signed in. Load this page again to sign in."`)
		})
	}
}
