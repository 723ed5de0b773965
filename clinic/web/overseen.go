package web

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/calls"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Bounds of what operators see of calls.
const (
	homeCallsShown  = 10   // on the home's page
	homeCallsListed = 200  // on the page of its calls
	callsExported   = 5000 // in a file
)

// overseenLine is a call as operators see it: by its sentence, and not by who called whom about what.
type overseenLine struct {
	Path, When, Sentence, Duration, Kind, Word string
	Caller                                     string // role and organisation
	Running                                    bool
}

// overseenView is the calls of a home.
type overseenView struct {
	frame
	Home      string
	Lines     []overseenLine
	All       string // address of more of them; "" if these are all
	CSV, JSON string
}

func (w words) overseen(r calls.Record, now time.Time) overseenLine {
	l := overseenLine{
		Path: "/operator/calls/" + r.Call.String(), When: w.when(r.Began, now), Kind: kindOf(r.Outcome), Duration: spell(talking(r)),
		Caller: w.who(r.Person.Party), Running: r.Outcome == "",
	}
	l.Sentence, l.Word = w.cameOut(r), w["overseen.kind."+l.Kind]
	return l
}

// cameOut says in the third person what became of a call, with where and who acts if somebody has to.
func (w words) cameOut(r calls.Record) string {
	switch d := r.Diagnosis.In(w["lang"]); {
	case r.Outcome == "":
		return w["recent.running"]
	case d.What == "":
		return w.explain(r.Outcome).Sentence
	case d.Who == protocol.Nobody:
		return d.What + "."
	default:
		return d.Sentence()
	}
}

func (w words) who(p protocol.Party) string {
	return w.say("overseen.caller", names{"role": p.Role, "organisation": p.Organisation})
}

// callsOf returns the latest calls of a home, and where there are more of them.
func (s *Server) callsOf(r *http.Request, home register.Home, limit int) (*overseenView, error) {
	list, err := s.o.Calls.HomeCalls(r.Context(), home.ID, time.Time{}, limit+1)
	if err != nil {
		return nil, err
	}
	path := "/operator/homes/" + home.ID + "/calls"
	v := &overseenView{Home: home.ID, CSV: path + ".csv", JSON: path + ".json"}
	if len(list) > limit {
		list, v.All = list[:limit], path
	}
	now := time.Now()
	for _, record := range list {
		v.Lines = append(v.Lines, s.words.overseen(record, now))
	}
	return v, nil
}

// looked writes down that an operator looks at a home's calls and openings (R16): once an hour, for open pages fetch themselves anew. Without it nothing is shown.
func (s *Server) looked(r *http.Request, v visitor, home string) error {
	if !s.looks.tell(v.person.ID+" "+home, time.Now()) {
		return nil
	}
	return s.o.Sessions.note(r.Context(), audit.Entry{Who: v.person.Who(), What: audit.HomeLookedAt, Subject: "home " + home})
}

// addressed finds the home that an address names; it has answered where there is none.
func (s *Server) addressed(w http.ResponseWriter, r *http.Request) (register.Home, bool) {
	home, err := s.o.Custody.Home(r.Context(), r.PathValue("home"))
	switch {
	case errors.Is(err, register.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "error.404")
	case err != nil:
		s.broken(w, r, err)
	}
	return home, err == nil
}

// homeCalls is the page of a home's calls.
func (s *Server) homeCalls(w http.ResponseWriter, r *http.Request, v visitor) {
	home, ok := s.addressed(w, r)
	if !ok {
		return
	}
	view, err := s.callsOf(r, home, homeCallsListed)
	if err = errors.Join(err, s.looked(r, v, home.ID)); err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame = s.frame(s.words.say("overseen.title", names{"home": home.Label}), &v)
	view.All = ""
	s.render(w, r, http.StatusOK, "overseen", view)
}

