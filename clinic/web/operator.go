package web

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"vindu/clinic/fleet"
	"vindu/clinic/ledger"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/protocol"
)

// Bounds of what the operator's pages list.
const (
	settledListed   = 10
	handOversListed = 5
	vouchersListed  = 20
	openingsListed  = 50
)

type alarmView struct {
	N                    int64
	Sentence, Next       string
	Home, HomeLabel      string
	Code, Detail, When   string
	SettledBy, SettledAt string
	Note                 string
}

func (w words) alarm(a register.Alarm, who func(string) string, now time.Time) alarmView {
	f := w.explain(a.Code)
	v := alarmView{N: a.N, Sentence: f.Sentence, Next: f.Next, Home: a.Home, HomeLabel: a.HomeLabel, Code: a.Terminal.Code(), Detail: a.Detail}
	v.When = w.say("operator.alarm.once", names{"at": w.when(a.First, now)})
	if a.Count > 1 {
		v.When = w.say("operator.alarm.often", names{"first": w.when(a.First, now), "last": w.when(a.Last, now), "count": fmt.Sprint(a.Count)})
	}
	if !a.Settled.IsZero() {
		v.SettledBy, v.SettledAt, v.Note = who(a.SettledBy), w.when(a.Settled, now), a.Note
	}
	return v
}

// postView is a home with its terminal as operators see it.
type postView struct {
	homeView
	Grade    string
	Software string
	Provider string // of the home's line
	Order    string // that it is about to be taken out of use
	Waits    bool   // the order waits, and can be withdrawn
	Sent     bool   // it was sent before, and so may have arrived
}

func (s *Server) post(h register.Home, latest map[protocol.KeyHash]setup.Order, now time.Time) postView {
	var state fleet.State
	if (h.Terminal != protocol.KeyHash{}) {
		state = s.o.Fleet.State(h.Terminal)
	}
	v := postView{homeView: s.words.home(h, state, now), Software: state.Software, Provider: h.Provider}
	if state.Health != nil {
		v.Grade = s.words.grade(state.Health.KeyGrade)
	}
	if o, ok := latest[h.Terminal]; ok && (o.State == setup.OrderWaiting || o.State == setup.OrderDone) {
		v.Order, v.Waits = s.words.say("operator.order."+o.State, names{"until": s.words.full(o.Expires)}), o.State == setup.OrderWaiting
		v.Sent = !o.Sent.IsZero()
	}
	return v
}

// grade says how a terminal's key is kept.
func (w words) grade(grade string) string { return cmp.Or(w["operator.grade."+grade], grade) }

type operatorView struct {
	frame
	Alarms, Settled []alarmView
	Count           string // of the open alarms, in words
	Ends            string // that the clinic's CA is about to end, and what to do
	Fleet           *fleetView
}

// expiryNotice is from when on operators are told that the issuing CA ends.
const expiryNotice = 180 * 24 * time.Hour

func (s *Server) operatorPage(w http.ResponseWriter, r *http.Request, v visitor) {
	alarms, err := s.o.Custody.Alarms(r.Context(), settledListed)
	latest, latestErr := s.o.Setup.Latest(r.Context())
	if err := errors.Join(err, latestErr); err != nil {
		s.broken(w, r, err)
		return
	}
	view := operatorView{frame: s.frame(s.words["operator.title"], &v)}
	view.Script = "live.js"
	who, now := s.naming(r.Context()), time.Now()
	for _, a := range alarms {
		if a.Settled.IsZero() {
			view.Alarms = append(view.Alarms, s.words.alarm(a, who, now))
		} else {
			view.Settled = append(view.Settled, s.words.alarm(a, who, now))
		}
	}
	switch n := len(view.Alarms); n {
	case 0:
		view.Count = s.words["operator.alarms.none"]
	case 1:
		view.Count = s.words["operator.alarms.one"]
	default:
		view.Count = s.words.say("operator.alarms.many", names{"count": fmt.Sprint(n)})
	}
	if n := len(view.Alarms); n > 0 { // seen also where the tab is not
		view.Tab = fmt.Sprintf("(%d) %s", n, view.Title)
	}
	if ends := s.o.Setup.Trust().IssuingEnds; ends.Sub(now) < expiryNotice {
		view.Ends = s.words.say("operator.ends", names{"at": s.words.full(ends)})
	}
	if view.Fleet, err = s.fleetView(r, func(h register.Home) postView { return s.post(h, latest, now) }); err != nil {
		s.broken(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "operator", view)
}

func (s *Server) settleAlarm(w http.ResponseWriter, r *http.Request, v visitor) {
	n, err := strconv.ParseInt(r.PathValue("alarm"), 10, 64)
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	switch err := s.o.Custody.Settle(r.Context(), v.person.Who(), n, r.PostForm.Get("note")); {
	case errors.Is(err, register.ErrText):
		s.fail(w, r, http.StatusUnprocessableEntity, "error.text")
	case err != nil && !errors.Is(err, register.ErrNotFound): // settled by another meanwhile: the list says so
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, "/operator", http.StatusSeeOther)
	}
}

