package web

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/clinic/audit"
	"vindu/clinic/fleet"
	"vindu/clinic/ledger"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

var (
	_ Custody = (*register.Register)(nil)
	_ Setup   = (*setup.Service)(nil)
	_ Ledger  = (*ledger.Ledger)(nil)
)

// Everybody sees the own pages and no others; whoever is not signed in sees none.
func TestDuties(t *testing.T) {
	d := newDesk(t)
	clients := map[string]*http.Client{"nurse": d.signedIn("nurse"), "technician": d.signedIn("technician"), "operator": d.signedIn("operator")}
	home, err := d.register.EnsureHome(t.Context(), "test", "Home 17, Storgata")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ method, path, duty string }{
		{"GET", "/technician", "technician"},
		{"POST", "/technician/vouchers", "technician"},
		{"POST", "/technician/vouchers/00112233445566778899aabbccddeeff/withdraw", "technician"},
		{"POST", "/technician/mandates", "technician"},
		{"POST", "/technician/mandates/00112233445566778899aabbccddeeff/withdraw", "technician"},
		{"GET", "/operator/events?page=00112233445566778899aabbccddeeff0", "operator"}, // badly named, else it would not end
		{"GET", "/operator", "operator"},
		{"GET", "/operator/homes/" + home.ID, "operator"},
		{"POST", "/operator/homes/" + home.ID + "/decommission", "operator"},
		{"POST", "/operator/homes/" + home.ID + "/revoke", "operator"},
		{"POST", "/operator/homes/" + home.ID + "/rehearse", "operator"},
		{"POST", "/operator/homes/" + home.ID + "/decommission/withdraw", "operator"},
		{"POST", "/operator/homes/" + home.ID + "/provider", "operator"},
		{"POST", "/operator/alarms/1", "operator"},
		{"GET", "/api/ice", "nurse"},
		{"GET", "/api/session", "nurse"},
		{"POST", "/api/calls", "nurse"},
	} {
		for duty, c := range clients {
			status, _ := d.do(c, tc.method, tc.path, url.Values{"note": {"x"}, "reason": {"x"}})
			forbidden := status == http.StatusNotFound || status == http.StatusForbidden
			if forbidden != (duty != tc.duty) {
				t.Errorf("%s %s as %s: %d", tc.method, tc.path, duty, status)
			}
		}
		stranger := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if status, _ := d.do(stranger, tc.method, tc.path, nil); status != http.StatusSeeOther && status != http.StatusUnauthorized {
			t.Errorf("%s %s by nobody: %d", tc.method, tc.path, status)
		}
		stranger.CloseIdleConnections()
	}
	// Whose duty is not known sees nothing; what one asks for beyond the own duty is in the audit log, once.
	if status, body := d.get(d.signedIn(""), "/"); status != http.StatusForbidden || !strings.Contains(body, "what your work here is") {
		t.Errorf("without a duty: %d %s", status, body)
	}
	for range 3 {
		d.get(clients["technician"], "/operator")
	}
	refused := map[string]int{}
	entries, err := d.audit.Entries(t.Context(), -1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.What == audit.PageRefused {
			refused[e.Who+" "+e.Detail["duty"]+" "+e.Subject]++
		}
		if strings.HasPrefix(e.What, "person.") && !strings.HasPrefix(e.Subject, "person ") {
			t.Errorf("%s names %q", e.What, e.Subject)
		}
	}
	for what, n := range refused {
		if n != 1 {
			t.Errorf("%q is told %d times", what, n)
		}
	}
	if len(refused) < 20 {
		t.Errorf("told of %v", refused)
	}
	for duty, title := range map[string]string{"nurse": "<h1 id=\"homes-title\">Homes", "technician": "<h1>Setting terminals up", "operator": "<h1>Terminals and alarms"} {
		if status, body := d.get(clients[duty], "/"); status != http.StatusOK || !strings.Contains(body, title) {
			t.Errorf("first page of %s: %d", duty, status)
		}
	}
	// Another site cannot have a technician's browser send the form.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.server.URL+"/technician/vouchers", strings.NewReader("home="+home.ID+"&life=1h"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	response, err := clients["technician"].Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form: %d", response.StatusCode)
	}
}

