package web

import (
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/series"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// figuresOfTest are numbers that a test has drawn: a terminal that was away for some hours, grew hot, and whose outbox filled.
type figuresOfTest struct{ empty bool }

func (f figuresOfTest) at(t time.Time) (series.Values, bool) {
	ago := time.Since(t)
	if f.empty || ago > 9*time.Hour && ago < 15*time.Hour {
		return series.Values{}, false
	}
	x := float64(t.Unix()) / 3600
	wait := int64(0)
	if ago < 20*time.Hour && ago > 15*time.Hour {
		wait = int64((20*time.Hour - ago).Minutes())
	}
	return series.Values{int64(60 + 8*math.Sin(x/3)), int64(34 + 20*math.Abs(math.Sin(x))), int64(51 + 6*math.Sin(x/4)), int64(42 + x/6 - math.Floor(x/6)), wait}, true
}

func (f figuresOfTest) Fine(_ context.Context, _ protocol.KeyHash, from, to time.Time) (list []series.Sample, err error) {
	for t := from.Truncate(series.Step).Add(series.Step); t.Before(to); t = t.Add(series.Step) {
		if v, ok := f.at(t); ok {
			list = append(list, series.Sample{At: t, Values: v})
		}
	}
	return list, nil
}

func (f figuresOfTest) Hours(_ context.Context, _ protocol.KeyHash, from, to time.Time) (list []series.Hour, err error) {
	for t := from.Truncate(time.Hour).Add(time.Hour); t.Before(to); t = t.Add(time.Hour) {
		if v, ok := f.at(t); ok {
			h := series.Hour{At: t, Least: v, Mean: v, Most: v}
			for k := range v {
				h.Least[k], h.Most[k] = max(v[k]-3, 0), v[k]+4
			}
			list = append(list, h)
		}
	}
	return list, nil
}

// homeOfTest is a desk with a home whose terminal has told all it can, and some calls. Its stay began long ago.
func homeOfTest(t *testing.T, empty bool) (*desk, register.Home) {
	t.Helper()
	d := newDesk(t)
	v, err := d.setup.Voucher(t.Context(), "administrator", "Home 17, Storgata", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, terminal, err := d.enrol(string(v.Text))
	if err != nil {
		t.Fatal(err)
	}
	homes, err := d.register.Homes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	home, now := homes[0], time.Now()
	if err := d.store.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "UPDATE placements SET began = ? WHERE key = ?", now.AddDate(0, -3, 0).UnixMilli(), terminal[:])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	placed := webtest.NewCalls(webtest.NewRegister(), webtest.NewAuthorisations(d.register, protocol.Party{Name: "Kari Nes", Role: "nurse", Organisation: "Solvik clinic"}, webtest.NewPasskey(webtest.Site.ID).Credential()))
	d.options.Calls, d.options.Series = placed, figuresOfTest{empty}
	s := online(terminal)
	if !empty {
		s.Software = "vindu-agent 0.1.0+0123456789ab"
		s.Health.Software, s.Health.Pending, s.Health.Uptime = s.Software, 2, 86_400*9
		s.Health.Figures = &protocol.Figures{Signal: 61, Trip: 38, Heat: 54, Memory: 43, Written: 2300}
		s.Health.About = &protocol.About{Board: "Raspberry Pi 4 Model B Rev 1.5", Kernel: "6.12.20-v8", Coders: []protocol.CoderCost{{Name: "openh264", Encode: 9_120, Decode: 2_140}, {Name: "libvpx", Encode: 14_300, Decode: 3_010}}}
		s.Health.Conditions = []protocol.Condition{{Code: protocol.HeatHot, Since: protocol.At(now.Add(-2 * time.Hour)), Figure: "83 °C"}}
		for i, outcome := range []protocol.Code{protocol.EndCallerHungUp, protocol.ICEFailed, protocol.SignalOffline, protocol.EndPatientHungUp, protocol.ProofAnswer, protocol.AnswerDeclined} {
			began := now.Add(-time.Duration(1+i*7) * time.Hour)
			r := calls.Record{
				Call: protocol.NewCallID(), Person: calls.Person{ID: "777000777", Party: protocol.Party{Name: "Anne Plantet Berg", Role: "nurse", Organisation: "Solvik clinic"}}, Home: home.ID, HomeLabel: home.Label,
				Terminal: terminal, Errand: "planted errand", Urgent: true, Began: began, EndedAt: began.Add(time.Minute), Outcome: outcome, Sentence: protocol.Explain(outcome).Sentence,
				Present: calls.Present{Home: "relatives"}, Proof: []byte("planted proof"),
			}
			if outcome == protocol.EndCallerHungUp || outcome == protocol.EndPatientHungUp {
				r.RangAt, r.TalkingAt, r.EndedAt = began.Add(time.Second), began.Add(9*time.Second), began.Add(16*time.Minute)
				r.TerminalHalf = &protocol.CallRecord{Version: 1, By: protocol.SideTerminal, Began: protocol.At(began), Outcome: outcome, LocalPath: "host", RemotePath: "relay",
					Quality: protocol.Quality{RTT: 41, PacketsLost: 120, PacketsReceived: 9_880, Grade: 412},
					Stages:  []protocol.StageTime{{Stage: "proven", After: 300}, {Stage: "ringing", After: 900}, {Stage: "ended", After: 960_000}}}
			}
			placed.AddRecord(r)
		}
		open := func(open bool, device string, at time.Time) {
			d.commit(terminal, protocol.EventOpening, &protocol.Opening{Version: 1, Device: device, Open: open, Call: protocol.CallID{7}, At: protocol.At(at)})
		}
		open(true, "camera", now.Add(-time.Hour))
		open(false, "camera", now.Add(-44*time.Minute))
	}
	d.fleet.Set(s)
	if d.pages, err = New(d.options); err != nil {
		t.Fatal(err)
	}
	return d, home
}

// TestHomePage: an operator sees how a terminal is and was, what it consists of, and what became of its calls; not who called, what about, or who was there. Each look at that is on the
// audit log.
func TestHomePage(t *testing.T) {
	d, home := homeOfTest(t, false)
	c := d.signedIn("operator")
	path := "/operator/homes/" + home.ID
	planted := []string{"Plantet", "777000777", "planted errand", "planted proof", "relatives"}
	clean := func(where, page string) {
		t.Helper()
		for _, p := range planted {
			if strings.Contains(page, p) {
				t.Errorf("%s tells an operator %q", where, p)
			}
		}
	}
	var page string
	for range 3 { // as an open page does
		var status int
		if status, page = d.get(c, path); status != http.StatusOK {
			t.Fatalf("%d %s", status, page)
		}
	}
	clean("the home's page", page)
	for _, want := range []string{
		"Raspberry Pi 4 Model B Rev 1.5", "6.12.20-v8", "openh264: 9.1 ms to code and 2.1 ms to decode", "Round trip to the clinic", "38 ms", "−61 dBm", "54 °C", "43 %", "2.4 MB by all programs in the last 24 hours",
		"There was no path for picture and sound", "The answer did not come from the terminal of this home", "nurse, Solvik clinic", "16 min 0 s", "running since", "days left", `data-source="` + path + `/series"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the home's page", want)
		}
	}
	_, rest, _ := strings.Cut(page, `href="/operator/calls/`)
	first, _, _ := strings.Cut(rest, `"`)
	status, page := d.get(c, "/operator/calls/"+first)
	if status != http.StatusOK || !strings.Contains(page, "Invitation proven") || !strings.Contains(page, "nurse, Solvik clinic") || strings.Contains(page, "For the journal") || strings.Contains(page, "What was proven") {
		t.Errorf("the call's page: %d", status)
	}
	clean("a call's page", page)
	_, rest, _ = strings.Cut(rest, `href="/operator/calls/`)
	failed, _, _ := strings.Cut(rest, `"`)
	if _, page := d.get(c, "/operator/calls/"+failed); !strings.Contains(page, "What the caller is told to do:") || strings.Contains(page, "you can do now") || strings.Count(page, "For the operator:")+strings.Count(page, "For the technician:") != 1 {
		t.Error("the page of a failed call speaks to the operator as to the caller, or does not say who acts")
	}
	_, page = d.get(c, path+"/calls")
	clean("the list of calls", page)
	if strings.Count(page, `href="/operator/calls/`) != 6 {
		t.Error("not all calls are on their page")
	}
	_, text := d.get(c, path+"/calls.csv")
	clean("the table of calls", text)
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(lines) != 7 || len(lines[0]) != len(callColumns) || lines[1][8] != string(protocol.EndCallerHungUp) || lines[1][18] != "120" || lines[1][20] != "4.12" {
		t.Errorf("CSV: %v, %q", err, lines)
	} else if got := strings.Join(lines[2][17:], ","); got != ",,," {
		t.Errorf("of a call that never was the table has the figures %q", got)
	}
	_, text = d.get(c, path+"/calls.json")
	clean("the file of calls", text)
	var records []map[string]any
	if err := json.Unmarshal([]byte(text), &records); err != nil || len(records) != 6 || len(records[0]) != len(callColumns) || records[1]["outcome"] != string(protocol.ICEFailed) || records[1]["what"] == "" {
		t.Errorf("JSON: %v, %v", err, records)
	}
	for _, bad := range []string{"/operator/calls/" + protocol.NewCallID().String(), "/operator/calls/x", "/operator/homes/1/calls", "/operator/homes/1/calls.csv"} {
		if status, _ := d.get(c, bad); status != http.StatusNotFound {
			t.Errorf("%s: %d", bad, status)
		}
	}
	for _, span := range []string{"", "?span=month"} {
		_, text := d.get(c, path+"/series"+span)
		clean("the series", text)
		var got struct {
			Count  int
			Charts []struct {
				Key         string
				Mean, Least []*int64
				Text        string
			}
			Calls struct{ Lost []float64 }
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Charts) != 5 || len(got.Calls.Lost) != 2 || got.Calls.Lost[0] != 1.2 {
			t.Fatalf("series: %v, %+v", err, got)
		}
		known, low := 0, int64(0)
		for _, v := range got.Charts[0].Mean {
			if v != nil {
				known, low = known+1, min(low, *v)
			}
		}
		if len(got.Charts[0].Mean) != got.Count || known < got.Count/2 || known == got.Count || low > -60 || (span == "") != (got.Charts[0].Least == nil) {
			t.Errorf("series%s: %d of %d known, %d", span, known, got.Count, low)
		}
	}
	if status, _ := d.get(c, "/operator/homes/1/series"); status != http.StatusNotFound {
		t.Errorf("of no home: %d", status)
	}
	looks := map[string]int{}
	entries, err := d.audit.Entries(t.Context(), -1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		looks[e.What+" "+e.Subject]++
	}
	for what, want := range map[string]int{audit.HomeLookedAt + " home " + home.ID: 1, audit.CallLookedAt + " call " + first: 1, audit.CallsExported + " home " + home.ID: 2} {
		if looks[what] != want {
			t.Errorf("%s is on the audit log %d times, want %d", what, looks[what], want)
		}
	}
	for _, other := range []string{"nurse", "technician"} {
		for _, p := range []string{"", "/calls", "/calls.csv", "/calls.json", "/series"} {
			if status, _ := d.get(d.signedIn(other), path+p); status != http.StatusNotFound && status != http.StatusForbidden {
				t.Errorf("%s%s to a %s: %d", path, p, other, status)
			}
		}
		if status, _ := d.get(d.signedIn(other), "/operator/calls/"+first); status != http.StatusNotFound {
			t.Errorf("a call to a %s: %d", other, status)
		}
	}
}

// TestHomeInBrowser: charts are drawn under the pages' policy, for two days and for thirty, stay when the page is fetched anew, and say in words what they show.
func TestHomeInBrowser(t *testing.T) {
	d, home := homeOfTest(t, false)
	run(t, d)
	b := newTab(t)
	navigate(b, d.link("Odd Vik", "operator"))
	navigate(b, d.server.URL+"/operator/homes/"+home.ID)
	b.until(`document.getElementById("charts").dataset.drawn === "days" && document.querySelectorAll("#charts canvas").length === 6`)
	b.until(`[...document.querySelectorAll("#charts canvas")].every((c) => c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v > 0))`)
	b.look("home")
	eval[bool](b, `(document.querySelector("#charts canvas").dataset.mine = "yes") === "yes"`)
	h := online(home.Terminal)
	h.Health.Conditions = []protocol.Condition{{Code: protocol.EgressUDP, Since: protocol.At(time.Now())}}
	h.Health.Figures = &protocol.Figures{Heat: 77}
	d.fleet.Set(h)
	b.until(`document.querySelector("main").textContent.includes("77 °C")`)
	if !eval[bool](b, `document.querySelector("#charts canvas")?.dataset.mine === "yes"`) {
		t.Error("what was drawn is gone when the page was fetched anew")
	}
	b.button("Thirty days")
	b.until(`document.getElementById("charts").dataset.drawn === "month"`)
	b.look("home-month")
	if name := eval[string](b, `document.querySelector("[data-figure=heat] [role=img]").getAttribute("aria-label")`); !strings.HasPrefix(name, "Temperature: ") || !strings.Contains(name, "°C") {
		t.Errorf("a chart is called %q", name)
	}
	// Under the cursor the value is said.
	eval[bool](b, `(() => { const o = document.querySelector("[data-figure=heat] .u-over"), r = o.getBoundingClientRect();
		return o.dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX: r.left + r.width - 20, clientY: r.top + 20 })) })()`)
	b.until(`/^\d+\.\d+\. \d\d:\d\d: \d+ °C/.test(document.querySelector("[data-figure=heat] output").textContent)`)
	navigate(b, d.server.URL+"/operator/homes/"+home.ID+"/calls")
	b.look("home-calls")
	eval[bool](b, `document.querySelector("a[href^='/operator/calls/']").click() ?? true`)
	b.until(`location.pathname.startsWith("/operator/calls/") && document.querySelector("h1") !== null`)
	b.look("home-call")
}

// TestHomeEmpty: a terminal of which nothing is known yet has a page that says so.
func TestHomeEmpty(t *testing.T) {
	d, home := homeOfTest(t, true)
	run(t, d)
	b := newTab(t)
	navigate(b, d.link("Odd Vik", "operator"))
	navigate(b, d.server.URL+"/operator/homes/"+home.ID)
	b.until(`document.getElementById("charts").dataset.drawn === "days"`)
	if n := eval[int](b, `document.querySelectorAll("#charts canvas").length`); n != 0 {
		t.Errorf("%d charts of nothing", n)
	}
	b.look("home-empty")
}

// run lets the desk's pages follow what changes.
func run(t *testing.T, d *desk) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.pages.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestHomeAmongTenThousand tells how long the page of a home and its numbers take where ten thousand homes have been told of for a while, with the store that ships.
func TestHomeAmongTenThousand(t *testing.T) {
	const homes = 10_000
	d := newDesk(t)
	d.seedFleet(homes)
	keeper, err := series.New(t.Context(), d.store, board10k{d.fleet}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := d.store.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO series_terminals (terminal) SELECT key FROM terminals"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO placements (key, home, began) SELECT key, home, ? FROM terminals", now.AddDate(0, -2, 0).UnixMilli()); err != nil {
			return err
		}
		fine := []byte{1}
		for slot := range byte(12) {
			fine = append(fine, slot, 62, 35, 52, 44, 1)
		}
		hour := []byte{1}
		for range int(series.Kinds) {
			hour = append(hour, 30, 40, 50)
		}
		// Two days of everybody would be half a million rows: six hours of everybody, and the rest of every hundredth.
		for table, q := range map[string]struct {
			blob  []byte
			hours int64
		}{"series_fine": {fine, 48}, "series_hours": {hour, 720}} {
			if _, err := tx.ExecContext(t.Context(), `WITH RECURSIVE h (hour) AS (VALUES (?1) UNION ALL SELECT hour + 1 FROM h WHERE hour < ?2)
				INSERT INTO `+table+` SELECT h.hour, t.id, ?3 FROM h CROSS JOIN series_terminals t WHERE h.hour > ?2 - 6 OR t.id % 100 = 1`, now.Unix()/3600-q.hours, now.Unix()/3600-1, q.blob); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	d.options.Series = keeper
	if d.pages, err = New(d.options); err != nil {
		t.Fatal(err)
	}
	list, err := d.register.Homes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var home register.Home
	for _, h := range list {
		var id int64
		if err := d.store.Read().QueryRowContext(t.Context(), "SELECT id FROM series_terminals WHERE terminal = ?", h.Terminal[:]).Scan(&id); err == nil && id%100 == 1 {
			home = h
			break
		}
	}
	c := d.signedIn("operator")
	for _, path := range []string{"", "/series", "/series?span=month", "/calls"} {
		began := time.Now()
		status, page := d.get(c, "/operator/homes/"+home.ID+path)
		t.Logf("%-20s %v, %d kB", path, time.Since(began).Round(time.Millisecond), len(page)/1000)
		if status != http.StatusOK {
			t.Errorf("%s: %d", path, status)
		}
		if path == "" && !strings.Contains(page, "29 ms") && !strings.Contains(page, "39 ms") {
			t.Error("the page has no numbers")
		}
	}
}

// board10k is a test's fleet with States.
type board10k struct{ *webtest.Fleet }

func (board10k) States() map[protocol.KeyHash]fleet.State { return nil }