// stayView is a terminal's time in a home.
type stayView struct {
	Code         string
	Current      bool
	State, Word  string
	Facts        []fact
	Certificates []fact
	More         string // how many certificates are not listed
	HandOvers    []handOverView
	Openings     []openingView
	Flawed       bool // one of the openings must not have been
}

// openingView is a time for which a camera or microphone was open.
type openingView struct {
	What, When, Whom, Flaw string
	Long                   string // how long; "" if it is not known
	Call                   string // address of the call; "" if it was for none
}

func (w words) opening(o ledger.Opening) openingView {
	what := map[string]string{"camera": w["operator.opening.camera"], "microphone": w["operator.opening.microphone"]}
	v := openingView{What: cmp.Or(what[o.Device], o.Device), Whom: w.say("operator.opening.call", names{"who": o.By})}
	if o.Check {
		v.Whom = w.say("operator.opening.check", names{"who": o.By})
	}
	if o.Rehearsal {
		v.Whom = w["operator.opening.rehearsal"]
	}
	if o.Flaw != "" {
		v.Flaw = w.say("operator.opening.flaw", names{"why": o.Flaw})
	}
	from, to := w["operator.opening.untold"], w["operator.opening.untold"]
	if !o.Opened.IsZero() {
		from = w.full(o.Opened)
	}
	if !o.Closed.IsZero() {
		to = w.full(o.Closed)
	}
	v.When = w.say("operator.opening.when", names{"from": from, "to": to})
	if !o.Opened.IsZero() && !o.Closed.IsZero() {
		v.Long = cmp.Or(spell(o.Closed.Sub(o.Opened)), w["operator.opening.blink"])
	}
	if (o.Call != protocol.CallID{}) && o.By != "" {
		v.Call = "/operator/calls/" + o.Call.String()
	}
	return v
}

type checkView struct{ State, Word, Name, Figure, Why, Next string }

type handOverView struct {
	Title, Flaw string
	Grade       string
	Facts       []fact
	Checks      []checkView
}

func (w words) handOver(h setup.HandOver) handOverView {
	v := handOverView{Title: w.say("operator.hand_over", names{"at": w.full(h.Received)})}
	if h.Flaw != "" {
		v.Flaw = w.say("operator.hand_over.flaw", names{"why": h.Flaw})
	}
	if h.Record == nil {
		return v
	}
	v.Title = w.say("operator.hand_over", names{"at": w.full(h.Record.At.Time())})
	if h.Flaw == "" {
		v.Grade = w.grade(h.Record.KeyGrade)
	}
	v.Facts = []fact{
		{Name: w["operator.technician"], Value: h.Record.Technician.Name + ", " + h.Record.Technician.Organisation},
		{Name: w["operator.home"], Value: h.Record.Home},
		{Name: w["operator.grade"], Value: w.grade(h.Record.KeyGrade)},
		{Name: w["operator.software"], Value: h.Record.Software},
	}
	for _, c := range h.Record.Checks {
		check := checkView{State: c.State, Word: w["operator.check."+c.State], Name: cmp.Or(w["check."+c.Name], c.Name), Figure: c.Figure}
		if c.Code != "" {
			f := w.explain(c.Code)
			check.Why = f.Sentence
			if c.State == protocol.CheckFailed {
				check.Next = f.Next
			}
		}
		v.Checks = append(v.Checks, check)
	}
	return v
}

// orderState says how an order stands.
func (s *Server) orderState(o setup.Order, who func(string) string) string {
	n := names{"until": s.words.full(o.Expires), "at": s.words.full(o.Withdrawn), "who": who(o.Withdrew)}
	text := s.words.say("operator.order."+o.State, n)
	if o.State == setup.OrderWithdrawn && !o.Sent.IsZero() {
		text += ". " + s.words["operator.order.was_sent"]
	}
	return text
}