// overseenCall is the page of one call.
func (s *Server) overseenCall(w http.ResponseWriter, r *http.Request, v visitor) {
	id, err := protocol.ParseCallID(r.PathValue("call"))
	var record calls.Record
	if err != nil {
		err = calls.ErrNotFound
	} else {
		record, err = s.o.Calls.HomeCall(r.Context(), id)
	}
	if errors.Is(err, calls.ErrNotFound) {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	if err == nil {
		err = s.o.Sessions.note(r.Context(), audit.Entry{Who: v.person.Who(), What: audit.CallLookedAt, Subject: "call " + id.String(), Detail: map[string]string{"home": record.Home}})
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	view := s.words.record(record)
	view.Overseen, view.Journal, view.Back = s.words["overseen.why"], "", "/operator/homes/"+record.Home
	view.Line.Sentence = s.words.cameOut(record)
	view.frame = s.frame(s.words.say("record.title", names{"home": record.HomeLabel}), &v)
	s.render(w, r, http.StatusOK, "record", view)
}

// callRecord is a call as it is written out, for other programs.
type callRecord struct {
	Call         string        `json:"call"`
	Home         string        `json:"home"`
	Terminal     string        `json:"terminal"` // its key's code
	Began        string        `json:"began"`    // RFC 3339
	Rang         string        `json:"rang"`     // "" if it did not
	Talking      string        `json:"talking"`
	Ended        string        `json:"ended"`
	Seconds      int           `json:"seconds"` // of talking
	Outcome      protocol.Code `json:"outcome"`
	What         string        `json:"what"`
	Where        string        `json:"where"`
	Who          string        `json:"who_acts"`
	Sure         string        `json:"sure"`
	Role         string        `json:"caller_role"`
	Organisation string        `json:"caller_organisation"`
	RelayOnly    bool          `json:"relay_only"`
	Path         string        `json:"path"` // types of the two ends' candidates, by the terminal or else the page
	RTT          uint64        `json:"rtt_ms"`
	Lost         uint64        `json:"packets_lost"`
	Received     uint64        `json:"packets_received"`
	Grade        float64       `json:"sound_grade"` // of 4.5; 0: not known

	flowed bool // an end had anything to measure
}

var callColumns = []string{"call", "home", "terminal", "began", "rang", "talking", "ended", "seconds", "outcome", "what", "where", "who_acts", "sure", "caller_role", "caller_organisation",
	"relay_only", "path", "rtt_ms", "packets_lost", "packets_received", "sound_grade"}

func writeOut(r calls.Record) callRecord {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	d := r.Diagnosis
	c := callRecord{
		Call: r.Call.String(), Home: r.Home, Began: at(r.Began), Rang: at(r.RangAt), Talking: at(r.TalkingAt), Ended: at(r.EndedAt), Seconds: int(talking(r).Seconds()),
		Outcome: r.Outcome, What: d.What, Where: string(d.Where), Who: string(d.Who), Sure: string(d.Sure), Role: r.Person.Party.Role, Organisation: r.Person.Party.Organisation, RelayOnly: r.RelayOnly,
	}
	if (r.Terminal != protocol.KeyHash{}) {
		c.Terminal = r.Terminal.Code()
	}
	for _, half := range []*protocol.CallRecord{r.CallerHalf, r.TerminalHalf} { // the terminal's, if it came
		if half == nil {
			continue
		}
		q := half.Quality
		c.flowed = c.flowed || flowed(half)
		c.RTT, c.Lost, c.Received, c.Grade = q.RTT, q.PacketsLost, q.PacketsReceived, float64(q.Grade)/100
		if half.LocalPath != "" {
			c.Path = half.LocalPath + " " + half.RemotePath
		}
	}
	return c
}

// columns leave empty what was not measured: noughts of calls that never were would be part of any mean.
func (c callRecord) columns() []string {
	measured := func(known bool, value string) string {
		if !known {
			return ""
		}
		return value
	}
	return []string{
		c.Call, c.Home, c.Terminal, c.Began, c.Rang, c.Talking, c.Ended, strconv.Itoa(c.Seconds), string(c.Outcome), inert(c.What), inert(c.Where), c.Who, c.Sure, inert(c.Role), inert(c.Organisation),
		strconv.FormatBool(c.RelayOnly), c.Path, measured(c.flowed, strconv.FormatUint(c.RTT, 10)), measured(c.flowed, strconv.FormatUint(c.Lost, 10)),
		measured(c.flowed, strconv.FormatUint(c.Received, 10)), measured(c.Grade > 0, strconv.FormatFloat(c.Grade, 'f', 2, 64)),
	}
}

// exportCalls writes a home's calls out.
func (s *Server) exportCalls(kind string) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		home, ok := s.addressed(w, r)
		if !ok {
			return
		}
		list, err := s.o.Calls.HomeCalls(r.Context(), home.ID, time.Time{}, callsExported)
		if err == nil {
			err = s.o.Sessions.note(r.Context(), audit.Entry{Who: v.person.Who(), What: audit.CallsExported, Subject: "home " + home.ID, Detail: map[string]string{"calls": strconv.Itoa(len(list))}})
		}
		if err != nil {
			s.broken(w, r, err)
			return
		}
		w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="calls-%s-%s.%s"`, home.ID, time.Now().UTC().Format("2006-01-02"), kind))
		if kind == "json" {
			records := make([]callRecord, 0, len(list))
			for _, c := range list {
				records = append(records, writeOut(c))
			}
			w.Header().Set("Content-Type", "application/json")
			err = json.NewEncoder(w).Encode(records)
		} else {
			lines := [][]string{callColumns}
			for _, c := range list {
				lines = append(lines, writeOut(c).columns())
			}
			w.Header().Set("Content-Type", "text/csv; charset=utf-8")
			out := csv.NewWriter(w)
			out.UseCRLF = true
			err = out.WriteAll(lines)
		}
		if err != nil && r.Context().Err() == nil {
			s.o.Log.Warn("a home's calls were not written to their end", "error", err)
		}
	}
}
