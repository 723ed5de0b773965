package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vindu/clinic/fleet"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// TestRehearsed: what a clinician reads of a rehearsal, and when a terminal is not even asked.
func TestRehearsed(t *testing.T) {
	english, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2027, 1, 15, 9, 0, 0, 0, time.Local)
	at := protocol.At(time.Date(2027, 1, 15, 2, 10, 0, 0, time.Local))
	part := func(name string, code protocol.Code) protocol.RehearsalPart {
		p := protocol.RehearsalPart{Name: name, At: at, State: protocol.CheckPassed, Code: code}
		if code != "" {
			p.State = protocol.CheckFailed
		}
		return p
	}
	for _, c := range []struct {
		parts []protocol.RehearsalPart
		want  string
	}{
		{nil, ""},
		{[]protocol.RehearsalPart{part("call.direct", ""), part("call.relayed", "")}, "Ready, rehearsed 02:10."},
		{[]protocol.RehearsalPart{part("call.direct", protocol.ICEFailed), part("call.relayed", "")}, "Ready, rehearsed 02:10."},
		{[]protocol.RehearsalPart{part("call.direct", ""), part("call.relayed", protocol.ICEFailed)}, "Ready, rehearsed 02:10; but: No relayed path in the rehearsal."},
		{[]protocol.RehearsalPart{part("call.direct", protocol.ICEFailed), part("call.relayed", protocol.EgressRelay)}, "A rehearsed call failed 02:10: No path for the media."},
	} {
		r := &protocol.Rehearsal{Version: protocol.Version, At: at, Parts: c.parts}
		if got := english.rehearsed(r, true, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		was := strings.NewReplacer("Ready, rehearsed ", "It was ready when it last rehearsed, ").Replace(c.want)
		if got := english.rehearsed(r, false, now); got != was {
			t.Errorf("%q, want %q", got, was)
		}
		for _, f := range english.rehearsals(r, now) {
			if f.Name == "" || f.Value == "" || strings.Contains(f.Value, "{") {
				t.Errorf("%+v", f)
			}
		}
	}
	for _, c := range []struct {
		s    fleet.State
		want string
	}{
		{fleet.State{}, "rehearsal.offline"},
		{fleet.State{Online: true}, ""},
		{fleet.State{Online: true, Health: &protocol.Health{InCall: true}}, "rehearsal.busy"},
		{fleet.State{Online: true, Health: &protocol.Health{Rehearsed: &protocol.Rehearsal{Asked: true, At: protocol.At(now.Add(-time.Minute))}}}, "rehearsal.soon"},
		{fleet.State{Online: true, Health: &protocol.Health{Rehearsed: &protocol.Rehearsal{At: protocol.At(now.Add(-time.Minute))}}}, ""},
		{fleet.State{Online: true, Health: &protocol.Health{Rehearsed: &protocol.Rehearsal{Asked: true, At: protocol.At(now.Add(-time.Hour))}}}, ""},
	} {
		if got := cannotRehearse(c.s, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestOldRehearsals: that a terminal is ready is said of one that is there, by a rehearsal that is not old; and where it should have rehearsed since, that it has not.
func TestOldRehearsals(t *testing.T) {
	now := time.Now()
	night := &protocol.Window{From: 23 * 60, To: 1 * 60}
	const was, late = "It was ready when it last rehearsed", "It should rehearse every night"
	for _, x := range []struct {
		name   string
		window *protocol.Window
		age    time.Duration
		online bool
		state  string // how it is rehearsed, for a result
		caller string // what the caller reads; "": nothing
		kind   string
		late   bool
	}{
		{"last night", night, 20 * time.Hour, true, protocol.CheckPassed, "Ready, rehearsed ", "rehearsal", false},
		{"at the beginning of one night, and at the end of the next", night, 26*time.Hour + time.Minute, true, protocol.CheckPassed, "Ready, rehearsed ", "rehearsal", false},
		{"not last night", night, 28*time.Hour + time.Minute, true, protocol.CheckPassed, was, "warn", true},
		{"failed three weeks ago", night, 21 * 24 * time.Hour, true, protocol.CheckFailed, "A rehearsed call failed ", "warn", true},
		{"asked for yesterday", nil, 35 * time.Hour, true, protocol.CheckPassed, "Ready, rehearsed ", "rehearsal", false},
		{"asked for three weeks ago", nil, 21 * 24 * time.Hour, true, protocol.CheckPassed, was, "rehearsal", false},
		{"offline since", night, time.Hour, false, protocol.CheckPassed, "", "", false},
		{"offline for long", night, 21 * 24 * time.Hour, false, protocol.CheckPassed, "", "", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			d := newDesk(t)
			v, err := d.setup.Voucher(t.Context(), "administrator", "Home 17, Storgata", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			_, terminal, err := d.enrol(string(v.Text))
			if err != nil {
				t.Fatal(err)
			}
			at, code := protocol.At(now.Add(-x.age)), protocol.Code("")
			if x.state == protocol.CheckFailed {
				code = protocol.ICEFailed
			}
			s := online(terminal)
			s.Online = x.online
			s.Health.Rehearsed = (*protocol.Rehearsal)(nil).With(at, false, protocol.RehearsalPart{Name: "call.relayed", At: at, State: x.state, Code: code})
			d.fleet.Set(s)
			d.options.Rehearsals = x.window
			if d.pages, err = New(d.options); err != nil {
				t.Fatal(err)
			}
			homes, err := d.pages.tongues[0].read(t.Context())
			if err != nil || len(homes) != 1 {
				t.Fatal(homes, err)
			}
			var said []noteView
			for _, n := range homes[0].Notes {
				if strings.Contains(n.Text, "rehearsed") {
					said = append(said, n)
				}
			}
			switch {
			case x.caller == "" && len(said) == 0:
			case len(said) != 1 || x.caller == "" || !strings.HasPrefix(said[0].Text, x.caller) || said[0].Kind != x.kind || strings.HasPrefix(said[0].Next, late) != x.late:
				t.Errorf("a caller reads %+v", said)
			}
			_, page := d.get(d.signedIn("operator"), "/operator/homes/"+homes[0].ID)
			want := x.caller
			if want == "" {
				want = was
			}
			if !strings.Contains(page, want) || strings.Contains(page, late) != x.late {
				t.Errorf("an operator reads neither %q nor what is right of late %v", want, x.late)
			}
		})
	}
}

// TestAnswerToRehearseNow: what was answered goes when the result comes, when the home is not as it was, and when a call begins; and nobody asks a home that would not.
func TestAnswerToRehearseNow(t *testing.T) {
	c := newClinic(t)
	s := online(c.home.Terminal)
	c.fleet.Set(s)
	b := c.open()
	const said = `document.querySelector("form[data-rehearse] .said").textContent`
	state := func(word string, mayAsk bool) {
		t.Helper()
		b.until(fmt.Sprintf(`document.querySelector("[data-home] .chip").textContent === %q && document.querySelector("form[data-rehearse] button").disabled === %v`, word, !mayAsk))
	}
	ask := func() {
		t.Helper()
		b.button("Rehearse now")
		b.until(said + `.startsWith("It is asked to rehearse")`)
	}
	state("Ready", true)
	ask()
	other := s
	other.Health = new(protocol.Health)
	*other.Health = *s.Health
	at := protocol.At(time.Now().Add(-time.Hour))
	other.Health.Rehearsed = (*protocol.Rehearsal)(nil).With(at, false, protocol.RehearsalPart{Name: "call.relayed", At: at, State: protocol.CheckPassed})
	c.fleet.Set(other)
	b.until(`document.querySelector("[data-home] .notes").textContent.includes("Ready, rehearsed ")`)
	b.until(said + ` === ""`)

	ask()
	s.Online = false
	c.fleet.Set(s)
	state("Offline", false)
	b.until(said + ` === ""`)

	c.fleet.Set(other)
	state("Ready", true)
	ask()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	b.says("Ringing")
	state("Ready", false)
	b.until(said + ` === ""`)
	b.button("Hang up")
	state("Ready", true)
}

// TestRehearseNow: a terminal is asked for homes of the person's own alone, and where it is known that it would not, why is said.
func TestRehearseNow(t *testing.T) {
	c := newClinic(t)
	other := c.register.AddHome("Home 99, Elsewhere", webtest.NewKey())
	c.authorisations.Cover(other.ID, false)
	client := c.signedIn()
	ask := func(home string) (int, string) {
		status, _, header := c.request(client, http.MethodPost, "/api/homes/"+home+"/rehearsal", "{}", map[string]string{"Sec-Fetch-Site": "same-origin"})
		return status, header.Get(protocol.FailureHeader)
	}
	s := online(c.home.Terminal)
	for _, x := range []struct {
		name   string
		home   string
		change func()
		status int
		code   protocol.Code
	}{
		{"another's home", other.ID, func() {}, http.StatusForbidden, protocol.AuthNone},
		{"the own", c.home.ID, func() {}, http.StatusNoContent, ""},
		{"in a call", c.home.ID, func() { s.Health.InCall = true }, http.StatusConflict, protocol.AnswerBusy},
		{"offline", c.home.ID, func() { s.Online = false }, http.StatusConflict, protocol.SignalOffline},
	} {
		x.change()
		c.fleet.Set(s)
		if status, code := ask(x.home); status != x.status || code != string(x.code) {
			t.Errorf("%s: %d %s", x.name, status, code)
		}
	}
	if got := len(c.told); got != 1 {
		t.Errorf("%d terminals were asked", got)
	}
	if status, _, _ := c.request(client, http.MethodPost, "/api/homes/"+c.home.ID+"/rehearsal", "{}", map[string]string{"Sec-Fetch-Site": "cross-site"}); status != http.StatusForbidden {
		t.Errorf("by another site: %d", status)
	}
}
