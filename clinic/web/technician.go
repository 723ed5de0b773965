package web

import (
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/clinic/signing"
	"vindu/protocol"
)

// listed is how many vouchers and authorisations the technician's page shows.
const listed = 20

// life is how long something that is issued may hold.
type life struct {
	Value string // of the form
	Text  string
	For   time.Duration
}

func (w words) voucherLives() []life {
	return []life{{"1h", w["setup.life.hour"], time.Hour}, {"8h", w["setup.life.day"], 8 * time.Hour}, {"24h", w["setup.life.24"], 24 * time.Hour}, {"168h", w["setup.life.week"], register.MaxVoucherLife}}
}

func (w words) mandateLives() []life {
	return []life{{"24h", w["setup.life.24"], 24 * time.Hour}, {"168h", w["setup.life.week"], 7 * 24 * time.Hour}, {"720h", w["setup.life.month"], 30 * 24 * time.Hour}}
}

// chosen returns the life that a form asks for.
func chosen(lives []life, value string) (time.Duration, bool) {
	for _, l := range lives {
		if l.Value == value {
			return l.For, true
		}
	}
	return 0, false
}

// issuedView is a line of a list of vouchers or authorisations.
type issuedView struct {
	ID, Name string
	Home     string
	State    string // for the style
	Word     string
	Detail   string
	Code     string // of a key
	Refused  string // why a voucher was refused when it last was
	Withdraw bool   // this page offers to
}

func (w words) voucher(v register.Issued, who func(string) string, now time.Time) issuedView {
	view := issuedView{ID: hex.EncodeToString(v.ID[:]), Name: v.Name(), Home: v.HomeLabel, Word: w["setup.state."+v.State]}
	view.State = map[string]string{register.VoucherOpen: stateBusy, register.VoucherUsed: stateReady}[v.State]
	n := names{"who": who(v.By), "at": w.when(v.At, now), "until": w.when(v.Expires, now)}
	view.Detail = w.say("setup.voucher.issued", n)
	switch v.State {
	case register.VoucherOpen:
		view.Detail = w.say("setup.voucher.open", n)
	case register.VoucherUsed:
		n["used"] = w.when(v.Used, now)
		view.Detail, view.Code = w.say("setup.voucher.used", n), v.Terminal.Code()
	}
	if v.Refused > 0 {
		view.Detail += ". " + w.say("setup.voucher.refused", names{"count": fmt.Sprint(v.Refused)})
		if v.RefusedFor != "" {
			f := w.explain(v.RefusedFor)
			view.Refused = w.say("setup.voucher.refused.last", names{"why": strings.TrimSpace(f.Sentence + " " + f.Next)})
		}
	}
	return view
}

func (w words) mandate(m setup.Mandate, who func(string) string, now time.Time) issuedView {
	v := issuedView{ID: hex.EncodeToString(m.ID[:]), Name: m.Name, Code: m.Laptop.Code(), State: stateReady, Word: w["setup.state.valid"], Withdraw: true}
	v.Detail = w.say("setup.mandate.issued", names{"who": who(m.By), "until": w.when(m.To, now)})
	switch {
	case !m.Withdrawn.IsZero():
		v.State, v.Word, v.Withdraw = "", w["setup.state.withdrawn"], false
		v.Detail = w.say("setup.mandate.withdrawn", names{"who": who(m.By), "until": w.when(m.To, now), "by": who(m.Withdrew), "at": w.when(m.Withdrawn, now)})
	case !now.Before(m.To):
		v.State, v.Word, v.Withdraw = "", w["setup.state.expired"], false
	}
	return v
}

type technicianView struct {
	frame
	Problem, Fix string // what was wrong with what a form sent
	Bad          string // the field that it is about
	Pin          string // of the clinic's root
	Life         string
	MandateLife  string
	Homes        []register.Home
	Chosen       string
	Label        string
	Laptop       string
	VoucherLives []life
	MandateLives []life
	Vouchers     []issuedView
	Mandates     []issuedView
}

func (s *Server) technicianPage(w http.ResponseWriter, r *http.Request, v visitor) {
	s.technicianView(w, r, v, http.StatusOK, technicianView{})
}

func (s *Server) technicianView(w http.ResponseWriter, r *http.Request, v visitor, status int, view technicianView) {
	homes, err := s.o.Custody.Homes(r.Context())
	vouchers, vouchersErr := s.o.Custody.Vouchers(r.Context(), "", listed)
	mandates, mandatesErr := s.o.Setup.Mandates(r.Context(), listed)
	if err := errors.Join(err, vouchersErr, mandatesErr); err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame, view.Homes, view.Pin = s.frame(s.words["setup.title"], &v), homes, s.o.Setup.Trust().Pin
	if view.Problem != "" { // first of all that a reader of the screen hears
		view.Tab = s.words.say("setup.refused", names{"problem": view.Problem})
	}
	view.VoucherLives, view.MandateLives = s.words.voucherLives(), s.words.mandateLives()
	who, now := s.naming(r.Context()), time.Now()
	for _, i := range vouchers {
		line := s.words.voucher(i, who, now)
		line.Withdraw = i.State == register.VoucherOpen
		view.Vouchers = append(view.Vouchers, line)
	}
	for _, m := range mandates {
		view.Mandates = append(view.Mandates, s.words.mandate(m, who, now))
	}
	s.render(w, r, status, "technician", view)
}

