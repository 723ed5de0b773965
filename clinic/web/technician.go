package web

import (
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"vindu/clinic/register"
	"vindu/clinic/setup"
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
	}
	return view
}

func (w words) mandate(m setup.Mandate, who func(string) string, now time.Time) issuedView {
	v := issuedView{Name: m.Name, Code: m.Laptop.Code(), State: stateReady, Word: w["setup.state.valid"], Detail: w.say("setup.mandate.issued", names{"who": who(m.By), "until": w.when(m.To, now)})}
	if !now.Before(m.To) {
		v.State, v.Word = "", w["setup.state.expired"]
	}
	return v
}

type technicianView struct {
	frame
	Problem, Fix string // what was wrong with what a form sent
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
	view.frame, view.Homes = s.frame(s.words["setup.title"], &v), homes
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
	After         string
}

func (s *Server) issueVoucher(w http.ResponseWriter, r *http.Request, v visitor) {
	view := technicianView{Chosen: r.PostForm.Get("home"), Label: strings.TrimSpace(r.PostForm.Get("label"))}
	refuse := func(key string) {
		view.Problem, view.Fix = s.words[key], s.words[key+".next"]
		s.technicianView(w, r, v, http.StatusUnprocessableEntity, view)
	}
	hold, ok := chosen(s.words.voucherLives(), r.PostForm.Get("life"))
	label := view.Label
	switch {
	case !ok:
		refuse("setup.bad.life")
		return
	case (view.Chosen == "") == (view.Label == ""):
		refuse("setup.bad.home")
		return
	case view.Chosen != "":
		home, err := s.o.Custody.Home(r.Context(), view.Chosen)
		if errors.Is(err, register.ErrNotFound) {
			refuse("setup.bad.home")
			return
		}
		if err != nil {
			s.broken(w, r, err)
			return
		}
		label = home.Label
	}
	voucher, err := s.o.Setup.Voucher(r.Context(), v.person.ID, label, hold)
	if errors.Is(err, register.ErrText) {
		refuse("setup.bad.label")
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
		frame: s.frame(s.words.say("setup.voucher.title", names{"home": label}), &v), Text: text, QR: code,
		Lead:  s.words.say("setup.voucher.lead", names{"until": s.words.full(voucher.Expires), "name": voucher.Name}),
		After: s.words["setup.voucher.after"],
	}
	if voucher.Home.Terminal != (protocol.KeyHash{}) {
		grant.Warning = s.words.say("setup.voucher.replaces", names{"code": voucher.Home.Terminal.Code()})
	}
	s.render(w, r, http.StatusOK, "grant", grant)
}

func (s *Server) withdrawVoucher(w http.ResponseWriter, r *http.Request, v visitor) {
	var id protocol.Nonce
	b, err := hex.DecodeString(r.PathValue("voucher"))
	if err != nil || len(b) != len(id) {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	copy(id[:], b)
	err = s.o.Custody.Withdraw(r.Context(), v.person.ID, id)
	if err != nil && !errors.Is(err, register.ErrNotFound) { // used or withdrawn meanwhile: the list says so
		s.broken(w, r, err)
		return
	}
	http.Redirect(w, r, "/technician", http.StatusSeeOther)
}

func (s *Server) issueMandate(w http.ResponseWriter, r *http.Request, v visitor) {
	view := technicianView{Laptop: r.PostForm.Get("laptop")}
	refuse := func(key string) {
		view.Problem, view.Fix = s.words[key], s.words[key+".next"]
		s.technicianView(w, r, v, http.StatusUnprocessableEntity, view)
	}
	hold, ok := chosen(s.words.mandateLives(), r.PostForm.Get("life"))
	if !ok {
		refuse("setup.bad.life")
		return
	}
	laptop, err := protocol.ParseLaptop(view.Laptop)
	if err != nil {
		refuse("setup.bad.laptop")
		return
	}
	text, m, err := s.o.Setup.IssueMandate(r.Context(), v.person.ID, v.person.Party, laptop, hold)
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
	s.render(w, r, http.StatusOK, "grant", grantView{
		frame: s.frame(s.words["setup.mandate.title"], &v), Text: text,
		Lead:  s.words.say("setup.mandate.lead", names{"code": m.Laptop.Code(), "until": s.words.full(m.To)}),
		After: s.words["setup.mandate.after"],
	})
}