// A technician gets a voucher by the page and a terminal in by it, and sees what became of it.
func TestVoucherPage(t *testing.T) {
	d := newDesk(t)
	c := d.signedIn("technician")
	status, page := d.post(c, "/technician/vouchers", url.Values{"label": {" Home 17, Storgata "}, "life": {"1h"}})
	if status != http.StatusOK || !strings.Contains(page, `<svg class="qr"`) || strings.Contains(page, "style=") {
		t.Fatalf("%d %s", status, page)
	}
	text := shown(t, page)
	if _, list := d.get(c, "/technician"); !strings.Contains(list, "Not used yet") || !strings.Contains(list, "issued by Kari Nes") || strings.Contains(list, text) {
		t.Errorf("the list before: %s", list)
	}
	_, terminal, err := d.enrol(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, list := d.get(c, "/technician"); !strings.Contains(list, terminal.Code()) || !strings.Contains(list, ">Used<") {
		t.Errorf("the list after: %s", list)
	}
	homes, err := d.register.Homes(t.Context())
	if err != nil || len(homes) != 1 || homes[0].Label != "Home 17, Storgata" {
		t.Fatalf("homes %+v, %v", homes, err)
	}
	for name, form := range map[string]url.Values{"chosen": {"home": {homes[0].ID}, "life": {"8h"}}, "by its label": {"label": {homes[0].Label}, "life": {"8h"}}, "another replaced": {"home": {homes[0].ID}, "life": {"8h"}, "replaces": {"x"}}} {
		status, page = d.post(c, "/technician/vouchers", form)
		if status != http.StatusOK || !strings.Contains(page, terminal.Code()) || !strings.Contains(page, "Order it to destroy its keys and state") || strings.Contains(page, "vindu-voucher-1.") {
			t.Errorf("for a home with a terminal, %s: %d %s", name, status, page)
		}
	}
	status, page = d.post(c, "/technician/vouchers", url.Values{"home": {homes[0].ID}, "life": {"8h"}, "replaces": {terminal.Name()}})
	if status != http.StatusOK || !strings.Contains(page, "has the terminal "+terminal.Code()) || !strings.Contains(page, d.setup.Trust().Pin) {
		t.Errorf("for a home whose terminal is replaced: %d", status)
	}
	second := shown(t, page)
	v, err := protocol.ParseVoucher(second)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(v.Expires.Time()); left < 7*time.Hour || left > 8*time.Hour || len(v.Authority) == 0 {
		t.Errorf("good for %v", left)
	}
	if status, list := d.post(c, fmt.Sprintf("/technician/vouchers/%x/withdraw", v.ID[:]), nil); status != http.StatusOK || !strings.Contains(list, "Withdrawn") {
		t.Errorf("withdraw: %d", status)
	}
	if _, _, err := d.enrol(second); protocol.CodeOf(err) != protocol.IdentityVoucherOld {
		t.Errorf("a withdrawn voucher: %v", err)
	}
	for name, form := range map[string]url.Values{
		"nothing":       {},
		"no home":       {"life": {"1h"}},
		"two homes":     {"life": {"1h"}, "home": {homes[0].ID}, "label": {"x"}},
		"no such home":  {"life": {"1h"}, "home": {"1"}},
		"bad label":     {"life": {"1h"}, "label": {"a\nb"}},
		"too long":      {"life": {"1h"}, "label": {strings.Repeat("a", protocol.MaxText+1)}},
		"for ever":      {"life": {"8760h"}, "label": {"x"}},
		"a large label": {"life": {"1h"}, "label": {strings.Repeat("a", maxForm)}},
	} {
		if status, page := d.post(c, "/technician/vouchers", form); status != http.StatusUnprocessableEntity && status != http.StatusRequestEntityTooLarge || strings.Contains(page, "vindu-voucher-1.") {
			t.Errorf("%s: %d", name, status)
		}
	}
}

func TestMandatePage(t *testing.T) {
	d := newDesk(t)
	c := d.signedIn("technician")
	laptop, err := protocol.LaptopText(webtest.NewKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	status, page := d.post(c, "/technician/mandates", url.Values{"laptop": {laptop}, "life": {"168h"}})
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, page)
	}
	_, file := d.post(c, "/technician/mandates", url.Values{"laptop": {laptop}, "life": {"24h"}, "as": {"file"}})
	for _, text := range []string{shown(t, page), file} {
		signed, _, err := protocol.ParseMandate(text)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := d.setup.Authority.VerifyMandate(signed); err != nil || m.Person.Name != "Kari Nes" {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if _, list := d.get(c, "/technician"); strings.Count(list, ">Valid<") != 2 {
		t.Errorf("list: %s", list)
	}
	_, m, err := protocol.ParseMandate(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status, list := d.post(c, fmt.Sprintf("/technician/mandates/%x/withdraw", m.ID[:]), nil); status != http.StatusOK || strings.Count(list, ">Valid<") != 1 || !strings.Contains(list, "withdrawn by Kari Nes") {
			t.Errorf("withdrawn: %d %s", status, list)
		}
	}
	if told, err := d.setup.Withdrawn(t.Context()); err != nil || len(told) != 1 || told[0] != m.ID {
		t.Errorf("terminals are told of %v, %v", told, err)
	}
	for name, form := range map[string]url.Values{"no key": {"life": {"24h"}}, "another key": {"life": {"24h"}, "laptop": {"vindu-laptop-1.AAAA"}}, "for ever": {"life": {"8760h"}, "laptop": {laptop}}} {
		if status, _ := d.post(c, "/technician/mandates", form); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, status)
		}
	}
}