func (s *Server) stay(r *http.Request, stay register.Stay, who func(string) string) (stayView, error) {
	w := s.words
	v := stayView{Code: stay.Key.Code(), Current: stay.Ended.IsZero()}
	v.Word = w["operator.former"]
	if v.Current {
		v.State, v.Word = stateReady, w["operator.current"]
	}
	v.Facts = append(v.Facts, fact{Name: w["operator.key"], Value: stay.Key.Name(), Mono: true}, fact{Name: w["operator.began"], Value: w.full(stay.Began)})
	if stay.SetUpBy != "" {
		v.Facts = append(v.Facts, fact{Name: w["operator.by"], Value: who(stay.SetUpBy)})
	}
	if !v.Current {
		v.Facts = append(v.Facts, fact{Name: w["operator.ended"], Value: w.full(stay.Ended)})
	}
	if stay.MovedTo != "" {
		v.Facts = append(v.Facts, fact{Name: w["operator.moved"], Value: stay.MovedTo})
	} else if stay.Reason != "" {
		v.Facts = append(v.Facts, fact{Name: w["operator.reason"], Value: stay.Reason})
	}
	orders, err := s.o.Setup.Orders(r.Context(), stay.Key)
	if err != nil {
		return v, err
	}
	for _, o := range orders {
		v.Facts = append(v.Facts, fact{Name: w["operator.order"], Value: w.say("operator.order.given", names{"who": who(o.By), "at": w.full(o.Issued), "reason": o.Reason, "state": s.orderState(o, who)})})
		if o.State == setup.OrderDone {
			v.Facts = append(v.Facts, fact{Name: w["operator.receipt"], Value: w.say("operator.receipt.text", names{"at": w.full(o.Destroyed), "grade": w.grade(o.Grade)}), Details: hex.EncodeToString(o.Receipt)})
		}
	}
	for _, c := range stay.Certificates {
		v.Certificates = append(v.Certificates, fact{Name: c.Serial, Value: w.say("operator.certificate", names{"from": w.full(c.NotBefore), "to": w.full(c.NotAfter)})})
	}
	if more := stay.Issued - int64(len(stay.Certificates)); more > 0 {
		v.More = w.say("operator.certificates.more", names{"count": fmt.Sprint(more)})
	}
	records, err := s.o.Setup.HandOvers(r.Context(), stay.Key, handOversListed)
	if err != nil {
		return v, err
	}
	for _, h := range records {
		v.HandOvers = append(v.HandOvers, w.handOver(h))
	}
	if s.o.Ledger == nil {
		return v, nil
	}
	openings, err := s.o.Ledger.Openings(r.Context(), stay.Key, openingsListed)
	if err != nil {
		return v, err
	}
	for _, o := range openings {
		at := o.Opened
		if at.IsZero() {
			at = o.Closed
		}
		if v.Current || at.Before(stay.Ended) { // what it did elsewhere later is told there
			v.Openings, v.Flawed = append(v.Openings, w.opening(o)), v.Flawed || o.Flaw != ""
		}
	}
	return v, nil
}

type homeHistoryView struct {
	frame
	Figures   *figuresView // nil if none are kept
	Calls     *overseenView
	Inventory []fact
	Rehearsal *rehearsalView // nil if there is no terminal, or nobody can be asked
	Post      postView
	Providers []string // to be suggested
	Waiting   bool     // an order waits, or is done: no other can be given
	Stays     []stayView
	Vouchers  []issuedView

	Conditions *conditionsView // nil if there is no terminal
}

