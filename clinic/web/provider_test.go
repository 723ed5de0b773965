package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"vindu/clinic/audit"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// TestShared: what a group's homes have for a provider is said where it tells them from the others.
func TestShared(t *testing.T) {
	d := newDesk(t)
	row := func(n int, provider string, codes ...protocol.Code) []fleetRow {
		return slices.Repeat([]fleetRow{{standing: stateAttention, codes: codes, home: register.Home{Provider: provider}, state: fleet.State{Software: "1"}}}, n)
	}
	for name, test := range map[string]struct {
		rows [][]fleetRow
		want string
	}{
		"all of one, the others of another":        {[][]fleetRow{row(37, "Vestnett", protocol.EgressUDP), row(100, "Fjordfiber")}, "all of them with Vestnett"},
		"all of one, the others not known":         {[][]fleetRow{row(2, "Vestnett", protocol.EgressUDP), row(1, "")}, "all of them with Vestnett"},
		"all of one, as most of the others":        {[][]fleetRow{row(5, "Vestnett", protocol.EgressUDP), row(9, "Vestnett"), row(1, "")}, "all of them with Vestnett"},
		"all of one, as all of the others":         {[][]fleetRow{row(5, "Vestnett", protocol.EgressUDP), row(9, "Vestnett")}, ""},
		"all of one, in two spellings":             {[][]fleetRow{row(1, "Vestnett", protocol.EgressUDP), row(1, "VESTNETT", protocol.EgressUDP), row(1, "")}, "all of them with Vestnett"},
		"all homes that there are":                 {[][]fleetRow{row(5, "Vestnett", protocol.EgressUDP)}, ""},
		"one home":                                 {[][]fleetRow{row(1, "Vestnett", protocol.EgressUDP), row(9, "Fjordfiber")}, ""},
		"not known":                                {[][]fleetRow{row(5, "", protocol.EgressUDP), row(9, "Fjordfiber")}, ""},
		"most, of the others few":                  {[][]fleetRow{row(34, "Vestnett", protocol.EgressUDP), row(3, "Fjordfiber", protocol.EgressUDP), row(9, "")}, "34 of 37 with Vestnett"},
		"most, the rest not known":                 {[][]fleetRow{row(4, "Vestnett", protocol.EgressUDP), row(1, "", protocol.EgressUDP), row(9, "Fjordfiber")}, "4 of 5 with Vestnett"},
		"most, as of the others":                   {[][]fleetRow{row(34, "Vestnett", protocol.EgressUDP), row(3, "", protocol.EgressUDP), row(8, "Vestnett"), row(2, "")}, ""},
		"fewer than most":                          {[][]fleetRow{row(79, "Vestnett", protocol.EgressUDP), row(21, "", protocol.EgressUDP), row(9, "")}, ""},
		"the other provider of homes of no groups": {[][]fleetRow{row(2, "Vestnett", protocol.EgressUDP), row(2, "Fjordfiber", protocol.EgressUDP), row(9, "Vestnett")}, ""},
	} {
		groups := d.pages.words.groups(slices.Concat(test.rows...))
		if len(groups) != 1 || groups[0].Provider != test.want {
			t.Errorf("%s: %+v, want %q", name, groups, test.want)
		}
	}
}

// TestProvider: an operator notes who provides a home's line; the home's page, the table, its search and its files have it, and the audit log who has said so.
func TestProvider(t *testing.T) {
	d := newDesk(t)
	d.seedFleet(100)
	c := d.signedIn("operator")
	const path = "/operator/homes/100000004"
	note := func(path, provider string) int {
		t.Helper()
		status, _ := d.post(c, path+"/provider", url.Values{"provider": {provider}})
		return status
	}
	for name, tc := range map[string]struct {
		path, provider string
		want           int
	}{
		"two lines":    {path, "Vest\nnett", http.StatusUnprocessableEntity},
		"too long":     {path, strings.Repeat("a", register.MaxProvider+1), http.StatusUnprocessableEntity},
		"no such home": {"/operator/homes/1", "Vestnett", http.StatusNotFound},
	} {
		if status := note(tc.path, tc.provider); status != tc.want {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := d.post(d.signedIn("technician"), path+"/provider", url.Values{"provider": {"Vestnett"}}); status != http.StatusNotFound {
		t.Errorf("by who is no operator: %d", status)
	}
	if _, page := d.get(c, path); !strings.Contains(page, "<dd>Not noted</dd>") || !strings.Contains(page, `<option value="Fjordfiber">`) {
		t.Error("the home's page does not say that nobody has noted it, or does not suggest what others have")
	}
	if status := note(path, " <Øst & sønn> "); status != http.StatusOK {
		t.Fatalf("noted: %d", status)
	}
	if _, page := d.get(c, path); !strings.Contains(page, "<dd>&lt;Øst &amp; sønn&gt;</dd>") {
		t.Error("the home's page does not say it")
	}
	if _, page := d.get(c, "/operator?q="+url.QueryEscape("øst & SØNN")); !strings.Contains(page, "1 of 100 homes") || !strings.Contains(page, "Line: &lt;Øst &amp; sønn&gt;") {
		t.Error("the table does not find it")
	}
	if status := note(path, "=1+1"); status != http.StatusOK { // nobody's name, but a spreadsheet would take it for a formula
		t.Fatalf("noted: %d", status)
	}
	if _, text := d.get(c, "/operator/fleet.csv?q=00004"); !strings.Contains(text, ",provider\r\n") || !strings.Contains(text, ",'=1+1\r\n") {
		t.Errorf("CSV: %s", text)
	}
	if _, text := d.get(c, "/operator/fleet.json?q=00004"); !strings.Contains(text, `"provider":"=1+1"`) {
		t.Errorf("JSON: %s", text)
	}
	entries, err := d.audit.Entries(t.Context(), -1, 1)
	if err != nil || entries[0].What != audit.ProviderSet || entries[0].Subject != "home 100000004" || entries[0].Detail["provider"] != "=1+1" || !strings.HasPrefix(entries[0].Who, "person ") {
		t.Errorf("on the audit log: %+v, %v", entries, err)
	}

	b := newTab(t)
	navigate(b, d.link("Odd Vik", "operator"))
	navigate(b, d.server.URL+path)
	eval[bool](b, `(document.querySelector("details[data-key=provider]").open = true)`)
	b.look("provider")
	eval[bool](b, `((document.getElementById("provider").value = "Fjordfiber"), document.querySelector("details[data-key=provider] form button").click(), true)`)
	b.until(`document.querySelector("section[data-key=post] dd")?.textContent === "Fjordfiber"`)
	if status := note(path, ""); status != http.StatusOK {
		t.Fatalf("taken back: %d", status)
	}
	if _, page := d.get(c, path); !strings.Contains(page, "<dd>Not noted</dd>") {
		t.Error("it is not taken back")
	}
}
