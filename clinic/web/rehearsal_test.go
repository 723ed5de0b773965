package web

import (
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
		if got := english.rehearsed(r, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
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
