package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/protocol"
)

var (
	pdfPage = regexp.MustCompile(`/Type\s*/Page\b`)
	tags    = regexp.MustCompile(`<[^>]*>|\s+`)
)

// TestPapers: what is printed for a home says who can call it and what then happens, as it holds now, in each language, on one sheet of paper each (R23, R24).
func TestPapers(t *testing.T) {
	d := newDesk(t)
	b, c, _ := d.administrator()
	home, other := d.home("Home 17, Storgata"), d.home("Home 18, Kirkeveien")
	anne, per, liv := d.add("Anne Berg", register.Clinician), d.add("Per Lund", register.Clinician), d.add("Liv Dahl", register.Clinician)
	now := time.Now()
	until := time.Date(now.Year(), now.Month()+6, 2, 0, 0, 0, 0, time.Local) // the day before is the last
	give := func(person, callers, home string) {
		t.Helper()
		if _, err := d.rights.Give(t.Context(), "test", grants.Grant{
			Person: person, Employment: "employed", Callers: callers, Scope: protocol.Scope{Homes: []string{home}}, From: now, To: until, Reason: "x",
		}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(home, paper, language string) string {
		t.Helper()
		status, page := d.get(c, paperPath(home, paper, language))
		if status != http.StatusOK {
			t.Fatalf("%s in %s: %d", paper, language, status)
		}
		_, page, _ = strings.Cut(page, "<article")
		page, _, _ = strings.Cut(page, "</article>")
		return tags.ReplaceAllString(page, " ")
	}
	says := func(text string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
				t.Errorf("no %q in %q", want, strings.Join(strings.Fields(text), " "))
			}
		}
	}

	if text := read(home.ID, paperHome, "en"); strings.Contains(text, "Anne") || !strings.Contains(text, "Nobody can call here now.") {
		t.Errorf("nobody may call, and it says %q", text)
	}
	give(anne.ID, "staff", home.ID)
	give(per.ID, "staff", other.ID)
	give(liv.ID, "visitors", home.ID) // for whom there is no rule: refused
	says(read(home.ID, paperHome, "nb"), "Anne Berg , ", "Det ringer i 10 sekunder. Så starter samtalen av seg selv.", "Alle andre får nei.", "Det er ingen stille tid.", "høyst 60 minutter", "Ingen skjerm her nå")
	staff := read(home.ID, paperStaff, "en")
	says(staff, "Anne Berg , ", "“staff”, until 1 "+until.Format("January 2006"), "Groups that the place belongs to none", "The log is for safety")
	for _, name := range []string{"Per Lund", "Liv Dahl"} {
		if strings.Contains(staff, name) {
			t.Errorf("%s may not call this home", name)
		}
	}
	says(read(home.ID, paperLeaflet, "nn"), "Du treng ikkje gjere noko.", "Du kan alltid seie nei.", "Ingen ser eller høyrer deg mellom samtalane.", "Solvik clinic")

	voucher, err := d.setup.Voucher(t.Context(), "test", "Home 17, Storgata", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, terminal, err := d.enrol(string(voucher.Text))
	if err != nil {
		t.Fatal(err)
	}
	says(read(home.ID, paperHome, "nb"), terminal.Code())

	// What differs in this home, in its quiet hours and where it has to be answered.
	rules := url.Values{
		"home": {home.ID}, "version": {"0"}, "rule-0-group": {"staff"}, "rule-0-mode": {"ask"}, "rule-0-after": {"30"}, "rule-0-urgent": {"yes"}, "quiet-own": {"yes"},
		"quiet-0-from": {"22:00"}, "quiet-0-to": {"07:00"}, "quiet-0-day": grants.Days(), "quiet-1-from": {"13:00"}, "quiet-1-to": {"14:00"}, "quiet-1-day": {"sun", "sat"},
		"zone": {""}, "longest": {"45"}, "volume": {"80"}, "do": {"save"},
	}
	if status, page := d.post(c, "/administrator/rules", rules); status != http.StatusOK || !strings.Contains(page, paperPath(home.ID, paperLeaflet, "nb")) {
		t.Fatalf("rules: %d, or no way to the papers", status)
	}
	says(read(home.ID, paperHome, "nb"), "Det ringer i 30 sekunder. Samtalen starter bare hvis noen her svarer.", "Hver dag fra 22:00 til 07:00 dagen etter ringer ingen.",
		"Lørdag, søndag fra 13:00 til 14:00 ringer ingen.", "Når det haster, kan likevel disse ringe: «staff».", "høyst 45 minutter", "80 prosent")
	says(read(home.ID, paperLeaflet, "en"), "A call starts only if somebody here answers it.")
	says(read(other.ID, paperLeaflet, "en"), "You do not have to do anything.")
	duty := func(duty register.Duty) {
		t.Helper()
		if _, err := d.register.Give(t.Context(), "test", anne.ID, duty); err != nil {
			t.Fatal(err)
		}
	}
	duty(register.Technician)
	if text := read(home.ID, paperStaff, "nb"); strings.Contains(text, "Anne") {
		t.Errorf("she is no clinician any more: %q", text)
	}
	duty(register.Clinician)
	says(read(home.ID, paperStaff, "nb"), "Anne Berg")
	if _, err := d.rights.Withdraw(t.Context(), "test", anne.ID, "left"); err != nil {
		t.Fatal(err)
	}
	if text := read(home.ID, paperStaff, "nb"); strings.Contains(text, "Anne") {
		t.Errorf("her right was withdrawn: %q", text)
	}

	for _, path := range []string{paperPath("1", paperHome, "nb"), paperPath(home.ID, "secret", "nb"), paperPath(home.ID, paperHome, "fr")} {
		if status, _ := d.get(c, path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, page := d.get(d.signedIn("nurse"), paperPath(home.ID, paperStaff, "nb")); status != http.StatusNotFound || strings.Contains(page, "Storgata") {
		t.Errorf("to who is no administrator: %d", status)
	}

	give(anne.ID, "staff", home.ID)
	for _, paper := range []string{paperLeaflet, paperHome, paperStaff} {
		navigate(b, d.server.URL+paperPath(home.ID, paper, "nb"))
		b.look("paper-" + paper)
		pdf, err := chromedp.Call(b.ctx, page.PrintToPDF, page.PrintToPDFParams{PreferCSSPageSize: new(true)})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(pdfPage.FindAll(pdf.Data, -1)); n != 1 {
			t.Errorf("%s takes %d sheets", paper, n)
		}
	}
}