func (s *Server) homeHistory(w http.ResponseWriter, r *http.Request, v visitor) {
	home, ok := s.addressed(w, r)
	if !ok {
		return
	}
	now, who := time.Now(), s.naming(r.Context())
	latest, err := s.o.Setup.Latest(r.Context())
	stays, staysErr := s.o.Custody.History(r.Context(), home.ID)
	vouchers, vouchersErr := s.o.Custody.Vouchers(r.Context(), home.ID, vouchersListed)
	lines, linesErr := s.o.Custody.Providers(r.Context(), providersListed)
	if err := errors.Join(err, staysErr, vouchersErr, linesErr, s.looked(r, v, home.ID)); err != nil {
		s.broken(w, r, err)
		return
	}
	post := s.post(home, latest, now)
	view := homeHistoryView{frame: s.frame(home.Label, &v), Post: post, Waiting: post.Order != "", Providers: lines}
	view.Script = "home.js"
	if s.o.Rehearse != nil && home.Terminal != (protocol.KeyHash{}) {
		state := s.o.Fleet.State(home.Terminal)
		view.Rehearsal = &rehearsalView{Home: home.ID, Text: s.words["rehearsal.never"], Cannot: s.words[cannotRehearse(state, now)]}
		if h := state.Health; h != nil && h.Rehearsed != nil {
			text := s.words.rehearsed(h.Rehearsed, state.Online && stands(h.Rehearsed, s.o.Rehearsals, now), now)
			view.Rehearsal.Text, view.Rehearsal.Parts = cmp.Or(text, view.Rehearsal.Text), s.words.rehearsals(h.Rehearsed, now)
			view.Rehearsal.Late = s.words.late(h.Rehearsed, s.o.Rehearsals, now)
		}
	}
	var conditionsErr, figuresErr, callsErr error
	view.Conditions, conditionsErr = s.conditionsOf(r, home.Terminal, now)
	view.Figures, figuresErr = s.figuresOf(r, home, now)
	view.Calls, callsErr = s.callsOf(r, home, homeCallsShown)
	if err := errors.Join(conditionsErr, figuresErr, callsErr); err != nil {
		s.broken(w, r, err)
		return
	}
	for _, stay := range stays {
		if stay.Ended.IsZero() && stay.Key == home.Terminal {
			var until time.Time
			for _, c := range stay.Certificates {
				until = later(until, c.NotAfter)
			}
			view.Inventory = s.words.inventory(s.o.Fleet.State(home.Terminal), stay.Began, until, now)
		}
		sv, err := s.stay(r, stay, who)
		if err != nil {
			s.broken(w, r, err)
			return
		}
		view.Stays = append(view.Stays, sv)
		if sv.Current && view.Post.Grade == "" && len(sv.HandOvers) > 0 { // not heard of since the server started: as it was handed over
			view.Post.Grade = sv.HandOvers[0].Grade
		}
	}
	for _, i := range vouchers {
		view.Vouchers = append(view.Vouchers, s.words.voucher(i, who, now))
	}
	s.render(w, r, http.StatusOK, "home-history", view)
}

// end is what both ways of ending a terminal's use begin with: it is the terminal that the operator's page named, or none.
func (s *Server) end(w http.ResponseWriter, r *http.Request, act func(terminal protocol.KeyHash, reason string) error) {
	home, err := s.o.Custody.Home(r.Context(), r.PathValue("home"))
	if err == nil && (home.Terminal == protocol.KeyHash{} || home.Terminal.Name() != r.PostForm.Get("terminal")) {
		s.fail(w, r, http.StatusConflict, "error.changed")
		return
	}
	if err == nil {
		err = act(home.Terminal, r.PostForm.Get("reason"))
	}
	switch {
	case errors.Is(err, register.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "error.404")
	case errors.Is(err, register.ErrText), errors.Is(err, setup.ErrReason):
		s.fail(w, r, http.StatusUnprocessableEntity, "error.text")
	case errors.Is(err, setup.ErrRevoked):
		s.fail(w, r, http.StatusConflict, "error.changed")
	case err != nil:
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, "/operator/homes/"+home.ID, http.StatusSeeOther)
	}
}

func (s *Server) decommission(w http.ResponseWriter, r *http.Request, v visitor) {
	s.end(w, r, func(terminal protocol.KeyHash, reason string) error {
		_, err := s.o.Setup.Decommission(r.Context(), v.person.Who(), terminal, reason)
		return err
	})
}

func (s *Server) withdrawOrder(w http.ResponseWriter, r *http.Request, v visitor) {
	s.end(w, r, func(terminal protocol.KeyHash, _ string) error {
		_, err := s.o.Setup.WithdrawOrder(r.Context(), v.person.Who(), terminal)
		if errors.Is(err, setup.ErrNoOrder) { // carried out or withdrawn meanwhile: the page says so
			return nil
		}
		return err
	})
}

func (s *Server) revokeTerminal(w http.ResponseWriter, r *http.Request, v visitor) {
	s.end(w, r, func(terminal protocol.KeyHash, reason string) error {
		return s.o.Custody.Revoke(r.Context(), v.person.Who(), terminal, reason)
	})
}
