package web

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/alerts"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// fleetPage is how many homes a page of the table has.
const fleetPage = 50

// maxSearch bounds what is looked for.
const maxSearch = 100

// standings are the states of homes in the order in which somebody has to look at them.
var standings = []string{stateAttention, stateOffline, stateBusy, stateReady, stateNone}

// sortings are what the table can be sorted by.
var sortings = []string{"state", "home", "since", "software"}

// fleetQuery is what an operator asks the table for. The zero query is all homes, those first that somebody has to look at.
type fleetQuery struct {
	Search    string
	State     string
	Condition protocol.Code
	Sort      string
	Down      bool
	Page      int // from 0
}

// parseFleetQuery reads what an address asks for. What cannot be meant is left out rather than refused: addresses are kept, and shared.
func parseFleetQuery(q url.Values) fleetQuery {
	f := fleetQuery{Search: strings.TrimSpace(q.Get("q")), State: q.Get("state"), Sort: q.Get("sort"), Down: q.Get("order") == "down"}
	if len(f.Search) > maxSearch {
		f.Search = strings.ToValidUTF8(f.Search[:maxSearch], "")
	}
	if !slices.Contains(standings, f.State) {
		f.State = ""
	}
	if c := protocol.Code(q.Get("condition")); protocol.Registered(c) {
		f.Condition = c
	}
	if !slices.Contains(sortings, f.Sort) {
		f.Sort = sortings[0]
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 1 && n < 1_000_000 {
		f.Page = n - 1
	}
	return f
}

// address is the query as an address of path.
func (f fleetQuery) address(path string) string {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	set("q", f.Search)
	set("state", f.State)
	set("condition", string(f.Condition))
	if f.Sort != sortings[0] {
		set("sort", f.Sort)
	}
	if f.Down {
		set("order", "down")
	}
	if f.Page > 0 {
		set("page", strconv.Itoa(f.Page+1))
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// fleetRow is a home with what its terminal's state comes to.
type fleetRow struct {
	home     register.Home
	state    fleet.State
	standing string
	codes    []protocol.Code // that are shown
	marked   []protocol.Code // of them, what operators have said that they know
}

// standing says how a home stands, and which conditions are to be shown of it.
func standing(h register.Home, s fleet.State) (string, []protocol.Code) {
	switch {
	case h.Terminal == protocol.KeyHash{}:
		return stateNone, nil
	case !s.Online && s.Heard.IsZero(): // it was never there
		return stateOffline, nil
	case !s.Online:
		return stateOffline, []protocol.Code{protocol.SignalOffline}
	case s.Health == nil:
		return stateReady, nil
	}
	raised := make([]protocol.Code, 0, len(s.Health.Conditions))
	for _, c := range s.Health.Conditions {
		raised = append(raised, c.Code)
	}
	shown := protocol.Showing(raised)
	needed := lacks(s.Health) || slices.ContainsFunc(shown, func(c protocol.Code) bool { return protocol.Explain(c).Who != protocol.Nobody && !saidByDevices(c) })
	switch {
	case s.Health.InCall:
		return stateBusy, shown
	case needed:
		return stateAttention, shown
	}
	return stateReady, shown
}

// lacks reports whether a device is not there at all.
func lacks(h *protocol.Health) bool {
	return h.Camera.Kind == "none" || h.Microphone.Kind == "none" || h.Speaker.Kind == "none"
}

// fleetRows returns all homes as they are now.
func (s *Server) fleetRows(ctx context.Context) ([]fleetRow, error) {
	homes, err := s.o.Custody.Homes(ctx)
	if err != nil {
		return nil, err
	}
	var marks map[protocol.KeyHash]map[protocol.Code]alerts.Mark
	if s.o.Marks != nil {
		if marks, err = s.o.Marks.Marks(ctx); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	rows := make([]fleetRow, 0, len(homes))
	for _, h := range homes {
		r := fleetRow{home: h}
		if (h.Terminal != protocol.KeyHash{}) {
			r.state = s.o.Fleet.State(h.Terminal)
		}
		r.standing, r.codes = standing(h, r.state)
		for _, c := range r.codes {
			if m, ok := marks[h.Terminal][c]; ok && m.Holds(sinceOf(r.state, c), now) {
				r.marked = append(r.marked, c)
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// matches reports whether a home is asked for. A search finds what stands in a label, a key's code, a version or a provider, whatever the case.
func (f fleetQuery) matches(r *fleetRow) bool {
	if f.State != "" && r.standing != f.State || f.Condition != "" && !slices.Contains(r.codes, f.Condition) {
		return false
	}
	if f.Search == "" {
		return true
	}
	search := strings.ToLower(f.Search)
	code := ""
	if (r.home.Terminal != protocol.KeyHash{}) {
		code = r.home.Terminal.Code()
	}
	return slices.ContainsFunc([]string{r.home.Label, code, r.state.Software, r.home.Provider}, func(text string) bool { return strings.Contains(strings.ToLower(text), search) })
}

// sort puts rows in the order that is asked for; where they are equal, by label.
func (f fleetQuery) sort(rows []fleetRow) {
	rank := make(map[string]int, len(standings))
	for i, s := range standings {
		rank[s] = i
	}
	labels := make(map[string]string, len(rows))
	for i := range rows {
		labels[rows[i].home.ID] = strings.ToLower(rows[i].home.Label)
	}
	slices.SortStableFunc(rows, func(a, b fleetRow) int {
		n := 0
		switch f.Sort {
		case "state":
			n = cmp.Compare(rank[a.standing], rank[b.standing])
		case "since":
			n = b.state.Since.Compare(a.state.Since) // the newest change first
		case "software":
			n = cmp.Compare(a.state.Software, b.state.Software)
		}
		if n = cmp.Or(n, cmp.Compare(labels[a.home.ID], labels[b.home.ID])); f.Down {
			return -n
		}
		return n
	})
}

// fleetGroup is one condition with the homes in which it holds.
type fleetGroup struct {
	Code        protocol.Code
	Title, Word string
	Severity    string
	Count       string
	Same        string // the version, if all of them run one
	Provider    string // which they have in common
	Marked      string // in how many somebody sees to it
	Path        string
	n, marked   int
	software    string
	differs     bool
	lines       *tally
}

// groups counts conditions, those first that hold in most homes where nobody has said to see to it. What a condition depends on hides it (protocol.Showing).
func (w words) groups(rows []fleetRow) []fleetGroup {
	by := map[protocol.Code]*fleetGroup{}
	versions, lines := map[string]bool{}, newTally()
	for i := range rows {
		lines.add(rows[i].home.Provider)
		versions[rows[i].state.Software] = versions[rows[i].state.Software] || rows[i].state.Software != ""
		for _, c := range rows[i].codes {
			f := w.explain(c)
			if f.Who == protocol.Nobody {
				continue
			}
			g := by[c]
			if g == nil {
				g = &fleetGroup{
					Code: c, Title: f.Title, Severity: string(f.Severity), Word: w["condition.severity."+string(f.Severity)],
					Path: fleetQuery{Condition: c, Sort: sortings[0]}.address("/operator"), software: rows[i].state.Software, lines: newTally(),
				}
				by[c] = g
			}
			g.n++
			g.lines.add(rows[i].home.Provider)
			if slices.Contains(rows[i].marked, c) {
				g.marked++
			}
			g.differs = g.differs || g.software != rows[i].state.Software
		}
	}
	list := make([]fleetGroup, 0, len(by))
	for _, g := range by {
		g.Count = w.say("fleet.homes", names{"count": strconv.Itoa(g.n)})
		if g.n == 1 {
			g.Count = w["fleet.homes.one"]
		}
		if delete(versions, ""); g.n > 1 && !g.differs && g.software != "" && len(versions) > 1 { // else it says nothing
			g.Same = w.say("fleet.same", names{"software": g.software})
		}
		g.Provider = w.shared(g.lines, lines)
		if g.marked > 0 {
			g.Marked = w.say("fleet.marked", names{"count": strconv.Itoa(g.marked)})
		}
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b fleetGroup) int { return cmp.Or((b.n-b.marked)-(a.n-a.marked), cmp.Compare(a.Code, b.Code)) })
	return list
}

// fleetView is the part of the operator's page about the terminals.
type fleetView struct {
	Query      fleetQuery
	Groups     []fleetGroup
	States     []fleetChoice
	Heads      []fleetHead
	Posts      []fleetPost
	Found      string // how many, of how many
	Condition  string // title of what is filtered by
	All        string // address without filters
	Prev, Next string
	Page       string
	CSV, JSON  string
}

type fleetChoice struct {
	Value, Text string
	On          bool
}

// fleetHead is a column by which the table can be sorted.
type fleetHead struct{ Text, Path, Sorted string }

// fleetPost is a row of the table.
type fleetPost struct {
	postView
	Titles []conditionView
}

func (s *Server) fleetView(r *http.Request, post func(register.Home) postView) (*fleetView, error) {
	all, err := s.fleetRows(r.Context())
	if err != nil {
		return nil, err
	}
	q := parseFleetQuery(r.URL.Query())
	v := &fleetView{Query: q, Groups: s.words.groups(all), All: "/operator"}
	counts := map[string]int{}
	found := make([]fleetRow, 0, len(all))
	for i := range all {
		counts[all[i].standing]++
		if q.matches(&all[i]) {
			found = append(found, all[i])
		}
	}
	for _, st := range standings {
		v.States = append(v.States, fleetChoice{st, s.words.say("fleet.state", names{"state": s.words["home."+st], "count": strconv.Itoa(counts[st])}), st == q.State})
	}
	if q.Condition != "" {
		v.Condition = s.words.explain(q.Condition).Title
	}
	v.Found = s.words.say("fleet.found", names{"found": strconv.Itoa(len(found)), "all": strconv.Itoa(len(all))})
	q.sort(found)
	pages := max((len(found)+fleetPage-1)/fleetPage, 1)
	q.Page = min(q.Page, pages-1)
	v.Page = s.words.say("fleet.page", names{"page": strconv.Itoa(q.Page + 1), "pages": strconv.Itoa(pages)})
	turn := func(by int) string { to := q; to.Page += by; return to.address("/operator") }
	if q.Page > 0 {
		v.Prev = turn(-1)
	}
	if q.Page < pages-1 {
		v.Next = turn(1)
	}
	for _, by := range sortings {
		h, to := fleetHead{Text: s.words["fleet.sort."+by]}, q
		to.Page, to.Sort, to.Down = 0, by, q.Sort == by && !q.Down
		if h.Path = to.address("/operator"); q.Sort == by {
			if h.Sorted = "ascending"; q.Down {
				h.Sorted = "descending"
			}
		}
		v.Heads = append(v.Heads, h)
	}
	export := q
	export.Page = 0
	v.CSV, v.JSON = export.address("/operator/fleet.csv"), export.address("/operator/fleet.json")
	for _, row := range found[q.Page*fleetPage : min((q.Page+1)*fleetPage, len(found))] {
		p := fleetPost{postView: post(row.home)}
		for _, c := range row.codes {
			if c == protocol.SignalOffline {
				continue // the chip says it
			}
			p.Titles = append(p.Titles, s.words.condition(c, "", "", true))
		}
		v.Posts = append(v.Posts, p)
	}
	return v, nil
}

// fleetRecord is a home as it is written out, for other programs.
type fleetRecord struct {
	Home       string          `json:"home"`
	Label      string          `json:"label"`
	Terminal   string          `json:"terminal"` // its key's code; "" if there is none
	State      string          `json:"state"`
	Since      string          `json:"since"` // RFC 3339; "" if it was never seen
	Heard      string          `json:"heard"`
	Software   string          `json:"software"`
	KeyGrade   string          `json:"key_grade"`
	InCall     bool            `json:"in_call"`
	Conditions []protocol.Code `json:"conditions"`
	Provider   string          `json:"provider"` // of its line; "" if nobody has noted it
}

func (r *fleetRow) record() fleetRecord {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	rec := fleetRecord{
		Home: r.home.ID, Label: r.home.Label, State: r.standing, Since: at(r.state.Since), Heard: at(r.state.Heard), Software: r.state.Software, Conditions: []protocol.Code{}, Provider: r.home.Provider,
	}
	if (r.home.Terminal != protocol.KeyHash{}) {
		rec.Terminal = r.home.Terminal.Code()
	}
	if h := r.state.Health; h != nil {
		rec.KeyGrade, rec.InCall = h.KeyGrade, h.InCall
	}
	rec.Conditions = append(rec.Conditions, r.codes...)
	return rec
}

// exportFleet writes out the homes that the table has been asked for, all pages of them.
func (s *Server) exportFleet(kind string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, _ visitor) {
		rows, err := s.fleetRows(r.Context())
		if err != nil {
			s.broken(w, r, err)
			return
		}
		q := parseFleetQuery(r.URL.Query())
		rows = slices.DeleteFunc(rows, func(row fleetRow) bool { return !q.matches(&row) })
		q.sort(rows)
		records := make([]fleetRecord, 0, len(rows))
		for i := range rows {
			records = append(records, rows[i].record())
		}
		w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="fleet-%s.%s"`, time.Now().UTC().Format("2006-01-02"), kind))
		if kind == "json" {
			w.Header().Set("Content-Type", "application/json")
			err = json.NewEncoder(w).Encode(records)
		} else {
			w.Header().Set("Content-Type", "text/csv; charset=utf-8")
			err = writeCSV(w, records)
		}
		if err != nil && r.Context().Err() == nil && !errors.Is(err, http.ErrHandlerTimeout) {
			s.o.Log.Warn("the list of terminals was not written to its end", "error", err)
		}
	}
}

// writeCSV writes RFC 4180 with a line of names first, and no formulas (inert).
func writeCSV(w http.ResponseWriter, records []fleetRecord) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	lines := [][]string{{"home", "label", "terminal", "state", "since", "heard", "software", "key_grade", "in_call", "conditions", "provider"}}
	for _, r := range records {
		codes := make([]string, len(r.Conditions))
		for i, c := range r.Conditions {
			codes[i] = string(c)
		}
		lines = append(lines, []string{r.Home, inert(r.Label), r.Terminal, r.State, r.Since, r.Heard, inert(r.Software), inert(r.KeyGrade), strconv.FormatBool(r.InCall), strings.Join(codes, " "), inert(r.Provider)})
	}
	return out.WriteAll(lines)
}

// inert gives an apostrophe to what a spreadsheet takes for a formula: where a text begins, and behind what ends a field where lists are not written with commas, as in Norway.
func inert(text string) string {
	var b strings.Builder
	begins := true
	for _, r := range text {
		if begins && strings.ContainsRune("=+-@\t\r\n＝＋－＠", r) {
			b.WriteByte('\'')
		}
		begins = strings.ContainsRune(";|\t", r) || begins && (r == ' ' || r == '"')
		b.WriteRune(r)
	}
	return b.String()
}
