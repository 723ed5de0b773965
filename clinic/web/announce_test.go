package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vindu/clinic/web/webtest"
)

// TestAnnounce: a clinician tells a home when she calls, everybody who may call it sees so, and the call itself, or she, takes it back.
func TestAnnounce(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	run := func(script string) {
		t.Helper()
		if !eval[bool](b, "("+script+", true)") {
			t.Fatal(script)
		}
	}
	run(`document.querySelector("details.announce summary").click()`)
	run(`document.querySelector("form[data-announce] [name=at]").value = "15:00"`)
	b.look("homes, announcing")
	b.button("Tell")
	b.until(`document.querySelector("[data-kind=told]")?.textContent.endsWith("Anne Berg, nurse, calls at 15:00.")`)
	b.until(`document.querySelector(".announce .said").textContent === "The home's screen says so as soon as the home is online."`)
	if got := <-c.told; got != c.home.Terminal {
		t.Errorf("terminal %s was told", got.Code())
	}
	all, err := c.register.Announced(t.Context())
	if a := all[c.home.ID]; err != nil || a.Person != c.person || a.At.Format("15:04") != "15:00" || time.Until(a.At) > 24*time.Hour || time.Until(a.At) < 0 {
		t.Errorf("announced %+v, %v", all, err)
	}
	b.look("homes, announced")
	if body := eval[string](b, `(() => { const r = new XMLHttpRequest(); r.open("GET", "/", false); r.send(); return r.responseText; })()`); !strings.Contains(body, "Anne Berg, nurse, calls at 15:00.") {
		t.Error("whoever opens the page later is not told")
	}
	b.button("Take it back")
	b.until(`!document.querySelector("[data-kind=told]") && document.querySelector(".announce .said").textContent .startsWith("Taken back")`)
	<-c.told

	if err := c.register.Announce(t.Context(), c.home.ID, c.person, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.button("Ring")
	newTerminal(t, c, c.placed()).ring()
	b.says("Ringing")
	if all, err := c.register.Announced(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after the call has come: %v, %v", all, err)
	}
}

// TestAnnounceRefused: who may not call a home tells it nothing, and what is no time is none.
func TestAnnounceRefused(t *testing.T) {
	c := newClinic(t)
	other := c.register.AddHome("Home 99, Hemmelig", webtest.NewKey())
	c.authorisations.Cover(other.ID, false)
	client := c.signedIn()
	for _, test := range []struct {
		home, body string
		want       int
	}{
		{other.ID, `{"at": "15:00"}`, http.StatusForbidden}, {other.ID, `{"at": ""}`, http.StatusForbidden}, {"there is none", `{"at": "15:00"}`, http.StatusForbidden},
		{c.home.ID, `{"at": "25:00"}`, http.StatusBadRequest}, {c.home.ID, `{"at": "three"}`, http.StatusBadRequest}, {c.home.ID, `{"name": "Anne"}`, http.StatusBadRequest},
		{c.home.ID, `{"at": "15:00"}`, http.StatusNoContent},
	} {
		status, _, _ := c.request(client, http.MethodPost, "/api/homes/"+strings.ReplaceAll(test.home, " ", "%20")+"/announcement", test.body, map[string]string{"Sec-Fetch-Site": "same-origin"})
		if status != test.want {
			t.Errorf("%s of %s: %d, want %d", test.body, test.home, status, test.want)
		}
	}
	if all, err := c.register.Announced(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("told %v, %v", all, err)
	}
	if status, _, _ := c.request(c.client(), http.MethodPost, "/api/homes/"+c.home.ID+"/announcement", `{"at": ""}`, map[string]string{"Sec-Fetch-Site": "same-origin"}); status != http.StatusUnauthorized {
		t.Errorf("nobody: %d", status)
	}
	if got := len(c.told); got != 1 {
		t.Errorf("%d terminals were told", got)
	}
}

// TestNextTime: a time is today's, or tomorrow's if it is over, also over the nights in which clocks are changed.
func TestNextTime(t *testing.T) {
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ now, clock, want string }{
		{"2026-11-22 12:00", "15:00", "2026-11-22 15:00"}, {"2026-11-22 15:00", "15:00", "2026-11-22 15:00"}, {"2026-11-22 15:01", "15:00", "2026-11-23 15:00"},
		{"2026-12-31 20:00", "09:30", "2027-01-01 09:30"}, {"2026-03-28 20:00", "09:00", "2026-03-29 09:00"}, {"2026-10-24 20:00", "09:00", "2026-10-25 09:00"},
	} {
		now, err := time.ParseInLocation("2006-01-02 15:04", test.now, oslo)
		if err != nil {
			t.Fatal(err)
		}
		clock, err := time.Parse("15:04", test.clock)
		if err != nil {
			t.Fatal(err)
		}
		if got := coming(clock, now).Format("2006-01-02 15:04"); got != test.want {
			t.Errorf("%s at %s: %s, want %s", test.clock, test.now, got, test.want)
		}
	}
}

// TestTold: what pages say of a home, today and tomorrow.
func TestTold(t *testing.T) {
	c := newClinic(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	for at, want := range map[time.Time]string{
		now.Add(3 * time.Hour):  "Announced to the home: Anne Berg, nurse, calls at 15:00.",
		now.Add(21 * time.Hour): "Announced to the home, for tomorrow: Anne Berg, nurse, calls at 09:00.",
	} {
		if err := c.register.Announce(t.Context(), c.home.ID, c.person, at); err != nil {
			t.Fatal(err)
		}
		homes := []homeView{{ID: "another"}, {ID: c.home.ID}}
		if err := c.web.told(t.Context(), homes, now); err != nil || len(homes[0].Notes) != 0 || fmt.Sprint(homes[1].Notes) != fmt.Sprint([]noteView{{"told", want, ""}}) {
			t.Errorf("%+v, %v", homes, err)
		}
	}
}