// grantView shows, once, what was issued.
type grantView struct {
	frame
	Lead, Warning string
	Text          string
	QR            template.HTML // empty if there is none
	Pin           string        // of the clinic's root, as vindu-provision prints it; empty where it is not to be compared
	After         string
	Back, BackTo  string // where it is listed
	Label         string // of Text
	Rows          int    // of Text
}

func (s *Server) issueVoucher(w http.ResponseWriter, r *http.Request, v visitor) {
	view := technicianView{Chosen: r.PostForm.Get("home"), Label: strings.TrimSpace(r.PostForm.Get("label")), Life: r.PostForm.Get("life")}
	refuse := func(key, field string) {
		view.Problem, view.Fix, view.Bad = s.words[key], s.words[key+".next"], field
		s.technicianView(w, r, v, http.StatusUnprocessableEntity, view)
	}
	hold, ok := chosen(s.words.voucherLives(), view.Life)
	if !ok {
		refuse("setup.bad.life", "voucher-life")
		return
	}
	if (view.Chosen == "") == (view.Label == "") {
		refuse("setup.bad.home", "label")
		return
	}
	home, err := s.homeOf(r, view.Chosen, view.Label)
	switch {
	case errors.Is(err, register.ErrNotFound) && view.Chosen != "":
		refuse("setup.bad.home", "home")
		return
	case errors.Is(err, register.ErrNotFound):
		home.Label = view.Label // it will be made
	case err != nil:
		s.broken(w, r, err)
		return
	}
	if (home.Terminal != protocol.KeyHash{}) && r.PostForm.Get("replaces") != home.Terminal.Name() {
		http.Redirect(w, r, replacePath(home.ID, view.Life), http.StatusSeeOther)
		return
	}
	voucher, err := s.o.Setup.Voucher(r.Context(), v.person.Who(), home.Label, hold)
	if errors.Is(err, register.ErrText) {
		refuse("setup.bad.label", "label")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	text := string(voucher.Text)
	code, err := qr(text, s.words["setup.qr"])
	if err != nil {
		s.broken(w, r, err)
		return
	}
	grant := grantView{
		frame: s.frame(s.words.say("setup.voucher.title", names{"home": home.Label}), &v), Text: text, QR: code, Pin: s.o.Setup.Trust().Pin,
		Lead:  s.words.say("setup.voucher.lead", names{"until": s.words.full(voucher.Expires), "name": voucher.Name}),
		After: s.words["setup.voucher.after"], Back: "/technician", BackTo: s.words["setup.back"], Label: s.words["setup.text"], Rows: 12,
	}
	if voucher.Home.Terminal != (protocol.KeyHash{}) {
		grant.Warning = s.words.say("setup.voucher.replaces", names{"code": voucher.Home.Terminal.Code()})
	}
	s.showLater(w, r, v, grant)
}

// homeOf returns the home with this number or, if there is none, this label. The error wraps register.ErrNotFound.
func (s *Server) homeOf(r *http.Request, id, label string) (register.Home, error) {
	if id != "" {
		return s.o.Custody.Home(r.Context(), id)
	}
	homes, err := s.o.Custody.Homes(r.Context())
	if err != nil {
		return register.Home{}, err
	}
	for _, h := range homes {
		if h.Label == label {
			return h, nil
		}
	}
	return register.Home{}, register.ErrNotFound
}

func replacePath(home, life string) string {
	return "/technician/replace?" + url.Values{"home": {home}, "life": {life}}.Encode()
}

// replaceView is asked before a voucher for a home that has a terminal: that terminal can destroy itself only until it is replaced.
type replaceView struct {
	frame
	Post  postView
	Life  string
	Order string // that one was given, and how it stands
	Given bool
}

func (s *Server) replacePage(w http.ResponseWriter, r *http.Request, v visitor) {
	home, err := s.o.Custody.Home(r.Context(), r.URL.Query().Get("home"))
	if errors.Is(err, register.ErrNotFound) {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	latest, latestErr := s.o.Setup.Latest(r.Context())
	if err := errors.Join(err, latestErr); err != nil {
		s.broken(w, r, err)
		return
	}
	life := r.URL.Query().Get("life")
	if _, ok := chosen(s.words.voucherLives(), life); !ok || home.Terminal == (protocol.KeyHash{}) { // taken out of use meanwhile: nothing is replaced
		http.Redirect(w, r, "/technician", http.StatusSeeOther)
		return
	}
	post := s.post(home, latest, time.Now())
	s.render(w, r, http.StatusOK, "replace", replaceView{
		frame: s.frame(s.words.say("setup.replace", names{"home": home.Label}), &v), Post: post, Life: life, Order: post.Order, Given: post.Order != "",
	})
}

// keepReplaced withdraws that order.
func (s *Server) keepReplaced(w http.ResponseWriter, r *http.Request, v visitor) {
	home, err := s.o.Custody.Home(r.Context(), r.PostForm.Get("home"))
	if err == nil && (home.Terminal == protocol.KeyHash{} || home.Terminal.Name() != r.PostForm.Get("terminal")) {
		s.fail(w, r, http.StatusConflict, "error.changed")
		return
	}
	if err == nil {
		_, err = s.o.Setup.WithdrawOrder(r.Context(), v.person.Who(), home.Terminal)
	}
	switch {
	case errors.Is(err, register.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "error.404")
	case err != nil && !errors.Is(err, setup.ErrNoOrder): // carried out or withdrawn meanwhile: the page says so
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, replacePath(home.ID, r.PostForm.Get("life")), http.StatusSeeOther)
	}
}

// endReplaced orders the terminal that is about to be replaced to destroy itself.
func (s *Server) endReplaced(w http.ResponseWriter, r *http.Request, v visitor) {
	home, err := s.o.Custody.Home(r.Context(), r.PostForm.Get("home"))
	if err == nil && (home.Terminal == protocol.KeyHash{} || home.Terminal.Name() != r.PostForm.Get("terminal")) {
		s.fail(w, r, http.StatusConflict, "error.changed")
		return
	}
	if err == nil {
		_, err = s.o.Setup.Decommission(r.Context(), v.person.Who(), home.Terminal, s.words["setup.replace.reason"])
	}
	switch {
	case errors.Is(err, register.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "error.404")
	case errors.Is(err, setup.ErrRevoked):
		s.fail(w, r, http.StatusConflict, "error.changed")
	case err != nil:
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, replacePath(home.ID, r.PostForm.Get("life")), http.StatusSeeOther)
	}
}

