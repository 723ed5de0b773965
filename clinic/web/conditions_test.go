package web

import (
	"strings"
	"testing"
	"time"

	"vindu/clinic/fleet"
	"vindu/protocol"
)

// TestConditionsInWords: what holds is said with what to do, what follows from it is hidden, and what is over is listed.
func TestConditionsInWords(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	at := func(m int) time.Time { return now.Add(-time.Duration(m) * time.Minute) }
	s := fleet.State{Online: true, Heard: at(1), RoundTrip: at(2), Health: &protocol.Health{Conditions: []protocol.Condition{
		{Code: protocol.HeatHot, Since: protocol.At(at(5)), Figure: "88 °C"},
		{Code: protocol.HeatThrottled, Since: protocol.At(at(4))},
	}}}
	v := w.conditions(s, []fleet.Past{
		{Code: protocol.HeatHot, Since: at(5)},
		{Code: protocol.PowerLow, Since: at(90), Until: at(60)},
		{Code: protocol.IPDNS, Since: at(120)},
	}, now)
	if len(v.Current) != 1 || v.Current[0].Title != "Too hot" || v.Current[0].Figure != "88 °C" || v.Current[0].Next == "" || v.Current[0].Who == "" || !strings.Contains(v.Current[0].When, "11:55") {
		t.Errorf("now %+v", v.Current)
	}
	if v.Hidden == "" || len(v.Past) != 2 || v.Past[0].Title != "Too little power" || v.Past[0].Next != "" || !strings.Contains(v.Past[1].When, "not reported") {
		t.Errorf("hidden %q, earlier %+v", v.Hidden, v.Past)
	}
	if !strings.Contains(v.Heard, "11:59") || !strings.Contains(v.Heard, "11:58") {
		t.Errorf("heard %q", v.Heard)
	}
	s.Online, s.Since = false, at(3)
	v = w.conditions(s, nil, now)
	if len(v.Current) != 1 || v.Current[0].Code != protocol.SignalOffline || v.Current[0].Since != at(3).UnixMilli() || !strings.Contains(v.Current[0].When, "11:57") || len(v.Last) != 1 || v.Last[0].Code != protocol.HeatHot || v.None != "" {
		t.Errorf("offline: %+v", v)
	}
	if v = w.conditions(fleet.State{}, nil, now); len(v.Current)+len(v.Last) > 0 || v.None != "" || v.Heard != w["condition.never"] {
		t.Errorf("never heard: %+v", v)
	}
	for _, f := range protocol.Register {
		for _, x := range []conditionView{w.condition(f.Code, "", "", true)} {
			if x.Word == "" || f.Who != protocol.Nobody && x.Who == "" {
				t.Errorf("%s: %+v", f.Code, x)
			}
		}
	}
}

// TestConditionsPage: operators read them on a home's page.
func TestConditionsPage(t *testing.T) {
	d := newDesk(t)
	v, err := d.setup.Voucher(t.Context(), "administrator", "Home 17, Storgata", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, terminal, err := d.enrol(string(v.Text))
	if err != nil {
		t.Fatal(err)
	}
	state := online(terminal)
	state.Health.Conditions = []protocol.Condition{{Code: protocol.HeatHot, Since: protocol.At(time.Now()), Figure: "88 °C"}}
	d.fleet.Set(state)
	homes, err := d.register.Homes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, page := d.get(d.signedIn("operator"), "/operator/homes/"+homes[0].ID)
	for _, want := range []string{"How the terminal is", "Too hot", "88 °C", protocol.Explain(protocol.HeatHot).Next, "Last heard"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the home's page", want)
		}
	}
}
