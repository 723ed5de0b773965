package web

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/alerts"
	"vindu/clinic/fleet"
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
	eval[bool](b, `document.querySelector("details[data-key=decommission]").open = true`)
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

// What changes with every beat is no news; what an operator has to see is.
func TestNews(t *testing.T) {
	d, home := homeOfTest(t, false)
	service, err := alerts.New(t.Context(), alerts.Config{Store: d.store, Audit: d.audit, Homes: d.register, Log: d.options.Log})
	if err != nil {
		t.Fatal(err)
	}
	d.options.Marks = service
	if d.pages, err = New(d.options); err != nil {
		t.Fatal(err)
	}
	look := func() *posting {
		t.Helper()
		v, err := d.pages.overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// as a terminal that tells anew how it is: nothing that it told before is changed in place
	set := func(change func(*fleet.State)) func() {
		return func() {
			s := d.fleet.State(home.Terminal)
			h := *s.Health
			s.Health = &h
			change(&s)
			d.fleet.Set(s)
		}
	}
	for _, x := range []struct {
		name   string
		change func()
		news   bool
	}{
		{"nothing", func() {}, false},
		{"a round trip", set(func(s *fleet.State) {
			s.Heard, s.RoundTrip = time.Now().Add(25*time.Second), time.Now().Add(25*time.Second)
		}), false},
		{"a refused message", set(func(s *fleet.State) { s.Malformed++; s.Health.Malformed++ }), false},
		{"clocks and measurements", set(func(s *fleet.State) {
			s.Health.At, s.Health.Uptime, s.Health.Pending, s.Health.Dropped = s.Health.At+60_000, s.Health.Uptime+60, 7, 1
			s.Health.Figures = &protocol.Figures{Heat: 61}
		}), false},
		{"a call", set(func(s *fleet.State) { s.Health.InCall = true }), true},
		{"the shutter", set(func(s *fleet.State) { s.Health.Covered = true }), true},
		{"a rehearsal", set(func(s *fleet.State) {
			at := protocol.At(time.Now())
			s.Health.Rehearsed = s.Health.Rehearsed.With(at, true, protocol.RehearsalPart{Name: "call.direct", At: at, State: protocol.CheckPassed})
		}), true},
		{"another board", set(func(s *fleet.State) { s.Health.About = &protocol.About{Board: "another", Kernel: "6.12.20"} }), true},
		{"software", set(func(s *fleet.State) { s.Software = "vindu-agent 0.2.0"; s.Health.Software = s.Software }), true},
		{"a condition", set(func(s *fleet.State) { s.Health.Conditions = nil }), true},
		{"an operator's word", func() {
			if err := service.Mark(t.Context(), "operator", home.Terminal, protocol.HeatHot, time.Now(), time.Time{}, "a fan is ordered"); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"offline", set(func(s *fleet.State) { s.Online = false }), true},
	} {
		d.pages.news.post(look())
		changed := d.pages.news.next()
		x.change()
		d.pages.news.post(look())
		select {
		case <-changed:
			if !x.news {
				t.Errorf("%s: pages are fetched anew", x.name)
			}
		default:
			if x.news {
				t.Errorf("%s: no page learns of it", x.name)
			}
		}
	}
}

// heardStream counts what a stream has said.
type heardStream struct {
	*httptest.ResponseRecorder
	changed atomic.Int32
}

func (w *heardStream) SetWriteDeadline(time.Time) error { return nil }
func (w *heardStream) FlushError() error                { return nil }

func (w *heardStream) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("event: changed")) {
		w.changed.Add(1)
	}
	return len(b), nil
}

// What is no news is at most a minute old on an open page, and nothing else has it fetched.
func TestOpenPageIsRenewed(t *testing.T) {
	d := newDesk(t)
	client := d.signedIn("operator")
	u, err := url.Parse(d.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		pages, err := New(d.options) // in the bubble, as its channels have to be
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, d.server.URL+"/operator/events?page="+strings.Repeat("0", 32), nil)
		for _, c := range client.Jar.Cookies(u) {
			r.AddCookie(&http.Cookie{Name: cookieName(r), Value: c.Value}) // the request has no port
		}
		v, err := pages.visitor(r)
		if err != nil {
			t.Fatal(err)
		}
		w := &heardStream{ResponseRecorder: httptest.NewRecorder()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			pages.live(w, r, v)
		}()
		for minute := range int32(3) {
			time.Sleep(time.Minute - time.Second) // allowed: in a bubble
			synctest.Wait()
			if n := w.changed.Load(); n != minute {
				t.Errorf("fetched %d times within %d minutes", n, minute)
			}
			time.Sleep(time.Second) // allowed: in a bubble
			synctest.Wait()
			if n := w.changed.Load(); n != minute+1 {
				t.Errorf("after %d minutes it was fetched %d times", minute+1, n)
			}
		}
		cancel()
		<-done
	})
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
