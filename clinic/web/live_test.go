package web

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
)

// run has the pages follow the fleet and the register.
func (d *desk) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.pages.Run(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
		d.server.CloseClientConnections()
	})
}

// An operator's open page learns of alarms and states by itself, and leaves alone what is being typed.
func TestOperatorPageIsLive(t *testing.T) {
	d := newDesk(t)
	d.run()
	ctx := t.Context()
	enrolled := func(label string) protocol.KeyHash {
		v, err := d.setup.Voucher(ctx, "administrator", label, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, terminal, err := d.enrol(string(v.Text))
		if err != nil {
			t.Fatal(err)
		}
		return terminal
	}
	first, second := enrolled("Home 17, Storgata"), enrolled("Home 18, Kirkeveien")
	if err := d.register.Raise(ctx, protocol.IdentityClone, first, "enrolment with voucher 00"); err != nil {
		t.Fatal(err)
	}
	b := newTab(t)
	navigate(b, d.link("Ola Dahl", "operator"))
	b.until(`document.body.dataset.live`)
	b.until(`document.title.startsWith("(1) ")`)
	b.keys("#note-1", "a copied ca")
	if err := d.register.Raise(ctx, protocol.IdentityTwice, second, "two in turn"); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelectorAll(".alarm").length === 2 && document.title.startsWith("(2) ")`)
	b.until(`document.querySelector("[role=status]").textContent === "2 alarms are open."`)
	if got := eval[string](b, `document.getElementById("note-1").value + "|" + document.activeElement.id`); got != "a copied ca|note-1" {
		t.Errorf("what was typed: %q", got)
	}
	d.fleet.Set(online(second))
	b.until(`[...document.querySelectorAll("[data-key]")].some((e) => e.textContent.includes("Home 18") && e.dataset.state === "ready")`)
	if err := d.register.Settle(ctx, "Kari", 2, "a laptop of ours"); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelectorAll(".alarm").length === 1`)
	b.keys("#note-1", "rd")
	b.button("Settle this alarm")
	b.until(`document.querySelector("[role=status]")?.textContent === "No alarm is open."`)
	if _, page := d.get(d.signedIn("operator"), "/operator"); !strings.Contains(page, "a copied card") {
		t.Error("the note did not arrive as it was typed")
	}

	// A home's page too.
	homes, err := d.register.Homes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	navigate(b, d.server.URL+"/operator/homes/"+homes[0].ID)
	b.until(`document.body.dataset.live`)
	eval[bool](b, `document.querySelector("details.action").open = true`)
	b.keys("#why-decommission", "returned")
	if err := d.register.Revoke(ctx, "Kari", first, "stolen"); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelector("main").textContent.includes("stolen")`)

	// Who is no longer an operator is no longer told.
	if _, err := d.register.Assign(ctx, "Kari", protocol.Party{Name: "Ola Dahl", Role: "operator", Organisation: "Solvik clinic"}, "technician"); err != nil {
		t.Fatal(err)
	}
	if err := d.register.Raise(ctx, protocol.IdentityTwice, second, "two in turn"); err != nil {
		t.Fatal(err)
	}
	b.until(`!document.getElementById("banner").hidden`)
	b.forgive("404 (Not Found)", "403 (Forbidden)")
}

// A page that shows a secret shows it once: loaded again it neither shows it nor issues another.
func TestShownOnce(t *testing.T) {
	d := newDesk(t)
	c := d.signedIn("technician")
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.server.URL+"/technician/vouchers", strings.NewReader(url.Values{"label": {"Home 17"}, "life": {"1h"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	path := answer.Header.Get("Location")
	if answer.StatusCode != http.StatusSeeOther || path == "" {
		t.Fatalf("%d to %q", answer.StatusCode, path)
	}
	if status, page := d.get(d.signedIn("technician"), path); status != http.StatusGone || strings.Contains(page, "vindu-voucher-1.") {
		t.Errorf("to another session: %d", status)
	}
	if status, page := d.get(c, path); status != http.StatusOK || !strings.Contains(page, "vindu-voucher-1.") {
		t.Errorf("at first: %d", status)
	}
	if status, page := d.get(c, path); status != http.StatusGone || strings.Contains(page, "vindu-voucher-1.") {
		t.Errorf("again: %d", status)
	}
	if list, err := d.register.Vouchers(t.Context(), "", 10); err != nil || len(list) != 1 {
		t.Errorf("%d vouchers, %v", len(list), err)
	}
	var g onces
	now := time.Now()
	name := g.put("a", grantView{}, now)
	if _, ok := g.take("a", name, now.Add(grantLife)); ok {
		t.Error("shown after its time")
	}
	for range 3 * maxGrants {
		g.put("a", grantView{}, now)
	}
	if len(g.wait) > maxGrants {
		t.Errorf("%d wait", len(g.wait))
	}
}

// Nobody is signed in, or signed in as another, by a link of another site or unasked.
func TestEnterAsks(t *testing.T) {
	d := newDesk(t)
	get := func(c *http.Client, link, site string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", site)
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var b strings.Builder
		if _, err := io.Copy(&b, answer.Body); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar}
	t.Cleanup(c.CloseIdleConnections)
	link := d.link("Kari Nes", "technician")
	for range 2 {
		if page := get(c, link, "cross-site"); !strings.Contains(page, "Sign in as Kari Nes") {
			t.Errorf("from another site: %s", page)
		}
	}
	if status, _ := d.post(c, strings.TrimPrefix(link, d.server.URL), nil); status != http.StatusOK {
		t.Errorf("by the button: %d", status)
	}
	if status, page := d.get(c, "/technician"); status != http.StatusOK || !strings.Contains(page, "Kari Nes") {
		t.Errorf("then: %d", status)
	}
	other := d.link("Ola Dahl", "operator")
	if page := get(c, other, "same-site"); !strings.Contains(page, "Kari Nes is signed in at this browser now") {
		t.Errorf("in another's place: %s", page)
	}
	if status, _ := d.get(c, "/technician"); status != http.StatusOK {
		t.Error("signed out unasked")
	}
	empty, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh := &http.Client{Jar: empty}
	t.Cleanup(fresh.CloseIdleConnections)
	if page := get(fresh, other, "none"); !strings.Contains(page, "Terminals and alarms") {
		t.Errorf("opened by the person: %s", page)
	}
	if page := get(c, other, "cross-site"); strings.Contains(page, "Sign in as") {
		t.Errorf("a link that was used: %s", page)
	}
}
