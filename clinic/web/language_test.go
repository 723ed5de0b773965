package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/diagnosis"
	"vindu/protocol"
)

// A browser is answered in the language that was chosen in it, or in the one that it asks for.
func TestSpoken(t *testing.T) {
	for _, test := range []struct{ chosen, asked, want string }{
		{"", "", "en"},
		{"", "nb-NO,nb;q=0.9,en;q=0.8", "nb"},
		{"", "no", "nb"},
		{"", "nn-NO,nb;q=0.9", "nn"},
		{"", "en-GB,nb;q=0.5", "en"},
		{"", "fr-FR", "en"},
		{"", "fr-FR,nb;q=0.3", "nb"},
		{"", strings.Repeat("nb,", 200), "en"},
		{"", "\x00;;q=,", "en"},
		{"nb", "en-US", "nb"},
		{"en", "nb", "en"},
		{"xx-nothing", "nb", "nb"},
		{strings.Repeat("n", 4000), "nb", "nb"},
	} {
		r := &http.Request{Header: http.Header{}}
		r.Header.Set("Accept-Language", test.asked)
		if test.chosen != "" {
			r.AddCookie(&http.Cookie{Name: languageCookie, Value: test.chosen})
		}
		if got := languages[spoken(r)]; got != test.want {
			t.Errorf("chosen %.20q, asked for %.40q: %s, want %s", test.chosen, test.asked, got, test.want)
		}
	}
}

func TestLanguageIsChosen(t *testing.T) {
	c := newClinic(t)
	client := c.signedIn()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	choose := func(from, body, site string) (int, string) {
		t.Helper()
		status, _, header := c.request(client, http.MethodPost, "/language", body, map[string]string{
			"Content-Type": "application/x-www-form-urlencoded", "Referer": from, "Sec-Fetch-Site": site,
		})
		return status, header.Get("Location")
	}
	if status, _ := choose(c.server.URL+"/", "language=nb", "cross-site"); status != http.StatusForbidden {
		t.Errorf("another site chooses: %d", status)
	}
	if status, _ := choose(c.server.URL+"/", "language=xx", "same-origin"); status != http.StatusBadRequest {
		t.Errorf("a language that there is not: %d", status)
	}
	if _, body, _ := c.get(client, "/"); !strings.Contains(body, `<html lang="en">`) {
		t.Error("not in English before anything was chosen")
	}
	for from, want := range map[string]string{
		c.server.URL + "/passkeys?a=b":        "/passkeys?a=b",
		c.server.URL + "/nowhere":             "/",
		c.server.URL + "/technician/vouchers": "/", // which is there for forms alone
		"https://elsewhere.example/passkeys":  "/",
		c.server.URL + "//elsewhere.example":  "/",
		"":                                    "/",
		":":                                   "/",
	} {
		if status, to := choose(from, "language=nb", "same-origin"); status != http.StatusSeeOther || to != want {
			t.Errorf("from %q: %d, to %q, want %q", from, status, to, want)
		}
	}
	if _, body, _ := c.get(client, "/"); !strings.Contains(body, `<html lang="nb">`) || !strings.Contains(body, "Siste samtaler") {
		t.Error("not in Bokmål after it was chosen")
	}
	if status, body, _ := c.get(c.client(), "/sign-in"); status != http.StatusOK || !strings.Contains(body, `<html lang="en">`) {
		t.Errorf("another browser is answered in the language that this one chose: %d", status)
	}
}

// In another language nothing of a call stays English: neither the page, nor what it says while it runs, nor what became of it.
func TestLanguageOfACall(t *testing.T) {
	c := newClinic(t)
	other, err := loadWords("nb")
	if err != nil {
		t.Fatal(err)
	}
	b := c.open()
	says := func(text string) {
		t.Helper()
		b.until(`document.body.innerText.includes(` + quote(text) + `)`)
	}
	english := func(where string) {
		t.Helper()
		w, err := loadWords("en")
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]bool{}
		for _, text := range eval[[]string](b, `(() => {
			const all = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
			while (walk.nextNode()) if (!walk.currentNode.parentElement.closest("script, template, footer")) all.push(walk.currentNode.textContent.trim());
			return all;
		})()`) {
			shown[text] = true
		}
		for key, sentence := range w {
			before, _, _ := strings.Cut(sentence, "{")
			for text := range shown {
				if otherBefore, _, _ := strings.Cut(other[key], "{"); otherBefore != before && (text == sentence || len(before) > 10 && strings.HasPrefix(text, before)) {
					t.Errorf("%s says in English: %s", where, text)
				}
			}
		}
	}
	b.button("Norsk bokmål")
	b.until(`document.documentElement.lang === "nb" && document.body.dataset.ready === "yes"`)
	english("the first page")
	b.look("homes, nb")
	b.button(other["homes.ring"])
	f := newTerminal(t, c, c.placed())
	f.ring()
	says("Det ringer")
	f.answer()
	says("I samtale med")
	b.look("in-call, nb")
	english("a call")
	if eval[bool](b, `document.querySelector("footer form").checkVisibility()`) {
		t.Error("who chooses another language in a call would end it")
	}
	f.check(f.call.End(protocol.EndPatientHungUp, c.key))
	says("Samtalen er slutt")
	b.look("call-ended, nb")
	english("a call's end")

	c.calls.Hold(protocol.EgressUDP)
	c.calls.Refuse(&calls.Failure{Code: protocol.ICEFailed})
	b.forgive("409 (Conflict)")
	b.button(other["homes.ring"])
	d := diagnosis.Diagnose(diagnosis.Evidence{Outcome: protocol.ICEFailed, Held: []protocol.Code{protocol.EgressUDP}}).In("nb")
	says(d.Sentence())
	says(d.Now)
}

// TestDecimal: numbers are written as the page's language does.
func TestDecimal(t *testing.T) {
	for tag, want := range map[string]string{"en": "0.5 0.50 3 +0.01 s", "nb": "0,5 0,50 3 +0,01 s", "nn": "0,5 0,50 3 +0,01 s"} {
		w, err := loadWords(tag)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join([]string{w.decimal(0.5, -1), w.decimal(0.5, 2), w.decimal(3, -1), w.after(10 * time.Millisecond)}, " "); got != want {
			t.Errorf("%s: %q, want %q", tag, got, want)
		}
	}
}