// handOver stores a record signed by both as the fleet does.
func (d *desk) handOver(key *ecdsa.PrivateKey, terminal protocol.KeyHash, checks []protocol.Check) {
	d.t.Helper()
	laptop := webtest.NewKey()
	spki, _ := webtest.Public(laptop)
	person := protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Solvik clinic"}
	text, _, err := d.setup.IssueMandate(d.t.Context(), "test", person, spki, time.Hour)
	if err != nil {
		d.t.Fatal(err)
	}
	mandate, _, err := protocol.ParseMandate(text)
	if err != nil {
		d.t.Fatal(err)
	}
	h := &protocol.HandOver{Version: 1, ID: protocol.NewNonce(), Terminal: terminal, Organisation: "Solvik clinic", Home: "Home 17, Storgata", Technician: person, Software: "vindu-agent 0.1.0", KeyGrade: "hardware", Checks: checks, At: protocol.At(time.Now())}
	sign := func(k *ecdsa.PrivateKey) []byte {
		b, err := protocol.Sign(h, k)
		if err != nil {
			d.t.Fatal(err)
		}
		return b
	}
	d.commit(terminal, protocol.EventHandOver, &protocol.HandOverEvent{Version: 1, Terminal: sign(key), Technician: sign(laptop), Authorisation: mandate})
}

