package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"vindu/clinic/ledger"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/protocol"
)

// Custody is the register as technicians and operators see it; register.Register is one.
type Custody interface {
	Homes(ctx context.Context) ([]register.Home, error)
	Home(ctx context.Context, id string) (register.Home, error)
	Vouchers(ctx context.Context, home string, limit int) ([]register.Issued, error)
	Withdraw(ctx context.Context, who string, id protocol.Nonce) error
	History(ctx context.Context, home string) ([]register.Stay, error)
	Alarms(ctx context.Context, settled int) ([]register.Alarm, error)
	Providers(ctx context.Context, limit int) ([]string, error)
	SetProvider(ctx context.Context, who, home, provider string) error
	Settle(ctx context.Context, who string, n int64, note string) error
	Revoke(ctx context.Context, who string, terminal protocol.KeyHash, reason string) error
	Who(ctx context.Context, who string) (string, error)
}

// Setup issues what terminals are set up with and takes them back; setup.Service is one.
type Setup interface {
	Voucher(ctx context.Context, who, label string, life time.Duration) (setup.Voucher, error)
	IssueMandate(ctx context.Context, who string, person protocol.Party, laptop []byte, life time.Duration) (string, setup.Mandate, error)
	Mandates(ctx context.Context, limit int) ([]setup.Mandate, error)
	HandOvers(ctx context.Context, terminal protocol.KeyHash, limit int) ([]setup.HandOver, error)
	Decommission(ctx context.Context, who string, terminal protocol.KeyHash, reason string) (setup.Order, error)
	Orders(ctx context.Context, terminal protocol.KeyHash) ([]setup.Order, error)
	WithdrawOrder(ctx context.Context, who string, terminal protocol.KeyHash) (setup.Order, error)
	WithdrawMandate(ctx context.Context, who string, id protocol.Nonce) (setup.Mandate, error)
	Trust() setup.Trust
	Latest(ctx context.Context) (map[protocol.KeyHash]setup.Order, error)
}

// Ledger knows when a terminal opened its camera and microphone; ledger.Ledger is one.
type Ledger interface {
	Openings(ctx context.Context, terminal protocol.KeyHash, limit int) ([]ledger.Opening, error)
}

// start is the first page of each duty.
var start = map[register.Duty]string{register.Clinician: "/", register.Technician: "/technician", register.Operator: "/operator", register.Administrator: "/administrator"}

// maxForm bounds what a form may send that names no more than a few things.
const maxForm = 16 << 10

// only has a page shown to those alone whose duty it is. Who has another is led to the own first page from "/", and told elsewhere.
func (s *Server) only(duty register.Duty, h func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		own := v.person.Duty
		switch {
		case own == duty && s.serves(duty):
			h(w, r, v)
		case own != duty && r.URL.Path == "/" && start[own] != "":
			http.Redirect(w, r, start[own], http.StatusSeeOther)
		case start[own] == "":
			s.render(w, r, http.StatusForbidden, "notice", notice{s.frame(s.words["duty.none"], &v), s.words["duty.none.text"], s.words["duty.none.next"], false})
		default:
			s.notTheirs(r, v)
			s.fail(w, r, http.StatusNotFound, "error.404")
		}
	}
}

// serves reports whether what stands behind the pages of a duty is there.
func (s *Server) serves(duty register.Duty) bool {
	switch duty {
	case register.Clinician:
		return true
	case register.Administrator:
		return s.o.Staff != nil && s.o.Passkeys != nil
	}
	return s.o.Setup != nil
}

// notTheirs tells, in the log and the audit log, of somebody who asked for a page of another duty.
func (s *Server) notTheirs(r *http.Request, v visitor) { s.denied(r, v, r.Pattern) }

// denied tells, in the log and the audit log, of somebody who asked for what is not theirs: once per person and thing in refusalEvery.
func (s *Server) denied(r *http.Request, v visitor, what string) {
	what = what[:min(len(what), maxRefused)]
	if !s.refusals.tell(v.person.ID+" "+what, time.Now()) {
		return
	}
	s.o.Log.Warn("asked for what is not theirs; refused", "person", v.person.ID, "duty", string(v.person.Duty), "what", what)
	if err := s.o.Sessions.refused(r.Context(), v.person, what); err != nil {
		s.o.Log.Error("refusal not in the audit log", "person", v.person.ID, "error", err)
	}
}

const (
	refusalEvery = time.Hour
	maxRefusals  = 1024
	maxRefused   = 64 // bytes of what somebody asked for
)

// seldom says of each thing whether it is time to tell of it.
type seldom struct {
	mu   sync.Mutex
	told map[string]time.Time
}

func (s *seldom) tell(what string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.told[what]; ok && now.Sub(at) < refusalEvery {
		return false
	}
	if s.told == nil || len(s.told) >= maxRefusals {
		s.told = map[string]time.Time{}
	}
	s.told[what] = now
	return true
}

// form is page for what a form sends.
func (s *Server) form(duty register.Duty, h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return s.page(s.only(duty, s.filled(maxForm, h)))
}

// filled reads what a form sent, at most most bytes.
func (s *Server) filled(most int64, h func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		r.Body = http.MaxBytesReader(w, r.Body, most)
		if err := r.ParseForm(); err != nil {
			status := http.StatusBadRequest
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				status = http.StatusRequestEntityTooLarge
			}
			s.fail(w, r, status, "error.form")
			return
		}
		h(w, r, v)
	}
}

// naming returns a function that names who did something, for as long as one page is made.
func (s *Server) naming(ctx context.Context) func(string) string {
	known := map[string]string{}
	return func(who string) string {
		name, ok := known[who]
		if !ok {
			var err error
			if name, err = s.o.Custody.Who(ctx, who); err != nil {
				name = who
			}
			known[who] = name
		}
		return name
	}
}