// nonce reads an id from the path.
func nonce(r *http.Request, name string) (id protocol.Nonce, ok bool) {
	b, err := hex.DecodeString(r.PathValue(name))
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return protocol.Nonce(b), true
}

func (s *Server) withdrawVoucher(w http.ResponseWriter, r *http.Request, v visitor) {
	id, ok := nonce(r, "voucher")
	if !ok {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	err := s.o.Custody.Withdraw(r.Context(), v.person.Who(), id)
	if err != nil && !errors.Is(err, register.ErrNotFound) { // used or withdrawn meanwhile: the list says so
		s.broken(w, r, err)
		return
	}
	http.Redirect(w, r, "/technician", http.StatusSeeOther)
}

func (s *Server) withdrawMandate(w http.ResponseWriter, r *http.Request, v visitor) {
	id, ok := nonce(r, "mandate")
	if !ok {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	switch _, err := s.o.Setup.WithdrawMandate(r.Context(), v.person.Who(), id); {
	case errors.Is(err, setup.ErrManyWithdrawn):
		s.fail(w, r, http.StatusConflict, "error.withdrawn")
	case err != nil && !errors.Is(err, setup.ErrNoMandate): // over or withdrawn meanwhile: the list says so
		s.broken(w, r, err)
	default:
		http.Redirect(w, r, "/technician", http.StatusSeeOther)
	}
}

func (s *Server) issueMandate(w http.ResponseWriter, r *http.Request, v visitor) {
	view := technicianView{Laptop: r.PostForm.Get("laptop"), MandateLife: r.PostForm.Get("life")}
	refuse := func(key, field string) {
		view.Problem, view.Fix, view.Bad = s.words[key], s.words[key+".next"], field
		s.technicianView(w, r, v, http.StatusUnprocessableEntity, view)
	}
	hold, ok := chosen(s.words.mandateLives(), view.MandateLife)
	if !ok {
		refuse("setup.bad.life", "mandate-life")
		return
	}
	laptop, err := protocol.ParseLaptop(view.Laptop)
	if err != nil {
		refuse("setup.bad.laptop", "laptop")
		return
	}
	text, m, err := s.o.Setup.IssueMandate(r.Context(), v.person.Who(), v.person.Party, laptop, hold)
	if errors.Is(err, setup.ErrManyMandates) {
		s.fail(w, r, http.StatusConflict, "error.mandates")
		return
	}
	if errors.Is(err, signing.ErrWaits) {
		s.fail(w, r, http.StatusConflict, "error.mandate_waits")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if r.PostForm.Get("as") == "file" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="vindu-mandate.txt"`)
		fmt.Fprintln(w, text)
		return
	}
	s.showLater(w, r, v, grantView{
		frame: s.frame(s.words["setup.mandate.title"], &v), Text: text,
		Lead:  s.words.say("setup.mandate.lead", names{"code": m.Laptop.Code(), "until": s.words.full(m.To)}),
		After: s.words["setup.mandate.after"], Back: "/technician", BackTo: s.words["setup.back"], Label: s.words["setup.text"], Rows: 12,
	})
}