func (d *desk) commit(terminal protocol.KeyHash, kind string, body any) {
	d.t.Helper()
	f, err := fleet.New(d.t.Context(), fleet.Config{Store: d.store, Audit: d.audit, Sinks: []fleet.Sink{d.setup, d.ledger}, SignAck: d.setup.Authority.SignAck}, slog.New(slog.DiscardHandler))
	if err != nil {
		d.t.Fatal(err)
	}
	var encoded []byte
	switch m := body.(type) {
	case *protocol.HandOverEvent:
		encoded, err = protocol.Encode(m)
	case *protocol.ReceiptEvent:
		encoded, err = protocol.Encode(m)
	case *protocol.Opening:
		encoded, err = protocol.Encode(m)
	case *protocol.Notice:
		encoded, err = protocol.Encode(m)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.seq++
	e := &protocol.Event{Version: 1, Epoch: protocol.Nonce{9}, Seq: d.seq, At: 1, Kind: kind, Body: encoded}
	if kind == protocol.EventOpening {
		link := d.chains[terminal]
		link.N++
		e.Link = &link
	}
	if _, err := f.Commit(d.t.Context(), terminal, e); err != nil {
		d.t.Fatal(err)
	}
	if e.Link != nil {
		b, err := protocol.Encode(e)
		if err != nil {
			d.t.Fatal(err)
		}
		if d.chains == nil {
			d.chains = map[protocol.KeyHash]protocol.Link{}
		}
		d.chains[terminal] = protocol.Link{N: e.Link.N, Previous: protocol.HashOf(b)}
	}
}

// An operator sees alarms and histories, settles, takes out of use and cuts off.
func TestOperatorPages(t *testing.T) {
	d := newDesk(t)
	ctx := context.WithoutCancel(t.Context())
	issue := func(label string) string {
		v, err := d.setup.Voucher(ctx, "administrator", label, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return string(v.Text)
	}
	key, terminal, err := d.enrol(issue("Home 17, Storgata"))
	if err != nil {
		t.Fatal(err)
	}
	d.fleet.Set(online(terminal))
	d.handOver(key, terminal, []protocol.Check{{Name: "camera.brightness", State: protocol.CheckPassed, Figure: "118"}, {Name: "panel", State: protocol.CheckSkipped, Code: protocol.PanelMissing}})
	again, err := protocol.ParseVoucher(issue("Home 18, Kirkeveien"))
	if err != nil {
		t.Fatal(err)
	}
	if d.enrolKey(again, key, &err); protocol.CodeOf(err) != protocol.IdentityClone {
		t.Fatal(err)
	}
	nurse := d.signedIn("nurse")
	if _, page := d.get(nurse, "/"); !strings.Contains(page, "There may be a copy of this home") || !strings.Contains(page, `data-state="attention"`) {
		t.Error("clinicians are not warned")
	}
	c := d.signedIn("operator")
	status, page := d.get(c, "/operator")
	for _, want := range []string{"may be a copy of another terminal", terminal.Code(), "a file, not in hardware", "Settle this alarm"} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("%d: no %q", status, want)
		}
	}
	if status, _ := d.post(c, "/operator/alarms/1", url.Values{"note": {""}}); status != http.StatusUnprocessableEntity {
		t.Errorf("settled without a note: %d", status)
	}
	if status, page := d.post(c, "/operator/alarms/1", url.Values{"note": {"a copied card, destroyed"}}); status != http.StatusOK || !strings.Contains(page, "No alarm is open.") || !strings.Contains(page, "a copied card, destroyed") {
		t.Errorf("settled: %d", status)
	}
	if _, page := d.get(nurse, "/"); strings.Contains(page, "There may be a copy of this home") {
		t.Error("clinicians are warned of what is settled")
	}
	homes, err := d.register.Homes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	path := "/operator/homes/" + homes[0].ID
	status, page = d.get(c, path)
	for _, want := range []string{terminal.Name(), "Voucher issued by", "administrator", "Hand-over record of", "Picture, light", "The terminal has no panel", "In use", "Kari Nes, Solvik clinic"} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("history, %d: no %q", status, want)
		}
	}
	for name, tc := range map[string]struct {
		path string
		form url.Values
		want int
	}{
		"no reason":        {path + "/decommission", url.Values{"terminal": {terminal.Name()}}, http.StatusUnprocessableEntity},
		"another terminal": {path + "/decommission", url.Values{"terminal": {protocol.KeyHash{1}.Name()}, "reason": {"x"}}, http.StatusConflict},
		"cut off another":  {path + "/revoke", url.Values{"terminal": {""}, "reason": {"x"}}, http.StatusConflict},
		"cut off no home":  {"/operator/homes/1/revoke", url.Values{"terminal": {terminal.Name()}, "reason": {"x"}}, http.StatusNotFound},
		"empty home":       {"/operator/homes/" + homes[1].ID + "/revoke", url.Values{"terminal": {""}, "reason": {"x"}}, http.StatusConflict},
	} {
		if status, _ := d.post(c, tc.path, tc.form); status != tc.want {
			t.Errorf("%s: %d", name, status)
		}
	}
	status, page = d.post(c, path+"/decommission", url.Values{"terminal": {terminal.Name()}, "reason": {"returned"}})
	if status != http.StatusOK || !strings.Contains(page, "waiting for the terminal") || strings.Contains(page, `/decommission"`) {
		t.Errorf("ordered: %d %s", status, page)
	}
	for range 2 { // the second time it is withdrawn already
		status, page = d.post(c, path+"/decommission/withdraw", url.Values{"terminal": {terminal.Name()}})
		if status != http.StatusOK || !strings.Contains(page, "Withdrawn by Kari Nes") || !strings.Contains(page, `/decommission"`) {
			t.Errorf("withdrawn: %d %s", status, page)
		}
	}
	if status, _ = d.post(c, path+"/decommission", url.Values{"terminal": {terminal.Name()}, "reason": {"returned"}}); status != http.StatusOK {
		t.Errorf("ordered once more: %d", status)
	}
	orders, err := d.setup.Orders(ctx, terminal)
	if err != nil || len(orders) != 2 {
		t.Fatal(err)
	}
	receipt, err := protocol.Sign(&protocol.Decommissioned{Version: 1, Terminal: terminal, Order: protocol.HashOf(orders[0].Signed), KeyGrade: "hardware", At: protocol.At(time.Now())}, key)
	if err != nil {
		t.Fatal(err)
	}
	d.commit(terminal, protocol.EventReceipt, &protocol.ReceiptEvent{Version: 1, Receipt: receipt})
	if _, page = d.get(c, path); !strings.Contains(page, "Taken out of use") || !strings.Contains(page, "the key was kept in security hardware") {
		t.Errorf("with the receipt: %s", page)
	}
	_, other, err := d.enrol(issue("Home 18, Kirkeveien"))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := d.post(c, "/operator/homes/"+homes[1].ID+"/revoke", url.Values{"terminal": {other.Name()}, "reason": {"stolen"}}); status != http.StatusOK {
		t.Errorf("cut off: %d", status)
	}
	if _, err := d.register.Admit(ctx, other); err == nil {
		t.Error("not revoked")
	}
	if status, _ := d.get(c, "/operator/homes/1"); status != http.StatusNotFound {
		t.Errorf("no such home: %d", status)
	}
}

// keys sends keys to the element that selector finds, which they focus.
func (b *tab) keys(selector, keys string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(selector, keys))
}

// The pages of technicians and operators can be read at phone and at desk width.
func TestLookOfDuties(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	b := newTab(t)
	issue := func(label string) string {
		v, err := d.setup.Voucher(ctx, "administrator", label, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return string(v.Text)
	}
	key, terminal, err := d.enrol(issue("Home 17, Storgata"))
	if err != nil {
		t.Fatal(err)
	}
	d.fleet.Set(online(terminal))
	d.handOver(key, terminal, []protocol.Check{
		{Name: "camera.brightness", State: protocol.CheckPassed, Figure: "118"}, {Name: "microphone.level", State: protocol.CheckFailed, Figure: "-71 dBFS", Code: protocol.CaptureSilent},
		{Name: "panel", State: protocol.CheckSkipped, Code: protocol.PanelMissing}, {Name: "call.robot", State: protocol.CheckPassed, Figure: "25 fps"},
	})
	again, err := protocol.ParseVoucher(issue("Home 34, Solbakken sykehjem, avdeling for rehabilitering"))
	if err != nil {
		t.Fatal(err)
	}
	d.enrolKey(again, key, &err)
	if _, terminal, err = d.enrol(issue("Home 17, Storgata")); err != nil {
		t.Fatal(err)
	}
	state := online(terminal)
	state.RoundTrip = time.Now()
	state.Health.Conditions = []protocol.Condition{
		{Code: protocol.HeatHot, Since: protocol.At(time.Now()), Figure: "88 °C"}, {Code: protocol.HeatThrottled, Since: protocol.At(time.Now())},
		{Code: protocol.EgressUDP, Since: protocol.At(time.Now())}, {Code: protocol.IPv6Only, Since: protocol.At(time.Now())},
	}
	d.fleet.Set(state)
	if err := d.register.Raise(ctx, protocol.IdentityTwice, terminal, "two that started at different times are connected in turn"); err != nil {
		t.Fatal(err)
	}
	navigate(b, d.link("Kari Nes", "technician"))
	b.look("technician")
	homes, err := d.register.Homes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// By the keyboard alone.
	b.keys("#home", homes[0].Label)
	b.keys("form[action='/technician/vouchers'] button", "\r")
	b.until(`location.pathname === "/technician/replace" && document.querySelector("form[action='/technician/replace'] button") !== null`)
	b.look("replace")
	b.keys("form[action='/technician/replace'] button", "\r")
	b.until(`document.querySelector("[role=status]") !== null`)
	b.look("replace-ordered")
	b.button("Withdraw the order")
	b.until(`document.querySelector("form[action='/technician/replace'] button") !== null`)
	b.keys("form[action='/technician/replace'] button", "\r")
	b.until(`document.querySelector("[role=status]") !== null`)
	b.keys("form[action='/technician/vouchers'] button", "\r")
	b.until(`document.querySelector("svg.qr") !== null`)
	b.look("voucher")
	navigate(b, d.server.URL+"/technician")
	laptop, err := protocol.LaptopText(webtest.NewKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	b.keys("#laptop", "not a key")
	b.button("Issue an authorisation")
	b.until(`document.querySelector("[role=alert]") !== null`)
	if got := eval[string](b, `document.title + "|" + document.activeElement.id + "|" + document.activeElement.getAttribute("aria-invalid")`); got != "Not done: This is not a laptop's key. · vindu|laptop|true" {
		t.Errorf("what was refused: %s", got)
	}
	b.look("technician-refused")
	b.forgive("422")
	eval[bool](b, `document.getElementById("laptop").value = "", true`)
	b.keys("#laptop", laptop)
	b.button("Issue an authorisation")
	b.until(`document.querySelector("#text") !== null`)
	b.look("mandate")

	o := newTab(t)
	navigate(o, d.link("Ola Dahl", "operator"))
	o.look("operator")
	if _, err := d.setup.Decommission(ctx, "administrator", terminal, "returned by the family"); err != nil {
		t.Fatal(err)
	}
	for _, open := range []bool{true, false} {
		d.commit(terminal, protocol.EventOpening, &protocol.Opening{Version: 1, Device: "camera", Open: open, Call: protocol.CallID{9}, At: protocol.At(time.Now())})
	}
	navigate(o, d.server.URL+"/operator/homes/"+homes[0].ID)
	eval[bool](o, `document.querySelectorAll("details").forEach((e) => { e.open = true }), true`)
	o.look("home-history")
}
